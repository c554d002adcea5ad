//! Finds chunks in a text and cuts them into parts and wholes.

use super::fold::{is_combining_diacritic, is_unspaced};
use super::{Mode, Tokens};

/// Words longer than this (encoded data, keys) are taken as they are instead of being cut into
/// parts.
const MAX_SPLIT_BYTES: usize = 64;
/// A chunk longer than this gives its parts and path segments but no whole.
const MAX_WHOLE_BYTES: usize = 64;
/// Joints that vanish in a whole.
const SOFT_JOINTS: [char; 2] = ['_', '-'];

const fn is_joint(c: char) -> bool {
    matches!(c, '_' | '-' | '.' | '/' | '\\' | ':' | '@')
}

const fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2019}')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_diacritic(c)
}

/// A run of word characters within a chunk: byte range.
#[derive(Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
}

pub(super) fn segment(text: &str, mode: Mode, out: &mut Tokens) {
    let mut chars = text.char_indices().peekable();
    let mut words: Vec<Word> = Vec::new();
    while let Some(&(start, c)) = chars.peek() {
        if !is_word(c) {
            chars.next();
            continue;
        }
        if is_unspaced(c) {
            let mut run = Vec::new();
            while let Some(&(at, c)) = chars.peek() {
                if !is_unspaced(c) {
                    break;
                }
                run.push((at, at + c.len_utf8()));
                chars.next();
            }
            unspaced(text, &run, mode, out);
            continue;
        }
        words.clear();
        let mut word = Word { start, end: start };
        // One chunk: words with single joints (or `::`) between them.
        loop {
            while let Some(&(at, c)) = chars.peek() {
                if !is_word(c) || is_unspaced(c) {
                    break;
                }
                word.end = at + c.len_utf8();
                chars.next();
            }
            if chars.peek().is_some_and(|&(_, c)| is_apostrophe(c)) {
                match after_apostrophe(text, word) {
                    Apostrophe::Joins => {
                        chars.next();
                        continue;
                    }
                    Apostrophe::Drops { until } => {
                        while chars.peek().is_some_and(|&(at, _)| at < until) {
                            chars.next();
                        }
                    }
                    Apostrophe::Splits => {}
                }
            }
            words.push(word);
            let Some(next) = next_after_joint(text, word.end, chars.peek().map(|&(at, _)| at))
            else {
                break;
            };
            while chars.peek().is_some_and(|&(at, _)| at < next) {
                chars.next();
            }
            word = Word { start: next, end: next };
        }
        chunk(text, &words, mode, out);
    }
}

enum Apostrophe {
    /// Part of the word: `don't`, `O'Brien` would split, `rock'n` joins.
    Joins,
    /// English suffix that says nothing: `Anna's`, `they're`.
    Drops { until: usize },
    /// Elision or quote: `l'homme`, `'word'`.
    Splits,
}

fn after_apostrophe(text: &str, word: Word) -> Apostrophe {
    let rest = text.get(word.end..).unwrap_or_default();
    let mut after = rest.chars();
    let apostrophe = after.next().map_or(0, char::len_utf8);
    let suffix_len: usize = after.take_while(|c| is_word(*c)).map(char::len_utf8).sum();
    if suffix_len == 0 {
        return Apostrophe::Splits;
    }
    let suffix = rest.get(apostrophe..apostrophe + suffix_len).unwrap_or_default();
    let is = |known: &str| suffix.eq_ignore_ascii_case(known);
    if ["s", "re", "ll", "ve", "d", "m"].iter().any(|known| is(known)) {
        return Apostrophe::Drops { until: word.end + apostrophe + suffix_len };
    }
    if is("t") || word.end - word.start > 2 { Apostrophe::Joins } else { Apostrophe::Splits }
}

/// Where the next word of the same chunk begins, if one does: behind one joint, or behind `::`.
fn next_after_joint(text: &str, word_end: usize, at: Option<usize>) -> Option<usize> {
    if at != Some(word_end) {
        return None;
    }
    let mut rest = text.get(word_end..)?.chars();
    let joint = rest.next().filter(|c| is_joint(*c))?;
    let mut next = word_end + joint.len_utf8();
    let mut following = rest.next()?;
    if joint == ':' && following == ':' {
        next += 1;
        following = rest.next()?;
    }
    (is_word(following) && !is_unspaced(following)).then_some(next)
}

fn chunk(text: &str, words: &[Word], mode: Mode, out: &mut Tokens) {
    let (Some(first), Some(last)) = (words.first(), words.last()) else { return };
    let whole_fits = |from: usize, to: usize| to - from <= MAX_WHOLE_BYTES;
    let joint_after = |index: usize| -> &str {
        match (words.get(index), words.get(index + 1)) {
            (Some(word), Some(next)) => text.get(word.end..next.start).unwrap_or_default(),
            _ => "",
        }
    };
    let is_slash = |joint: &str| joint == "/" || joint == "\\";
    let has_path = (0..words.len()).any(|index| is_slash(joint_after(index)));
    if has_path && whole_fits(first.start, last.end) {
        out.push_whole(text, first.start, last.end, mode, &[]);
    }
    // Each path segment (the chunk itself when it is no path).
    let mut index = 0;
    while index < words.len() {
        let mut end = index;
        while end + 1 < words.len() && !is_slash(joint_after(end)) {
            end += 1;
        }
        let segment = words.get(index..=end).unwrap_or_default();
        if let [from, .., to] = segment {
            let soft = (index..end).all(|at| matches!(joint_after(at), "_" | "-"));
            if whole_fits(from.start, to.end) {
                let dropped: &[char] = if soft { &SOFT_JOINTS } else { &[] };
                out.push_whole(text, from.start, to.end, mode, dropped);
            }
        }
        for word in segment {
            split_word(text, *word, mode, out);
        }
        index = end + 1;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Upper,
    Lower,
    Digit,
}

fn class(c: char) -> Class {
    if c.is_numeric() {
        Class::Digit
    } else if c.is_uppercase() {
        Class::Upper
    } else {
        Class::Lower
    }
}

/// Cuts a word at camelCase humps (`parseQuery`, `XMLHttp`) and between letters and digits. In
/// prose the word stays one part all the same: "GitHub Actions" is two words however it is written.
fn split_word(text: &str, word: Word, mode: Mode, out: &mut Tokens) {
    let Some(letters) = text.get(word.start..word.end) else { return };
    if letters.len() > MAX_SPLIT_BYTES {
        out.push_part(text, word.start, word.end, mode);
        return;
    }
    let mut cuts: Vec<usize> = Vec::new();
    let mut before: Option<Class> = None;
    let mut last: Option<(usize, Class)> = None;
    for (at, c) in letters.char_indices() {
        if is_combining_diacritic(c) || is_apostrophe(c) {
            continue;
        }
        let current = class(c);
        if let Some((last_at, previous)) = last {
            match (previous, current) {
                (Class::Lower, Class::Upper)
                | (Class::Digit, Class::Upper | Class::Lower)
                | (Class::Upper | Class::Lower, Class::Digit) => cuts.push(at),
                (Class::Upper, Class::Lower) if before == Some(Class::Upper) => cuts.push(last_at),
                _ => {}
            }
        }
        before = last.map(|(_, class)| class);
        last = Some((at, current));
    }
    if cuts.is_empty() {
        out.push_part(text, word.start, word.end, mode);
        return;
    }
    let position = match mode {
        Mode::Code => {
            out.push_whole(text, word.start, word.end, mode, &[]);
            None
        }
        Mode::Prose => out.push_part(text, word.start, word.end, mode),
    };
    let mut from = 0;
    for cut in cuts.into_iter().chain([letters.len()]) {
        let (start, end) = (word.start + from, word.start + cut);
        match position {
            Some(position) => out.push_piece(text, start, end, mode, position),
            None => {
                out.push_part(text, start, end, mode);
            }
        }
        from = cut;
    }
}

/// A run of a script without spaces: every character is a part, every pair a whole.
fn unspaced(text: &str, run: &[(usize, usize)], mode: Mode, out: &mut Tokens) {
    for (index, &(start, end)) in run.iter().enumerate() {
        if let Some(&(_, pair_end)) = run.get(index + 1) {
            out.push_whole(text, start, pair_end, mode, &[]);
        }
        out.push_part(text, start, end, mode);
    }
}
