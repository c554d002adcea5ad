//! Results of queries, kept until a write, a change of configuration or time makes them old.
//!
//! The key names everything a result depends on: the request, the caller's eyes, and for every
//! scope the last record that the index and the catalog show and the generation of its
//! configuration. A write therefore changes the key of every query over its scope. What changes
//! without a write is time: a result lives for the configured time at most, and never longer
//! than the first of its hits to expire.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::source::ItemSource;
use crate::api::{HitBody, QueryRequest, QueryResult};
use crate::ids::{Digest, Timestamp};
use crate::lookups::{CacheUse, Lookups};

/// Names a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(Digest);

impl Key {
    pub(super) fn new<S: ItemSource>(
        fingerprint: Digest,
        request: &QueryRequest,
        sources: &[S],
    ) -> Self {
        let mut text = fingerprint.to_hex();
        text.push_str(request.cursor.as_deref().unwrap_or("-"));
        for source in sources {
            let (head, applied) = (source.head(), source.index().applied());
            text.push_str(&format!("\n{head} {applied} {}", source.config_generation()));
        }
        Self(Digest::of(text.as_bytes()))
    }
}

#[derive(Debug, Clone)]
struct Entry {
    result: Arc<QueryResult>,
    until: Timestamp,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Entry> for ByBytes {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        entry.bytes
    }
}

/// A cache of results over all scopes, bounded in bytes.
pub(crate) struct QueryCache {
    results: Cache<Key, Entry, ByBytes>,
    lookups: Lookups,
}

impl std::fmt::Debug for QueryCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryCache").field("bytes", &self.results.weight()).finish_non_exhaustive()
    }
}

impl QueryCache {
    /// A cache of at most `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        let expected = usize::try_from(bytes / 8192).unwrap_or(usize::MAX).clamp(16, 65_536);
        Self {
            results: Cache::with_weighter(expected, bytes, ByBytes),
            lookups: Lookups::default(),
        }
    }

    /// Use since the start; bytes are estimated.
    pub(crate) fn usage(&self) -> CacheUse {
        self.lookups.usage(self.results.weight(), self.results.capacity())
    }

    pub(super) fn get(&self, key: &Key, now: Timestamp) -> Option<Arc<QueryResult>> {
        let found = self.results.get(key).filter(|entry| now < entry.until);
        self.lookups.count(found.is_some());
        found.map(|entry| entry.result)
    }

    pub(super) fn insert(&self, key: Key, result: Arc<QueryResult>, until: Timestamp) {
        let bytes = weigh(&result);
        self.results.insert(key, Entry { result, until, bytes });
    }
}

fn weigh(result: &QueryResult) -> u64 {
    let hits: usize = result
        .items
        .iter()
        .map(|hit| {
            let body = match &hit.body {
                HitBody::Full(item) => item.title.len() + item.text.len() + item.code.len() + 1024,
                HitBody::Snippet { snippet, .. } => snippet.len() + 512,
                HitBody::Summary(_) => 512,
            };
            let terms = hit.explanation.as_ref().map_or(0, |explanation| explanation.bm25.len());
            body + terms * 128
        })
        .sum();
    let facets = result.facets.as_ref().map_or(0, |facets| facets.tags.len() * 64);
    (hits + facets + 512) as u64
}
