//! Bytes that changed on the disk.

use llm_memory_disk::faulty::{Failure, Fault, Operation};
use proptest::prelude::*;

use super::*;

/// Twelve items over several sealed segments and an active one.
fn journal_of_twelve(disk: &FaultyDisk) -> Journal {
    let mut journal = open_clean(disk);
    fill(&mut journal, 1..=12, 1);
    assert!(journal.reader().segments().len() >= 3);
    journal
}

fn blamed(result: &JournalVerifyResult) -> Vec<u64> {
    result.corrupted_items.iter().filter_map(|item| item.seq).map(|seq| seq.0).collect()
}

#[test]
fn every_changed_byte_is_found_and_the_right_record_named() {
    let disk = FaultyDisk::new();
    let journal = journal_of_twelve(&disk);
    let mut names = sealed_files(&disk);
    names.push("journal.ndjson".to_owned());
    let mut first = 1;
    for name in names {
        let bytes = disk.read(&path(&name)).unwrap();
        let mut seq = first;
        for (offset, byte) in (0..).zip(&bytes) {
            flip(&disk, &name, offset);
            let result = verify(&journal);
            flip(&disk, &name, offset);
            let what = format!("{name} byte {offset} (record {seq}): {result:?}");
            assert!(!result.valid && result.integrity_score.unwrap() < 1.0, "{what}");
            assert!(blamed(&result).contains(&seq), "{what}");
            // A changed line feed costs the record after it too; nothing else spreads.
            let spread = if *byte == b'\n' { 3 } else { 1 };
            assert!(result.corrupted_items.len() <= spread, "{what}");
            assert!(result.corrupted_items.iter().all(|item| item.file == name), "{what}");
            seq += u64::from(*byte == b'\n');
        }
        first = seq;
    }
    assert_sound(&journal);
}

#[test]
fn every_changed_byte_of_the_checkpoints_is_found() {
    let disk = FaultyDisk::new();
    let journal = journal_of_twelve(&disk);
    let len = disk.read(&path("checkpoints.ndjson")).unwrap().len() as u64;
    for offset in 0..len {
        flip(&disk, "checkpoints.ndjson", offset);
        let result = verify(&journal);
        assert!(!result.valid, "byte {offset}");
        assert!(
            result.corrupted_items.iter().any(|item| item.file == "checkpoints.ndjson"),
            "byte {offset}: {result:?}"
        );
        flip(&disk, "checkpoints.ndjson", offset);
    }
    assert_sound(&journal);
}

#[test]
fn a_removed_record_is_missed() {
    let disk = FaultyDisk::new();
    let journal = journal_of_twelve(&disk);
    let name = sealed_files(&disk).swap_remove(1);
    let bytes = disk.read(&path(&name)).unwrap();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let without = [&lines[..1], &lines[2..]].concat().concat();
    disk.durable_write(&path(&name), &without).unwrap();
    drop(journal);
    let (journal, _) = open(&disk);
    let result = verify(&journal);
    assert!(!result.valid);
    assert_eq!(result.checked_count, 12);
    assert!((result.integrity_score.unwrap() - 11.0 / 12.0).abs() < 1e-9, "{result:?}");
}

#[test]
fn a_missing_segment_costs_its_records_and_no_others() {
    let disk = FaultyDisk::new();
    let journal = journal_of_twelve(&disk);
    let lost = journal.reader().segments()[1];
    drop(journal);
    disk.remove_file(&path(&sealed_files(&disk)[1])).unwrap();
    let (mut journal, notes) = open(&disk);
    assert_eq!(notes.len(), 1, "{notes:?}");
    let result = verify(&journal);
    assert_eq!(result.corrupted_items.len(), 1, "{result:?}");
    assert_eq!(blamed(&result), [lost.first.0]);
    assert_eq!(result.checked_count, 12);
    // Writes touch none of it.
    fill(&mut journal, 13..=13, 1);
    let tail: Vec<u64> = journal
        .reader()
        .lines(lost.last.next())
        .unwrap()
        .map(|line| item_of(&line.unwrap().record))
        .collect();
    assert_eq!(tail, (lost.last.0 + 1..=13).collect::<Vec<_>>());
    let mut lines = journal.reader().lines(Seq(1)).unwrap();
    assert!(lines.any(|line| matches!(line, Err(JournalError::Corrupt { .. }))));
}

#[test]
fn a_damaged_body_in_a_sealed_segment_costs_that_body_alone() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    let staged: Vec<Staged> = (1..=12).map(|n| stage_alone(&mut journal, n)).collect();
    let at = staged[1].body.unwrap();
    let name = sealed_files(&disk).remove(0);
    flip(&disk, &name, at.offset + 9);
    let lines: Vec<Line> = journal.reader().lines(Seq(1)).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(lines.len(), 12);
    for (n, line) in (1..).zip(lines) {
        let damaged = (n == 2).then_some(at);
        assert_eq!((item_of(&line.record), line.damaged), (n, damaged));
        assert_eq!(line.body.is_none(), n == 2);
    }
    assert_eq!(blamed(&verify(&journal)), [2]);
}

fn stage_alone(journal: &mut Journal, n: u64) -> Staged {
    let staged = stage(journal, n);
    journal.commit().unwrap();
    staged
}

#[test]
fn deleted_and_updated_items_are_sound() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    fill(&mut journal, 1..=3, 1);
    for (op, version) in [(Op::Delete, 1), (Op::Prune, 1), (Op::Erase, 2)] {
        journal.stage(&Draft {
            ts: Timestamp::default(),
            op,
            id: &ItemId::new("item-1").unwrap(),
            version: Version(version),
            hash: Digest::of(&body(1)),
            actor: "tester",
            meta: Map::new(),
            body: None,
        });
    }
    journal.commit().unwrap();
    assert_sound(&journal);
}

#[test]
fn damage_in_the_middle_refuses_writes_serves_reads_and_ends_with_recover() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    let staged: Vec<Staged> = (1..=4)
        .map(|n| {
            let staged = stage(&mut journal, n);
            journal.commit().unwrap();
            staged
        })
        .collect();
    let head = journal.head();
    drop(journal);
    let second = staged[1].body.unwrap().offset;
    flip(&disk, "journal.ndjson", second + 20);
    let damaged = disk.read(&path("journal.ndjson")).unwrap();

    let (mut journal, notes) = open(&disk);
    assert_eq!(notes.len(), 1, "{notes:?}");
    let damage = journal.damage().unwrap();
    assert_eq!(damage.last_sound, Seq(1));
    assert_eq!(journal.head(), head);
    assert_eq!(journal.reader().body(staged[3].body.unwrap()).unwrap(), body(4));
    let mut lines = journal.reader().lines(Seq(1)).unwrap();
    assert_eq!(lines.next().unwrap().unwrap().record.seq, Seq(1));
    assert!(matches!(lines.next(), Some(Err(JournalError::Corrupt { .. }))));
    assert!(lines.next().is_none());
    assert_eq!(blamed(&verify(&journal)), [2]);
    stage(&mut journal, 5);
    assert!(matches!(journal.commit(), Err(JournalError::Poisoned { source: None, .. })));
    assert!(journal.seal().is_err());
    assert_eq!(disk.read(&path("journal.ndjson")).unwrap(), damaged, "nothing was cut");

    let recovered = journal.recover().unwrap().unwrap();
    let counts = (recovered.last_sound, recovered.salvaged, recovered.last_seen);
    assert_eq!(counts, (Seq(1), 2, Seq(4)));
    assert_eq!(disk.read(&path(&recovered.set_aside)).unwrap(), damaged);
    assert!(journal.recover().unwrap().is_none());
    assert_eq!(items(&journal), [1, 3, 4]);
    assert_sound(&journal);
    drop(journal);
    let mut journal = open_clean(&disk.crash());
    assert_eq!(items(&journal), [1, 3, 4]);
    assert_eq!(stage(&mut journal, 5).seq, Seq(4));
    journal.commit().unwrap();
    assert_sound(&journal);
}

/// Stages one record of item `n` with a body only if its operation has one.
fn stage_op(journal: &mut Journal, op: Op, n: u64, meta: serde_json::Value) {
    let body = body(n);
    journal.stage(&Draft {
        ts: Timestamp::from_millis(5),
        op,
        id: &ItemId::new(format!("item-{n}")).unwrap(),
        version: Version(n),
        hash: Digest::of(&body),
        actor: "somebody",
        meta: meta.as_object().unwrap().clone(),
        body: op.carries_content().then_some(body.as_slice()),
    });
}

/// What a record says, but for its place in the chain.
fn said(journal: &Journal) -> Vec<(Op, u64, String, String, bool)> {
    let lines = journal.reader().lines(Seq(1)).unwrap();
    lines
        .map(|line| {
            let Line { record, body, .. } = line.unwrap();
            let meta = serde_json::to_string(&record.meta).unwrap();
            (record.op, record.version.0, record.actor, meta, body.is_some())
        })
        .collect()
}

#[test]
fn recovered_records_say_what_they_said() {
    use serde_json::json;
    let disk = FaultyDisk::new();
    let mut journal =
        Journal::open(Arc::new(disk.clone()), &dir(), JournalOptions::default()).unwrap().0;
    fill(&mut journal, 1..=1, 1);
    // An operation whose second record is damaged, one that is whole, and records of every kind.
    stage_op(&mut journal, Op::Merge, 2, json!({"more": 2, "sources": ["x"]}));
    stage_op(&mut journal, Op::Delete, 3, json!({"more": 1}));
    stage_op(&mut journal, Op::Delete, 4, json!({}));
    journal.commit().unwrap();
    stage_op(&mut journal, Op::Use, 5, json!({"counters": {"reuse": 7}}));
    stage_op(&mut journal, Op::Delete, 6, json!({"erase": true}));
    journal.commit().unwrap();
    stage_op(&mut journal, Op::Merge, 7, json!({"more": 1}));
    stage_op(&mut journal, Op::Delete, 8, json!({}));
    journal.commit().unwrap();
    let mut expected = said(&journal);
    drop(journal);
    let bytes = disk.read(&path("journal.ndjson")).unwrap();
    let needle = b"\"version\":3,";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    flip(&disk, "journal.ndjson", at as u64);

    let (mut journal, _) = open(&disk);
    let recovered = journal.recover().unwrap().unwrap();
    let counts = (recovered.last_sound, recovered.salvaged, recovered.last_seen);
    assert_eq!(counts, (Seq(2), 5, Seq(8)));
    let lost = expected.remove(2);
    assert_eq!(lost.1, 3);
    expected[1].3 = "{\"sources\":[\"x\"]}".to_owned();
    assert_eq!(said(&journal), expected);
    assert_sound(&journal);
    drop(journal);
    let journal = open_clean(&disk.crash());
    assert_eq!(said(&journal), expected);
}

#[test]
fn what_is_left_of_an_operation_at_the_end_is_not_cut_after_a_recovery() {
    use serde_json::json;
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    fill(&mut journal, 1..=1, 1);
    stage_op(&mut journal, Op::Merge, 2, json!({"more": 1}));
    stage_op(&mut journal, Op::Delete, 3, json!({}));
    journal.commit().unwrap();
    stage_op(&mut journal, Op::Use, 4, json!({}));
    journal.commit().unwrap();
    drop(journal);
    let bytes = disk.read(&path("journal.ndjson")).unwrap();
    for version in ["\"version\":3,", "\"version\":4,"] {
        let at = bytes.windows(version.len()).position(|window| window == version.as_bytes());
        flip(&disk, "journal.ndjson", at.unwrap() as u64);
    }
    // As if a later commit had begun, so that it is no torn tail.
    let file = disk.open(&path("journal.ndjson"), OpenMode::ReadWrite).unwrap();
    let line = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap();
    file.write_all_at(bytes.len() as u64, line).unwrap();
    drop(file);
    let (mut journal, _) = open(&disk);
    let recovered = journal.recover().unwrap().unwrap();
    assert_eq!((recovered.salvaged, items(&journal)), (0, vec![1, 2]), "the copy is not taken");
    drop(journal);
    assert_eq!(items(&open_clean(&disk.crash())), [1, 2]);
}

#[test]
fn a_recovery_is_done_whole_or_not_at_all_whatever_stops_it() {
    let damaged = || {
        let disk = FaultyDisk::new();
        let mut journal = open_clean(&disk);
        fill(&mut journal, 1..=4, 1);
        drop(journal);
        let bytes = disk.read(&path("journal.ndjson")).unwrap();
        let at = bytes.windows(8).position(|window| window == b"number 2").unwrap();
        flip(&disk, "journal.ndjson", at as u64);
        disk.crash_at_random(1)
    };
    let disk = damaged();
    let file = disk.open(&path("journal.ndjson"), OpenMode::ReadWrite).unwrap();
    file.sync().unwrap();
    let (mut journal, _) = open(&disk);
    let before = disk.counts();
    journal.recover().unwrap().unwrap();
    let after = disk.counts();
    for (operation, count) in [
        (Operation::Write, after.writes - before.writes),
        (Operation::Sync, after.syncs - before.syncs),
        (Operation::Rename, after.renames - before.renames),
        (Operation::Create, after.creates - before.creates),
        (Operation::Read, after.reads - before.reads),
    ] {
        assert!(count > 0);
        for nth in 1..=count {
            for failure in [Failure::Io, Failure::NoSpace, Failure::Freeze] {
                let what = format!("{operation:?} {nth} {failure:?}");
                let disk = damaged();
                let (mut journal, _) = open(&disk);
                disk.plan(Fault::new(operation, failure).nth(nth));
                let done = journal.recover();
                let disk =
                    if failure == Failure::Freeze { disk.crash_at_random(nth) } else { disk };
                if failure == Failure::Freeze || done.is_err() {
                    drop(journal);
                    journal = open(&disk).0;
                }
                if journal.damage().is_some() {
                    let again = journal.recover().unwrap().unwrap();
                    assert_eq!(again.salvaged, 2, "{what}");
                }
                assert_eq!(items(&journal), [1, 3, 4], "{what}");
                assert_sound(&journal);
                drop(journal);
                assert_eq!(items(&open(&disk.crash()).0), [1, 3, 4], "{what}");
            }
        }
    }
}

#[test]
fn a_tail_that_is_cut_with_readable_records_in_it_is_kept_in_a_file() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    fill(&mut journal, 1..=4, 4);
    drop(journal);
    let bytes = disk.read(&path("journal.ndjson")).unwrap();
    let at = bytes.windows(8).position(|window| window == b"number 2").unwrap();
    flip(&disk, "journal.ndjson", at as u64);
    let bytes = disk.read(&path("journal.ndjson")).unwrap();
    let (journal, notes) = open(&disk);
    assert_eq!(items(&journal), [1]);
    let name = "journal/00000000000000000001.cut-1";
    assert!(notes.len() == 1 && notes[0].contains(name), "{notes:?}");
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let disk = disk.crash();
    assert_eq!(disk.read(&path(name)).unwrap(), bytes[first + 1..]);
    assert_eq!(items(&open_clean(&disk)), [1]);
}

#[test]
fn a_sound_record_that_does_not_chain_is_damage_even_at_the_end() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    fill(&mut journal, 1..=3, 1);
    drop(journal);
    // The file of another journal in place of ours.
    let other = FaultyDisk::new();
    let mut foreign = open_clean(&other);
    fill(&mut foreign, 1..=5, 1);
    foreign.seal().unwrap();
    fill(&mut foreign, 6..=6, 1);
    let bytes = other.read(&path("journal.ndjson")).unwrap();
    disk.durable_write(&path("journal.ndjson"), &bytes).unwrap();
    let (journal, _) = open(&disk);
    assert!(journal.damage().is_some());
}

#[test]
fn a_changed_head_before_the_last_record_is_damage_and_is_reported() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    fill(&mut journal, 1..=2, 2);
    drop(journal);
    let line = disk.read(&path("journal.ndjson")).unwrap();
    let actor = line.windows(6).position(|window| window == b"tester").unwrap();
    flip(&disk, "journal.ndjson", actor as u64);
    let (mut journal, _) = open(&disk);
    assert_eq!(journal.damage().unwrap().last_sound, Seq(0));
    let result = verify(&journal);
    assert!(!result.valid && result.integrity_score.unwrap() < 1.0, "{result:?}");
    let recovered = journal.recover().unwrap().unwrap();
    assert_eq!((recovered.last_sound, items(&journal)), (Seq(1), vec![1, 2]));
    assert_sound(&journal);
}

#[test]
fn damaged_checkpoints_are_derived_again_and_reported_until_looked_at() {
    for remove in [false, true] {
        let disk = FaultyDisk::new();
        drop(journal_of_twelve(&disk));
        if remove {
            disk.remove_file(&path("checkpoints.ndjson")).unwrap();
        } else {
            flip(&disk, "checkpoints.ndjson", 30);
        }
        let (mut journal, notes) = open(&disk);
        assert!(notes.len() >= 3, "{notes:?}");
        assert_eq!(items(&journal), (1..=12).collect::<Vec<_>>());
        fill(&mut journal, 13..=13, 1);
        drop(journal);

        let journal = open_clean(&disk);
        let result = verify(&journal);
        assert_eq!(result.corrupted_items.len(), 1, "{result:?}");
        let aside = &result.corrupted_items[0].file;
        assert_eq!(aside, "journal/checkpoints.damaged-1");
        disk.remove_file(&path(aside)).unwrap();
        assert_sound(&journal);
    }
}

#[test]
fn a_damaged_checkpoint_never_stops_writes() {
    let whole = FaultyDisk::new();
    drop(journal_of_twelve(&whole));
    let checkpoints = whole.read(&path("checkpoints.ndjson")).unwrap();
    let lines = checkpoints.split_inclusive(|byte| *byte == b'\n').count();
    let (mut derived, mut looked) = (0, 0);
    for offset in (0..checkpoints.len() as u64).step_by(3) {
        looked += 1;
        let disk = whole.crash_at_random(0);
        flip(&disk, "checkpoints.ndjson", offset);
        let (mut journal, notes) = open(&disk);
        derived += usize::from(!notes.is_empty());
        assert_eq!(journal.damage(), None, "byte {offset}: {notes:?}");
        assert_eq!(items(&journal), (1..=12).collect::<Vec<_>>(), "byte {offset}: {notes:?}");
        fill(&mut journal, 13..=13, 1);
        if !notes.is_empty() {
            assert!(!verify(&journal).valid, "byte {offset}");
        }
    }
    // Only the last line has values that nothing else vouches for.
    assert!(derived * lines > looked * (lines - 1), "{derived} of {looked}");
}

/// Whatever is served is what was written, but for the head of the last record, which only the
/// views vouch for.
fn assert_serves_what_was_written(journal: &Journal, changed: &str) {
    let mut last = 0;
    for line in journal.reader().lines(Seq(1)).unwrap() {
        let Ok(line) = line else { break };
        last += 1;
        assert_eq!(line.record.seq, Seq(last));
        let unvouched = line.record.seq == journal.head().seq && changed == "journal.ndjson";
        let n = if unvouched { last } else { item_of(&line.record) };
        let Some((_, served)) = line.body else {
            assert!(line.damaged.is_some() && changed != "journal.ndjson", "{line:?}");
            continue;
        };
        assert_eq!((n, served), (last, body(last)));
    }
}

#[test]
fn a_changed_byte_is_never_served() {
    let whole = FaultyDisk::new();
    drop(journal_of_twelve(&whole));
    let mut names = sealed_files(&whole);
    names.push("journal.ndjson".to_owned());
    let read = |name: String| (whole.read(&path(&name)).unwrap(), name);
    let files: Vec<_> = names.into_iter().map(read).collect();
    for (bytes, name) in files {
        for at in 0..bytes.len() {
            for value in [bytes[at] ^ 1, b' '] {
                let disk = whole.crash_at_random(0);
                let mut bytes = bytes.clone();
                bytes[at] = value;
                disk.durable_write(&path(&name), &bytes).unwrap();
                assert_serves_what_was_written(&open(&disk).0, &name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happens to the bytes, opening does not fail, and what is served is what was
    /// written.
    #[test]
    fn random_damage_never_turns_into_wrong_answers(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        garbage in proptest::collection::vec(any::<u8>(), 1..40),
        insert in any::<bool>(),
    ) {
        let disk = FaultyDisk::new();
        drop(journal_of_twelve(&disk));
        let mut names = sealed_files(&disk);
        names.extend(["journal.ndjson".to_owned(), "checkpoints.ndjson".to_owned()]);
        let name = which.get(&names);
        let mut bytes = disk.read(&path(name)).unwrap();
        let at = at.index(bytes.len());
        let end = if insert { at } else { (at + garbage.len()).min(bytes.len()) };
        bytes.splice(at..end, garbage);
        disk.durable_write(&path(name), &bytes).unwrap();

        let (journal, _) = open(&disk);
        assert_serves_what_was_written(&journal, name);
        verify(&journal);
    }
}
