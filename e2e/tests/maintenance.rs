//! Scheduled care: CronJobs ask the server, follow it and end with its verdict.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test: a wrong index fails it")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use llm_memory_crds::MemoryStore;
use llm_memory_e2e::{Scratch, scratch, wait};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

async fn fill(scratch: &Scratch) -> Result<()> {
    for number in 0..20 {
        let text = format!("--text=fact {number} about the harbour");
        scratch
            .server(
                "memory",
                &["memory.upsert", "--scope=global", "--type=note", &text, "--title=fact"],
            )
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn routines_run_on_schedule_and_say_what_they_found() -> Result<()> {
    scratch("routines", |scratch| async move {
        let every_minute = json!({"schedule": "* * * * *"});
        let spec = json!({
            "storage": {"size": "1Gi"},
            "maintenance": {
                "compaction": every_minute,
                "verify": {"schedule": "* * * * *", "successfulJobsHistoryLimit": 1},
            },
        });
        scratch.create("memory", spec).await?;
        scratch.ready("memory").await?;
        fill(&scratch).await?;
        for routine in ["memory-compaction", "memory-verify"] {
            wait::until(routine, MINUTE * 3, || async {
                let cron = scratch.api::<CronJob>().get(routine).await?;
                let success = cron.status.and_then(|status| status.last_successful_time);
                Ok(success.ok_or("no success"))
            })
            .await?;
        }
        scratch.condition("memory", "Verified", "True", "Intact", MINUTE * 2).await?;
        // The first may have begun before anything was there.
        wait::until("all of it verified", MINUTE * 3, || async {
            let status = scratch.api::<MemoryStore>().get("memory").await?.status;
            let told = status.and_then(|status| status.last_verification).map(|last| last.message);
            let first = told.as_deref().and_then(|told| told.split_whitespace().next());
            let count = first.and_then(|word| word.parse::<u64>().ok());
            Ok(if count >= Some(20) { Ok(()) } else { Err(told) })
        })
        .await?;
        // Of two runs, one is kept.
        let first = scratch.runs("memory-verify").await?;
        let first = first.first().map(|(name, _)| name.clone()).context("no run")?;
        wait::until("one run of two", MINUTE * 3, || async {
            let runs = scratch.runs("memory-verify").await?;
            let another = matches!(&runs[..], [(name, true)] if *name != first);
            Ok(if another { Ok(()) } else { Err(runs) })
        })
        .await?;
        scratch.change("memory", json!({"maintenance": {"compaction": {"suspend": true}}})).await?;
        wait::until("suspension", MINUTE, || async {
            let suspended = scratch.api::<CronJob>().get("memory-compaction").await?.spec.suspend;
            Ok(if suspended == Some(true) { Ok(()) } else { Err(suspended) })
        })
        .await?;
        for routine in ["daily", "weekly", "monthly", "quarterly"] {
            let job = format!("now-{routine}");
            scratch.start_job(&format!("memory-{routine}"), &job).await?;
            ensure!(scratch.job_ended(&job).await?, "{}", scratch.job_log(&job).await?);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_run_that_is_not_over_keeps_the_next_from_starting() -> Result<()> {
    scratch("forbid", |scratch| async move {
        // Neither the server nor the pods that ask it find their image: runs go on and on.
        let spec = json!({
            "image": "localhost/llm-memory:does-not-exist",
            "storage": {"size": "1Gi"},
            "maintenance": {"verify": {"schedule": "* * * * *"}},
        });
        scratch.create("memory", spec).await?;
        let crons = scratch.api::<CronJob>();
        wait::until("a run", MINUTE * 2, || async {
            let runs = scratch.runs("memory-verify").await?;
            Ok(if runs.len() == 1 { Ok(()) } else { Err(runs) })
        })
        .await?;
        let first = scratch.runs("memory-verify").await?;
        // The controller tells that it left a run out.
        wait::until("a run that was left out", MINUTE * 3, || async {
            let events = scratch.api::<Event>().list(&ListParams::default()).await?;
            let told = events.items.into_iter().find(|event| {
                event.reason.as_deref() == Some("JobAlreadyActive")
                    && event.involved_object.name.as_deref() == Some("memory-verify")
            });
            Ok(told.ok_or("no Event"))
        })
        .await?;
        let runs = scratch.runs("memory-verify").await?;
        ensure!(runs == first && !runs[0].1, "{first:?}, then {runs:?}");
        let active = crons.get("memory-verify").await?.status.and_then(|status| status.active);
        ensure!(active.is_some_and(|active| active.len() == 1));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn damage_fails_the_job_and_is_told_on_the_store() -> Result<()> {
    scratch("damage", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;
        fill(&scratch).await?;
        scratch.start_job("memory-verify", "sound").await?;
        ensure!(scratch.job_ended("sound").await?, "{}", scratch.job_log("sound").await?);
        // One letter of one body, in place: the server has the file open.
        let flip = "f=$(grep -rl 'fact 7 about' /data --include=journal.ndjson | head -1); \
                    at=$(grep -abo 'fact 7 about' $f | head -1 | cut -d: -f1); \
                    printf X | dd of=$f bs=1 seek=$at conv=notrunc";
        scratch.run("memory-0", "server", &["sh", "-c", flip]).await?;
        scratch.start_job("memory-verify", "damaged").await?;
        ensure!(!scratch.job_ended("damaged").await?, "damage was not found");
        let log = scratch.job_log("damaged").await?;
        ensure!(log.contains("damaged"), "{log}");
        let store = scratch.condition("memory", "Verified", "False", "Damaged", MINUTE * 2).await?;
        let message =
            store.status.and_then(|status| status.last_verification).context("none")?.message;
        ensure!(message.contains("global"), "{message}");
        wait::until("the Event", MINUTE, || async {
            let events = scratch.api::<Event>().list(&ListParams::default()).await?;
            let told = events.items.into_iter().find(|event| {
                event.reason.as_deref() == Some("Damaged")
                    && event.message.as_deref().is_some_and(|words| words.contains("global"))
                    && event.involved_object.kind.as_deref() == Some("MemoryStore")
            });
            Ok(told.ok_or("no Event"))
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_job_waits_for_a_server_that_restarts() -> Result<()> {
    scratch("survivor", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;
        fill(&scratch).await?;
        scratch.api::<Pod>().delete("memory-0", &kube::api::DeleteParams::default()).await?;
        // The client finds nobody, waits, and has its work done by the next server.
        scratch.start_job("memory-verify", "patient").await?;
        ensure!(scratch.job_ended("patient").await?, "{}", scratch.job_log("patient").await?);
        Ok(())
    })
    .await
}
