//! Power loss at every point: everything acknowledged is there, and nothing that was never
//! written.

use llm_memory_disk::faulty::{Failure, Fault, Operation};
use proptest::prelude::*;

use super::*;

/// What a run did before the power went.
#[derive(Debug, Default)]
struct Run {
    /// Items acknowledged, in order.
    acknowledged: Vec<u64>,
    /// Items of the commit that failed, in order.
    in_flight: Vec<u64>,
    finished: bool,
}

/// Commits of one to four records over several segments, with a rewrite in between. Stops at the
/// first error.
fn run(disk: &FaultyDisk) -> Run {
    let mut run = Run::default();
    let outcome = (|| -> Result<()> {
        let (mut journal, _) = Journal::open(Arc::new(disk.clone()), &dir(), small())?;
        let mut next = 1;
        for round in 0..12_u64 {
            let batch: Vec<u64> = (next..=next + round % 4).collect();
            next += batch.len() as u64;
            for n in &batch {
                stage(&mut journal, *n);
            }
            run.in_flight.clone_from(&batch);
            journal.commit()?;
            run.acknowledged.extend(batch);
            run.in_flight.clear();
            if round == 7 {
                let replaced = journal.replace_segment(Seq(1), &mut |_| true)?;
                journal.retire_generation(Seq(1), replaced.generation - 1)?;
            }
        }
        Ok(())
    })();
    run.finished = outcome.is_ok();
    run
}

fn check_after_crash(disk: &FaultyDisk, run: &Run, what: &str) {
    let (mut journal, notes) = Journal::open(Arc::new(disk.clone()), &dir(), small())
        .unwrap_or_else(|error| {
            panic!("{what}: {error}");
        });
    assert_eq!(journal.damage(), None, "{what}: {notes:?}");
    let found = items(&journal);
    let acknowledged = run.acknowledged.len();
    assert!(found.len() >= acknowledged, "{what}: {found:?} of {run:?}, {notes:?}");
    assert_eq!(found[..acknowledged], run.acknowledged, "{what}");
    let more = &found[acknowledged..];
    assert_eq!(more, &run.in_flight[..more.len()], "{what}");
    // Life goes on, and survives a restart.
    for n in 1000..1003 {
        stage(&mut journal, n);
    }
    journal.commit().unwrap();
    assert_sound(&journal);
    for (segment, generation) in journal.reader().superseded() {
        journal.retire_generation(segment, generation).unwrap();
    }
    let head = journal.head();
    drop(journal);
    let journal = open_clean(disk);
    assert_eq!(journal.head(), head, "{what}");
    assert_sound(&journal);
}

#[test]
fn everything_acknowledged_survives_power_loss_at_every_operation() {
    let whole = FaultyDisk::new();
    assert!(run(&whole).finished);
    let counts = whole.counts();
    let mut points = 0;
    for (operation, count) in [
        (Operation::Sync, counts.syncs),
        (Operation::Write, counts.writes),
        (Operation::Rename, counts.renames),
        (Operation::Create, counts.creates),
        (Operation::Remove, counts.removes),
        (Operation::Read, counts.reads),
    ] {
        for nth in 1..=count {
            let disk = FaultyDisk::new();
            disk.plan(Fault::new(operation, Failure::Freeze).nth(nth));
            let run = run(&disk);
            let what = format!("{operation:?} {nth} of {count}");
            assert!(!run.finished, "{what}");
            check_after_crash(&disk.crash(), &run, &what);
            for seed in 0..4 {
                let what = format!("{what}, seed {seed}");
                check_after_crash(&disk.crash_at_random(seed), &run, &what);
            }
            points += 1;
        }
    }
    assert!(points > 80, "{points}");
}

#[test]
fn a_torn_commit_is_cut_wherever_its_lost_sectors_are() {
    // Eight records of one commit, larger than a sector each, none of it synced.
    let long = |n: u64| {
        let text = format!("{n}").repeat(700);
        format!("{{\"text\":\"{text}\"}}").into_bytes()
    };
    for seed in 0..200 {
        let disk = FaultyDisk::new();
        let mut journal = open_clean(&disk);
        fill(&mut journal, 1..=2, 1);
        for n in 3..=6 {
            let body = long(n);
            journal.stage(&Draft {
                ts: Timestamp::default(),
                op: Op::Upsert,
                id: &ItemId::new(format!("item-{n}")).unwrap(),
                version: Version(1),
                hash: Digest::of(&body),
                actor: "tester",
                meta: Map::new(),
                body: Some(&body),
            });
        }
        disk.plan(Fault::new(Operation::Sync, Failure::Freeze));
        journal.commit().unwrap_err();
        let disk = disk.crash_at_random(seed);
        let (mut journal, notes) = open(&disk);
        assert_eq!(journal.damage(), None, "seed {seed}: {notes:?}");
        let found = items(&journal);
        assert!(found.len() >= 2 && found.len() <= 6, "seed {seed}: {found:?}");
        assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>());
        fill(&mut journal, 50..=50, 1);
        assert_sound(&journal);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn truncation_anywhere_leaves_the_whole_lines_before_it(cut in 0_usize..1500, batch in 1_usize..5) {
        let disk = FaultyDisk::new();
        let mut journal = open_clean(&disk);
        fill(&mut journal, 1..=4, batch);
        let file = disk.open(&path("journal.ndjson"), OpenMode::ReadWrite).unwrap();
        drop(journal);
        let bytes = disk.read(&path("journal.ndjson")).unwrap();
        let cut = cut % bytes.len();
        file.set_len(cut as u64).unwrap();
        let whole = bytes[..cut].split(|byte| *byte == b'\n').count() as u64 - 1;
        let (mut journal, notes) = open(&disk);
        let at_line_end = cut == 0 || bytes[cut - 1] == b'\n';
        prop_assert_eq!(notes.is_empty(), at_line_end, "{:?}", notes);
        prop_assert_eq!(items(&journal), (1..=whole).collect::<Vec<_>>());
        fill(&mut journal, 9..=9, 1);
        assert_sound(&journal);
    }
}

#[test]
fn one_file_under_two_names_after_a_crash_loses_the_old_name_only() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    fill(&mut journal, 1..=3, 1);
    drop(journal);
    // What a crash between the syncs of the two folders leaves.
    let bytes = disk.read(&path("journal.ndjson")).unwrap();
    disk.durable_write(&path("journal/00000000000000000001.0.ndjson"), &bytes).unwrap();
    let (mut journal, notes) = open(&disk);
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert_eq!(items(&journal), [1, 2, 3]);
    fill(&mut journal, 4..=4, 1);
    assert_sound(&journal);
    drop(journal);
    assert_eq!(items(&open_clean(&disk)), [1, 2, 3, 4]);
}

#[test]
fn unfinished_files_are_removed_and_named() {
    let disk = FaultyDisk::new();
    fill(&mut open_clean(&disk), 1..=3, 1);
    for name in [
        "journal/00000000000000000001.1.ndjson.partial",
        "journal.ndjson.partial",
        ".checkpoints.ndjson.7.tmp",
    ] {
        disk.durable_write(&path(name), b"half").unwrap();
        let (journal, notes) = open(&disk);
        assert_eq!(notes, [format!("removed {name}, which was not complete")]);
        assert!(!disk.exists(&path(name)).unwrap());
        assert_eq!(items(&journal), [1, 2, 3]);
    }
}

/// An operation of three records, after two others in the same commit.
fn operation_of_three(journal: &mut Journal) {
    for n in 1..=2 {
        stage(journal, n);
    }
    for (n, more) in [(3, 2), (4, 1), (5, 0)] {
        let body = body(n);
        let mut meta = Map::new();
        if more > 0 {
            meta.insert(MORE_META.to_owned(), more.into());
        }
        journal.stage(&Draft {
            ts: Timestamp::default(),
            op: Op::Upsert,
            id: &ItemId::new(format!("item-{n}")).unwrap(),
            version: Version(1),
            hash: Digest::of(&body),
            actor: "tester",
            meta,
            body: Some(&body),
        });
    }
    journal.commit().unwrap();
}

#[test]
fn an_operation_of_several_records_is_there_whole_or_not_at_all() {
    let whole = FaultyDisk::new();
    operation_of_three(&mut open_clean(&whole));
    let bytes = whole.read(&path("journal.ndjson")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for cut in 0..=bytes.len() {
        let disk = FaultyDisk::new();
        drop(open_clean(&disk));
        disk.durable_write(&path("journal.ndjson"), &bytes[..cut]).unwrap();
        let (mut journal, notes) = open(&disk);
        let found = items(&journal);
        assert!(!matches!(found.len(), 3 | 4), "cut at {cut}: {found:?}");
        assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>(), "cut at {cut}");
        #[expect(clippy::naive_bytecount, reason = "a few lines")]
        let lines = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
        let clean = bytes[..cut].last().is_none_or(|byte| *byte == b'\n');
        assert_eq!(notes.is_empty(), clean && matches!(lines, 0 | 1 | 2 | 5), "{notes:?}");
        seen.insert(found.len());
        stage(&mut journal, 9);
        journal.commit().unwrap();
        assert_sound(&journal);
        drop(journal);
        assert_sound(&open_clean(&disk));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 5]);
}
