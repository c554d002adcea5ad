//! A scripted workload, and what the store must hold after it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::struct_excessive_bools,
    reason = "a model in tests"
)]

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use llm_memory_engine::api::{
    Caller, DeleteRequest, FeedbackRequest, GetRequest, ItemRequest, QueryRequest, ScopeRequest,
    TagRequest, UpsertRequest,
};
use llm_memory_engine::ids::{ItemId, ProjectId, Scope, ScopeSelector, Version};
use llm_memory_engine::item::Item;
use llm_memory_engine::progress::NoProgress;
use llm_memory_engine::{Engine, EngineError};
use serde_json::json;

/// One thing an agent or an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes the next version of an item.
    Write(usize),
    /// Pins an item.
    Pin(usize),
    /// Gives an item a label.
    Tag(usize),
    /// Says that an item helped.
    Helpful(usize),
    /// Deletes an item, keeping its history.
    Delete(usize),
    /// Deletes an item and has its bodies removed at the next compaction.
    Erase(usize),
    /// `maintenance.compact`.
    Compact,
    /// `maintenance.snapshot`.
    Snapshot,
    /// `maintenance.rebuild`.
    Rebuild,
}

/// A bit of everything, with compaction in the middle and a second one that finds blocks.
pub(super) fn script() -> Vec<Step> {
    let mut steps: Vec<Step> = (0..6).map(Step::Write).collect();
    steps.extend([Step::Write(0), Step::Write(1), Step::Pin(0), Step::Tag(1), Step::Helpful(2)]);
    steps.extend([Step::Compact, Step::Write(6), Step::Delete(3), Step::Erase(4)]);
    steps.extend([Step::Write(0), Step::Write(3), Step::Snapshot, Step::Compact]);
    steps.extend([Step::Write(1), Step::Rebuild, Step::Write(7), Step::Write(0)]);
    steps
}

/// An item as its only writer knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Texts by version, without those of versions that only changed something else.
    texts: BTreeMap<u64, String>,
    version: u64,
    pinned: bool,
    tagged: bool,
    helpful: u64,
    deleted: bool,
    erased: bool,
}

/// What must be there, and what may be there because its write was not acknowledged.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    sure: BTreeMap<usize, Known>,
    maybe: Option<(usize, Known)>,
}

pub(super) fn caller() -> Caller {
    let project = ProjectId::new("project").expect("a valid name");
    Caller::unrestricted("tester", Some(project))
}

fn id(number: usize) -> ItemId {
    ItemId::new(format!("item-{number}")).expect("a valid name")
}

/// A word that only this version of this item has; of letters alone, since a tokenizer for code
/// would take anything else apart.
fn word(number: usize, version: u64) -> String {
    const DIGITS: [char; 10] = ['b', 'c', 'd', 'f', 'g', 'h', 'j', 'k', 'm', 'p'];
    let spell = |value: u64| -> String {
        value.to_string().bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect()
    };
    format!("z{}q{}q", spell(number as u64), spell(version))
}

fn text(number: usize, version: u64) -> String {
    let mut text = format!("{} is what item {number} is about.", word(number, version));
    for line in 0..20 {
        text.push_str(&format!(" In place {} it says {}.", line * 7 + number, line * number));
    }
    text
}

impl Model {
    /// Does `step` and remembers what it changed; after an error it may or may not have.
    pub(super) fn run(&mut self, engine: &Engine, step: Step) -> Result<(), EngineError> {
        let caller = caller();
        let all = || ScopeRequest { scope: ScopeSelector::Local };
        let (number, mut known) = match step {
            Step::Compact => return engine.compact(&caller, all(), &NoProgress).map(drop),
            Step::Snapshot => return engine.snapshot(&caller, all(), &NoProgress).map(drop),
            Step::Rebuild => return engine.rebuild(&caller, all(), &NoProgress).map(drop),
            Step::Write(number)
            | Step::Pin(number)
            | Step::Tag(number)
            | Step::Helpful(number)
            | Step::Delete(number)
            | Step::Erase(number) => (number, self.sure.get(&number).cloned().unwrap_or_default()),
        };
        let (id, scope) = (id(number), Some(Scope::Local));
        let next = known.version + 1;
        let result = match step {
            Step::Write(_) => {
                known.version = next;
                known.texts.insert(next, text(number, next));
                if std::mem::take(&mut known.deleted) {
                    known.pinned = false;
                    known.tagged = false;
                }
                // A write replaces labels; counters and pins are kept as the request says.
                known.tagged = false;
                engine.upsert(&caller, upsert(&id, &text(number, next), known.pinned))
            }
            Step::Pin(_) => {
                known.version = next;
                known.pinned = true;
                engine.pin(&caller, ItemRequest { id, scope })
            }
            Step::Tag(_) => {
                known.version = next;
                known.tagged = true;
                let add = vec!["labelled".to_owned()];
                engine.tag(&caller, TagRequest { id, scope, add, remove: Vec::new() })
            }
            Step::Helpful(_) => {
                known.helpful += 1;
                engine.feedback(&caller, FeedbackRequest { id, scope, helpful: true })
            }
            Step::Delete(_) | Step::Erase(_) => {
                known.deleted = true;
                known.erased |= step == Step::Erase(number);
                let erase = step == Step::Erase(number);
                engine.delete(&caller, DeleteRequest { id, scope, erase, if_version: None })
            }
            Step::Compact | Step::Snapshot | Step::Rebuild => return Ok(()),
        };
        match result {
            Ok(written) => {
                known.version = written.version.0;
                self.sure.insert(number, known);
                Ok(())
            }
            Err(error) => {
                self.maybe = Some((number, known));
                Err(error)
            }
        }
    }

    /// Compares everything that was acknowledged with what the store answers.
    pub(super) fn check(&self, engine: &Engine) -> Result<()> {
        let caller = caller();
        for (number, known) in self.candidates() {
            let found = engine.get(&caller, get(number, None));
            let found = match found {
                Ok(item) => Some(item),
                Err(EngineError::NotFound { .. }) => None,
                Err(error) => bail!("item {number}: {error}"),
            };
            let mut differences = Vec::new();
            for candidate in &known {
                match candidate.compare(found.as_ref()) {
                    Ok(()) => {
                        differences.clear();
                        candidate
                            .check_search(engine, number)
                            .and_then(|()| candidate.check_versions(engine, number))
                            .with_context(|| format!("item {number}"))?;
                        break;
                    }
                    Err(difference) => differences.push(difference.to_string()),
                }
            }
            ensure!(differences.is_empty(), "item {number}: {differences:?}");
        }
        Ok(())
    }

    /// Takes what the store answers for the write that was not acknowledged as the truth.
    pub(super) fn settle(&mut self, engine: &Engine) -> Result<()> {
        let Some((number, maybe)) = self.maybe.take() else { return Ok(()) };
        let found = match engine.get(&caller(), get(number, None)) {
            Ok(item) => Some(item),
            Err(EngineError::NotFound { .. }) => None,
            Err(error) => bail!("item {number}: {error}"),
        };
        let was = self.sure.get(&number).cloned().unwrap_or_default();
        if was.compare(found.as_ref()).is_err() {
            maybe.compare(found.as_ref())?;
            self.sure.insert(number, maybe);
        }
        Ok(())
    }

    /// Items with the states that each may be in.
    fn candidates(&self) -> BTreeMap<usize, Vec<Known>> {
        let mut all: BTreeMap<usize, Vec<Known>> =
            self.sure.iter().map(|(number, known)| (*number, vec![known.clone()])).collect();
        if let Some((number, known)) = &self.maybe {
            all.entry(*number).or_insert_with(|| vec![Known::default()]).push(known.clone());
        }
        all
    }

    /// Writes that were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.sure.values().map(|known| known.texts.len()).sum()
    }
}

impl Known {
    fn is_there(&self) -> bool {
        !self.texts.is_empty() && !self.deleted
    }

    /// Says how the item found differs.
    fn compare(&self, found: Option<&Item>) -> Result<()> {
        let Some(item) = found else {
            ensure!(!self.is_there(), "version {} is not there", self.version);
            return Ok(());
        };
        ensure!(self.is_there(), "version {} is there, expected none", item.version);
        let text = self.texts.values().next_back().context("no text")?;
        ensure!(item.text == *text, "text {:?}, expected {text:?}", item.text);
        ensure!(item.version.0 == self.version, "version {}, not {}", item.version, self.version);
        ensure!(item.quality.pinned == self.pinned, "pinned {}", item.quality.pinned);
        let tagged = item.facets.tags.iter().any(|tag| tag == "labelled");
        ensure!(tagged == self.tagged, "tagged {tagged}");
        let helpful = item.quality.counters.helpful_count;
        ensure!(helpful == self.helpful, "helpful {helpful}, expected {}", self.helpful);
        Ok(())
    }

    /// The newest text is found by search and no older one is.
    fn check_search(&self, engine: &Engine, number: usize) -> Result<()> {
        let newest = self.texts.keys().next_back().copied();
        for version in self.texts.keys() {
            let request = QueryRequest {
                q: word(number, *version),
                scope: ScopeSelector::Local,
                ..QueryRequest::default()
            };
            let total = engine.query(&caller(), request)?.total;
            let expected = u64::from(self.is_there() && Some(*version) == newest);
            ensure!(total == expected, "{total} hits for version {version}, not {expected}");
        }
        Ok(())
    }

    /// Every text that was not erased is still there, wherever compaction has put it.
    fn check_versions(&self, engine: &Engine, number: usize) -> Result<()> {
        if !self.is_there() || self.erased {
            return Ok(());
        }
        for (version, text) in &self.texts {
            let item = engine
                .get(&caller(), get(number, Some(Version(*version))))
                .with_context(|| format!("version {version}"))?;
            ensure!(item.text == *text, "version {version} is {:?}", item.text);
        }
        Ok(())
    }
}

fn get(number: usize, version: Option<Version>) -> GetRequest {
    GetRequest { id: id(number), scope: Some(Scope::Local), as_of: None, version }
}

fn upsert(id: &ItemId, text: &str, pinned: bool) -> UpsertRequest {
    let request = json!({
        "id": id.as_str(), "type": "note", "scope": "local", "title": format!("About {id}"),
        "text": text, "pinned": pinned,
    });
    serde_json::from_value(request).expect("a valid request")
}

/// Checks chain, bodies and views of the whole store.
pub(super) fn check_soundness(engine: &Engine) -> Result<()> {
    let all = || ScopeRequest { scope: ScopeSelector::Local };
    for (scope, result) in engine.journal_verify(&caller(), all(), &NoProgress)? {
        ensure!(result.valid, "{scope}: {:?}", result.corrupted_items);
    }
    for (scope, result) in engine.verify_views(&caller(), all(), &NoProgress)? {
        ensure!(result.ok, "{scope}: {:?}", result.issues);
    }
    Ok(())
}
