//! Decoded contents of blocks, in one cache for all folders of segments: however many scopes a
//! store has, together they hold no more than its budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::error::Result;
use crate::lookups::{CacheUse, Lookups};

/// What an entry counts beside its bytes.
const ENTRY_BYTES: u64 = 128;
/// Decoded length of a typical block, for the cache to plan with.
const TYPICAL_BLOCK_BYTES: usize = 256 << 10;

/// A block: folder, segment and position. Numbers of folders and segments are never used twice,
/// so that an entry of a segment that is gone is never asked for.
type Key = (u64, u64, u32);

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Vec<u8>>> for ByBytes {
    fn weight(&self, _key: &Key, content: &Arc<Vec<u8>>) -> u64 {
        content.len() as u64 + ENTRY_BYTES
    }
}

/// The cache of a store.
#[derive(Debug)]
pub(crate) struct FrameCache {
    contents: Cache<Key, Arc<Vec<u8>>, ByBytes>,
    lookups: Lookups,
    folders: AtomicU64,
}

impl FrameCache {
    /// A cache of at most `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        let expected = usize::try_from(bytes).unwrap_or(usize::MAX) / TYPICAL_BLOCK_BYTES;
        Self {
            contents: Cache::with_weighter(expected, bytes, ByBytes),
            lookups: Lookups::default(),
            folders: AtomicU64::new(0),
        }
    }

    /// Use since the start.
    pub(crate) fn usage(&self) -> CacheUse {
        self.lookups.usage(self.contents.weight(), self.contents.capacity())
    }
}

/// The part of a [`FrameCache`] that belongs to one folder of segments.
#[derive(Debug)]
pub(super) struct FolderCache {
    cache: Arc<FrameCache>,
    folder: u64,
}

impl FolderCache {
    pub(super) fn new(cache: Arc<FrameCache>) -> Self {
        let folder = cache.folders.fetch_add(1, Ordering::Relaxed);
        Self { cache, folder }
    }

    /// The content of a block, decoded by `decode` when it is not there.
    pub(super) fn get_or_decode(
        &self,
        segment: u64,
        block: u32,
        decode: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Arc<Vec<u8>>> {
        let mut decoded = false;
        let key = (self.folder, segment, block);
        let content = self.cache.contents.get_or_insert_with(&key, || {
            decoded = true;
            decode().map(Arc::new)
        })?;
        self.cache.lookups.count(!decoded);
        Ok(content)
    }

    /// Drops what is held of the segments for which `gone` is true.
    pub(super) fn forget(&self, gone: impl Fn(u64) -> bool) {
        self.cache
            .contents
            .retain(|(folder, segment, _), _| *folder != self.folder || !gone(*segment));
    }
}

impl Drop for FolderCache {
    fn drop(&mut self) {
        self.forget(|_| true);
    }
}
