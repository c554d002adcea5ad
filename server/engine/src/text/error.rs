//! What can go wrong in the text index. The index is a view: none of this loses a memory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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
        /// Kind of failure, where the library passed it on.
        kind: ErrorKind,
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
    /// Sorts what tantivy reports into damage, disk failure and defects. Its worker threads turn
    /// errors into text; `refused`, what the disk refused last, says what it was.
    pub(crate) fn from_tantivy(
        dir: &Path,
        context: &'static str,
        error: &TantivyError,
        refused: Option<DiskError>,
    ) -> Self {
        let reason = format!("{context}: {error}");
        let dir = dir.to_path_buf();
        if is_damage(error) {
            Self::Damaged { dir, reason }
        } else if let Some(refused) = refused {
            Self::Disk(refused)
        } else if let Some(kind) = disk_failure(error) {
            Self::Io { dir, kind, reason }
        } else {
            Self::Internal { context, message: error.to_string() }
        }
    }
}

fn is_damage(error: &TantivyError) -> bool {
    if let TantivyError::IoError(error) = error {
        return matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof);
    }
    matches!(
        error,
        TantivyError::DataCorruption(_)
            | TantivyError::IncompatibleIndex(_)
            | TantivyError::SchemaError(_)
            | TantivyError::DeserializeError(_)
            | TantivyError::OpenReadError(
                OpenReadError::FileDoesNotExist(_) | OpenReadError::IncompatibleIndex(_),
            )
            | TantivyError::OpenDirectoryError(OpenDirectoryError::DoesNotExist(_))
    )
}

fn disk_failure(error: &TantivyError) -> Option<ErrorKind> {
    if let TantivyError::IoError(error) = error {
        return Some(error.kind());
    }
    if let TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. })
    | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error, .. }) = error
    {
        return Some(io_error.kind());
    }
    matches!(
        error,
        TantivyError::OpenReadError(_)
            | TantivyError::OpenWriteError(_)
            | TantivyError::OpenDirectoryError(_)
            // A thread of the writer ends with what the disk told it.
            | TantivyError::ErrorInThread(_)
            | TantivyError::LockFailure(..)
    )
    .then_some(ErrorKind::Other)
}

impl From<TextError> for crate::EngineError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::Damaged { dir, reason } => Self::Corrupt {
                what: format!("text index in {}", dir.display()),
                reason: format!("{reason}: run maintenance.rebuild"),
            },
            TextError::Io { dir, kind, reason } => {
                DiskError::new("use the text index in", dir, std::io::Error::new(kind, reason))
                    .into()
            }
            TextError::Disk(error) => error.into(),
            TextError::ReadOnly => Self::ReadOnly { reason: error.to_string() },
            TextError::Internal { context, message } => Self::Internal { context, message },
        }
    }
}
