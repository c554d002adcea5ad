//! What goes wrong and when.

use std::io;
use std::path::Path;

/// What a [`Fault`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reading or mapping bytes of a file.
    Read,
    /// Writing to a file or setting its length.
    Write,
    /// Syncing a file or a folder; also that of the folder that holds a new or existing one,
    /// under the name of the latter, as creating folders implies.
    Sync,
    /// Creating a file.
    Create,
    /// Renaming.
    Rename,
    /// Removing a file or a folder.
    Remove,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The volume is full (ENOSPC). Nothing is written.
    NoSpace,
    /// The device fails (EIO). Nothing is written; a failing sync leaves the unsynced bytes
    /// visible but counts them as clean, so that no later sync makes them durable, as Linux does.
    Io,
    /// As `Io`, and a failing sync also puts the durable bytes back in view, as happens when the
    /// page cache gives up the pages.
    DropPages,
    /// So many bytes are written before the volume is full (ENOSPC).
    ShortWrite(usize),
    /// This operation and every later one fails, reads included, until the crash.
    Freeze,
}

impl Failure {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::NoSpace | Self::ShortWrite(_) => no_space(),
            Self::Io | Self::DropPages => io::Error::from_raw_os_error(EIO),
            Self::Freeze => frozen(),
        }
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

pub(super) fn no_space() -> io::Error {
    io::Error::from_raw_os_error(ENOSPC)
}

pub(super) fn frozen() -> io::Error {
    io::Error::other("the disk is frozen")
}

/// A planned failure of the n-th matching operation from now.
#[derive(Debug, Clone)]
pub struct Fault {
    operation: Operation,
    failure: Failure,
    /// Matching operations to let pass before failing.
    passing: u64,
    /// Fail all matching operations from there on.
    lasting: bool,
    /// Only paths that contain this.
    path_part: Option<String>,
}

impl Fault {
    /// Fails the next `operation`, once.
    #[must_use]
    pub fn new(operation: Operation, failure: Failure) -> Self {
        Self { operation, failure, passing: 0, lasting: false, path_part: None }
    }

    /// Fails the `nth` matching operation from now (the next one is the first).
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.passing = nth.saturating_sub(1);
        self
    }

    /// Goes on failing until [`super::FaultyDisk::heal`].
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// Counts and fails only operations on paths that contain `part`.
    #[must_use]
    pub fn on(mut self, part: impl Into<String>) -> Self {
        self.path_part = Some(part.into());
        self
    }
}

/// Operations so far, failed ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// See [`Operation::Read`].
    pub reads: u64,
    /// See [`Operation::Write`].
    pub writes: u64,
    /// See [`Operation::Sync`].
    pub syncs: u64,
    /// See [`Operation::Create`].
    pub creates: u64,
    /// See [`Operation::Rename`].
    pub renames: u64,
    /// See [`Operation::Remove`].
    pub removes: u64,
    /// Those that a planned failure struck.
    pub struck: u64,
}

/// The faults to come and the operations so far.
#[derive(Debug, Default)]
pub(super) struct Plan {
    faults: Vec<Fault>,
    pub(super) counts: Counts,
    pub(super) frozen: bool,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn heal(&mut self) {
        self.faults.clear();
    }

    /// Counts `operation` on `path` and says whether and how it fails. All faults count it; the
    /// first that is due decides.
    pub(super) fn strike(&mut self, operation: Operation, path: &Path) -> Option<Failure> {
        let counts = &mut self.counts;
        *match operation {
            Operation::Read => &mut counts.reads,
            Operation::Write => &mut counts.writes,
            Operation::Sync => &mut counts.syncs,
            Operation::Create => &mut counts.creates,
            Operation::Rename => &mut counts.renames,
            Operation::Remove => &mut counts.removes,
        } += 1;
        if self.frozen {
            return Some(Failure::Freeze);
        }
        let mut failure = None;
        self.faults.retain_mut(|fault| {
            let matches = fault.operation == operation
                && fault
                    .path_part
                    .as_ref()
                    .is_none_or(|part| path.to_string_lossy().contains(part));
            if !matches {
                return true;
            }
            if fault.passing > 0 {
                fault.passing -= 1;
                return true;
            }
            failure = failure.or(Some(fault.failure));
            fault.lasting
        });
        self.counts.struck += u64::from(failure.is_some());
        self.frozen |= failure == Some(Failure::Freeze);
        failure
    }
}
