//! Kills the real server at random moments under sixteen writers and compaction, starts it again,
//! and checks that every acknowledged write is there and intact, that nothing else is, that no
//! update was lost, and that journal and views are sound.
//!
//! All decisions follow from a seed, which the report names; what the operating system decides
//! (which thread runs, what reaches the disk) does not, so a replay is likely, not certain, to
//! meet the same moment.
#![allow(clippy::print_stdout, reason = "progress of a program for people")]

mod model;
mod writer;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use self::model::Shared;

use self::writer::{SharedItems, Slots, Writer, holds, in_scope, scope_of};
use crate::client::{CallError, Client, Wire};
use crate::random::Random;
use crate::server::TestServer;

/// Writers at the same time.
const WRITERS: u64 = 16;
/// Shared items that each cycle adds.
const SHARED_PER_CYCLE: u64 = 3;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Crashes.
    pub cycles: u64,
    /// Decides everything.
    pub seed: u64,
    /// Crashes that one store goes through before the next begins with an empty one.
    pub cycles_per_store: u64,
    /// Longest time between the first write and the crash.
    pub longest_run: Duration,
    /// Whether to print a line a cycle.
    pub verbose: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Crashes survived.
    pub cycles: u64,
    /// Of them, those that also met recovery from the one before.
    pub during_recovery: u64,
    /// Cycles ended by SIGTERM instead, in the middle of writes.
    pub stopped: u64,
    /// Writes acknowledged, all of which were found again.
    pub acknowledged: u64,
    /// Compactions that were answered.
    pub compactions: u64,
    /// Longest start after a crash.
    pub longest_start: Duration,
}

/// Runs the plan. The first broken promise ends it with an error that names seed and cycle; the
/// data folder is then kept.
pub fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    let mut store: Option<Store> = None;
    for cycle in 0..plan.cycles {
        if cycle % plan.cycles_per_store.max(1) == 0 {
            store = None;
        }
        let mut current = match store.take() {
            Some(store) => store,
            None => Store::create()?,
        };
        if let Err(error) = current.cycle(plan, cycle, &mut report) {
            let log = current.server.log();
            let kept = current.keep();
            return Err(error.context(format!(
                "cycle {cycle} of seed {}, data kept in {kept}; the server wrote:\n{log}",
                plan.seed
            )));
        }
        report.cycles += 1;
        store = Some(current);
    }
    Ok(report)
}

/// One data folder, its server, and what must be in it.
struct Store {
    server: TestServer,
    folder: tempfile::TempDir,
    slots: BTreeMap<u64, Slots>,
    shared: SharedItems,
}

/// How a cycle ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Stop,
}

impl Store {
    fn create() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("llm-memory-crash-").tempdir()?;
        let server = TestServer::builder()
            .data_dir(folder.path().join("data"))
            // Small segments, so that sealing and compaction happen all the time.
            .env("LLM_MEMORY_SEGMENT_MB", "1")
            .start()?;
        let slots = (0..WRITERS).map(|writer| (writer, Slots::new())).collect();
        Ok(Self { server, folder, slots, shared: SharedItems::new() })
    }

    fn keep(self) -> String {
        let Self { server, folder, .. } = self;
        drop(server);
        folder.keep().display().to_string()
    }

    fn cycle(&mut self, plan: &Plan, cycle: u64, report: &mut Report) -> Result<()> {
        let mut random = Random::new(plan.seed, cycle << 8);
        for number in 0..SHARED_PER_CYCLE {
            self.shared.insert(format!("shared-{cycle}-{number}"), Mutex::new(Shared::default()));
        }
        let end = if random.chance(8) { End::Stop } else { End::Kill };
        let longest = u64::try_from(plan.longest_run.as_millis())?.max(1);
        let run_for = Duration::from_millis(random.below(longest));
        let (acknowledged, compactions) = self.write_until(plan, cycle, run_for, end)?;

        // Recovery must survive a crash as well.
        let mut interrupted = 0;
        while end == End::Kill && random.chance(20) {
            self.server.start_and_kill(Duration::from_millis(random.below(400)))?;
            interrupted += 1;
        }
        let start = self.server.start().context("start after the crash")?;
        let began = Instant::now();
        let items = self.verify(&mut random)?;

        report.acknowledged += acknowledged;
        report.compactions += compactions;
        report.during_recovery += u64::from(interrupted > 0);
        report.stopped += u64::from(end == End::Stop);
        report.longest_start = report.longest_start.max(start);
        if plan.verbose {
            println!(
                "cycle {cycle:>4}  {} after {:>4} ms  {acknowledged:>5} acknowledged  \
                 {compactions:>2} compactions  {interrupted} crashes in recovery  \
                 start {:>4} ms  {items:>4} items verified in {:>4} ms",
                if end == End::Kill { "killed " } else { "stopped" },
                run_for.as_millis(),
                start.as_millis(),
                began.elapsed().as_millis(),
            );
        }
        Ok(())
    }

    /// Lets all writers write for `run_for`, then ends the server under them; answers how many
    /// writes and compactions were acknowledged.
    fn write_until(
        &mut self,
        plan: &Plan,
        cycle: u64,
        run_for: Duration,
        end: End,
    ) -> Result<(u64, u64)> {
        let ending = AtomicBool::new(false);
        let compactions = AtomicU64::new(0);
        let Self { server, slots, shared, .. } = self;
        let mut writers = Vec::new();
        for (number, slots) in slots {
            writers.push(Writer {
                number: *number,
                random: Random::new(plan.seed, (cycle << 8) + number + 1),
                client: server.client(Wire::Lines)?,
                slots,
                shared,
                next_word: (cycle * WRITERS + number) * 1_000_000,
                acknowledged: 0,
            });
        }
        let maintainer = server.client(Wire::Lines)?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = writers
                .into_iter()
                .map(|mut writer| {
                    let ending = &ending;
                    scope.spawn(move || -> Result<u64> {
                        writer.run(&|| ending.load(Ordering::SeqCst))?;
                        ensure!(
                            ending.load(Ordering::SeqCst),
                            "writer {} lost its connection to a running server",
                            writer.number
                        );
                        Ok(writer.acknowledged)
                    })
                })
                .collect();
            let random = Random::new(plan.seed, (cycle << 8) + 255);
            let maintenance = scope.spawn(|| maintain(maintainer, random, &compactions, &ending));

            std::thread::sleep(run_for);
            ending.store(true, Ordering::SeqCst);
            match end {
                End::Kill => server.kill()?,
                End::Stop => {
                    let status = server.stop()?;
                    ensure!(status.success(), "after SIGTERM the server ended with {status}");
                }
            }
            let mut acknowledged = 0;
            for thread in threads {
                match thread.join() {
                    Ok(count) => acknowledged += count?,
                    Err(_) => bail!("a writer panicked"),
                }
            }
            match maintenance.join() {
                Ok(result) => result?,
                Err(_) => bail!("maintenance panicked"),
            }
            Ok((acknowledged, compactions.load(Ordering::SeqCst)))
        })
    }

    /// Compares everything with the store; answers how many items there are.
    fn verify(&mut self, random: &mut Random) -> Result<u64> {
        let mut client = self.server.client(Wire::Lines)?;
        let mut present = BTreeMap::from([("global", 0_u64), ("local", 0)]);
        for (number, slots) in &mut self.slots {
            let scope = scope_of(*number);
            for (id, slot) in slots {
                let found = get(&mut client, scope, id)?;
                slot.settle(found.as_ref()).with_context(|| format!("{scope} item {id}"))?;
                *present.entry(scope).or_default() += u64::from(found.is_some());
                // The text index has it, too; a sample is enough, each cycle takes another.
                if let Some(expected) = slot.sure.as_ref().filter(|_| random.chance(10)) {
                    let word = expected.text.split_whitespace().next().unwrap_or_default();
                    let arguments = json!({ "q": word, "k": 5, "return": "summary" });
                    let answer = call(&mut client, "memory_query", &in_scope(scope, arguments))?;
                    ensure!(holds(&answer, id), "a search for {word} misses {id}: {answer}");
                }
            }
        }
        for (id, shared) in &mut self.shared {
            let found = get(&mut client, "global", id)?;
            let shared = shared.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            shared.settle(found.as_ref()).with_context(|| format!("shared item {id}"))?;
            *present.entry("global").or_default() += u64::from(found.is_some());
        }
        for (scope, count) in &present {
            let listed = call(&mut client, "memory_list", &in_scope(scope, json!({ "limit": 1 })))?;
            ensure!(
                listed.get("total").and_then(Value::as_u64) == Some(*count),
                "{count} items are in scope {scope}, but it lists {}",
                listed.get("total").unwrap_or(&Value::Null)
            );
            let journal = call(&mut client, "journal_verify", &in_scope(scope, json!({})))?;
            // A crash may come before anything was ever written there.
            let nothing = *count == 0;
            let sound = all(&journal, "valid") || (nothing && is_empty(&journal));
            ensure!(sound, "the journal of {scope} is not sound: {journal}");
            let views = call(&mut client, "maintenance_verify", &in_scope(scope, json!({})))?;
            let sound = all(&views, "ok") || (nothing && is_empty(&views));
            ensure!(sound, "the views of {scope} are not sound: {views}");
        }
        Ok(present.values().sum())
    }
}

/// Compacts, migrates, snapshots and cleans up until the server is gone; counts compactions.
fn maintain(
    mut client: Client,
    mut random: Random,
    done: &AtomicU64,
    ending: &AtomicBool,
) -> Result<()> {
    loop {
        let scope = if random.chance(25) { "local" } else { "global" };
        let tool = match random.below(10) {
            0..6 => "maintenance_compact",
            6..8 => "journal_migrate",
            8 => "maintenance_snapshot",
            _ => "maintenance_cleanup",
        };
        match client.call(tool, &in_scope(scope, json!({}))) {
            Ok(_) => {
                done.fetch_add(u64::from(tool == "maintenance_compact"), Ordering::SeqCst);
            }
            Err(CallError::Lost(_)) => return Ok(()),
            Err(_) if ending.load(Ordering::SeqCst) => return Ok(()),
            Err(error) if error.is("busy") => {}
            Err(error) => bail!("{tool}: {error}"),
        }
    }
}

fn call(client: &mut Client, tool: &str, arguments: &Value) -> Result<Value> {
    client.call(tool, arguments).with_context(|| format!("{tool} after the crash"))
}

/// `None` when there is no such item.
fn get(client: &mut Client, scope: &str, id: &str) -> Result<Option<Value>> {
    match client.call("memory_get", &in_scope(scope, json!({ "id": id }))) {
        Ok(item) => Ok(Some(item)),
        Err(error) if error.is("not_found") => Ok(None),
        Err(error) => Err(error).with_context(|| format!("memory_get {id} after the crash")),
    }
}

fn is_empty(answer: &Value) -> bool {
    answer.as_object().is_some_and(serde_json::Map::is_empty)
}

/// Whether `field` is there and true in `answer`, or in each of the scopes it answers for.
fn all(answer: &Value, field: &str) -> bool {
    if let Some(value) = answer.get(field) {
        return value == &Value::Bool(true);
    }
    let scopes = answer.get("scopes").unwrap_or(answer);
    scopes.as_object().is_some_and(|map| {
        !map.is_empty()
            && map
                .values()
                .filter(|value| value.is_object())
                .all(|scope| scope.get(field) == Some(&Value::Bool(true)))
    })
}

/// A seed from the clock.
pub fn any_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() * 1_000 + u64::from(since.subsec_millis()))
}
