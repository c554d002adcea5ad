//! What is written comes back.

use ed25519_dalek::SigningKey;
use llm_memory_disk::OsDisk;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::checkpoint::{Checkpoint, Signed};
use super::*;

#[test]
fn the_real_disk_gives_back_lines_bodies_and_locations() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("global");
    let open = || Journal::open(Arc::new(OsDisk), &dir, small()).unwrap();
    let (mut journal, notes) = open();
    assert_eq!(notes, Vec::<String>::new());
    let mut staged: Vec<Staged> = (1..=5).map(|n| stage(&mut journal, n)).collect();
    journal.commit().unwrap();
    let sealed = journal.seal().unwrap().unwrap();
    assert_eq!((sealed.first, sealed.last, sealed.sealed), (Seq(1), Seq(5), true));
    for n in 6..=9 {
        staged.push(stage(&mut journal, n));
        journal.commit().unwrap();
    }
    let head = journal.head();
    drop(journal);

    let (journal, notes) = open();
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(journal.head(), head);
    let reader = journal.reader();
    let lines: Vec<Line> = reader.lines(Seq(1)).unwrap().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 9);
    for ((n, line), staged) in (1..).zip(&lines).zip(&staged) {
        assert_eq!(line.record.seq, Seq(n));
        assert_eq!(line.head_hash, staged.head_hash);
        let (location, bytes) = line.body.clone().unwrap();
        assert_eq!(Some(location), staged.body);
        assert_eq!(bytes, body(n));
        assert_eq!(reader.body(location).unwrap(), body(n));
    }
    for from in 1..=10 {
        let tail: Vec<u64> =
            reader.lines(Seq(from)).unwrap().map(|line| line.unwrap().record.seq.0).collect();
        assert_eq!(tail, (from..=9).collect::<Vec<_>>());
    }
    assert_sound(&journal);
}

#[test]
fn a_full_segment_is_sealed_before_the_next_record() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    fill(&mut journal, 1..=20, 1);
    let segments = journal.reader().segments();
    assert!(segments.len() >= 3, "{segments:?}");
    for pair in segments.windows(2) {
        assert_eq!(pair[0].last.next(), pair[1].first);
        assert!(pair[0].sealed && pair[0].bytes >= 1500);
    }
    drop(journal);
    let journal = open_clean(&disk);
    assert_eq!(journal.reader().segments(), segments);
    assert_eq!(items(&journal), (1..=20).collect::<Vec<_>>());
    assert_sound(&journal);
}

#[test]
fn opening_does_not_read_sealed_segments() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    fill(&mut journal, 1..=50, 1);
    journal.seal().unwrap();
    drop(journal);
    let before = disk.counts().reads;
    let journal = open_clean(&disk);
    assert!(disk.counts().reads - before <= 1, "only the checkpoints");
    assert_eq!(journal.head().seq, Seq(50));
    assert_eq!(journal.head().ts, Timestamp::from_millis(1_700_000_000_050));
}

#[test]
fn one_commit_is_one_write_and_one_sync() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    for n in 1..=64 {
        stage(&mut journal, n);
    }
    let before = disk.counts();
    journal.commit().unwrap();
    let after = disk.counts();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
}

#[test]
fn what_was_rolled_back_leaves_no_gap() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    fill(&mut journal, 1..=2, 2);
    stage(&mut journal, 77);
    journal.rollback();
    assert_eq!(stage(&mut journal, 3).seq, Seq(3));
    assert_eq!(journal.staged(), 1);
    journal.commit().unwrap();
    assert_eq!(items(&journal), [1, 2, 3]);
    assert_sound(&journal);
}

#[test]
fn readers_see_committed_lines_only_and_keep_up_with_seals() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    let reader = journal.reader();
    let first = stage(&mut journal, 1).body.unwrap();
    assert_eq!(reader.head().seq, Seq(0));
    assert!(matches!(reader.body(first), Err(JournalError::Corrupt { .. })));
    journal.commit().unwrap();
    let mut walk = reader.lines(Seq(1)).unwrap();
    assert_eq!(reader.body(first).unwrap(), body(1));
    journal.seal().unwrap();
    fill(&mut journal, 2..=2, 1);
    assert_eq!(reader.body(first).unwrap(), body(1));
    // A walk goes to what was the head when it began.
    assert_eq!(walk.next().unwrap().unwrap().record.seq, Seq(1));
    assert!(walk.next().is_none());
}

#[test]
fn a_body_that_is_not_what_the_record_says_fails_the_whole_commit() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    let id = ItemId::new("item-2").unwrap();
    for (body, hash) in [
        (b"{}".as_slice(), Digest::ZERO),
        (b"{\n}".as_slice(), Digest::of(b"{\n}")),
        (b"[]".as_slice(), Digest::of(b"[]")),
    ] {
        stage(&mut journal, 1);
        journal.stage(&Draft {
            ts: Timestamp::default(),
            op: Op::Upsert,
            id: &id,
            version: Version(1),
            hash,
            actor: "",
            meta: Map::new(),
            body: Some(body),
        });
        let error = journal.commit().unwrap_err();
        assert!(matches!(error, JournalError::Unstorable { seq: Seq(2), .. }), "{error}");
    }
    assert_eq!(journal.head(), Head::default());
    fill(&mut journal, 1..=1, 1);
    assert_eq!(items(&journal), [1]);
}

#[test]
fn read_only_changes_nothing() {
    let disk = FaultyDisk::new();
    let options = JournalOptions { read_only: true, ..small() };
    let open_for_reading =
        || Journal::open(Arc::new(disk.clone()), &dir(), options.clone()).unwrap();
    let (mut journal, notes) = open_for_reading();
    assert!(notes.is_empty());
    assert!(!disk.exists(&dir()).unwrap());
    stage(&mut journal, 1);
    assert!(matches!(journal.commit(), Err(JournalError::ReadOnly)));

    fill(&mut open_clean(&disk), 1..=9, 2);
    let active = disk.open(&path("journal.ndjson"), OpenMode::ReadWrite).unwrap();
    let len = active.len().unwrap();
    active.write_all_at(len, b"{\"seq\":10,").unwrap();
    let (journal, notes) = open_for_reading();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(items(&journal), (1..=9).collect::<Vec<_>>());
    assert_eq!(active.len().unwrap(), len + 10);
}

#[test]
fn statistics_count_lines_with_and_without_bodies() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    let empty = journal.reader().stats().unwrap();
    assert!(!empty.legacy.exists && !empty.migration_needed && empty.first_ts.is_none());
    fill(&mut journal, 1..=10, 3);
    journal.stage(&Draft {
        ts: Timestamp::from_millis(1_800_000_000_000),
        op: Op::Use,
        id: &ItemId::new("item-1").unwrap(),
        version: Version(1),
        hash: Digest::of(&body(1)),
        actor: "tester",
        meta: Map::new(),
        body: None,
    });
    journal.commit().unwrap();
    let stats = journal.reader().stats().unwrap();
    assert_eq!((stats.legacy.entries, stats.optimized.entries), (10, 1));
    let bytes: u64 = journal.reader().segments().iter().map(|segment| segment.bytes).sum();
    assert_eq!(stats.legacy.size_bytes + stats.optimized.size_bytes, bytes);
    assert_eq!(stats.first_ts, Some(Timestamp::from_millis(1_700_000_000_001)));
    assert_eq!(stats.last_ts, Some(Timestamp::from_millis(1_800_000_000_000)));
    drop(journal);
    assert_eq!(open_clean(&disk).reader().stats().unwrap(), stats);
    assert_sound(&open_clean(&disk));
}

#[test]
fn every_record_of_a_signed_journal_can_be_proven() {
    let disk = FaultyDisk::new();
    let key = SigningKey::from_bytes(&[9; 32]);
    let options = JournalOptions { signing_key: Some(Arc::new(key.clone())), ..small() };
    let (mut journal, _) = Journal::open(Arc::new(disk.clone()), &dir(), options).unwrap();
    fill(&mut journal, 1..=17, 2);
    let reader = journal.reader();
    let mut sealed = 0;
    for seq in 1..=17 {
        let proof = reader.prove(Seq(seq)).unwrap();
        let signed = verify_proof(&proof, Some(&body(seq))).unwrap();
        if proof.checkpoint.is_some() {
            assert_eq!(signed, Signed::By(key.verifying_key()));
            sealed += 1;
        } else {
            assert_eq!(signed, Signed::No);
            assert_eq!(proof.head, journal.head().hash);
        }

        let mut forged = proof.clone();
        forged.line = forged.line.replace("tester", "nobody");
        assert!(matches!(verify_proof(&forged, None), Err(ProofError::Root { .. })));
        assert!(matches!(verify_proof(&proof, Some(b"{}")), Err(ProofError::Content { .. })));
        let mut forged = proof.clone();
        forged.version = Version(2);
        assert!(matches!(verify_proof(&forged, None), Err(ProofError::Line(_))));
        if let Some(line) = &proof.checkpoint {
            let mut checkpoint = Checkpoint::parse(line).unwrap();
            checkpoint.count += 1;
            let forged =
                crate::api::InclusionProof { checkpoint: Some(checkpoint.line()), ..proof.clone() };
            assert!(matches!(verify_proof(&forged, None), Err(ProofError::Checkpoint(_))));
        }
    }
    assert!(sealed > 8 && sealed < 17);
    assert!(matches!(reader.prove(Seq(18)), Err(JournalError::Misuse(_))));
    let verified = verify(&journal);
    assert!(verified.valid, "{:?}", verified.corrupted_items);
    assert_eq!(verified.signed_checkpoints, Some(verified.checkpoints));
    assert!(verified.checkpoints >= 2);
}

#[derive(Debug, Clone)]
struct Random {
    op: Op,
    id: String,
    version: u64,
    millis: i64,
    actor: String,
    meta: Vec<(String, f64)>,
    body: Option<Vec<(String, String)>>,
    commit: bool,
}

fn random_draft() -> impl Strategy<Value = Random> {
    let id = "[^\\p{Cc}]{1,40}";
    let body = proptest::option::of(proptest::collection::vec((".{0,8}", ".{0,30}"), 0..4));
    let meta = proptest::collection::vec((".{0,8}", proptest::num::f64::NORMAL), 0..4);
    let numbers = (any::<u64>(), 0_i64..4_000_000_000_000);
    let op = (0..Op::ALL.len()).prop_map(|n| Op::ALL[n]);
    (op, id, numbers, ".{0,20}", meta, body, any::<bool>()).prop_map(
        |(op, id, (version, millis), actor, meta, body, commit)| Random {
            op,
            id,
            version,
            millis,
            actor,
            meta,
            body,
            commit,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_records_come_back_as_they_were(drafts in proptest::collection::vec(random_draft(), 1..24)) {
        let disk = FaultyDisk::new();
        let mut journal = open_clean(&disk);
        let mut written = Vec::new();
        for draft in &drafts {
            let body = draft.body.as_ref().map(|entries| {
                let map: Map<String, Value> =
                    entries.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
                serde_json::to_vec(&map).unwrap()
            });
            let meta: Map<String, Value> =
                draft.meta.iter().map(|(key, number)| (key.clone(), json!(number))).collect();
            let id = ItemId::new(draft.id.clone()).unwrap();
            let hash = Digest::of(body.as_deref().unwrap_or(b"gone"));
            let ts = Timestamp::from_millis(draft.millis);
            let staged = journal.stage(&Draft {
                ts,
                op: draft.op,
                id: &id,
                version: Version(draft.version),
                hash,
                actor: &draft.actor,
                meta: meta.clone(),
                body: body.as_deref(),
            });
            let record = Record {
                seq: staged.seq,
                ts,
                op: draft.op,
                id,
                version: Version(draft.version),
                hash,
                prev: Digest::ZERO,
                actor: draft.actor.clone(),
                meta,
            };
            let body = staged.body.zip(body);
            written.push(Line { record, head_hash: staged.head_hash, body, damaged: None });
            if draft.commit {
                journal.commit().unwrap();
            }
        }
        journal.commit().unwrap();
        drop(journal);
        let journal = open_clean(&disk);
        let mut prev = Digest::ZERO;
        let mut count = 0;
        for (line, mut expected) in journal.reader().lines(Seq(1)).unwrap().zip(written) {
            expected.record.prev = prev;
            prev = expected.head_hash;
            prop_assert_eq!(line.unwrap(), expected);
            count += 1;
        }
        prop_assert_eq!(count, drafts.len());
    }
}
