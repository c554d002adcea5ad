//! Reads the folder of one scope as the reference memory server lays it out:
//!
//! ```text
//! items/ID.json             one item each, the truth
//! journal.ndjson            legacy journal, with whole items
//! journal-optimized.ndjson  journal with hashes only
//! catalog.json              summaries, used only to notice missing items
//! config.json               settings
//! index/                    derived, not read
//! ```
//!
//! Nothing is written. What cannot be read, kept or understood is in the [`Report`]; a damaged
//! item never stops the others. Items whose file is missing or damaged are taken from the legacy
//! journal where it has them. Memory holds one item at a time, besides ids and what the
//! journals say of each.

mod config;
mod fields;
mod history;
mod item;
mod lines;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use llm_memory_disk::{Disk, DiskError, OpenMode};
use serde_json::Value;

pub use report::{Ignored, Problem, Report};

use crate::error::EngineError;
use crate::ids::{Scope, Timestamp};
use crate::item::{Content, Counters};

const ITEMS: &str = "items";
const CATALOG: &str = "catalog.json";
const CONFIG: &str = "config.json";
const INDEX: &str = "index";
const LEGACY_JOURNAL: &str = "journal.ndjson";
const OPTIMIZED_JOURNAL: &str = "journal-optimized.ndjson";

/// Longest item, catalog or configuration file, bytes.
const MAX_FILE: u64 = 256 << 20;

/// A folder that cannot be imported at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It does not look like the reference server's.
    #[error(
        "{} has neither items/ nor a journal of the reference server: name the folder of one \
         scope",
        path.display()
    )]
    NotAStore {
        /// The folder.
        path: PathBuf,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<ImportError> for EngineError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::NotAStore { .. } => Self::invalid("path", error.to_string()),
            ImportError::Disk(error) => error.into(),
        }
    }
}

/// One imported item. It has not passed redaction, the write guard or the sensitivity gate: that
/// is [`Editor::import`](crate::item::edit::Editor::import)'s work.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The item, in the scope imported into, as version 1.
    pub content: Content,
    /// Its usage and feedback.
    pub counters: Counters,
    /// Version that the reference server had reached.
    pub reference_version: Option<u64>,
}

/// An import under way: an iterator over the items that can be read. An `Err` is a failing disk
/// and ends it.
#[derive(Debug)]
pub struct Import<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    scope: Scope,
    actor: String,
    files: VecDeque<ItemFile>,
    histories: history::Histories,
    /// Ids that are only in the legacy journal; filled when the files are done.
    journal_only: Option<VecDeque<String>>,
    cataloged: BTreeSet<String>,
    seen: BTreeSet<String>,
    report: Report,
    failed: bool,
}

#[derive(Debug)]
struct ItemFile {
    name: String,
    bytes: u64,
    modified: Timestamp,
}

impl<'a> Import<'a> {
    /// Opens `dir`, the reference server's folder of one scope, for import into `scope`. `actor`
    /// becomes the creator of items for which the journals name none.
    ///
    /// # Errors
    /// The folder is not such a folder, or the disk fails.
    pub fn open(
        disk: &'a dyn Disk,
        dir: &Path,
        scope: Scope,
        actor: &str,
    ) -> Result<Self, ImportError> {
        let mut report = Report::default();
        let mut recognised = false;
        for entry in disk.list(dir)? {
            let reason = match (entry.name.as_str(), entry.is_dir) {
                (ITEMS, true) | (LEGACY_JOURNAL | OPTIMIZED_JOURNAL, false) => {
                    recognised = true;
                    continue;
                }
                (CATALOG | CONFIG, false) => continue,
                (INDEX, true) => "derived from items; it is built anew",
                _ => "not part of the layout",
            };
            report.ignored.push(Ignored { path: entry.name, reason: reason.to_owned() });
        }
        if !recognised {
            return Err(ImportError::NotAStore { path: dir.to_path_buf() });
        }
        let mut import = Self {
            disk,
            dir: dir.to_path_buf(),
            scope,
            actor: actor.to_owned(),
            files: VecDeque::new(),
            histories: history::read(disk, dir, &mut report)?,
            journal_only: None,
            cataloged: BTreeSet::new(),
            seen: BTreeSet::new(),
            report,
            failed: false,
        };
        import.list_items()?;
        import.read_catalog()?;
        import.read_config()?;
        Ok(import)
    }

    /// What has been found so far; complete once the iterator is exhausted.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The final report.
    #[must_use]
    pub fn into_report(self) -> Report {
        self.report
    }

    fn problem(&mut self, file: impl Into<String>, id: Option<&str>, reason: impl Into<String>) {
        self.report.problems.push(Problem {
            file: file.into(),
            line: None,
            id: id.map(str::to_owned),
            reason: reason.into(),
        });
    }

    fn list_items(&mut self) -> Result<(), DiskError> {
        let folder = self.dir.join(ITEMS);
        if !self.disk.exists(&folder)? {
            return Ok(());
        }
        for entry in self.disk.list(&folder)? {
            let is_item = Path::new(&entry.name)
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
            if entry.is_dir || !is_item {
                self.report.ignored.push(Ignored {
                    path: format!("{ITEMS}/{}", entry.name),
                    reason: "not an item".to_owned(),
                });
                continue;
            }
            self.files.push_back(ItemFile {
                name: entry.name,
                bytes: entry.len,
                modified: timestamp(entry.modified),
            });
        }
        Ok(())
    }

    fn read_catalog(&mut self) -> Result<(), DiskError> {
        let Some(catalog) = self.read_json(CATALOG)? else { return Ok(()) };
        // A map from id to summary, or a list of summaries, bare or under `items`.
        let listed = catalog.get("items").unwrap_or(&catalog);
        match listed {
            Value::Object(summaries) => self.cataloged.extend(summaries.keys().cloned()),
            Value::Array(summaries) => self.cataloged.extend(
                summaries
                    .iter()
                    .filter_map(|summary| summary.get("id").and_then(Value::as_str))
                    .map(str::to_owned),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.problem(CATALOG, None, "is neither an object nor a list");
            }
        }
        Ok(())
    }

    fn read_config(&mut self) -> Result<(), DiskError> {
        if let Some(value) = self.read_json(CONFIG)? {
            let (config, problems) = config::translate(&value);
            self.report.config = Some(config.to_json());
            self.report.config_problems = problems;
        }
        Ok(())
    }

    /// A file at the top of the folder as JSON; `None` when it is missing or, with a problem
    /// reported, damaged.
    fn read_json(&mut self, name: &str) -> Result<Option<Value>, DiskError> {
        let path = self.dir.join(name);
        if !self.disk.exists(&path)? {
            return Ok(None);
        }
        let length = self.disk.open(&path, OpenMode::Read)?.len()?;
        if length > MAX_FILE {
            self.problem(name, None, format!("has {length} bytes, more than {MAX_FILE}"));
            return Ok(None);
        }
        match serde_json::from_slice(&self.disk.read(&path)?) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.problem(name, None, format!("is not JSON: {error}"));
                Ok(None)
            }
        }
    }

    fn read_file(&mut self, file: &ItemFile) -> Result<Option<Imported>, DiskError> {
        let name = format!("{ITEMS}/{}", file.name);
        let stem = file.name.rsplit_once('.').map_or(file.name.as_str(), |(stem, _)| stem);
        if file.bytes > MAX_FILE {
            self.problem(name, Some(stem), format!("has more than {MAX_FILE} bytes"));
            return Ok(None);
        }
        let bytes = self.disk.read(&self.dir.join(ITEMS).join(&file.name))?;
        let parsed = serde_json::from_slice(&bytes)
            .map_err(|error| format!("is not JSON: {error}"))
            .and_then(|value| self.parse(value, file.modified));
        match parsed {
            Ok(imported) => {
                let id = imported.content.id.as_str().to_owned();
                if !self.seen.insert(id.clone()) {
                    self.problem(name, Some(&id), "has an id that another file has too");
                    return Ok(None);
                }
                if self.histories.get(&id).is_some_and(|history| history.deleted) {
                    self.report.adjust(
                        &id,
                        vec!["was deleted by the journal but has a file; it was kept".to_owned()],
                    );
                }
                Ok(Some(imported))
            }
            // The legacy journal may have the item; it is tried after the files.
            Err(reason) => {
                self.problem(name, Some(stem), reason);
                Ok(None)
            }
        }
    }

    fn read_from_journal(&mut self, id: &str) -> Result<Option<Imported>, DiskError> {
        let Some(place) = self.histories.get(id).and_then(|history| history.item) else {
            return Ok(None);
        };
        let Some(value) = history::item_at(self.disk, &self.dir, place)? else { return Ok(None) };
        let moment = self.histories.get(id).and_then(|history| history.last_ts).unwrap_or_default();
        match self.parse(value, moment) {
            Ok(imported) => {
                self.seen.insert(id.to_owned());
                self.report.from_journal += 1;
                Ok(Some(imported))
            }
            Err(reason) => {
                self.report.problems.push(Problem {
                    file: LEGACY_JOURNAL.to_owned(),
                    line: Some(place.line),
                    id: Some(id.to_owned()),
                    reason,
                });
                Ok(None)
            }
        }
    }

    fn parse(&mut self, value: Value, moment: Timestamp) -> Result<Imported, String> {
        let mut notices = fields::Notices::default();
        let actor = self.actor.clone();
        let defaults = item::Defaults { scope: self.scope, actor: &actor, moment };
        let parsed = item::parse(value, defaults, &mut notices)?;
        let item::Parsed { mut content, counters, version } = parsed;
        for field in notices.unknown {
            *self.report.unknown_fields.entry(field).or_default() += 1;
        }
        self.report.adjust(content.id.as_str(), notices.adjusted);
        self.report.items += 1;

        let history = self.histories.get(content.id.as_str());
        if let Some(first) = history.and_then(|history| history.first_actor.as_ref()) {
            content.provenance.created_by.clone_from(first);
        }
        Ok(Imported { content, counters, reference_version: version })
    }

    fn advance(&mut self) -> Result<Option<Imported>, DiskError> {
        while let Some(file) = self.files.pop_front() {
            if let Some(imported) = self.read_file(&file)? {
                return Ok(Some(imported));
            }
        }
        loop {
            let Some(waiting) = &mut self.journal_only else {
                self.journal_only = Some(self.only_in_journal());
                continue;
            };
            let Some(id) = waiting.pop_front() else { break };
            if let Some(imported) = self.read_from_journal(&id)? {
                return Ok(Some(imported));
            }
        }
        self.report_missing();
        Ok(None)
    }

    /// Ids with a whole item in the legacy journal that no file gave.
    fn only_in_journal(&mut self) -> VecDeque<String> {
        let mut waiting = VecDeque::new();
        for (id, history) in &self.histories {
            if self.seen.contains(id) {
                continue;
            }
            if history.deleted {
                self.report.deleted += 1;
            } else if history.item.is_some() {
                waiting.push_back(id.clone());
            }
        }
        waiting
    }

    /// Reports items of which catalog or journal tell but which are nowhere.
    fn report_missing(&mut self) {
        let cataloged = std::mem::take(&mut self.cataloged);
        let histories = std::mem::take(&mut self.histories);
        for (id, history) in &histories {
            if !history.deleted && !self.seen.contains(id) && !cataloged.contains(id) {
                self.problem(
                    format!("{ITEMS}/{id}.json"),
                    Some(id),
                    "is missing, and no journal has the whole item",
                );
            }
        }
        for id in &cataloged {
            let deleted = histories.get(id).is_some_and(|history| history.deleted);
            if !deleted && !self.seen.contains(id) {
                self.problem(
                    CATALOG,
                    Some(id),
                    "lists an item that has no readable file or journal entry",
                );
            }
        }
    }
}

impl Iterator for Import<'_> {
    type Item = Result<Imported, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        self.failed = next.is_err();
        next.transpose()
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let millis = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}
