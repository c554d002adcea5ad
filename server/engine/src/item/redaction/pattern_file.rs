//! The pattern file: what an operator adds to the built-in patterns.

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{DEFAULT_REPLACEMENT, compile};
use crate::error::EngineError;

/// Most patterns in a file.
const MAX_PATTERNS: usize = 200;
/// Longest pattern, bytes.
const MAX_PATTERN_BYTES: usize = 2000;
/// Longest replacement, bytes.
const MAX_REPLACEMENT_BYTES: usize = 100;

/// Content of a pattern file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatternFile {
    /// Regular expressions in addition to the built-in ones. A group named `secret` narrows what
    /// is replaced.
    pub patterns: Vec<String>,
    /// What stands where a secret was.
    pub replacement: String,
    /// Whether anything is redacted at all.
    pub enabled: bool,
    /// Whether the built-in patterns apply.
    pub builtin: bool,
}

impl Default for PatternFile {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            replacement: DEFAULT_REPLACEMENT.to_owned(),
            enabled: true,
            builtin: true,
        }
    }
}

/// A pattern file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is not JSON of the right shape.
    #[error(
        "the pattern file is not valid: {reason}; expected \
         {{\"patterns\": [...], \"replacement\": \"...\", \"enabled\": true}}"
    )]
    Malformed {
        /// What the parser said.
        reason: String,
    },
    /// One pattern cannot be used.
    #[error("{}: {pattern:?}: {reason}", place(*index))]
    Unusable {
        /// Its position, from 0; `None` for a built-in pattern.
        index: Option<usize>,
        /// The pattern.
        pattern: String,
        /// Why, and what would be right.
        reason: String,
    },
    /// There are too many patterns, or the replacement is not usable.
    #[error("{field}: {reason}")]
    OutOfBounds {
        /// `patterns` or `replacement`.
        field: &'static str,
        /// The bound.
        reason: String,
    },
}

fn place(index: Option<usize>) -> String {
    index.map_or_else(|| "built-in pattern".to_owned(), |index| format!("patterns[{index}]"))
}

impl From<PatternError> for EngineError {
    fn from(error: PatternError) -> Self {
        Self::invalid("secretPatterns", error.to_string())
    }
}

impl PatternFile {
    /// Reads a pattern file.
    ///
    /// # Errors
    /// [`PatternError::Malformed`]. Patterns are checked when a redactor is built.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        serde_json::from_str(text)
            .map_err(|error| PatternError::Malformed { reason: error.to_string() })
    }

    /// Compiles the patterns, checking every bound.
    pub(super) fn compile(&self) -> Result<Vec<Regex>, PatternError> {
        if self.patterns.len() > MAX_PATTERNS {
            return Err(PatternError::OutOfBounds {
                field: "patterns",
                reason: format!(
                    "{} patterns; at most {MAX_PATTERNS} are allowed: join some with |",
                    self.patterns.len()
                ),
            });
        }
        if self.replacement.len() > MAX_REPLACEMENT_BYTES
            || self.replacement.chars().any(char::is_control)
        {
            return Err(PatternError::OutOfBounds {
                field: "replacement",
                reason: format!(
                    "use at most {MAX_REPLACEMENT_BYTES} bytes without control characters"
                ),
            });
        }
        self.patterns
            .iter()
            .enumerate()
            .map(|(index, pattern)| {
                compile_one(pattern).map_err(|reason| PatternError::Unusable {
                    index: Some(index),
                    pattern: pattern.clone(),
                    reason,
                })
            })
            .collect()
    }
}

fn compile_one(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!(
            "{} bytes; at most {MAX_PATTERN_BYTES} are allowed: split it",
            pattern.len()
        ));
    }
    let regex = compile(pattern).map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("compiles to more than {limit} bytes: use smaller repetition counts")
        }
        // The first line of the parser's message is a heading, the pattern is already shown.
        regex::Error::Syntax(message) => {
            message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
        other => other.to_string(),
    })?;
    if regex.is_match("") {
        return Err("matches the empty text, so it would match everywhere: require at least one \
                    character"
            .to_owned());
    }
    Ok(regex)
}
