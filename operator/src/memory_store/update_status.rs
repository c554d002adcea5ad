//! Stage 6: the status, only from what was observed. What a store says is computed here without a
//! client; writing it, when it differs, is the driver's.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use llm_memory_crds::MemoryStoreStatus;
use llm_memory_crds::conditions::{
    ACCEPTED, HARDWARE_ENCODING, PROGRESSING, READY, STORAGE_HEALTHY, VERIFIED, accepted, encoding,
    progressing, ready, storage, verified,
};
use llm_memory_crds::memory_store::{
    GpuMode, LastVerification, ServerInfo, StorageStatus, UpdatePhase, UpdateStatus, UpdateStrategy,
};

use super::conditions::{Now, Truth, merge, whole_second};
use super::decide::port;
use super::pods;
use super::rollout::{Plan, Replace};
use super::validate::Store;
use crate::probes::Answer;
use crate::server_api::{NEARLY_FULL_PERCENT, ServerStatus, Volume};

/// Everything that was observed.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The store.
    pub store: &'a Store,
    /// The status before.
    pub before: &'a MemoryStoreStatus,
    /// What was decided about the image.
    pub plan: &'a Plan,
    /// The pod.
    pub pod: Option<&'a Pod>,
    /// The pod was made from a template that was another until now or may have been, or that is held
    /// back.
    pub outdated: bool,
    /// The claim.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// Size that was asked for.
    pub requested: &'a str,
    /// Why the claim was not enlarged.
    pub refused_claim: Option<&'a str>,
    /// What pods need and is not there any more.
    pub missing: Option<&'a str>,
    /// What the server answered.
    pub answer: &'a Answer,
    /// The store is reached with TLS.
    pub encrypted: bool,
    /// Selector of the pods.
    pub selector: String,
    /// The time.
    pub now: Timestamp,
}

/// The status of a store that is being acted on.
pub fn status(observed: &Observed<'_>) -> MemoryStoreStatus {
    let Observed { store, before, plan, answer, now, .. } = observed;
    let server = answer.status.as_ref();
    let verification = verification(observed);
    let ready = ready_condition(observed);
    let serves = ready.truth == Truth::True;
    let conditions = vec![
        accepted_condition(observed.missing),
        ready,
        progressing_condition(observed, serves),
        storage_condition(observed),
        verified_condition(verification.as_ref()),
        encoding_condition(observed),
    ];
    let scheme = if observed.encrypted { "https" } else { "http" };
    // Nothing was applied: the Service is as it was.
    let kept_port = if store.spec.paused { port(before) } else { None };
    let there = observed.pod.filter(|pod| !pods::is_going(pod));
    MemoryStoreStatus {
        observed_generation: Some(store.generation),
        conditions: merge(&before.conditions, conditions, store.generation, *now),
        replicas: i32::from(there.is_some()),
        selector: Some(observed.selector.clone()),
        url: Some(format!(
            "{scheme}://{}:{}{}",
            store.names.host(),
            kept_port.unwrap_or(store.spec.mcp.port),
            there.map_or(&*store.spec.mcp.path, pods::path)
        )),
        image: Some(plan.image.clone()),
        server_info: match &answer.handshake {
            Some(Ok(handshake)) => Some(ServerInfo {
                name: handshake.name.clone(),
                version: handshake.version.clone(),
                protocol_version: handshake.protocol.clone(),
            }),
            Some(Err(_)) | None => before.server_info.clone(),
        },
        // What was seen last stays when nobody can be asked: the data is still there.
        items: server.and_then(|server| server.items).or(before.items),
        journal_bytes: server.and_then(|server| server.journal_bytes).or(before.journal_bytes),
        storage: Some(storage_status(observed)),
        encoder: server
            .and_then(|server| server.encoder.as_ref())
            .map(|encoder| {
                if encoder.kind == "software" {
                    "software".to_owned()
                } else {
                    encoder.encoder.clone()
                }
            })
            .or_else(|| before.encoder.clone()),
        last_verification: verification,
        last_compaction: server
            .and_then(|server| server.last_compaction.as_ref())
            .map(|compaction| Time(whole_second(compaction.at)))
            .or_else(|| before.last_compaction.clone()),
        update: plan.update.as_ref().map(remembered),
    }
}

/// A step as the status has it: times of objects have whole seconds.
pub fn remembered(update: &UpdateStatus) -> UpdateStatus {
    let since = update.since.as_ref().map(|since| Time(whole_second(since.0)));
    UpdateStatus { since, ..update.clone() }
}

/// The status of a store that nothing is done for: the condition `obstacle` says why, `serving`
/// whether what runs serves.
pub fn held_up(
    before: &MemoryStoreStatus,
    generation: i64,
    obstacle: Now,
    serving: Now,
    now: Timestamp,
) -> MemoryStoreStatus {
    let mut next = before.clone();
    if obstacle.kind == ACCEPTED {
        // Otherwise the spec was read, and nothing follows from it yet.
        next.observed_generation = Some(generation);
    }
    // What runs goes on running, or not: that is seen as ever.
    replace(&mut next, before, vec![obstacle, serving], generation, now);
    next
}

/// Says `conditions` in `status`, which follows `before`, in the place of what it says of them.
pub fn replace(
    status: &mut MemoryStoreStatus,
    before: &MemoryStoreStatus,
    conditions: Vec<Now>,
    generation: i64,
    now: Timestamp,
) {
    for condition in merge(&before.conditions, conditions, generation, now) {
        let former = status.conditions.iter_mut().find(|it| it.type_ == condition.type_);
        match former {
            Some(former) => *former = condition,
            None => status.conditions.push(condition),
        }
    }
}

fn accepted_condition(missing: Option<&str>) -> Now {
    let Some(missing) = missing else {
        return Now::new(ACCEPTED, true, accepted::VALID, "the spec is acted on");
    };
    let message = format!("{missing}. The pod that runs is not replaced until then");
    Now::new(ACCEPTED, false, accepted::REFERENCE_NOT_FOUND, message)
}

fn ready_condition(observed: &Observed<'_>) -> Now {
    let spec = &observed.store.spec;
    match observed.pod {
        // The pod of a store that is paused stays, however many there are to be.
        Some(pod) if spec.replicas > 0 || spec.paused => {
            serving(pod, Some(observed.answer), &observed.before.conditions)
        }
        _ => {
            let before = &observed.before.conditions;
            unserved(&observed.store.names.store, spec.replicas, before, observed.now)
        }
    }
}

/// How long the controller of StatefulSets may take to make a pod before it is named.
pub const SLOW_POD: SignedDuration = SignedDuration::from_secs(30);

/// Ready of the store `name`, which no pod serves.
pub fn unserved(name: &str, replicas: i32, before: &[Condition], now: Timestamp) -> Now {
    if replicas > 0 {
        // A quota, a priority class or the Pod Security Standard: only the controller is told.
        let refused = format!("there is no pod: `kubectl describe statefulset {name}` says why");
        let former = |kind| before.iter().find(|condition| condition.type_ == kind);
        let slow = |condition: &Condition| {
            now.duration_since(condition.last_transition_time.0) >= SLOW_POD
        };
        let ready = former(READY).filter(|ready| ready.reason == ready::NO_POD);
        let begun = former(PROGRESSING).filter(|progressing| progressing.status == "True");
        let late = ready.is_some_and(|ready| {
            ready.message == refused || (slow(ready) && begun.is_some_and(slow))
        });
        let message = if late { refused } else { "there is no pod yet".to_owned() };
        return Now::new(READY, false, ready::NO_POD, message);
    }
    let message = "spec.replicas is 0; the data is kept, `kubectl memory wake` serves it again";
    Now::new(READY, false, ready::HIBERNATED, message)
}

/// Whether `pod` serves, by what was answered last, or by what was said `before` when nobody has
/// been asked.
pub fn serving(pod: &Pod, answer: Option<&Answer>, before: &[Condition]) -> Now {
    if let Some(obstacle) = pods::obstacle(pod) {
        return Now::new(READY, false, obstacle.reason, obstacle.message);
    }
    match answer.and_then(|answer| answer.handshake.as_ref()) {
        Some(Ok(handshake)) => {
            let (name, version) = (&handshake.name, &handshake.version);
            Now::new(READY, true, ready::SERVING, format!("{name} {version} answered"))
        }
        Some(Err(failure)) => Now::new(READY, false, ready::HANDSHAKE_FAILED, failure.to_string()),
        None => last_answer(before, pod).unwrap_or_else(|| {
            let message = "the pod is ready; its first MCP handshake is under way";
            Now::new(READY, false, ready::NOT_PROBED, message)
        }),
    }
}

/// What a former operator process saw of this pod. An operator that has just been started has
/// asked nobody yet, which says nothing about the stores. That a store serves was said of this
/// pod, and not of one that has taken its place, when it was said after the pod became ready.
fn last_answer(before: &[Condition], pod: &Pod) -> Option<Now> {
    let former = before.iter().find(|condition| condition.type_ == READY)?;
    let (truth, reason) = match former.reason.as_str() {
        ready::SERVING if former.last_transition_time.0 >= pods::ready_since(pod)? => {
            (Truth::True, ready::SERVING)
        }
        ready::HANDSHAKE_FAILED => (Truth::False, ready::HANDSHAKE_FAILED),
        _ => return None,
    };
    Some(Now::new(READY, truth, reason, former.message.clone()))
}

fn progressing_condition(observed: &Observed<'_>, serves: bool) -> Now {
    let (store, plan) = (observed.store, observed.plan);
    let now = |truth: bool, reason, message: String| Now::new(PROGRESSING, truth, reason, message);
    if store.spec.paused {
        let message = "spec.paused is true: nothing is changed until it is false";
        return now(false, progressing::PAUSED, message.to_owned());
    }
    if let Some(update) = &plan.update {
        let why = update.message.clone().unwrap_or_default();
        let (from, to) = (&update.from, &update.to);
        match update.phase {
            UpdatePhase::Verifying => {
                let message = format!("verifying the store before {to}");
                return now(true, progressing::VERIFYING, message);
            }
            UpdatePhase::RollingOut if store.spec.replicas == 0 => {
                let message = format!("{to} is tried when the store wakes");
                return now(false, progressing::COMPLETE, message);
            }
            UpdatePhase::RollingOut => {
                return now(true, progressing::ROLLING_OUT, format!("waiting for {to}"));
            }
            UpdatePhase::RollingBack => {
                let message = format!("{why}; putting {from} back");
                return now(true, progressing::ROLLING_BACK, message);
            }
            UpdatePhase::RolledBack if !plan.pending => {
                let message = format!("{why}; {from} runs again. Set another spec.image");
                return now(false, progressing::ROLLED_BACK, message);
            }
            UpdatePhase::Refused if !plan.pending => {
                let message = format!("{to} was not rolled out: {why}");
                return now(false, progressing::VERIFICATION_FAILED, message);
            }
            UpdatePhase::RolledBack | UpdatePhase::Refused | UpdatePhase::Complete => {}
        }
    }
    let pending = || {
        let message = format!(
            "a change waits for `kubectl memory restart {}`, because spec.update.strategy is \
             Manual; a pod that is made anew before, as by a drain, has every change but that of \
             spec.image",
            store.names.store
        );
        now(false, progressing::UPDATE_PENDING, message)
    };
    if plan.pending {
        return pending();
    }
    let wanted = store.spec.replicas == 1;
    let there = observed.pod.is_some_and(|pod| !pods::is_going(pod));
    if wanted != there || (wanted && !serves) {
        return now(true, progressing::STARTING, "waiting for the pod".to_owned());
    }
    if wanted && observed.outdated {
        let replaced = plan.replace != Replace::Never;
        if !replaced && store.spec.update.strategy == UpdateStrategy::Manual {
            return pending();
        }
        let message = if observed.missing.is_some() {
            "the pod is replaced when nothing is missing: see the condition Accepted"
        } else {
            "the pod is replaced, because its template changed"
        };
        return now(true, progressing::ROLLING_OUT, message.to_owned());
    }
    now(false, progressing::COMPLETE, "everything is as the spec asks".to_owned())
}

fn storage_condition(observed: &Observed<'_>) -> Now {
    let now =
        |truth: bool, reason, message: String| Now::new(STORAGE_HEALTHY, truth, reason, message);
    let Some(claim) = observed.claim else {
        return now(false, storage::PENDING, "the claim is being made".to_owned());
    };
    let status = claim.status.as_ref();
    match status.and_then(|status| status.phase.as_deref()) {
        Some("Bound") => {}
        Some("Lost") => {
            let message = "the volume of the claim is gone; restore a backup into a new store";
            return now(false, storage::LOST, message.to_owned());
        }
        _ => {
            let message = "the claim waits for a volume: see `kubectl describe pvc`";
            return now(false, storage::PENDING, message.to_owned());
        }
    }
    let told = observed.answer.status.as_ref().map_or(&[][..], |status| &status.refusals);
    if let Some(first) = told.first() {
        let more = match told.len() {
            1 => String::new(),
            count => format!(" (and {} more scopes)", count - 1),
        };
        let message = format!("the server takes no writes; {first}{more}");
        return now(false, storage::WRITES_FAIL, message);
    }
    let actual = pods::capacity(claim);
    let refusal = observed.refused_claim.map(str::to_owned).or_else(|| pods::resize_refusal(claim));
    if let Some(refusal) = refusal {
        return now(false, storage::EXPANSION_REFUSED, refusal);
    }
    if let Some(actual) = &actual
        && super::quantity::less(actual, observed.requested) == Some(true)
    {
        let message = format!("growing from {actual} to {}", observed.requested);
        return now(true, storage::RESIZING, message);
    }
    if observed.answer.status.is_none()
        && let Some(last) = last_storage(&observed.before.conditions)
    {
        return last;
    }
    let volume = observed.answer.status.as_ref().and_then(|status| status.volume);
    if volume.is_some_and(Volume::is_nearly_full) {
        // Figures that move all the time would make each a write of the status.
        let message =
            format!("over {NEARLY_FULL_PERCENT} % of the volume are used: raise spec.storage.size");
        return now(false, storage::NEARLY_FULL, message);
    }
    now(true, storage::BOUND, "the volume is bound".to_owned())
}

/// What a server said of its volume, while nobody can be asked: that says nothing about it.
fn last_storage(before: &[Condition]) -> Option<Now> {
    let former = before.iter().find(|condition| condition.type_ == STORAGE_HEALTHY)?;
    let reason = [storage::WRITES_FAIL, storage::NEARLY_FULL]
        .into_iter()
        .find(|reason| *reason == former.reason)?;
    Some(Now::new(STORAGE_HEALTHY, false, reason, former.message.clone()))
}

fn verification(observed: &Observed<'_>) -> Option<LastVerification> {
    let last = observed.answer.status.as_ref().and_then(|status| status.last_verification.as_ref());
    let Some(last) = last else { return observed.before.last_verification.clone() };
    let intact = last.verdict == "sound";
    let message = if intact {
        format!("{} records intact", last.checked)
    } else if last.damage.is_empty() {
        format!("{}: {} of {} records damaged", last.verdict, last.damaged, last.checked)
    } else {
        format!("{} of {} records damaged: {}", last.damaged, last.checked, last.damage.join("; "))
    };
    Some(LastVerification { time: Time(whole_second(last.at)), intact, message })
}

fn verified_condition(last: Option<&LastVerification>) -> Now {
    match last {
        None => {
            Now::new(VERIFIED, Truth::Unknown, verified::NEVER, "no verification has ended yet")
        }
        Some(last) if last.intact => {
            Now::new(VERIFIED, true, verified::INTACT, last.message.clone())
        }
        Some(last) => Now::new(VERIFIED, false, verified::DAMAGED, last.message.clone()),
    }
}

fn encoding_condition(observed: &Observed<'_>) -> Now {
    let now =
        |truth: Truth, reason, message: &str| Now::new(HARDWARE_ENCODING, truth, reason, message);
    if observed.store.spec.gpu.mode == GpuMode::Disabled {
        return now(Truth::False, encoding::DISABLED, "spec.gpu.mode is Disabled");
    }
    let encoder = |status: &ServerStatus| status.encoder.clone();
    match observed.answer.status.as_ref().and_then(encoder) {
        None => last_encoding(&observed.before.conditions).unwrap_or_else(|| {
            now(Truth::Unknown, encoding::UNKNOWN, "the server has not said yet")
        }),
        Some(encoder) if encoder.kind == "hardware" => {
            now(Truth::True, encoding::HARDWARE, &encoder.reason)
        }
        Some(encoder) => now(Truth::False, encoding::SOFTWARE_FALLBACK, &encoder.reason),
    }
}

/// What the server said to a former operator process.
fn last_encoding(before: &[Condition]) -> Option<Now> {
    let former = before.iter().find(|condition| condition.type_ == HARDWARE_ENCODING)?;
    let (truth, reason) = match former.reason.as_str() {
        encoding::HARDWARE => (Truth::True, encoding::HARDWARE),
        encoding::SOFTWARE_FALLBACK => (Truth::False, encoding::SOFTWARE_FALLBACK),
        _ => return None,
    };
    Some(Now::new(HARDWARE_ENCODING, truth, reason, former.message.clone()))
}

fn storage_status(observed: &Observed<'_>) -> StorageStatus {
    let server = observed.answer.status.as_ref();
    let before = observed.before.storage.as_ref();
    let used = server
        .and_then(|server| server.used_bytes)
        .or_else(|| before.and_then(|before| before.used_bytes));
    StorageStatus {
        requested: Some(observed.requested.to_owned()),
        actual: observed.claim.and_then(pods::capacity),
        used: used.map(super::quantity::for_people),
        used_bytes: used,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(ready_since: &str) -> Pod {
        serde_json::from_value(json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": ready_since},
        ]}}))
        .unwrap()
    }

    fn said(kind: &str, status: &str, reason: &str) -> Vec<Condition> {
        serde_json::from_value(json!([{
            "type": kind, "status": status, "reason": reason, "message": "said before",
            "lastTransitionTime": "2026-01-01T00:00:05Z",
        }]))
        .unwrap()
    }

    #[test]
    fn a_restart_of_the_operator_does_not_make_a_store_unready() {
        let serving = said(READY, "True", ready::SERVING);
        let kept = last_answer(&serving, &pod("2026-01-01T00:00:05Z")).unwrap();
        assert_eq!((kept.truth, kept.reason), (Truth::True, ready::SERVING));
        assert_eq!(kept.message, "said before");
        // Another pod, or another container in it, became ready since.
        assert_eq!(last_answer(&serving, &pod("2026-01-01T00:00:06Z")), None);
        let failed = said(READY, "False", ready::HANDSHAKE_FAILED);
        let kept = last_answer(&failed, &pod("2026-01-01T00:00:06Z")).unwrap();
        assert_eq!((kept.truth, kept.reason), (Truth::False, ready::HANDSHAKE_FAILED));
        for reason in [ready::NO_POD, ready::HIBERNATED, ready::NOT_PROBED] {
            let other = said(READY, "False", reason);
            assert_eq!(last_answer(&other, &pod("2026-01-01T00:00:01Z")), None, "{reason}");
        }
        assert_eq!(last_answer(&[], &pod("2026-01-01T00:00:01Z")), None);
    }

    #[test]
    fn a_pod_that_is_not_made_is_asked_about_at_its_statefulset() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let begun = |since: &str| {
            let mut all = said(READY, "False", ready::NO_POD);
            all.extend(said(PROGRESSING, "True", progressing::STARTING));
            all[1].last_transition_time = Time(at(since));
            all
        };
        let told = |before: &[Condition], now| unserved("notes", 1, before, at(now)).message;
        let first = "2026-01-01T00:00:05Z";
        assert_eq!(told(&begun(first), "2026-01-01T00:00:34Z"), "there is no pod yet");
        let late = told(&begun(first), "2026-01-01T00:00:35Z");
        assert!(late.contains("kubectl describe statefulset notes"), "{late}");
        assert_eq!(told(&[], "2026-01-01T01:00:00Z"), "there is no pod yet");
        // It slept until a moment ago.
        let woken = begun("2026-01-01T00:59:59Z");
        assert_eq!(told(&woken, "2026-01-01T01:00:00Z"), "there is no pod yet");
        // What was said stays said.
        let mut again = begun("2026-01-01T00:59:59Z");
        again[0].message.clone_from(&late);
        assert_eq!(told(&again, "2026-01-01T01:00:00Z"), late);
    }

    #[test]
    fn a_restart_of_the_operator_does_not_forget_the_encoder() {
        let hardware = said(HARDWARE_ENCODING, "True", encoding::HARDWARE);
        assert_eq!(last_encoding(&hardware).map(|now| now.truth), Some(Truth::True));
        let disabled = said(HARDWARE_ENCODING, "False", encoding::DISABLED);
        assert_eq!(last_encoding(&disabled), None);
    }

    #[test]
    fn a_volume_that_nobody_can_be_asked_about_is_as_it_was_said_to_be() {
        let fails = said(STORAGE_HEALTHY, "False", storage::WRITES_FAIL);
        let kept = last_storage(&fails).unwrap();
        assert_eq!((kept.truth, kept.message.as_str()), (Truth::False, "said before"));
        let pending = said(STORAGE_HEALTHY, "False", storage::PENDING);
        assert_eq!(last_storage(&pending), None);
    }
}
