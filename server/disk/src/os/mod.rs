//! The operating system's file system.
//!
//! When it goes wrong: every error names the operation and the path. Nothing is retried here
//! except interrupted system calls; in particular a failed sync is reported once and the caller
//! must not count on the file any more, because the kernel may already have dropped the pages.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::durable::folder_of;
use crate::{Disk, DiskError, Entry, File, LockGuard, Map, OpenMode, Result, Space, lock};

/// Mode of files: the owner writes, the group reads.
pub(crate) const FILE_MODE: u32 = 0o640;
/// Mode of files with secrets.
const PRIVATE_FILE_MODE: u32 = 0o600;
/// Mode of folders.
const FOLDER_MODE: u32 = 0o750;
/// Permission bits proper; above them are setuid, setgid and sticky.
const PERMISSIONS: u32 = 0o777;

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
            .collect();
        let existing = missing.last().map_or(path, |folder| folder_of(folder));
        self.sync_name(existing)?;
        for folder in missing.into_iter().rev() {
            match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
                Ok(()) => set_mode(folder, FOLDER_MODE)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(error) => return Err(DiskError::new("create folder", folder, error)),
            }
            self.sync_dir(folder_of(folder))?;
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let file = match mode {
            OpenMode::Read => OpenOptions::new().read(true).open(path),
            OpenMode::ReadWrite => OpenOptions::new().read(true).write(true).open(path),
            OpenMode::Create => open_or_create(path),
            OpenMode::CreateNew => create_new(path, FILE_MODE),
            OpenMode::CreateNewPrivate => create_new(path, PRIVATE_FILE_MODE),
        }
        .map_err(|source| DiskError::new("open", path, source))?;
        Ok(Arc::new(OsFile { file, path: path.to_path_buf() }))
    }

    fn map(&self, path: &Path) -> Result<Arc<dyn Map>> {
        let failed = |source| DiskError::new("map", path, source);
        let file = fs::File::open(path).map_err(failed)?;
        // The system refuses to map nothing.
        if file.metadata().map_err(failed)?.len() == 0 {
            return Ok(Arc::new(OsMap { map: None }));
        }
        Ok(Arc::new(OsMap { map: Some(map_file(&file).map_err(failed)?) }))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        fs::read(path).map_err(|source| DiskError::new("read", path, source))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        path.try_exists().map_err(|source| DiskError::new("look for", path, source))
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        let failed = |source| DiskError::new("list", path, source);
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = match fs::metadata(entry.path()) {
                Ok(metadata) => metadata,
                // Removed since the folder was read, or a link to nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(DiskError::new("examine", entry.path(), error)),
            };
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                is_dir: metadata.is_dir(),
                len: if metadata.is_dir() { 0 } else { metadata.len() },
                modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                mode: metadata.permissions().mode() & PERMISSIONS,
            });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|source| DiskError::new("rename", from, source))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|source| DiskError::new("remove", path, source))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DiskError::new("remove folder", path, error))
            }
            _ => Ok(()),
        }
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        fs::File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| DiskError::new("sync folder", path, source))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn LockGuard>> {
        lock::acquire(path)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        let volume = rustix::fs::statvfs(path)
            .map_err(|errno| DiskError::new("measure the volume of", path, errno.into()))?;
        Ok(space_of(&volume))
    }
}

/// Blocks set aside for root count as neither used nor there.
const fn space_of(volume: &rustix::fs::StatVfs) -> Space {
    let used = volume.f_blocks.saturating_sub(volume.f_bfree);
    Space {
        total: used.saturating_add(volume.f_bavail).saturating_mul(volume.f_frsize),
        available: volume.f_bavail.saturating_mul(volume.f_frsize),
    }
}

impl OsDisk {
    /// Makes the name of a folder that is there durable: whoever created it may have ended, or
    /// have met a failing disk, before that was done.
    fn sync_name(self, folder: &Path) -> Result<()> {
        let Some(parent) = folder.parent() else { return Ok(()) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match self.sync_dir(parent) {
            // A parent that we may not read is not one that we created the folder in.
            Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result,
        }
    }
}

/// Creates a file that must not exist, with exactly `mode`.
fn create_new(path: &Path, mode: u32) -> io::Result<fs::File> {
    // Created closed and opened up afterwards, so that nobody reads a secret in between.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(PRIVATE_FILE_MODE)
        .open(path)?;
    // Volumes without permissions report fixed ones and may refuse to change them.
    if file.metadata()?.permissions().mode() & PERMISSIONS != mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(file)
}

fn open_or_create(path: &Path) -> io::Result<fs::File> {
    loop {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        match create_new(path, FILE_MODE) {
            // Somebody else created it in between: open that one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result,
        }
    }
}

/// Sets the permission bits of a folder whatever the umask was, keeping an inherited setgid bit
/// (a volume with a group of its own depends on it).
fn set_mode(folder: &Path, mode: u32) -> Result<()> {
    let failed = |source| DiskError::new("set the mode of", folder, source);
    let current = fs::metadata(folder).map_err(failed)?.permissions().mode();
    if current & PERMISSIONS == mode {
        return Ok(());
    }
    let inherited = current & 0o7000;
    fs::set_permissions(folder, Permissions::from_mode(inherited | mode)).map_err(failed)
}

/// An open file.
#[derive(Debug)]
struct OsFile {
    file: fs::File,
    /// For messages only: the file may have been renamed since.
    path: PathBuf,
}

impl OsFile {
    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> DiskError {
        move |source| DiskError::new(operation, &self.path, source)
    }
}

impl File for OsFile {
    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(self.failed("measure"))?.len())
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(out, offset).map_err(self.failed("read"))
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(self.failed("write"))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(self.failed("set the length of"))
    }

    fn sync(&self) -> Result<()> {
        // Data and length; times do not matter to anybody.
        self.file.sync_data().map_err(self.failed("sync"))
    }
}

/// A mapped file; `None` when it is empty.
#[derive(Debug)]
struct OsMap {
    map: Option<memmap2::Mmap>,
}

#[expect(unsafe_code, reason = "promises a stable address; see the argument below")]
// SAFETY: the address is that of the mapped pages, which are neither moved nor unmapped before
// `Mmap` is dropped; nobody replaces the map, because `map` is private and never assigned.
unsafe impl Map for OsMap {
    fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

#[expect(unsafe_code, reason = "mapping a file is unsafe by nature; see the argument below")]
fn map_file(file: &fs::File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the bytes of a shared mapping must not change and the file must not shrink while
    // the map lives. `Disk::map` is for files that are never changed again: they were written
    // under another name or by a writer that has finished, and this process, which holds the
    // data directory's exclusive lock, neither writes to nor truncates them afterwards.
    // Replacing one by rename and removing one keep its inode, and with it the mapped pages,
    // alive until the map is dropped. What is left is somebody changing files of a locked data
    // directory by hand, or the medium failing under a page that is not cached: the first is
    // outside the contract, the second kills the process with SIGBUS, and the journal, which is
    // never mapped, recovers everything acknowledged at the next start.
    unsafe { memmap2::Mmap::map(file) }
}

#[cfg(test)]
mod tests;
