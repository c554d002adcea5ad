//! The command line. Flags of one command stand beside it; these are everybody's.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    completion, connect, health, lifecycle, list, logs, pod, report, restart, routine, status,
    token,
};
use crate::printer::Format;

/// Look after memory stores.
///
/// Exit codes: 0 done, 1 a finding, 2 a critical finding or a failure, 64 a wrong command line.
#[derive(Debug, Parser)]
#[command(name = "kubectl-memory", bin_name = "kubectl memory", version)]
pub(crate) struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command, named as kubectl names them.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Namespace; that of the kubeconfig's context when left out
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// Path of the kubeconfig
    #[arg(long, global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Form of the answer
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// A store, by name.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// Name of the MemoryStore
    pub(crate) name: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show how a store does: conditions, server, volume, pod, routines, warnings; exits with 1
    /// when it is not well
    Status(status::Args),
    /// Score a store by what the cluster shows of it; exits with 1 when it is fair and with 2 when
    /// it is poor
    Health(health::Args),
    /// List stores
    List(list::Args),
    /// Recompute every hash of a store now; exits as the verification does
    Verify(routine::Args),
    /// Drop superseded bodies from a store's journal now; exits as the compaction does
    Compact(routine::Args),
    /// Let the operator change nothing until `resume`
    Pause(Store),
    /// Let the operator act again
    Resume(Store),
    /// Stop the pod and keep the data
    Hibernate(lifecycle::Args),
    /// Start the pod of a hibernated store
    Wake(lifecycle::Args),
    /// Replace the pod: it finishes what it is doing, and its successor is awaited
    Restart(restart::Args),
    /// Print the server's log
    Logs(logs::Args),
    /// Make, show or replace tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Forward the MCP port to this machine, and print the configuration for a client
    Connect(connect::Args),
    /// Collect what is needed to understand an incident, without secrets, as a tar.gz
    Report(report::Args),
    /// Look after the pod
    #[command(subcommand)]
    Pod(pod::Command),
    /// Print a completion script
    Completion(completion::Args),
}
