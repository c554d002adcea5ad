//! How much use a cache is, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Use of a cache since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheUse {
    /// Look-ups answered.
    pub hits: u64,
    /// Look-ups not answered.
    pub misses: u64,
    /// Bytes held now.
    pub bytes: u64,
    /// Most bytes it may hold.
    pub capacity: u64,
}

/// Counts the look-ups of one cache.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Lookups {
    /// Counts one look-up.
    pub(crate) fn count(&self, answered: bool) {
        let counter = if answered { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted, of a cache that holds `bytes` of at most `capacity`.
    pub(crate) fn usage(&self, bytes: u64, capacity: u64) -> CacheUse {
        CacheUse {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes,
            capacity,
        }
    }
}
