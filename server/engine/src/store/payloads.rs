//! Cache of decoded items, by content hash: contents never change, so nothing is ever stale.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::ids::Digest;
use crate::item::Content;
use crate::lookups::{CacheUse, Lookups};

/// Bytes one entry costs beyond its text: strings, vectors, the cache's own.
const OVERHEAD: u64 = 512;

/// Bytes of everything in an item that can be long.
pub(crate) fn bytes_of(content: &Content) -> usize {
    let facets = &content.facets;
    let labels = facets.tags.iter().chain(&facets.files).chain(&facets.symbols).map(String::len);
    let links = content.links.iter().map(|link| link.to.as_str().len());
    let context = content.context.texts().map(str::len);
    let texts = content.title.len() + content.text.len() + content.code.len();
    texts + labels.chain(links).chain(context).sum::<usize>()
}

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
    lookups: Lookups,
}

impl Payloads {
    pub(crate) fn new(capacity: u64) -> Self {
        let entries = usize::try_from(capacity / 2048).unwrap_or(usize::MAX).max(16);
        Self { cache: Cache::with_weighter(entries, capacity, Weight), lookups: Lookups::default() }
    }

    pub(crate) fn get(&self, hash: Digest) -> Option<Arc<Content>> {
        let found = self.cache.get(&hash).map(|entry| entry.content);
        self.lookups.count(found.is_some());
        found
    }

    pub(crate) fn insert(&self, hash: Digest, content: Arc<Content>, bytes: usize) {
        self.cache.insert(hash, Entry { content, bytes: bytes as u64 });
    }

    pub(crate) fn remove(&self, hash: Digest) {
        self.cache.remove(&hash);
    }

    pub(crate) fn usage(&self) -> CacheUse {
        self.lookups.usage(self.cache.weight(), self.cache.capacity())
    }
}
