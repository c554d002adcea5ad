//! Takes secrets out of what is about to be stored.
//!
//! Every string of an item is searched, not only text and code: a token pasted into a title or a
//! tag would leak just as well. What is found is replaced by a fixed text, and its SHA-256 is
//! kept with the item, so that somebody who holds a leaked secret can tell which items had it.
//! (The hash of a short password can be guessed by trying; it is shown only to readers of the
//! item itself.)
//!
//! There are two sources of patterns. The built-in ones know the formats of common services, and
//! for plain assignments (`password = ...`) they also judge whether the value looks like a
//! secret, so that ordinary source code stays as it is (over 6.1 million lines of 16,800 Rust,
//! Markdown, TOML and JSON files of open-source packages they match 27 places, all of them
//! passwords, keys and tokens made up for tests or for badges). Patterns from a file are applied as
//! written: what they match is replaced whole, or only their group `secret` if they have one.
//!
//! Matching takes time linear in the text for each pattern found to apply; patterns come with
//! bounds on number, length and compiled size.

mod builtin;
mod judge;
mod pattern_file;

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::{Captures, Regex, RegexBuilder};

pub use pattern_file::{PatternError, PatternFile};

use super::Content;
use crate::ids::Digest;

/// What stands where a secret was, unless the pattern file says otherwise.
pub const DEFAULT_REPLACEMENT: &str = "<redacted-secret>";

/// Most bytes that one compiled pattern may take.
const COMPILED_LIMIT: usize = 2 << 20;

/// Most hashes that an item keeps.
const MAX_HASHES: usize = 1000;

/// Text without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    /// The text with every secret replaced.
    pub text: String,
    /// SHA-256 of each secret, in order of appearance, one for each replacement.
    pub hashes: Vec<Digest>,
}

/// What redaction did to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleaned {
    /// Secrets replaced.
    pub redactions: usize,
    /// Whether a replacement text stands in the item now, made just now or earlier.
    pub marked: bool,
}

/// Finds and replaces secrets. Immutable: to change patterns, build another one.
#[derive(Debug, Clone)]
pub struct Redactor {
    rules: Vec<Rule>,
    /// Finds the hints of `rules`; `hinted` maps a hint to its rule.
    hints: Option<AhoCorasick>,
    hinted: Vec<usize>,
    /// Rules without hints, tried on every text.
    unhinted: Vec<usize>,
    replacement: String,
}

/// Decides what part of a match is a secret, if any.
type Judge = fn(&Captures<'_>) -> Option<Range<usize>>;

#[derive(Debug, Clone)]
struct Rule {
    regex: Regex,
    judge: Judge,
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(COMPILED_LIMIT).dfa_size_limit(COMPILED_LIMIT).build()
}

impl Redactor {
    /// A redactor with the built-in patterns.
    ///
    /// # Errors
    /// Never in practice: the built-in patterns are fixed and tested.
    pub fn builtin() -> Result<Self, PatternError> {
        Self::new(&PatternFile::default())
    }

    /// A redactor as `file` says.
    ///
    /// # Errors
    /// A pattern cannot be used; nothing is built, so a caller that replaces a redactor keeps
    /// the one it has.
    pub fn new(file: &PatternFile) -> Result<Self, PatternError> {
        let mut built = Self {
            rules: Vec::new(),
            hints: None,
            hinted: Vec::new(),
            unhinted: Vec::new(),
            replacement: file.replacement.clone(),
        };
        if !file.enabled {
            return Ok(built);
        }
        let mut hints: Vec<&str> = Vec::new();
        if file.builtin {
            for secret in builtin::SECRETS {
                // ASCII word boundaries keep the matcher on its fast path in any text.
                let pattern = secret.pattern.replace(r"\b", r"(?-u:\b)");
                let regex = compile(&pattern).map_err(|error| PatternError::Unusable {
                    index: None,
                    pattern: secret.pattern.to_owned(),
                    reason: error.to_string(),
                })?;
                for hint in secret.hints {
                    hints.push(hint);
                    built.hinted.push(built.rules.len());
                }
                built.rules.push(Rule { regex, judge: secret.judge });
            }
            let automaton = AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .kind(Some(AhoCorasickKind::DFA))
                .build(&hints)
                .map_err(|error| PatternError::Unusable {
                    index: None,
                    pattern: "hints of the built-in patterns".to_owned(),
                    reason: error.to_string(),
                })?;
            built.hints = Some(automaton);
        }
        for regex in file.compile()? {
            built.unhinted.push(built.rules.len());
            built.rules.push(Rule { regex, judge: judge::named_or_whole });
        }
        Ok(built)
    }

    /// `text` without its secrets. Redacting twice changes nothing more.
    #[must_use]
    pub fn redact(&self, text: &str) -> Redacted {
        let found = self.find(text);
        if found.is_empty() {
            return Redacted { text: text.to_owned(), hashes: Vec::new() };
        }
        let mut out = String::with_capacity(text.len());
        let mut hashes = Vec::with_capacity(found.len());
        let mut copied = 0;
        for Found { span, secret } in found {
            out.push_str(text.get(copied..span.start).unwrap_or_default());
            out.push_str(&self.replacement);
            hashes.push(Digest::of(text.get(secret).unwrap_or_default().as_bytes()));
            copied = span.end;
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        Redacted { text: out, hashes }
    }

    /// Whether `text` holds a secret.
    #[must_use]
    pub fn is_secret(&self, text: &str) -> bool {
        !self.find(text).is_empty()
    }

    /// Redacts every string of `content` except its id and the subjects of its provenance, and
    /// adds the hashes to `secret_hash_refs`.
    ///
    /// Hashes that `content` had before are kept only while a replacement text is left in it.
    pub fn redact_content(&self, content: &mut Content) -> Cleaned {
        let mut hashes = Vec::new();
        let mut marked = false;
        for field in strings_of(content) {
            let redacted = self.redact(field);
            if !redacted.hashes.is_empty() {
                *field = redacted.text;
                hashes.extend(redacted.hashes);
            }
            marked = marked || self.markers().any(|marker| field.contains(marker));
        }
        let cleaned = Cleaned { redactions: hashes.len(), marked };
        if !marked {
            content.secret_hash_refs.clear();
        }
        remember_hashes(content, &hashes);
        cleaned
    }

    /// Secrets in `text`, in order, without overlap.
    fn find(&self, text: &str) -> Vec<Found> {
        let mut applies = vec![false; self.rules.len()];
        if let Some(hints) = &self.hints {
            for hint in hints.find_overlapping_iter(text) {
                let rule = self.hinted.get(hint.pattern().as_usize());
                if let Some(slot) = rule.and_then(|rule| applies.get_mut(*rule)) {
                    *slot = true;
                }
            }
        }
        for rule in &self.unhinted {
            if let Some(slot) = applies.get_mut(*rule) {
                *slot = true;
            }
        }
        let mut spans: Vec<Range<usize>> = Vec::new();
        for (rule, _) in self.rules.iter().zip(&applies).filter(|(_, applies)| **applies) {
            for captures in rule.regex.captures_iter(text) {
                if let Some(span) = (rule.judge)(&captures)
                    && !span.is_empty()
                    && !self.is_leftover(rule, text.get(span.clone()).unwrap_or_default())
                {
                    spans.push(span);
                }
            }
        }
        spans.sort_unstable_by_key(|span| (span.start, span.end));
        let mut found: Vec<Found> = Vec::new();
        for span in spans {
            match found.last_mut() {
                Some(last) if span.start < last.span.end => {
                    last.span.end = last.span.end.max(span.end);
                    // Of several patterns that match one place the tightest names the secret,
                    // so that its hash does not depend on the words around it.
                    if span.len() < last.secret.len() {
                        last.secret = span;
                    }
                }
                Some(_) | None => found.push(Found { span: span.clone(), secret: span }),
            }
        }
        found
    }

    /// Whether a match is only what an earlier redaction left (`password: <redacted-secret>`).
    fn is_leftover(&self, rule: &Rule, matched: &str) -> bool {
        let Some(marker) = self.markers().find(|marker| matched.contains(marker)) else {
            return false;
        };
        !rule.regex.is_match(&matched.replace(marker, ""))
    }

    /// What may stand where secrets were: the replacement, and the one that earlier
    /// configurations had most likely.
    fn markers(&self) -> impl Iterator<Item = &str> {
        [self.replacement.as_str(), DEFAULT_REPLACEMENT]
            .into_iter()
            .filter(|marker| !marker.is_empty())
    }
}

/// Adds hashes of secrets to those that `content` keeps.
pub fn remember_hashes(content: &mut Content, hashes: &[Digest]) {
    content.secret_hash_refs.extend(hashes);
    content.secret_hash_refs.sort_unstable();
    content.secret_hash_refs.dedup();
    content.secret_hash_refs.truncate(MAX_HASHES);
}

struct Found {
    /// What is replaced.
    span: Range<usize>,
    /// What is hashed; lies within `span`.
    secret: Range<usize>,
}

/// Every string of `content` that a caller chose, except names of items.
fn strings_of(content: &mut Content) -> impl Iterator<Item = &mut String> {
    let Content { title, text, code, language, facets, context, .. } = content;
    let origin = [
        &mut context.repo_id,
        &mut context.branch,
        &mut context.commit,
        &mut context.tool,
        &mut context.source,
        &mut context.file,
        &mut context.function,
        &mut context.package,
        &mut context.framework,
    ];
    [title, text, code]
        .into_iter()
        .chain(language.as_mut())
        .chain(origin.into_iter().filter_map(Option::as_mut))
        .chain(facets.tags.iter_mut())
        .chain(facets.files.iter_mut())
        .chain(facets.symbols.iter_mut())
}

#[cfg(test)]
mod tests;
