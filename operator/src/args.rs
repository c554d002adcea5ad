//! Flags and variables of the operator; no behaviour.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

/// Reconciles MemoryStores.
#[derive(Debug, Parser)]
#[command(name = "llm-memory-operator", version, about)]
pub struct Arguments {
    /// What to do; reconciling when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run.
    #[command(flatten)]
    pub run: Run,
}

/// What to do instead of reconciling.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Asks a URL and ends well when the answer is 200; for `helm test`.
    Probe {
        /// The URL.
        url: String,
        /// How long to ask again while the answer is another, or none: a pod that was just started
        /// is let through by network policies only after a while.
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        wait_seconds: u64,
    },
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// How to run.
#[derive(Debug, Args)]
pub struct Run {
    /// Namespaces to watch; all when left out.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAME")]
    pub watch_namespaces: Vec<String>,
    /// Image of servers whose MemoryStore names none.
    #[arg(
        long,
        env = "SERVER_IMAGE",
        default_value = "localhost/llm-memory:latest",
        value_name = "IMAGE"
    )]
    pub server_image: String,
    /// Namespace that the operator runs in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", value_name = "NAME")]
    pub namespace: String,
    /// ServiceAccount that it runs as.
    #[arg(
        long,
        env = "POD_SERVICE_ACCOUNT",
        default_value = "llm-memory-operator",
        value_name = "NAME"
    )]
    pub service_account: String,
    /// Labels that select the operator's pods: network policies of stores let these through.
    /// Without any, everything in its namespace.
    #[arg(long, env = "POD_LABELS", value_delimiter = ',', value_parser = label, value_name = "NAME=VALUE")]
    pub pod_labels: Vec<(String, String)>,
    /// Name of this process in the Lease.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// Name of the Lease.
    #[arg(long, env = "LEASE_NAME", default_value = "llm-memory-operator", value_name = "NAME")]
    pub lease_name: String,
    /// Whether to act only while holding the Lease.
    #[arg(long, env = "LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub leader_elect: bool,
    /// Address of metrics and health.
    #[arg(long, env = "HTTP_ADDRESS", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub http_address: SocketAddr,
    /// Ports of the API server, as it listens behind its Service; network policies of stores let
    /// these through.
    #[arg(
        long,
        env = "API_SERVER_PORTS",
        value_delimiter = ',',
        default_value = "443,6443",
        value_name = "PORT"
    )]
    pub api_server_ports: Vec<u16>,
    /// Domain of the cluster.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,
    /// Seconds between two questions to a server that answers.
    #[arg(long, env = "PROBE_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300), value_name = "SECONDS")]
    pub probe_seconds: u64,
    /// Least severe log events that are written: a level, or directives like `warn,kube=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// Shape of log events.
    #[arg(long, env = "LOG_FORMAT", default_value = "json", value_parser = ["json", "text"], value_name = "FORMAT")]
    pub log_format: String,
}
