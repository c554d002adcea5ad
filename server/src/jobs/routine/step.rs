//! One step of a round, as the report has it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use crate::exit::Exit;
use crate::tools::ToolError;

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verdict {
    /// Done, nothing found.
    Ok,
    /// Done; a person should look.
    Finding,
    /// Not done, or not in every scope.
    Failed,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    /// What was done, in figures.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// Bytes that there are fewer now.
    pub(super) bytes_freed: u64,
    pub(super) duration_ms: f64,
    /// The same in a sentence.
    pub(super) summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// What the operation answered.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) result: Value,
}

/// What the work of a step came to.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) finding: bool,
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) bytes_freed: u64,
    pub(super) summary: String,
    pub(super) result: Value,
    /// Why it was not done everywhere.
    pub(super) error: Option<String>,
}

impl Done {
    /// Done with this answer, of which `worst` is the worst.
    pub(super) fn with(worst: Exit, result: Value) -> Self {
        Self { finding: worst != Exit::Done, result, ..Self::default() }
    }

    /// Adds a figure.
    pub(super) fn count(mut self, name: &'static str, value: u64) -> Self {
        self.counts.insert(name, value);
        self
    }

    /// Says how many bytes became fewer.
    pub(super) const fn freed(mut self, bytes: u64) -> Self {
        self.bytes_freed = bytes;
        self
    }

    /// Says where it was not done, and why; the rest stands.
    pub(super) fn but(mut self, failures: &[(&str, ToolError)]) -> Self {
        let told: Vec<String> =
            failures.iter().map(|(scope, error)| format!("{scope}: {error}")).collect();
        self.error = (!told.is_empty()).then(|| told.join("; "));
        self
    }

    /// Says it in a sentence.
    pub(super) fn told(mut self, summary: impl Into<String>) -> Self {
        self.summary = summary.into();
        self
    }
}

impl Step {
    /// Does `work` and reports it.
    pub(super) fn of(name: &'static str, work: impl FnOnce() -> Result<Done, ToolError>) -> Self {
        let begun = Instant::now();
        let outcome = work();
        let duration_ms = begun.elapsed().as_secs_f64() * 1e3;
        match outcome {
            Ok(done) => Self {
                name,
                verdict: match (&done.error, done.finding) {
                    (Some(_), _) => Verdict::Failed,
                    (None, true) => Verdict::Finding,
                    (None, false) => Verdict::Ok,
                },
                counts: done.counts,
                bytes_freed: done.bytes_freed,
                duration_ms,
                summary: done.summary,
                error: done.error,
                result: done.result,
            },
            Err(error) => Self {
                name,
                verdict: Verdict::Failed,
                counts: BTreeMap::new(),
                bytes_freed: 0,
                duration_ms,
                summary: format!("failed: {error}"),
                error: Some(error.to_string()),
                result: Value::Null,
            },
        }
    }
}
