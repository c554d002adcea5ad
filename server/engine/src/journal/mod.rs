//! The journal of one scope: the truth that every other structure is a view of.
//!
//! One JSON object a line, chained by SHA-256 (`entry`, `chain`). Lines are appended to
//! `journal.ndjson`; when it is large it is sealed: renamed to `journal/<first>.0.ndjson`, and a
//! line about it goes to `checkpoints.ndjson` (`checkpoint`). Sealed files never change; dropping
//! bodies writes the next generation beside the old one (`rewrite`). `FORMAT.md` has every byte.
//!
//! # When things go wrong
//!
//! - **Crash.** What was staged but not committed may be there in part: the torn tail is cut at
//!   the last whole line when the journal is opened, and the warning says what was cut. An
//!   operation that made several records ([`MORE_META`]) is kept whole or cut whole.
//! - **Full disk, short write.** The commit fails, the file is cut back to what was acknowledged,
//!   the next commit starts clean.
//! - **Failed fsync.** Nothing is known about the file any more. The next commit first copies the
//!   acknowledged lines to a fresh file, syncs it, reads it back and puts it in place; until that
//!   succeeds writes are refused and reads go on.
//! - **Damage** in the middle of the active segment is never cut away. The journal opens, reads
//!   are served, [`Journal::damage`] says what is wrong, and writes are refused until
//!   [`Journal::recover`] sets the damaged file aside.
//! - **Damage** in sealed segments is found by [`JournalReader::verify`] and by whoever reads
//!   there; writes go on, since they touch none of it.

mod chain;
pub mod checkpoint;
mod copies;
pub mod entry;
mod error;
mod leftovers;
mod open;
mod proof;
mod reader;
mod recovery;
mod rewrite;
mod scan;
mod segment_name;
mod shared;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use llm_memory_disk::Disk;

pub use entry::{Draft, LineError, MORE_META, Op, Record};
pub use error::{JournalError, Result};
pub use proof::{ProofError, verify_proof};
pub use reader::{JournalReader, Lines};
pub use recovery::Recovered;
pub use rewrite::{Replaced, Rewrite};
pub use verify::BodyState;
pub use writer::Journal;

use crate::ids::{Digest, Seq, Timestamp};

/// How to open a journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Bytes at which the active segment is sealed.
    pub segment_bytes: u64,
    /// Signs checkpoints, and is the key whose signatures verification counts.
    pub signing_key: Option<Arc<SigningKey>>,
    /// Change nothing on disk: a torn tail is ignored instead of cut, and writes are refused.
    pub read_only: bool,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, signing_key: None, read_only: false }
    }
}

/// Where the bytes of a body lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// First record of the segment; the same while it is active and after it is sealed.
    pub segment: Seq,
    /// Generation of the segment's file.
    pub generation: u32,
    /// Offset of the body's first byte in that file.
    pub offset: u64,
    /// Length of the body in bytes.
    pub len: u32,
}

/// A record that waits for the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// Its position.
    pub seq: Seq,
    /// SHA-256 of its head.
    pub head_hash: Digest,
    /// Where its body will lie.
    pub body: Option<Location>,
}

/// The last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Its position; 0 for an empty journal.
    pub seq: Seq,
    /// SHA-256 of its head; [`Digest::ZERO`] for an empty journal.
    pub hash: Digest,
    /// Its time; the epoch for an empty journal.
    pub ts: Timestamp,
}

/// A committed record with its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The record.
    pub record: Record,
    /// SHA-256 of its head.
    pub head_hash: Digest,
    /// Its body and where that lies; `None` when the operation has none or it was compacted
    /// away.
    pub body: Option<(Location, Vec<u8>)>,
    /// Where its body lies when the bytes there have another hash than the record names. In sealed
    /// segments alone: bodies are outside the chain, so the record is sound all the same.
    pub damaged: Option<Location>,
}

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// First record.
    pub first: Seq,
    /// Last record.
    pub last: Seq,
    /// Generation of the file.
    pub generation: u32,
    /// Length of the file, as far as it is acknowledged.
    pub bytes: u64,
    /// Whether it is sealed.
    pub sealed: bool,
}

/// Damage in the middle of the active segment, or records missing at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the scope's folder.
    pub file: String,
    /// Where the damaged line begins, or the one that contradicts the line before it.
    pub offset: u64,
    /// The last record before it that nothing contradicts.
    pub last_sound: Seq,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl From<&Damage> for JournalError {
    fn from(damage: &Damage) -> Self {
        Self::Corrupt {
            file: damage.file.clone(),
            offset: damage.offset,
            expected: damage.expected.clone(),
            found: damage.found.clone(),
        }
    }
}

impl Journal {
    /// Opens the journal of the scope folder `dir`, creating it when there is none (unless
    /// `read_only`). Also returns what recovery did, one sentence each; a journal in order gives
    /// none. Sealed segments are not read: their checkpoints are trusted until
    /// [`JournalReader::verify`].
    ///
    /// The caller holds the lock of the store, so nobody else writes here.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
    ) -> Result<(Self, Vec<String>)> {
        open::open(disk, dir, options)
    }
}
