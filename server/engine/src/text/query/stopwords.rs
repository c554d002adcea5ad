//! English function words. In a question they say nothing about the answer, yet in a small
//! collection they are rare enough to count; they are therefore left out when there are other
//! words. They are indexed all the same, so that phrases can contain them.

/// Whether `word` is a function word.
pub(super) fn is_stopword(word: &str) -> bool {
    let trimmed = word.trim_matches(|c: char| !c.is_alphanumeric());
    let lower = trimmed.to_lowercase().replace('\u{2019}', "'");
    WORDS.binary_search(&lower.as_str()).is_ok()
}

#[rustfmt::skip]
const WORDS: &[&str] = &[
    "a", "about", "am", "an", "and", "any", "are", "aren't", "as", "at", "be", "been", "being",
    "but", "by", "can", "can't", "could", "did", "didn't", "do", "does", "doesn't", "doing",
    "don't", "for", "from", "had", "has", "have", "having", "he", "her", "hers", "him", "his",
    "how", "i", "if", "in", "into", "is", "isn't", "it", "it's", "its", "many", "me", "might",
    "much", "my", "of", "on", "or", "our", "ours", "shall", "she", "should", "so", "some", "such",
    "than", "that", "the", "their", "theirs", "them", "then", "there", "these", "they", "this",
    "those", "to", "us", "was", "wasn't", "we", "were", "weren't", "what", "what's", "when",
    "where", "which", "who", "whom", "whose", "why", "will", "with", "would", "you", "your",
    "yours",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_ignores_case_and_edges() {
        assert!(WORDS.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(is_stopword("What?") && is_stopword("don\u{2019}t") && !is_stopword("deadline"));
    }
}
