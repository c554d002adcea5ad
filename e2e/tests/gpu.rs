//! Graphics hardware, on nodes that only pretend to have it: the real scheduler decides, and its
//! bindings are read. Pods on such nodes run nothing, so no server is asked here.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test: a wrong index fails it")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use llm_memory_e2e::{Scratch, scratch, wait};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// A fake node with `gpus`, labelled so that only this test's stores look for it. It takes pods by
/// the time this returns: until the node's controller has seen it ready, a taint keeps them away.
async fn node(scratch: &Scratch, name: &str, gpus: &str, cpu: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(scratch.client.clone());
    let node: Node = serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, "pool": scratch.namespace, "type": "kwok"},
        },
        "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
        "status": {
            "capacity": {"cpu": cpu, "memory": "64Gi", "pods": "110", "nvidia.com/gpu": gpus},
            "allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "110", "nvidia.com/gpu": gpus},
        },
    }))?;
    nodes.create(&PostParams::default(), &node).await?;
    wait::until("a node that takes pods", MINUTE, || async {
        let taints = nodes.get(name).await?.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let others: Vec<_> =
            taints.into_iter().filter(|taint| taint.key != "nvidia.com/gpu").collect();
        Ok(if others.is_empty() { Ok(()) } else { Err(others) })
    })
    .await
}

async fn remove(scratch: &Scratch, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(scratch.client.clone());
    nodes.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// The node that the scheduler bound the store's pod to.
async fn bound_to(scratch: &Scratch, store: &str) -> Result<String> {
    wait::until("a binding", MINUTE, || async {
        let pod = scratch.api::<Pod>().get(&format!("{store}-0")).await?;
        let spec = pod.spec.context("no spec")?;
        Ok(spec.node_name.ok_or(pod.status))
    })
    .await
}

fn store(scratch: &Scratch, mode: &str) -> serde_json::Value {
    let mut spec = json!({
        "storage": {"size": "1Gi"},
        "gpu": {"mode": mode},
        "resources": {"requests": {"cpu": "100m"}},
    });
    if mode != "Disabled" {
        spec["gpu"]["nodeSelector"] = json!({"pool": scratch.namespace});
    }
    spec
}

#[tokio::test]
async fn required_waits_for_hardware_and_says_so() -> Result<()> {
    scratch("gpu-required", |scratch| async move {
        scratch.create("memory", store(&scratch, "Required")).await?;
        let waiting =
            scratch.condition("memory", "Ready", "False", "Unschedulable", MINUTE).await?;
        let text = serde_json::to_string(&waiting.status)?;
        ensure!(text.contains("no node takes the pod"), "{text}");
        let name = format!("{}-big", scratch.namespace);
        node(&scratch, &name, "2", "32").await?;
        let bound = bound_to(&scratch, "memory").await;
        let pod = scratch.api::<Pod>().get("memory-0").await;
        remove(&scratch, &name).await?;
        ensure!(bound? == name);
        let container = pod?.spec.context("spec")?.containers.remove(0);
        let limits = container.resources.and_then(|resources| resources.limits).unwrap_or_default();
        ensure!(limits.get("nvidia.com/gpu").is_some_and(|count| count.0 == "1"), "{limits:?}");
        let encoder = container
            .env
            .unwrap_or_default()
            .into_iter()
            .find(|variable| variable.name == "LLM_MEMORY_VIDEO_ENCODER");
        ensure!(encoder.and_then(|variable| variable.value).as_deref() == Some("hardware"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn preferred_prefers_hardware_and_runs_without() -> Result<()> {
    scratch("gpu-preferred", |scratch| async move {
        let name = format!("{}-small", scratch.namespace);
        // Room for one pod and not for two.
        node(&scratch, &name, "1", "150m").await?;
        let outcome = prefer(&scratch, &name).await;
        remove(&scratch, &name).await?;
        outcome
    })
    .await
}

async fn prefer(scratch: &Scratch, name: &str) -> Result<()> {
    scratch.create("first", store(scratch, "Preferred")).await?;
    let first = bound_to(scratch, "first").await?;
    ensure!(first == name, "bound to {first}");
    scratch.create("second", store(scratch, "Preferred")).await?;
    let second = bound_to(scratch, "second").await?;
    ensure!(second != name, "there is no room on {name}");
    scratch.ready("second").await?;
    let fallback = scratch
        .condition("second", "HardwareEncoding", "False", "SoftwareFallback", MINUTE)
        .await?;
    ensure!(fallback.status.and_then(|status| status.encoder).as_deref() == Some("software"));
    Ok(())
}

#[tokio::test]
async fn disabled_asks_for_nothing() -> Result<()> {
    scratch("gpu-disabled", |scratch| async move {
        scratch.create("memory", store(&scratch, "Disabled")).await?;
        scratch.ready("memory").await?;
        let pod = scratch.api::<Pod>().get("memory-0").await?;
        let text = serde_json::to_string(&pod.spec)?;
        ensure!(!text.contains("nvidia.com/gpu"), "{text}");
        scratch.condition("memory", "HardwareEncoding", "False", "Disabled", MINUTE).await?;
        Ok(())
    })
    .await
}
