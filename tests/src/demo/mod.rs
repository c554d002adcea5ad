//! `./justw demo`: an agent's memory at work on real text, from an empty folder to a crash and
//! back. Every step goes over MCP to the real server; nothing is left behind.
#![allow(clippy::print_stdout, reason = "a program for people")]

mod load;
mod show;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use self::show::{bytes, millis, step};
use crate::client::{Client, Wire};
use crate::corpus;
use crate::server::TestServer;

/// What to show.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memories to load.
    pub items: usize,
    /// Connections that load them.
    pub clients: usize,
    /// Server program; the one beside this program when left out.
    pub binary: Option<PathBuf>,
}

/// Questions an agent could ask about the code it builds on.
const QUESTIONS: [&str; 6] = [
    "graceful shutdown of a hyper server connection",
    "parse an RFC 3339 timestamp",
    "durability of a commit after a crash",
    "run blocking code inside an async task",
    "SecondsTimestampVisitor",
    "\"minimum supported\" Rust version",
];

/// Tells the whole story; an error says which step failed.
pub fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    println!("llm-memory demo: an agent's memory on real text, over MCP\n");

    step("Start a server with defaults on free loopback ports");
    let mut builder = TestServer::builder();
    if let Some(binary) = &options.binary {
        builder = builder.binary(binary);
    }
    let started = Instant::now();
    let mut server = builder.start()?;
    let addresses = server.addresses()?;
    println!("   ready in {}", millis(started.elapsed()));
    println!(
        "   MCP      http://{}/mcp, and one JSON document a line on the same port",
        addresses.mcp
    );
    println!("   health   http://{}/health", addresses.health);
    println!("   metrics  http://{}/metrics", addresses.metrics);
    println!("   data     {} (removed at the end)", server.data_dir().display());

    step("Load README, CHANGELOG, sources and manifests of this workspace's dependencies");
    let (items, crates) = corpus::load(options.items)?;
    println!("   {} memories of {crates} crates", items.len());
    println!("   {}", load::all(&server, &items, options.clients)?);
    println!("   each was in the journal and synced to disk before its answer");

    let mut client = server.client(Wire::Http)?;
    step("Ask");
    let mut first_hits = Vec::new();
    for question in QUESTIONS {
        first_hits.push(ask(&mut client, question)?);
    }

    step("Why is the first answer first?");
    explain(&mut client, QUESTIONS[0])?;

    step("Learn something, correct it, and keep what was");
    let lesson = learn(&mut client)?;

    step("Verify the journal: every hash of every record and body");
    let before = verify(&mut client)?;

    step("Pull the plug: kill -9, then start again");
    server.kill()?;
    println!("   killed");
    let took = server.start()?;
    println!("   ready again in {}", millis(took));
    let mut client = server.client(Wire::Http)?;
    let after = verify(&mut client)?;
    ensure!(before == after, "the journal had {before} records before the crash, {after} after");
    for (question, id) in QUESTIONS.iter().zip(&first_hits) {
        let answer = query(&mut client, question)?;
        let again = answer.pointer("/items/0/id").and_then(Value::as_str);
        ensure!(again == id.as_deref(), "{question:?} finds another memory after the crash");
    }
    let item = call(&mut client, "memory_get", &json!({ "id": lesson, "scope": "global" }))?;
    println!(
        "   all {} questions find the same memory; the lesson is there at version {}, used {} time",
        QUESTIONS.len(),
        item.get("version").unwrap_or(&Value::Null),
        item.pointer("/quality/reuseCount").unwrap_or(&Value::Null),
    );

    step("Stop");
    let size = folder_bytes(server.data_dir());
    let status = server.stop()?;
    ensure!(status.success(), "the server ended with {status}: {}", server.log());
    drop(server);
    println!("   clean exit; {} of data removed; nothing is left running", bytes(size));
    println!(
        "\nDone in {:.1} s. Next: README.md says how to connect an agent.",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Asks one question, shows three hits, answers the first one's id.
fn ask(client: &mut Client, question: &str) -> Result<Option<String>> {
    let began = Instant::now();
    let answer = query(client, question)?;
    let round_trip = began.elapsed();
    show::answer(question, &answer, round_trip);
    Ok(answer.pointer("/items/0/id").and_then(Value::as_str).map(str::to_owned))
}

fn query(client: &mut Client, question: &str) -> Result<Value> {
    let arguments = json!({ "q": question, "scope": "global", "k": 3, "return": "snippet" });
    call(client, "memory_query", &arguments)
}

fn explain(client: &mut Client, question: &str) -> Result<()> {
    let arguments =
        json!({ "q": question, "scope": "global", "k": 1, "return": "summary", "explain": true });
    let answer = call(client, "memory_query", &arguments)?;
    let hit = answer.pointer("/items/0").context("no hit to explain")?;
    show::explanation(hit)
}

/// A memory's life: written, corrected, used, rated, linked, looked up as it was.
fn learn(client: &mut Client) -> Result<String> {
    const ID: &str = "deploy-friday";
    let item = |text: &str, version: u64| {
        json!({
            "id": ID, "type": "insight", "scope": "global", "title": "When the demo is deployed",
            "text": text, "tags": ["deploy", "demo"], "ifVersion": version,
        })
    };
    // Has the form of a token, so that redaction finds it; never was one.
    let secret = format!("ghp_{}", "demo".repeat(9));
    let wrong = format!("Deploys run on Fridays at 16:00. Token: {secret}");
    let written = call(client, "memory_upsert", &item(&wrong, 0))?;
    println!(
        "   written    version {}, journal record {}; {} secret taken out before it was stored",
        written.get("version").unwrap_or(&Value::Null),
        written.get("seq").unwrap_or(&Value::Null),
        written.get("redactions").unwrap_or(&Value::Null),
    );
    let first = call(client, "memory_get", &json!({ "id": ID, "scope": "global" }))?;
    println!("              {}", first.get("text").and_then(Value::as_str).unwrap_or_default());

    let change = json!({
        "id": ID, "scope": "global",
        "operations": [{ "field": "text", "old": "Fridays at 16:00", "new": "Tuesdays at 10:00" }],
    });
    let patched = call(client, "memory_patch", &change)?;
    println!("   corrected  version {}", patched.get("version").unwrap_or(&Value::Null));
    let conflict = client.call("memory_upsert", &item("An agent that read version 1", 1));
    let refusal = conflict.err().context("a write on an old version was accepted")?;
    println!("   refused    {refusal}");
    call(client, "memory_use", &json!({ "id": ID, "scope": "global" }))?;
    call(client, "memory_feedback", &json!({ "id": ID, "scope": "global", "helpful": true }))?;
    let now = call(client, "memory_get", &json!({ "id": ID, "scope": "global" }))?;
    let confidence = |item: &Value| {
        item.pointer("/quality/confidence").and_then(Value::as_f64).unwrap_or_default()
    };
    println!(
        "   used, rated helpful: confidence {:.3} -> {:.3}",
        confidence(&first),
        confidence(&now)
    );
    let then = first.get("updatedAt").cloned().unwrap_or_default();
    let old =
        call(client, "memory_get", &json!({ "id": ID, "scope": "global", "asOf": then.clone() }))?;
    println!(
        "   as of {}: {:?}",
        then.as_str().unwrap_or_default(),
        old.get("text").and_then(Value::as_str).unwrap_or_default()
    );
    let history = call(client, "memory_history", &json!({ "id": ID, "scope": "global" }))?;
    for entry in history.get("entries").and_then(Value::as_array).into_iter().flatten().rev() {
        let text =
            |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        println!(
            "   history    version {}  {:<9}{}  by {}  sha256 {:.12}…",
            entry.get("version").unwrap_or(&Value::Null),
            text("op"),
            text("ts"),
            text("actor"),
            text("hash"),
        );
    }
    Ok(ID.to_owned())
}

/// Verifies; answers how many records there are.
fn verify(client: &mut Client) -> Result<u64> {
    let began = Instant::now();
    let result = call(client, "journal_verify", &json!({ "scope": "global" }))?;
    ensure!(result.get("valid") == Some(&Value::Bool(true)), "the journal is not sound: {result}");
    let count = |field: &str| result.get(field).and_then(Value::as_u64).unwrap_or_default();
    println!(
        "   {} records and {} bodies checked in {}: chain sound, head {:.16}…",
        count("checkedCount"),
        count("checkedBodies"),
        millis(began.elapsed()),
        result.get("head").and_then(Value::as_str).unwrap_or_default(),
    );
    Ok(count("checkedCount"))
}

fn call(client: &mut Client, tool: &str, arguments: &Value) -> Result<Value> {
    client.call(tool, arguments).with_context(|| tool.to_owned())
}

/// Bytes of all files under `folder`.
pub fn folder_bytes(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
