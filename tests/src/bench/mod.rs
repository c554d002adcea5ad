//! `./justw bench`: what the store does on this machine, beside what the machine can do.
//!
//! Durable writes are compared with the rate at which the same disk completes one `fdatasync`
//! after another, because no store that keeps its promises can acknowledge one client faster.
#![allow(clippy::print_stdout, reason = "a program for people")]

mod disk;
mod figures;
mod probe;
mod raw;
mod sizes;
mod writes;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

pub use figures::Figures;

use crate::stop;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Store sizes, in items.
    pub items: Vec<u64>,
    /// Time for each write measurement.
    pub seconds: u64,
    /// Folder on the disk to measure; a temporary one when left out.
    pub folder: Option<PathBuf>,
    /// Server program; the one beside this program when left out.
    pub binary: Option<PathBuf>,
}

/// Measures everything, prints a table as it goes, and answers the same as JSON.
pub fn run(options: &Options) -> Result<Value> {
    let scratch = match &options.folder {
        Some(folder) => tempfile::Builder::new().prefix("llm-memory-bench-").tempdir_in(folder)?,
        None => tempfile::Builder::new().prefix("llm-memory-bench-").tempdir()?,
    };
    stop::hold_folder(scratch.path());
    let period = Duration::from_secs(options.seconds);

    println!("disk");
    let syncs = disk::sync_rate(scratch.path(), period)?;
    syncs.print("fdatasync of one 512-byte append");

    println!("\ndurable upserts");
    let mut writes = Vec::new();
    for clients in [1, 64] {
        let figures = writes::engine(scratch.path(), clients, period)?;
        figures.print(&format!("engine, {clients} threads"));
        writes.push(json!({ "through": "engine", "clients": clients, "figures": figures.json() }));
    }
    for (wire, name) in writes::WIRES {
        for clients in [1, 64] {
            let (figures, health) =
                writes::server(scratch.path(), options.binary.as_ref(), wire, clients, period)?;
            figures.print(&format!("MCP over {name}, {clients} clients"));
            health.print("  /health meanwhile");
            writes.push(json!({
                "through": name,
                "clients": clients,
                "figures": figures.json(),
                "health": health.json(),
            }));
        }
    }

    let mut stores = Vec::new();
    for &items in &options.items {
        println!("\nstore of {items} items");
        stores.push(sizes::measure(scratch.path(), options.binary.as_ref(), items)?);
    }
    Ok(json!({ "fdatasync": syncs.json(), "upserts": writes, "stores": stores }))
}
