//! From the words of a query to tantivy's queries over the committed index.

use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, EmptyQuery, EnableScoring, Occur, PhraseQuery, Query,
    Scorer, TermQuery, Weight,
};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet as _, SeekDangerResult, SegmentReader, Term};

use super::bm25::{TANTIVY_B, TANTIVY_K1, TermScoring, TunedTermQuery};
use super::committed::Search;
use super::document::TextField;
use super::filter::DocBits;
use super::query::{Phrase, QueryTerm};
use super::schema::Fields;
use super::statistics::Provider;

/// Phrases are looked up on their own when their rarest word is in at most so many items.
const CHEAP_PHRASE: u64 = 4_096;
/// What a match must meet besides having a word of the query.
pub(crate) struct Condition {
    weight: Box<dyn Weight>,
    /// Whether what meets it had better be looked at one by one: because it is little, or because
    /// walking over the best matches would pass over many that do not.
    pub(crate) leads: bool,
}

impl Condition {
    /// The items of a segment that meet it.
    pub(crate) fn docs(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>> {
        self.weight.scorer(reader, 1.0)
    }
}

impl Search<'_> {
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

    /// One query for each term that occurs anywhere, scored by BM25.
    #[expect(clippy::cast_possible_truncation, reason = "scores are f32 in the index")]
    fn term_queries(&self) -> Vec<Box<dyn Query>> {
        let weights = &self.parameters.weights;
        let fast = (self.parameters.k1 as f32, self.parameters.b as f32) == (TANTIVY_K1, TANTIVY_B);
        self.live_terms()
            .map(|(term, field, scoring)| -> Box<dyn Query> {
                if fast {
                    let query = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
                    Box::new(BoostQuery::new(query, weights.of(field) as f32))
                } else {
                    Box::new(TunedTermQuery { term, scoring })
                }
            })
            .collect()
    }

    fn weight(&self, query: &dyn Query) -> tantivy::Result<Box<dyn Weight>> {
        let provider = Provider {
            statistics: self.statistics,
            query: self.query,
            scoring: self.scoring,
            fields: self.fields,
        };
        let searcher = &self.view.searcher;
        query.weight(EnableScoring::enabled_from_statistics_provider(&provider, searcher))
    }

    /// Everything that has a word of the query, scored.
    pub(crate) fn any_term(&self) -> tantivy::Result<Box<dyn Weight>> {
        let mut clauses = self.term_queries();
        if clauses.len() == 1 {
            // A union of one is not recognised as one that block-max WAND can walk.
            clauses.push(Box::new(EmptyQuery));
        }
        if self.query.terms.is_empty() {
            self.weight(&AllQuery)
        } else if clauses.is_empty() {
            self.weight(&EmptyQuery)
        } else {
            self.weight(&BooleanQuery::union(clauses))
        }
    }

    /// The same, each term apart.
    pub(crate) fn each_term(&self) -> tantivy::Result<Vec<Box<dyn Weight>>> {
        self.term_queries().iter().map(|query| self.weight(&**query)).collect()
    }

    /// Everything that has a word of the query, not scored.
    pub(crate) fn any_term_unscored(&self) -> tantivy::Result<Box<dyn Weight>> {
        let terms = self.live_terms().map(|(term, ..)| -> Box<dyn Query> {
            Box::new(TermQuery::new(term, IndexRecordOption::Basic))
        });
        let clauses: Vec<Box<dyn Query>> = terms.collect();
        let scoring = EnableScoring::disabled_from_searcher(&self.view.searcher);
        if self.query.terms.is_empty() {
            AllQuery.weight(scoring)
        } else if clauses.is_empty() {
            EmptyQuery.weight(scoring)
        } else {
            BooleanQuery::union(clauses).weight(scoring)
        }
    }

    /// Everything that must be so: selective filters, phrases in quotes, and `more`. `None` when
    /// nothing must.
    pub(crate) fn condition(
        &self,
        more: Option<Box<dyn Query>>,
    ) -> tantivy::Result<Option<Condition>> {
        let phrases = self.query.required.iter();
        // A single word in quotes is met by nearly everything that the search would offer.
        let leads = more.is_some()
            || !self.plan.leading.is_empty()
            || phrases.clone().any(|phrase| phrase.prose.len() > 1 || phrase.code.len() > 1);
        let leading = self.plan.leading.iter().map(|query| query.box_clone());
        let clauses: Vec<_> = leading
            .chain(phrases.map(|phrase| self.anywhere(phrase)))
            .chain(more)
            .map(|query| (Occur::Must, query))
            .collect();
        if clauses.is_empty() {
            return Ok(None);
        }
        let scoring = EnableScoring::disabled_from_searcher(&self.view.searcher);
        let weight = BooleanQuery::new(clauses).weight(scoring)?;
        Ok(Some(Condition { weight, leads }))
    }

    /// The condition that the whole query is a phrase in `field`; `Err` with whether any item may
    /// meet it when it is not worth a search of its own.
    pub(crate) fn phrase_condition(&self, field: TextField) -> Result<Box<dyn Query>, bool> {
        let parts = self.query.whole.parts(field);
        match parts.iter().filter_map(|part| self.frequency_of(field, part)).min() {
            Some(0) => return Err(false),
            Some(rarest) if rarest <= CHEAP_PHRASE => {}
            _ => return Err(true),
        }
        phrase_query(self.fields, field, parts).ok_or(false)
    }

    /// Items with a term of the query in `field`; `None` when it is not among those scored.
    fn frequency_of(&self, field: TextField, part: &str) -> Option<u64> {
        let known = |term: &QueryTerm| term.field == field && term.term == part;
        let index = self.query.terms.iter().position(known)?;
        Some(self.statistics.frequency(index))
    }

    /// The documents of a segment that contain something excluded. (tantivy's own exclusion asks
    /// a phrase scorer for documents that lie behind it, and fails.)
    pub(crate) fn excluded(&self, reader: &SegmentReader) -> tantivy::Result<Option<DocBits>> {
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
