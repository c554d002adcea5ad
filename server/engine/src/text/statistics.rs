//! What BM25 must know about a collection. Summed over the scopes of a query, so that their
//! scores compare.

use tantivy::query::Bm25StatisticsProvider;
use tantivy::schema::Field;
use tantivy::{TantivyError, Term};

use super::bm25::TermScoring;
use super::document::{PerField, TextField};
use super::query::ParsedQuery;
use super::schema::Fields;

/// Counts for one query. Deleted and overwritten items are counted until the index merges their
/// segment, as is usual for such indexes; the same counts score every item, so that order does
/// not suffer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    pub(crate) documents: u64,
    pub(crate) tokens: PerField<u64>,
    /// For each term of the query, in its order.
    pub(crate) frequencies: Vec<u64>,
}

impl Statistics {
    /// Statistics of nothing, for a query.
    #[must_use]
    pub fn empty(query: &ParsedQuery) -> Self {
        Self { frequencies: vec![0; query.terms.len()], ..Self::default() }
    }

    /// Adds the counts of another scope for the same query.
    pub fn add(&mut self, other: &Self) {
        self.documents = self.documents.saturating_add(other.documents);
        for (sum, more) in self.tokens.iter_mut().zip(other.tokens) {
            *sum = sum.saturating_add(more);
        }
        for (sum, more) in self.frequencies.iter_mut().zip(&other.frequencies) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// The query without the words that are not worth scoring ([`ParsedQuery::scored`]), to which
    /// these statistics then belong; `None` when all are.
    #[must_use]
    pub fn narrow(&mut self, query: &ParsedQuery) -> Option<ParsedQuery> {
        let scored = query.scored(|term| self.frequency(term));
        if scored.iter().all(|scored| *scored) {
            return None;
        }
        let mut narrow = query.clone();
        let mut keep = scored.iter();
        narrow.terms.retain(|_| keep.next().is_some_and(|scored| *scored));
        let mut keep = scored.iter();
        self.frequencies.retain(|_| keep.next().is_some_and(|scored| *scored));
        Some(narrow)
    }

    /// Items counted.
    #[must_use]
    pub const fn documents(&self) -> u64 {
        self.documents
    }

    /// Mean number of terms of a field.
    pub(crate) fn average_length(&self, field: TextField) -> f32 {
        let [title, text, code, tags, symbols, files] = self.tokens;
        let tokens = match field {
            TextField::Title => title,
            TextField::Text => text,
            TextField::Code => code,
            TextField::Tags => tags,
            TextField::Symbols => symbols,
            TextField::Files => files,
        };
        tokens as f32 / self.documents.max(1) as f32
    }

    /// Items that contain the term at `index` of the query.
    pub(crate) fn frequency(&self, index: usize) -> u64 {
        self.frequencies.get(index).copied().unwrap_or(0).min(self.documents)
    }
}

/// Hands the summed statistics to tantivy's BM25.
pub(crate) struct Provider<'a> {
    pub(crate) statistics: &'a Statistics,
    pub(crate) query: &'a ParsedQuery,
    /// Of each term of the query.
    pub(crate) scoring: &'a [TermScoring],
    pub(crate) fields: &'a Fields,
}

impl Bm25StatisticsProvider for Provider<'_> {
    fn total_num_tokens(&self, field: Field) -> tantivy::Result<u64> {
        let position = self.fields.text.iter().position(|known| *known == field);
        position
            .and_then(|at| self.statistics.tokens.get(at).copied())
            .ok_or_else(|| TantivyError::SchemaError("field without statistics".to_owned()))
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.statistics.documents)
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        let value = term.value();
        let wanted = value.as_str();
        let index = self.query.terms.iter().position(|known| {
            self.fields.of(known.field) == term.field() && Some(known.term.as_str()) == wanted
        });
        Ok(index.and_then(|index| self.scoring.get(index)).map_or(0, |term| term.frequency))
    }
}
