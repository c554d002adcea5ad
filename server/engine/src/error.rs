//! What can go wrong in the engine, as its callers see it. Corruption, failing disks and misuse
//! never share a variant; each message names the field or file and what to do.

use llm_memory_disk::DiskError;
use thiserror::Error;

use crate::ids::{InvalidId, ItemId, Version};

/// A failed engine operation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// An argument is not acceptable. Nothing was changed.
    #[error("{field}: {reason}")]
    Invalid {
        /// Name of the argument, as the caller spelled it (`ttlDays`, `operations[2].old`).
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// No such item in the scopes searched.
    #[error("item {id} not found in scope {scope}")]
    NotFound {
        /// The item asked for.
        id: ItemId,
        /// The scopes searched, for people.
        scope: String,
    },
    /// The item changed since the caller read it.
    #[error("{}", conflict(id, *expected, *actual))]
    VersionConflict {
        /// The item.
        id: ItemId,
        /// What the caller expected.
        expected: Version,
        /// What is stored.
        actual: Version,
    },
    /// The caller's token does not allow this.
    #[error("not allowed: {reason}")]
    Forbidden {
        /// What is missing.
        reason: String,
    },
    /// More work is waiting or going on than there is room for. Nothing was changed; try again
    /// later.
    #[error("busy: {waiting} calls are ahead of this one, try again in {retry_after_ms} ms")]
    Busy {
        /// Calls in the queue or at work.
        waiting: usize,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The disk is full. Nothing was acknowledged; reads go on.
    #[error("no space left on the data volume: free some or enlarge it, then repeat the write")]
    NoSpace {
        /// The refusing operation.
        #[source]
        source: DiskError,
    },
    /// The disk is nearly full. Nothing was changed; reads go on.
    #[error(
        "no space left on the data volume: the last {} MiB are kept for compaction and recovery; \
         free some or enlarge it, then repeat the write",
        reserve >> 20
    )]
    Reserved {
        /// Bytes that stay free.
        reserve: u64,
    },
    /// Writes are refused; the reason says until when.
    #[error("writes are refused: {reason}")]
    ReadOnly {
        /// Why, and what ends it.
        reason: String,
    },
    /// A scope could not be opened; the others work. It is tried again with the next call.
    #[error("the scope {scope} cannot be opened: {reason}")]
    Unavailable {
        /// The scope.
        scope: String,
        /// Why.
        reason: String,
    },
    /// A write is in the journal, but the catalog did not follow: it will show once the catalog
    /// does, at the latest after a restart.
    #[error(
        "the write is durable but cannot be seen yet ({reason}): read the item before you repeat \
         the write"
    )]
    Unsettled {
        /// Why the catalog did not follow.
        reason: String,
    },
    /// An operation over several scopes failed on some of them.
    #[error("{failed} (done for {done})")]
    Incomplete {
        /// Those on which it failed, each with the reason.
        failed: String,
        /// Those on which it is done.
        done: String,
        /// Code of the first failure.
        code: &'static str,
    },
    /// Stored bytes are not what they must be.
    #[error("corrupt {what}: {reason}")]
    Corrupt {
        /// File or record.
        what: String,
        /// Expected and found.
        reason: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(DiskError),
    /// The store is closing or closed.
    #[error("the store is shutting down")]
    Closed,
    /// A defect or an unexpected failure of a library underneath.
    #[error("{context}: {message}")]
    Internal {
        /// What was being done.
        context: &'static str,
        /// What the library said.
        message: String,
    },
}

fn conflict(id: &ItemId, expected: Version, actual: Version) -> String {
    if actual == Version(0) {
        return format!(
            "there is no item {id}, but ifVersion expects version {expected}: leave ifVersion out, \
             or pass 0, to write a new one"
        );
    }
    format!(
        "item {id} is at version {actual}, but ifVersion expects {expected}: read it again and \
         repeat the change"
    )
}

impl EngineError {
    /// Shorthand for [`EngineError::Invalid`].
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    /// A stable word for logs, metrics and the wire.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid_argument",
            Self::NotFound { .. } => "not_found",
            Self::VersionConflict { .. } => "version_conflict",
            Self::Forbidden { .. } => "forbidden",
            Self::Busy { .. } => "busy",
            Self::NoSpace { .. } | Self::Reserved { .. } => "no_space",
            Self::ReadOnly { .. } => "read_only",
            Self::Unavailable { .. } => "scope_unavailable",
            Self::Unsettled { .. } => "unsettled",
            Self::Incomplete { code, .. } => code,
            Self::Corrupt { .. } => "corrupt",
            Self::Disk(_) => "disk_failure",
            Self::Closed => "shutting_down",
            Self::Internal { .. } => "internal",
        }
    }
}

impl From<DiskError> for EngineError {
    fn from(error: DiskError) -> Self {
        if error.is_no_space() { Self::NoSpace { source: error } } else { Self::Disk(error) }
    }
}

impl From<InvalidId> for EngineError {
    fn from(error: InvalidId) -> Self {
        Self::invalid(error.field, error.reason)
    }
}

/// Result of an engine operation.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;
