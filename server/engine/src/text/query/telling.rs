//! Which words of a long query are worth scoring. Every word costs a list of postings in each
//! field; past a certain number the common ones only cost.

use super::ParsedQuery;

/// Words of a query that are scored at most.
pub(crate) const MAX_SCORED_WORDS: usize = 16;

impl ParsedQuery {
    /// Which of the query's terms to score, in their order: all of a short query, and of a longer
    /// one those of the `MAX_SCORED_WORDS` words that fewest items contain. `frequency` says in
    /// how many items the term at an index occurs; what occurs nowhere is not scored, unless all
    /// of them do.
    #[must_use]
    pub fn scored(&self, frequency: impl Fn(usize) -> u64) -> Vec<bool> {
        if self.words() <= MAX_SCORED_WORDS {
            return vec![true; self.terms.len()];
        }
        let mut ranked: Vec<(u64, usize)> = self
            .commonness(frequency)
            .into_iter()
            .enumerate()
            .filter(|(_, frequency)| *frequency > 0)
            .map(|(word, frequency)| (frequency, word))
            .collect();
        if ranked.is_empty() {
            // A query without terms would mean everything, not nothing.
            return vec![true; self.terms.len()];
        }
        ranked.sort_unstable();
        ranked.truncate(MAX_SCORED_WORDS);
        self.terms.iter().map(|term| ranked.iter().any(|(_, word)| *word == term.word)).collect()
    }

    fn words(&self) -> usize {
        self.terms.iter().map(|term| term.word + 1).max().unwrap_or(0)
    }

    /// How common each word is: as its rarest term (`maxChars` is as rare as its whole) in the
    /// field where that is most common (a frequent word is not rare for being in one title).
    pub(crate) fn commonness(&self, frequency: impl Fn(usize) -> u64) -> Vec<u64> {
        let mut most = vec![0_u64; self.words()];
        let numbered: Vec<_> = self.terms.iter().enumerate().collect();
        let same = |a: &(usize, &super::QueryTerm), b: &(usize, &super::QueryTerm)| {
            (a.1.field, a.1.word) == (b.1.field, b.1.word)
        };
        for terms in numbered.chunk_by(same) {
            let rarest = terms.iter().map(|(index, _)| frequency(*index)).filter(|n| *n > 0).min();
            let slot = terms.first().and_then(|(_, term)| most.get_mut(term.word));
            if let (Some(rarest), Some(slot)) = (rarest, slot) {
                *slot = rarest.max(*slot);
            }
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{TextField, parse};

    /// The scored terms of the text field, when a term is in as many items as `frequency` says.
    fn scored(query: &str, frequency: impl Fn(TextField, &str) -> u64) -> Vec<String> {
        let query = parse(query);
        let mask = query.scored(|at| frequency(query.terms[at].field, &query.terms[at].term));
        assert_eq!(mask.len(), query.terms.len());
        let kept = query.terms.iter().zip(mask).filter(|(_, kept)| *kept);
        kept.filter(|(term, _)| term.field == TextField::Text)
            .map(|(term, _)| term.term.clone())
            .collect()
    }

    fn words(count: u8) -> String {
        let words = (0..count)
            .map(|n| format!("zz{}{}", char::from(b'a' + n / 26), char::from(b'a' + n % 26)));
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_short_query_is_scored_whole() {
        assert_eq!(scored(&words(16), |_, _| 0).len(), 16);
    }

    #[test]
    fn a_long_query_of_words_that_occur_nowhere_keeps_them() {
        assert_eq!(scored(&words(20), |_, _| 0).len(), 20);
    }

    #[test]
    fn of_a_long_query_the_rarest_words_that_occur_are_scored() {
        let frequency = |_, term: &str| match term {
            "zzaa" => 0,
            "zzad" => 1,
            "zzab" | "zzac" => 900,
            _ => 10,
        };
        let kept = scored(&words(20), frequency);
        assert_eq!(kept.len(), MAX_SCORED_WORDS);
        for common in ["zzaa", "zzab", "zzac"] {
            assert!(!kept.contains(&common.to_owned()), "{kept:?}");
        }
        assert!(kept.contains(&"zzad".to_owned()));
        // Of equals the earlier ones.
        assert!(kept.contains(&"zzas".to_owned()) && !kept.contains(&"zzat".to_owned()));
    }

    #[test]
    fn a_word_is_as_rare_as_its_rarest_term_where_it_is_most_common() {
        let query = format!("maxChars often {}", words(16));
        let frequency = |field, term: &str| match (field, term) {
            (_, "max" | "char" | "chars") => 900,
            (_, "maxchar" | "maxchars") | (TextField::Title, "often") => 1,
            (TextField::Text, "often") => 800,
            _ => 100,
        };
        let kept = scored(&query, frequency);
        assert!(kept.contains(&"max".to_owned()) && !kept.contains(&"often".to_owned()));
        assert_eq!(kept.len(), 3 + 15);
    }
}
