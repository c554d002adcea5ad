//! Events: what a person wants to know when looking at a store. One for each change of a
//! condition's status or reason, and for what the operator does to a pod or a token.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource as _;
use kube::runtime::events::{Event, EventType};
use llm_memory_crds::MemoryStore;
use llm_memory_crds::conditions::{
    ACCEPTED, READY, STORAGE_HEALTHY, VERIFIED, progressing, ready, storage, verified,
};

use super::conditions;
use crate::context::Context;

/// Longest note that the API server takes.
const MAX_NOTE: usize = 1000;

/// Tells what became of the conditions.
pub(super) async fn conditions_changed(
    context: &Context,
    object: &MemoryStore,
    before: &[Condition],
    now: &[Condition],
) {
    for condition in conditions::changed(before, now) {
        // The first sight of a condition that holds nothing back is no news.
        let first = before.iter().all(|former| former.type_ != condition.type_);
        if first && !is_warning(condition) {
            continue;
        }
        let kind = if is_warning(condition) { EventType::Warning } else { EventType::Normal };
        let note = format!("{}: {}", condition.type_, condition.message);
        publish(context, object, kind, &condition.reason, note, "Observe").await;
    }
}

fn is_warning(condition: &Condition) -> bool {
    let reason = condition.reason.as_str();
    match condition.type_.as_str() {
        ACCEPTED => condition.status != "True",
        READY => [ready::UNSCHEDULABLE, ready::CONTAINER_WAITING, ready::HANDSHAKE_FAILED]
            .contains(&reason),
        STORAGE_HEALTHY => {
            [storage::LOST, storage::WRITES_FAIL, storage::EXPANSION_REFUSED, storage::NEARLY_FULL]
                .contains(&reason)
        }
        VERIFIED => reason == verified::DAMAGED,
        _ => [
            progressing::ROLLING_BACK,
            progressing::ROLLED_BACK,
            progressing::VERIFICATION_FAILED,
            progressing::APPLY_FAILED,
        ]
        .contains(&reason),
    }
}

/// Tells one thing. That nobody could be told is logged, and fails nothing.
pub(super) async fn publish(
    context: &Context,
    object: &MemoryStore,
    kind: EventType,
    reason: &str,
    note: String,
    action: &str,
) {
    let event = Event {
        type_: kind,
        reason: reason.to_owned(),
        note: Some(note.chars().take(MAX_NOTE).collect()),
        action: action.to_owned(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &object.object_ref(&())).await {
        tracing::warn!(%error, reason, "an event could not be published");
    }
}
