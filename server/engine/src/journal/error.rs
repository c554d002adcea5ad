//! What can go wrong in a journal. A full disk, a failing disk, damaged bytes and misuse never
//! share a variant.

use llm_memory_disk::DiskError;
use thiserror::Error;

use crate::error::EngineError;
use crate::ids::Seq;

/// A failed journal operation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The volume is full. Nothing staged was stored; the file is cut back to what was
    /// acknowledged before, and the next commit may succeed.
    #[error("no space left for the journal: free some or enlarge the volume, then repeat")]
    NoSpace(#[source] DiskError),
    /// The disk refused an operation. Nothing staged was stored.
    #[error(transparent)]
    Disk(DiskError),
    /// Stored bytes are not what they must be.
    #[error("{file} is damaged at byte {offset}: expected {expected}, found {found}")]
    Corrupt {
        /// File, relative to the scope's folder.
        file: String,
        /// Byte at which the damaged line begins.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Writes are refused until the cause is gone.
    #[error("the journal takes no writes: {reason}")]
    Poisoned {
        /// What happened and what ends it.
        reason: String,
        /// The disk's last word, if it was the disk.
        #[source]
        source: Option<DiskError>,
    },
    /// The journal was opened for reading only.
    #[error("the journal is open for reading only")]
    ReadOnly,
    /// A draft cannot become a line. Nothing staged with it was stored.
    #[error("record {seq} cannot be stored: {reason}")]
    Unstorable {
        /// Position it would have had.
        seq: Seq,
        /// What is wrong with it.
        reason: String,
    },
    /// A call that needs everything staged to be committed or rolled back first, or that names a
    /// segment or record that is not there.
    #[error("{0}")]
    Misuse(String),
    /// The body lay in a generation of a segment that has been removed since. Look its hash up
    /// again and read from there.
    #[error("generation {generation} of segment {segment} has been retired")]
    Retired {
        /// First record of the segment.
        segment: Seq,
        /// The generation asked for.
        generation: u32,
    },
}

impl JournalError {
    /// Whether repeating the same commit may succeed without anybody doing anything to the
    /// stored files.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::NoSpace(_) | Self::Disk(_))
    }
}

impl From<DiskError> for JournalError {
    fn from(error: DiskError) -> Self {
        if error.is_no_space() { Self::NoSpace(error) } else { Self::Disk(error) }
    }
}

impl From<JournalError> for EngineError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::NoSpace(source) => Self::NoSpace { source },
            JournalError::Disk(source) => Self::Disk(source),
            JournalError::Corrupt { file, offset, expected, found } => Self::Corrupt {
                what: file,
                reason: format!("at byte {offset}: expected {expected}, found {found}"),
            },
            JournalError::Poisoned { source: Some(source), .. } if source.is_no_space() => {
                Self::NoSpace { source }
            }
            JournalError::Poisoned { reason, .. } => Self::ReadOnly { reason },
            JournalError::ReadOnly => {
                Self::ReadOnly { reason: "the store is open for reading only".to_owned() }
            }
            JournalError::Unstorable { seq, reason } => Self::Internal {
                context: "stage a journal record",
                message: format!("record {seq}: {reason}"),
            },
            JournalError::Misuse(message) => Self::Internal { context: "use the journal", message },
            error @ JournalError::Retired { .. } => {
                Self::Internal { context: "read a body", message: error.to_string() }
            }
        }
    }
}

/// Result of a journal operation.
pub type Result<T, E = JournalError> = std::result::Result<T, E>;
