//! Between the pure stage of the rollout and the world: asks the server, turns what is known into a
//! [`Situation`], and starts the verification that a plan wants.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use llm_memory_crds::conditions::{PROGRESSING, progressing};
use llm_memory_crds::memory_store::{UpdatePhase, UpdateStatus};
use llm_memory_crds::{MemoryStore, MemoryStoreStatus};
use serde_json::json;

use super::dereference::Found;
use super::rollout::{self, Plan, Replace, Situation, Verification};
use super::validate::Store;
use super::{conditions, pods};
use crate::context::Context;
use crate::names::{Names, operator_audience};
use crate::probes::{Answer, Target};
use crate::server_api::JobState;

/// The pod that can be asked is asked, as it was made and whatever the spec says by now; of others,
/// what was said last is known.
pub(super) fn ask(
    context: &Context,
    object: &MemoryStore,
    pod: Option<&Pod>,
    authority: Option<&[u8]>,
    before: &MemoryStoreStatus,
) -> (Answer, Option<Target>) {
    let names = Names::new(object.namespace().unwrap_or_default(), object.name_any());
    let reference = ObjectRef::new(&names.store).within(&names.namespace);
    let Some(pod) = pod.filter(|pod| pods::is_ready(pod)) else {
        let last = context.probes.unwatch(&reference).unwrap_or_default();
        // Figures stay; that somebody answered does not.
        return (Answer { handshake: None, job: None, ..last }, None);
    };
    let scheme = if pods::is_encrypted(pod) { "https" } else { "http" };
    let port = port(before).unwrap_or(object.spec.mcp.port);
    let uid = object.uid().unwrap_or_default();
    let job = before
        .update
        .as_ref()
        .filter(|update| update.phase == UpdatePhase::Verifying)
        .and_then(|update| update.verify_job.clone());
    let target = Target {
        base: format!("{scheme}://{}:{port}", names.host()),
        authority: authority.map(<[u8]>::to_vec),
        audience: pods::audience(pod).map(|_| operator_audience(&uid)),
        pod: pod.uid().unwrap_or_default(),
        job,
    };
    (context.probes.watch(&reference, target.clone()), Some(target))
}

/// The port of the Service: the one that was told last, when it was applied.
pub(super) fn port(before: &MemoryStoreStatus) -> Option<i32> {
    let url: http::Uri = before.url.as_ref()?.parse().ok()?;
    url.port_u16().map(i32::from)
}

/// Decides about image and pod.
pub(super) fn decide(
    context: &Context,
    store: &Store,
    found: &Found,
    before: &MemoryStoreStatus,
    answer: &Answer,
    now: Timestamp,
) -> Plan {
    let running = found.stateful_set.as_deref().and_then(pods::image);
    // A newer operator brings a newer default; stores keep the image that they were made with.
    let wanted = store
        .spec
        .image
        .clone()
        .or_else(|| running.clone())
        .or_else(|| before.image.clone())
        .unwrap_or_else(|| context.settings.server_image.clone());
    let unasked = is_unasked(store, found.pod.as_deref(), answer);
    if store.spec.paused || unasked || found.missing.is_some() {
        let mut update = before.update.clone();
        if let Some(update) = &mut update
            && (found.missing.is_some() && update.phase == UpdatePhase::RollingOut)
        {
            // Its pod may wait for what is missing.
            update.since = None;
        }
        return Plan {
            image: running.unwrap_or(wanted),
            update,
            verify: false,
            replace: Replace::Never,
            pending: unasked && is_pending(&before.conditions),
        };
    }
    let answers = matches!(answer.handshake, Some(Ok(_)));
    rollout::plan(&Situation {
        spec: &store.spec.update,
        wanted: &wanted,
        running: running.as_deref(),
        hibernated: store.spec.replicas == 0,
        restart_requested: restart_is_due(store, found.pod.as_deref(), before.update.as_ref(), now),
        pod: pods::state(found.pod.as_deref(), found.stateful_set.as_deref(), answers),
        pod_made: found.pod.as_deref().and_then(pods::made),
        down: found.pod.as_deref().is_some_and(|pod| pods::is_down(pod, now)),
        update: before.update.as_ref(),
        verification: verification(answer),
        now,
    })
}

/// Whether the pod is ready, and nobody has asked it yet, which is so for half a second whenever an
/// operator was started. Nothing is decided on that: an update would begin without its
/// verification, and one that went well while no operator ran would be taken back as too late.
fn is_unasked(store: &Store, pod: Option<&Pod>, answer: &Answer) -> bool {
    store.spec.replicas == 1 && answer.handshake.is_none() && pod.is_some_and(pods::is_ready)
}

fn is_pending(before: &[Condition]) -> bool {
    before.iter().any(|condition| {
        condition.type_ == PROGRESSING && condition.reason == progressing::UPDATE_PENDING
    })
}

/// Whether the pod is older than a wish for another, which has come true when the clock of whoever
/// wished was ahead, and which no update was refused or taken back for since.
fn restart_is_due(
    store: &Store,
    pod: Option<&Pod>,
    update: Option<&UpdateStatus>,
    now: Timestamp,
) -> bool {
    let Some(wish) = store.restart_requested.filter(|wish| *wish <= now) else { return false };
    let spent = update.is_some_and(|update| {
        matches!(update.phase, UpdatePhase::Refused | UpdatePhase::RolledBack)
            && update.since.as_ref().is_some_and(|since| since.0 >= conditions::whole_second(wish))
    });
    !spent && pod.and_then(pods::made).is_some_and(|made| made < wish)
}

fn verification(answer: &Answer) -> Verification {
    match &answer.job {
        None => Verification::None,
        Some(Err(reason)) => Verification::Failed(reason.clone()),
        Some(Ok(job)) => {
            let summary = || job.summary.clone().unwrap_or_else(|| "damage was found".to_owned());
            match job.state {
                JobState::Pending | JobState::Running => Verification::Running,
                JobState::Succeeded => Verification::Intact,
                JobState::Finding => Verification::Damaged(summary()),
                JobState::Failed | JobState::Cancelled => {
                    let error = job.error.as_ref().and_then(|error| error.message.clone());
                    Verification::Failed(error.unwrap_or_else(summary))
                }
            }
        }
    }
}

/// Asks the server to verify itself. When it does not take the job, the next run asks again.
pub(super) async fn begin_verification(
    context: &Context,
    store: &Store,
    plan: &mut Plan,
    target: Option<&Target>,
) {
    let (Some(update), Some(target)) = (plan.update.as_mut(), target) else { return };
    let wish = store.restart_requested.map(|wish| wish.to_string());
    let attempt = crate::hash::of(&json!([store.uid, store.generation, update.to, wish]));
    let reference = ObjectRef::new(&store.names.store).within(&store.names.namespace);
    let asked = match context.probes.server(&reference, target).await {
        Ok(server) => server.verify(&format!("update-{attempt}")).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(job) => update.verify_job = Some(job.id),
        Err(error) => tracing::warn!(
            namespace = store.names.namespace, name = store.names.store, %error,
            "the server did not take the verification before the update"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::validate::validate;
    use super::*;
    use crate::probes::Failure;

    #[test]
    fn a_wish_is_granted_once_and_not_before_its_time() {
        let object: MemoryStore = serde_json::from_value(json!({
            "apiVersion": "llm-memory.dev/v1alpha1", "kind": "MemoryStore",
            "metadata": {
                "name": "m", "namespace": "team", "uid": "u", "generation": 1,
                "annotations": {crate::names::RESTART: "2026-01-01T00:10:00.5Z"},
            },
            "spec": {},
        }))
        .unwrap();
        let store = validate(&object).unwrap();
        let pod = |made: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"creationTimestamp": made}})).unwrap()
        };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let due = |made: &str, update: Option<&UpdateStatus>, now: &str| {
            restart_is_due(&store, Some(&pod(made)), update, at(now))
        };
        assert!(due("2026-01-01T00:00:00Z", None, "2026-01-01T00:11:00Z"));
        assert!(!due("2026-01-01T00:10:01Z", None, "2026-01-01T00:11:00Z"), "a new pod");
        assert!(!due("2026-01-01T00:00:00Z", None, "2026-01-01T00:05:00Z"), "a clock ahead");
        let refused = UpdateStatus {
            phase: UpdatePhase::Refused,
            since: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(
                "2026-01-01T00:10:30Z",
            ))),
            ..UpdateStatus::default()
        };
        assert!(!due("2026-01-01T00:00:00Z", Some(&refused), "2026-01-01T00:11:00Z"), "answered");
    }

    #[test]
    fn nothing_is_decided_on_a_ready_pod_that_nobody_has_asked_yet() {
        let store = |replicas: i32| {
            let object: MemoryStore = serde_json::from_value(json!({
                "apiVersion": "llm-memory.dev/v1alpha1", "kind": "MemoryStore",
                "metadata": {"name": "m", "namespace": "team", "uid": "u", "generation": 1},
                "spec": {"replicas": replicas},
            }))
            .unwrap();
            validate(&object).unwrap()
        };
        let pod = |ready: &str| -> Pod {
            let conditions = json!([{"type": "Ready", "status": ready}]);
            serde_json::from_value(json!({"status": {"conditions": conditions}})).unwrap()
        };
        let unasked = Answer::default();
        let failed = Answer {
            handshake: Some(Err(Failure::Silence("refused".to_owned()))),
            ..Answer::default()
        };
        assert!(is_unasked(&store(1), Some(&pod("True")), &unasked));
        assert!(!is_unasked(&store(1), Some(&pod("True")), &failed));
        assert!(!is_unasked(&store(1), Some(&pod("False")), &unasked));
        assert!(!is_unasked(&store(1), None, &unasked));
        assert!(!is_unasked(&store(0), Some(&pod("True")), &unasked));
    }
}
