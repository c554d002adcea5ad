//! What is asked of the queue.

use llm_memory_engine::ids::ProjectId;

use super::error::JobError;
use super::job::{JobArguments, JobKind, JobState};

/// Longest idempotency key.
pub(super) const MAX_KEY: usize = 200;

/// Bounds of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that may wait.
    pub max_pending: usize,
}

/// A job to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// What it does.
    pub kind: JobKind,
    /// What it works on.
    pub arguments: JobArguments,
    /// The project it works in.
    pub project: Option<ProjectId>,
    /// Key under which submitting it again answers the same job.
    pub idempotency_key: Option<String>,
}

/// Which jobs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListFilter {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// Only those of this kind.
    pub kind: Option<JobKind>,
    /// At most so many.
    pub limit: usize,
}

/// Whether a key is one: short and printable, so that it can stand in logs and headers.
pub(super) fn check_key(key: Option<&str>) -> Result<(), JobError> {
    let Some(key) = key else { return Ok(()) };
    if (1..=MAX_KEY).contains(&key.len()) && key.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    let reason = format!("must be 1 to {MAX_KEY} printable ASCII characters without spaces");
    Err(JobError::Invalid { field: "idempotencyKey", reason })
}
