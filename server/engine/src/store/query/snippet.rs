//! The passage of an item that shows why it was found.

use std::collections::HashSet;

use crate::item::Item;
use crate::text::{ParsedQuery, TextField, word_matches};

/// Length of a passage, in characters.
const PASSAGE_CHARS: usize = 240;
/// Characters shown before the first matching word.
const LEAD_CHARS: usize = 40;

/// The passage of text or code with the most different words of the query; the beginning when
/// there is none.
pub(super) fn best_passage(item: &Item, query: &ParsedQuery) -> String {
    let text = passage(&item.text, TextField::Text, query);
    let code = passage(&item.code, TextField::Code, query);
    match (text, code) {
        (Some((text_words, text)), Some((code_words, code))) => {
            if code_words > text_words {
                code
            } else {
                text
            }
        }
        (Some((_, text)), None) => text,
        (None, Some((_, code))) => code,
        (None, None) => String::new(),
    }
}

/// The number of different query words in the best passage, and the passage.
fn passage(text: &str, field: TextField, query: &ParsedQuery) -> Option<(usize, String)> {
    if text.is_empty() {
        return None;
    }
    let matches = word_matches(text, field, query);
    let mut best = (0, 0);
    for (index, first) in matches.iter().enumerate() {
        let reach = first.start + PASSAGE_CHARS;
        let inside = matches.iter().skip(index).take_while(|found| found.end <= reach);
        let different: HashSet<usize> = inside.map(|found| found.term).collect();
        if different.len() > best.0 {
            best = (different.len(), first.start);
        }
    }
    Some((best.0, cut_around(text, best.1)))
}

/// Some characters before byte `at` and a passage from there, with dots where text is left out.
fn cut_around(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or_default();
    let start = before.char_indices().rev().take(LEAD_CHARS).last().map_or(at, |(start, _)| start);
    // Begin with a whole word where there is one.
    let start = if start == 0 {
        0
    } else {
        let lead = text.get(start..at).unwrap_or_default();
        lead.char_indices()
            .find(|(_, c)| c.is_whitespace())
            .map_or(start, |(space, c)| start + space + c.len_utf8())
    };
    let rest = text.get(start..).unwrap_or_default();
    let end = rest.char_indices().nth(PASSAGE_CHARS).map_or(rest.len(), |(end, _)| end);
    let mut passage = String::new();
    if start > 0 {
        passage.push('…');
    }
    passage.push_str(rest.get(..end).unwrap_or_default().trim());
    if end < rest.len() {
        passage.push('…');
    }
    passage
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse;

    #[test]
    fn the_passage_has_the_words_looked_for() {
        let filler = "lorem ipsum dolor sit amet ".repeat(30);
        let text = format!("{filler}the retries back off exponentially {filler}");
        let (words, passage) =
            passage(&text, TextField::Text, &parse("exponential retry")).unwrap();
        assert_eq!(words, 2);
        assert!(passage.contains("retries back off exponentially"), "{passage}");
        assert!(passage.starts_with('…') && passage.ends_with('…'));
        assert!(passage.chars().count() <= PASSAGE_CHARS + LEAD_CHARS);
    }

    #[test]
    fn without_a_match_it_is_the_beginning() {
        let (words, passage) = passage("short text", TextField::Text, &parse("other")).unwrap();
        assert_eq!((words, passage.as_str()), (0, "short text"));
        assert_eq!(cut_around("日本語のテキスト", 9), "日本語のテキスト");
    }

    #[test]
    fn wide_spaces_end_words_too() {
        for space in ['\u{3000}', '\u{a0}', ' '] {
            let text = format!("{}{space}後の needle", "前".repeat(60));
            let passage = cut_around(&text, text.find("needle").unwrap());
            assert_eq!(passage, "…後の needle", "{space:?}");
        }
    }
}
