//! Kills the operator again and again while stores are made, changed and deleted, and compares
//! what is left with a run in which nobody killed it. Ends with status 1 when something is left
//! over, missing or different.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "results and progress are printed")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use llm_memory_e2e::inventory::{self, Inventory, differences};
use llm_memory_e2e::operator::Launch;
use llm_memory_e2e::script::{Step, script};
use llm_memory_e2e::{Scratch, fleet, scratch, wait};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Namespaces of each run.
const NAMESPACES: usize = 3;
/// Between two looks for convergence.
const LOOK: Duration = Duration::from_secs(2);
/// Looks in a row that have to find the same.
const STEADY: u32 = 5;
/// Time to converge. The longest pause of the operator between two tries is two minutes.
const LIMIT: Duration = Duration::from_secs(300);
/// Longest life of the operator between two kills, in milliseconds; they are drawn evenly, from
/// the moment that it has just been started.
const LIFE_MS: std::ops::RangeInclusive<u64> = 50..=3000;
/// Between two steps of the run that nobody disturbs.
const PAUSE: Duration = Duration::from_millis(50);

/// Kills the operator while stores come, change and go, in the cluster that KUBECONFIG names. The
/// operator runs as a process of this machine; none may be installed in the cluster.
#[derive(Debug, Parser)]
struct Arguments {
    /// Program of the operator.
    #[arg(long, env = "LLM_MEMORY_OPERATOR", value_name = "FILE")]
    operator: PathBuf,
    /// Folder of the charts: definitions and rights are taken from there.
    #[arg(long, default_value = "charts", value_name = "FOLDER")]
    charts: PathBuf,
    /// How often the operator is killed.
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    kills: u32,
    /// Stores that come and go.
    #[arg(long, default_value_t = 30, value_name = "NUMBER")]
    stores: usize,
    /// Steps of the script; ten for each store when left out.
    #[arg(long, value_name = "NUMBER")]
    steps: Option<usize>,
    /// Seed of script and kills; drawn, and printed, when left out.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Folder for the operator's log.
    #[arg(long, default_value = "target/chaos", value_name = "FOLDER")]
    output: PathBuf,
    /// Leave the stores in the cluster.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match compare(Arguments::parse()).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers how much is wrong.
async fn compare(arguments: Arguments) -> Result<usize> {
    ensure!(arguments.stores > 0, "--stores must not be 0");
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let client = scratch::connect().await?;
    tokio::fs::create_dir_all(&arguments.output).await.context("--output")?;
    let identity = fleet::identity(&client, &arguments.charts, &arguments.output).await?;
    let run = format!("chaos-{:06x}", rand::random::<u32>() & 0x00ff_ffff);
    println!("chaos: seed {seed}, {} kills, run {run}", arguments.kills);
    let steps = script(seed, arguments.stores, arguments.steps.unwrap_or(arguments.stores * 10));
    let named = |kind: &str| -> Vec<Scratch> {
        (0..NAMESPACES)
            .map(|number| Scratch {
                client: client.clone(),
                namespace: format!("{run}-{kind}-{number}"),
            })
            .collect()
    };
    let (calm, wild) = (named("calm"), named("wild"));
    let names: Vec<String> = calm.iter().chain(&wild).map(|s| s.namespace.clone()).collect();
    // A volume is used once: claims that are deleted with their store take new ones.
    let volumes = steps.len();
    let launch = Launch {
        program: arguments.operator.clone(),
        kubeconfig: identity.kubeconfig.clone(),
        log: arguments.output.join("operator.log"),
    };
    let outcome = async {
        fleet::room(&client, &run, &names, arguments.stores * 2, volumes).await?;
        runs(&arguments, seed, &run, &steps, &calm, &wild, &launch).await
    }
    .await;
    let cleared = if arguments.keep { Ok(()) } else { fleet::clear(&client, &run).await };
    tokio::fs::remove_file(&identity.kubeconfig).await.context("kubeconfig")?;
    let (expected, seen) = outcome?;
    cleared?;
    Ok(report(&expected, &seen))
}

async fn runs(
    arguments: &Arguments,
    seed: u64,
    run: &str,
    steps: &[Step],
    calm: &[Scratch],
    wild: &[Scratch],
    launch: &Launch,
) -> Result<(Inventory, Inventory)> {
    let operator = launch.start().await?;
    play(steps, calm, run, PAUSE).await?;
    let expected = converge(calm).await?;
    operator.kill().await?;
    eprintln!("chaos: {} objects without kills", expected.objects.len());
    remove(calm).await?;

    let kills = kills(launch, arguments.kills, seed);
    let mean = Duration::from_millis(LIFE_MS.start().midpoint(*LIFE_MS.end()));
    let count = u32::try_from(steps.len()).unwrap_or(u32::MAX).max(1);
    let pause = mean * arguments.kills / count;
    let ((), ()) = tokio::try_join!(kills, play(steps, wild, run, pause))?;
    let operator = launch.start().await?;
    let seen = converge(wild).await?;
    operator.kill().await?;
    Ok((expected, seen))
}

/// Takes each step.
async fn play(steps: &[Step], namespaces: &[Scratch], run: &str, pause: Duration) -> Result<()> {
    for (number, step) in steps.iter().enumerate() {
        let context = || format!("step {number}: {step:?}");
        step.take(namespaces, run).await.with_context(context)?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Starts and kills the operator `count` times.
async fn kills(launch: &Launch, count: u32, seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed.wrapping_add(1));
    let start = Instant::now();
    for number in 1..=count {
        let operator = launch.start().await?;
        let life = random.random_range(LIFE_MS);
        tokio::time::sleep(Duration::from_millis(life)).await;
        operator.kill().await?;
        println!(
            "chaos: kill {number} of {count} after {life} ms, {:.1} s into the script",
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// Looks until nothing changes any more. What has not settled within the limit is part of the
/// answer.
async fn converge(namespaces: &[Scratch]) -> Result<Inventory> {
    let start = Instant::now();
    let (mut last, mut same) = (Inventory::default(), 0);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = inventory::take(namespaces).await?;
        let settled = now.pending.is_empty() && now.orphans.is_empty();
        same = if settled && now == last { same + 1 } else { 0 };
        last = now;
        if same >= STEADY || start.elapsed() > LIMIT {
            eprintln!("chaos: looked for {:.1} s", start.elapsed().as_secs_f64());
            return Ok(last);
        }
    }
}

/// Removes namespaces and waits until they are gone, so that the next run has the operator alone.
async fn remove(namespaces: &[Scratch]) -> Result<()> {
    for scratch in namespaces {
        let api: Api<Namespace> = Api::all(scratch.client.clone());
        api.delete(&scratch.namespace, &DeleteParams::background()).await?;
    }
    for scratch in namespaces {
        let api: Api<Namespace> = Api::all(scratch.client.clone());
        wait::until(&format!("{} gone", scratch.namespace), LIMIT, || async {
            Ok(api.get_opt(&scratch.namespace).await?.map_or(Ok(()), |_| Err("it is there")))
        })
        .await?;
    }
    Ok(())
}

/// Prints what is wrong, and answers how much.
fn report(expected: &Inventory, seen: &Inventory) -> usize {
    let mut wrong = Vec::new();
    for (run, inventory) in [("without kills", expected), ("with kills", seen)] {
        wrong.extend(inventory.orphans.iter().map(|what| format!("orphan {run}: {what}")));
        wrong.extend(inventory.pending.iter().map(|what| format!("unsettled {run}: {what}")));
    }
    wrong.extend(differences(expected, seen));
    for line in &wrong {
        println!("chaos: {line}");
    }
    println!(
        "chaos: {} objects expected, {} seen, {} and {} claims retained, {} things wrong",
        expected.objects.len(),
        seen.objects.len(),
        expected.retained.len(),
        seen.retained.len(),
        wrong.len()
    );
    wrong.len()
}
