//! Tests of the journal as a whole, on a disk in memory.

mod crash;
mod damage;
mod faults;
mod rewriting;
mod round_trip;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llm_memory_disk::faulty::FaultyDisk;
use llm_memory_disk::{Disk, OpenMode};
use serde_json::Map;

use super::*;
use crate::api::JournalVerifyResult;
use crate::ids::{ItemId, Version};
use crate::progress::NoProgress;

const DIR: &str = "/store/global";

fn dir() -> PathBuf {
    PathBuf::from(DIR)
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Segments of a few records, so that sealing is part of every test.
fn small() -> JournalOptions {
    JournalOptions { segment_bytes: 1500, ..JournalOptions::default() }
}

fn open(disk: &FaultyDisk) -> (Journal, Vec<String>) {
    Journal::open(Arc::new(disk.clone()), &dir(), small()).unwrap()
}

/// Opens a journal that needs no recovery.
fn open_clean(disk: &FaultyDisk) -> Journal {
    let (journal, notes) = open(disk);
    assert_eq!(notes, Vec::<String>::new());
    journal
}

fn body(n: u64) -> Vec<u8> {
    format!("{{\"id\":\"item-{n}\",\"text\":\"memory number {n}\"}}").into_bytes()
}

fn stage(journal: &mut Journal, n: u64) -> Staged {
    let body = body(n);
    journal.stage(&Draft {
        ts: Timestamp::from_millis(1_700_000_000_000 + i64::try_from(n).unwrap()),
        op: Op::Upsert,
        id: &ItemId::new(format!("item-{n}")).unwrap(),
        version: Version(1),
        hash: Digest::of(&body),
        actor: "tester",
        meta: Map::new(),
        body: Some(&body),
    })
}

/// Stages and commits the items of `range`, in commits of `batch`.
fn fill(journal: &mut Journal, range: std::ops::RangeInclusive<u64>, batch: usize) {
    let items: Vec<u64> = range.collect();
    for items in items.chunks(batch) {
        for n in items {
            stage(journal, *n);
        }
        journal.commit().unwrap();
    }
}

/// Item numbers of all lines, in order; panics on damage.
fn items(journal: &Journal) -> Vec<u64> {
    let lines = journal.reader().lines(Seq(1)).unwrap();
    lines.map(|line| item_of(&line.unwrap().record)).collect()
}

fn item_of(record: &Record) -> u64 {
    record.id.as_str().strip_prefix("item-").unwrap().parse().unwrap()
}

fn missing(_: &Record) -> BodyState {
    BodyState::Missing
}

fn verify(journal: &Journal) -> JournalVerifyResult {
    journal.reader().verify(&missing, &NoProgress).unwrap()
}

fn assert_sound(journal: &Journal) {
    let result = verify(journal);
    assert!(result.valid, "{:?}", result.corrupted_items);
    assert!((result.integrity_score.unwrap() - 1.0).abs() < f64::EPSILON);
    assert_eq!(result.checked_count, journal.head().seq.0);
}

fn flip(disk: &FaultyDisk, name: &str, offset: u64) {
    let file = disk.open(&path(name), OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_exact_at(offset, &mut byte).unwrap();
    file.write_all_at(offset, &[byte[0] ^ 1]).unwrap();
}

/// Names of the sealed segment files.
fn sealed_files(disk: &FaultyDisk) -> Vec<String> {
    let entries = disk.list(&path("journal")).unwrap();
    entries.into_iter().map(|entry| format!("journal/{}", entry.name)).collect()
}
