//! Events: what a person wants to know when looking at a store. One for each change of a
//! condition's status or reason, and for what the operator does to a pod or a token.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _, ResourceExt as _};
use llm_memory_crds::MemoryStore;
use llm_memory_crds::conditions::{
    ACCEPTED, READY, STORAGE_HEALTHY, VERIFIED, progressing, ready, storage, verified,
};

use parking_lot::Mutex;

use super::conditions;
use crate::context::Context;
use crate::hash::{self, Print};
use crate::names::FIELD_MANAGER;

/// Longest note that the API server takes.
const MAX_NOTE: usize = 1000;
/// How long the recorder takes what has the same reason for a repetition.
const REPETITION: Duration = Duration::from_secs(6 * 60);
/// Notes of one reason that become an Event of their own in that time. Another is counted with the
/// last: words that are never the same twice must not flood a namespace.
const MAX_NOTES: usize = 5;

/// What was told lately, by the uid of the store and the reason. A recorder counts what has the
/// reason of another Event as its repetition, whatever it says: so each note has one.
#[derive(Debug, Default)]
pub struct Told(Mutex<HashMap<(String, String), Vec<Line>>>);

struct Line {
    note: Print,
    at: Instant,
    recorder: Recorder,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Line").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Told {
    /// By which recorder `note` is told.
    fn recorder(&self, client: &Client, store: String, reason: &str, note: &str) -> Recorder {
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
            line.at = Instant::now();
            return line.recorder.clone();
        }
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        let recorder = Recorder::new(client.clone(), reporter);
        let line = Line { note, at: Instant::now(), recorder: recorder.clone() };
        lines.push(line);
        recorder
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
    let note: String = note.chars().take(MAX_NOTE).collect();
    let store = object.uid().unwrap_or_default();
    let recorder = context.told.recorder(&context.client, store, reason, &note);
    let event = Event {
        type_: kind,
        reason: reason.to_owned(),
        note: Some(note),
        action: action.to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
        tracing::warn!(%error, reason, "an event could not be published");
    }
}
