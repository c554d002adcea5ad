//! Searching the committed index.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, EmptyQuery, EnableScoring, Occur,
    PhraseQuery, Query, TermQuery, Weight,
};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, DocSet, SeekDangerResult, SegmentReader, TERMINATED, Term};

use super::bm25::{TANTIVY_B, TANTIVY_K1, TermScoring, TunedTermQuery};
use super::document::TextField;
use super::facets::FacetCounter;
use super::filter::{DocBits, Filter, Plan, SegmentFilter};
use super::query::{ParsedQuery, Phrase, QueryTerm};
use super::schema::Fields;
use super::statistics::{Provider, Statistics};
use super::view::View;
use crate::ranking::Parameters;

/// A match in the committed index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    pub(crate) score: f32,
    /// What decides between equal scores: time of the last write and journal position.
    pub(crate) newness: (i64, u64),
    pub(crate) address: DocAddress,
}

impl Eq for Found {}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| self.newness.cmp(&other.newness))
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
    pub(crate) filter: &'a Filter,
    /// Whether a newer write hides the item with this id hash.
    pub(crate) shadowed: &'a dyn Fn(u64) -> bool,
}

/// The best matches.
pub(crate) struct Best {
    pub(crate) found: Vec<Found>,
    /// Whether these are all matches.
    pub(crate) complete: bool,
}

impl Best {
    const fn nothing() -> Self {
        Self { found: Vec::new(), complete: true }
    }
}

/// Phrases are looked up on their own when their rarest word is in at most so many items.
const CHEAP_PHRASE: u64 = 4_096;

impl Search<'_> {
    /// The `limit` matches with the highest BM25, in no particular order.
    pub(crate) fn best(&self, limit: usize) -> tantivy::Result<Best> {
        let plan = self.filter.plan(&self.view.searcher, self.fields)?;
        self.best_of(&*self.restricted(self.scored(), &plan), &plan, limit)
    }

    /// The best matches among pinned items.
    pub(crate) fn best_pinned(&self, limit: usize) -> tantivy::Result<Best> {
        self.best_with_term(Term::from_field_u64(self.fields.pinned, 1), limit)
    }

    /// The best matches among items whose title is the query.
    pub(crate) fn best_titled(&self, title_key: u64, limit: usize) -> tantivy::Result<Best> {
        self.best_with_term(Term::from_field_u64(self.fields.title_key, title_key), limit)
    }

    /// The best matches among items with the whole query as a phrase in `field`; `None` when its
    /// words are too frequent for that to be cheap.
    pub(crate) fn best_phrased(
        &self,
        field: TextField,
        limit: usize,
    ) -> tantivy::Result<Option<Best>> {
        let parts = self.query.whole.parts(field);
        let rarest = parts.iter().filter_map(|part| self.frequency_of(field, part)).min();
        match rarest {
            Some(0) => return Ok(Some(Best::nothing())),
            Some(rarest) if rarest <= CHEAP_PHRASE => {}
            _ => return Ok(None),
        }
        let Some(query) = phrase_query(self.fields, field, parts) else {
            return Ok(Some(Best::nothing()));
        };
        self.best_with(query, limit).map(Some)
    }

    fn best_with_term(&self, term: Term, limit: usize) -> tantivy::Result<Best> {
        if self.view.searcher.doc_freq(&term)? == 0 {
            return Ok(Best::nothing());
        }
        self.best_with(Box::new(TermQuery::new(term, IndexRecordOption::Basic)), limit)
    }

    fn best_with(&self, condition: Box<dyn Query>, limit: usize) -> tantivy::Result<Best> {
        let mut plan = self.filter.plan(&self.view.searcher, self.fields)?;
        plan.leading.push(condition);
        self.best_of(&*self.restricted(self.scored(), &plan), &plan, limit)
    }

    /// Items with a term of the query in `field`; `None` when it is not among those scored.
    fn frequency_of(&self, field: TextField, part: &str) -> Option<u64> {
        let known = |term: &QueryTerm| term.field == field && term.term == part;
        let index = self.query.terms.iter().position(known)?;
        Some(self.statistics.frequency(index))
    }

    fn best_of(&self, query: &dyn Query, plan: &Plan, limit: usize) -> tantivy::Result<Best> {
        let provider =
            Provider { statistics: self.statistics, query: self.query, fields: self.fields };
        let weight = query.weight(EnableScoring::enabled_from_statistics_provider(
            &provider,
            &self.view.searcher,
        ))?;
        let mut top: BinaryHeap<Reverse<Found>> = BinaryHeap::with_capacity(limit + 1);
        for (segment, reader, columns) in self.view.segments() {
            let excluded = self.excluded(reader)?;
            let filter = SegmentFilter::new(self.filter, plan, reader, columns, excluded)?;
            let newness = |doc: DocId| (columns.updated_at.get_val(doc), columns.seq.get_val(doc));
            let threshold = worst_of_best(&top, limit);
            let mut consider = |doc: DocId, score: f32| -> f32 {
                let address = DocAddress::new(segment, doc);
                let found = Found { score, newness: newness(doc), address };
                let full = top.len() >= limit;
                let belongs = !full || top.peek().is_some_and(|Reverse(worst)| found > *worst);
                if belongs && self.may_be_found(reader, &filter, columns.id_hash.get_val(doc), doc)
                {
                    top.push(Reverse(found));
                    if full {
                        top.pop();
                    }
                }
                worst_of_best(&top, limit)
            };
            if self.query.terms.is_empty() {
                // Nothing scores: every match is equal but for its newness.
                for_each(&*weight, reader, &mut |doc| {
                    consider(doc, 0.0);
                    true
                })?;
            } else {
                // Matches that only equal the worst of the best are not offered.
                weight.for_each_pruning(threshold, reader, &mut consider)?;
            }
        }
        // With a full house there may be others.
        let complete = top.len() < limit;
        Ok(Best { found: top.into_iter().map(|Reverse(found)| found).collect(), complete })
    }

    fn may_be_found(
        &self,
        reader: &SegmentReader,
        filter: &SegmentFilter<'_>,
        id_hash: u64,
        doc: DocId,
    ) -> bool {
        !reader.is_deleted(doc) && filter.matches(doc) && !(self.shadowed)(id_hash)
    }

    /// Counts matches, at most `limit` and one more.
    pub(crate) fn count(&self, limit: u64) -> tantivy::Result<u64> {
        let mut counted = 0;
        self.each_match(&mut |_, _| {
            counted += 1;
            counted <= limit
        })?;
        Ok(counted)
    }

    /// Counts all matches by what they are.
    pub(crate) fn facets(&self, counter: &mut FacetCounter) -> tantivy::Result<()> {
        let mut segment_counts = super::facets::SegmentCounts::default();
        let mut current: Option<u32> = None;
        self.each_match(&mut |segment, doc| {
            if current != Some(segment) {
                if let Some(columns) = current.and_then(|ord| self.view.columns(ord)) {
                    counter.add_segment(&segment_counts, columns);
                }
                segment_counts = super::facets::SegmentCounts::default();
                current = Some(segment);
            }
            if let Some(columns) = self.view.columns(segment) {
                segment_counts.add(doc, columns);
            }
            true
        })?;
        if let Some(columns) = current.and_then(|ord| self.view.columns(ord)) {
            counter.add_segment(&segment_counts, columns);
        }
        Ok(())
    }

    /// Calls `then` with every match until it answers `false`.
    fn each_match(&self, then: &mut dyn FnMut(u32, DocId) -> bool) -> tantivy::Result<()> {
        let plan = self.filter.plan(&self.view.searcher, self.fields)?;
        let query = self.restricted(self.unscored(), &plan);
        let weight = query.weight(EnableScoring::disabled_from_searcher(&self.view.searcher))?;
        let mut go_on = true;
        for (segment, reader, columns) in self.view.segments() {
            if !go_on {
                break;
            }
            let excluded = self.excluded(reader)?;
            let filter = SegmentFilter::new(self.filter, &plan, reader, columns, excluded)?;
            for_each(&*weight, reader, &mut |doc| {
                if self.may_be_found(reader, &filter, columns.id_hash.get_val(doc), doc) {
                    go_on = then(segment, doc);
                }
                go_on
            })?;
        }
        Ok(())
    }

    /// Terms that occur anywhere, with their scoring.
    fn live_terms(&self) -> impl Iterator<Item = (Term, TextField, TermScoring)> {
        let terms = self.query.terms.iter().zip(self.scoring).enumerate();
        terms.filter(|(index, _)| self.statistics.frequency(*index) > 0).map(
            |(_, (term, scoring))| {
                let field = self.fields.of(term.field);
                (Term::from_field_text(field, &term.term), term.field, *scoring)
            },
        )
    }

    #[expect(clippy::cast_possible_truncation, reason = "scores are f32 in the index")]
    fn scored(&self) -> Box<dyn Query> {
        if self.query.terms.is_empty() {
            return Box::new(AllQuery);
        }
        let weights = &self.parameters.weights;
        let fast = (self.parameters.k1 as f32, self.parameters.b as f32) == (TANTIVY_K1, TANTIVY_B);
        let clauses: Vec<Box<dyn Query>> = self
            .live_terms()
            .map(|(term, field, scoring)| -> Box<dyn Query> {
                if fast {
                    let query = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
                    Box::new(BoostQuery::new(query, weights.of(field) as f32))
                } else {
                    Box::new(TunedTermQuery { term, scoring })
                }
            })
            .collect();
        if clauses.is_empty() {
            Box::new(EmptyQuery)
        } else {
            Box::new(BooleanQuery::union(clauses))
        }
    }

    fn unscored(&self) -> Box<dyn Query> {
        if self.query.terms.is_empty() {
            return Box::new(AllQuery);
        }
        let clauses: Vec<Box<dyn Query>> = self
            .live_terms()
            .map(|(term, ..)| -> Box<dyn Query> {
                Box::new(TermQuery::new(term, IndexRecordOption::Basic))
            })
            .collect();
        if clauses.is_empty() {
            Box::new(EmptyQuery)
        } else {
            Box::new(BooleanQuery::union(clauses))
        }
    }

    /// Adds what must occur. Conditions select and do not score.
    fn restricted(&self, query: Box<dyn Query>, plan: &Plan) -> Box<dyn Query> {
        if self.query.required.is_empty() && plan.leading.is_empty() {
            return query;
        }
        let silent = |query: Box<dyn Query>| -> Box<dyn Query> {
            Box::new(ConstScoreQuery::new(query, 0.0))
        };
        let mut clauses = vec![(Occur::Must, query)];
        for condition in &plan.leading {
            clauses.push((Occur::Must, silent(condition.box_clone())));
        }
        for phrase in &self.query.required {
            clauses.push((Occur::Must, silent(self.anywhere(phrase))));
        }
        Box::new(BooleanQuery::new(clauses))
    }

    /// The documents of a segment that contain something excluded. (tantivy's own exclusion asks
    /// a phrase scorer for documents that lie behind it, and fails.)
    fn excluded(&self, reader: &SegmentReader) -> tantivy::Result<Option<DocBits>> {
        if self.query.excluded.is_empty() {
            return Ok(None);
        }
        let mut bits = DocBits::none(reader);
        for phrase in &self.query.excluded {
            for field in TextField::ALL {
                let Some(query) = phrase_query(self.fields, field, phrase.parts(field)) else {
                    continue;
                };
                let scoring = EnableScoring::disabled_from_searcher(&self.view.searcher);
                bits.add_all(&mut *query.weight(scoring)?.scorer(reader, 1.0)?);
            }
        }
        Ok(Some(bits))
    }

    /// A phrase in any field.
    fn anywhere(&self, phrase: &Phrase) -> Box<dyn Query> {
        let fields = TextField::ALL
            .into_iter()
            .filter_map(|field| phrase_query(self.fields, field, phrase.parts(field)));
        Box::new(BooleanQuery::union(fields.collect()))
    }

    /// The whole query as a phrase in one field; `None` when it cannot occur there.
    pub(crate) fn whole_phrase(
        &self,
        field: TextField,
    ) -> tantivy::Result<Option<Box<dyn Weight>>> {
        let parts = self.query.whole.parts(field);
        if parts.iter().any(|part| self.frequency_of(field, part) == Some(0)) {
            return Ok(None);
        }
        let Some(query) = phrase_query(self.fields, field, parts) else { return Ok(None) };
        query.weight(EnableScoring::disabled_from_searcher(&self.view.searcher)).map(Some)
    }
}

/// For each of `docs` (rising), whether `phrase` occurs in it.
pub(crate) fn occurs_in(
    phrase: Option<&dyn Weight>,
    reader: &SegmentReader,
    docs: &[DocId],
) -> tantivy::Result<Vec<bool>> {
    let mut occurs = vec![false; docs.len()];
    let (Some(phrase), Some(&first)) = (phrase, docs.first()) else { return Ok(occurs) };
    // `seek_danger` looks at the documents asked for and never runs ahead to the next match. It
    // must not be asked for what lies before the bound that it has answered.
    let (mut outcome, mut scorer) = phrase.scorer_danger(reader, first, 1.0)?;
    let mut at = first;
    for (slot, &doc) in occurs.iter_mut().zip(docs) {
        let ask = match outcome {
            SeekDangerResult::SeekLowerBound(next) if next > doc => continue,
            SeekDangerResult::SeekLowerBound(_) => true,
            SeekDangerResult::Found => doc != at,
        };
        if ask {
            outcome = scorer.seek_danger(doc);
            at = doc;
        }
        *slot = outcome == SeekDangerResult::Found;
    }
    Ok(occurs)
}

/// The score that a match must exceed to be among the best.
fn worst_of_best(top: &BinaryHeap<Reverse<Found>>, limit: usize) -> f32 {
    match top.peek() {
        Some(Reverse(worst)) if top.len() >= limit => worst.score,
        _ => f32::MIN,
    }
}

fn for_each(
    weight: &dyn Weight,
    reader: &SegmentReader,
    then: &mut dyn FnMut(DocId) -> bool,
) -> tantivy::Result<()> {
    let mut scorer = weight.scorer(reader, 1.0)?;
    let mut doc = scorer.doc();
    while doc != TERMINATED {
        if !then(doc) {
            break;
        }
        doc = scorer.advance();
    }
    Ok(())
}

fn phrase_query(fields: &Fields, field: TextField, parts: &[String]) -> Option<Box<dyn Query>> {
    let mut terms: Vec<Term> =
        parts.iter().map(|part| Term::from_field_text(fields.of(field), part)).collect();
    match terms.len() {
        0 => None,
        1 => terms.pop().map(|term| -> Box<dyn Query> {
            Box::new(TermQuery::new(term, IndexRecordOption::Basic))
        }),
        _ => Some(Box::new(PhraseQuery::new(terms))),
    }
}
