//! Cache of decoded items, by content hash: contents never change, so nothing is ever stale.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::ids::Digest;
use crate::item::Content;

/// Bytes one entry costs beyond its text: strings, vectors, the cache's own.
const OVERHEAD: u64 = 512;

#[derive(Debug, Clone)]
struct Entry {
    content: Arc<Content>,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Digest, Entry> for Weight {
    fn weight(&self, _: &Digest, entry: &Entry) -> u64 {
        entry.bytes + OVERHEAD
    }
}

/// A cache bounded in bytes.
#[derive(Debug)]
pub(crate) struct Payloads {
    cache: Cache<Digest, Entry, Weight>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Use of a cache since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheUse {
    /// Lookups answered.
    pub hits: u64,
    /// Lookups not answered.
    pub misses: u64,
    /// Bytes held now.
    pub bytes: u64,
    /// Most bytes it may hold.
    pub capacity: u64,
}

impl Payloads {
    pub(crate) fn new(capacity: u64) -> Self {
        let entries = usize::try_from(capacity / 2048).unwrap_or(usize::MAX).max(16);
        Self {
            cache: Cache::with_weighter(entries, capacity, Weight),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self, hash: Digest) -> Option<Arc<Content>> {
        let found = self.cache.get(&hash).map(|entry| entry.content);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(crate) fn insert(&self, hash: Digest, content: Arc<Content>, bytes: usize) {
        self.cache.insert(hash, Entry { content, bytes: bytes as u64 });
    }

    pub(crate) fn remove(&self, hash: Digest) {
        self.cache.remove(&hash);
    }

    pub(crate) fn usage(&self) -> CacheUse {
        CacheUse {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.cache.weight(),
            capacity: self.cache.capacity(),
        }
    }
}
