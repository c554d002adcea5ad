//! A disk in memory that fails on command and forgets what was not synced.
//!
//! It keeps what is seen now and what would be found after power loss apart, byte by byte and
//! name by name, and is as forgetful as the assumptions at the top of this crate allow: a new or
//! renamed file is lost unless its folder was synced, its bytes unless the file was. It behaves
//! as [`crate::OsDisk`] otherwise; a property test compares the two.
//!
//! ```
//! # use std::path::Path;
//! # use llm_memory_disk::faulty::{FaultyDisk, Failure, Fault, Operation};
//! # use llm_memory_disk::Disk;
//! let disk = FaultyDisk::new();
//! disk.durable_write(Path::new("/a"), b"kept").unwrap();
//! disk.plan(Fault::new(Operation::Sync, Failure::Freeze).nth(2));
//! disk.durable_write(Path::new("/a"), b"lost").unwrap_err();
//! assert_eq!(disk.crash().read(Path::new("/a")).unwrap(), b"kept");
//! ```

mod content;
mod plan;
mod random;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Disk, DiskError, Entry, File, LockGuard, Map, OpenMode, Result, Space};
use content::SECTOR;
use plan::Plan;
pub use plan::{Counts, Failure, Fault, Operation};
use random::Random;
use tree::{Child, SharedContent, Tree};

/// Size of a volume without a limit.
const UNLIMITED: u64 = 1 << 50;

/// A disk in memory that fails on command; clones share it.
#[derive(Debug, Clone, Default)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tree: Tree,
    plan: Plan,
    /// Bytes that may be allocated, in whole sectors.
    capacity: Option<u64>,
    locks: HashSet<PathBuf>,
}

/// Without the files: a failing test would print all their bytes.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("plan", &self.plan)
            .field("capacity", &self.capacity)
            .field("locks", &self.locks)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Counts an operation; fails if it is to fail.
    fn strike(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        self.plan.strike(operation, path).map_or(Ok(()), |failure| Err(failure.error()))
    }

    fn check_frozen(&self) -> io::Result<()> {
        if self.plan.frozen { Err(plan::frozen()) } else { Ok(()) }
    }

    /// Syncs the folder that holds `folder`.
    fn sync_name(&mut self, folder: &Path) -> io::Result<()> {
        let Some(parent) = folder.parent().filter(|parent| parent.has_root()) else {
            return Ok(());
        };
        self.strike(Operation::Sync, folder)?;
        let parent = self.tree.folder(parent)?;
        self.tree.sync(&parent);
        Ok(())
    }

    fn available(&self) -> u64 {
        self.capacity.map_or(UNLIMITED, |capacity| capacity.saturating_sub(self.tree.used()))
    }

    fn create(&mut self, path: &Path, mode: u32) -> io::Result<SharedContent> {
        self.strike(Operation::Create, path)?;
        if self.available() == 0 {
            return Err(plan::no_space());
        }
        self.tree.create_file(path, mode)
    }
}

impl FaultyDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a failure.
    pub fn plan(&self, fault: Fault) {
        self.state.lock().plan.add(fault);
    }

    /// Forgets all planned failures. A frozen disk stays frozen.
    pub fn heal(&self) {
        self.state.lock().plan.heal();
    }

    /// Limits the bytes that files may take (in sectors of 512), or lifts the limit.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.state.lock().capacity = capacity;
    }

    /// Bytes that files take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state.lock().tree.used()
    }

    /// Operations so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state.lock().plan.counts
    }

    /// Whether a [`Failure::Freeze`] has struck.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.state.lock().plan.frozen
    }

    /// Cuts the power: this disk is frozen for ever, and what is returned holds exactly what had
    /// been made durable. Locks are gone, faults and limits too.
    #[must_use]
    pub fn crash(&self) -> Self {
        self.crash_with(None)
    }

    /// As [`FaultyDisk::crash`], but of the unsynced sectors, lengths and changes of folders a
    /// random half has reached the medium; the same seed chooses the same half.
    #[must_use]
    pub fn crash_at_random(&self, seed: u64) -> Self {
        self.crash_with(Some(Random::new(seed)))
    }

    fn crash_with(&self, mut chance: Option<Random>) -> Self {
        let mut state = self.state.lock();
        state.plan.frozen = true;
        let tree = state.tree.after_crash(chance.as_mut());
        Self { state: Arc::new(Mutex::new(State { tree, ..State::default() })) }
    }

    fn file(&self, content: SharedContent, path: &Path, writable: bool) -> Arc<dyn File> {
        Arc::new(FaultyFile {
            state: Arc::clone(&self.state),
            content,
            path: path.to_path_buf(),
            writable,
        })
    }
}

impl Disk for FaultyDisk {
    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let mut state = self.state.lock();
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        let mut existing = None;
        for folder in folders {
            let failed = |source| DiskError::new("create folder", folder, source);
            state.check_frozen().map_err(failed)?;
            match state.tree.folder(folder) {
                Ok(_) => existing = Some(folder),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Some(folder) = existing.take() {
                        state.sync_name(folder).map_err(failed)?;
                    }
                    state.tree.create_folder(folder).map_err(failed)?;
                    state.sync_name(folder).map_err(failed)?;
                }
                // A file is in the way.
                Err(_) => return Err(failed(io::ErrorKind::AlreadyExists.into())),
            }
        }
        if let Some(folder) = existing {
            let failed = |source| DiskError::new("create folder", folder, source);
            state.sync_name(folder).map_err(failed)?;
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let failed = |source| DiskError::new("open", path, source);
        let mut state = self.state.lock();
        state.check_frozen().map_err(failed)?;
        let content = match mode {
            OpenMode::Read | OpenMode::ReadWrite => state.tree.file(path),
            OpenMode::Create => match state.tree.file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => state.create(path, 0o640),
                found => found,
            },
            OpenMode::CreateNew => state.create(path, 0o640),
            OpenMode::CreateNewPrivate => state.create(path, 0o600),
        }
        .map_err(failed)?;
        Ok(self.file(content, path, mode != OpenMode::Read))
    }

    fn map(&self, path: &Path) -> Result<Arc<dyn Map>> {
        Ok(Arc::new(Snapshot(self.read(path)?)))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let failed = |source| DiskError::new("read", path, source);
        let mut state = self.state.lock();
        state.strike(Operation::Read, path).map_err(failed)?;
        let content = state.tree.file(path).map_err(failed)?;
        let bytes = content.lock().live().to_vec();
        Ok(bytes)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        let failed = |source| DiskError::new("look for", path, source);
        let state = self.state.lock();
        state.check_frozen().map_err(failed)?;
        match state.tree.child(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        let failed = |source| DiskError::new("list", path, source);
        let state = self.state.lock();
        state.check_frozen().map_err(failed)?;
        let folder = state.tree.folder(path).map_err(failed)?;
        let folder = folder.lock();
        let entry = |(name, child): (&String, &Child)| match child {
            Child::File(content) => {
                let content = content.lock();
                Entry {
                    name: name.clone(),
                    is_dir: false,
                    len: content.live().len() as u64,
                    modified: content.modified,
                    mode: content.mode,
                }
            }
            Child::Folder(_) => Entry {
                name: name.clone(),
                is_dir: true,
                len: 0,
                modified: std::time::SystemTime::UNIX_EPOCH,
                mode: 0o750,
            },
        };
        Ok(folder.live.iter().map(entry).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let failed = |source| DiskError::new("rename", from, source);
        let mut state = self.state.lock();
        state.strike(Operation::Rename, from).map_err(failed)?;
        state.tree.rename(from, to).map_err(failed)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let failed = |source| DiskError::new("remove", path, source);
        let mut state = self.state.lock();
        state.strike(Operation::Remove, path).map_err(failed)?;
        state.tree.remove_file(path).map_err(failed)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        let failed = |source| DiskError::new("remove folder", path, source);
        let mut state = self.state.lock();
        state.strike(Operation::Remove, path).map_err(failed)?;
        match state.tree.remove_folder(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(failed),
        }
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let failed = |source| DiskError::new("sync folder", path, source);
        let mut state = self.state.lock();
        state.strike(Operation::Sync, path).map_err(failed)?;
        let folder = state.tree.folder(path).map_err(failed)?;
        state.tree.sync(&folder);
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn LockGuard>> {
        let failed = |source| DiskError::new("lock", path, source);
        let mut state = self.state.lock();
        state.check_frozen().map_err(failed)?;
        if !state.locks.insert(path.to_path_buf()) {
            return Err(failed(io::ErrorKind::WouldBlock.into()));
        }
        // From here on the guard undoes the insertion.
        let guard = Lock { state: Arc::clone(&self.state), path: path.to_path_buf() };
        let opened = match state.tree.file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => state.create(path, 0o640),
            found => found,
        };
        drop(state);
        opened.map_err(failed)?;
        Ok(Box::new(guard))
    }

    fn space(&self, path: &Path) -> Result<Space> {
        let state = self.state.lock();
        state
            .check_frozen()
            .map_err(|source| DiskError::new("measure the volume of", path, source))?;
        Ok(Space { total: state.capacity.unwrap_or(UNLIMITED), available: state.available() })
    }
}

struct FaultyFile {
    state: Arc<Mutex<State>>,
    content: SharedContent,
    /// The name it was opened under: for faults and messages.
    path: PathBuf,
    writable: bool,
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FaultyFile {
    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> DiskError {
        move |source| DiskError::new(operation, &self.path, source)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn try_write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.check_writable()?;
        let mut state = self.state.lock();
        let failure = state.plan.strike(Operation::Write, &self.path);
        let wanted = match failure {
            None => bytes.len(),
            Some(Failure::ShortWrite(len)) => len.min(bytes.len()),
            Some(failure) => return Err(failure.error()),
        };
        // Computed before the content is locked: it locks every content in turn.
        let available = state.available();
        let mut content = self.content.lock();
        let fits = content.writable(offset, wanted, available);
        content.write(offset, bytes.get(..fits).unwrap_or_default());
        if fits < bytes.len() { Err(plan::no_space()) } else { Ok(()) }
    }
}

impl File for FaultyFile {
    fn len(&self) -> Result<u64> {
        self.state.lock().check_frozen().map_err(self.failed("measure"))?;
        Ok(self.content.lock().live().len() as u64)
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut state = self.state.lock();
        state.strike(Operation::Read, &self.path).map_err(self.failed("read"))?;
        if out.is_empty() {
            return Ok(());
        }
        let content = self.content.lock();
        let end = to_usize(offset).saturating_add(out.len());
        let bytes = content
            .live()
            .get(to_usize(offset)..end)
            .ok_or_else(|| self.failed("read")(io::ErrorKind::UnexpectedEof.into()))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.try_write(to_usize(offset), bytes).map_err(self.failed("write"))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let failed = "set the length of";
        self.check_writable().map_err(self.failed(failed))?;
        let mut state = self.state.lock();
        state.strike(Operation::Write, &self.path).map_err(self.failed(failed))?;
        self.content.lock().set_len(to_usize(len));
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.state.lock();
        let failure = state.plan.strike(Operation::Sync, &self.path);
        let mut content = self.content.lock();
        match failure {
            None => {
                content.sync();
                return Ok(());
            }
            Some(Failure::Freeze) => {}
            Some(failure) => content.fail_sync(failure == Failure::DropPages),
        }
        Err(self.failed("sync")(failure.map_or_else(plan::frozen, Failure::error)))
    }
}

fn to_usize(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX / SECTOR)
}

/// Bytes of a file as they were when it was mapped.
#[derive(Debug)]
struct Snapshot(Vec<u8>);

#[expect(unsafe_code, reason = "promises a stable address; see the argument below")]
// SAFETY: the bytes are on the heap and the vector is never changed, so they stay where they are
// wherever the vector itself is moved.
unsafe impl Map for Snapshot {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[derive(Debug)]
struct Lock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

impl LockGuard for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.state.lock().locks.remove(&self.path);
    }
}
