//! What the settings of a store should rather be, by what the cluster measures.
//!
//! The metrics API gives one sample of the last minute or so, no history: a recommendation says
//! what it rests on, and is best asked for under load.

use k8s_openapi::api::core::v1::ResourceRequirements;
use llm_memory_crds::conditions;

use super::Finding;
use crate::commands::status::Observed;
use crate::commands::usage::{self, Usage, number};
use crate::units;

/// Memory is tight above this share of the limit, and idle below that share of the request.
const TIGHT: f64 = 0.85;
const IDLE: f64 = 0.25;
/// The room that a recommended limit leaves above what is used.
const HEADROOM: f64 = 1.5;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Recommendations; pure.
pub(super) fn findings(observed: &Observed, usage: Option<&Usage>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (&observed.pod, usage) {
        (Some(pod), Some(usage)) => {
            let resources = usage::resources(pod);
            findings.push(memory(&resources, *usage));
            findings.push(cpu(&resources, *usage));
        }
        (None, _) => findings.push(Finding::ok("usage", "no data: there is no pod")),
        (Some(_), None) => findings.push(Finding::ok(
            "usage",
            "no data: the cluster has no metrics API (metrics.k8s.io), or no sample of the pod yet",
        )),
    }
    if was_killed(observed) {
        findings.push(Finding::warning(
            "memory",
            "the server was killed for want of memory",
            "double spec.resources.limits.memory",
        ));
    }
    findings.push(storage(observed));
    findings.extend(journal(observed));
    findings.extend(encoder(observed));
    findings
}

fn memory(resources: &ResourceRequirements, usage: Usage) -> Finding {
    let mebibytes = |bytes: f64| format!("{:.0}Mi", (bytes / MEBIBYTE).ceil());
    let needed = (usage.memory * HEADROOM).max(128.0 * MEBIBYTE);
    let enough = mebibytes(needed);
    let used = mebibytes(usage.memory);
    match (number(resources, true, "memory"), number(resources, false, "memory")) {
        (None, _) => Finding::warning(
            "memory",
            format!("{used} used, and no limit"),
            format!("set spec.resources.limits.memory to {enough}"),
        ),
        (Some(limit), _) if usage.memory > limit * TIGHT => Finding::warning(
            "memory",
            format!("{used} used of a limit of {}", mebibytes(limit)),
            format!("raise spec.resources.limits.memory to {enough}"),
        ),
        (_, Some(request)) if usage.memory < request * IDLE && needed < request => {
            Finding::warning(
                "memory",
                format!("{used} used of {} requested", mebibytes(request)),
                format!("if this is under load, lower spec.resources.requests.memory to {enough}"),
            )
        }
        (Some(limit), _) => {
            Finding::ok("memory", format!("{used} used of a limit of {}", mebibytes(limit)))
        }
    }
}

fn cpu(resources: &ResourceRequirements, usage: Usage) -> Finding {
    let millicores = |cores: f64| format!("{:.0}m", (cores * 1000.0).ceil());
    let used = millicores(usage.cpu);
    match number(resources, false, "cpu") {
        Some(request) if usage.cpu > request * HEADROOM => Finding::warning(
            "cpu",
            format!("{used} used, {} requested", millicores(request)),
            format!("if this is usual, raise spec.resources.requests.cpu to {used}"),
        ),
        Some(request) => {
            Finding::ok("cpu", format!("{used} used, {} requested", millicores(request)))
        }
        None => Finding::warning(
            "cpu",
            format!("{used} used, and nothing requested"),
            format!("set spec.resources.requests.cpu to {used} or more"),
        ),
    }
}

fn was_killed(observed: &Observed) -> bool {
    let status = observed.pod.as_ref().and_then(|pod| pod.status.as_ref());
    let containers = status.and_then(|it| it.container_statuses.as_ref());
    containers.into_iter().flatten().any(|it| {
        let ended = it.last_state.as_ref().and_then(|it| it.terminated.as_ref());
        ended.is_some_and(|it| it.reason.as_deref() == Some("OOMKilled"))
    })
}

fn storage(observed: &Observed) -> Finding {
    match observed.used_share() {
        None => Finding::ok("volume", "no data: the server has not reported what it uses"),
        Some(share) if share > 0.7 => Finding::warning(
            "volume",
            format!("{:.0} % used", share * 100.0),
            "raise spec.storage.size before it is full; growing needs a storage class that allows it",
        ),
        Some(share) => Finding::ok("volume", format!("{:.0} % used", share * 100.0)),
    }
}

/// A journal that is most of the store is worth compacting, once it is large at all.
fn journal(observed: &Observed) -> Option<Finding> {
    let status = observed.store.status.as_ref()?;
    let journal = status.journal_bytes?;
    let used = status.storage.as_ref()?.used_bytes?;
    (journal > 256 * 1024 * 1024 && journal > used / 2).then(|| {
        Finding::warning(
            "journal",
            format!("{} of {} used are journal", units::bytes(journal), units::bytes(used)),
            "`kubectl memory compact`, or a shorter spec.maintenance.compaction.schedule",
        )
    })
}

fn encoder(observed: &Observed) -> Option<Finding> {
    let all = &observed.store.status.as_ref()?.conditions;
    let condition = all.iter().find(|it| it.type_ == conditions::HARDWARE_ENCODING)?;
    (condition.reason == conditions::encoding::SOFTWARE_FALLBACK).then(|| {
        Finding::warning(
            "encoder",
            format!("software, though hardware is preferred: {}", condition.message),
            "make a graphics device available to the pod, or set spec.gpu.mode to Disabled",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Level, text};
    use super::*;
    use crate::fixtures::{self, observed};

    fn usage(cpu: f64, mebibytes: f64) -> Usage {
        Usage { cpu, memory: mebibytes * MEBIBYTE }
    }

    #[test]
    fn settings_that_fit_are_left_alone() {
        let found = findings(&observed(), Some(&usage(0.1, 400.0)));
        assert!(found.iter().all(|it| it.level == Level::Ok), "{found:?}");
    }

    #[test]
    fn a_tight_limit_and_a_growing_journal_are_answered_with_figures() {
        let mut observed = observed();
        let status = observed.store.status.as_mut().unwrap();
        status.journal_bytes = Some(6_000_000_000);
        status.storage.as_mut().unwrap().used_bytes = Some(8_000_000_000);
        fixtures::condition(
            &mut observed.store,
            conditions::HARDWARE_ENCODING,
            "False",
            "SoftwareFallback",
            "no device",
        );
        insta::assert_snapshot!(text(&findings(&observed, Some(&usage(0.4, 1000.0)))));
    }

    #[test]
    fn without_metrics_it_says_so_and_recommends_nothing_about_them() {
        let found = findings(&observed(), None);
        assert!(found[0].message.starts_with("no data"), "{found:?}");
        assert!(!found.iter().any(|it| it.subject == "memory" || it.subject == "cpu"));
    }
}
