//! Tests of the journal as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llm_memory_disk::OsDisk;
use serde_json::Map;

use super::*;
use crate::ids::{ItemId, Version};
use crate::progress::NoProgress;

/// A journal in a folder that goes away with it.
struct Folder {
    root: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("global")
    }

    fn open(&self, options: JournalOptions) -> (Journal, Vec<String>) {
        Journal::open(Arc::new(OsDisk), &self.dir(), options).unwrap()
    }

    fn open_clean(&self) -> Journal {
        let (journal, notes) = self.open(JournalOptions::default());
        assert_eq!(notes, Vec::<String>::new());
        journal
    }
}

fn body(n: u64) -> Vec<u8> {
    format!("{{\"id\":\"item-{n}\",\"text\":\"memory number {n}\"}}").into_bytes()
}

fn stage(journal: &mut Journal, n: u64) -> Staged {
    let body = body(n);
    journal.stage(&Draft {
        ts: Timestamp::from_millis(1_700_000_000_000),
        op: Op::Upsert,
        id: &ItemId::new(format!("item-{n}")).unwrap(),
        version: Version(1),
        hash: Digest::of(&body),
        actor: "tester",
        meta: Map::new(),
        body: Some(&body),
    })
}

fn outside_nothing(_: &Record) -> BodyState {
    BodyState::Missing
}

#[test]
fn committed_lines_come_back_in_order_after_reopening() {
    let folder = Folder::new();
    let mut journal = folder.open_clean();
    let mut staged = Vec::new();
    for n in 1..=5 {
        staged.push(stage(&mut journal, n));
    }
    journal.commit().unwrap();
    journal.seal().unwrap().unwrap();
    for n in 6..=9 {
        staged.push(stage(&mut journal, n));
        journal.commit().unwrap();
    }
    let head = journal.head();
    drop(journal);

    let journal = folder.open_clean();
    assert_eq!(journal.head(), head);
    let reader = journal.reader();
    let lines: Vec<_> = reader.lines(Seq(1)).unwrap().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 9);
    for ((n, line), staged) in (1..).zip(&lines).zip(&staged) {
        assert_eq!(line.record.seq, Seq(n));
        assert_eq!(line.head_hash, staged.head_hash);
        let (location, bytes) = line.body.clone().unwrap();
        assert_eq!(Some(location), staged.body);
        assert_eq!(bytes, body(n));
        assert_eq!(reader.body(location).unwrap(), body(n));
    }
    let tail: Vec<_> = reader.lines(Seq(7)).unwrap().map(|l| l.unwrap().record.seq).collect();
    assert_eq!(tail, [Seq(7), Seq(8), Seq(9)]);
    let verified = reader.verify(&outside_nothing, &NoProgress).unwrap();
    assert!(verified.valid, "{:?}", verified.corrupted_items);
    assert_eq!((verified.checked_count, verified.checked_bodies, verified.checkpoints), (9, 9, 1));
}
