//! `restart`: asks the operator for a new pod, and waits until it is ready.
//!
//! The request is an annotation on the MemoryStore; the operator deletes the pod. A restart always
//! drains: the server stops taking work, and finishes or checkpoints what is running within the
//! pod's grace period.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use llm_memory_crds::MemoryStore;
use llm_memory_crds::conditions::{PROGRESSING, accepted};
use llm_memory_crds::memory_store::UpdatePhase;
use serde_json::json;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::wait::{self, Seen, Wish};
use crate::{names, units};

/// Flags of `restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the MemoryStore
    name: String,
    /// Drain before stopping; always so, and accepted for clarity
    #[arg(long)]
    graceful: bool,
    /// Return once the restart is requested
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the new pod
    #[arg(long, value_parser = units::duration, default_value = "10m")]
    timeout: Duration,
}

/// Asks for a restart and waits for it.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let name = &args.name;
    let store = context.store(name).await?;
    let refuse =
        |reason: String| Failure::Refused { object: format!("memorystore {name}"), reason };
    if store.spec.paused {
        return Err(refuse(format!(
            "it is paused, so the operator would not act. `kubectl memory resume {name}` first"
        )));
    }
    if store.spec.replicas == 0 {
        return Err(refuse(format!(
            "it is hibernated and has no pod. `kubectl memory wake {name}` starts one"
        )));
    }
    let pod = names::pod(name);
    let object = context.object("pod", &pod, "`kubectl memory status` shows why there is none");
    let before = context
        .api::<Pod>()
        .get_opt(&pod)
        .await
        .map_err(|error| object.failed("read", error))?
        .and_then(|pod| pod.metadata.uid);
    let requested = format!("{:.0}", Timestamp::now());
    let annotations = json!({ names::RESTART_REQUESTED: requested });
    let patch = json!({ "metadata": { "annotations": annotations } });
    let generation = context.patch(name, &patch).await?.metadata.generation;
    let wished = Wished { at: requested.parse().unwrap_or(Timestamp::MIN), generation };
    let result = if args.no_wait {
        "restart requested"
    } else {
        let remedy = format!("`kubectl memory status {name}` shows what holds it up.");
        let what = "the new pod to be ready";
        let wish = Wish { object, what, remedy: &remedy, timeout: args.timeout };
        let operator = Wish { object: context.store_object(name), what: "the operator", ..wish };
        let given_up_on = async {
            match wait::until(context, operator, |store| given_up(store, name, &wished)).await {
                // Whoever may not watch stores waits for the pod alone.
                Err(Failure::Forbidden { .. }) => std::future::pending().await,
                ended => ended,
            }
        };
        tokio::select! {
            biased;
            pod = wait::until(context, wish, |pod| replaced(pod, before.as_deref())) => {
                if let Err(failure) = pod {
                    return Err(explained(context, name, wished.generation, failure).await);
                }
            }
            failure = given_up_on => return Err(failure?),
        }
        // A pod with the former image is ready too.
        if let Seen::Reached(failure) = given_up(Some(&context.store(name).await?), name, &wished) {
            return Err(failure);
        }
        "restarted"
    };
    let data = json!({
        "kind": "MemoryStore", "namespace": context.namespace, "name": name, "result": result,
        "requestedAt": requested,
    });
    context.printer.answer(&data, || format!("memorystore {name} {result}"))?;
    Ok(Exit::Done)
}

/// A wish for a restart.
struct Wished {
    /// When.
    at: Timestamp,
    /// Of which spec.
    generation: Option<i64>,
}

/// Why no pod with what the spec asks for will come, as far as the store says.
fn given_up(store: Option<&MemoryStore>, name: &str, wished: &Wished) -> Seen<Failure> {
    let Some(store) = store else { return Seen::Pending("the store is gone".to_owned()) };
    if let Some(failure) = wait::refused(store, name, wished.generation, &[accepted::INVALID_SPEC])
    {
        return Seen::Reached(failure);
    }
    let Some(status) = &store.status else { return Seen::Pending("no status yet".to_owned()) };
    let progress = status.conditions.iter().find(|it| it.type_ == PROGRESSING);
    let seen = progress.map_or_else(
        || "no condition Progressing yet".to_owned(),
        |it| format!("{}: {}", it.reason, it.message),
    );
    let ended = status.update.as_ref().filter(|update| {
        let began = update.since.as_ref().is_some_and(|since| since.0 >= wished.at);
        let failed = match update.phase {
            UpdatePhase::RollingBack | UpdatePhase::RolledBack | UpdatePhase::Refused => true,
            UpdatePhase::Verifying | UpdatePhase::RollingOut | UpdatePhase::Complete => false,
        };
        began && failed
    });
    let Some(update) = ended else { return Seen::Pending(seen) };
    let what = if update.phase == UpdatePhase::Refused { "not begun" } else { "taken back" };
    Seen::Reached(Failure::Refused {
        object: format!("memorystore {name}"),
        reason: format!(
            "the update from {} to {} was {what}: {}. `kubectl memory status {name}` shows more",
            update.from,
            update.to,
            update.message.as_deref().unwrap_or(&seen),
        ),
    })
}

/// A time-out, with what the operator misses. That is no reason to give up before: it may be there
/// already, and the operator has not looked again.
async fn explained(
    context: &Context,
    name: &str,
    generation: Option<i64>,
    mut failure: Failure,
) -> Failure {
    if let Failure::Timeout { seen, .. } = &mut failure
        && let Ok(store) = context.store(name).await
        && let reasons = [accepted::REFERENCE_NOT_FOUND, accepted::NAME_CONFLICT]
        && let Some(Failure::Refused { reason, .. }) =
            wait::refused(&store, name, generation, &reasons)
    {
        *seen = format!("{seen}; {reason}");
    }
    failure
}

/// Whether another pod than the former one is ready.
fn replaced(pod: Option<&Pod>, former: Option<&str>) -> Seen<()> {
    let Some(pod) = pod else { return Seen::Pending("there is no pod".to_owned()) };
    if former.is_some() && pod.metadata.uid.as_deref() == former {
        let state = if pod.metadata.deletion_timestamp.is_some() {
            "the former pod finishes its work"
        } else {
            "the former pod still runs"
        };
        return Seen::Pending(state.to_owned());
    }
    if is_ready(pod) { Seen::Reached(()) } else { Seen::Pending("the new pod starts".to_owned()) }
}

/// Whether a pod says that it is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|all| all.iter().any(|it| it.type_ == "Ready" && it.status == "True"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn the_former_pod_is_no_answer_however_ready_it_is() {
        let pod = fixtures::pod();
        assert!(matches!(replaced(Some(&pod), Some("uid-of-the-pod")), Seen::Pending(_)));
        assert!(matches!(replaced(Some(&pod), Some("uid-of-the-former")), Seen::Reached(())));
        assert!(matches!(replaced(None, Some("uid-of-the-former")), Seen::Pending(_)));
    }
    fn store(update: &serde_json::Value) -> MemoryStore {
        let mut store = serde_json::to_value(fixtures::store()).unwrap();
        store["status"]["update"] = update.clone();
        serde_json::from_value(store).unwrap()
    }

    fn update(phase: &str, since: &str) -> serde_json::Value {
        json!({"phase": phase, "from": "m:1", "to": "m:2", "since": since, "message": "it crashed"})
    }

    #[test]
    fn an_update_that_failed_since_the_wish_ends_it_and_an_older_one_does_not() {
        let wished = Wished { at: fixtures::now(), generation: Some(3) };
        let seen = |store: &MemoryStore| match given_up(Some(store), "mem", &wished) {
            Seen::Reached(failure) => failure.to_string(),
            Seen::Pending(words) => format!("pending: {words}"),
            Seen::Hopeless(failure) => panic!("{failure}"),
        };
        let (before, after) = ("2026-03-01T11:59:59Z", "2026-03-01T12:00:00Z");
        for (phase, words) in [
            ("RollingBack", "the update from m:1 to m:2 was taken back: it crashed"),
            ("RolledBack", "the update from m:1 to m:2 was taken back: it crashed"),
            ("Refused", "the update from m:1 to m:2 was not begun: it crashed"),
        ] {
            let failure = seen(&store(&update(phase, after)));
            assert!(failure.contains(words), "{failure}");
            assert!(seen(&store(&update(phase, before))).starts_with("pending: "), "{phase}");
        }
        for phase in ["Verifying", "RollingOut", "Complete"] {
            assert!(seen(&store(&update(phase, after))).starts_with("pending: "), "{phase}");
        }
        let mut refused = fixtures::store();
        for reason in ["ReferenceNotFound", "NameConflict"] {
            fixtures::condition(&mut refused, "Accepted", "False", reason, "it may come");
            assert!(seen(&refused).starts_with("pending: "), "{reason} may be over");
        }
        let port = "mcp.port is taken";
        fixtures::condition(&mut refused, "Accepted", "False", "InvalidSpec", port);
        assert!(seen(&refused).contains(port));
        refused.status.as_mut().unwrap().observed_generation = Some(2);
        assert!(seen(&refused).starts_with("pending: "), "of an older spec");
    }

    /// What a restart comes to when the pod is `pod` afterwards, and the store has an update in
    /// `phase`.
    async fn restarted(pod: &str, phase: &str) -> Result<Exit, Failure> {
        let since = format!("{:.0}", Timestamp::now() + Duration::from_secs(60));
        restarted_as(&store(&update(phase, &since)), pod).await
    }

    async fn restarted_as(store: &MemoryStore, pod: &str) -> Result<Exit, Failure> {
        let (context, server) = fixtures::cluster();
        let store = serde_json::to_value(store).unwrap();
        let former = serde_json::to_value(fixtures::pod()).unwrap();
        let mut later = former.clone();
        later["metadata"]["uid"] = json!(pod);
        let answers = server.serve(|path, query| {
            let one = path.ends_with("/mem") || path.ends_with("/mem-0");
            let of = |mut object: serde_json::Value| {
                object["metadata"]["resourceVersion"] = json!("1");
                object
            };
            let (alone, listed) =
                if path.contains("/pods") { (&former, &later) } else { (&store, &store) };
            match (one, query.contains("watch=true")) {
                (true, _) => Some(alone.clone()),
                (false, true) => None,
                (false, false) => Some(json!({
                    "metadata": {"resourceVersion": "1"}, "items": [of(listed.clone())],
                })),
            }
        });
        let args = Args {
            name: "mem".to_owned(),
            graceful: false,
            no_wait: false,
            timeout: Duration::from_secs(20),
        };
        tokio::select! {
            result = run(&context, &args) => result,
            () = answers => unreachable!("the client is there"),
        }
    }

    #[tokio::test]
    async fn a_pod_with_the_former_image_is_no_restart() {
        let failure = restarted("uid-of-another", "RolledBack").await.unwrap_err();
        assert!(failure.to_string().contains("was taken back: it crashed"), "{failure}");
        assert_eq!(failure.exit(), Exit::Failed);
        assert_eq!(restarted("uid-of-another", "Complete").await.unwrap(), Exit::Done);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_told_when_the_time_is_up() {
        let mut store = fixtures::store();
        let missing = "Secret mine is missing";
        fixtures::condition(&mut store, "Accepted", "False", "ReferenceNotFound", missing);
        let failure = restarted_as(&store, "uid-of-the-pod").await.unwrap_err();
        assert!(matches!(failure, Failure::Timeout { .. }), "{failure}");
        assert!(failure.to_string().contains(missing), "{failure}");
    }

    #[tokio::test]
    async fn an_update_that_was_refused_is_not_waited_for() {
        let failure = restarted("uid-of-the-pod", "Refused").await.unwrap_err();
        assert!(failure.to_string().contains("was not begun: it crashed"), "{failure}");
    }
}
