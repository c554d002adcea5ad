//! A search over tails and committed index, and its candidates.
//!
//! # What is guaranteed about candidates
//!
//! A search answers the matches that are best by BM25 and [`Prior`] together, and beside them the
//! best that are pinned, whose title is the query, or that contain it as a phrase. Where its words
//! are so frequent that looking for the phrase would be slow, those are answered instead that it
//! would lift to the best. [`Candidates::unseen`] says what no match left out exceeds, by which of
//! these properties it may still have ([`Unseen::most`]), so a caller that finds its k-th final
//! score above that has the true best k; otherwise it may ask again for all that reach a floor.
//! (tantivy stores the maximum of a block for the average length at the time the segment was
//! written; where averages have drifted far, a match may be passed over that exceeds the threshold
//! by a hair.)

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, DocSet, Term};

use super::bm25::TermScoring;
use super::clauses::occurs_in;
use super::committed::{Best, Found, Search};
use super::document::{Change, IndexDoc, TextField, title_key};
use super::facets::FacetCounter;
use super::filter::Filter;
use super::query::ParsedQuery;
use super::schema::Fields;
use super::statistics::Statistics;
use super::tail::{Tail, TailHit, contains_phrase, occurrences};
use super::view::View;
use crate::api::TermScore;
use crate::ids::Seq;
use crate::ranking::{Known, Parameters, Prior, Unseen};

/// What to search for.
#[derive(Debug, Clone, Copy)]
pub struct SearchRequest<'a> {
    /// The query.
    pub query: &'a ParsedQuery,
    /// BM25 parameters and field weights.
    pub parameters: &'a Parameters,
    /// Which items may be found.
    pub filter: &'a Filter,
    /// What items have by themselves; `None` when that does not count.
    pub prior: Option<&'a Prior<'a>>,
    /// Candidates wanted.
    pub limit: usize,
    /// What they must reach by BM25 and `prior` together, unless they are pinned, have the query
    /// as title or contain it; the less that leaves, the faster the search.
    pub floor: Option<f64>,
    /// Count matches up to here; 0 to leave them uncounted.
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
    pub fn new(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut overlay = Self::default();
        for change in changes {
            overlay.add(change);
        }
        overlay
    }

    /// Adds the change back to the past of one more item.
    pub fn add(&mut self, change: Change) {
        self.tail.apply(change.into());
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
    /// What is known of it besides its words.
    pub known: Known,
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

/// Scoring of each term of a query. A word that most texts have says little in the few titles that
/// have it too: what counts is the field in which it is most common, as if all of an item were one
/// field.
pub(super) fn scoring(
    query: &ParsedQuery,
    statistics: &Statistics,
    parameters: &Parameters,
) -> Vec<TermScoring> {
    #[expect(clippy::cast_possible_truncation, reason = "scores are f32 in the index")]
    let of = |frequency: u64, field: TextField| {
        TermScoring::new(
            statistics.documents(),
            frequency,
            statistics.average_length(field),
            (parameters.k1 as f32, parameters.b as f32),
            parameters.weights.of(field) as f32,
        )
    };
    let words = query.commonness(|index| statistics.frequency(index));
    let terms = query.terms.iter().enumerate();
    terms
        .map(|(index, term)| {
            let elsewhere = words.get(term.word).copied().unwrap_or_default();
            of(statistics.frequency(index).max(elsewhere), term.field)
        })
        .collect()
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
        let hidden = shadows.iter().map(|set| set.len() as u64).sum();
        let (view, fields) = (Arc::clone(&self.view), Arc::clone(&self.fields));
        let search =
            Search::new(&view, &fields, request, statistics, scoring, (&shadowed, hidden))?;
        let limit = request.limit.max(1);
        let wanted_title = title_key_of(request.query);

        let exceeds = search.may_exceed(limit);
        let others = exceeds.then(|| Others::find(&search, wanted_title, limit));
        let others = others.transpose()?.unwrap_or_default();
        // Only where the others were looked for is none of them below the floor.
        let floor = request.floor.filter(|_| exceeds);
        let best = search.best(limit, others.slack(request.parameters), floor)?;
        let complete = best.unseen.is_none();
        let mut unseen = best.unseen.map(|plain| others.unseen(plain));
        let mut found = best.found;
        add_missing(&mut found, others.found);

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
        } else if request.count_limit == 0 {
            0
        } else {
            search.count(request.count_limit.saturating_sub(tail_total))?
        };

        let (tail_kept, tail_unseen) =
            best_of_tail(self.tail_hits, request.prior, limit, wanted_title);
        if let Some(most) = tail_unseen {
            unseen = Some(unseen.unwrap_or_else(|| Unseen::plain(most)).or_phrased(most));
        }

        let mut hits: Vec<Candidate> = tail_kept
            .into_iter()
            .map(|hit| tail_candidate(hit, request.query, wanted_title))
            .collect();
        hits.extend(committed_candidates(&search, found, wanted_title)?);
        hits.sort_by(|a, b| {
            b.bm25
                .total_cmp(&a.bm25)
                .then_with(|| b.known.updated_at.cmp(&a.known.updated_at))
                .then_with(|| b.seq.cmp(&a.seq))
        });
        Ok(Candidates {
            hits,
            total: committed_total.saturating_add(tail_total),
            facets,
            unseen,
            view: self.view,
            fields: self.fields,
        })
    }
}

/// The best matches that bonuses may lift, and what those of each kind that are left out can
/// reach.
#[derive(Debug, Default)]
struct Others {
    found: Vec<Found>,
    pinned: Option<f64>,
    titled: Option<f64>,
    phrased: [Phrased; 3],
}

/// Those that contain the query as a phrase in one field.
#[derive(Debug, Clone, Copy)]
enum Phrased {
    /// No other reaches more than this; `None` when there is no other.
    Found(Option<f64>),
    /// There may be some, but looking for them would be slow.
    Passed,
}

impl Default for Phrased {
    fn default() -> Self {
        Self::Found(None)
    }
}

/// Where the query is looked for as a phrase.
const PHRASED: [TextField; 3] = [TextField::Title, TextField::Text, TextField::Code];

impl Others {
    fn find(search: &Search<'_>, wanted_title: u64, limit: usize) -> tantivy::Result<Self> {
        let mut others = Self::default();
        let mut add = |best: Best| {
            add_missing(&mut others.found, best.found);
            best.unseen
        };
        others.pinned = add(search.best_pinned(limit)?);
        if wanted_title != 0 {
            others.titled = add(search.best_titled(wanted_title, limit)?);
        }
        for (field, phrased) in PHRASED.into_iter().zip(&mut others.phrased) {
            *phrased = match search.best_phrased(field, limit)? {
                Ok(best) => Phrased::Found(add(best)),
                Err(may_be) if may_be => Phrased::Passed,
                Err(_) => Phrased::Found(None),
            };
        }
        Ok(others)
    }

    /// The most that phrases that were not looked for add to a match. Of those that were looked
    /// for, as many as anybody wants are found.
    fn slack(&self, parameters: &Parameters) -> f64 {
        let [in_title, in_text, in_code] =
            self.phrased.map(|phrased| matches!(phrased, Phrased::Passed).then_some(0.0));
        Unseen { in_title, in_text, in_code, ..Unseen::plain(0.0) }.bonus(parameters)
    }

    /// What no match left out exceeds, if none exceeds `plain` by its words and itself.
    fn unseen(&self, plain: f64) -> Unseen {
        let [in_title, in_text, in_code] = self.phrased.map(|phrased| match phrased {
            Phrased::Found(most) => most,
            Phrased::Passed => Some(plain),
        });
        let (pinned, titled) = (self.pinned, self.titled);
        Unseen { plain, pinned, titled, in_title, in_text, in_code }
    }
}

/// Adds those of `more` that are not among `found`.
fn add_missing(found: &mut Vec<Found>, more: Vec<Found>) {
    if more.is_empty() {
        return;
    }
    let mut known: HashSet<DocAddress> = found.iter().map(|found| found.address).collect();
    found.extend(more.into_iter().filter(|more| known.insert(more.address)));
}

fn title_key_of(query: &ParsedQuery) -> u64 {
    title_key(&query.whole_text)
}

/// The best hits of the tail (with every pinned one and every one titled as the query), and what
/// none of the others exceeds.
fn best_of_tail(
    hits: Vec<TailHit>,
    prior: Option<&Prior<'_>>,
    limit: usize,
    wanted_title: u64,
) -> (Vec<TailHit>, Option<f64>) {
    let most = |hit: &TailHit| {
        f64::from(hit.score) + prior.map_or(0.0, |prior| prior.most(&hit.doc.known(hit.id_hash)))
    };
    let mut hits: Vec<(f64, TailHit)> = hits.into_iter().map(|hit| (most(&hit), hit)).collect();
    let mut unseen = None;
    if hits.len() > limit {
        hits.select_nth_unstable_by(limit, |(a, one), (b, other)| {
            b.total_cmp(a)
                .then_with(|| other.doc.updated_at.cmp(&one.doc.updated_at))
                .then_with(|| other.doc.seq.cmp(&one.doc.seq))
        });
        let rest = hits.split_off(limit);
        unseen = rest.iter().map(|(most, _)| *most).max_by(f64::total_cmp);
        hits.extend(rest.into_iter().filter(|(_, hit)| {
            hit.doc.pinned || (wanted_title != 0 && hit.title_key == wanted_title)
        }));
    }
    (hits.into_iter().map(|(_, hit)| hit).collect(), unseen)
}

fn tail_candidate(hit: TailHit, query: &ParsedQuery, wanted_title: u64) -> Candidate {
    let doc = hit.doc;
    let contains = |field| contains_phrase(&doc, field, query.whole.parts(field));
    Candidate {
        bm25: f64::from(hit.score),
        known: doc.known(hit.id_hash),
        seq: doc.seq,
        title_equals: wanted_title != 0 && hit.title_key == wanted_title,
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
    let [title, text, code] = PHRASED.map(|field| search.whole_phrase(field));
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
            out.push(Candidate {
                bm25: f64::from(found.bm25),
                known: found.known,
                seq: Seq(found.seq),
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
        for (term, scoring) in query.terms.iter().zip(scoring(query, statistics, parameters)) {
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
                    document_frequency: Some(scoring.frequency),
                    idf: Some(f64::from(scoring.idf)),
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
