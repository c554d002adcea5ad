//! The reference server's journals: what happened to each item, and where full items lie.
//!
//! `journal.ndjson` (legacy) carries whole items; `journal-optimized.ndjson` carries hashes.
//! Neither has a chain that could be verified, so both are hints: an item's file beats them.

use std::collections::BTreeMap;
use std::path::Path;

use llm_memory_disk::{Disk, DiskError, OpenMode};
use serde_json::Value;

use super::fields;
use super::lines::{Line, Lines, MAX_LINE};
use super::report::{Problem, Report};
use super::{LEGACY_JOURNAL, OPTIMIZED_JOURNAL};
use crate::ids::Timestamp;

/// Where a whole item lies in the legacy journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    offset: u64,
    length: usize,
    pub(super) line: u64,
}

/// What the journals say about one item.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Who made the first entry that names somebody.
    pub(super) first_actor: Option<String>,
    /// Time of the last entry that has one.
    pub(super) last_ts: Option<Timestamp>,
    /// Whether the last entry was a deletion.
    pub(super) deleted: bool,
    /// The newest whole item.
    pub(super) item: Option<Place>,
}

/// Histories by id.
pub(super) type Histories = BTreeMap<String, History>;

/// Reads both journals, if they are there.
pub(super) fn read(
    disk: &dyn Disk,
    dir: &Path,
    report: &mut Report,
) -> Result<Histories, DiskError> {
    let mut histories = Histories::new();
    for name in [LEGACY_JOURNAL, OPTIMIZED_JOURNAL] {
        let path = dir.join(name);
        if !disk.exists(&path)? {
            continue;
        }
        let mut lines = Lines::open(disk, &path)?;
        while let Some(line) = lines.next_line()? {
            report.journal_lines += 1;
            if let Err(reason) = read_line(&line, name, &mut histories) {
                report.problems.push(Problem {
                    file: name.to_owned(),
                    line: Some(line.number),
                    id: None,
                    reason,
                });
            }
        }
    }
    Ok(histories)
}

fn read_line(line: &Line, name: &str, histories: &mut Histories) -> Result<(), String> {
    let Some(bytes) = &line.bytes else {
        return Err(format!("is longer than {MAX_LINE} bytes"));
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let entry: Value = serde_json::from_slice(bytes).map_err(|error| format!("{error}"))?;
    let item = entry.get("item").filter(|item| item.is_object());
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let from = entry.get("link").and_then(|link| link.get("from"));
    let id = text("id")
        .or_else(|| item.and_then(|item| item.get("id")).and_then(Value::as_str))
        .or_else(|| from.and_then(Value::as_str))
        .ok_or("names no item")?;
    let op = text("op").ok_or("names no operation")?;

    let history = histories.entry(id.to_owned()).or_default();
    history.deleted = op == "delete";
    if item.is_some() && name == LEGACY_JOURNAL {
        history.item = Some(Place { offset: line.offset, length: bytes.len(), line: line.number });
    }
    if history.first_actor.is_none() {
        history.first_actor = text("actor").filter(|actor| !actor.is_empty()).map(str::to_owned);
    }
    history.last_ts = entry.get("ts").and_then(fields::moment).or(history.last_ts);
    Ok(())
}

/// Reads the whole item at `place` of the legacy journal again.
pub(super) fn item_at(
    disk: &dyn Disk,
    dir: &Path,
    place: Place,
) -> Result<Option<Value>, DiskError> {
    let file = disk.open(&dir.join(LEGACY_JOURNAL), OpenMode::Read)?;
    let mut bytes = vec![0; place.length];
    file.read_exact_at(place.offset, &mut bytes)?;
    // It parsed when the journal was scanned.
    let entry: Option<Value> = serde_json::from_slice(&bytes).ok();
    Ok(entry.and_then(|mut entry| entry.get_mut("item").map(Value::take)))
}
