//! Searching the committed index.
//!
//! Matches are ranked by the most they can reach without the words of the query being looked at
//! again: BM25 and what they have by themselves ([`Prior`]). Where nothing selective leads, the
//! index's block-max WAND walks over what can exceed the worst of the best; where something does
//! (a rare filter, a phrase), the few items that meet it are scored one by one.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tantivy::query::{Query, Scorer, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, DocSet, SegmentReader, TERMINATED, Term};

use super::bm25::TermScoring;
use super::clauses::Condition;
use super::document::TextField;
use super::facets::{FacetCounter, SegmentCounts};
use super::filter::{Plan, SegmentFilter};
use super::query::ParsedQuery;
use super::schema::Fields;
use super::search::SearchRequest;
use super::statistics::Statistics;
use super::view::{Columns, View};
use crate::ids::Timestamp;
use crate::ranking::{Known, Parameters, Prior};

/// A match in the committed index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    /// BM25 and the most of [`Prior`].
    pub(crate) most: f64,
    pub(crate) bm25: f32,
    pub(crate) known: Known,
    pub(crate) seq: u64,
    pub(crate) address: DocAddress,
}

impl Found {
    fn rank(&self, other: &Self) -> Ordering {
        self.most
            .total_cmp(&other.most)
            .then_with(|| self.known.updated_at.cmp(&other.known.updated_at))
            .then_with(|| self.seq.cmp(&other.seq))
    }
}

impl Eq for Found {}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank(other)
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One query against one view.
pub(crate) struct Search<'a> {
    pub(crate) view: &'a View,
    pub(crate) fields: &'a Fields,
    pub(crate) query: &'a ParsedQuery,
    pub(crate) scoring: &'a [TermScoring],
    pub(crate) statistics: &'a Statistics,
    pub(crate) parameters: &'a Parameters,
    pub(crate) plan: Plan,
    prior: Option<&'a Prior<'a>>,
    /// By segment.
    filters: Vec<SegmentFilter<'a>>,
    /// Whether a newer write hides the item with this id hash.
    shadowed: &'a dyn Fn(u64) -> bool,
    /// Items that newer writes may hide at most.
    shadows: u64,
}

/// The best matches.
pub(crate) struct Best {
    pub(crate) found: Vec<Found>,
    /// No other match reaches more than this; `None` when there is no other.
    pub(crate) unseen: Option<f64>,
}

/// Most matches that are kept beside the best because bonuses may lift them.
const MOST_SPARE: usize = 1_024;

/// One segment while it is searched.
#[derive(Clone, Copy)]
struct Segment<'s> {
    ord: u32,
    reader: &'s SegmentReader,
    columns: &'s Columns,
    filter: &'s SegmentFilter<'s>,
}

/// The best matches so far.
struct Top<'s, 'a> {
    search: &'s Search<'a>,
    limit: usize,
    /// What was asked to be reached.
    least: Option<f64>,
    /// How far below the worst of the best others are kept: what bonuses may lift them by.
    slack: f64,
    heap: BinaryHeap<Reverse<Found>>,
    spare: Vec<Found>,
}

impl Top<'_, '_> {
    /// The worst of the best, once there are as many as wanted.
    fn worst(&self) -> Option<&Found> {
        let full = self.heap.len() >= self.limit;
        self.heap.peek().map(|Reverse(worst)| worst).filter(|_| full)
    }

    /// What a match must reach to be kept; `None` when any will do.
    fn floor(&self) -> Option<f64> {
        let near = self.worst().map(|worst| worst.most - self.slack);
        near.into_iter().chain(self.least).reduce(f64::max)
    }

    fn offer(&mut self, at: Segment<'_>, doc: DocId, bm25: f32) {
        let known = at.columns.known(doc);
        let prior = self.search.prior.map_or(0.0, |prior| prior.most(&known));
        let found = Found {
            most: f64::from(bm25) + prior,
            bm25,
            known,
            seq: at.columns.seq.get_val(doc),
            address: DocAddress::new(at.ord, doc),
        };
        let worst = self.worst();
        let better = worst.is_none_or(|worst| found > *worst);
        // Of equals at the very edge only the newer are kept.
        let near = better || self.slack > 0.0;
        if !near
            || self.floor().is_some_and(|floor| found.most < floor)
            || !self.search.may_be_found(at, known.id_hash, doc)
        {
            return;
        }
        let full = worst.is_some();
        if better {
            self.heap.push(Reverse(found));
            if full && let Some(Reverse(worst)) = self.heap.pop() {
                self.keep_spare(worst);
            }
        } else {
            self.keep_spare(found);
        }
    }

    fn keep_spare(&mut self, found: Found) {
        if self.slack <= 0.0 {
            return;
        }
        self.spare.push(found);
        if self.spare.len() < MOST_SPARE {
            return;
        }
        self.drop_low();
        if self.spare.len() > MOST_SPARE / 2
            && let Some(worst) = self.worst().map(|worst| worst.most)
        {
            // Too many are near: keep the nearest, and be content with those.
            self.spare.sort_unstable_by(|a, b| b.cmp(a));
            self.spare.truncate(MOST_SPARE / 2);
            self.slack = self.spare.last().map_or(0.0, |last| worst - last.most);
        }
    }

    /// Drops what the best have left behind.
    fn drop_low(&mut self) {
        if let Some(floor) = self.floor() {
            self.spare.retain(|found| found.most >= floor);
        }
    }

    /// The BM25 that a match must exceed to be worth offering, if nothing in its segment has more
    /// than `bound` by itself.
    #[expect(clippy::cast_possible_truncation, reason = "scores are f32 in the index")]
    fn threshold(&self, bound: f64) -> f32 {
        // Equals are offered, since newer ones among them count more; and rounding errs this way.
        self.floor().map_or(f32::MIN, |floor| ((floor - bound) as f32).next_down())
    }

    fn finish(mut self) -> Best {
        self.drop_low();
        let unseen = self.floor();
        let best = self.heap.into_iter().map(|Reverse(found)| found);
        Best { found: best.chain(self.spare).collect(), unseen }
    }
}

impl<'a> Search<'a> {
    pub(crate) fn new(
        view: &'a View,
        fields: &'a Fields,
        request: &SearchRequest<'a>,
        statistics: &'a Statistics,
        scoring: &'a [TermScoring],
        shadowed: (&'a dyn Fn(u64) -> bool, u64),
    ) -> tantivy::Result<Self> {
        let mut search = Self {
            view,
            fields,
            query: request.query,
            scoring,
            statistics,
            parameters: request.parameters,
            plan: request.filter.plan(&view.searcher, fields)?,
            prior: request.prior.filter(|_| !request.query.is_empty()),
            filters: Vec::new(),
            shadowed: shadowed.0,
            shadows: shadowed.1,
        };
        for (_, reader, columns) in view.segments() {
            let excluded = search.excluded(reader)?;
            let filter =
                SegmentFilter::new(request.filter, &search.plan, reader, columns, excluded)?;
            search.filters.push(filter);
        }
        Ok(search)
    }

    /// Segments that may hold matches, the one with the latest write first.
    fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.view.newest_first().filter_map(|(ord, reader, columns)| {
            let filter = self.filters.get(ord as usize).filter(|filter| !filter.is_shut())?;
            Some(Segment { ord, reader, columns, filter })
        })
    }

    fn may_be_found(&self, at: Segment<'_>, id_hash: u64, doc: DocId) -> bool {
        !at.reader.is_deleted(doc) && at.filter.matches(doc) && !(self.shadowed)(id_hash)
    }

    fn top(&self, limit: usize, slack: f64, least: Option<f64>) -> Top<'_, 'a> {
        let heap = BinaryHeap::with_capacity(limit + 1);
        Top { search: self, limit, least, slack, heap, spare: Vec::new() }
    }

    /// Whether there may be more than `limit` matches with words of the query.
    pub(crate) fn may_exceed(&self, limit: usize) -> bool {
        let terms = 0..self.query.terms.len();
        terms.map(|at| self.statistics.frequency(at)).sum::<u64>() > limit as u64
    }

    /// The `limit` best matches, and others that are at most `slack` worse, of those that reach
    /// `least`, in no particular order.
    pub(crate) fn best(
        &self,
        limit: usize,
        slack: f64,
        least: Option<f64>,
    ) -> tantivy::Result<Best> {
        let top = self.top(limit, slack, least);
        match self.condition(None)? {
            Some(condition) if condition.leads => self.best_where(&condition, top),
            condition => self.best_anywhere(condition.as_ref(), top),
        }
    }

    /// The best matches among pinned items.
    pub(crate) fn best_pinned(&self, limit: usize) -> tantivy::Result<Best> {
        self.best_with_term(Term::from_field_u64(self.fields.pinned, 1), limit)
    }

    /// The best matches among items whose title is the query.
    pub(crate) fn best_titled(&self, title_key: u64, limit: usize) -> tantivy::Result<Best> {
        self.best_with_term(Term::from_field_u64(self.fields.title_key, title_key), limit)
    }

    /// The best matches among items with the whole query as a phrase in `field`; `Err` says
    /// whether there may be any, when looking for them would be slow.
    pub(crate) fn best_phrased(
        &self,
        field: TextField,
        limit: usize,
    ) -> tantivy::Result<Result<Best, bool>> {
        match self.phrase_condition(field) {
            Ok(phrase) => self.best_with(phrase, limit).map(Ok),
            Err(may_be) => Ok(Err(may_be)),
        }
    }

    fn best_with_term(&self, term: Term, limit: usize) -> tantivy::Result<Best> {
        if self.view.searcher.doc_freq(&term)? == 0 {
            return Ok(Best { found: Vec::new(), unseen: None });
        }
        self.best_with(Box::new(TermQuery::new(term, IndexRecordOption::Basic)), limit)
    }

    fn best_with(&self, condition: Box<dyn Query>, limit: usize) -> tantivy::Result<Best> {
        let top = self.top(limit, 0.0, None);
        match self.condition(Some(condition))? {
            Some(condition) => self.best_where(&condition, top),
            None => self.best_anywhere(None, top),
        }
    }

    /// Scores what meets `condition`, one by one.
    fn best_where(&self, condition: &Condition, mut top: Top<'_, 'a>) -> tantivy::Result<Best> {
        self.each_where(condition, &mut |at, doc, bm25| {
            top.offer(at, doc, bm25);
            true
        })?;
        Ok(top.finish())
    }

    /// Walks over everything that has a word of the query and can be among the best.
    fn best_anywhere(
        &self,
        condition: Option<&Condition>,
        mut top: Top<'_, 'a>,
    ) -> tantivy::Result<Best> {
        let weight = self.any_term()?;
        for at in self.segments() {
            let newest = Timestamp::from_millis(at.columns.updated_at.max_value());
            let mut meets = condition.map(|condition| condition.docs(at.reader)).transpose()?;
            let mut meets =
                |doc: DocId| meets.as_mut().is_none_or(|docs| reaches(&mut **docs, doc));
            if self.query.terms.is_empty() {
                // Nothing scores; where no prior does either, only newer ones are wanted.
                let stale = |worst: &Found| newest < worst.known.updated_at;
                if self.prior.is_none() && top.worst().is_some_and(stale) {
                    break;
                }
                for doc in 0..at.reader.max_doc() {
                    if meets(doc) {
                        top.offer(at, doc, 0.0);
                    }
                }
            } else {
                let bound = self.prior.map_or(0.0, |prior| prior.bound(newest));
                let threshold = top.threshold(bound);
                weight.for_each_pruning(threshold, at.reader, &mut |doc, bm25| {
                    if meets(doc) {
                        top.offer(at, doc, bm25);
                    }
                    top.threshold(bound)
                })?;
            }
        }
        Ok(top.finish())
    }

    /// Calls `then` with everything that meets `condition` and has a word of the query, and its
    /// BM25, until it answers `false`.
    fn each_where(
        &self,
        condition: &Condition,
        then: &mut dyn FnMut(Segment<'_>, DocId, f32) -> bool,
    ) -> tantivy::Result<()> {
        let weights = self.each_term()?;
        for at in self.segments() {
            let mut docs = condition.docs(at.reader)?;
            if docs.doc() == TERMINATED {
                continue;
            }
            let mut terms: Vec<Box<dyn Scorer>> = weights
                .iter()
                .map(|weight| weight.scorer(at.reader, 1.0))
                .collect::<tantivy::Result<_>>()?;
            let mut doc = docs.doc();
            while doc != TERMINATED {
                let (mut bm25, mut matches) = (0.0, self.query.terms.is_empty());
                for term in &mut terms {
                    if reaches(&mut **term, doc) {
                        bm25 += term.score();
                        matches = true;
                    }
                }
                if matches && !then(at, doc, bm25) {
                    return Ok(());
                }
                doc = docs.advance();
            }
        }
        Ok(())
    }

    /// Calls `then` with every match until it answers `false`, segment by segment.
    fn each_match(&self, then: &mut dyn FnMut(Segment<'_>, DocId) -> bool) -> tantivy::Result<()> {
        let mut checked = |at: Segment<'_>, doc: DocId| {
            !self.may_be_found(at, at.columns.id_hash.get_val(doc), doc) || then(at, doc)
        };
        let condition = self.condition(None)?;
        if let Some(condition) = condition.as_ref().filter(|condition| condition.leads) {
            return self.each_where(condition, &mut |at, doc, _| checked(at, doc));
        }
        let weight = self.any_term_unscored()?;
        for at in self.segments() {
            let mut meets =
                condition.as_ref().map(|condition| condition.docs(at.reader)).transpose()?;
            let mut docs = weight.scorer(at.reader, 1.0)?;
            let mut doc = docs.doc();
            while doc != TERMINATED {
                if meets.as_mut().is_none_or(|meets| reaches(&mut **meets, doc))
                    && !checked(at, doc)
                {
                    return Ok(());
                }
                doc = docs.advance();
            }
        }
        Ok(())
    }

    /// Counts matches, at most `limit` and one more.
    pub(crate) fn count(&self, limit: u64) -> tantivy::Result<u64> {
        if self.certain_matches() > limit {
            return Ok(limit.saturating_add(1));
        }
        let mut counted = 0;
        self.each_match(&mut |_, _| {
            counted += 1;
            counted <= limit
        })?;
        Ok(counted)
    }

    /// So many matches there are at least, as far as that can be told from frequencies.
    fn certain_matches(&self) -> u64 {
        let open = self.query.required.is_empty()
            && self.plan.leading.is_empty()
            && self.filters.iter().all(SegmentFilter::is_open);
        if !open {
            return 0;
        }
        let searcher = &self.view.searcher;
        let deleted: u64 = searcher
            .segment_readers()
            .iter()
            .map(|reader| u64::from(reader.num_deleted_docs()))
            .sum();
        let frequent = if self.query.terms.is_empty() {
            Some(searcher.num_docs() + deleted)
        } else {
            let index = (0..self.query.terms.len()).max_by_key(|at| self.statistics.frequency(*at));
            index.and_then(|at| self.query.terms.get(at)).and_then(|term| {
                let field = self.fields.of(term.field);
                searcher.doc_freq(&Term::from_field_text(field, &term.term)).ok()
            })
        };
        frequent.unwrap_or(0).saturating_sub(deleted).saturating_sub(self.shadows)
    }

    /// Counts all matches by what they are.
    pub(crate) fn facets(&self, counter: &mut FacetCounter) -> tantivy::Result<()> {
        let mut counts = SegmentCounts::default();
        let mut current: Option<u32> = None;
        let mut settle = |counts: &mut SegmentCounts, segment: Option<u32>| {
            if let Some(columns) = segment.and_then(|ord| self.view.columns(ord)) {
                counter.add_segment(counts, columns);
            }
            *counts = SegmentCounts::default();
        };
        self.each_match(&mut |at, doc| {
            if current != Some(at.ord) {
                settle(&mut counts, current.replace(at.ord));
            }
            counts.add(doc, at.columns);
            true
        })?;
        settle(&mut counts, current);
        Ok(())
    }
}

/// Moves `docs` to `doc`, which never falls, and says whether it is among them.
fn reaches<D: DocSet + ?Sized>(docs: &mut D, doc: DocId) -> bool {
    let at = docs.doc();
    if at < doc { docs.seek(doc) == doc } else { at == doc }
}
