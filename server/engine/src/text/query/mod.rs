//! The query language: words (any may occur), `"a phrase"` (must occur as such), `-word` and
//! `-"a phrase"` (must not occur). Nothing is an error: what has no meaning is a separator, as is
//! a quote that is never closed or that is an inch mark.

mod stopwords;
mod telling;

use super::document::TextField;
use super::tokenizer::{Mode, with_tokens};

/// Longest query looked at, in characters.
pub const MAX_QUERY_CHARS: usize = 4096;
/// Words and phrases looked at.
pub const MAX_QUERY_TERMS: usize = 64;

/// A query as understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParsedQuery {
    pub(crate) terms: Vec<QueryTerm>,
    pub(crate) required: Vec<Phrase>,
    pub(crate) excluded: Vec<Phrase>,
    /// All positive words in order, for the bonuses of items that contain them as a phrase.
    pub(crate) whole: Phrase,
    /// The same as text.
    pub(crate) whole_text: String,
    understood: String,
    truncated: bool,
}

/// A term looked for in a field; found items score by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueryTerm {
    pub(crate) field: TextField,
    pub(crate) term: String,
    /// Number of the word of the query it was made from.
    pub(crate) word: usize,
}

/// Parts that must follow each other, as each kind of field has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Phrase {
    pub(crate) prose: Vec<String>,
    pub(crate) code: Vec<String>,
}

impl Phrase {
    fn of(text: &str) -> Self {
        Self { prose: parts(text, Mode::Prose), code: parts(text, Mode::Code) }
    }

    /// The parts as `field` has them.
    pub(crate) fn parts(&self, field: TextField) -> &[String] {
        match field.mode() {
            Mode::Prose => &self.prose,
            Mode::Code => &self.code,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.prose.is_empty() && self.code.is_empty()
    }
}

impl ParsedQuery {
    /// Whether there is nothing to look for, so that the newest items are the answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty() && self.required.is_empty()
    }

    /// Whether nothing in it means anything to a search.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.is_empty() && self.excluded.is_empty()
    }

    /// The query as it was understood: single spaces, phrases in quotes.
    #[must_use]
    pub fn understood(&self) -> &str {
        &self.understood
    }

    /// Whether words were left out because there were too many.
    #[must_use]
    pub const fn truncated(&self) -> bool {
        self.truncated
    }
}

/// Reads a query. Never fails.
#[must_use]
pub fn parse(text: &str) -> ParsedQuery {
    let mut query = ParsedQuery::default();
    let cut = text.char_indices().nth(MAX_QUERY_CHARS).map_or(text.len(), |(at, _)| at);
    query.truncated = cut < text.len();
    let clauses = clauses(text.get(..cut).unwrap_or_default());
    query.truncated |= clauses.len() > MAX_QUERY_TERMS;

    let mut content: Vec<String> = Vec::new();
    let mut positive: Vec<String> = Vec::new();
    for clause in clauses.into_iter().take(MAX_QUERY_TERMS) {
        let phrase = Phrase::of(&clause.text);
        if phrase.is_empty() {
            continue;
        }
        if !query.understood.is_empty() {
            query.understood.push(' ');
        }
        if clause.excluded {
            query.understood.push('-');
        }
        if clause.quoted {
            query.understood.push('"');
            query.understood.push_str(&clause.text);
            query.understood.push('"');
        } else {
            query.understood.push_str(&clause.text);
        }
        if clause.excluded {
            query.excluded.push(phrase);
            continue;
        }
        if clause.quoted {
            query.required.push(phrase);
            content.extend(clause.text.split(' ').map(str::to_owned));
        } else if !stopwords::is_stopword(&clause.text) {
            content.push(clause.text.clone());
        }
        positive.push(clause.text);
    }
    query.whole_text = positive.join(" ");
    query.whole = Phrase::of(&query.whole_text);
    let chosen = if content.is_empty() { positive } else { content };
    for field in TextField::ALL {
        for (number, word) in chosen.iter().enumerate() {
            add_terms(&mut query, field, number, word);
        }
    }
    query
}

/// Adds the terms of a word, each once.
fn add_terms(query: &mut ParsedQuery, field: TextField, number: usize, word: &str) {
    let limit = MAX_QUERY_TERMS * (field.index() + 1);
    with_tokens(word, field.mode(), |tokens| {
        for token in tokens.iter() {
            if query.terms.len() >= limit {
                query.truncated = true;
                return;
            }
            let known =
                query.terms.iter().any(|known| known.field == field && known.term == token.term);
            if !known {
                query.terms.push(QueryTerm { field, term: token.term.to_owned(), word: number });
            }
        }
    });
}

/// A word of a text that a query looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WordMatch {
    /// Number of the term within the query.
    pub term: usize,
    /// First byte in the text.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
}

/// The words of `text`, read as `field` is, that the query looks for, in order.
#[must_use]
pub fn word_matches(text: &str, field: TextField, query: &ParsedQuery) -> Vec<WordMatch> {
    with_tokens(text, field.mode(), |tokens| {
        let term = |wanted: &str| {
            query.terms.iter().position(|term| term.field == field && term.term == wanted)
        };
        tokens
            .iter()
            .filter_map(|token| {
                let term = term(token.term)?;
                Some(WordMatch { term, start: token.start, end: token.end })
            })
            .collect()
    })
}

struct Clause {
    text: String,
    quoted: bool,
    excluded: bool,
}

fn clauses(text: &str) -> Vec<Clause> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        // A minus excludes only in front of something, at the beginning of a word.
        let after_minus = rest.strip_prefix('-').filter(|after| {
            leading_phrase(after).is_some() || after.starts_with(char::is_alphanumeric)
        });
        let excluded = after_minus.is_some();
        let body = after_minus.unwrap_or(rest);
        let (quoted, inside, after) = if let Some((inside, after)) = leading_phrase(body) {
            (true, inside, after)
        } else {
            // Behind a quote that nothing closes a minus does not exclude, now or when what was
            // understood is read again.
            let unclosed = body.strip_prefix(is_quote).map(|body| body.trim_start_matches('-'));
            let body = unclosed.unwrap_or(body);
            let end = body.find(|c: char| c.is_whitespace() || is_quote(c)).unwrap_or(body.len());
            let (inside, after) = body.split_at(end);
            let inches = inside.ends_with(|c: char| c.is_ascii_digit());
            let after = after.strip_prefix(['"', '\u{201d}']).filter(|_| inches).unwrap_or(after);
            (false, inside, after)
        };
        let normal: Vec<&str> = inside.split_whitespace().collect();
        if !normal.is_empty() {
            found.push(Clause { text: normal.join(" "), quoted, excluded });
        }
        rest = after.trim_start();
    }
    found
}

/// What stands between quotes at the beginning of `text`, and what follows.
fn leading_phrase(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix(is_quote)?;
    let end = inside.find(is_quote)?;
    let (inside, after) = inside.split_at(end);
    Some((inside, after.strip_prefix(is_quote)?))
}

/// Whether `c` begins or ends a phrase.
pub(crate) const fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}')
}

fn parts(text: &str, mode: Mode) -> Vec<String> {
    with_tokens(text, mode, |tokens| {
        tokens.parts().take(MAX_QUERY_TERMS).map(|token| token.term.to_owned()).collect()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms_of(query: &ParsedQuery, field: TextField) -> Vec<String> {
        let terms = query.terms.iter().filter(|term| term.field == field);
        terms.map(|term| term.term.clone()).collect()
    }

    fn text_terms(query: &str) -> Vec<String> {
        terms_of(&parse(query), TextField::Text)
    }

    #[test]
    fn words_phrases_and_exclusions_are_told_apart() {
        let query = parse("error \"connection reset\" -timeout -\"try again\"");
        assert_eq!(query.required, [Phrase::of("connection reset")]);
        assert_eq!(query.excluded, [Phrase::of("timeout"), Phrase::of("try again")]);
        assert_eq!(query.understood(), "error \"connection reset\" -timeout -\"try again\"");
        assert_eq!(terms_of(&query, TextField::Code), ["error", "connection", "reset"]);
    }

    #[test]
    fn odd_punctuation_degrades_to_something_sensible() {
        for (text, understood) in [
            ("\"never closed", "never closed"),
            ("-\"never closed", "never closed"),
            ("27\" monitor stand", "27 monitor stand"),
            ("a 27\" or 32\u{201d} monitor", "a 27 or 32 monitor"),
            ("say \u{201c}hello there\u{201d}", "say \"hello there\""),
            ("- -- \"\" \" \"", ""),
            ("a - b", "a b"),
            ("well-known", "well-known"),
            ("--flag", "--flag"),
            ("red \"-door", "red door"),
            ("foo\"bar baz\"qux", "foo \"bar baz\" qux"),
            ("+must (x OR y)^2~", "+must (x OR y)^2~"),
        ] {
            assert_eq!(parse(text).understood(), understood, "{text}");
        }
        assert!(parse("?! ...").is_empty());
    }

    #[test]
    fn function_words_count_only_when_there_is_nothing_else() {
        assert_eq!(text_terms("what is the deadline"), ["deadlin"]);
        assert_eq!(text_terms("the who"), ["the", "who"]);
        assert_eq!(text_terms("Who's the owner and where's it?"), ["owner"]);
        assert_eq!(text_terms("\"The Who\" concert"), ["the", "who", "concert"]);
        assert_eq!(parse("what is the deadline").whole.code, ["what", "is", "the", "deadline"]);
    }

    #[test]
    fn each_field_gets_terms_as_it_has_them() {
        let query = parse("parsing maxChars");
        assert_eq!(terms_of(&query, TextField::Text)[0], "pars");
        assert_eq!(terms_of(&query, TextField::Symbols), ["parsing", "maxchars", "max", "chars"]);
    }

    #[test]
    fn the_number_of_terms_is_bounded() {
        let long: Vec<String> = (0..1000).map(|n| format!("word{n}x")).collect();
        let query = parse(&long.join(" "));
        assert!(query.truncated());
        assert!(query.terms.len() <= MAX_QUERY_TERMS * TextField::ALL.len());
        assert!(parse(&"x".repeat(MAX_QUERY_CHARS + 1)).truncated());
        assert!(!parse("short").truncated());
    }

    proptest! {
        #[test]
        fn any_text_is_a_query(text in "\\PC{0,300}") {
            let query = parse(&text);
            prop_assert!(query.terms.len() <= MAX_QUERY_TERMS * TextField::ALL.len());
            let again = parse(query.understood());
            prop_assert_eq!(again.terms, query.terms);
        }
    }
}
