//! Durable upserts of new items of about 500 bytes, with one and with many clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use llm_memory_disk::OsDisk;
use llm_memory_engine::api::{Caller, UpsertRequest};
use llm_memory_engine::{Engine, EngineError, Options};
use serde_json::{Value, json};

use super::figures::Figures;
use super::probe;
use crate::client::Wire;
use crate::random::Random;
use crate::server::TestServer;

/// The ways to a server.
pub(super) const WIRES: [(Wire, &str); 2] = [(Wire::Lines, "TCP lines"), (Wire::Http, "HTTP")];

/// The `number`-th item of `client`.
pub(super) fn item(client: u64, number: u64) -> Value {
    let mut random = Random::new(client, number);
    json!({
        "id": format!("item-{client}-{number}"), "type": "note", "scope": "global",
        "title": format!("Note {number} on {}", random.words(3).trim_end()),
        "text": random.words(50), "tags": ["bench"],
    })
}

/// Straight into the engine, in this process.
pub(super) fn engine(folder: &Path, clients: u64, period: Duration) -> Result<Figures> {
    let root = folder.join("engine");
    let engine = Engine::open(Arc::new(OsDisk), &root, Options::default())?;
    let caller = Caller::unrestricted("bench", None);
    let figures = in_parallel(clients, period, &|client| {
        let (engine, caller) = (&engine, &caller);
        Ok(Box::new(move |number| {
            let request: UpsertRequest = serde_json::from_value(item(client, number))?;
            loop {
                match engine.upsert(caller, request.clone()) {
                    Ok(_) => return Ok(()),
                    Err(EngineError::Busy { .. }) => std::thread::yield_now(),
                    Err(error) => return Err(error.into()),
                }
            }
        }))
    });
    engine.close()?;
    drop(engine);
    std::fs::remove_dir_all(root)?;
    figures
}

/// Over MCP to the real server; also what a probe of its health saw meanwhile.
pub(super) fn server(
    folder: &Path,
    binary: Option<&PathBuf>,
    wire: Wire,
    clients: u64,
    period: Duration,
) -> Result<(Figures, Figures)> {
    let root = folder.join("server");
    let mut builder = TestServer::builder().data_dir(&root);
    if let Some(binary) = binary {
        builder = builder.binary(binary);
    }
    let mut server = builder.start()?;
    let health = server.addresses()?.health;
    let done = AtomicBool::new(false);
    let (figures, probe) = std::thread::scope(|scope| {
        let probe = scope.spawn(|| probe::health(health, &done));
        let figures = in_parallel(clients, period, &|client| {
            let mut connection = server.client(wire)?;
            Ok(Box::new(move |number| {
                let arguments = item(client, number);
                loop {
                    match connection.call("memory_upsert", &arguments) {
                        Ok(_) => return Ok(()),
                        Err(error) if error.is("busy") => std::thread::yield_now(),
                        Err(error) => return Err(error.into()),
                    }
                }
            }))
        });
        done.store(true, Ordering::Relaxed);
        (figures, probe.join())
    });
    let Ok(probe) = probe else { bail!("the probe of the health endpoint panicked") };
    let status = server.stop()?;
    anyhow::ensure!(status.success(), "the server ended with {status}: {}", server.log());
    std::fs::remove_dir_all(root)?;
    Ok((figures?, probe?))
}

/// One client's next write.
type Write<'a> = Box<dyn FnMut(u64) -> Result<()> + Send + 'a>;

/// Runs `clients` threads for `period`; `connect` makes each one's write.
fn in_parallel<'a>(
    clients: u64,
    period: Duration,
    connect: &(dyn Fn(u64) -> Result<Write<'a>> + Sync),
) -> Result<Figures> {
    let began = Instant::now();
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                scope.spawn(move || -> Result<Vec<Duration>> {
                    let mut write = connect(client)?;
                    let mut times = Vec::new();
                    while began.elapsed() < period {
                        let one = Instant::now();
                        write(times.len() as u64)?;
                        times.push(one.elapsed());
                    }
                    Ok(times)
                })
            })
            .collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let wall = began.elapsed();
    let mut times = Vec::new();
    for result in results {
        match result {
            Ok(part) => times.extend(part.context("a client failed")?),
            Err(_) => bail!("a client panicked"),
        }
    }
    Ok(Figures::new(times, wall))
}
