//! One writer: random changes to items of its own and to items it shares, until the server is
//! gone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::model::{Expected, Shared, Slot};
use crate::client::{CallError, Client};
use crate::random::{Random, word_of};

/// Items of one writer, by id.
pub(super) type Slots = BTreeMap<String, Slot>;

/// Items that all writers change, by id.
pub(super) type SharedItems = BTreeMap<String, Mutex<Shared>>;

/// Project of the items that live in a local scope.
pub(super) const PROJECT: &str = "crash";

/// Scope of a writer's items: most write where the shared items are, some elsewhere.
pub(super) const fn scope_of(writer: u64) -> &'static str {
    if writer % 4 == 3 { "local" } else { "global" }
}

/// Adds scope and project to a call's arguments.
pub(super) fn in_scope(scope: &str, mut arguments: Value) -> Value {
    if let Some(map) = arguments.as_object_mut() {
        map.insert("scope".to_owned(), scope.into());
        if scope != "global" {
            map.insert("project".to_owned(), PROJECT.into());
        }
    }
    arguments
}

/// A writer and its connection.
pub(super) struct Writer<'a> {
    /// Which one.
    pub(super) number: u64,
    /// Its decisions.
    pub(super) random: Random,
    /// Its connection.
    pub(super) client: Client,
    /// Its items.
    pub(super) slots: &'a mut Slots,
    /// Everybody's items.
    pub(super) shared: &'a SharedItems,
    /// Number of the next word; words of different writers and cycles differ.
    pub(super) next_word: u64,
    /// Writes acknowledged.
    pub(super) acknowledged: u64,
}

impl<'a> Writer<'a> {
    /// Writes until the connection is lost, or the server refuses because it is `ending`. An
    /// error is a broken promise of the server.
    pub(super) fn run(&mut self, ending: &dyn Fn() -> bool) -> Result<()> {
        loop {
            let outcome = match self.random.below(100) {
                0..10 => self.add_shared_word(),
                10..15 => self.use_shared(),
                15..22 => self.read_back(),
                _ => self.change_own(),
            };
            match outcome {
                Ok(()) => {}
                Err(Stop::Lost) => return Ok(()),
                // A stopping server refuses; what it refused did not happen.
                Err(Stop::Refused(_)) if ending() => return Ok(()),
                Err(Stop::Refused(error) | Stop::Broken(error)) => {
                    return Err(error.context(format!("writer {}", self.number)));
                }
            }
        }
    }

    fn change_own(&mut self) -> Result<(), Stop> {
        let id = self.pick_own();
        let scope = scope_of(self.number);
        let before = self.slots.get(&id).and_then(|slot| slot.sure.clone());
        let (tool, arguments, after) = match before {
            Some(before) => self.change(&id, before),
            None => self.upsert(&id, None),
        };
        let answer = self.call(tool, &in_scope(scope, arguments));
        let slot = self.slots.entry(id.clone()).or_default();
        match answer {
            Ok(answer) => {
                let version = answer.get("version").and_then(Value::as_u64);
                slot.sure = match after {
                    Some(after) => {
                        // Creations may start at any version; changes count by one.
                        let sound = after.version.is_none() || after.version == version;
                        if !sound {
                            let wanted = after.version;
                            return Err(broken(format!(
                                "{tool} {id}: version {version:?} instead of {wanted:?}"
                            )));
                        }
                        Some(Expected { version, ..after })
                    }
                    None => None,
                };
                self.acknowledged += 1;
                Ok(())
            }
            Err(CallError::Lost(_)) => {
                slot.maybe.push(after);
                Err(Stop::Lost)
            }
            Err(error @ CallError::Refused { .. }) => Err(refused(format!("{tool} {id}: {error}"))),
        }
    }

    /// A change of an item that exists: tool, arguments, and the state it leads to.
    fn change(&mut self, id: &str, before: Expected) -> (&'static str, Value, Option<Expected>) {
        let next =
            Expected { version: before.version.map(|version| version + 1), ..before.clone() };
        let word = self.word();
        match self.random.below(100) {
            0..18 => {
                let text = format!("{}\n\n{word}", before.text);
                let arguments = json!({ "id": id, "field": "text", "content": word });
                ("memory_append", arguments, Some(Expected { text, ..next }))
            }
            18..32 => {
                let first = before.text.split_whitespace().next().unwrap_or_default();
                let text = before.text.replacen(first, &word, 1);
                let operations = json!([{ "field": "text", "old": first, "new": word }]);
                let arguments = json!({ "id": id, "operations": operations });
                ("memory_patch", arguments, Some(Expected { text, ..next }))
            }
            32..42 => {
                let mut tags = before.tags;
                tags.insert(word.clone());
                ("memory_tag", json!({ "id": id, "add": [word] }), Some(Expected { tags, ..next }))
            }
            42..50 => {
                let tool = if before.pinned { "memory_unpin" } else { "memory_pin" };
                let after = Expected { pinned: !before.pinned, ..next };
                (tool, json!({ "id": id }), Some(after))
            }
            50..58 => {
                let erase = self.random.chance(50);
                ("memory_delete", json!({ "id": id, "erase": erase }), None)
            }
            _ => self.upsert(id, next.version),
        }
    }

    fn upsert(
        &mut self,
        id: &str,
        version: Option<u64>,
    ) -> (&'static str, Value, Option<Expected>) {
        let word = self.word();
        // Mostly short, sometimes long enough to cross the page and buffer sizes underneath.
        let count = if self.random.chance(5) { 4000 } else { 40 };
        let length = self.random.below(count) + 1;
        let text = format!("{word} {}", self.random.words(length)).trim_end().to_owned();
        let arguments = json!({
            "id": id, "type": "note", "title": format!("Note {id}"), "text": text,
            "tags": ["crash"],
        });
        let tags = std::iter::once("crash".to_owned()).collect();
        ("memory_upsert", arguments, Some(Expected { version, text, tags, pinned: false }))
    }

    /// What was acknowledged can be read, and found by a word only it has.
    fn read_back(&mut self) -> Result<(), Stop> {
        let id = self.pick_own();
        let scope = scope_of(self.number);
        let Some(expected) = self.slots.get(&id).and_then(|slot| slot.sure.clone()) else {
            return Ok(());
        };
        let item = match self.call("memory_get", &in_scope(scope, json!({ "id": id }))) {
            Ok(item) => item,
            Err(CallError::Lost(_)) => return Err(Stop::Lost),
            Err(error) => return Err(refused(format!("read-your-writes, {id}: {error}"))),
        };
        expected.check(&item).with_context(|| format!("read-your-writes, {id}"))?;
        let word = expected.text.split_whitespace().next().unwrap_or_default().to_owned();
        self.find(scope, &word, &id)
    }

    /// A search for `word` finds `id`.
    fn find(&mut self, scope: &str, word: &str, id: &str) -> Result<(), Stop> {
        let arguments = json!({ "q": word, "k": 5, "return": "summary" });
        match self.call("memory_query", &in_scope(scope, arguments)) {
            Ok(answer) if holds(&answer, id) => Ok(()),
            Ok(answer) => Err(broken(format!("a search for {word} misses {id}: {answer}"))),
            Err(CallError::Lost(_)) => Err(Stop::Lost),
            Err(error) => Err(refused(format!("a search for {word}: {error}"))),
        }
    }

    /// Adds a word to a shared item, on the version read; begins again when another was faster.
    fn add_shared_word(&mut self) -> Result<(), Stop> {
        let Some((id, shared)) = self.pick_shared() else { return Ok(()) };
        let word = self.word();
        for _ in 0..50 {
            let (version, text) =
                match self.call("memory_get", &json!({ "id": id, "scope": "global" })) {
                    Ok(item) => {
                        let found = Expected::of(&item)?;
                        (found.version.unwrap_or(0), found.text)
                    }
                    Err(CallError::Lost(_)) => return Err(Stop::Lost),
                    Err(error) if error.is("not_found") => (0, String::new()),
                    Err(error) => return Err(refused(format!("memory_get {id}: {error}"))),
                };
            let arguments = json!({
                "id": id, "scope": "global", "type": "fact", "title": "Shared",
                "text": format!("{text} {word}").trim_start(), "ifVersion": version,
            });
            match self.call("memory_upsert", &arguments) {
                Ok(_) => {
                    lock(shared).sure.insert(word);
                    self.acknowledged += 1;
                    return Ok(());
                }
                Err(CallError::Lost(_)) => {
                    lock(shared).maybe.insert(word);
                    return Err(Stop::Lost);
                }
                Err(error) if error.is("version_conflict") => {}
                Err(error) => return Err(refused(format!("a conditional write of {id}: {error}"))),
            }
        }
        Ok(())
    }

    fn use_shared(&mut self) -> Result<(), Stop> {
        let Some((id, shared)) = self.pick_shared() else { return Ok(()) };
        if lock(shared).sure.is_empty() {
            return Ok(());
        }
        match self.call("memory_use", &json!({ "id": id, "scope": "global" })) {
            Ok(_) => {
                lock(shared).uses += 1;
                self.acknowledged += 1;
                Ok(())
            }
            Err(CallError::Lost(_)) => {
                lock(shared).maybe_uses += 1;
                Err(Stop::Lost)
            }
            Err(error) => Err(refused(format!("memory_use {id}: {error}"))),
        }
    }

    /// Calls; when the server is busy, again after a moment.
    fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, CallError> {
        loop {
            match self.client.call(tool, arguments) {
                Err(error) if error.is("busy") => std::thread::sleep(Duration::from_millis(5)),
                other => return other,
            }
        }
    }

    fn pick_own(&mut self) -> String {
        format!("w{}-{}", self.number, self.random.below(40))
    }

    fn pick_shared(&mut self) -> Option<(String, &'a Mutex<Shared>)> {
        let count = self.shared.len() as u64;
        let index = usize::try_from(self.random.below(count.max(1))).ok()?;
        self.shared.iter().nth(index).map(|(id, shared)| (id.clone(), shared))
    }

    fn word(&mut self) -> String {
        self.next_word += 1;
        word_of(self.next_word)
    }
}

/// Why a writer ends.
enum Stop {
    /// The connection is lost, as planned.
    Lost,
    /// The server refused what it should have done.
    Refused(anyhow::Error),
    /// The server broke a promise.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

fn broken(message: String) -> Stop {
    Stop::Broken(anyhow::Error::msg(message))
}

fn refused(message: String) -> Stop {
    Stop::Refused(anyhow::Error::msg(message))
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a query's answer has `id` among its hits.
pub(super) fn holds(answer: &Value, id: &str) -> bool {
    let items = answer.get("items").and_then(Value::as_array);
    items.is_some_and(|items| items.iter().any(|item| item.get("id") == Some(&id.into())))
}
