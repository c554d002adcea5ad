//! Events: what a person wants to know when looking at a store. One for each change of a
//! condition's status or reason, and for what the operator does to a pod or a token.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource as _, ResourceExt as _};
use llm_memory_crds::MemoryStore;
use llm_memory_crds::conditions::{
    ACCEPTED, READY, STORAGE_HEALTHY, VERIFIED, progressing, ready, storage, verified,
};

use parking_lot::Mutex;
use serde_json::json;

use super::conditions;
use crate::context::Context;
use crate::hash::{self, Print};
use crate::names::FIELD_MANAGER;

/// Types of Events.
pub(super) const NORMAL: &str = "Normal";
const WARNING: &str = "Warning";
/// Longest note that the API server takes.
const MAX_NOTE: usize = 1000;
/// How long the same words are a repetition, which is counted with the Event there is.
const REPETITION: Duration = Duration::from_secs(6 * 60);
/// Notes of one reason that become an Event of their own in that time. Another is counted with the
/// last: words that are never the same twice must not flood a namespace.
const MAX_NOTES: usize = 5;

/// What was told lately, by the uid of the store and the reason. The recorder of kube counts what
/// has the reason of another Event as its repetition, whatever it says, and keeps each Event whole:
/// kilobytes of every store.
#[derive(Debug, Default)]
pub struct Told(Mutex<HashMap<(String, String), Vec<Line>>>);

#[derive(Debug)]
struct Line {
    note: Print,
    at: Instant,
    /// Name of the Event.
    event: String,
    /// How often it was told.
    count: i32,
}

impl Told {
    /// By which Event `note` is told, `new` unless it or another must take it, and how often that
    /// has been told with this.
    fn count(&self, store: String, reason: &str, note: &str, new: &str) -> (String, i32) {
        let note = hash::print(&[note]);
        let mut told = self.0.lock();
        told.retain(|_, lines| {
            lines.retain(|line| line.at.elapsed() < REPETITION);
            !lines.is_empty()
        });
        let lines = told.entry((store, reason.to_owned())).or_default();
        let full = lines.len() >= MAX_NOTES;
        let known = match lines.iter().position(|line| line.note == note) {
            None if full => lines.last_mut(),
            None => None,
            Some(known) => lines.get_mut(known),
        };
        if let Some(line) = known {
            (line.at, line.count) = (Instant::now(), line.count.saturating_add(1));
            return (line.event.clone(), line.count);
        }
        lines.push(Line { note, at: Instant::now(), event: new.to_owned(), count: 1 });
        (new.to_owned(), 1)
    }
}

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
        let kind = if is_warning(condition) { WARNING } else { NORMAL };
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
    kind: &str,
    reason: &str,
    note: String,
    action: &str,
) {
    let note: String = note.chars().take(MAX_NOTE).collect();
    let store = object.uid().unwrap_or_default();
    let now = Timestamp::now();
    let new = format!("{}.{:x}", object.name_any(), now.as_nanosecond());
    let (name, count) = context.told.count(store, reason, &note, &new);
    let events: Api<Event> =
        Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let mut told = Ok(());
    let mut unknown = count < 2;
    if !unknown {
        let series = EventSeries { count, last_observed_time: MicroTime(now) };
        let patch = Patch::Merge(json!({ "series": series }));
        told = events.patch(&name, &PatchParams::default(), &patch).await.map(drop);
        // It was never made, or somebody has removed it.
        unknown = matches!(&told, Err(kube::Error::Api(status)) if status.code == 404);
    }
    if unknown {
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: object.namespace(),
                ..ObjectMeta::default()
            },
            type_: Some(kind.to_owned()),
            action: Some(action.to_owned()),
            reason: Some(reason.to_owned()),
            note: Some(note),
            regarding: Some(object.object_ref(&())),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(FIELD_MANAGER.to_owned()),
            reporting_instance: Some(FIELD_MANAGER.to_owned()),
            ..Event::default()
        };
        told = events.create(&PostParams::default(), &event).await.map(drop);
    }
    if let Err(error) = told {
        tracing::warn!(%error, reason, "an event could not be published");
    }
}
