//! Names of conditions and their reasons. They are API: alerts and scripts match them, so they are
//! written down once and never change their meaning.

/// The spec makes sense and is being acted on.
pub const ACCEPTED: &str = "Accepted";
/// Agents can use the store: its pod is ready and answered an MCP handshake a moment ago.
pub const READY: &str = "Ready";
/// The cluster is being brought to what the spec asks for.
pub const PROGRESSING: &str = "Progressing";
/// The claim is bound and as large as asked for.
pub const STORAGE_HEALTHY: &str = "StorageHealthy";
/// The last verification found every record and body intact.
pub const VERIFIED: &str = "Verified";
/// Video is encoded by hardware.
pub const HARDWARE_ENCODING: &str = "HardwareEncoding";

/// Reasons of [`ACCEPTED`].
pub mod accepted {
    /// Everything can be acted on.
    pub const VALID: &str = "Valid";
    /// A field cannot be acted on; the message names it.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// An object that the spec names is missing or unusable; the message names it.
    pub const REFERENCE_NOT_FOUND: &str = "ReferenceNotFound";
    /// An object that is not ours has a name that the store needs.
    pub const NAME_CONFLICT: &str = "NameConflict";
}

/// Reasons of [`READY`].
pub mod ready {
    /// The MCP handshake succeeded.
    pub const SERVING: &str = "Serving";
    /// `spec.replicas` is 0; the data is kept.
    pub const HIBERNATED: &str = "Hibernated";
    /// There is no pod yet.
    pub const NO_POD: &str = "NoPod";
    /// No node can take the pod; the message is the scheduler's.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// A container cannot start; the message is the kubelet's.
    pub const CONTAINER_WAITING: &str = "ContainerWaiting";
    /// The pod runs, but says it is not ready.
    pub const POD_NOT_READY: &str = "PodNotReady";
    /// The pod says it is ready, but the MCP handshake fails.
    pub const HANDSHAKE_FAILED: &str = "HandshakeFailed";
    /// The spec was not accepted, and nothing runs.
    pub const NOT_ACCEPTED: &str = "NotAccepted";
    /// Nobody has asked the server yet.
    pub const NOT_PROBED: &str = "NotProbed";
}

/// Reasons of [`PROGRESSING`].
pub mod progressing {
    /// What runs is what the spec asks for.
    pub const COMPLETE: &str = "Complete";
    /// Objects are being created or the pod is starting.
    pub const STARTING: &str = "Starting";
    /// `spec.paused` is true: nothing is changed until it is false.
    pub const PAUSED: &str = "Paused";
    /// A change waits for `kubectl memory restart`, because `spec.update.strategy` is `Manual`.
    pub const UPDATE_PENDING: &str = "UpdatePending";
    /// The store is verified before its pod is replaced.
    pub const VERIFYING: &str = "Verifying";
    /// The pod is being replaced.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// The new pod did not become ready; the former image is being put back.
    pub const ROLLING_BACK: &str = "RollingBack";
    /// The former image runs again; the update waits for another `spec.image`.
    pub const ROLLED_BACK: &str = "RolledBack";
    /// The verification before the update found damage; nothing was changed.
    pub const VERIFICATION_FAILED: &str = "VerificationFailed";
    /// The operator could not apply an object; the message says which and why.
    pub const APPLY_FAILED: &str = "ApplyFailed";
}

/// Reasons of [`STORAGE_HEALTHY`].
pub mod storage {
    /// Bound, and as large as asked for.
    pub const BOUND: &str = "Bound";
    /// The claim waits for a volume.
    pub const PENDING: &str = "ClaimPending";
    /// The claim is being enlarged.
    pub const RESIZING: &str = "Resizing";
    /// The claim was deleted, and stays as long as a pod uses it.
    pub const DELETING: &str = "ClaimDeleting";
    /// Claim or volume are gone; the data is not reachable.
    pub const LOST: &str = "VolumeLost";
    /// The server refuses writes, or the last one failed; the message says why. Reads go on.
    pub const WRITES_FAIL: &str = "WritesFail";
    /// The storage class does not allow the size that is asked for.
    pub const EXPANSION_REFUSED: &str = "ExpansionRefused";
    /// The volume is over 85 % full.
    pub const NEARLY_FULL: &str = "NearlyFull";
}

/// Reasons of [`VERIFIED`].
pub mod verified {
    /// Everything was intact.
    pub const INTACT: &str = "Intact";
    /// Something is damaged; the message says what.
    pub const DAMAGED: &str = "Damaged";
    /// No verification has ended yet.
    pub const NEVER: &str = "NeverVerified";
}

/// Reasons of [`HARDWARE_ENCODING`].
pub mod encoding {
    /// The server encodes with hardware.
    pub const HARDWARE: &str = "Hardware";
    /// Hardware was preferred, but the server encodes in software; the message says why.
    pub const SOFTWARE_FALLBACK: &str = "SoftwareFallback";
    /// `spec.gpu.mode` is `Disabled`.
    pub const DISABLED: &str = "Disabled";
    /// The server has not said yet.
    pub const UNKNOWN: &str = "NotReported";
}
