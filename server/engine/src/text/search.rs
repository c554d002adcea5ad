//! A search over tails and committed index, and its candidates.
//!
//! # What is guaranteed about candidates
//!
//! A search answers the best matches by BM25, and beside them the best that are pinned, whose title
//! is the query, or that contain it as a phrase (unless its words are so frequent that looking for
//! the phrase would be slow). [`Candidates::unseen`] says that no match left out has a higher BM25,
//! and which of these properties it may still have. All bonuses are bounded
//! ([`Parameters::boost_bound`]), so a caller that finds its k-th final score above `unseen` plus
//! the bound has the true best k; otherwise it may ask again with a larger limit. (tantivy stores the
//! maximum of a block for the average length at the time the segment was written; where averages
//! have drifted far, a match may be passed over that exceeds the threshold by a hair.)

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, DocSet, Term};

use super::bm25::TermScoring;
use super::committed::{Best, Found, Search, occurs_in};
use super::document::{IndexDoc, TextField, id_hash, title_key};
use super::facets::FacetCounter;
use super::filter::Filter;
use super::query::ParsedQuery;
use super::schema::{Fields, NEVER};
use super::statistics::Statistics;
use super::tail::{Tail, TailHit, contains_phrase, occurrences};
use super::view::View;
use crate::api::TermScore;
use crate::ids::{Seq, Timestamp};
use crate::ranking::{MayBe, Parameters};

/// What to search for.
#[derive(Debug, Clone, Copy)]
pub struct SearchRequest<'a> {
    /// The query.
    pub query: &'a ParsedQuery,
    /// BM25 parameters and field weights.
    pub parameters: &'a Parameters,
    /// Which items may be found.
    pub filter: &'a Filter,
    /// Candidates wanted.
    pub limit: usize,
    /// Count matches up to here.
    pub count_limit: u64,
    /// Count all matches by what they are.
    pub facets: bool,
    /// Old versions that shadow the present, for `asOf`.
    pub overlay: Option<&'a Overlay>,
}

/// Old versions of everything that has changed since a moment: laid over the present, they give
/// the past.
#[derive(Debug, Default)]
pub struct Overlay {
    pub(crate) tail: Tail,
}

impl Overlay {
    /// An overlay of the given changes back to the past.
    #[must_use]
    pub fn new(changes: impl IntoIterator<Item = super::Change>) -> Self {
        let mut overlay = Self::default();
        for change in changes {
            overlay.tail.apply(change.into());
        }
        overlay
    }

    /// Bytes held, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tail.bytes()
    }
}

/// A match.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent observations, not states")]
pub struct Candidate {
    /// BM25, all fields together; 0 when the query has no words.
    pub bm25: f64,
    /// [`id_hash`] of the id.
    pub id_hash: u64,
    /// Pinned.
    pub pinned: bool,
    /// Life time, days.
    pub ttl_days: Option<f64>,
    /// End of life.
    pub expires_at: Option<Timestamp>,
    /// First version.
    pub created_at: Timestamp,
    /// This version.
    pub updated_at: Timestamp,
    /// Record that wrote this version.
    pub seq: Seq,
    /// The title is the query.
    pub title_equals: bool,
    /// The title contains the query as a phrase.
    pub title_contains: bool,
    /// The text contains it.
    pub text_contains: bool,
    /// The code contains it.
    pub code_contains: bool,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Tail(Arc<IndexDoc>),
    Committed(DocAddress),
}

/// What a search found.
pub struct Candidates {
    /// Matches, best BM25 first (newest first when the query has no words).
    pub hits: Vec<Candidate>,
    /// Matches, counted up to the limit and one more.
    pub total: u64,
    /// Counts, when asked for.
    pub facets: Option<FacetCounter>,
    /// What is known of matches outside `hits`; `None` when there are none.
    pub unseen: Option<Unseen>,
    pub(super) view: Arc<View>,
    pub(super) fields: Arc<Fields>,
}

/// What a match that was left out can be at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unseen {
    /// No match left out has a higher BM25.
    pub bm25: f64,
    /// What it may be besides.
    pub may_be: MayBe,
}

impl std::fmt::Debug for Candidates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidates")
            .field("hits", &self.hits)
            .field("total", &self.total)
            .field("unseen", &self.unseen)
            .finish_non_exhaustive()
    }
}

/// The state of an index that one search works on.
pub(super) struct Snapshot {
    pub(super) view: Arc<View>,
    pub(super) fields: Arc<Fields>,
    /// Hits of the tails, already free of shadowed ones.
    pub(super) tail_hits: Vec<TailHit>,
    /// Ids hidden from the committed index.
    pub(super) shadows: Vec<Arc<HashSet<u64>>>,
}

/// Scoring of each term of a query.
pub(super) fn scoring(
    query: &ParsedQuery,
    statistics: &Statistics,
    parameters: &Parameters,
) -> Vec<TermScoring> {
    #[expect(clippy::cast_possible_truncation, reason = "scores are f32 in the index")]
    let of = |index: usize, field: TextField| {
        TermScoring::new(
            statistics.documents(),
            statistics.frequency(index),
            statistics.average_length(field),
            (parameters.k1 as f32, parameters.b as f32),
            parameters.weights.of(field) as f32,
        )
    };
    query.terms.iter().enumerate().map(|(index, term)| of(index, term.field)).collect()
}

impl Snapshot {
    pub(super) fn search(
        mut self,
        request: &SearchRequest<'_>,
        statistics: &Statistics,
        scoring: &[TermScoring],
    ) -> tantivy::Result<Candidates> {
        let shadows = std::mem::take(&mut self.shadows);
        let shadowed = |hash: u64| shadows.iter().any(|set| set.contains(&hash));
        let search = Search {
            view: &self.view,
            fields: &self.fields,
            query: request.query,
            scoring,
            statistics,
            parameters: request.parameters,
            filter: request.filter,
            shadowed: &shadowed,
        };
        let limit = request.limit.max(1);
        let wanted_title = title_key_of(request.query);

        let Best { mut found, complete } = search.best(limit)?;
        let committed_worst = found.iter().map(|found| found.score).min_by(f32::total_cmp);
        let mut may_be = MayBe::default();
        if !complete && !request.query.terms.is_empty() {
            may_be = add_others(&search, wanted_title, limit, &mut found)?;
        }

        let tail_total = self.tail_hits.len() as u64;
        let mut facets = None;
        let committed_total = if request.facets {
            let mut counter = FacetCounter::default();
            search.facets(&mut counter)?;
            let committed = counter.matches;
            for hit in &self.tail_hits {
                counter.add_doc(&hit.doc);
            }
            facets = Some(counter);
            committed
        } else if complete {
            found.len() as u64
        } else {
            search.count(request.count_limit.saturating_sub(tail_total))?
        };

        let (tail_kept, tail_worst) = best_of_tail(self.tail_hits, limit, wanted_title);
        let mut unseen = if complete { None } else { committed_worst };
        if let Some(worst) = tail_worst {
            unseen = Some(unseen.map_or(worst, |other| other.max(worst)));
            may_be.phrased = true;
        }

        let mut hits: Vec<Candidate> = tail_kept
            .into_iter()
            .map(|hit| tail_candidate(hit, request.query, wanted_title))
            .collect();
        hits.extend(committed_candidates(&search, found, wanted_title)?);
        hits.sort_by(|a, b| {
            b.bm25
                .total_cmp(&a.bm25)
                .then_with(|| b.updated_at.cmp(&a.updated_at))
                .then_with(|| b.seq.cmp(&a.seq))
        });
        Ok(Candidates {
            hits,
            total: committed_total.saturating_add(tail_total),
            facets,
            unseen: unseen.map(|worst| Unseen { bm25: f64::from(worst), may_be }),
            view: self.view,
            fields: self.fields,
        })
    }
}

/// Adds the best matches that bonuses may lift, and says what those left out may still be.
fn add_others(
    search: &Search<'_>,
    wanted_title: u64,
    limit: usize,
    found: &mut Vec<Found>,
) -> tantivy::Result<MayBe> {
    let mut known: HashSet<DocAddress> = found.iter().map(|found| found.address).collect();
    let mut add = |best: Best| {
        found.extend(best.found.into_iter().filter(|more| known.insert(more.address)));
        !best.complete
    };
    let mut may_be = MayBe { pinned: add(search.best_pinned(limit)?), ..MayBe::default() };
    if wanted_title != 0 {
        may_be.titled = add(search.best_titled(wanted_title, limit)?);
    }
    for field in [TextField::Title, TextField::Text, TextField::Code] {
        may_be.phrased |= match search.best_phrased(field, limit)? {
            Some(best) => add(best),
            None => true,
        };
    }
    Ok(may_be)
}

fn title_key_of(query: &ParsedQuery) -> u64 {
    title_key(&query.whole_text)
}

/// The best hits of the tail (with every pinned one and every one titled as the query), and the
/// score that none of the others exceeds.
fn best_of_tail(
    mut hits: Vec<TailHit>,
    limit: usize,
    wanted_title: u64,
) -> (Vec<TailHit>, Option<f32>) {
    hits.sort_unstable_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| b.doc.updated_at.cmp(&a.doc.updated_at))
            .then_with(|| b.doc.seq.cmp(&a.doc.seq))
    });
    let mut worst = None;
    if hits.len() > limit {
        let rest = hits.split_off(limit);
        worst = hits.last().map(|hit| hit.score);
        hits.extend(rest.into_iter().filter(|hit| {
            hit.doc.pinned || (wanted_title != 0 && title_key(&hit.doc.title) == wanted_title)
        }));
    }
    (hits, worst)
}

fn tail_candidate(hit: TailHit, query: &ParsedQuery, wanted_title: u64) -> Candidate {
    let doc = hit.doc;
    let contains = |field| contains_phrase(&doc, field, query.whole.parts(field));
    Candidate {
        bm25: f64::from(hit.score),
        id_hash: id_hash(&doc.id),
        pinned: doc.pinned,
        ttl_days: doc.ttl_days,
        expires_at: doc.expires_at,
        created_at: doc.created_at,
        updated_at: doc.updated_at,
        seq: doc.seq,
        title_equals: wanted_title != 0 && title_key(&doc.title) == wanted_title,
        title_contains: contains(TextField::Title),
        text_contains: contains(TextField::Text),
        code_contains: contains(TextField::Code),
        place: Place::Tail(doc),
    }
}

fn committed_candidates(
    search: &Search<'_>,
    mut found: Vec<Found>,
    wanted_title: u64,
) -> tantivy::Result<Vec<Candidate>> {
    found.sort_unstable_by_key(|found| found.address);
    let [title, text, code] = [TextField::Title, TextField::Text, TextField::Code]
        .map(|field| search.whole_phrase(field));
    let (title, text, code) = (title?, text?, code?);
    let mut out = Vec::with_capacity(found.len());
    for (segment, reader, columns) in search.view.segments() {
        let here: Vec<Found> =
            found.iter().filter(|found| found.address.segment_ord == segment).copied().collect();
        let docs: Vec<DocId> = here.iter().map(|found| found.address.doc_id).collect();
        let titles = occurs_in(title.as_deref(), reader, &docs)?;
        let texts = occurs_in(text.as_deref(), reader, &docs)?;
        let codes = occurs_in(code.as_deref(), reader, &docs)?;
        let flags = titles.into_iter().zip(texts).zip(codes);
        for (found, ((in_title, in_text), in_code)) in here.into_iter().zip(flags) {
            let doc = found.address.doc_id;
            let ttl_days = columns.ttl_days.get_val(doc);
            let expires_at = columns.expires_at.get_val(doc);
            out.push(Candidate {
                bm25: f64::from(found.score),
                id_hash: columns.id_hash.get_val(doc),
                pinned: columns.pinned.get_val(doc) != 0,
                ttl_days: (ttl_days > 0.0).then_some(ttl_days),
                expires_at: (expires_at != NEVER).then(|| Timestamp::from_millis(expires_at)),
                created_at: Timestamp::from_millis(columns.created_at.get_val(doc)),
                updated_at: Timestamp::from_millis(columns.updated_at.get_val(doc)),
                seq: Seq(columns.seq.get_val(doc)),
                title_equals: wanted_title != 0 && columns.title_key.get_val(doc) == wanted_title,
                title_contains: in_title,
                text_contains: in_text,
                code_contains: in_code,
                place: Place::Committed(found.address),
            });
        }
    }
    Ok(out)
}

impl Candidates {
    /// The id of a candidate, as text; `None` if the index has lost it.
    pub fn id(&self, candidate: &Candidate) -> std::io::Result<Option<String>> {
        match &candidate.place {
            Place::Tail(doc) => Ok(Some(doc.id.as_str().to_owned())),
            Place::Committed(address) => self.view.id(*address),
        }
    }

    /// The terms that make up a candidate's BM25; their values sum to it, apart from rounding.
    pub fn explain(
        &self,
        candidate: &Candidate,
        query: &ParsedQuery,
        statistics: &Statistics,
        parameters: &Parameters,
    ) -> tantivy::Result<Vec<TermScore>> {
        let mut terms = Vec::new();
        let mut norms: HashMap<TextField, u8> = HashMap::new();
        for (index, (term, scoring)) in
            query.terms.iter().zip(scoring(query, statistics, parameters)).enumerate()
        {
            let (frequency, value) = match &candidate.place {
                Place::Tail(doc) => {
                    let (frequency, length) = occurrences(doc, term.field, &term.term);
                    (frequency, scoring.score(frequency, length))
                }
                Place::Committed(address) => {
                    let frequency = self.term_frequency(*address, term.field, &term.term)?;
                    let norm = if let Some(norm) = norms.get(&term.field) {
                        *norm
                    } else {
                        let norm = self.norm(*address, term.field)?;
                        norms.insert(term.field, norm);
                        norm
                    };
                    (frequency, scoring.score_by_norm(frequency, norm))
                }
            };
            if frequency > 0 {
                terms.push(TermScore {
                    field: term.field.as_str().to_owned(),
                    term: term.term.clone(),
                    term_frequency: frequency,
                    document_frequency: statistics.frequency(index),
                    idf: f64::from(scoring.idf),
                    weight: parameters.weights.of(term.field),
                    value: f64::from(value),
                });
            }
        }
        Ok(terms)
    }

    fn term_frequency(&self, at: DocAddress, field: TextField, term: &str) -> tantivy::Result<u32> {
        use tantivy::postings::Postings as _;
        let reader = self.view.searcher.segment_reader(at.segment_ord);
        let field = self.fields.of(field);
        let term = Term::from_field_text(field, term);
        let postings =
            reader.inverted_index(field)?.read_postings(&term, IndexRecordOption::WithFreqs)?;
        Ok(postings.map_or(0, |mut postings| {
            let reached =
                if postings.doc() < at.doc_id { postings.seek(at.doc_id) } else { postings.doc() };
            if reached == at.doc_id { postings.term_freq() } else { 0 }
        }))
    }

    fn norm(&self, at: DocAddress, field: TextField) -> tantivy::Result<u8> {
        let reader = self.view.searcher.segment_reader(at.segment_ord);
        Ok(reader.get_fieldnorms_reader(self.fields.of(field))?.fieldnorm_id(at.doc_id))
    }
}
