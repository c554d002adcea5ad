//! Changes of image: one that works rolls, one that does not is taken back, and a newer operator
//! restarts nobody.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test: a wrong index fails it")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use llm_memory_crds::MemoryStore;
use llm_memory_crds::memory_store::UpdatePhase;
use llm_memory_e2e::{Scratch, agents, scratch, stores, wait};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

async fn phase(scratch: &Scratch, wanted: UpdatePhase, limit: Duration) -> Result<MemoryStore> {
    wait::until(&format!("{wanted:?}"), limit, || async {
        let store = scratch.api::<MemoryStore>().get("memory").await?;
        let update = store.status.as_ref().and_then(|status| status.update.clone());
        let there = update.as_ref().is_some_and(|update| update.phase == wanted);
        Ok(if there { Ok(store) } else { Err(update) })
    })
    .await
}

#[tokio::test]
async fn a_new_image_rolls_and_a_broken_one_is_taken_back() -> Result<()> {
    scratch("upgrade", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        let before = scratch.ready("memory").await?;
        let former = before.status.and_then(|status| status.image).context("no image")?;
        let kept = scratch.remember("memory", "what no image may change").await?;
        scratch.change("memory", json!({"image": stores::other_image()})).await?;
        let done = phase(&scratch, UpdatePhase::Complete, MINUTE * 2).await?;
        let update = done.status.and_then(|status| status.update).context("no update")?;
        ensure!(update.verify_job.is_some(), "it was not verified before: {update:?}");
        ensure!(scratch.image_of_pod("memory").await? == stores::other_image());
        scratch.ready("memory").await?;
        scratch.recalls("memory", &kept).await?;

        // One that cannot be had, and one that can and is no server.
        scratch.change("memory", json!({"update": {"readyTimeoutSeconds": 25}})).await?;
        for broken in ["localhost/llm-memory:does-not-exist", &agents::image()] {
            scratch.change("memory", json!({"image": broken})).await?;
            wait::until(&format!("{broken} taken back"), MINUTE * 3, || async {
                let store = scratch.api::<MemoryStore>().get("memory").await?;
                let update = store.status.and_then(|status| status.update);
                let back = update.as_ref().is_some_and(|update| {
                    update.phase == UpdatePhase::RolledBack && update.to == broken
                });
                Ok(if back { Ok(()) } else { Err(update) })
            })
            .await?;
            let store =
                scratch.condition("memory", "Progressing", "False", "RolledBack", MINUTE).await?;
            ensure!(store.status.is_some_and(|status| status.image == Some(stores::other_image())));
            ensure!(scratch.image_of_pod("memory").await? == stores::other_image());
            scratch.ready("memory").await?;
            scratch.recalls("memory", &kept).await?;
        }

        // A person chooses another image, and it rolls again.
        let patient = json!({"image": former, "update": {"readyTimeoutSeconds": 300}});
        scratch.change("memory", patient).await?;
        phase(&scratch, UpdatePhase::Complete, MINUTE * 2).await?;
        ensure!(scratch.image_of_pod("memory").await? == former);
        scratch.ready("memory").await?;
        scratch.recalls("memory", &kept).await
    })
    .await
}

#[tokio::test]
async fn manual_updates_wait_for_a_person() -> Result<()> {
    scratch("manual", |scratch| async move {
        scratch
            .create("memory", json!({"storage": {"size": "1Gi"}, "update": {"strategy": "Manual"}}))
            .await?;
        scratch.ready("memory").await?;
        let pod = scratch.pod_uid("memory").await?;
        scratch.change("memory", json!({"image": stores::other_image()})).await?;
        scratch.condition("memory", "Progressing", "False", "UpdatePending", MINUTE).await?;
        ensure!(scratch.pod_uid("memory").await? == pod);
        let wish = jiff::Timestamp::now().to_string();
        let patch = kube::api::Patch::Merge(json!({
            "metadata": {"annotations": {"llm-memory.dev/restart-requested-at": wish}}
        }));
        scratch
            .api::<MemoryStore>()
            .patch("memory", &kube::api::PatchParams::default(), &patch)
            .await?;
        phase(&scratch, UpdatePhase::Complete, MINUTE * 2).await?;
        ensure!(scratch.image_of_pod("memory").await? == stores::other_image());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_template_of_an_older_operator_stays() -> Result<()> {
    scratch("edition", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;
        let sets = scratch.api::<StatefulSet>();
        // As an older operator would have left it, with a pod made from its template. Paused, so
        // that today's does not put its own back meanwhile.
        scratch.change("memory", json!({"paused": true})).await?;
        scratch.condition("memory", "Progressing", "False", "Paused", MINUTE).await?;
        let former = scratch.pod_uid("memory").await?;
        let patch = kube::api::Patch::Merge(json!({
            "metadata": {"annotations": {"llm-memory.dev/edition": "0"}},
            "spec": {"template": {"metadata": {"annotations": {"former": "yes"}}}},
        }));
        sets.patch("memory", &kube::api::PatchParams::default(), &patch).await?;
        scratch.api::<Pod>().delete("memory-0", &kube::api::DeleteParams::default()).await?;
        scratch.another_pod("memory", &former).await?;
        let pod = scratch.pod_uid("memory").await?;
        let change = json!({"paused": false, "maintenance": {"verify": {"suspend": true}}});
        scratch.change("memory", change).await?;
        wait::until("the CronJob", MINUTE, || async {
            let jobs = scratch.api::<k8s_openapi::api::batch::v1::CronJob>();
            let suspended = jobs.get("memory-verify").await?.spec.suspend;
            Ok(if suspended == Some(true) { Ok(()) } else { Err(suspended) })
        })
        .await?;
        let set = sets.get("memory").await?;
        ensure!(set.annotations().get("llm-memory.dev/edition").map(String::as_str) == Some("0"));
        let template = set.spec.and_then(|spec| spec.template.metadata).unwrap_or_default();
        ensure!(
            template.annotations.unwrap_or_default().contains_key("former"),
            "the template was replaced"
        );
        scratch.ready("memory").await?;
        scratch.condition("memory", "Progressing", "False", "Complete", MINUTE).await?;
        ensure!(scratch.pod_uid("memory").await? == pod, "the pod was replaced");
        // A change of what the template is made from brings today's.
        scratch.change("memory", json!({"settings": {"limits.maxItemKb": "512"}})).await?;
        scratch.another_pod("memory", &pod).await?;
        Ok(())
    })
    .await
}
