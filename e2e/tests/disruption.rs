//! What goes wrong in a cluster: nodes' kubelets and API servers restart, processes are killed or
//! freeze, volumes fail. The data is the same afterwards, and the status tells the truth meanwhile.
//!
//! These need a cluster whose components may be broken: the one that `./justw e2e` starts.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test: a wrong index fails it, and it says what it measured"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use llm_memory_crds::MemoryStore;
use llm_memory_crds::memory_store::UpdatePhase;
use llm_memory_e2e::rights::{OPERATOR, SYSTEM};
use llm_memory_e2e::{Scratch, agents, rights, scratch, stores, wait};
use serde_json::json;
use tokio::process::Command;

const MINUTE: Duration = Duration::from_secs(60);
/// How often the operator asks a server that answers, and what a write of the status takes.
const PROBE_PERIOD: Duration = Duration::from_secs(10 + 2);

/// Runs `./justw cluster ARGUMENTS`.
async fn cluster(arguments: &str) -> Result<String> {
    let Ok(program) = std::env::var("E2E_CLUSTER") else {
        bail!("E2E_CLUSTER is unset: these tests break the cluster that ./justw e2e starts");
    };
    let command = format!("{program} {arguments}");
    let output = Command::new("bash").args(["-c", &command]).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// All of `ids` are there; waits while nobody can be asked.
async fn all_there(scratch: &Scratch, ids: &[String]) -> Result<()> {
    for id in ids {
        scratch.recalls("memory", id).await?;
    }
    Ok(())
}

/// Whether the server says, at this moment, that it serves. `None` when nobody can be asked.
async fn serves(scratch: &Scratch) -> Option<bool> {
    let path = format!("/api/v1/namespaces/{}/pods/memory-0:8080/proxy/readyz", scratch.namespace);
    let request = http_request(&path)?;
    let asked = tokio::time::timeout(Duration::from_secs(2), scratch.client.request_text(request));
    match asked.await {
        Ok(Ok(_)) => Some(true),
        // The API server itself answers that the pod does not.
        Ok(Err(kube::Error::Api(status))) if status.code != 429 => Some(false),
        Ok(Err(_)) => None,
        Err(_) => Some(false),
    }
}

fn http_request(path: &str) -> Option<http::Request<Vec<u8>>> {
    http::Request::get(path).body(Vec::new()).ok()
}

/// Looks at the status twice a second until `done`, and answers the longest time for which it said
/// Ready while the server did not serve.
async fn longest_lie(scratch: Scratch, done: Arc<AtomicBool>) -> Duration {
    let api = scratch.api::<MemoryStore>();
    let (mut longest, mut since) = (Duration::ZERO, None);
    while !done.load(Ordering::Relaxed) {
        let said =
            api.get("memory").await.ok().and_then(|store| store.status).is_some_and(|status| {
                status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
            });
        match (said, serves(&scratch).await) {
            (true, Some(false)) => {
                let since = since.get_or_insert_with(Instant::now);
                longest = longest.max(since.elapsed());
            }
            (false, _) | (_, Some(true)) => since = None,
            (true, None) => {}
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    longest
}

#[tokio::test]
async fn the_data_stays_and_the_status_is_true_whatever_restarts() -> Result<()> {
    scratch("disruption", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;
        let done = Arc::new(AtomicBool::new(false));
        let watching = tokio::spawn(longest_lie(scratch.clone(), Arc::clone(&done)));
        let outcome = disrupt(&scratch).await;
        done.store(true, Ordering::Relaxed);
        let longest = watching.await?;
        println!("Ready was wrong for {:.1} s at most", longest.as_secs_f64());
        outcome?;
        ensure!(longest < PROBE_PERIOD, "Ready was wrong for {} s", longest.as_secs_f64());
        Ok(())
    })
    .await
}

async fn disrupt(scratch: &Scratch) -> Result<()> {
    let mut ids = vec![scratch.remember("memory", "before everything").await?];
    for what in [
        "restart kubelet",
        "restart kube-apiserver",
        "exec pkill -9 -x llm-memory",
        // Frozen, not dead: nothing but a question finds out.
        "exec pkill -STOP -x llm-memory",
    ] {
        cluster(what).await.with_context(|| what.to_owned())?;
        if what.contains("apiserver") {
            // The operator's watches come back in their own time, and what is done to the server
            // next is seen by them.
            scratch.change("memory", json!({"maintenance": {"verify": {"suspend": true}}})).await?;
            scratch.condition("memory", "Accepted", "True", "Valid", MINUTE).await?;
        }
        if what.contains("STOP") {
            scratch.condition("memory", "Ready", "False", "", MINUTE).await?;
            cluster("exec pkill -CONT -x llm-memory").await?;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        scratch.ready("memory").await.with_context(|| what.to_owned())?;
        all_there(scratch, &ids).await.with_context(|| what.to_owned())?;
        ids.push(scratch.remember("memory", what).await?);
    }
    scratch.api::<Pod>().delete("memory-0", &DeleteParams::default()).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    scratch.ready("memory").await?;
    all_there(scratch, &ids).await
}

#[tokio::test]
async fn a_volume_that_takes_no_more_loses_nothing() -> Result<()> {
    scratch("volume", |scratch| async move {
        // A small file system of its own, which can be filled.
        let folder = format!("/tmp/{}", scratch.namespace);
        cluster(&format!("exec mkdir -p {folder}")).await?;
        cluster(&format!("exec mount -t tmpfs -o size=256m,mode=0777 tmpfs {folder}")).await?;
        let outcome = fill_volume(&scratch, &folder).await;
        let volumes: Api<PersistentVolume> = Api::all(scratch.client.clone());
        volumes.delete(&scratch.namespace, &DeleteParams::default()).await.ok();
        cluster(&format!("exec umount -l {folder}")).await?;
        cluster(&format!("exec rmdir {folder}")).await?;
        outcome
    })
    .await
}

#[tokio::test]
async fn a_job_survives_the_death_of_its_server() -> Result<()> {
    scratch("orphan", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;
        let id = scratch.remember("memory", "before the job").await?;
        let (_, restarts) = scratch.incarnation("memory").await?;
        // Frozen, the server is not ready soon, or takes the connection and not the job; then it is
        // gone, and the job waits for its successor.
        cluster("exec pkill -STOP -x llm-memory").await?;
        scratch.start_job("memory-verify", "orphan").await?;
        wait::until("the pod of the job", MINUTE, || async {
            let selector = ListParams::default().labels("batch.kubernetes.io/job-name=orphan");
            let pods = scratch.api::<Pod>().list(&selector).await?.items;
            let running = pods.iter().any(|pod| {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                phase == Some("Running")
            });
            Ok(if running { Ok(()) } else { Err("it does not run yet") })
        })
        .await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        // Not the program of the job, which has the same name.
        cluster("exec pkill -9 -f '[l]lm-memory serve'").await?;
        ensure!(scratch.job_ended("orphan").await?, "{}", scratch.job_log("orphan").await?);
        ensure!(scratch.incarnation("memory").await?.1 > restarts, "the server was not killed");
        scratch.ready("memory").await?;
        scratch.recalls("memory", &id).await
    })
    .await
}

/// Puts another image of the operator, of the same content, into its Deployment, as an update of the
/// chart does, and waits until it runs.
async fn update_operator(tag: &str) -> Result<()> {
    set_operator(&format!("image.tag={tag}")).await
}

/// Sets a value of the operator's chart.
async fn set_operator(value: &str) -> Result<()> {
    helm(&format!(
        "upgrade llm-memory-operator charts/llm-memory-operator --reuse-values \
         --namespace llm-memory-system --set {value} --wait --timeout 2m"
    ))
    .await
}

/// Has the operator watch these namespaces, and know callers of these only; all when none is named.
async fn watch(namespaces: &[&str]) -> Result<()> {
    let known = if namespaces.is_empty() { "all" } else { "namespaces" };
    let list = serde_json::to_string(namespaces)?;
    set_operator(&format!("tokenReview.bindTo={known} --set-json 'watchNamespaces={list}'")).await
}

/// Runs helm.
async fn helm(arguments: &str) -> Result<()> {
    let mut helm = Command::new("bash");
    let command = format!("helm {arguments}");
    let output = helm.args(["-c", &command]).current_dir(root()).output().await?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The folder with the charts.
fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[tokio::test]
async fn another_operator_restarts_no_server() -> Result<()> {
    scratch("operator", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        let hibernated = json!({"storage": {"size": "1Gi"}, "replicas": 0});
        scratch.create("asleep", hibernated).await?;
        scratch.ready("memory").await?;
        scratch.condition("asleep", "Ready", "False", "Hibernated", MINUTE).await?;
        scratch.condition("memory", "Progressing", "False", "Complete", MINUTE).await?;
        let sets = scratch.api::<StatefulSet>();
        let operators: Api<Pod> = Api::namespaced(scratch.client.clone(), "llm-memory-system");
        let selector = ListParams::default().labels("app.kubernetes.io/name=llm-memory-operator");
        let running = async || {
            let pods = operators.list(&selector).await?.items;
            let names = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
            anyhow::Ok(names.map(|pod| pod.name_any()).collect::<Vec<_>>())
        };
        let (pod, former) = (scratch.incarnation("memory").await?, running().await?);
        // The resource version would change with the controller's status as well.
        let written = async |name: &str| {
            let metadata = sets.get(name).await?.metadata;
            let fields = metadata.managed_fields.unwrap_or_default();
            let ours = fields.into_iter().find(|entry| {
                entry.manager.as_deref() == Some("llm-memory-operator")
                    && entry.subresource.is_none()
            });
            let ours = ours.with_context(|| format!("{name} is not the operator's"))?;
            anyhow::Ok((metadata.generation, ours.time))
        };
        let mut versions = Vec::new();
        for name in ["memory", "asleep"] {
            versions.push(written(name).await?);
        }
        let version = env!("CARGO_PKG_VERSION");
        let outcome = async {
            update_operator("other").await?;
            let now = running().await?;
            ensure!(now.len() == 1 && now != former, "the operator runs as before: {now:?}");
            // It acts: what people change from now on is done by it.
            let change = json!({"maintenance": {"verify": {"suspend": true}}});
            scratch.change("memory", change).await?;
            wait::until("the change", MINUTE, || async {
                let cron = scratch.api::<CronJob>().get("memory-verify").await?;
                Ok(if cron.spec.suspend == Some(true) { Ok(()) } else { Err(cron.spec.suspend) })
            })
            .await?;
            scratch.ready("memory").await
        }
        .await;
        let back = update_operator(version).await;
        outcome?;
        back?;
        scratch.ready("memory").await?;
        ensure!(scratch.incarnation("memory").await? == pod, "the server was restarted");
        for (name, version) in ["memory", "asleep"].into_iter().zip(versions) {
            ensure!(written(name).await? == version, "the StatefulSet {name} was written");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_second_operator_takes_over_from_one_that_is_gone() -> Result<()> {
    scratch("leader", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;
        set_operator("replicas=2").await?;
        let outcome = async {
            let leases: Api<Lease> = Api::namespaced(scratch.client.clone(), SYSTEM);
            let holder = async || {
                let spec = leases.get("llm-memory-operator").await?.spec;
                anyhow::Ok(spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
            };
            let former = holder().await?;
            let operators: Api<Pod> = Api::namespaced(scratch.client.clone(), SYSTEM);
            // At once, so that it cannot give the Lease back.
            let at_once = DeleteParams::default().grace_period(0);
            operators.delete(&former, &at_once).await.with_context(|| former.clone())?;
            let change = json!({"maintenance": {"verify": {"suspend": true}}});
            scratch.change("memory", change).await?;
            wait::until("the change", MINUTE * 2, || async {
                let cron = scratch.api::<CronJob>().get("memory-verify").await?;
                Ok(if cron.spec.suspend == Some(true) { Ok(()) } else { Err(cron.spec.suspend) })
            })
            .await?;
            let now = holder().await?;
            ensure!(now != former, "{now} holds the Lease as before");
            scratch.ready("memory").await
        }
        .await;
        let back = set_operator("replicas=1").await;
        outcome?;
        back
    })
    .await
}

/// Kills the operator so that it can neither finish anything nor give its Lease back.
async fn kill_operator(scratch: &Scratch) -> Result<()> {
    let operators: Api<Pod> = Api::namespaced(scratch.client.clone(), SYSTEM);
    let label = ListParams::default().labels("app.kubernetes.io/name=llm-memory-operator");
    for operator in operators.list_metadata(&label).await? {
        let name = operator.name_any();
        operators.delete(&name, &DeleteParams::default().grace_period(0)).await.context(name)?;
    }
    Ok(())
}

/// Waits until the update to `image` is at `phase` or beyond.
async fn update_at(scratch: &Scratch, image: &str, phase: UpdatePhase) -> Result<UpdatePhase> {
    wait::until(&format!("{phase:?} of {image}"), MINUTE * 3, || async {
        let store = scratch.api::<MemoryStore>().get("memory").await?;
        let update = store.status.and_then(|status| status.update);
        let there = update.as_ref().filter(|update| update.to == image);
        let there = there.map(|update| update.phase).filter(|now| *now as u8 >= phase as u8);
        Ok(there.ok_or(update))
    })
    .await
}

#[tokio::test]
async fn an_update_outlives_its_operators() -> Result<()> {
    use UpdatePhase::{Complete, RolledBack, RollingBack, RollingOut, Verifying};
    scratch("handover", |scratch| async move {
        let spec = json!({"storage": {"size": "1Gi"}, "update": {"readyTimeoutSeconds": 40}});
        scratch.create("memory", spec).await?;
        scratch.ready("memory").await?;
        let kept = scratch.remember("memory", "what no operator's death may cost").await?;
        let updates = [
            (stores::other_image(), Complete, [Verifying, RollingOut].as_slice()),
            (agents::image(), RolledBack, &[Verifying, RollingOut, RollingBack]),
        ];
        for (image, end, steps) in updates {
            scratch.change("memory", json!({"image": image})).await?;
            for step in steps {
                let seen = update_at(&scratch, &image, *step).await?;
                kill_operator(&scratch).await?;
                println!("{image}: killed at {seen:?}");
            }
            let seen = update_at(&scratch, &image, Complete).await?;
            ensure!(seen == end, "the update to {image} ended as {seen:?}");
            ensure!(scratch.image_of_pod("memory").await? == stores::other_image());
            scratch.ready("memory").await?;
            scratch.recalls("memory", &kept).await?;
        }

        // What has ended is not begun again.
        let pod = scratch.pod_uid("memory").await?;
        kill_operator(&scratch).await?;
        scratch.change("memory", json!({"maintenance": {"verify": {"suspend": true}}})).await?;
        wait::until("the change", MINUTE * 2, || async {
            let cron = scratch.api::<CronJob>().get("memory-verify").await?;
            Ok(if cron.spec.suspend == Some(true) { Ok(()) } else { Err(cron.spec.suspend) })
        })
        .await?;
        let seen = update_at(&scratch, &agents::image(), Complete).await?;
        ensure!(seen == RolledBack && scratch.pod_uid("memory").await? == pod, "{seen:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_operator_of_one_namespace_needs_and_touches_no_other() -> Result<()> {
    scratch("inside", |inside| async move {
        scratch("outside", |outside| async move {
            watch(&[&inside.namespace]).await?;
            let outcome = one_namespace(&inside, &outside).await;
            let back = watch(&[]).await;
            outcome?;
            back?;
            // It was not refused, but not looked at.
            outside.ready("memory").await.map(drop)
        })
        .await
    })
    .await
}

async fn one_namespace(inside: &Scratch, outside: &Scratch) -> Result<()> {
    let elsewhere = rights::of_user(OPERATOR, &outside.namespace).await?;
    let stores: Vec<_> =
        elsewhere.iter().filter(|right| right.1.contains("memorystores")).collect();
    ensure!(stores.is_empty(), "outside it may {stores:?}");
    let spec = json!({
        "storage": {"size": "1Gi"},
        "mcp": {"auth": {"serviceAccounts": [{"name": "agent"}]}},
    });
    outside.create("memory", spec.clone()).await?;
    inside.create("memory", spec).await?;
    inside.ready("memory").await?;
    inside.start_agent("agent").await?;
    let url = inside.url("http", "memory");
    let answer = inside.visit("agent", &[&url, agents::TOKEN]).await?;
    ensure!(answer["found"]["total"].as_u64() > Some(0), "{answer}");
    inside.start_job("memory-verify", "verify").await?;
    ensure!(inside.job_ended("verify").await?, "{}", inside.job_log("verify").await?);
    inside.condition("memory", "Verified", "True", "Intact", MINUTE).await?;
    let store = outside.api::<MemoryStore>().get("memory").await?;
    ensure!(store.status.is_none(), "{:?}", store.status);
    let sets = outside.api::<StatefulSet>().list(&ListParams::default()).await?;
    ensure!(sets.items.is_empty(), "it made a StatefulSet outside");
    Ok(())
}

#[tokio::test]
async fn stores_outlive_the_chart_of_their_definition() -> Result<()> {
    scratch("definition", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;
        let before = scratch.incarnation("memory").await?;
        helm("uninstall llm-memory-crds").await?;
        let there = scratch.api::<MemoryStore>().get_opt("memory").await;
        helm("upgrade --install llm-memory-crds charts/llm-memory-crds").await?;
        ensure!(there?.is_some(), "the store went with the chart");
        scratch.ready("memory").await?;
        ensure!(scratch.incarnation("memory").await? == before, "the server was restarted");
        Ok(())
    })
    .await
}

/// Why a memory was not stored.
async fn refusal(scratch: &Scratch, text: &str) -> String {
    let refused = scratch.remember("memory", text).await;
    refused.map_or_else(|error| format!("{error:#}"), |id| format!("acknowledged: {id}"))
}

/// A store on the folder `folder` of the node.
async fn store_on(scratch: &Scratch, folder: &str) -> Result<()> {
    let name = &scratch.namespace;
    let volumes: Api<PersistentVolume> = Api::all(scratch.client.clone());
    let volume = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "512Mi"}, "accessModes": ["ReadWriteOnce"],
            "storageClassName": name, "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": folder},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]}]}]}},
        },
    }))?;
    volumes.create(&PostParams::default(), &volume).await?;
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "mine"},
        "spec": {
            "storageClassName": name, "accessModes": ["ReadWriteOnce"],
            "volumeName": name, "resources": {"requests": {"storage": "512Mi"}},
        },
    }))?;
    scratch.api::<PersistentVolumeClaim>().create(&PostParams::default(), &claim).await?;
    scratch
        .create("memory", json!({"storage": {"existingClaim": "mine", "size": "512Mi"}}))
        .await?;
    scratch.ready("memory").await.map(drop)
}

async fn fill_volume(scratch: &Scratch, folder: &str) -> Result<()> {
    store_on(scratch, folder).await?;
    let kept = scratch.remember("memory", "while the volume was well").await?;
    // Full to the last byte; the command ends because there is no more room.
    let filled = cluster(&format!("exec dd if=/dev/zero of={folder}/ballast bs=64k")).await;
    ensure!(filled.is_err(), "the volume did not fill up");
    let why = refusal(scratch, "while it was full").await;
    ensure!(why.contains("no space left"), "a write on a full volume: {why}");
    scratch.condition("memory", "StorageHealthy", "False", "WritesFail", MINUTE).await?;
    all_there(scratch, std::slice::from_ref(&kept)).await?;
    // A pod that starts on such a volume still finds its data once there is room again.
    let pod = scratch.pod_uid("memory").await?;
    scratch.api::<Pod>().delete("memory-0", &DeleteParams::default()).await?;
    cluster(&format!("exec rm {folder}/ballast")).await?;
    scratch.another_pod("memory", &pod).await?;
    scratch.ready("memory").await?;
    all_there(scratch, &[kept]).await?;
    scratch.remember("memory", "afterwards").await?;
    scratch.condition("memory", "StorageHealthy", "True", "Bound", MINUTE).await?;
    Ok(())
}

#[tokio::test]
async fn a_disk_that_fails_loses_nothing_that_was_acknowledged() -> Result<()> {
    scratch("disk", |scratch| async move {
        // A disk that is larger than what is behind it: where that ends, writes fail with EIO.
        let folder = format!("/tmp/{}", scratch.namespace);
        let outcome = async {
            cluster(&format!("exec mkdir -p {folder}/behind {folder}/data")).await?;
            cluster(&format!("exec mount -t tmpfs -o size=96m tmpfs {folder}/behind")).await?;
            cluster(&format!("exec truncate -s 512M {folder}/behind/disk")).await?;
            cluster(&format!("exec mkfs.ext4 -q -E nodiscard {folder}/behind/disk")).await?;
            mount_disk(&folder).await?;
            cluster(&format!("exec chmod 0777 {folder}/data")).await?;
            fail_disk(&scratch, &folder).await
        }
        .await;
        let volumes: Api<PersistentVolume> = Api::all(scratch.client.clone());
        volumes.delete(&scratch.namespace, &DeleteParams::default()).await.ok();
        for mounted in ["data", "behind"] {
            cluster(&format!("exec umount -l {folder}/{mounted}")).await.ok();
        }
        cluster(&format!("exec rm -rf {folder}")).await.ok();
        outcome
    })
    .await
}

async fn mount_disk(folder: &str) -> Result<String> {
    let options = "loop,errors=remount-ro";
    cluster(&format!("exec mount -o {options} {folder}/behind/disk {folder}/data")).await
}

async fn fail_disk(scratch: &Scratch, folder: &str) -> Result<()> {
    store_on(scratch, &format!("{folder}/data")).await?;
    let mut acknowledged = vec![scratch.remember("memory", "while the disk was well").await?];
    let filled = cluster(&format!("exec dd if=/dev/zero of={folder}/behind/ballast bs=4k")).await;
    ensure!(filled.is_err(), "there is room behind the disk");
    // Blocks that were written before can be written again; new ones cannot.
    let why = loop {
        let text = format!("{} {}", acknowledged.len(), "the disk fails ".repeat(20));
        match scratch.remember("memory", &text).await {
            Ok(id) => acknowledged.push(id),
            Err(error) => break format!("{error:#}"),
        }
        ensure!(acknowledged.len() < 500, "the disk does not fail");
    };
    println!("after {} memories: {why}", acknowledged.len());
    all_there(scratch, &acknowledged).await?;
    let again = refusal(scratch, "once more").await;
    ensure!(!again.contains("acknowledged"), "{again}");
    // It serves, and says what it cannot.
    let store =
        scratch.condition("memory", "StorageHealthy", "False", "WritesFail", MINUTE).await?;
    let told = serde_json::to_string(&store.status)?;
    ensure!(told.contains("scope global: "), "{told}");
    scratch.condition("memory", "Ready", "True", "Serving", MINUTE).await?;
    // The disk is replaced and its file system repaired, as somebody does at night.
    scratch.change("memory", json!({"replicas": 0})).await?;
    wait::until("no pod", MINUTE, || async {
        let pod = scratch.api::<Pod>().get_opt("memory-0").await?;
        Ok(pod.map_or(Ok(()), |_| Err("a pod")))
    })
    .await?;
    cluster(&format!("exec umount {folder}/data")).await?;
    cluster(&format!("exec rm {folder}/behind/ballast")).await?;
    // 1: errors were corrected.
    cluster(&format!("exec bash -c \"e2fsck -fy {folder}/behind/disk || [ \\$? = 1 ]\"")).await?;
    mount_disk(folder).await?;
    scratch.change("memory", json!({"replicas": 1})).await?;
    scratch.ready("memory").await?;
    all_there(scratch, &acknowledged).await?;
    scratch.remember("memory", "afterwards").await?;
    Ok(())
}
