//! Jobs that the server ended under.

use llm_memory_engine::ids::Timestamp;

use super::job::{Job, JobFailure, JobState};

/// How often a job is begun when the server keeps ending under it.
pub(super) const MAX_ATTEMPTS: u32 = 3;
const EXHAUSTED: &str = "attempts_exhausted";

/// What becomes of a job that was running when the server ended; `false` when it was not.
pub(super) fn after_restart(job: &mut Job, now: Timestamp) -> bool {
    if job.state != JobState::Running {
        return false;
    }
    job.revision += 1;
    job.progress = None;
    if job.attempts < MAX_ATTEMPTS {
        job.state = JobState::Pending;
        return true;
    }
    job.state = JobState::Failed;
    job.finished_at = Some(now);
    job.error = Some(JobFailure {
        code: EXHAUSTED.to_owned(),
        message: format!(
            "the server ended {} times while the job ran: look at its log for the reason (often a \
             memory limit), then submit the job again",
            job.attempts
        ),
    });
    true
}
