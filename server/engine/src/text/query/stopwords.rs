//! English function words. In a question they say nothing about the answer, yet in a small
//! collection they are rare enough to count; they are therefore left out when there are other
//! words. They are indexed all the same, so that phrases can contain them.

use crate::text::tokenizer::{Mode, with_tokens};

/// Whether `word` gives function words only (`who's` gives `who`).
pub(super) fn is_stopword(word: &str) -> bool {
    with_tokens(word, Mode::Code, |tokens| {
        tokens.iter().all(|token| WORDS.binary_search(&token.term).is_ok())
    })
}

/// As the tokenizer leaves them: without apostrophes.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "a", "about", "am", "an", "and", "any", "are", "arent", "as", "at", "be", "been", "being",
    "but", "by", "can", "cant", "could", "did", "didnt", "do", "does", "doesnt", "doing",
    "dont", "for", "from", "had", "has", "have", "having", "he", "her", "hers", "him", "his",
    "how", "i", "if", "in", "into", "is", "isnt", "it", "its", "many", "me", "might",
    "much", "my", "of", "on", "or", "our", "ours", "shall", "she", "should", "so", "some", "such",
    "than", "that", "the", "their", "theirs", "them", "then", "there", "these", "they", "this",
    "those", "to", "us", "was", "wasnt", "we", "were", "werent", "what", "when",
    "where", "which", "who", "whom", "whose", "why", "will", "with", "would", "you", "your",
    "yours",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_ignores_case_and_apostrophes() {
        assert!(WORDS.windows(2).all(|pair| pair[0] < pair[1]));
        for word in ["What?", "don\u{2019}t", "Who's", "they're", "where's", "it's"] {
            assert!(is_stopword(word), "{word}");
        }
        assert!(!is_stopword("deadline") && !is_stopword("to-do"));
    }
}
