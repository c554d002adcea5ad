//! What is wrong with a pod; pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::Finding;
use crate::commands::restart::is_ready;
use crate::commands::status::Observed;
use crate::{names, units};

/// Shares of a volume from which on it is nearly full, and as good as full.
const NEARLY_FULL: f64 = 0.85;
const FULL: f64 = 0.95;

/// Looks at the pod, its container and its volume.
pub(super) fn findings(observed: &Observed, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &observed.pod {
        Some(pod) => {
            findings.push(state(pod));
            findings.extend(container(pod, now));
            findings.push(limits(pod));
        }
        None if observed.unreadable.contains_key("pod") => {}
        None if observed.store.spec.replicas == 0 => {
            findings.push(Finding::ok("pod", "none, since the store is hibernated"));
        }
        None => findings.push(Finding::critical(
            "pod",
            "there is none",
            "`kubectl memory status` shows why; is the operator running?",
        )),
    }
    if !observed.unreadable.contains_key("claim") {
        findings.push(claim(observed));
    }
    findings.extend(volume(observed));
    findings.extend(observed.unreadable.values().map(|failure| {
        Finding::warning("rights", failure.clone(), "the check is incomplete without")
    }));
    findings
}

fn state(pod: &Pod) -> Finding {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let refused =
        |type_: &str| conditions.iter().find(|it| it.type_ == type_ && it.status == "False");
    if pod.metadata.deletion_timestamp.is_some() {
        return Finding::warning("pod", "it is being stopped", "wait for its successor");
    }
    if let Some(condition) = refused("PodScheduled") {
        return Finding::critical(
            "pod",
            format!(
                "no node takes it: {}",
                condition.message.as_deref().unwrap_or("no reason given")
            ),
            "free resources, or change spec.nodeSelector, spec.tolerations, spec.gpu or spec.resources",
        );
    }
    if matches!(status.phase.as_deref(), Some("Failed")) {
        let reason = status.reason.unwrap_or_default();
        return Finding::critical(
            "pod",
            format!("it failed: {reason} {}", status.message.unwrap_or_default()),
            "`kubectl memory restart` makes another",
        );
    }
    if is_ready(pod) {
        return Finding::ok("pod", "ready");
    }
    let reason = refused("Ready").and_then(|it| it.message.clone().or(it.reason.clone()));
    Finding::critical(
        "pod",
        format!("not ready: {}", reason.unwrap_or_else(|| "it has not said why".to_owned())),
        "`kubectl memory logs` shows what the server does",
    )
}

fn server(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|it| it.name == names::SERVER)
}

fn container(pod: &Pod, now: Timestamp) -> Vec<Finding> {
    let Some(container) = server(pod) else { return Vec::new() };
    let mut findings = Vec::new();
    if let Some(waiting) = container.state.as_ref().and_then(|it| it.waiting.as_ref()) {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if !matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
            let remedy = match reason {
                "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" => {
                    "check spec.image and spec.imagePullSecrets"
                }
                "CreateContainerConfigError" => "a Secret or ConfigMap that it needs is missing",
                _ => "`kubectl memory logs --previous` shows how it ended",
            };
            let message = waiting.message.as_deref().unwrap_or_default();
            findings.push(Finding::critical("container", format!("{reason}: {message}"), remedy));
        }
    }
    let last = container.last_state.as_ref().and_then(|it| it.terminated.as_ref());
    let when = last
        .and_then(|it| it.finished_at.as_ref())
        .map(|at| format!(" {} ago", units::age(at.0, now)))
        .unwrap_or_default();
    let reason = last.and_then(|it| it.reason.as_deref()).unwrap_or("no reason given");
    if reason == "OOMKilled" {
        findings.push(Finding::warning(
            "memory",
            format!("the server was killed for want of memory{when}"),
            "raise spec.resources.limits.memory; `kubectl memory pod optimize` says how far",
        ));
    }
    findings.push(match container.restart_count {
        0 => Finding::ok("restarts", "none"),
        count => Finding::warning(
            "restarts",
            format!("{count}, the last{when}: {reason}"),
            "`kubectl memory logs --previous` shows how it ended",
        ),
    });
    findings
}

fn limits(pod: &Pod) -> Finding {
    let containers = pod.spec.iter().flat_map(|it| &it.containers);
    let server = containers.into_iter().find(|it| it.name == names::SERVER);
    let resources = server.and_then(|it| it.resources.as_ref());
    let limit = resources.and_then(|it| it.limits.as_ref()).and_then(|it| it.get("memory"));
    let requested = resources.and_then(|it| it.requests.as_ref()).and_then(|it| it.get("memory"));
    match (limit, requested) {
        (None, _) => Finding::warning(
            "limits",
            "no memory limit: the server can take the node down",
            "set spec.resources.limits.memory",
        ),
        (Some(_), None) => Finding::warning(
            "limits",
            "no memory request: the scheduler does not know what it needs",
            "set spec.resources.requests.memory",
        ),
        (Some(limit), Some(_)) => Finding::ok("limits", format!("memory {}", limit.0)),
    }
}

fn claim(observed: &Observed) -> Finding {
    let Some(claim) = &observed.claim else {
        return Finding::critical(
            "claim",
            "there is none",
            "`kubectl memory status` shows why; an existing claim must be in the store's namespace",
        );
    };
    match claim.status.as_ref().and_then(|it| it.phase.as_deref()) {
        Some("Bound") => Finding::ok("claim", "bound"),
        phase => Finding::critical(
            "claim",
            format!("not bound, but {}", phase.unwrap_or("unknown")),
            "`kubectl describe persistentvolumeclaim` shows why; check spec.storage.storageClassName",
        ),
    }
}

fn volume(observed: &Observed) -> Option<Finding> {
    let share = observed.used_share()?;
    let message = format!("{:.0} % used", share * 100.0);
    let remedy = "raise spec.storage.size, or `kubectl memory compact`";
    Some(if share >= FULL {
        Finding::critical("volume", message, remedy)
    } else if share >= NEARLY_FULL {
        Finding::warning("volume", message, remedy)
    } else {
        Finding::ok("volume", message)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::text;
    use super::*;
    use crate::fixtures::{self, observed};

    fn page(observed: &Observed) -> String {
        text(&findings(observed, fixtures::now()))
    }

    #[test]
    fn a_pod_that_is_well_has_no_findings() {
        insta::assert_snapshot!(page(&observed()));
    }

    #[test]
    fn every_trouble_is_named_with_its_remedy() {
        let mut observed = observed();
        let pod = json!({
            "metadata": { "name": "mem-0" },
            "spec": { "containers": [{ "name": "server" }] },
            "status": {
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": "False", "message": "containers with unready status: [server]" }],
                "containerStatuses": [{
                    "name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 7,
                    "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 5m0s" } },
                    "lastState": { "terminated": { "reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-03-01T11:58:00Z" } },
                }],
            },
        });
        observed.pod = Some(serde_json::from_value(pod).unwrap());
        let storage = observed.store.status.as_mut().unwrap().storage.as_mut().unwrap();
        storage.used_bytes = Some(9_500_000_000);
        insta::assert_snapshot!(page(&observed));
    }

    #[test]
    fn a_pod_without_a_node_is_critical_and_says_the_scheduler_s_reason() {
        let mut observed = observed();
        let status = json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available" },
        ] });
        observed.pod.as_mut().unwrap().status = Some(serde_json::from_value(status).unwrap());
        let first = &findings(&observed, fixtures::now())[0];
        assert_eq!(first.level, super::super::Level::Critical);
        assert_eq!(first.message, "no node takes it: 0/3 nodes are available");
    }

    #[test]
    fn what_may_not_be_read_is_unknown_and_not_absent() {
        let mut observed = observed();
        (observed.pod, observed.claim) = (None, None);
        observed.unreadable.insert("pod", "not allowed to read pod prod/mem-0".to_owned());
        observed.unreadable.insert("claim", "not allowed to read the claim".to_owned());
        let found = findings(&observed, fixtures::now());
        let subjects: Vec<_> = found.iter().map(|it| (it.level, it.subject)).collect();
        assert_eq!(subjects, [(super::super::Level::Warning, "rights"); 2]);
    }

    #[test]
    fn a_hibernated_store_needs_no_pod() {
        let mut observed = observed();
        observed.pod = None;
        assert!(page(&observed).contains("CRITICAL   pod"), "{}", page(&observed));
        observed.store.spec.replicas = 0;
        assert!(!page(&observed).contains("CRITICAL"), "{}", page(&observed));
    }
}
