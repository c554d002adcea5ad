//! Loading many memories over many connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::show::{bytes, millis};
use crate::client::Wire;
use crate::server::TestServer;

/// Stores all items in the global scope; answers a line that says how it went.
pub(super) fn all(server: &TestServer, items: &[Value], clients: usize) -> Result<String> {
    let content: usize = items.iter().map(|item| item.to_string().len()).sum();
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..clients.max(1)).map(|_| scope.spawn(|| connection(server, items, &next))).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut times = Vec::with_capacity(items.len());
    for result in results {
        match result {
            Ok(part) => times.extend(part?),
            Err(_) => bail!("a loading thread panicked"),
        }
    }
    let took = began.elapsed();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(format!(
        "{} in {:.1} s over {clients} connections: {:.0} memories a second, median answer {}",
        bytes(content as u64),
        took.as_secs_f64(),
        items.len() as f64 / took.as_secs_f64(),
        millis(median),
    ))
}

fn connection(server: &TestServer, items: &[Value], next: &AtomicUsize) -> Result<Vec<Duration>> {
    let mut client = server.client(Wire::Lines)?;
    let mut times = Vec::new();
    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mut item = item.clone();
        if let Some(map) = item.as_object_mut() {
            map.insert("scope".to_owned(), "global".into());
        }
        let began = Instant::now();
        loop {
            match client.call("memory_upsert", &item) {
                Ok(_) => break,
                Err(error) if error.is("busy") => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => {
                    return Err(error).with_context(|| format!("memory_upsert {item}"));
                }
            }
        }
        times.push(began.elapsed());
    }
    Ok(times)
}
