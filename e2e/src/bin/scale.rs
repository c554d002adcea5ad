//! Measures the operator with many stores: time, memory, writes at rest, latency of a change, and
//! what a restart costs. Ends with status 1 when a budget is missed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "results and progress are printed")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use comfy_table::Table;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use llm_memory_crds::MemoryStore;
use llm_memory_e2e::audit;
use llm_memory_e2e::operator::{Launch, Memory, Operator};
use llm_memory_e2e::requests::{Audit, Requests};
use llm_memory_e2e::{Scratch, fleet, scratch, wait};
use rand::Rng as _;
use serde::Serialize;
use serde_json::json;

/// Most memory that the operator may ever have had, in KiB.
const MAX_PEAK_KIB: u64 = 100 * 1024;
/// Most time that a change may take.
const MAX_CHANGE_MS: u128 = 1000;
/// Time without a write after which the operator is at rest.
const REST: Duration = Duration::from_secs(20);
/// Time that anything here may take.
const LIMIT: Duration = Duration::from_secs(1800);

/// Measures the operator with many stores, in the cluster that KUBECONFIG names. The operator runs
/// as a process of this machine, with an identity of its own; none may be installed in the cluster.
#[derive(Debug, Parser)]
struct Arguments {
    /// Program of the operator.
    #[arg(long, env = "LLM_MEMORY_OPERATOR", value_name = "FILE")]
    operator: PathBuf,
    /// Folder of the charts: definitions and rights are taken from there.
    #[arg(long, default_value = "charts", value_name = "FOLDER")]
    charts: PathBuf,
    /// Audit log of the API server; that of the test cluster when left out.
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// Stores to make.
    #[arg(long, default_value_t = 1000, value_name = "NUMBER")]
    stores: usize,
    /// Namespaces to spread them over.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..), value_name = "NUMBER")]
    namespaces: u16,
    /// Minutes at rest during which writes are counted.
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    minutes: u64,
    /// Changes whose latency is measured.
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    changes: usize,
    /// Folder for the operator's log and the report (`scale.json`).
    #[arg(long, default_value = "target/scale", value_name = "FOLDER")]
    output: PathBuf,
    /// Leave the stores in the cluster.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    stores: usize,
    created_seconds: f64,
    reconciled_seconds: f64,
    memory_reconciled: Memory,
    minutes_at_rest: u64,
    at_rest: Requests,
    change_ms: Latency,
    memory_end: Memory,
    restart: Requests,
    memory_restarted: Memory,
    missed: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Latency {
    changes: usize,
    p50: u128,
    p95: u128,
    max: u128,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(Arguments::parse()).await {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("scale: missed: {}", missed.join("; "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: Arguments) -> Result<Vec<String>> {
    ensure!(arguments.stores > 0 && arguments.changes > 0, "--stores and --changes must not be 0");
    let client = scratch::connect().await?;
    tokio::fs::create_dir_all(&arguments.output).await.context("--output")?;
    let identity = fleet::identity(&client, &arguments.charts, &arguments.output).await?;
    let run = format!("scale-{:06x}", rand::random::<u32>() & 0x00ff_ffff);
    let namespaces: Vec<String> =
        (0..arguments.namespaces).map(|number| format!("{run}-{number}")).collect();
    let audit_log = arguments.audit_log.clone().map_or_else(audit::log, Ok)?;
    let mut audit = Audit::new(audit_log, identity.user.clone()).await?;
    let launch = Launch {
        program: arguments.operator.clone(),
        kubeconfig: identity.kubeconfig.clone(),
        log: arguments.output.join("operator.log"),
    };
    let outcome = async {
        fleet::room(&client, &run, &namespaces, arguments.stores, arguments.stores).await?;
        stages(&client, &arguments, &run, &namespaces, &mut audit, &launch).await
    }
    .await;
    let cleared = if arguments.keep { Ok(()) } else { fleet::clear(&client, &run).await };
    tokio::fs::remove_file(&identity.kubeconfig).await.context("kubeconfig")?;
    let report = outcome?;
    cleared?;
    let text = serde_json::to_string_pretty(&report)?;
    tokio::fs::write(arguments.output.join("scale.json"), &text).await?;
    println!("{text}\n{}", table(&report));
    Ok(report.missed)
}

/// The test cluster keeps the log beside its kubeconfig.
async fn stages(
    client: &Client,
    arguments: &Arguments,
    run: &str,
    namespaces: &[String],
    audit: &mut Audit,
    launch: &Launch,
) -> Result<Report> {
    let operator = launch.start().await?;
    let start = Instant::now();
    let stores: Vec<(Scratch, String)> = namespaces
        .iter()
        .cycle()
        .zip(0..arguments.stores)
        .map(|(namespace, number)| {
            let scratch = Scratch { client: client.clone(), namespace: namespace.clone() };
            (scratch, format!("memory-{number}"))
        })
        .collect();
    stream::iter(&stores)
        .map(|(scratch, name)| scratch.create(name, fleet::spec(run)))
        .buffer_unordered(fleet::AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    let created_seconds = start.elapsed().as_secs_f64();
    eprintln!("scale: {} stores are there after {created_seconds:.1} s", stores.len());
    reconciled(client, run, stores.len()).await?;
    let reconciled_seconds = start.elapsed().as_secs_f64();
    let memory_reconciled = operator.memory().await?;
    eprintln!("scale: reconciled after {reconciled_seconds:.1} s, {memory_reconciled:?}");
    pods_run(client, run, stores.len()).await?;
    rest(audit, &operator).await?;
    eprintln!("scale: at rest; counting for {} minutes", arguments.minutes);
    tokio::time::sleep(Duration::from_secs(arguments.minutes * 60)).await;
    let at_rest = audit.since().await?;
    eprintln!("scale: {at_rest:?}");
    let change_ms = changes(&stores, arguments.changes).await?;
    eprintln!("scale: {change_ms:?}");
    rest(audit, &operator).await?;
    let memory_end = operator.memory().await?;
    operator.kill().await?;
    let operator = launch.start().await?;
    let restart = rest(audit, &operator).await?;
    let memory_restarted = operator.memory().await?;
    operator.kill().await?;
    let mut report = Report {
        stores: stores.len(),
        created_seconds,
        reconciled_seconds,
        memory_reconciled,
        minutes_at_rest: arguments.minutes,
        at_rest,
        change_ms,
        memory_end,
        restart,
        memory_restarted,
        missed: Vec::new(),
    };
    report.missed = missed(&report);
    Ok(report)
}

fn missed(report: &Report) -> Vec<String> {
    let mut missed = Vec::new();
    let Requests { writes, token_requests, event_writes, .. } = report.at_rest;
    let writes = writes + token_requests + event_writes;
    if writes > 0 {
        missed.push(format!("{writes} writes at rest, 0 are allowed"));
    }
    let peak = report.memory_end.peak_kib.max(report.memory_restarted.peak_kib);
    if peak > MAX_PEAK_KIB {
        missed.push(format!("{peak} KiB of memory, {MAX_PEAK_KIB} are allowed"));
    }
    if report.change_ms.max > MAX_CHANGE_MS {
        let max = report.change_ms.max;
        missed.push(format!("{max} ms for a change, {MAX_CHANGE_MS} are allowed"));
    }
    missed
}

/// Waits until every store's generation was observed and its StatefulSet is there.
async fn reconciled(client: &Client, run: &str, count: usize) -> Result<()> {
    let stores: Api<MemoryStore> = Api::all(client.clone());
    let sets: Api<StatefulSet> = Api::all(client.clone());
    // From the API server's cache: many complete reads of etcd would slow down what is measured.
    let cached = ListParams::default().match_any();
    let ours = |namespace: Option<String>| {
        namespace.is_some_and(|namespace| namespace.starts_with(&format!("{run}-")))
    };
    wait::until("all stores reconciled", LIMIT, || async {
        let list = stores.list(&cached).await?;
        let observed = list.iter().filter(|store| {
            let observed = store.status.as_ref().and_then(|status| status.observed_generation);
            ours(store.namespace()) && observed == store.metadata.generation
        });
        let sets = sets.list_metadata(&cached).await?;
        let found = (observed.count(), sets.iter().filter(|set| ours(set.namespace())).count());
        Ok(if found == (count, count) { Ok(()) } else { Err(found) })
    })
    .await
}

async fn pods_run(client: &Client, run: &str, count: usize) -> Result<()> {
    let pods: Api<Pod> = Api::all(client.clone());
    let cached = ListParams::default().match_any();
    wait::until("all pods running", LIMIT, || async {
        let list = pods.list(&cached).await?;
        let running = list.iter().filter(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            pod.namespace().is_some_and(|namespace| namespace.starts_with(&format!("{run}-")))
                && phase == Some("Running")
        });
        let running = running.count();
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(if running == count { Ok(()) } else { Err(running) })
    })
    .await
}

/// Waits until the operator writes no more, and answers what it asked for until then.
async fn rest(audit: &mut Audit, operator: &Operator) -> Result<Requests> {
    let start = Instant::now();
    let mut total = Requests::default();
    let mut last = Instant::now();
    while last.elapsed() < REST {
        ensure!(start.elapsed() < LIMIT, "the operator goes on writing: {total:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        operator.memory().await?;
        let now = audit.since().await?;
        // Many reads are work too: after a restart they come before the writes. A few per second
        // are the rare looks at stores that nothing happens to.
        if now.writes + now.token_requests + now.event_writes > 0 || now.reads > 50 {
            last = Instant::now();
        }
        total.add(&now);
    }
    Ok(total)
}

/// Changes a setting of one random store after the other, and takes the time until its ConfigMap has
/// it and its StatefulSet, which is applied last, another template.
async fn changes(stores: &[(Scratch, String)], count: usize) -> Result<Latency> {
    let mut times = Vec::new();
    for number in 0..count {
        let index = rand::rng().random_range(0..stores.len());
        let (scratch, name) = stores.get(index).context("no store")?;
        let maps = scratch.api::<ConfigMap>();
        let sets = scratch.api::<StatefulSet>();
        let former = sets.get(name).await?.metadata.generation;
        let value = (1000 + number).to_string();
        let start = Instant::now();
        scratch.change(name, json!({"settings": {"limits.maxItemKb": value}})).await?;
        loop {
            let data = maps.get(&format!("{name}-config")).await?.data.unwrap_or_default();
            if data.get("server.json").is_some_and(|text| text.contains(&value))
                && sets.get(name).await?.metadata.generation > former
            {
                break;
            }
            ensure!(start.elapsed() < LIMIT, "{name} did not change");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        times.push(start.elapsed().as_millis());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    times.sort_unstable();
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1) - 1;
        times.get(rank).copied().unwrap_or_default()
    };
    Ok(Latency { changes: count, p50: at(50), p95: at(95), max: at(100) })
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.set_header(["what", "measured", "budget"]);
    let kib = |memory: Memory| format!("{} KiB (peak {})", memory.resident_kib, memory.peak_kib);
    let asked = |asked: &Requests| {
        format!(
            "{} (tokens {}, Events {}, Leases {}, reads {})",
            asked.writes, asked.token_requests, asked.event_writes, asked.lease_writes, asked.reads
        )
    };
    let seconds = |seconds: f64| format!("{seconds:.1} s");
    let (change, most) = (&report.change_ms, format!("{MAX_PEAK_KIB} KiB"));
    let (now, end) = (kib(report.memory_reconciled), kib(report.memory_end));
    for [what, measured, budget] in [
        ["stores", &report.stores.to_string(), ""],
        ["made within", &seconds(report.created_seconds), ""],
        ["reconciled within", &seconds(report.reconciled_seconds), ""],
        ["memory then", &now, &most],
        ["memory at the end", &end, &most],
        ["memory after a restart", &kib(report.memory_restarted), &most],
        ["writes at rest", &asked(&report.at_rest), "0"],
        ["minutes at rest", &report.minutes_at_rest.to_string(), ""],
        ["change, p50", &format!("{} ms", change.p50), ""],
        ["change, p95", &format!("{} ms", change.p95), ""],
        ["change, max", &format!("{} ms", change.max), &format!("{MAX_CHANGE_MS} ms")],
        ["writes after a restart", &asked(&report.restart), ""],
    ] {
        table.add_row([what, measured, budget]);
    }
    table
}
