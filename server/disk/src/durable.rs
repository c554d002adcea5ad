//! The order of steps that makes a replacement or a rename survive power loss, written once for
//! every [`Disk`].
//!
//! When it goes wrong: a crash at any point leaves either the old content or the new one under
//! the name, and perhaps a temporary file beside it, which [`remove_leftovers`] recognises by
//! its name. An error before the rename removes the temporary file (so that a full disk gets its
//! space back); an error after it (syncing the folder) means that the new content is visible but
//! may not survive a crash.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Disk, DiskError, OpenMode, Result};

/// Tells temporary files of concurrent writers apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

const SUFFIX: &str = ".tmp";

/// Names tried before giving up; leftovers of earlier processes may occupy some.
const ATTEMPTS: u32 = 10_000;

/// Whether `name` (without folder) is that of a temporary file of [`Disk::durable_write`].
#[must_use]
pub fn is_temporary_name(name: &str) -> bool {
    name.strip_prefix('.')
        .and_then(|rest| rest.strip_suffix(SUFFIX))
        .and_then(|rest| rest.rsplit_once('.'))
        .is_some_and(|(stem, number)| {
            !stem.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        })
}

/// Removes temporary files that a crash left in `folder`, and returns their names. To be called
/// only by the process that holds the store's lock, before it writes.
pub fn remove_leftovers<D: Disk + ?Sized>(disk: &D, folder: &Path) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for entry in disk.list(folder)? {
        if !entry.is_dir && is_temporary_name(&entry.name) {
            disk.remove_file(&folder.join(&entry.name))?;
            removed.push(entry.name);
        }
    }
    if !removed.is_empty() {
        disk.sync_dir(folder)?;
    }
    Ok(removed)
}

/// See [`Disk::durable_write`].
pub(crate) fn write<D: Disk + ?Sized>(
    disk: &D,
    path: &Path,
    bytes: &[u8],
    mode: OpenMode,
) -> Result<()> {
    let temporary = write_temporary(disk, path, bytes, mode)?;
    if let Err(error) = disk.rename(&temporary, path) {
        discard(disk, &temporary);
        return Err(error);
    }
    disk.sync_dir(folder_of(path))
}

/// See [`Disk::durable_rename`].
pub(crate) fn rename<D: Disk + ?Sized>(disk: &D, from: &Path, to: &Path) -> Result<()> {
    disk.rename(from, to)?;
    let (source, target) = (folder_of(from), folder_of(to));
    // The target first: after a crash in between, both names are better than none.
    disk.sync_dir(target)?;
    if source != target {
        disk.sync_dir(source)?;
    }
    Ok(())
}

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes and syncs a new file beside `path`.
fn write_temporary<D: Disk + ?Sized>(
    disk: &D,
    path: &Path,
    bytes: &[u8],
    mode: OpenMode,
) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
        DiskError::new("write", path, source)
    })?;
    for _ in 0..ATTEMPTS {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary =
            folder_of(path).join(format!(".{}.{number}{SUFFIX}", name.to_string_lossy()));
        let file = match disk.open(&temporary, mode) {
            Ok(file) => file,
            Err(error) if error.is_exists() => continue,
            Err(error) => return Err(error),
        };
        if let Err(error) = file.write_all_at(0, bytes).and_then(|()| file.sync()) {
            drop(file);
            discard(disk, &temporary);
            return Err(error);
        }
        return Ok(temporary);
    }
    let source = io::Error::new(io::ErrorKind::AlreadyExists, "too many leftover .tmp files");
    Err(DiskError::new("create a temporary file beside", path, source))
}

/// Best effort: the caller has a better error to report, and [`remove_leftovers`] comes later.
fn discard<D: Disk + ?Sized>(disk: &D, temporary: &Path) {
    let _ = disk.remove_file(temporary);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_temporary_names_are_leftovers() {
        assert!(is_temporary_name(".store.json.17.tmp"));
        for other in ["store.json", ".store.json.tmp", ".x.1a.tmp", "x.1.tmp", "..1.tmp", ".tmp"] {
            assert!(!is_temporary_name(other), "{other}");
        }
    }
}
