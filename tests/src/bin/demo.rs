//! `./justw demo`.

use std::path::PathBuf;

use clap::Parser;
use llm_memory_tests::demo::{Options, run};

/// Shows an agent's memory at work on real text, from an empty folder to a crash and back.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Memories to load.
    #[arg(long, default_value_t = 4000)]
    items: usize,
    /// Connections that load them.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Server program; this workspace's own when left out.
    #[arg(long)]
    binary: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    llm_memory_tests::stop::on_signal()?;
    let Arguments { items, clients, binary } = Arguments::parse();
    run(&Options { items, clients, binary })
}
