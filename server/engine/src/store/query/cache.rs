//! Results of queries, kept until a write, a change of configuration or time makes them old.
//!
//! The key names everything a result depends on: the request, the caller's eyes, and for every
//! scope the last record that the index and the catalog show and the generation of its
//! configuration. A write therefore changes the key of every query over its scope. What changes
//! without a write is time: a result lives for the configured time at most, and never longer
//! than the first of its hits to expire.

use std::collections::BTreeMap;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::source::ItemSource;
use crate::api::{FacetCounts, Hit, HitBody, QueryRequest, QueryResult};
use crate::ids::{Digest, Timestamp};
use crate::item::{Facets, Item, Summary};
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
        // One that would push most others out is cheaper to make again.
        if bytes <= self.results.capacity() / LARGEST_SHARE {
            self.results.insert(key, Entry { result, until, bytes });
        }
    }
}

/// A result may take this part of the cache at most: one in so many.
const LARGEST_SHARE: u64 = 8;
/// Bytes that a string costs beside its own.
const STRING: usize = 48;
/// Bytes of what has one size in every item, or in every summary.
const ITEM: usize = 1024;
const SUMMARY: usize = 512;
/// Bytes of one term's part of a score, or of one entry of a map.
const TERM: usize = 128;
const ENTRY: usize = 64;

fn weigh(result: &QueryResult) -> u64 {
    let hits: usize = result.items.iter().map(weigh_hit).sum();
    let facets: usize = result.facets.iter().map(weigh_facets).sum();
    let cursor = result.next_cursor.as_ref().map_or(0, String::len);
    let notice = result.notice.as_ref().map_or(0, String::len);
    (hits + facets + result.query.len() + cursor + notice + SUMMARY) as u64
}

fn weigh_hit(hit: &Hit) -> usize {
    let body = match &hit.body {
        HitBody::Full(item) => weigh_item(item),
        HitBody::Snippet { summary, snippet } => snippet.len() + weigh_summary(summary),
        HitBody::Summary(summary) => weigh_summary(summary),
    };
    let explained = hit.explanation.as_ref().map_or(0, |explanation| {
        let maps = explanation.boosts.keys().chain(explanation.parameters.keys());
        let terms: usize = explanation.bm25.iter().map(|score| score.term.len() + TERM).sum();
        terms + maps.map(|name| name.len() + ENTRY).sum::<usize>()
    });
    body + explained
}

fn weigh_item(item: &Item) -> usize {
    let Facets { tags, files, symbols } = &item.facets;
    let provenance = item.provenance.created_by.len() + item.provenance.updated_by.len();
    let lists = strings(tags) + strings(files) + strings(symbols);
    let context: usize = item.context.texts().map(|text| text.len() + STRING).sum();
    let links: usize = item.links.iter().map(|link| link.to.as_str().len() + STRING).sum();
    let security = size_of_val(&*item.security.secret_hash_refs) + item.security.flags.len();
    let texts = item.id.as_str().len() + item.title.len() + item.text.len() + item.code.len();
    let language = item.language.as_ref().map_or(0, String::len);
    texts + language + lists + context + links + security + provenance + ITEM
}

fn weigh_summary(summary: &Summary) -> usize {
    let lists = strings(&summary.tags) + strings(&summary.files) + strings(&summary.symbols);
    summary.id.as_str().len() + summary.title.len() + lists + SUMMARY
}

fn weigh_facets(facets: &FacetCounts) -> usize {
    let FacetCounts { types, tags, languages, scopes } = facets;
    let names = [types, tags, languages, scopes].into_iter().flat_map(BTreeMap::keys);
    names.map(|name| name.len() + ENTRY).sum()
}

fn strings(list: &[String]) -> usize {
    list.iter().map(|entry| entry.len() + STRING).sum()
}
