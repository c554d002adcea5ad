//! What can go wrong with blocks.

use std::io;

use llm_memory_disk::DiskError;
use thiserror::Error;

use crate::error::EngineError;

/// A failed operation on blocks.
#[derive(Debug, Error)]
pub(crate) enum BlockError {
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Stored bytes are not what they must be. Nothing wrong was returned; other blocks are not
    /// affected.
    #[error("corrupt {file}: {reason}")]
    Corrupt {
        /// File, and block in it.
        file: String,
        /// Expected and found.
        reason: String,
    },
    /// One body is longer than a block may be.
    #[error("a body of {len} bytes does not fit into a block of at most {most}")]
    TooLong {
        /// Length of the body.
        len: usize,
        /// Longest content of a block.
        most: usize,
    },
    /// The compressor refused.
    #[error("cannot compress a block: {0}")]
    Compress(#[source] io::Error),
}

impl From<BlockError> for EngineError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Disk(error) => error.into(),
            BlockError::Corrupt { file, reason } => Self::Corrupt { what: file, reason },
            BlockError::TooLong { .. } => Self::invalid("text", error.to_string()),
            BlockError::Compress(source) => {
                Self::Internal { context: "compress a block", message: source.to_string() }
            }
        }
    }
}

/// Result of an operation on blocks.
pub(crate) type Result<T, E = BlockError> = std::result::Result<T, E>;

/// Why bytes are not what they must be; whoever knows the file adds its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage(pub(super) String);

impl Damage {
    pub(super) fn in_file(self, file: impl Into<String>) -> BlockError {
        BlockError::Corrupt { file: file.into(), reason: self.0 }
    }
}
