//! tantivy's directory on our disk.
//!
//! Durability: a file is synced when its writer is terminated, its name when tantivy asks to
//! sync the directory, and `meta.json` is replaced durably, so a commit that has returned
//! survives power loss. When it goes wrong: every failure carries the disk's own error; what a
//! failed commit leaves behind is not named by `meta.json` and is collected by tantivy later.
//!
//! Locks are held in this process only: the store's exclusive lock keeps others out, and a lock
//! file left by a crash must not lock us out.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use llm_memory_disk::{Disk, DiskError, File, Map, OpenMode};
use parking_lot::{Condvar, Mutex};
use stable_deref_trait::StableDeref;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, OwnedBytes, TerminatingWrite,
    WatchCallback, WatchCallbackList, WatchHandle, WritePtr,
};

/// Replacing it is a commit.
const META: &str = "meta.json";

/// Large enough that writing a segment is not dominated by system calls.
const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// A folder of our disk as tantivy's directory; clones share it.
#[derive(Clone)]
pub(crate) struct DiskDirectory {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Maps in use, so that readers of several generations share one.
    maps: Mutex<HashMap<PathBuf, Weak<dyn Map>>>,
    locks: Locks,
    watchers: WatchCallbackList,
    failure: Failure,
}

/// What the disk refused last.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<DiskError>>>);

impl Failure {
    /// The error for tantivy; remembers a copy.
    fn note(&self, error: DiskError) -> io::Error {
        let source = match error.source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.source.kind(), error.source.to_string()),
        };
        *self.0.lock() = Some(DiskError::new(error.operation, &error.path, source));
        error.into()
    }
}

impl DiskDirectory {
    /// The directory in `folder`, which must exist.
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: &Path) -> Self {
        Self {
            shared: Arc::new(Shared {
                disk,
                folder: folder.to_path_buf(),
                maps: Mutex::default(),
                locks: Locks::default(),
                watchers: WatchCallbackList::default(),
                failure: Failure::default(),
            }),
        }
    }

    /// What the disk refused last, once. tantivy passes errors of its worker threads on as text.
    pub(crate) fn take_failure(&self) -> Option<DiskError> {
        self.shared.failure.0.lock().take()
    }

    fn read_error(&self, path: &Path, error: DiskError) -> OpenReadError {
        if error.is_not_found() {
            OpenReadError::FileDoesNotExist(path.to_path_buf())
        } else {
            OpenReadError::wrap_io_error(self.shared.failure.note(error), path.to_path_buf())
        }
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.shared.folder.join(path)
    }

    fn map(&self, path: &Path) -> Result<Arc<dyn Map>, DiskError> {
        let mut maps = self.shared.maps.lock();
        if let Some(map) = maps.get(path).and_then(Weak::upgrade) {
            return Ok(map);
        }
        let map = self.shared.disk.map(&self.at(path))?;
        maps.retain(|_, map| map.strong_count() > 0);
        maps.insert(path.to_path_buf(), Arc::downgrade(&map));
        Ok(map)
    }
}

impl fmt::Debug for DiskDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskDirectory").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

impl Directory for DiskDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let map = self.map(path).map_err(|error| self.read_error(path, error))?;
        Ok(Arc::new(OwnedBytes::new(MapBytes(map))))
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.shared.maps.lock().remove(path);
        self.shared.disk.remove_file(&self.at(path)).map_err(|error| {
            if error.is_not_found() {
                DeleteError::FileDoesNotExist(path.to_path_buf())
            } else {
                DeleteError::IoError {
                    io_error: Arc::new(self.shared.failure.note(error)),
                    filepath: path.to_path_buf(),
                }
            }
        })
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.shared.disk.exists(&self.at(path)).map_err(|error| self.read_error(path, error))
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let file = self.shared.disk.open(&self.at(path), OpenMode::CreateNew).map_err(|error| {
            if error.is_exists() {
                OpenWriteError::FileAlreadyExists(path.to_path_buf())
            } else {
                OpenWriteError::wrap_io_error(self.shared.failure.note(error), path.to_path_buf())
            }
        })?;
        let writer = FileWriter { file, offset: 0, failure: self.shared.failure.clone() };
        Ok(BufWriter::with_capacity(WRITE_BUFFER_BYTES, Box::new(writer)))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.shared.disk.read(&self.at(path)).map_err(|error| self.read_error(path, error))
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.shared
            .disk
            .durable_write(&self.at(path), data)
            .map_err(|error| self.shared.failure.note(error))?;
        if path == Path::new(META) {
            // The result only tells when all watchers have returned.
            drop(self.shared.watchers.broadcast());
        }
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let Shared { disk, folder, failure, .. } = &*self.shared;
        disk.sync_dir(folder).map_err(|error| failure.note(error))
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        if !self.shared.locks.take(&lock.filepath, lock.is_blocking) {
            return Err(LockError::LockBusy);
        }
        Ok(DirectoryLock::from(Box::new(Held {
            shared: Arc::clone(&self.shared),
            path: lock.filepath.clone(),
        })))
    }

    fn watch(&self, watch_callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(self.shared.watchers.subscribe(watch_callback))
    }
}

/// A map as the owner of tantivy's bytes.
struct MapBytes(Arc<dyn Map>);

impl Deref for MapBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

#[expect(unsafe_code, reason = "promises a stable address; see the argument below")]
// SAFETY: `Map` is an unsafe trait that promises exactly this: the same bytes at the same
// address as long as the map lives; the `Arc` in here keeps it alive and is never replaced.
unsafe impl StableDeref for MapBytes {}

/// Appends to a new file and syncs it at the end.
struct FileWriter {
    file: Arc<dyn File>,
    offset: u64,
    failure: Failure,
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_all_at(self.offset, bytes);
        written.map_err(|error| self.failure.note(error))?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    /// Nothing is kept back here; what must be durable is synced at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TerminatingWrite for FileWriter {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.file.sync().map_err(|error| self.failure.note(error))
    }
}

/// Names of the locks that are held.
#[derive(Default)]
struct Locks {
    held: Mutex<HashSet<PathBuf>>,
    released: Condvar,
}

impl Locks {
    /// Takes the lock, waiting for it if `blocking`; `false` when it is held by somebody else.
    fn take(&self, path: &Path, blocking: bool) -> bool {
        let mut held = self.held.lock();
        while held.contains(path) {
            if !blocking {
                return false;
            }
            self.released.wait(&mut held);
        }
        held.insert(path.to_path_buf())
    }

    fn release(&self, path: &Path) {
        self.held.lock().remove(path);
        self.released.notify_all();
    }
}

/// Holds one lock until dropped.
struct Held {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.locks.release(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;
    use llm_memory_disk::faulty::{Failure, Fault, FaultyDisk, Operation};
    use tantivy::collector::Count;
    use tantivy::directory::{INDEX_WRITER_LOCK, META_LOCK};
    use tantivy::query::AllQuery;
    use tantivy::schema::{Schema, TEXT};
    use tantivy::{Index, IndexWriter, doc};

    use super::*;

    const WRITER_BYTES: usize = 15_000_000;

    fn open(directory: DiskDirectory) -> Index {
        let mut schema = Schema::builder();
        schema.add_text_field("text", TEXT);
        Index::open_or_create(directory, schema.build()).unwrap()
    }

    fn add(writer: &mut IndexWriter, index: &Index) -> tantivy::Result<u64> {
        let text = index.schema().get_field("text").unwrap();
        writer.add_document(doc!(text => "some words"))?;
        writer.commit()
    }

    fn count(index: &Index) -> usize {
        index.reader().unwrap().searcher().search(&AllQuery, &Count).unwrap()
    }

    fn survives_reopening(disk: Arc<dyn Disk>, folder: &Path) {
        let index = open(DiskDirectory::new(Arc::clone(&disk), folder));
        let mut writer = index.writer_with_num_threads(1, WRITER_BYTES).unwrap();
        for _ in 0..12 {
            add(&mut writer, &index).unwrap();
        }
        assert_eq!(count(&index), 12);
        writer.wait_merging_threads().unwrap();
        assert_eq!(count(&open(DiskDirectory::new(disk, folder))), 12);
    }

    #[test]
    fn an_index_survives_reopening_on_a_real_disk() {
        let folder = tempfile::tempdir().unwrap();
        survives_reopening(Arc::new(OsDisk), folder.path());
    }

    #[test]
    fn an_index_survives_reopening_on_a_faulty_disk() {
        survives_reopening(Arc::new(FaultyDisk::new()), Path::new("/"));
    }

    #[test]
    fn a_commit_that_returned_survives_a_crash_and_leaves_no_lock() {
        let disk = FaultyDisk::new();
        let index = open(DiskDirectory::new(Arc::new(disk.clone()), Path::new("/")));
        let mut writer = index.writer_with_num_threads(1, WRITER_BYTES).unwrap();
        add(&mut writer, &index).unwrap();
        let found = disk.crash();
        let index = open(DiskDirectory::new(Arc::new(found), Path::new("/")));
        assert_eq!(count(&index), 1);
        let mut writer: IndexWriter = index.writer_with_num_threads(1, WRITER_BYTES).unwrap();
        add(&mut writer, &index).unwrap();
        assert_eq!(count(&index), 2);
    }

    #[test]
    fn a_failed_commit_is_reported_and_the_last_good_one_is_found() {
        let disk = FaultyDisk::new();
        let directory = DiskDirectory::new(Arc::new(disk.clone()), Path::new("/"));
        let index = open(directory.clone());
        let mut writer = index.writer_with_num_threads(1, WRITER_BYTES).unwrap();
        add(&mut writer, &index).unwrap();
        assert!(directory.take_failure().is_none());
        disk.plan(Fault::new(Operation::Sync, Failure::Io).lasting());
        add(&mut writer, &index).unwrap_err();
        let failure = directory.take_failure().unwrap();
        assert_eq!(failure.source.raw_os_error(), Some(5), "{failure}");
        disk.heal();
        drop(writer);
        assert_eq!(count(&open(DiskDirectory::new(Arc::new(disk), Path::new("/")))), 1);
    }

    #[test]
    fn a_lock_is_busy_until_its_guard_is_dropped() {
        let directory = DiskDirectory::new(Arc::new(FaultyDisk::new()), Path::new("/"));
        let held = directory.acquire_lock(&INDEX_WRITER_LOCK).unwrap();
        assert!(matches!(directory.acquire_lock(&INDEX_WRITER_LOCK), Err(LockError::LockBusy)));
        drop(held);
        directory.acquire_lock(&INDEX_WRITER_LOCK).unwrap();
    }

    #[test]
    fn a_blocking_lock_is_handed_from_one_thread_to_the_next() {
        let directory = DiskDirectory::new(Arc::new(FaultyDisk::new()), Path::new("/"));
        let inside = Mutex::new(());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _held = directory.acquire_lock(&META_LOCK).unwrap();
                        assert!(inside.try_lock().is_some(), "two threads hold the lock");
                    }
                });
            }
        });
    }

    #[test]
    fn bytes_of_a_deleted_file_stay_readable_and_its_map_is_shared_before() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DiskDirectory::new(Arc::new(OsDisk), folder.path());
        let path = Path::new("file");
        let mut writer = directory.open_write(path).unwrap();
        writer.write_all(b"bytes").unwrap();
        writer.terminate().unwrap();
        let (first, second) = (directory.map(path).unwrap(), directory.map(path).unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        let slice = directory.open_read(path).unwrap();
        directory.delete(path).unwrap();
        assert_eq!(slice.read_bytes().unwrap().as_slice(), b"bytes");
        assert!(matches!(directory.delete(path), Err(DeleteError::FileDoesNotExist(_))));
        assert!(matches!(
            directory.open_read(path),
            Err(OpenReadError::FileDoesNotExist(missing)) if missing == path
        ));
    }

    #[test]
    fn replacing_the_meta_file_calls_the_watchers() {
        let directory = DiskDirectory::new(Arc::new(FaultyDisk::new()), Path::new("/"));
        let (sender, receiver) = crossbeam_channel::unbounded();
        let _watch = directory.watch(WatchCallback::new(move || sender.send(()).unwrap())).unwrap();
        directory.atomic_write(Path::new("other.json"), b"1").unwrap();
        directory.atomic_write(Path::new(META), b"2").unwrap();
        receiver.recv().unwrap();
        assert!(receiver.try_recv().is_err());
    }
}
