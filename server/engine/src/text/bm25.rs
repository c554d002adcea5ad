//! BM25 as this engine computes it, and a scorer of our own for k1 and b other than tantivy's.
//!
//! With k1 = 1.2 and b = 0.75 the committed index scores with tantivy's term queries, which skip
//! whole blocks that cannot reach the top (block-max WAND). Other values make its stored block
//! maxima meaningless, so [`TunedTermQuery`] scores every posting of the term instead: right, but
//! slower on large scopes.

use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{Postings, SegmentPostings};
use tantivy::query::{EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, Score, SegmentReader, TantivyError, Term};

/// k1 that tantivy's own scorer uses.
pub(crate) const TANTIVY_K1: f32 = 1.2;
/// b that tantivy's own scorer uses.
pub(crate) const TANTIVY_B: f32 = 0.75;

/// Scores one term in one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TermScoring {
    /// Items counted for idf (df).
    pub(crate) frequency: u64,
    /// ln(1 + (N - df + 0.5) / (df + 0.5)).
    pub(crate) idf: f32,
    /// idf * (1 + k1) * field weight.
    factor: f32,
    k1: f32,
    b: f32,
    average_length: f32,
}

impl TermScoring {
    pub(crate) fn new(
        documents: u64,
        frequency: u64,
        average_length: f32,
        (k1, b): (f32, f32),
        field_weight: f32,
    ) -> Self {
        let frequency = frequency.min(documents);
        let rest = (documents - frequency) as f32 + 0.5;
        let idf = (1.0 + rest / (frequency as f32 + 0.5)).ln();
        Self { frequency, idf, factor: idf * (1.0 + k1) * field_weight, k1, b, average_length }
    }

    /// What a term adds that occurs `term_frequency` times in a field of `length` terms. The
    /// length is rounded as the index stores it, so that an item scores alike before and after
    /// it is committed.
    pub(crate) fn score(&self, term_frequency: u32, length: u32) -> f32 {
        self.score_by_norm(term_frequency, FieldNormReader::fieldnorm_to_id(length))
    }

    /// The same for a length as the index stores it.
    pub(crate) fn score_by_norm(&self, term_frequency: u32, norm: u8) -> f32 {
        let length = FieldNormReader::id_to_fieldnorm(norm) as f32;
        let relative = if self.average_length > 0.0 { length / self.average_length } else { 1.0 };
        let saturation = self.k1 * (1.0 - self.b + self.b * relative);
        let occurrences = term_frequency as f32;
        self.factor * (occurrences / (occurrences + saturation))
    }
}

/// A term scored with k1 and b of our choice.
#[derive(Debug, Clone)]
pub(crate) struct TunedTermQuery {
    pub(crate) term: Term,
    pub(crate) scoring: TermScoring,
}

impl Query for TunedTermQuery {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(TunedTermWeight { term: self.term.clone(), scoring: self.scoring }))
    }

    fn query_terms<'a>(&'a self, visitor: &mut dyn FnMut(&'a Term, bool)) {
        visitor(&self.term, false);
    }
}

struct TunedTermWeight {
    term: Term,
    scoring: TermScoring,
}

impl TunedTermWeight {
    fn specific(
        &self,
        reader: &SegmentReader,
        boost: Score,
    ) -> tantivy::Result<Option<TunedTermScorer>> {
        let field = self.term.field();
        let postings = reader
            .inverted_index(field)?
            .read_postings(&self.term, IndexRecordOption::WithFreqs)?;
        let Some(postings) = postings else { return Ok(None) };
        let norms = reader.get_fieldnorms_reader(field)?;
        Ok(Some(TunedTermScorer { postings, norms, scoring: self.scoring, boost }))
    }
}

impl Weight for TunedTermWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        Ok(match self.specific(reader, boost)? {
            Some(scorer) => Box::new(scorer),
            None => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        if let Some(mut scorer) = self.specific(reader, 1.0)?
            && scorer.doc() <= doc
            && scorer.seek(doc) == doc
        {
            return Ok(Explanation::new("BM25 with configured k1 and b", scorer.score()));
        }
        Err(TantivyError::InvalidArgument(format!("document {doc} does not match")))
    }
}

struct TunedTermScorer {
    postings: SegmentPostings,
    norms: FieldNormReader,
    scoring: TermScoring,
    boost: Score,
}

impl DocSet for TunedTermScorer {
    fn advance(&mut self) -> DocId {
        self.postings.advance()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        self.postings.seek(target)
    }

    fn doc(&self) -> DocId {
        self.postings.doc()
    }

    fn size_hint(&self) -> u32 {
        self.postings.size_hint()
    }
}

impl Scorer for TunedTermScorer {
    fn score(&mut self) -> Score {
        let norm = self.norms.fieldnorm_id(self.postings.doc());
        self.boost * self.scoring.score_by_norm(self.postings.term_freq(), norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_is_that_of_tantivy_for_its_parameters() {
        let ours = TermScoring::new(1000, 7, 40.0, (TANTIVY_K1, TANTIVY_B), 1.0);
        let theirs = tantivy::query::Bm25Weight::for_one_term(7, 1000, 40.0);
        for (frequency, length) in [(1, 3), (2, 40), (9, 700), (1, 0)] {
            let norm = FieldNormReader::fieldnorm_to_id(length);
            let (a, b) = (ours.score(frequency, length), theirs.score(norm, frequency));
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn a_larger_k1_rewards_repetition_and_b_zero_ignores_length() {
        let with = |k1: f32, b: f32| TermScoring::new(1000, 7, 40.0, (k1, b), 1.0);
        let gain = |scoring: TermScoring| scoring.score(8, 40) / scoring.score(1, 40);
        assert!(gain(with(2.0, 0.75)) > gain(with(0.5, 0.75)));
        assert!((with(1.2, 0.0).score(2, 10) - with(1.2, 0.0).score(2, 1000)).abs() < 1e-6);
    }
}
