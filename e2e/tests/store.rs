//! A store's life: it becomes ready, keeps its data whatever happens to its pod, sleeps, wakes,
//! grows, and goes without taking its data along.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test: a wrong index fails it")]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::DeleteParams;
use llm_memory_crds::MemoryStore;
use llm_memory_e2e::{scratch, wait};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_minimal_store_serves_within_a_minute_and_survives_its_pod() -> Result<()> {
    scratch("store", |scratch| async move {
        let start = Instant::now();
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/samples/minimal.yaml");
        let apply = ["apply", "--namespace", &scratch.namespace, "--filename", sample];
        let applied = tokio::process::Command::new("kubectl").args(apply).output().await?;
        ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let store = scratch.ready("memory").await?;
        println!("ready after {:.1} s", start.elapsed().as_secs_f64());
        let status = store.status.unwrap_or_default();
        ensure!(status.server_info.is_some_and(|server| server.name == "llm-memory"));
        let url = format!("http://memory.{}.svc:3000/mcp", scratch.namespace);
        ensure!(status.url.as_deref() == Some(url.as_str()), "{:?}", status.url);
        ensure!(scratch.token("memory").await?.starts_with("llmm_"));

        let first = scratch.remember("memory", "the blue door").await?;
        let pod = scratch.pod_uid("memory").await?;
        scratch.api::<Pod>().delete("memory-0", &DeleteParams::default()).await?;
        scratch.another_pod("memory", &pod).await?;
        scratch.ready("memory").await?;
        scratch.recalls("memory", &first).await?;

        let second = scratch.remember("memory", "the red door").await?;
        scratch.recalls("memory", &first).await?;
        scratch.recalls("memory", &second).await
    })
    .await
}

#[tokio::test]
async fn a_store_sleeps_wakes_grows_and_leaves_its_data_behind() -> Result<()> {
    scratch("life", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;
        let id = scratch.remember("memory", "the green door").await?;

        scratch.change("memory", json!({"replicas": 0})).await?;
        scratch.condition("memory", "Ready", "False", "Hibernated", MINUTE).await?;
        wait::until("no pod", MINUTE, || async {
            let pod = scratch.api::<Pod>().get_opt("memory-0").await?;
            Ok(pod.map_or(Ok(()), |_| Err("a pod")))
        })
        .await?;
        scratch.change("memory", json!({"replicas": 1, "storage": {"size": "2Gi"}})).await?;
        scratch.ready("memory").await?;
        scratch.recalls("memory", &id).await?;
        wait::until("the size", MINUTE, || async {
            let store = scratch.api::<MemoryStore>().get("memory").await?;
            let actual = store.status.and_then(|status| status.storage?.actual);
            Ok(if actual.as_deref() == Some("2Gi") { Ok(()) } else { Err(actual) })
        })
        .await?;

        // Paused: a change waits.
        scratch.change("memory", json!({"paused": true})).await?;
        scratch.condition("memory", "Progressing", "False", "Paused", MINUTE).await?;
        let pod = scratch.pod_uid("memory").await?;
        scratch.change("memory", json!({"settings": {"limits.maxItemKb": "512"}})).await?;
        scratch.condition("memory", "Progressing", "False", "Paused", MINUTE).await?;
        ensure!(scratch.pod_uid("memory").await? == pod, "a paused store was changed");
        scratch.change("memory", json!({"paused": false})).await?;
        scratch.another_pod("memory", &pod).await?;
        scratch.ready("memory").await?;

        // Deleted and made again: the claim stayed.
        let background = DeleteParams::background();
        scratch.api::<MemoryStore>().delete("memory", &background).await?;
        wait::until("no StatefulSet", MINUTE, || async {
            let sets = scratch.api::<k8s_openapi::api::apps::v1::StatefulSet>();
            Ok(sets.get_opt("memory").await?.map_or(Ok(()), |_| Err("there")))
        })
        .await?;
        let claims = scratch.api::<PersistentVolumeClaim>();
        ensure!(claims.get_opt("data-memory-0").await?.is_some(), "the claim went too");
        scratch
            .create("memory", json!({"reclaimPolicy": "Delete", "storage": {"size": "1Gi"}}))
            .await?;
        scratch.ready("memory").await?;
        scratch.recalls("memory", &id).await?;
        scratch.api::<MemoryStore>().delete("memory", &background).await?;
        wait::until("no claim", MINUTE, || async {
            Ok(claims.get_opt("data-memory-0").await?.map_or(Ok(()), |_| Err("there")))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_claim_that_is_deleted_is_told_and_no_empty_one_takes_its_place() -> Result<()> {
    scratch("claim", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;
        let kept = scratch.remember("memory", "what must not be replaced by nothing").await?;
        let pod = scratch.pod_uid("memory").await?;
        let claims = scratch.api::<PersistentVolumeClaim>();
        claims.delete("data-memory-0", &DeleteParams::default()).await?;
        scratch.condition("memory", "StorageHealthy", "False", "ClaimDeleting", MINUTE).await?;
        // Either would end the pod, and with it the claim.
        let change = json!({"replicas": 0, "settings": {"limits.maxItemKb": "512"}});
        scratch.change("memory", change).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        ensure!(scratch.pod_uid("memory").await? == pod, "the pod was ended");
        scratch.recalls("memory", &kept).await?;

        scratch.change("memory", json!({"replicas": 1})).await?;
        scratch.api::<Pod>().delete("memory-0", &DeleteParams::default()).await?;
        scratch.condition("memory", "StorageHealthy", "False", "VolumeLost", MINUTE).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        ensure!(claims.get_opt("data-memory-0").await?.is_none(), "an empty claim was made");
        let store = scratch.api::<MemoryStore>().get("memory").await?;
        let conditions = store.status.map(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
        ensure!(ready.is_some_and(|ready| ready.status == "False"), "{ready:?}");

        // To begin anew is said by making it anew.
        scratch.api::<MemoryStore>().delete("memory", &DeleteParams::background()).await?;
        wait::until("no StatefulSet", MINUTE, || async {
            let sets = scratch.api::<k8s_openapi::api::apps::v1::StatefulSet>();
            Ok(sets.get_opt("memory").await?.map_or(Ok(()), |_| Err("there")))
        })
        .await?;
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_volume_that_fills_up_is_told_and_grows_below_the_running_server() -> Result<()> {
    scratch("growth", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "256Mi"}})).await?;
        scratch.ready("memory").await?;
        let pod = scratch.pod_uid("memory").await?;
        scratch.remember("memory", "the grey door").await?;
        let measure = ["df", "--output=avail", "--block-size=1", "/data"];
        let measured = scratch.run("memory-0", "server", &measure).await?;
        let free: u64 = measured.lines().last().unwrap_or_default().trim().parse()?;
        let ballast = (free / 10 * 9).to_string();
        let ballast = ["fallocate", "--length", &ballast, "/data/ballast"];
        scratch.run("memory-0", "server", &ballast).await?;
        scratch.condition("memory", "StorageHealthy", "False", "NearlyFull", MINUTE).await?;
        scratch.change("memory", json!({"storage": {"size": "512Mi"}})).await?;
        // What the server measures decides, not what the claim says.
        let store = scratch.condition("memory", "StorageHealthy", "True", "Bound", MINUTE).await?;
        let actual = store.status.and_then(|status| status.storage?.actual);
        ensure!(actual.as_deref() == Some("512Mi"), "{actual:?}");
        ensure!(scratch.pod_uid("memory").await? == pod, "the pod was replaced");
        // Taken back by nobody: a claim never shrinks.
        let smaller = scratch.change("memory", json!({"storage": {"size": "256Mi"}})).await;
        ensure!(smaller.is_err(), "the volume was shrunk");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_cannot_be_acted_on_is_told_and_mended() -> Result<()> {
    scratch("refused", |scratch| async move {
        scratch.create("memory", json!({"tls": {"secretName": "absent"}})).await?;
        let store =
            scratch.condition("memory", "Accepted", "False", "ReferenceNotFound", MINUTE).await?;
        let message = serde_json::to_string(&store.status)?;
        ensure!(message.contains("there is no Secret absent"), "{message}");
        scratch
            .change(
                "memory",
                json!({"tls": null, "podTemplate": {"spec": {"containers": [], "containres": []}}}),
            )
            .await?;
        let store = scratch.condition("memory", "Accepted", "False", "InvalidSpec", MINUTE).await?;
        let message = serde_json::to_string(&store.status)?;
        ensure!(message.contains("there is no field spec.containres"), "{message}");
        scratch.change("memory", json!({"podTemplate": null})).await?;
        scratch.ready("memory").await?;
        Ok(())
    })
    .await
}
