//! From candidates to the order in which hits are answered.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::source::{Eyes, ItemSource};
use super::{EXACT_TOTAL, MAX_CANDIDATES, add_facets};
use crate::api::{Explanation, FacetCounts, QueryRequest};
use crate::error::{EngineError, Result};
use crate::ids::{ItemId, Seq, Timestamp};
use crate::item::{ConfidenceConfig, Counters};
use crate::ranking::{Boost, Parameters, Prior, Signals, score_boosts};
use crate::store::past::Past;
use crate::text::{
    Candidate, Candidates, FacetCounter, Filter, ParsedQuery, SearchRequest, Statistics, TextError,
};

/// Fewest candidates taken from a scope: enough that bonuses seldom ask for more.
const LEAST_CANDIDATES: usize = 16;
/// Candidates taken beyond the hits wanted. Among candidates the order is nearly the final one:
/// what changes it (votes, uses, phrases) is rare or looked for apart.
const SPARE_CANDIDATES: usize = 8;
/// By so much more are taken when they were not enough.
const CANDIDATE_FACTOR: usize = 8;

/// By so much, relatively, may the same score differ from search to search: it is a sum of a few
/// dozen single-precision numbers.
const ROUNDING: f64 = 1e-4;

/// A hit in its place.
#[derive(Debug, Clone)]
pub(super) struct Scored {
    /// Number of the scope among the sources.
    pub(super) source: usize,
    pub(super) id: ItemId,
    pub(super) id_hash: u64,
    pub(super) seq: Seq,
    pub(super) updated_at: Timestamp,
    pub(super) score: f64,
    /// What hits are ordered by: the score, or the time of the last write when nothing scores.
    pub(super) order: f64,
    candidate: usize,
    confidence: f64,
}

/// Hits in order, as many as were asked for.
#[derive(Debug)]
pub(super) struct Ranking {
    pub(super) hits: Vec<Scored>,
    pub(super) total: u64,
    pub(super) total_exact: bool,
    pub(super) facets: Option<FacetCounts>,
    found: Vec<Candidates>,
}

/// A query made ready for its sources.
pub(super) struct Search<'a, S> {
    sources: &'a [S],
    request: &'a QueryRequest,
    /// The words that are worth scoring.
    query: Cow<'a, ParsedQuery>,
    now: Timestamp,
    filter: Filter,
    /// Whether the caller may know how many items contain a word.
    tells_counts: bool,
    pasts: Vec<Option<Past>>,
    parameters: Vec<Parameters>,
    confidence: Vec<ConfidenceConfig>,
    statistics: Statistics,
}

/// Matches outside the candidates that may belong among the best.
enum Left {
    Nothing,
    /// Of each scope, those that reach so much before bonuses; of a scope without a bound there
    /// are none left.
    Above(Vec<Option<f64>>),
    /// There are fewer candidates than hits wanted.
    Unknown,
}

/// A candidate with the most it can reach.
struct Open {
    source: usize,
    candidate: usize,
    most: f64,
}

impl<'a, S: ItemSource> Search<'a, S> {
    pub(super) fn new(
        sources: &'a [S],
        eyes: &Eyes,
        request: &'a QueryRequest,
        query: &'a ParsedQuery,
        now: Timestamp,
    ) -> Result<Self> {
        let mut pasts = Vec::with_capacity(sources.len());
        let mut statistics = Statistics::empty(query);
        for source in sources {
            let past = source.past()?;
            let overlay = past.as_ref().map(|past| &past.overlay);
            statistics.add(&source.index().statistics(query, overlay)?);
            pasts.push(past);
        }
        let query = statistics.narrow(query).map_or(Cow::Borrowed(query), Cow::Owned);
        let filters = &request.filters;
        let filter = Filter {
            types: filters.types.clone(),
            tags: filters.tags.clone(),
            files: filters.files.clone(),
            symbols: filters.symbols.clone(),
            languages: filters.language.clone(),
            created_by: filters.created_by.clone(),
            owner: eyes.owner.clone(),
            pinned: filters.pinned,
            updated_from: filters.time_range.and_then(|range| range.start),
            updated_to: filters.time_range.and_then(|range| range.end),
            clearance: eyes.clearance,
            now,
        };
        let parameters = sources.iter().map(ItemSource::parameters).collect();
        let confidence = sources.iter().map(ItemSource::confidence).collect();
        Ok(Self {
            sources,
            request,
            query,
            now,
            filter,
            tells_counts: eyes.see_all(),
            pasts,
            parameters,
            confidence,
            statistics,
        })
    }

    pub(super) fn query(&self) -> &ParsedQuery {
        &self.query
    }

    /// The best `needed` hits.
    pub(super) fn ranked(&self, needed: usize) -> Result<Ranking> {
        let most = if self.request.filters.confidence.is_some() {
            // Confidence is judged hit by hit; everything that can be counted exactly is looked at.
            usize::try_from(EXACT_TOTAL).unwrap_or(usize::MAX)
        } else {
            MAX_CANDIDATES
        }
        .max(needed);
        let mut limit = if self.request.filters.confidence.is_some() {
            most
        } else {
            needed.saturating_add(SPARE_CANDIDATES).clamp(LEAST_CANDIDATES, most)
        };
        let mut total = None;
        let mut floors = Vec::new();
        loop {
            let mut found = Vec::with_capacity(self.sources.len());
            for (((number, source), past), parameters) in
                (0..).zip(self.sources).zip(&self.pasts).zip(&self.parameters)
            {
                let counted = |id_hash| source.may_have_counters(id_hash);
                let prior = self.prior(number, &counted);
                let request = SearchRequest {
                    query: &self.query,
                    parameters,
                    filter: &self.filter,
                    prior: prior.as_ref(),
                    limit,
                    floor: floors.get(number).copied().flatten(),
                    // Once is enough.
                    count_limit: if total.is_none() { EXACT_TOTAL } else { 0 },
                    facets: self.request.facets && self.request.filters.confidence.is_none(),
                    overlay: past.as_ref().map(|past| &past.overlay),
                };
                found.push(source.index().search(&request, &self.statistics)?);
            }
            let counted = found.iter().map(|candidates| candidates.total).sum();
            let (ranking, left) = self.order(found, needed, *total.get_or_insert(counted))?;
            limit = match left {
                Left::Nothing => return Ok(ranking),
                _ if limit >= most => return Ok(ranking),
                // They are few, since what they must reach is known.
                Left::Above(known) => {
                    floors = known;
                    most
                }
                Left::Unknown => limit.saturating_mul(CANDIDATE_FACTOR).min(most),
            };
        }
    }

    /// Orders candidates; also says which matches outside them may belong among the best.
    fn order(&self, found: Vec<Candidates>, needed: usize, total: u64) -> Result<(Ranking, Left)> {
        let by_newness = self.query.is_empty();
        let judged = self.request.filters.confidence.is_some();
        let mut open: Vec<Open> = Vec::new();
        for (source, candidates) in found.iter().enumerate() {
            for (candidate, hit) in candidates.hits.iter().enumerate() {
                let most = if by_newness {
                    hit.known.updated_at.as_millis() as f64
                } else {
                    let confidence = self.plain_confidence(source, hit).unwrap_or(1.0);
                    hit.bm25
                        + self.boosts(source, hit, confidence).map(|(_, value)| value).sum::<f64>()
                };
                open.push(Open { source, candidate, most });
            }
        }
        let newness = |one: &Open| -> (Timestamp, Seq) {
            let hit = found.get(one.source).and_then(|found| found.hits.get(one.candidate));
            hit.map_or((Timestamp::default(), Seq(0)), |hit| (hit.known.updated_at, hit.seq))
        };
        let tie = |a: &Open, b: &Open| -> Ordering {
            let (a_at, a_seq) = newness(a);
            let (b_at, b_seq) = newness(b);
            b_at.cmp(&a_at).then(a.source.cmp(&b.source)).then(b_seq.cmp(&a_seq))
        };
        open.sort_by(|a, b| b.most.total_cmp(&a.most).then_with(|| tie(a, b)));

        let mut best: Vec<(Open, f64, f64)> = Vec::new();
        let mut passing = 0_u64;
        let mut facets = judged.then(FacetCounts::default);
        for one in open {
            // The last of the best only rises; what cannot reach it now never will.
            let full = best.len() >= needed;
            let worst = best.last().map_or(f64::MIN, |(_, score, _)| *score);
            if full && !judged && (by_newness || one.most < worst) {
                break;
            }
            let Some(hit) = found.get(one.source).and_then(|found| found.hits.get(one.candidate))
            else {
                continue;
            };
            let confidence = self.confidence(&found, &one, hit)?;
            if !self.request.filters.confidence.is_none_or(|range| {
                range.min.is_none_or(|min| confidence >= min)
                    && range.max.is_none_or(|max| confidence <= max)
            }) {
                continue;
            }
            passing += 1;
            if let Some(facets) = facets.as_mut().filter(|_| self.request.facets) {
                self.count(facets, &found, &one, hit)?;
            }
            let score = if by_newness {
                one.most
            } else {
                hit.bm25
                    + self.boosts(one.source, hit, confidence).map(|(_, value)| value).sum::<f64>()
            };
            let at = best.partition_point(|(other, other_score, _)| {
                other_score.total_cmp(&score).then_with(|| tie(&one, other)) == Ordering::Greater
            });
            if at < needed {
                best.insert(at, (one, score, confidence));
                best.truncate(needed);
            }
        }

        let worst = best.last().map(|(_, score, _)| *score).filter(|_| best.len() >= needed);
        let left = self.left(&found, worst);

        let mut hits = Vec::with_capacity(best.len());
        for (one, order, confidence) in best {
            let Some(candidates) = found.get(one.source) else { continue };
            let Some(hit) = candidates.hits.get(one.candidate) else { continue };
            let Some(id) = id_of(candidates, hit)? else { continue };
            hits.push(Scored {
                source: one.source,
                id,
                id_hash: hit.known.id_hash,
                seq: hit.seq,
                updated_at: hit.known.updated_at,
                score: if by_newness { 0.0 } else { order },
                order,
                candidate: one.candidate,
                confidence,
            });
        }
        let complete = found.iter().all(|candidates| candidates.unseen.is_none());
        let (total, total_exact) = if judged { (passing, complete) } else { (total, true) };
        if !judged && self.request.facets {
            let mut sum = FacetCounts::default();
            for (source, candidates) in self.sources.iter().zip(&found) {
                if let Some(counts) = &candidates.facets {
                    add_facets(&mut sum, source.scope().as_str(), counts);
                }
            }
            facets = Some(sum);
        }
        let facets = facets.filter(|_| self.request.facets);
        Ok((Ranking { hits, total, total_exact, facets, found }, left))
    }

    /// What may be left outside `found` when the last of the hits wanted has the score `worst`;
    /// `None` when there are fewer.
    fn left(&self, found: &[Candidates], worst: Option<f64>) -> Left {
        if found.iter().all(|candidates| candidates.unseen.is_none()) {
            return Left::Nothing;
        }
        let Some(worst) = worst else { return Left::Unknown };
        let sources = || found.iter().zip(&self.parameters);
        let settled = self.query.is_empty()
            || sources().all(|(candidates, parameters)| {
                candidates.unseen.is_none_or(|unseen| unseen.most(parameters) <= worst)
            });
        if settled {
            return Left::Nothing;
        }
        // The next search may add up the scores of terms in another order.
        let rounding = ROUNDING * worst.abs().max(1.0);
        // What has another bonus has been found, and is again.
        let floor = |(candidates, parameters): (&Candidates, &Parameters)| {
            candidates.unseen.map(|unseen| worst - unseen.bonus(parameters) - rounding)
        };
        Left::Above(sources().map(floor).collect())
    }

    fn boosts(
        &self,
        source: usize,
        hit: &Candidate,
        confidence: f64,
    ) -> impl Iterator<Item = (Boost, f64)> {
        let scope = self.sources.get(source).map(ItemSource::scope);
        let parameters = self.parameters.get(source).copied().unwrap_or_default();
        scope.into_iter().flat_map(move |scope| {
            let signals = Signals {
                scope,
                updated_at: hit.known.updated_at,
                pinned: hit.known.pinned,
                confidence,
                title_equals: hit.title_equals,
                title_contains: hit.title_contains,
                text_contains: hit.text_contains,
                code_contains: hit.code_contains,
            };
            score_boosts(&parameters, &signals, self.now).collect::<Vec<_>>()
        })
    }

    /// What items of a source have by themselves; `None` where nothing scores.
    fn prior<'p>(
        &'p self,
        source: usize,
        counted: &'p (dyn Fn(u64) -> bool + 'p),
    ) -> Option<Prior<'p>> {
        let one = self.sources.get(source).filter(|_| !self.query.is_empty())?;
        let (parameters, confidence) = (self.parameters.get(source)?, self.confidence.get(source)?);
        let any_counted = one.has_counters();
        Some(Prior::new(parameters, one.scope(), self.now, confidence, counted, any_counted))
    }

    /// The confidence of a hit without counters; `None` when it may have some.
    fn plain_confidence(&self, source: usize, hit: &Candidate) -> Option<f64> {
        let one = self.sources.get(source)?;
        if one.may_have_counters(hit.known.id_hash) {
            return None;
        }
        let confidence = self.confidence.get(source)?;
        Some(hit.known.basis().evaluate(&Counters::default(), self.now, confidence))
    }

    fn confidence(&self, found: &[Candidates], one: &Open, hit: &Candidate) -> Result<f64> {
        if let Some(confidence) = self.plain_confidence(one.source, hit) {
            return Ok(confidence);
        }
        let (Some(source), Some(config)) =
            (self.sources.get(one.source), self.confidence.get(one.source))
        else {
            return Ok(0.0);
        };
        let id = found.get(one.source).map(|candidates| id_of(candidates, hit)).transpose()?;
        let counters = match id.flatten() {
            Some(id) => source.counters(&id)?,
            None => Counters::default(),
        };
        Ok(hit.known.basis().evaluate(&counters, self.now, config))
    }

    /// Counts a match by loading it, where the index cannot know whether it counts.
    fn count(
        &self,
        facets: &mut FacetCounts,
        found: &[Candidates],
        one: &Open,
        hit: &Candidate,
    ) -> Result<()> {
        let (Some(source), Some(candidates)) =
            (self.sources.get(one.source), found.get(one.source))
        else {
            return Ok(());
        };
        let Some(id) = id_of(candidates, hit)? else { return Ok(()) };
        if let Some(item) = source.item(&id)? {
            let mut counter = FacetCounter { matches: 1, ..FacetCounter::default() };
            counter.types.insert(item.item_type.as_str().to_owned(), 1);
            counter.tags.extend(item.facets.tags.into_iter().map(|tag| (tag, 1)));
            counter.languages.extend(item.language.map(|language| (language, 1)));
            add_facets(facets, source.scope().as_str(), &counter);
        }
        Ok(())
    }

    /// Every term of a hit's score.
    pub(super) fn explain(&self, ranking: &Ranking, scored: &Scored) -> Result<Explanation> {
        let mut explanation = Explanation::default();
        let (Some(candidates), Some(parameters)) =
            (ranking.found.get(scored.source), self.parameters.get(scored.source))
        else {
            return Ok(explanation);
        };
        let Some(hit) = candidates.hits.get(scored.candidate) else { return Ok(explanation) };
        explanation.parameters =
            parameters.named().map(|(name, value)| (name.to_owned(), value)).collect();
        if self.query.is_empty() {
            return Ok(explanation);
        }
        explanation.bm25 = candidates
            .explain(hit, &self.query, &self.statistics, parameters)
            .map_err(|error| EngineError::Internal {
                context: "explain a score",
                message: error.to_string(),
            })?;
        if !self.tells_counts {
            // Items that the caller may not see are counted, too.
            for term in &mut explanation.bm25 {
                (term.document_frequency, term.idf) = (None, None);
            }
        }
        explanation.boosts = self
            .boosts(scored.source, hit, scored.confidence)
            .map(|(boost, value)| (boost.as_str().to_owned(), value))
            .collect();
        Ok(explanation)
    }
}

fn id_of(candidates: &Candidates, hit: &Candidate) -> Result<Option<ItemId>> {
    let id = candidates.id(hit).map_err(|error| TextError::Internal {
        context: "read an id from the text index",
        message: error.to_string(),
    })?;
    Ok(id.and_then(|id| ItemId::new(id).ok()))
}
