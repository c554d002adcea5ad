//! What the file system refused.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A failed file system operation: what was tried, on which path, and what the system said.
#[derive(Debug, Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried, as a verb phrase (`sync`, `write 4096 bytes at 0 to`).
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// An error of `operation` on `path`.
    pub fn new(operation: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self { operation, path: path.as_ref().to_path_buf(), source }
    }

    /// The volume or the quota is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// There is nothing at the path.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// There is something at the path already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// Another process holds the lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.source.kind() == io::ErrorKind::WouldBlock
    }
}

/// For libraries that speak `io::Error`. The [`DiskError`] is kept inside: `get_ref` and a
/// downcast give it back.
impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Result of a file system operation.
pub type Result<T> = std::result::Result<T, DiskError>;
