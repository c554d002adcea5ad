//! What the queue answers when it does not do what was asked.

use llm_memory_disk::DiskError;
use thiserror::Error;

/// A request about jobs that was refused.
#[derive(Debug, Error)]
pub enum JobError {
    /// An argument is not acceptable.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path of the argument.
        field: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// No such job, or none that the caller may see.
    #[error("there is no job {id}")]
    NotFound {
        /// As asked for.
        id: String,
    },
    /// The request does not go together with what is there.
    #[error("{reason}")]
    Conflict {
        /// Why.
        reason: String,
    },
    /// The caller may see the job, and not do this with it.
    #[error("not allowed: {reason}")]
    Forbidden {
        /// Why.
        reason: String,
    },
    /// The queue is full.
    #[error("busy: {pending} jobs are waiting, try again in {} s", retry_after_ms.div_ceil(1000))]
    Busy {
        /// Jobs waiting.
        pending: usize,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The server is in safe mode.
    #[error("safe mode: jobs of the kind {kind} change the store and are refused")]
    SafeMode {
        /// The kind asked for.
        kind: &'static str,
    },
    /// The server is about to end.
    #[error("the server is shutting down and takes no jobs")]
    Closed,
    /// The job could not be written down, and was not taken.
    #[error("the job could not be kept: {0}")]
    Disk(#[from] DiskError),
}

impl JobError {
    /// A stable word for logs, metrics and the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid_argument",
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Forbidden { .. } => "forbidden",
            Self::Busy { .. } => "busy",
            Self::SafeMode { .. } => "read_only",
            Self::Closed => "shutting_down",
            Self::Disk(error) if error.is_no_space() => "no_space",
            Self::Disk(_) => "disk_failure",
        }
    }

    /// What the caller can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "correct the argument and submit the job again",
            Self::NotFound { .. } => {
                "list the jobs there are; one that ended long ago is no longer kept"
            }
            Self::Conflict { .. } => "look at the job that is there, or use another key",
            Self::Forbidden { .. } => "ask whoever submitted it, or an administrator",
            Self::Busy { .. } => "wait and submit it again, or cancel a job that is pending",
            Self::SafeMode { .. } => "restart the server without safe mode, or submit verify",
            Self::Closed => "submit it again when the server is back",
            Self::Disk(_) => "look at the data volume and at the server's log",
        }
    }
}
