//! A job as callers see it.

use std::fmt;
use std::str::FromStr;

use llm_memory_engine::ids::{ProjectId, ScopeSelector, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ulid::Ulid;

use crate::exit::Exit;

/// Names a job; later ones sort after earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// A new name. Names made within the same millisecond are in no order.
    pub fn generate() -> Self {
        Self(Ulid::generate().to_string())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ulid::from_string(text)
            .map(|id| Self(id.to_string()))
            .map_err(|_| format!("{text:?} is not the id of a job, which is a ULID"))
    }
}

impl TryFrom<String> for JobId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

/// What a job does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum JobKind {
    /// `maintenance.compact`.
    Compact,
    /// `journal.verify` and `maintenance.verify`.
    Verify,
    /// `maintenance.rebuild`.
    Rebuild,
    /// `maintenance.cleanup`.
    Cleanup,
    /// `maintenance.prune`.
    Prune,
    /// The daily, weekly, monthly or quarterly round.
    Routine,
}

impl JobKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Compact, Self::Verify, Self::Rebuild, Self::Cleanup, Self::Prune, Self::Routine];

    /// The word used in requests and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Verify => "verify",
            Self::Rebuild => "rebuild",
            Self::Cleanup => "cleanup",
            Self::Prune => "prune",
            Self::Routine => "routine",
        }
    }

    /// Whether the store may be changed by it.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Verify)
    }
}

/// Which round.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Routine {
    /// Leftovers, journals that have grown, expired memories.
    Daily,
    /// Daily, and verification of everything.
    Weekly,
    /// Weekly, and compaction and comparison of all views.
    Monthly,
    /// Monthly, and statistics.
    Quarterly,
}

impl Routine {
    /// All rounds, each including those before it.
    pub const ALL: [Self; 4] = [Self::Daily, Self::Weekly, Self::Monthly, Self::Quarterly];

    /// The word used in requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Quarterly => "quarterly",
        }
    }

    /// The label of jobs that run it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Daily => "routine-daily",
            Self::Weekly => "routine-weekly",
            Self::Monthly => "routine-monthly",
            Self::Quarterly => "routine-quarterly",
        }
    }
}

/// What a job works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct JobArguments {
    /// Scope or union of scopes; `all` when left out.
    pub scope: ScopeSelector,
    /// Only name what would be removed (cleanup and prune).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Which round; for the kind `routine`, and needed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routine: Option<Routine>,
}

impl Default for JobArguments {
    fn default() -> Self {
        Self { scope: ScopeSelector::All, dry_run: false, routine: None }
    }
}

impl JobArguments {
    /// Whether they go together with `kind`; the error names the argument and what is wrong.
    pub(crate) fn check(&self, kind: JobKind) -> Result<(), (&'static str, String)> {
        let for_routine = kind == JobKind::Routine;
        match self.routine {
            None if for_routine => {
                let words = Routine::ALL.map(Routine::as_str).join(", ");
                return Err(("arguments.routine", format!("is needed: one of {words}")));
            }
            Some(_) if !for_routine => {
                return Err((
                    "arguments.routine",
                    format!("is for the kind routine, not for {}", kind.as_str()),
                ));
            }
            Some(_) | None => {}
        }
        if self.dry_run && !matches!(kind, JobKind::Cleanup | JobKind::Prune) {
            return Err((
                "arguments.dryRun",
                format!("is for the kinds cleanup and prune, not for {}", kind.as_str()),
            ));
        }
        Ok(())
    }
}

/// Where a job is in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// It waits for its turn.
    Pending,
    /// It is at work.
    Running,
    /// Done, nothing found.
    Succeeded,
    /// Done; a person should look at the result.
    Finding,
    /// It could not do its work, or not all of it.
    Failed,
    /// It was taken back before it began.
    Cancelled,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Succeeded,
        Self::Finding,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word used in requests and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Finding => "finding",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will change any more.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The exit status of whoever waited for the job. A job that did not end is a failure.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Succeeded => Exit::Done,
            Self::Finding => Exit::Finding,
            Self::Pending | Self::Running | Self::Failed | Self::Cancelled => Exit::Failed,
        }
    }
}

/// How far a running job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobProgress {
    /// What the job is doing.
    pub step: String,
    /// Units done in this step.
    pub done: u64,
    /// Units of the step, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What the units are.
    pub what: String,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobFailure {
    /// A stable word.
    pub code: String,
    /// What went wrong and what to do.
    pub message: String,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its name.
    #[schemars(with = "String")]
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// What it works on.
    pub arguments: JobArguments,
    /// The project it works in; every one that its requester may work in when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// Key under which submitting it again answers this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Who asked for it.
    pub requester: String,
    /// Where it is in its life.
    pub state: JobState,
    /// Grows with every change that can be seen here.
    #[serde(default)]
    pub revision: u64,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it began, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// How often it began.
    #[serde(default)]
    pub attempts: u32,
    /// How far it is, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<JobProgress>,
    /// What came of it, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What the operation answered; long lists are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobFailure>,
}

impl Job {
    /// The kind, and which round it is: the label of metrics.
    pub fn label(&self) -> &'static str {
        self.arguments.routine.map_or(self.kind.as_str(), Routine::label)
    }

    /// Milliseconds between its last beginning and its end.
    pub fn processing_ms(&self) -> Option<u64> {
        let (begun, ended) = (self.started_at?, self.finished_at?);
        u64::try_from(ended.as_millis().saturating_sub(begun.as_millis())).ok()
    }

    /// The same without what a list of jobs has no room for.
    #[must_use]
    pub fn without_result(&self) -> Self {
        // Field by field: the result may be the larger part of a job, and is not to be copied.
        Self {
            id: self.id.clone(),
            kind: self.kind,
            arguments: self.arguments.clone(),
            project: self.project.clone(),
            idempotency_key: self.idempotency_key.clone(),
            requester: self.requester.clone(),
            state: self.state,
            revision: self.revision,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            attempts: self.attempts,
            progress: self.progress.clone(),
            summary: self.summary.clone(),
            result: None,
            error: self.error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_have_to_go_together_with_the_kind() {
        let plain = JobArguments::default();
        let daily = JobArguments { routine: Some(Routine::Daily), ..plain.clone() };
        let dry = JobArguments { dry_run: true, ..plain.clone() };
        assert!(plain.check(JobKind::Compact).is_ok());
        assert!(daily.check(JobKind::Routine).is_ok());
        assert!(dry.check(JobKind::Prune).is_ok());
        assert_eq!(plain.check(JobKind::Routine).unwrap_err().0, "arguments.routine");
        assert_eq!(daily.check(JobKind::Verify).unwrap_err().0, "arguments.routine");
        assert_eq!(dry.check(JobKind::Compact).unwrap_err().0, "arguments.dryRun");
    }

    #[test]
    fn the_words_are_those_of_the_documents() {
        for kind in JobKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for state in JobState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for routine in Routine::ALL {
            assert_eq!(serde_json::to_value(routine).unwrap(), routine.as_str());
        }
    }

    #[test]
    fn only_ulids_name_jobs() {
        assert!("01ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<JobId>().is_ok());
        for text in ["", "../x", "01ARZ3NDEKTSV4RRFFQ69G5FA", "job"] {
            assert!(text.parse::<JobId>().is_err(), "{text:?}");
        }
    }
}
