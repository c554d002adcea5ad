//! `pause`, `resume`, `hibernate`, `wake`: what a field of the spec decides.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use llm_memory_crds::MemoryStore;
use llm_memory_crds::conditions::{READY, ready};
use serde_json::json;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::wait::{self, Seen, Wish};
use crate::{names, units};

/// Flags of `hibernate` and `wake`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the MemoryStore
    name: String,
    /// Return once the change is written, without waiting for its effect
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the effect
    #[arg(long, value_parser = units::duration, default_value = "5m")]
    timeout: Duration,
}

/// Sets `spec.paused`.
pub(crate) async fn pause(context: &Context, name: &str, paused: bool) -> Result<Exit, Failure> {
    context.patch(name, &json!({ "spec": { "paused": paused } })).await?;
    let word = if paused { "paused" } else { "resumed" };
    tell(context, name, word)?;
    Ok(Exit::Done)
}

/// Sets `spec.replicas`, and waits until the store is as it should be.
pub(crate) async fn scale(context: &Context, args: &Args, replicas: i32) -> Result<Exit, Failure> {
    let name = &args.name;
    let store = context.patch(name, &json!({ "spec": { "replicas": replicas } })).await?;
    let (wanted, what) = if replicas == 0 {
        ("hibernated", "the store to hibernate")
    } else {
        ("awake", "the store to be ready")
    };
    if store.spec.paused {
        context.printer.note(&format!(
            "memorystore {name} is paused: the change takes effect after `kubectl memory resume {name}`"
        ));
        tell(context, name, "changed")?;
        return Ok(Exit::Finding);
    }
    if args.no_wait {
        tell(context, name, "changed")?;
        return Ok(Exit::Done);
    }
    let generation = store.metadata.generation;
    let begun = Instant::now();
    let remedy = format!("`kubectl memory status {name}` shows what holds it up.");
    let wish =
        Wish { object: context.store_object(name), what, remedy: &remedy, timeout: args.timeout };
    wait::until(context, wish, |store| settled(context, name, store, generation, replicas)).await?;
    if replicas == 0 {
        // It does not serve any more, but what it is doing it finishes first.
        let pod = names::pod(name);
        let timeout = args.timeout.saturating_sub(begun.elapsed());
        let wish = Wish { object: context.object("pod", &pod, ""), timeout, ..wish };
        match wait::until(context, wish, gone).await {
            // Whoever may not look at pods has hibernated the store all the same.
            Err(Failure::Forbidden { message, .. }) => {
                context
                    .printer
                    .note(&format!("whether its pod has ended cannot be seen: {message}"));
            }
            ended => ended?,
        }
    }
    tell(context, name, wanted)?;
    Ok(Exit::Done)
}

fn tell(context: &Context, name: &str, result: &str) -> Result<(), Failure> {
    let data = json!({
        "kind": "MemoryStore", "namespace": context.namespace, "name": name, "result": result,
    });
    context.printer.answer(&data, || format!("memorystore {name} {result}"))
}

/// Whether the pod has ended.
fn gone(pod: Option<&Pod>) -> Seen<()> {
    pod.map_or(Seen::Reached(()), |_| Seen::Pending("the pod finishes its work".to_owned()))
}

/// Whether the operator has brought the store to the number of replicas.
fn settled(
    context: &Context,
    name: &str,
    store: Option<&MemoryStore>,
    generation: Option<i64>,
    replicas: i32,
) -> Seen<()> {
    let Some(store) = store else {
        return Seen::Hopeless(Failure::NotFound {
            object: format!("memorystore {name}"),
            namespace: context.namespace.clone(),
            remedy: "it was deleted meanwhile".to_owned(),
        });
    };
    let status = store.status.as_ref();
    if status.and_then(|it| it.observed_generation) < generation {
        return Seen::Pending("the operator has not seen the change yet".to_owned());
    }
    let conditions = status.map(|it| it.conditions.as_slice()).unwrap_or_default();
    let ready = conditions.iter().find(|it| it.type_ == READY);
    let there = ready.is_some_and(|ready| {
        if replicas == 0 { ready.reason == ready::HIBERNATED } else { ready.status == "True" }
    });
    if there {
        return Seen::Reached(());
    }
    match (wait::refused(store, name, generation, &wait::HOPELESS), ready) {
        (Some(refused), _) => Seen::Hopeless(refused),
        (None, Some(ready)) => Seen::Pending(format!("{}: {}", ready.reason, ready.message)),
        (None, None) => Seen::Pending("no condition Ready yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn seen(store: &MemoryStore, generation: i64, replicas: i32) -> String {
        let (context, _server) = fixtures::cluster();
        match settled(&context, "mem", Some(store), Some(generation), replicas) {
            Seen::Pending(words) => format!("pending: {words}"),
            Seen::Reached(()) => "reached".to_owned(),
            Seen::Hopeless(failure) => format!("hopeless: {failure}"),
        }
    }

    #[tokio::test]
    async fn a_status_of_an_older_spec_counts_for_nothing() {
        let store = fixtures::store();
        assert_eq!(seen(&store, 3, 1), "reached");
        assert_eq!(seen(&store, 4, 1), "pending: the operator has not seen the change yet");
    }

    #[tokio::test]
    async fn hibernated_is_a_reason_and_not_only_not_ready() {
        let mut store = fixtures::store();
        fixtures::condition(&mut store, "Ready", "False", "PodNotReady", "starting");
        assert_eq!(seen(&store, 3, 0), "pending: PodNotReady: starting");
        fixtures::condition(&mut store, "Ready", "False", "Hibernated", "spec.replicas is 0");
        assert_eq!(seen(&store, 3, 0), "reached");
    }

    #[tokio::test]
    async fn a_paused_store_is_changed_but_not_waited_for() {
        let (context, server) = fixtures::cluster();
        let mut store = fixtures::store();
        store.spec.paused = true;
        let path = "/apis/llm-memory.dev/v1alpha1/namespaces/prod/memorystores/mem";
        let script = server.answer(path, 200, serde_json::to_value(&store).unwrap());
        let args =
            Args { name: "mem".to_owned(), no_wait: false, timeout: Duration::from_secs(60) };
        let (result, ()) = tokio::join!(scale(&context, &args, 0), script);
        assert_eq!(result.unwrap(), Exit::Finding);
    }

    #[tokio::test]
    async fn a_missing_store_is_named_with_what_to_do() {
        let (context, server) = fixtures::cluster();
        let path = "/apis/llm-memory.dev/v1alpha1/namespaces/prod/memorystores/mem";
        let message = "memorystores.llm-memory.dev \"mem\" not found";
        let script = server.refuse(path, 404, message);
        let (result, ()) = tokio::join!(pause(&context, "mem", true), script);
        insta::assert_snapshot!(result.unwrap_err(), @"memorystore mem was not found in namespace prod: `kubectl memory list -A` shows the stores there are; choose a namespace with -n");
    }

    #[tokio::test]
    async fn a_refused_spec_is_not_waited_for() {
        let mut store = fixtures::store();
        fixtures::condition(&mut store, "Accepted", "False", "InvalidSpec", "mcp.port is taken");
        let words = "hopeless: memorystore mem: the operator refuses the spec (InvalidSpec): mcp.port is taken";
        assert_eq!(seen(&store, 3, 0), words, "it serves still");
        fixtures::condition(&mut store, "Ready", "False", "NotAccepted", "nothing runs");
        assert_eq!(seen(&store, 3, 1), words);
    }

    #[tokio::test]
    async fn what_is_missing_keeps_no_store_from_hibernating() {
        let mut store = fixtures::store();
        let missing = "Secret mine is missing";
        fixtures::condition(&mut store, "Accepted", "False", "ReferenceNotFound", missing);
        fixtures::condition(&mut store, "Ready", "False", "PodNotReady", "stopping");
        assert_eq!(seen(&store, 3, 0), "pending: PodNotReady: stopping");
        fixtures::condition(&mut store, "Ready", "False", "Hibernated", "spec.replicas is 0");
        assert_eq!(seen(&store, 3, 0), "reached");
    }
}
