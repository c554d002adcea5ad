//! `restart`: asks the operator for a new pod, and waits until it is ready.
//!
//! The request is an annotation on the MemoryStore; the operator deletes the pod. A restart always
//! drains: the server stops taking work, and finishes or checkpoints what is running within the
//! pod's grace period.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
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
    context.patch(name, &json!({ "metadata": { "annotations": annotations } })).await?;
    let result = if args.no_wait {
        "restart requested"
    } else {
        let remedy = format!("`kubectl memory status {name}` shows what holds it up.");
        let what = "the new pod to be ready";
        let wish = Wish { object, what, remedy: &remedy, timeout: args.timeout };
        wait::until(context, wish, |pod| replaced(pod, before.as_deref())).await?;
        "restarted"
    };
    let data = json!({
        "kind": "MemoryStore", "namespace": context.namespace, "name": name, "result": result,
        "requestedAt": requested,
    });
    context.printer.answer(&data, || format!("memorystore {name} {result}"))?;
    Ok(Exit::Done)
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
}
