//! Parses, runs, exits.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use llm_memory_operator::args::{Arguments, Command};
use llm_memory_operator::{probe, run, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Threads for what blocks, which is looking up names: where names are looked up slowly, more of
/// them would only wait, and each takes memory.
const BLOCKING_THREADS: usize = 64;

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "the edge: results and one error")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let ended = runtime.context("threads").and_then(|runtime| runtime.block_on(start(arguments)));
    match ended {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("llm-memory-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(arguments: Arguments) -> Result<String> {
    // Two libraries bring TLS; they have to agree on who does the arithmetic.
    let provider = rustls::crypto::ring::default_provider();
    if provider.install_default().is_err() {
        anyhow::bail!("TLS was set up twice");
    }
    if let Some(Command::Probe { url, wait_seconds }) = arguments.command {
        return probe::probe(&url, Duration::from_secs(wait_seconds)).await;
    }
    telemetry::init(&arguments.run.log_level, &arguments.run.log_format)?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    run::run(arguments.run, stop).await?;
    Ok(String::new())
}
