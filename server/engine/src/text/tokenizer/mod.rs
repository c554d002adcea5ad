//! Turns text into terms, the same way for the index, the in-memory tail and queries.
//!
//! A *chunk* is a run of letters and digits that may be joined by `_ - . / \ : @`, such as
//! `max_chars`, `src/text/mod.rs`, `std::fs` or `well-known`. Each chunk gives its *parts* at
//! consecutive positions, and its *wholes* (the chunk, each path segment, each camelCase word) at
//! the position of their first part. A phrase is matched over parts alone. Joints `_` and `-`
//! vanish in a whole, so that `maxChars`, `max_chars` and `max-chars` share one.
//!
//! Code is split into parts at joints, at camelCase humps and between letters and digits, so that
//! `"max chars"` finds `maxChars`. Prose is split at joints only, so that `"github actions"` finds
//! `GitHub Actions`; the pieces of a camelCase word can be found too, at the position of the word.
//!
//! Prose is stemmed (English Snowball, after irregular forms are led back to their base); code,
//! symbols and files are not. Scripts without spaces give every character as a part and every
//! adjacent pair as a whole.

mod fold;
mod forms;
mod segment;
mod stream;

use std::cell::RefCell;

use frostem::{Algorithm, Stemmer};
use hashbrown::HashMap;

pub(crate) use stream::CodeAwareTokenizer;

/// How words become terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// Words are led back to their stem.
    Prose,
    /// Words stay as they are written, apart from case and accents.
    Code,
}

/// One term of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// Folded (and in prose stemmed) form.
    pub(crate) term: &'a str,
    /// Counts parts; a whole has the position of its first part, a piece that of its word.
    pub(crate) position: u32,
    /// Whether this is a part, of which phrases are made.
    pub(crate) part: bool,
    /// Bytes of the text it was made from.
    pub(crate) start: usize,
    /// End of those bytes.
    pub(crate) end: usize,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    term_start: usize,
    term_end: usize,
    position: u32,
    part: bool,
    start: usize,
    end: usize,
}

/// The terms of one text. Reused between texts so that a token costs no allocation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    buffer: String,
    spans: Vec<Span>,
    next_position: u32,
    stems: StemCache,
}

impl Tokens {
    /// Replaces the content by the terms of `text`.
    pub(crate) fn analyze(&mut self, text: &str, mode: Mode) {
        self.buffer.clear();
        self.spans.clear();
        self.next_position = 0;
        segment::segment(text, mode, self);
    }

    /// Number of terms, parts and wholes alike: the length that scoring uses.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The term at `index`.
    pub(crate) fn get(&self, index: usize) -> Option<Token<'_>> {
        let span = self.spans.get(index)?;
        Some(Token {
            term: self.buffer.get(span.term_start..span.term_end).unwrap_or_default(),
            position: span.position,
            part: span.part,
            start: span.start,
            end: span.end,
        })
    }

    /// All terms in order of position, a whole before its parts, a word before its pieces.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Token<'_>> {
        (0..self.spans.len()).filter_map(|index| self.get(index))
    }

    /// The terms of which phrases are made, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Token<'_>> {
        self.iter().filter(|token| token.part)
    }

    /// Adds a part at the next position, and says which that is.
    fn push_part(&mut self, text: &str, start: usize, end: usize, mode: Mode) -> Option<u32> {
        let term_start = self.push_term(text.get(start..end)?, mode)?;
        let position = self.next_position;
        self.next_position = position.saturating_add(1);
        self.finish(term_start, position, true, start, end);
        Some(position)
    }

    /// Adds a piece of the part at `position`.
    fn push_piece(&mut self, text: &str, start: usize, end: usize, mode: Mode, position: u32) {
        let Some(word) = text.get(start..end) else { return };
        if let Some(term_start) = self.push_term(word, mode) {
            self.finish(term_start, position, false, start, end);
        }
    }

    /// Adds a whole that begins at the part to come. Joints in `dropped` vanish.
    fn push_whole(&mut self, text: &str, start: usize, end: usize, mode: Mode, dropped: &[char]) {
        let Some(word) = text.get(start..end) else { return };
        let term_start = if word.contains(dropped) {
            let joined: String = word.chars().filter(|c| !dropped.contains(c)).collect();
            self.push_term(&joined, mode)
        } else {
            self.push_term(word, mode)
        };
        let Some(term_start) = term_start else { return };
        let repeated = self.spans.last().is_some_and(|last| {
            !last.part
                && last.position == self.next_position
                && self.buffer.get(last.term_start..last.term_end) == self.buffer.get(term_start..)
        });
        if repeated {
            self.buffer.truncate(term_start);
        } else {
            self.finish(term_start, self.next_position, false, start, end);
        }
    }

    /// Appends the term of `word` to the buffer; `None` when nothing is left of it.
    fn push_term(&mut self, word: &str, mode: Mode) -> Option<usize> {
        let term_start = self.buffer.len();
        fold::fold_into(word, &mut self.buffer);
        if mode == Mode::Prose {
            self.stems.stem_tail(&mut self.buffer, term_start);
        }
        (self.buffer.len() > term_start).then_some(term_start)
    }

    fn finish(&mut self, term_start: usize, position: u32, part: bool, start: usize, end: usize) {
        let term_end = self.buffer.len();
        self.spans.push(Span { term_start, term_end, position, part, start, end });
    }
}

/// Stems already computed. Stemming takes a large share of the cost of analysing a text, and the
/// words of a store repeat.
#[derive(Debug, Clone, Default)]
struct StemCache {
    stems: HashMap<Box<str>, Box<str>>,
}

impl StemCache {
    /// When the cache has so many words it starts anew: about 1 MB.
    const LIMIT: usize = 16_384;

    /// Replaces the word in `buffer[start..]` by its stem.
    fn stem_tail(&mut self, buffer: &mut String, start: usize) {
        let Some(word) = buffer.get(start..) else { return };
        if word.len() < 3 || !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return;
        }
        if let Some(stem) = self.stems.get(word) {
            if **stem != *word {
                buffer.truncate(start);
                buffer.push_str(stem);
            }
            return;
        }
        let base = forms::base_form(word).unwrap_or(word);
        let stem: Box<str> = Stemmer::new(Algorithm::English).stem(base).into();
        if self.stems.len() >= Self::LIMIT {
            self.stems.clear();
        }
        self.stems.insert(word.into(), stem.clone());
        buffer.truncate(start);
        buffer.push_str(&stem);
    }
}

/// Runs `then` over the terms of `text` with buffers that the thread keeps.
pub(crate) fn with_tokens<R>(text: &str, mode: Mode, then: impl FnOnce(&Tokens) -> R) -> R {
    thread_local! {
        static TOKENS: RefCell<Tokens> = RefCell::new(Tokens::default());
    }
    TOKENS.with(|cell| {
        if let Ok(mut tokens) = cell.try_borrow_mut() {
            tokens.analyze(text, mode);
            then(&tokens)
        } else {
            // Used from within `then`: rare, so a fresh buffer will do.
            let mut tokens = Tokens::default();
            tokens.analyze(text, mode);
            then(&tokens)
        }
    })
}

#[cfg(test)]
mod tests;
