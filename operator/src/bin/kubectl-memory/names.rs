//! Names and labels of the objects that the operator makes for a store.

use llm_memory_crds::memory_store::RoutineKind;

/// The annotation by which a restart is asked for.
pub(crate) const RESTART_REQUESTED: &str = "llm-memory.dev/restart-requested-at";
/// The server's container.
pub(crate) const SERVER: &str = "server";

/// The pod.
pub(crate) fn pod(store: &str) -> String {
    format!("{store}-0")
}

/// The claim, unless the store brings its own.
pub(crate) fn claim(store: &str) -> String {
    format!("data-{store}-0")
}

/// The Secret with the tokens that the operator made.
pub(crate) fn tokens(store: &str) -> String {
    format!("{store}-tokens")
}

/// The Secret with the certificate that cert-manager makes.
pub(crate) fn certificate(store: &str) -> String {
    format!("{store}-tls")
}

/// The CronJob of a routine.
pub(crate) fn cron_job(store: &str, routine: RoutineKind) -> String {
    format!("{store}-{}", routine.as_str())
}

/// Selects everything that belongs to a store.
pub(crate) fn selector(store: &str) -> String {
    format!("app.kubernetes.io/name=llm-memory,app.kubernetes.io/instance={store}")
}

/// Whether an object of that name was made for a store: by the operator, or from what it made.
pub(crate) fn belongs(store: &str, object: &str) -> bool {
    if object == claim(store) {
        return true;
    }
    let Some(rest) = object.strip_prefix(store) else { return false };
    match rest {
        "" | "-0" | "-tokens" | "-config" | "-metrics" | "-jobs" | "-tls" => true,
        _ => ROUTINES.iter().any(|routine| {
            rest.strip_prefix('-')
                .and_then(|rest| rest.strip_prefix(routine.as_str()))
                .is_some_and(|job| job.is_empty() || job.starts_with('-'))
        }),
    }
}

const ROUTINES: [RoutineKind; 6] = [
    RoutineKind::Compaction,
    RoutineKind::Verify,
    RoutineKind::Daily,
    RoutineKind::Weekly,
    RoutineKind::Monthly,
    RoutineKind::Quarterly,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_does_not_claim_what_belongs_to_another_whose_name_begins_alike() {
        for own in [
            "mem",
            "mem-0",
            "data-mem-0",
            "mem-tokens",
            "mem-tls",
            "mem-jobs",
            "mem-verify",
            "mem-verify-2941",
        ] {
            assert!(belongs("mem", own), "{own}");
        }
        assert!(belongs("data", "data-data-0"));
        for other in ["mem-two", "mem-two-0", "memory-0", "data-mem-two-0", "mem-verifying"] {
            assert!(!belongs("mem", other), "{other}");
        }
    }
}
