//! Arguments of `memory.contextPack`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::glob;
use crate::api::{Detail, Filters, QueryRequest, QueryResult};
use crate::error::{EngineError, Result};
use crate::ids::{ScopeSelector, Timestamp};

/// Characters of a pack for which no budget is given.
const DEFAULT_CHARS: usize = 24_000;
/// Characters that stand for one token.
const CHARS_PER_TOKEN: usize = 4;
/// Items of a pack for which no `k` is given.
const DEFAULT_K: usize = 12;

/// Lines kept around the line of interest of a long snippet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SnippetWindow {
    /// Lines before it.
    #[schemars(range(max = 1000))]
    pub before: u32,
    /// Lines after it.
    #[schemars(range(max = 1000))]
    pub after: u32,
}

impl Default for SnippetWindow {
    fn default() -> Self {
        Self { before: 6, after: 6 }
    }
}

/// `memory.contextPack`: what is known about a question, arranged for a prompt within a budget.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PackRequest {
    /// Words to look for, as in `memory.query`. Empty: the newest items.
    #[schemars(length(max = 4096))]
    pub q: String,
    /// Scope or union of scopes.
    pub scope: ScopeSelector,
    /// Items that take part: 1 to 200, 12 by default.
    #[schemars(range(min = 1, max = 200))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
    /// Conditions.
    pub filters: Filters,
    /// Crop every snippet to so many lines around the lines its item names, or around its
    /// function or first symbol. Without it only snippets of more than 40 lines are cropped, to
    /// 6 lines before and after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet_window: Option<SnippetWindow>,
    /// Only snippets in these languages; all when empty.
    #[schemars(length(max = 100))]
    pub snippet_languages: Vec<String>,
    /// Only snippets of files that match one of these patterns (`*` within a folder name, `**`
    /// across folders, `?` one character); all when empty.
    #[schemars(length(max = 100))]
    pub snippet_file_patterns: Vec<String>,
    /// Most characters of item text; 24,000 by default.
    #[schemars(range(min = 200, max = 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<usize>,
    /// Most tokens, of four characters each; beats `maxChars`.
    #[schemars(range(min = 50, max = 250_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_budget: Option<usize>,
    /// The store as it was at this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
}

impl PackRequest {
    /// Checks the bounds that the schema states.
    ///
    /// # Errors
    /// [`EngineError::Invalid`], naming the argument.
    pub fn validate(&self) -> Result<()> {
        let within = |field: &str, value: Option<usize>, least: usize, most: usize| match value {
            Some(value) if !(least..=most).contains(&value) => Err(EngineError::invalid(
                field,
                format!("{value} is out of range: use {least} to {most}"),
            )),
            Some(_) | None => Ok(()),
        };
        within("k", self.k, 1, 200)?;
        within("maxChars", self.max_chars, 200, 1_000_000)?;
        within("tokenBudget", self.token_budget, 50, 250_000)?;
        within("snippetLanguages", Some(self.snippet_languages.len()), 0, 100)?;
        within("snippetFilePatterns", Some(self.snippet_file_patterns.len()), 0, 100)?;
        if let Some(window) = self.snippet_window {
            let lines = window.before.max(window.after);
            within("snippetWindow", usize::try_from(lines).ok(), 0, 1000)?;
        }
        for (position, pattern) in self.snippet_file_patterns.iter().enumerate() {
            if pattern.is_empty() || pattern.len() > 1024 {
                return Err(EngineError::invalid(
                    format!("snippetFilePatterns[{position}]"),
                    "use 1 to 1024 bytes",
                ));
            }
        }
        Ok(())
    }

    /// The query whose hits make the pack.
    #[must_use]
    pub fn to_query(&self) -> QueryRequest {
        QueryRequest {
            q: self.q.clone(),
            scope: self.scope,
            k: Some(self.k.unwrap_or(DEFAULT_K)),
            filters: self.filters.clone(),
            detail: Detail::Full,
            as_of: self.as_of,
            // The pack cuts by its own budget, after cropping; the query must not cut before.
            max_chars: Some(1_000_000),
            ..QueryRequest::default()
        }
    }

    /// What a pack of `found`, the answer to [`PackRequest::to_query`], should say about it.
    #[must_use]
    pub fn notice(&self, found: &QueryResult) -> Option<String> {
        let hits = found.items.len();
        if found.next_cursor.is_some() && hits < self.k.unwrap_or(DEFAULT_K) {
            return Some(format!(
                "only the first {hits} hits were looked at, because they are very long together: \
                 narrow q or filters, or look for the others with memory_query"
            ));
        }
        found.notice.clone()
    }

    /// Characters of item text that the pack may hold.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.token_budget
            .map(|tokens| tokens.saturating_mul(CHARS_PER_TOKEN))
            .or(self.max_chars)
            .unwrap_or(DEFAULT_CHARS)
    }

    /// Whether a snippet in `language` of `file` is wanted.
    pub(super) fn admits_snippet(&self, language: Option<&str>, file: Option<&str>) -> bool {
        let language_fits = self.snippet_languages.is_empty()
            || language.is_some_and(|language| {
                self.snippet_languages.iter().any(|wanted| wanted.eq_ignore_ascii_case(language))
            });
        let file_fits = self.snippet_file_patterns.is_empty()
            || file.is_some_and(|file| {
                self.snippet_file_patterns.iter().any(|pattern| glob::matches(pattern, file))
            });
        language_fits && file_fits
    }
}
