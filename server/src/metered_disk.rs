//! A disk that times every fsync of the disk underneath, so that the metric covers the journal,
//! the catalog and everything else alike without any of them knowing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llm_memory_disk::{Disk, Entry, File, LockGuard, Map, OpenMode, Result, Space};

/// Receives the time of each fsync.
pub type OnSync = Arc<dyn Fn(Duration) + Send + Sync>;

/// See the module.
pub struct MeteredDisk {
    inner: Arc<dyn Disk>,
    on_sync: OnSync,
}

impl MeteredDisk {
    /// Measures `inner`.
    pub fn new(inner: Arc<dyn Disk>, on_sync: OnSync) -> Self {
        Self { inner, on_sync }
    }
}

impl std::fmt::Debug for MeteredDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MeteredDisk").field(&self.inner).finish()
    }
}

impl Disk for MeteredDisk {
    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.inner.create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(MeteredFile { inner, on_sync: Arc::clone(&self.on_sync) }))
    }

    fn map(&self, path: &Path) -> Result<Arc<dyn Map>> {
        self.inner.map(path)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        self.inner.read(path)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.inner.exists(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        self.inner.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        self.inner.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.inner.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn LockGuard>> {
        self.inner.lock(path)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        self.inner.space(path)
    }
}

struct MeteredFile {
    inner: Arc<dyn File>,
    on_sync: OnSync,
}

impl std::fmt::Debug for MeteredFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl File for MeteredFile {
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.inner.read_exact_at(offset, out)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.inner.write_all_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.inner.set_len(len)
    }

    fn sync(&self) -> Result<()> {
        let start = Instant::now();
        let result = self.inner.sync();
        (self.on_sync)(start.elapsed());
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use llm_memory_disk::OsDisk;

    use super::*;

    #[test]
    fn every_sync_is_counted_and_everything_else_passes_through() {
        let folder = tempfile::tempdir().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let disk = MeteredDisk::new(
            Arc::new(OsDisk),
            Arc::new(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
            }),
        );
        let path = folder.path().join("x");
        disk.durable_write(&path, b"abc").unwrap();
        assert_eq!(disk.read(&path).unwrap(), b"abc");
        let after_write = count.load(Ordering::Relaxed);
        assert!(after_write >= 1);
        disk.open(&path, OpenMode::ReadWrite).unwrap().sync().unwrap();
        assert_eq!(count.load(Ordering::Relaxed), after_write + 1);
    }
}
