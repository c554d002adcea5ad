//! `./justw bench`.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::path::PathBuf;

use clap::Parser;
use llm_memory_tests::bench::{Options, run};

/// Measures durable writes, start, memory, bytes and search on this machine.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Store sizes, in items.
    #[arg(long, value_delimiter = ',', default_value = "10000")]
    items: Vec<u64>,
    /// Seconds for each write measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Folder on the disk to measure; the system's temporary one when left out.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Server program; this workspace's own when left out.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Also write the figures as JSON into this file; without it they are printed at the end.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    llm_memory_tests::stop::on_signal()?;
    let Arguments { items, seconds, folder, binary, json } = Arguments::parse();
    let figures = run(&Options { items, seconds, folder, binary })?;
    match json {
        Some(path) => std::fs::write(path, serde_json::to_vec_pretty(&figures)?)?,
        None => println!("\n{figures}"),
    }
    Ok(())
}
