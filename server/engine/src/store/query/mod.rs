//! `memory.query` from the request to the reply, over the scopes that it names.
//!
//! Candidates come from each scope's text index, scored with statistics summed over all of them.
//! Bonuses are added where they can still change the answer: candidates are visited by the most
//! they could reach, and confidence, which may need a look into the catalog, is read only while
//! that exceeds the worst hit so far. When a match that the index left out could still reach the
//! page ([`text::Candidates::unseen`](crate::text::Candidates)), the index is asked for all that
//! may, up to [`MAX_CANDIDATES`] from a scope; a page is exact unless that many did not settle it.
//!
//! When it goes wrong: an item that vanishes between the index and the catalog is left out; a
//! damaged index is an error, never an empty answer.

mod budget;
mod cache;
mod cursor;
mod rank;
mod snippet;
mod source;

use std::sync::Arc;
use std::time::Instant;

pub(crate) use cache::QueryCache;
pub(crate) use source::{Eyes, ItemSource};

use crate::api::{
    Detail, Explanation, FacetCounts, Hit, HitBody, QueryRequest, QueryResult, TotalRelation,
};
use crate::error::{EngineError, Result};
use crate::ids::{Digest, Timestamp};
use crate::item::{Item, Summary};
use crate::text::{MAX_QUERY_CHARS, parse};
pub(crate) use budget::{Budget, MAX_CHARS, item_chars, summary_chars};
use cursor::Cursor;
use rank::{Ranking, Search};

/// Hits in one reply when the caller does not say.
const DEFAULT_K: usize = 20;
/// Most hits in one reply.
const MAX_K: usize = 200;
/// Matches are counted exactly up to here.
const EXACT_TOTAL: u64 = 10_000;
/// Most candidates taken from one scope.
pub(crate) const MAX_CANDIDATES: usize = 1_024;
/// Furthest hit that pages reach.
const MAX_DEPTH: usize = 10_000;

/// Answers a query over `sources`, which the caller may read, in lookup order. All of them must
/// be at the moment that the request names.
pub(crate) fn query<S: ItemSource>(
    sources: &[S],
    eyes: &Eyes,
    request: &QueryRequest,
    cache: Option<&QueryCache>,
) -> Result<QueryResult> {
    let started = Instant::now();
    validate(request)?;
    let fingerprint = fingerprint(request, eyes, sources)?;
    let cursor =
        request.cursor.as_deref().map(|text| Cursor::decode(text, fingerprint)).transpose()?;
    let now = cursor
        .as_ref()
        .map_or_else(|| request.as_of.unwrap_or_else(Timestamp::now), |cursor| cursor.now);

    let lifetime = sources.iter().map(ItemSource::result_lifetime).min().unwrap_or_default();
    let cache = cache.filter(|_| !lifetime.is_zero());
    let key = cache::Key::new(fingerprint, request, sources);
    if let Some(cache) = cache
        && let Some(hit) = cache.get(&key, Timestamp::now())
    {
        let mut result = QueryResult::clone(&hit);
        result.cached = true;
        result.took_ms = millis(started);
        return Ok(result);
    }

    let (mut result, valid_until) =
        answer(sources, eyes, request, cursor.as_ref(), now, fingerprint)?;
    if let Some(cache) = cache {
        let until = Timestamp::now().plus_days(lifetime.as_secs_f64() / 86_400.0);
        let until = valid_until.map_or(until, |expiry| until.min(expiry));
        cache.insert(key, Arc::new(result.clone()), until);
    }
    result.took_ms = millis(started);
    Ok(result)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn validate(request: &QueryRequest) -> Result<()> {
    let within = |field: &str, value: Option<usize>, from: usize, to: usize| match value {
        Some(value) if value < from || value > to => {
            Err(EngineError::invalid(field, format!("{value} is out of range: use {from} to {to}")))
        }
        _ => Ok(()),
    };
    within("k", request.k, 1, MAX_K)?;
    within("maxChars", request.max_chars, 200, MAX_CHARS)?;
    within("tokenBudget", request.token_budget, 50, 250_000)?;
    request.filters.check()?;
    let length = request.q.chars().count();
    if length > MAX_QUERY_CHARS {
        return Err(EngineError::invalid(
            "q",
            format!("has {length} characters: at most {MAX_QUERY_CHARS} are allowed"),
        ));
    }
    Ok(())
}

/// Names what a query asks, by whom, and of which scopes; two requests with the same fingerprint
/// differ at most in the page.
fn fingerprint<S: ItemSource>(
    request: &QueryRequest,
    eyes: &Eyes,
    sources: &[S],
) -> Result<Digest> {
    let asked = QueryRequest { cursor: None, ..request.clone() };
    let mut text = serde_json::to_string(&asked).map_err(|error| EngineError::Internal {
        context: "name a query",
        message: error.to_string(),
    })?;
    text.push_str(&format!("{eyes:?}"));
    for source in sources {
        text.push('\n');
        text.push_str(&source.identity());
    }
    Ok(Digest::of(text.as_bytes()))
}

fn answer<S: ItemSource>(
    sources: &[S],
    eyes: &Eyes,
    request: &QueryRequest,
    cursor: Option<&Cursor>,
    now: Timestamp,
    fingerprint: Digest,
) -> Result<(QueryResult, Option<Timestamp>)> {
    let k = request.k.unwrap_or(DEFAULT_K);
    let parsed = parse(&request.q);
    // What cannot be looked for is not the same as nothing, which asks for the newest items.
    if parsed.is_blank() && !request.q.trim().is_empty() {
        return Ok((nothing(request), None));
    }
    let search = Search::new(sources, eyes, request, &parsed, now)?;
    let mut needed = (cursor.map_or(0, |cursor| cursor.offset) + k + 1).min(MAX_DEPTH);
    let (ranking, from) = loop {
        let ranking = search.ranked(needed)?;
        let from = cursor.map_or(0, |cursor| cursor.resume(&ranking));
        // Hits that came since the page before push its end back: look further.
        let cut_off = ranking.hits.len() >= needed && from + k >= ranking.hits.len();
        if !cut_off || needed >= MAX_DEPTH {
            break (ranking, from);
        }
        needed = needed.saturating_mul(2).max(from + k + 1).min(MAX_DEPTH);
    };

    let mut budget = Budget::new(request);
    let mut page = Page { hits: Vec::new(), valid_until: None };
    let mut next = from;
    let (mut ran_out, mut damaged) = (false, 0_usize);
    while page.hits.len() < k
        && let Some(scored) = ranking.hits.get(next)
    {
        let Some(source) = sources.get(scored.source) else { break };
        let item = match source.item(&scored.id) {
            Ok(item) => item,
            // The others are as good as ever.
            Err(EngineError::Corrupt { what, reason }) => {
                tracing::warn!(id = %scored.id, what, reason, "a hit cannot be read");
                damaged += 1;
                None
            }
            Err(error) => return Err(error),
        };
        if let Some(item) = item {
            let Some(hit) =
                present(&search, &ranking, next, item, request, &mut budget, &mut page)?
            else {
                ran_out = true;
                break;
            };
            page.hits.push(hit);
        }
        next += 1;
    }

    // What is gone or damaged takes no place in the page, so that it may end with the ranking, which
    // is no longer than was needed.
    let more = next < ranking.hits.len()
        || (ranking.hits.len() >= needed && (ranking.total > next as u64 || !ranking.total_exact));
    let next_cursor = (more && next < MAX_DEPTH)
        .then(|| ranking.hits.get(next.wrapping_sub(1)).map(|last| Cursor::after(last, next, now)))
        .flatten()
        .map(|cursor| cursor.encode(fingerprint));
    let mut notice =
        notice(&parsed, &budget, ran_out, more, next_cursor.is_some(), page.hits.len());
    damaged += sources.iter().map(ItemSource::damaged).sum::<usize>();
    if damaged > 0 {
        let left_out = if damaged == 1 { "damaged item is" } else { "damaged items are" };
        let said = format!("{damaged} {left_out} left out: an operator should run journal.verify");
        notice = Some(notice.map_or_else(|| said.clone(), |other| format!("{other}; {said}")));
    }
    let (total, total_relation) = if ranking.total > EXACT_TOTAL && !request.facets {
        (EXACT_TOTAL, TotalRelation::Gte)
    } else if ranking.total_exact {
        (ranking.total, TotalRelation::Eq)
    } else {
        (ranking.total, TotalRelation::Gte)
    };
    let result = QueryResult {
        items: page.hits,
        total,
        total_relation,
        scope: request.scope,
        query: parsed.understood().to_owned(),
        took_ms: 0.0,
        cached: false,
        next_cursor,
        facets: ranking.facets.clone(),
        notice,
    };
    Ok((result, page.valid_until))
}

/// The reply to a query without anything to look for.
fn nothing(request: &QueryRequest) -> QueryResult {
    QueryResult {
        items: Vec::new(),
        total: 0,
        total_relation: TotalRelation::Eq,
        scope: request.scope,
        query: String::new(),
        took_ms: 0.0,
        cached: false,
        next_cursor: None,
        facets: request.facets.then(FacetCounts::default),
        notice: Some(
            "q has no letters or digits to look for: use words, or leave q empty to get the \
             newest items"
                .to_owned(),
        ),
    }
}

struct Page {
    hits: Vec<Hit>,
    /// When the first of the hits expires.
    valid_until: Option<Timestamp>,
}

/// A hit in the detail asked for, or `None` when it does not fit the reply any more.
fn present<S: ItemSource>(
    search: &Search<'_, S>,
    ranking: &Ranking,
    index: usize,
    item: Item,
    request: &QueryRequest,
    budget: &mut Budget,
    page: &mut Page,
) -> Result<Option<Hit>> {
    let Some(scored) = ranking.hits.get(index) else { return Ok(None) };
    let mut score = scored.score;
    let explanation = if request.explain {
        let explanation = search.explain(ranking, scored)?;
        score = sum(&explanation);
        Some(explanation)
    } else {
        None
    };
    let expires_at = item.quality.expires_at;
    let (body, truncated) = match request.detail {
        Detail::Full => {
            let mut item = item;
            let Some(truncated) = budget.take_item(&mut item) else { return Ok(None) };
            (HitBody::Full(Box::new(item)), truncated)
        }
        Detail::Snippet => {
            let snippet = snippet::best_passage(&item, search.query());
            let summary = Summary::from(&item);
            if !budget.take(summary_chars(&summary) + snippet.chars().count()) {
                return Ok(None);
            }
            (HitBody::Snippet { summary: Box::new(summary), snippet }, false)
        }
        Detail::Summary => {
            let summary = Summary::from(&item);
            if !budget.take(summary_chars(&summary)) {
                return Ok(None);
            }
            (HitBody::Summary(Box::new(summary)), false)
        }
    };
    if let Some(expiry) = expires_at {
        page.valid_until = Some(page.valid_until.map_or(expiry, |until| until.min(expiry)));
    }
    Ok(Some(Hit { score, body, explanation, truncated }))
}

fn sum(explanation: &Explanation) -> f64 {
    let terms: f64 = explanation.bm25.iter().map(|term| term.value).sum();
    terms + explanation.boosts.values().sum::<f64>()
}

fn notice(
    parsed: &crate::text::ParsedQuery,
    budget: &Budget,
    ran_out: bool,
    more: bool,
    has_cursor: bool,
    hits: usize,
) -> Option<String> {
    let mut said = Vec::new();
    if ran_out {
        said.push(format!(
            "stopped after {hits} hits to stay within {} characters: pass nextCursor for more, or \
             raise maxChars, or ask for return=summary",
            budget.limit()
        ));
    } else if budget.has_cut() {
        said.push(format!(
            "texts were cut to stay within {} characters (see truncated): read the items with \
             memory.get",
            budget.limit()
        ));
    }
    if more && !has_cursor {
        said.push(format!("pages end after {MAX_DEPTH} hits: narrow the query or the filters"));
    }
    if parsed.truncated() {
        said.push("the query is long: only its first words were used".to_owned());
    }
    (!said.is_empty()).then(|| said.join("; "))
}

/// Adds the counts of one scope.
fn add_facets(to: &mut FacetCounts, scope: &str, counts: &crate::text::FacetCounter) {
    let lists = [
        (&mut to.types, &counts.types),
        (&mut to.tags, &counts.tags),
        (&mut to.languages, &counts.languages),
    ];
    for (sum, more) in lists {
        for (word, count) in more {
            *sum.entry(word.clone()).or_default() += count;
        }
    }
    if counts.matches > 0 {
        *to.scopes.entry(scope.to_owned()).or_default() += counts.matches;
    }
}

#[cfg(test)]
mod tests;
