//! A store of a given size: loading, bytes on disk, start after a clean stop and after kill -9,
//! resident memory, search over MCP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use llm_memory_disk::OsDisk;
use llm_memory_engine::api::{Caller, UpsertRequest};
use llm_memory_engine::{Engine, EngineError, Options};
use serde_json::{Value, json};

use super::figures::{Figures, millis};
use super::raw;
use super::writes::item;
use crate::client::Wire;
use crate::corpus;
use crate::random::Random;
use crate::server::TestServer;

/// Threads that load.
const LOADERS: usize = 32;
/// Searches measured.
const SEARCHES: u64 = 2_000;
/// Writes between the last orderly moment and the kill.
const WRITES_BEFORE_KILL: u64 = 5_000;

/// Measures a store of `items` items and answers the figures.
pub(super) fn measure(folder: &Path, binary: Option<&PathBuf>, items: u64) -> Result<Value> {
    let root = folder.join(format!("store-{items}"));
    let texts = corpus::load(20_000)?.0;
    let began = Instant::now();
    let engine = Engine::open(Arc::new(OsDisk), &root, Options::default())?;
    load(&engine, &texts, items)?;
    let loaded = began.elapsed();
    engine.close()?;
    let closed = began.elapsed().saturating_sub(loaded);
    drop(engine);
    line(
        "loaded",
        &format!(
            "{:.1} s, {:.0} a second",
            loaded.as_secs_f64(),
            items as f64 / loaded.as_secs_f64()
        ),
    );
    line("closed", &format!("{:.0} ms", millis(closed)));

    let bytes = bytes_by_kind(&root);
    for (kind, count) in &bytes {
        line(
            kind,
            &format!(
                "{:.1} MiB, {:.0} bytes an item",
                *count as f64 / 1_048_576.0,
                *count as f64 / items as f64
            ),
        );
    }

    let mut builder = TestServer::builder().data_dir(&root);
    if let Some(binary) = binary {
        builder = builder.binary(binary);
    }
    let began = Instant::now();
    let mut server = builder.start()?;
    first_answer(&server, items)?;
    let clean = began.elapsed();
    line("start after clean stop", &format!("{:.0} ms to the first answer", millis(clean)));

    let queries = queries(&texts)?;
    let search = search(&server, &queries)?;
    search.print("search over MCP, 3 words, k = 10");
    let resident = resident(&server)?;
    line(
        "resident memory",
        &format!("{:.0} MiB after the searches", resident as f64 / 1_048_576.0),
    );

    write_some(&server)?;
    server.kill()?;
    let began = Instant::now();
    server.start()?;
    first_answer(&server, items + WRITES_BEFORE_KILL)?;
    let killed = began.elapsed();
    line("start after kill -9", &format!("{:.0} ms to the first answer", millis(killed)));
    let status = server.stop()?;
    ensure!(status.success(), "the server ended with {status}: {}", server.log());
    let raw = raw::search(&root.join("global"), &queries)?;
    raw.print("the same with tantivy alone");
    std::fs::remove_dir_all(root)?;
    Ok(json!({
        "items": items,
        "loadSeconds": loaded.as_secs_f64(),
        "closeMs": millis(closed),
        "bytes": bytes,
        "startAfterCleanStopMs": millis(clean),
        "startAfterKillMs": millis(killed),
        "residentBytes": resident,
        "search": search.json(),
        "tantivySearch": raw.json(),
    }))
}

fn line(what: &str, figure: &str) {
    println!("  {what:<36} {figure}");
}

/// Real passages, each made different by a few words and a number.
fn load(engine: &Engine, texts: &[Value], items: u64) -> Result<()> {
    let caller = Caller::unrestricted("bench", None);
    let next = AtomicU64::new(0);
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..LOADERS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= items {
                            return Ok(());
                        }
                        let request: UpsertRequest = serde_json::from_value(real(texts, number)?)?;
                        while let Err(error) = engine.upsert(&caller, request.clone()) {
                            if !matches!(error, EngineError::Busy { .. }) {
                                return Err(error.into());
                            }
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for result in results {
        match result {
            Ok(result) => result?,
            Err(_) => bail!("a loader panicked"),
        }
    }
    Ok(())
}

fn real(texts: &[Value], number: u64) -> Result<Value> {
    let mut random = Random::new(1, number);
    let index = usize::try_from(number)? % texts.len().max(1);
    let mut item = texts.get(index).cloned().context("no text")?;
    let map = item.as_object_mut().context("not an object")?;
    for field in ["text", "code"] {
        // A memory is short; and the same passage comes back thousands of times at a million.
        if let Some(text) = map.get(field).and_then(Value::as_str) {
            let start = text.floor_char_boundary(usize::try_from(
                random.below(1 + text.len().saturating_sub(400) as u64),
            )?);
            let end = text.floor_char_boundary((start + 400).min(text.len()));
            let piece = text.get(start..end).unwrap_or_default();
            let words = format!("{} {piece}", random.words(4));
            map.insert(field.to_owned(), words.into());
        }
    }
    map.insert("id".to_owned(), format!("real-{number}").into());
    map.insert("scope".to_owned(), "global".into());
    Ok(item)
}

fn write_some(server: &TestServer) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..LOADERS)
            .map(|client| {
                scope.spawn(move || -> Result<()> {
                    let mut connection = server.client(Wire::Lines)?;
                    let client = client as u64;
                    for number in (client..WRITES_BEFORE_KILL).step_by(LOADERS) {
                        while let Err(error) =
                            connection.call("memory_upsert", &item(client, number))
                        {
                            ensure!(error.is("busy"), "memory_upsert: {error}");
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("a writer panicked"),
            }
        }
        Ok(())
    })
}

/// Waits for an answer that proves that the whole store is there.
fn first_answer(server: &TestServer, items: u64) -> Result<()> {
    let mut client = server.client(Wire::Lines)?;
    let answer = client.call("memory_list", &json!({ "scope": "global", "limit": 1 }))?;
    let total = answer.get("total").and_then(Value::as_u64);
    ensure!(total == Some(items), "{items} items were stored, {total:?} are listed");
    Ok(())
}

/// Three words that stand together in a random passage, many times.
fn queries(texts: &[Value]) -> Result<Vec<String>> {
    let mut random = Random::new(2, 0);
    let mut query = || -> Result<String> {
        let index = usize::try_from(random.below(texts.len().max(1) as u64))?;
        let passage = texts.get(index).context("no text")?;
        let text = ["text", "code"].iter().find_map(|field| passage.get(*field)?.as_str());
        let words: Vec<_> = text
            .unwrap_or_default()
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.len() > 3)
            .collect();
        let first = usize::try_from(random.below(1 + words.len().saturating_sub(3) as u64))?;
        Ok(words.iter().skip(first).take(3).copied().collect::<Vec<_>>().join(" "))
    };
    (0..SEARCHES).map(|_| query()).collect()
}

fn search(server: &TestServer, queries: &[String]) -> Result<Figures> {
    let mut client = server.client(Wire::Lines)?;
    let mut times = Vec::with_capacity(queries.len());
    let mut began = Instant::now();
    for (number, query) in queries.iter().enumerate() {
        if number == queries.len() / 10 {
            // What came before warmed the page cache.
            times.clear();
            began = Instant::now();
        }
        let arguments = json!({ "q": query, "scope": "global", "k": 10, "return": "summary" });
        let one = Instant::now();
        client.call("memory_query", &arguments).with_context(|| format!("query {query:?}"))?;
        times.push(one.elapsed());
    }
    Ok(Figures::new(times, began.elapsed()))
}

fn resident(server: &TestServer) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

/// Bytes on disk of each part of the store.
fn bytes_by_kind(root: &Path) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let kind = [
                ("journal", "journal"),
                ("catalog", "catalog"),
                ("index", "text index"),
                ("blocks", "blocks"),
            ]
            .into_iter()
            .find_map(|(part, kind)| text.contains(part).then_some(kind));
            let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
            *sums.entry(kind.unwrap_or("other files")).or_default() += bytes;
        }
    }
    sums
}
