//! Kills the operator again and again while stores are made, changed and deleted, and compares
//! what there is after each round with a run in which nobody killed it. Ends with status 1 when
//! something is left over, missing or different.

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
const LOOK: Duration = Duration::from_secs(1);
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
    /// Parts of the script, with kills in each; after each one everything has to converge.
    #[arg(long, default_value_t = 20, value_name = "NUMBER")]
    rounds: u32,
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
    ensure!(arguments.rounds > 0, "--rounds must not be 0");
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let client = scratch::connect().await?;
    tokio::fs::create_dir_all(&arguments.output).await.context("--output")?;
    let identity = fleet::identity(&client, &arguments.charts, &arguments.output).await?;
    let run = format!("chaos-{:06x}", rand::random::<u32>() & 0x00ff_ffff);
    let (kills, rounds) = (arguments.kills, arguments.rounds);
    println!("chaos: seed {seed}, {kills} kills, {rounds} rounds, run {run}");
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

/// What there is after each round, without kills and with them.
async fn runs(
    arguments: &Arguments,
    seed: u64,
    run: &str,
    steps: &[Step],
    calm: &[Scratch],
    wild: &[Scratch],
    launch: &Launch,
) -> Result<(Vec<Inventory>, Vec<Inventory>)> {
    let rounds = arguments.rounds;
    let parts: Vec<&[Step]> = (0..rounds).map(|round| part(steps, round, rounds)).collect();
    let operator = launch.start().await?;
    let mut expected = Vec::new();
    for steps in &parts {
        play(steps, calm, run, PAUSE).await?;
        expected.push(converge(calm).await?);
    }
    operator.kill().await?;
    let objects = expected.last().map_or(0, |inventory| inventory.objects.len());
    println!("chaos: {objects} objects in the end without kills");
    remove(calm).await?;

    let mut random = StdRng::seed_from_u64(seed.wrapping_add(1));
    let mean = Duration::from_millis(LIFE_MS.start().midpoint(*LIFE_MS.end()));
    let (mut seen, mut killed) = (Vec::new(), 0);
    for (round, steps) in (1..).zip(parts) {
        // As many as are due by now, so that all rounds have about the same.
        let due = u64::from(arguments.kills) * round / u64::from(rounds);
        let lives: Vec<u64> = (killed..due).map(|_| random.random_range(LIFE_MS)).collect();
        killed = due;
        let count = u32::try_from(steps.len()).unwrap_or(u32::MAX).max(1);
        let pause = mean * u32::try_from(lives.len()).unwrap_or(u32::MAX) / count;
        let ((), ()) = tokio::try_join!(kills(launch, &lives), play(steps, wild, run, pause))?;
        let operator = launch.start().await?;
        let start = Instant::now();
        let now = converge(wild).await?;
        operator.kill().await?;
        println!(
            "chaos: round {round} of {rounds}: killed after {lives:?} ms, {killed} in all; \
             looked at {} objects for {:.1} s",
            now.objects.len(),
            start.elapsed().as_secs_f64()
        );
        seen.push(now);
    }
    Ok((expected, seen))
}

/// The steps of a round; all rounds have the same number of them, or one more.
fn part(steps: &[Step], round: u32, rounds: u32) -> &[Step] {
    let (round, rounds) = (round as usize, rounds.max(1) as usize);
    let from = steps.len() * round / rounds;
    let to = steps.len() * (round + 1) / rounds;
    steps.get(from..to).unwrap_or_default()
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

/// Starts the operator, and kills it after each of `lives`, in milliseconds.
async fn kills(launch: &Launch, lives: &[u64]) -> Result<()> {
    for life in lives {
        let operator = launch.start().await?;
        tokio::time::sleep(Duration::from_millis(*life)).await;
        operator.kill().await?;
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
fn report(expected: &[Inventory], seen: &[Inventory]) -> usize {
    let mut count = 0;
    for (round, (expected, seen)) in (1..).zip(expected.iter().zip(seen)) {
        for line in wrong(expected, seen) {
            println!("chaos: round {round}: {line}");
            count += 1;
        }
    }
    let all = |runs: &[Inventory]| runs.iter().map(|run| run.objects.len()).sum::<usize>();
    let end = |runs: &[Inventory]| {
        let (objects, claims) =
            runs.last().map_or((0, 0), |run| (run.objects.len(), run.retained.len()));
        format!("{objects} objects and {claims} retained claims")
    };
    println!(
        "chaos: compared {} times, {} objects expected and {} seen in all; in the end {} expected, \
         {} seen; {count} things wrong",
        seen.len(),
        all(expected),
        all(seen),
        end(expected),
        end(seen)
    );
    count
}

/// What is wrong after one round.
fn wrong(expected: &Inventory, seen: &Inventory) -> Vec<String> {
    let mut wrong = Vec::new();
    for (run, inventory) in [("without kills", expected), ("with kills", seen)] {
        wrong.extend(inventory.orphans.iter().map(|what| format!("orphan {run}: {what}")));
        wrong.extend(inventory.pending.iter().map(|what| format!("unsettled {run}: {what}")));
    }
    wrong.extend(differences(expected, seen));
    wrong
}

#[cfg(test)]
mod tests {
    use llm_memory_e2e::script::Action;

    use super::*;

    #[test]
    fn rounds_take_every_step_once_and_in_order() {
        let steps: Vec<Step> = (0..7).map(|store| Step { store, action: Action::Create }).collect();
        for rounds in [1, 3, 7, 9] {
            let taken: Vec<Step> =
                (0..rounds).flat_map(|round| part(&steps, round, rounds).to_vec()).collect();
            assert_eq!(taken, steps);
        }
    }
}
