//! The advisory lock of a process on a data directory.
//!
//! It is a `flock` on an open file, so the kernel releases it however the process ends; a lock
//! file that is left behind means nothing. The descriptor is close-on-exec: child processes do
//! not inherit the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::{DiskError, LockGuard, Result, os};

/// Holds the lock as long as it lives.
#[derive(Debug)]
struct FileLock {
    /// Closing it releases the lock.
    _file: File,
}

impl LockGuard for FileLock {}

/// See [`crate::Disk::lock`].
pub(crate) fn acquire(path: &Path) -> Result<Box<dyn LockGuard>> {
    let failed = |source: io::Error| DiskError::new("lock", path, source);
    // Not truncated and never written: the holder may keep notes in it.
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(os::FILE_MODE)
        .open(path);
    let file = match opened {
        // Where a failing disk has become read-only, a server may still hold the lock and answer.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).map_err(|_absent| error)
        }
        opened => opened,
    }
    .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Box::new(FileLock { _file: file })),
        Err(TryLockError::WouldBlock) => Err(failed(io::Error::new(
            io::ErrorKind::WouldBlock,
            "another process holds the lock: stop it, or let this command reach it",
        ))),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
