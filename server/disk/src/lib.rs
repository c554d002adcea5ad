//! The only door of llm-memory to the file system.
//!
//! Every byte that the product keeps goes through [`Disk`], so that one small crate answers for
//! durability, permissions and locking, and so that tests can put a failing twin in its place.
//!
//! What is assumed of the file system: a completed `fsync`/`fdatasync` survives power loss; a
//! rename within one file system is atomic; a rename or creation is durable once the folder is
//! synced; unsynced writes may be lost or land in any order, in units of whole sectors.

mod durable;
mod error;
#[cfg(any(test, feature = "faulty"))]
pub mod faulty;
mod lock;
mod os;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

pub use durable::{is_temporary_name, remove_leftovers};
pub use error::{DiskError, Result};
pub use os::OsDisk;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist; writes are refused.
    Read,
    /// It must exist.
    ReadWrite,
    /// It is created when missing.
    Create,
    /// It must not exist.
    CreateNew,
    /// It must not exist, and is created for its owner alone (mode 0600).
    CreateNewPrivate,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name without folder. Bytes that are not UTF-8 are replaced: such a file is not ours.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Bytes; 0 for a folder.
    pub len: u64,
    /// Last modification.
    pub modified: SystemTime,
    /// Permission bits (`0o640`).
    pub mode: u32,
}

/// Space on a volume, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Size of the volume, without what is set aside for root: what `df` computes its percentage
    /// from.
    pub total: u64,
    /// Bytes that this process may still use.
    pub available: u64,
}

/// An open file. All positions are explicit; there is no cursor to share.
pub trait File: fmt::Debug + Send + Sync {
    /// Length in bytes.
    fn len(&self) -> Result<u64>;
    /// Whether the length is 0.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `out` from `offset`; fewer bytes than asked for is an error.
    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()>;
    /// Writes all of `bytes` at `offset`. On error any prefix of them may have been written.
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Sets the length; new bytes are zero.
    fn set_len(&self, len: u64) -> Result<()>;
    /// Makes content and length durable. After an error nothing is known about unsynced bytes:
    /// do not retry on the same file, read back what is there.
    fn sync(&self) -> Result<()>;
}

/// A read-only view of a file that does not change any more.
///
/// # Safety
///
/// As long as the map lives, [`Map::bytes`] returns the same bytes at the same address, also
/// after the map itself has been moved: readers keep pointers into them.
#[expect(unsafe_code, reason = "what users rely on cannot be checked by the compiler")]
pub unsafe trait Map: fmt::Debug + Send + Sync {
    /// Its bytes.
    fn bytes(&self) -> &[u8];
}

/// Holds an advisory lock until dropped.
pub trait LockGuard: fmt::Debug + Send + Sync {}

/// The file system. Paths are absolute or relative to the process, as given.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Creates `path` and its parents (mode 0750) and makes them durable. An existing folder is
    /// fine.
    fn create_dir_all(&self, path: &Path) -> Result<()>;
    /// Opens a file (created with mode 0640).
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>>;
    /// Maps a file that is never changed again.
    fn map(&self, path: &Path) -> Result<Arc<dyn Map>>;
    /// Reads a whole file.
    fn read(&self, path: &Path) -> Result<Vec<u8>>;
    /// Whether something is at `path`.
    fn exists(&self, path: &Path) -> Result<bool>;
    /// Entries of a folder, by name.
    fn list(&self, path: &Path) -> Result<Vec<Entry>>;
    /// Renames within one file system, replacing `to`; not durable before [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file; not durable before [`Disk::sync_dir`].
    fn remove_file(&self, path: &Path) -> Result<()>;
    /// Removes a folder and everything in it. A missing folder is fine.
    fn remove_dir_all(&self, path: &Path) -> Result<()>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, path: &Path) -> Result<()>;
    /// Takes an advisory lock on the file at `path` (created when missing), or fails at once
    /// with an error for which [`DiskError::is_locked`] holds.
    fn lock(&self, path: &Path) -> Result<Box<dyn LockGuard>>;
    /// Space on the volume of `path`.
    fn space(&self, path: &Path) -> Result<Space>;

    /// Replaces the content of `path` in one step that survives a crash: writes a temporary file
    /// beside it, syncs it, renames it, syncs the folder.
    fn durable_write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        durable::write(self, path, bytes, OpenMode::CreateNew)
    }
    /// As [`Disk::durable_write`], for secrets: only the owner may read the file (mode 0600).
    fn durable_write_private(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        durable::write(self, path, bytes, OpenMode::CreateNewPrivate)
    }
    /// Renames and makes it durable in both folders.
    fn durable_rename(&self, from: &Path, to: &Path) -> Result<()> {
        durable::rename(self, from, to)
    }
}
