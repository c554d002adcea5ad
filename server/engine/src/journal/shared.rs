//! What the writer and all readers of one journal have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use llm_memory_disk::{Disk, File, OpenMode};
use parking_lot::{Mutex, RwLock};

use super::checkpoint::Checkpoint;
use super::error::{JournalError, Result};
use super::segment_name::{ACTIVE, SegmentName};
use super::{Damage, Head, SegmentInfo};
use crate::ids::{Digest, Seq, Timestamp};

/// Sealed files kept open at most.
const OPEN_FILES: usize = 64;

/// What a segment holds, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Records.
    pub(crate) lines: u64,
    /// Their bytes, line feeds included.
    pub(crate) bytes: u64,
    /// Records with a body.
    pub(crate) bodies: u64,
    /// Bytes of those records.
    pub(crate) body_bytes: u64,
    /// Time of the first record; meaningless without records.
    pub(crate) first_ts: Timestamp,
}

impl Tally {
    pub(crate) fn add(&mut self, len: u64, has_body: bool, ts: Timestamp) {
        if self.lines == 0 {
            self.first_ts = ts;
        }
        self.lines += 1;
        self.bytes += len;
        if has_body {
            self.bodies += 1;
            self.body_bytes += len;
        }
    }
}

/// A sealed segment.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    /// First record.
    pub(crate) first: Seq,
    /// Last record.
    pub(crate) last: Seq,
    /// The generation that is read; the highest whose file is complete.
    pub(crate) generation: u32,
    /// Lower generations whose files are still there.
    pub(crate) older: Vec<u32>,
    /// Length of the file in `generation`.
    pub(crate) bytes: u64,
    /// Hash of the last record's head.
    pub(crate) head: Digest,
    /// Merkle root over the heads.
    pub(crate) root: Digest,
    /// Whether the file is there.
    pub(crate) present: bool,
}

impl Sealed {
    pub(crate) fn name(&self) -> SegmentName {
        SegmentName { first: self.first, generation: self.generation }
    }
}

/// The segment that is written to, as far as it is acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    /// First record (the one to come, while empty).
    pub(crate) first: Seq,
    /// The file; `None` before it is created.
    pub(crate) file: Option<Arc<dyn File>>,
    /// Acknowledged bytes.
    pub(crate) len: u64,
    /// Last acknowledged record of the whole journal.
    pub(crate) head: Head,
    /// What is in it.
    pub(crate) tally: Tally,
}

impl Active {
    /// For reading, as far as it is acknowledged now; `None` while it has no file.
    pub(crate) fn open(&self) -> Option<OpenSegment> {
        let file = self.file.clone()?;
        Some(OpenSegment { file, len: self.len, label: ACTIVE.to_owned() })
    }
}

/// Everything that readers see. Replaced field by field under a short lock.
#[derive(Debug)]
pub(crate) struct View {
    /// In order of their records.
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) active: Active,
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) damage: Option<Damage>,
}

impl View {
    pub(crate) fn find(&self, segment: Seq) -> Option<&Sealed> {
        let at = self.sealed.binary_search_by_key(&segment, |sealed| sealed.first).ok()?;
        self.sealed.get(at)
    }

    pub(crate) fn find_mut(&mut self, segment: Seq) -> Option<&mut Sealed> {
        let at = self.sealed.binary_search_by_key(&segment, |sealed| sealed.first).ok()?;
        self.sealed.get_mut(at)
    }

    /// The sealed segment that holds `seq`.
    pub(crate) fn holding(&self, seq: Seq) -> Option<&Sealed> {
        let after = self.sealed.partition_point(|sealed| sealed.first <= seq);
        self.sealed.get(after.checked_sub(1)?).filter(|sealed| seq <= sealed.last)
    }

    /// Hash that the first record of the segment starting at `first` must name as `prev`.
    pub(crate) fn hash_before(&self, first: Seq) -> Digest {
        let before = self.sealed.partition_point(|sealed| sealed.first < first);
        before
            .checked_sub(1)
            .and_then(|at| self.sealed.get(at))
            .map_or(Digest::ZERO, |sealed| sealed.head)
    }

    pub(crate) fn segments(&self) -> Vec<SegmentInfo> {
        let sealed = self.sealed.iter().map(|sealed| SegmentInfo {
            first: sealed.first,
            last: sealed.last,
            generation: sealed.generation,
            bytes: sealed.bytes,
            sealed: true,
        });
        let active = SegmentInfo {
            first: self.active.first,
            last: self.active.head.seq,
            generation: 0,
            bytes: self.active.len,
            sealed: false,
        };
        sealed.chain((active.bytes > 0).then_some(active)).collect()
    }
}

/// Writer and readers hold this together.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// Signatures by this key are counted as ours.
    pub(crate) trusted: Option<VerifyingKey>,
    pub(crate) view: RwLock<View>,
    files: quick_cache::sync::Cache<SegmentName, Arc<dyn File>>,
    /// Counts of generations that no checkpoint describes.
    pub(crate) tallies: Mutex<BTreeMap<SegmentName, Tally>>,
}

/// An open segment, and how far it may be read.
#[derive(Debug, Clone)]
pub(crate) struct OpenSegment {
    pub(crate) file: Arc<dyn File>,
    pub(crate) len: u64,
    /// Its name in messages.
    pub(crate) label: String,
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        trusted: Option<VerifyingKey>,
        view: View,
    ) -> Self {
        Self {
            disk,
            dir,
            trusted,
            view: RwLock::new(view),
            files: quick_cache::sync::Cache::new(OPEN_FILES),
            tallies: Mutex::default(),
        }
    }

    /// Lets readers go on with an open file that now has another name.
    pub(crate) fn keep_open(&self, name: SegmentName, file: Arc<dyn File>) {
        self.files.insert(name, file);
    }

    pub(crate) fn forget_open(&self, name: SegmentName) {
        self.files.remove(&name);
    }

    /// Opens the file of a generation that the view knows.
    pub(crate) fn open_sealed(&self, name: SegmentName) -> Result<OpenSegment> {
        let retired = JournalError::Retired { segment: name.first, generation: name.generation };
        let known = |view: &View| {
            view.find(name.first).is_some_and(|sealed| {
                sealed.generation == name.generation || sealed.older.contains(&name.generation)
            })
        };
        if !known(&self.view.read()) {
            return Err(retired);
        }
        let file = self
            .files
            .get_or_insert_with(&name, || self.disk.open(&name.path(&self.dir), OpenMode::Read));
        match file {
            Ok(file) => {
                let len = file.len()?;
                Ok(OpenSegment { file, len, label: name.relative() })
            }
            // Retired between the two looks, or removed by somebody else.
            Err(error) if error.is_not_found() && !known(&self.view.read()) => Err(retired),
            Err(error) if error.is_not_found() => Err(JournalError::Corrupt {
                file: name.relative(),
                offset: 0,
                expected: "a sealed segment".to_owned(),
                found: "no file".to_owned(),
            }),
            Err(error) => Err(error.into()),
        }
    }
}
