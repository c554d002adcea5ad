//! Who reaches a store by network, on a node that enforces policies.

#![allow(clippy::indexing_slicing, reason = "a test: a wrong index fails it")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use llm_memory_e2e::agents::TOKEN;
use llm_memory_e2e::{Scratch, scratch, wait};
use serde_json::{Value, json};

/// A policy takes effect some time after it is stored.
const EFFECT: Duration = Duration::from_secs(60);
const METRICS: u16 = 9090;

/// Waits until connections from a container to `host` and `port` are, or are not, accepted.
async fn reaches(
    from: (&Scratch, &str, &str),
    (host, port): (&str, u16),
    expected: bool,
) -> Result<()> {
    let (scratch, pod, container) = from;
    // The one program that both images have for this is the shell.
    let connect = format!("exec 3<>/dev/tcp/{host}/{port}");
    let command = ["timeout", "3", "bash", "-c", &connect];
    wait::until(&format!("{pod} to {host}:{port}: {expected}"), EFFECT, || async {
        let output = scratch.exec(pod, container, &command).await?;
        Ok(if output.success == expected { Ok(()) } else { Err(output.text) })
    })
    .await
}

async fn address(scratch: &Scratch, pod: &str) -> Result<String> {
    let status = scratch.api::<Pod>().get(pod).await?.status;
    status.and_then(|status| status.pod_ip).context("no address")
}

fn spec(network: &Value) -> Value {
    json!({
        "storage": {"size": "1Gi"}, "network": network,
        "mcp": {"auth": {"serviceAccounts": [{"name": "agent"}]}},
    })
}

#[tokio::test]
async fn only_those_whom_the_spec_lets_in_reach_a_store() -> Result<()> {
    scratch("home", |home| async move {
        scratch("abroad", |abroad| async move { neighbours(&home, &abroad).await }).await
    })
    .await
}

async fn neighbours(home: &Scratch, abroad: &Scratch) -> Result<()> {
    home.create("memory", spec(&json!({}))).await?;
    home.ready("memory").await?;
    home.start_agent("agent").await?;
    abroad.start_agent("stranger").await?;
    let host = format!("memory.{}.svc", home.namespace);
    let url = home.url("http", "memory");
    let stranger = (abroad, "stranger", "agent");

    // By default the store's namespace, and everybody reads metrics.
    let answer = home.visit("agent", &[&url, TOKEN]).await?;
    ensure!(answer["found"]["total"].as_u64() > Some(0), "{answer}");
    reaches(stranger, (&host, 3000), false).await?;
    let pod = address(home, "memory-0").await?;
    reaches(stranger, (&pod, METRICS), true).await?;

    // Mapping an account of another namespace opens the door to that namespace.
    let accounts = |list: Value| json!({"mcp": {"auth": {"serviceAccounts": list}}});
    let both = json!([{"name": "agent"}, {"name": "stranger", "namespace": abroad.namespace}]);
    home.change("memory", accounts(both)).await?;
    reaches(stranger, (&host, 3000), true).await?;
    home.change("memory", accounts(json!([{"name": "agent"}]))).await?;
    reaches(stranger, (&host, 3000), false).await?;

    // What the spec names instead, which shuts out the rest of the store's own namespace.
    let label = json!({"matchLabels": {"kubernetes.io/metadata.name": abroad.namespace}});
    let network = json!({"ingressFrom": [{"namespaceSelector": label}], "metricsFrom": []});
    home.change("memory", json!({"network": network})).await?;
    reaches(stranger, (&host, 3000), true).await?;
    reaches(stranger, (&pod, METRICS), false).await?;
    reaches((home, "agent", "agent"), (&host, 3000), false).await?;
    // Those that look after it are always let in.
    home.start_job("memory-verify", "verify").await?;
    ensure!(home.job_ended("verify").await?, "{}", home.job_log("verify").await?);
    home.condition("memory", "Verified", "True", "Intact", EFFECT).await?;
    home.ready("memory").await?;

    // No policy, no walls.
    home.change("memory", json!({"network": {"enabled": false}})).await?;
    reaches((home, "agent", "agent"), (&host, 3000), true).await?;
    reaches(stranger, (&pod, METRICS), true).await
}

#[tokio::test]
async fn a_server_reaches_nothing_that_it_does_not_need() -> Result<()> {
    scratch("egress", |scratch| async move {
        scratch.create("memory", spec(&json!({}))).await?;
        scratch.create("other", spec(&json!({}))).await?;
        scratch.ready("memory").await?;
        scratch.ready("other").await?;
        let server = (&scratch, "memory-0", "server");
        let other = address(&scratch, "other-0").await?;
        reaches(server, (&other, METRICS), false).await?;
        // The API server, which reviews tokens.
        reaches(server, ("kubernetes.default.svc", 443), true).await?;
        let allowed = json!({"ports": [{"port": METRICS, "protocol": "TCP"}]});
        scratch.change("memory", json!({"network": {"egressTo": [allowed]}})).await?;
        reaches(server, (&other, METRICS), true).await?;
        scratch.ready("memory").await.map(drop)
    })
    .await
}
