//! `./justw crash N`: N crashes under load, with the figures at the end.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Duration;

use clap::Parser;
use llm_memory_tests::crash::{Plan, run};

/// Kills the server again and again under sixteen writers and compaction, and checks that every
/// acknowledged write is still there.
#[derive(Parser)]
#[command(name = "crash")]
struct Arguments {
    /// Crashes.
    #[arg(long, default_value_t = 50)]
    cycles: u64,
    /// Repeats the decisions of an earlier run; random when left out.
    #[arg(long)]
    seed: Option<u64>,
    /// Crashes before the next empty store.
    #[arg(long, default_value_t = 25)]
    cycles_per_store: u64,
    /// Longest time between the first write and the crash, milliseconds.
    #[arg(long, default_value_t = 1500)]
    longest_run_ms: u64,
}

fn main() -> anyhow::Result<()> {
    llm_memory_tests::stop::on_signal()?;
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(llm_memory_tests::crash::any_seed);
    println!("crash: {} cycles, seed {seed}", arguments.cycles);
    let report = run(&Plan {
        cycles: arguments.cycles,
        seed,
        cycles_per_store: arguments.cycles_per_store,
        longest_run: Duration::from_millis(arguments.longest_run_ms),
        verbose: true,
    })?;
    println!(
        "crash: {} cycles survived ({} also crashed in recovery, {} stopped by SIGTERM under \
         load); {} acknowledged writes, all there and intact; {} compactions; longest start {} ms",
        report.cycles,
        report.during_recovery,
        report.stopped,
        report.acknowledged,
        report.compactions,
        report.longest_start.as_millis(),
    );
    Ok(())
}
