//! What can go wrong in the text index. The index is a view: none of this loses a memory.

use std::path::PathBuf;

use llm_memory_disk::DiskError;
use tantivy::TantivyError;
use tantivy::directory::error::{OpenDirectoryError, OpenReadError, OpenWriteError};
use thiserror::Error;

/// A failed operation of a text index.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// The index on disk cannot be used. Delete its folder and rebuild it from the journal.
    #[error("text index in {} is damaged: {reason}", dir.display())]
    Damaged {
        /// Folder of the index.
        dir: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The disk failed; the index in memory is still right, the flush can be repeated.
    #[error("text index in {}: {reason}", dir.display())]
    Io {
        /// Folder of the index.
        dir: PathBuf,
        /// What the disk said.
        reason: String,
    },
    /// The disk failed underneath.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The index was opened for reading only.
    #[error("the text index was opened read-only: open it for writing to flush")]
    ReadOnly,
    /// A defect, here or in the library underneath.
    #[error("{context}: {message}")]
    Internal {
        /// What was being done.
        context: &'static str,
        /// What the library said.
        message: String,
    },
}

impl TextError {
    /// Sorts what tantivy reports into damage, disk failure and defects.
    pub(crate) fn from_tantivy(
        dir: &std::path::Path,
        context: &'static str,
        error: &TantivyError,
    ) -> Self {
        let dir = dir.to_path_buf();
        let reason = format!("{context}: {error}");
        match error {
            TantivyError::DataCorruption(_)
            | TantivyError::IncompatibleIndex(_)
            | TantivyError::SchemaError(_)
            | TantivyError::DeserializeError(_)
            | TantivyError::OpenReadError(
                OpenReadError::FileDoesNotExist(_) | OpenReadError::IncompatibleIndex(_),
            )
            | TantivyError::OpenDirectoryError(OpenDirectoryError::DoesNotExist(_)) => {
                Self::Damaged { dir, reason }
            }
            TantivyError::IoError(error)
                if error.kind() == std::io::ErrorKind::InvalidData
                    || error.kind() == std::io::ErrorKind::UnexpectedEof =>
            {
                Self::Damaged { dir, reason }
            }
            TantivyError::IoError(_)
            | TantivyError::OpenReadError(OpenReadError::IoError { .. })
            | TantivyError::OpenWriteError(OpenWriteError::IoError { .. })
            | TantivyError::OpenDirectoryError(_)
            | TantivyError::ErrorInThread(_)
            | TantivyError::LockFailure(..) => Self::Io { dir, reason },
            other => Self::Internal { context, message: other.to_string() },
        }
    }
}

impl From<TextError> for crate::EngineError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::Damaged { dir, reason } => Self::Corrupt {
                what: format!("text index in {}", dir.display()),
                reason: format!("{reason}: run maintenance.rebuild"),
            },
            TextError::Io { dir, reason } => {
                DiskError::new("use the text index in", dir, std::io::Error::other(reason)).into()
            }
            TextError::Disk(error) => error.into(),
            TextError::ReadOnly => Self::ReadOnly { reason: error.to_string() },
            TextError::Internal { context, message } => Self::Internal { context, message },
        }
    }
}
