//! What pods and claims say of themselves. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, Pod, PodSpec, Volume};
use llm_memory_crds::conditions::ready;

use super::build::{AUDIENCE_VARIABLE, PATH_VARIABLE, TLS_VARIABLE, TLS_VOLUME};
use super::rollout::PodState;

/// Why a pod does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// For programs.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Whether the pod is being deleted.
pub fn is_going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the pod's condition Ready holds.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, ..)| status == "True") && !is_going(pod)
}

/// Since when the pod is ready; `None` when it is not.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|it| it.type_ == "Ready" && it.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// How long a pod may be unready before it counts as down.
const DOWN_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// Whether the pod is there and has not been ready for a while.
pub fn is_down(pod: &Pod, now: Timestamp) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|it| it.type_ == "Ready"));
    let since = match ready {
        Some(ready) if ready.status == "True" => return false,
        Some(ready) => ready.last_transition_time.as_ref(),
        None => pod.metadata.creation_timestamp.as_ref(),
    };
    !is_going(pod) && since.is_some_and(|since| now.duration_since(since.0) >= DOWN_AFTER)
}

/// Whether the pod serves TLS: what it was made with, and not what the spec has asked for since. A
/// volume of the name may be anybody's.
pub fn is_encrypted(pod: &Pod) -> bool {
    variable(pod, TLS_VARIABLE).is_some()
}

/// The Secret with the certificate that the pod serves TLS with.
pub fn certificate(pod: &Pod) -> Option<&str> {
    let volumes = pod.spec.as_ref().filter(|_| is_encrypted(pod))?.volumes.as_ref()?;
    let volume = volumes.iter().find(|volume| volume.name == TLS_VOLUME)?;
    volume.secret.as_ref()?.secret_name.as_deref()
}

/// Audience of the tokens that the pod's callers show; none when it takes everybody.
pub fn audience(pod: &Pod) -> Option<&str> {
    variable(pod, AUDIENCE_VARIABLE)
}

/// The path of MCP that the pod was made with.
pub fn path(pod: &Pod) -> &str {
    variable(pod, PATH_VARIABLE).unwrap_or("/mcp")
}

/// A variable of the server's container.
fn variable<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let containers = &pod.spec.as_ref()?.containers;
    let server = containers.iter().find(|container| container.name == crate::names::CONTAINER)?;
    let variable = server.env.as_ref()?.iter().find(|variable| variable.name == name)?;
    variable.value.as_deref()
}

/// Drops of the spec of a pod all that is not asked about here.
pub fn trim_spec(pod: &mut Pod) {
    let Some(spec) = pod.spec.take() else { return };
    let is_known = |name: &str| [TLS_VARIABLE, AUDIENCE_VARIABLE, PATH_VARIABLE].contains(&name);
    // Into lists of their own: one that is filtered keeps the room of all that was in it, and a
    // volume takes kilobytes however little it says.
    let server = spec.containers.into_iter().find(|it| it.name == crate::names::CONTAINER);
    let volumes = spec.volumes.unwrap_or_default();
    let certificate = volumes.into_iter().find(|volume| volume.name == TLS_VOLUME);
    pod.spec = Some(PodSpec {
        containers: server
            .map(|container| {
                let mut env = container.env.unwrap_or_default();
                env.retain(|variable| is_known(&variable.name));
                env.shrink_to_fit();
                vec![Container { name: container.name, env: Some(env), ..Container::default() }]
            })
            .unwrap_or_default(),
        volumes: certificate.map(|volume| {
            vec![Volume { name: volume.name, secret: volume.secret, ..Volume::default() }]
        }),
        ..PodSpec::default()
    });
}

/// When the pod was made.
pub fn made(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|made| made.0)
}

/// Why the pod is not ready; `None` when it is.
pub fn obstacle(pod: &Pod) -> Option<Obstacle> {
    if is_going(pod) {
        let message = "the pod is ending".to_owned();
        return Some(Obstacle { reason: ready::POD_NOT_READY, message });
    }
    if is_ready(pod) {
        return None;
    }
    if let Some((status, _, message)) = condition(pod, "PodScheduled")
        && status == "False"
    {
        let message = format!("no node takes the pod: {message}");
        return Some(Obstacle { reason: ready::UNSCHEDULABLE, message });
    }
    if let Some(message) = waiting(pod) {
        return Some(Obstacle { reason: ready::CONTAINER_WAITING, message });
    }
    let message = condition(pod, "Ready").map_or_else(
        || "the pod is starting".to_owned(),
        |(_, reason, message)| {
            if message.is_empty() { format!("the pod is not ready: {reason}") } else { message }
        },
    );
    Some(Obstacle { reason: ready::POD_NOT_READY, message })
}

/// Status, reason and message of a condition.
fn condition(pod: &Pod, kind: &str) -> Option<(String, String, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((
        found.status.clone(),
        found.reason.clone().unwrap_or_default(),
        found.message.clone().unwrap_or_default(),
    ))
}

/// What a container waits for, when that is more than its start.
fn waiting(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    for container in containers {
        let last = container
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
            .map(|ended| {
                let reason = ended.reason.clone().unwrap_or_default();
                format!("; it ended with exit code {} ({reason})", ended.exit_code)
            })
            .unwrap_or_default();
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        if let Some(waiting) = waiting {
            let reason = waiting.reason.as_deref().unwrap_or("Waiting");
            if reason == "ContainerCreating" || reason == "PodInitializing" {
                continue;
            }
            let message = waiting.message.as_deref().unwrap_or_default();
            return Some(format!("container {}: {reason} {message}{last}", container.name));
        }
    }
    None
}

/// How the pod stands to the template of its StatefulSet. `answers` says whether a handshake
/// succeeded.
pub fn state(pod: Option<&Pod>, set: Option<&StatefulSet>, answers: bool) -> PodState {
    let Some(pod) = pod else { return PodState::Absent };
    if is_going(pod) {
        return PodState::Ending;
    }
    let ready = answers && is_ready(pod);
    let Some(set) = set else { return PodState::Unknown { ready } };
    let status = set.status.as_ref();
    let seen = status.and_then(|status| status.observed_generation);
    let revision = status.and_then(|status| status.update_revision.as_ref());
    let own =
        pod.metadata.labels.as_ref().and_then(|labels| labels.get("controller-revision-hash"));
    match (revision, own) {
        (Some(revision), Some(own)) if seen == set.metadata.generation => {
            if revision == own {
                PodState::Current { ready }
            } else {
                PodState::Outdated { ready }
            }
        }
        _ => PodState::Unknown { ready },
    }
}

/// Size that the claim has.
pub fn capacity(claim: &PersistentVolumeClaim) -> Option<String> {
    let capacity = claim.status.as_ref()?.capacity.as_ref()?;
    capacity.get("storage").map(|quantity| quantity.0.clone())
}

/// Size that the claim asks for.
pub fn request(claim: &PersistentVolumeClaim) -> Option<String> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(|quantity| quantity.0.clone())
}

/// Why the claim does not grow, when the cluster says so.
pub fn resize_refusal(claim: &PersistentVolumeClaim) -> Option<String> {
    let conditions = claim.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| {
            condition.status == "True"
                && (condition.type_ == "ControllerResizeError"
                    || condition.type_ == "NodeResizeError")
        })
        .map(|condition| condition.message.clone().unwrap_or_default())
}

/// Image of the server's container in the template of a StatefulSet, as the operator named it.
pub fn image(set: &StatefulSet) -> Option<String> {
    if let Some(named) = annotation(set, crate::names::IMAGE) {
        return Some(named);
    }
    let containers = &set.spec.as_ref()?.template.spec.as_ref()?.containers;
    let server = containers.iter().find(|container| container.name == crate::names::CONTAINER)?;
    server.image.clone()
}

/// An annotation of a StatefulSet.
pub fn annotation(set: &StatefulSet, name: &str) -> Option<String> {
    set.metadata.annotations.as_ref()?.get(name).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "m-0", "labels": {"controller-revision-hash": "m-1"}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_scheduler_and_the_kubelet_are_quoted() {
        let unscheduled = pod(json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
        }]}));
        let obstacle = obstacle(&unscheduled).unwrap();
        assert_eq!(obstacle.reason, ready::UNSCHEDULABLE);
        assert!(obstacle.message.contains("nvidia.com/gpu"));
        let broken = pod(json!({"containerStatuses": [{
            "name": "server", "ready": false, "restartCount": 3, "image": "x", "imageID": "",
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }]}));
        let obstacle = super::obstacle(&broken).unwrap();
        assert_eq!(obstacle.reason, ready::CONTAINER_WAITING);
        assert!(
            obstacle.message.contains("CrashLoopBackOff") && obstacle.message.contains("OOMKilled")
        );
        let ready = pod(json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        assert_eq!(super::obstacle(&ready), None);
    }

    #[test]
    fn a_pod_is_down_when_it_has_not_been_ready_for_a_while() {
        let since = |status: &str| {
            pod(json!({"conditions": [{
                "type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]}))
        };
        let now = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(!is_down(&since("False"), now("2026-01-01T00:00:29Z")));
        assert!(is_down(&since("False"), now("2026-01-01T00:00:30Z")));
        assert!(!is_down(&since("True"), now("2026-01-01T01:00:00Z")));
    }

    #[test]
    fn a_revision_counts_only_when_the_controller_has_seen_the_template() {
        let ready = pod(json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        let set = |generation, seen, revision: &str| -> StatefulSet {
            serde_json::from_value(json!({
                "metadata": {"generation": generation},
                "status": {"observedGeneration": seen, "updateRevision": revision, "replicas": 1},
            }))
            .unwrap()
        };
        let state = |set| super::state(Some(&ready), Some(&set), true);
        assert_eq!(state(set(2, 2, "m-1")), PodState::Current { ready: true });
        assert_eq!(state(set(2, 2, "m-2")), PodState::Outdated { ready: true });
        assert_eq!(state(set(3, 2, "m-1")), PodState::Unknown { ready: true });
        assert_eq!(super::state(None, None, true), PodState::Absent);
        let mut going = ready.clone();
        going.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(super::state(Some(&going), Some(&set(2, 2, "m-1")), true), PodState::Ending);
    }
}
