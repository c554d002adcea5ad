//! A disk that refuses: nothing acknowledged is lost, nothing refused comes back, reads go on.

use llm_memory_disk::faulty::{Failure, Fault, Operation};

use super::*;

fn three(disk: &FaultyDisk) -> Journal {
    let mut journal = open_clean(disk);
    fill(&mut journal, 1..=3, 1);
    journal
}

#[test]
fn a_full_disk_refuses_the_commit_and_takes_the_next_when_there_is_space() {
    let disk = FaultyDisk::new();
    let mut journal = three(&disk);
    let head = journal.head();
    disk.set_capacity(Some(disk.used()));
    for n in 10..30 {
        stage(&mut journal, n);
    }
    let error = journal.commit().unwrap_err();
    assert!(matches!(error, JournalError::NoSpace(_)), "{error}");
    assert_eq!((journal.head(), journal.staged()), (head, 0));
    assert_eq!(items(&journal), [1, 2, 3]);
    assert_sound(&journal);
    assert_eq!(items(&open_clean(&disk.crash())), [1, 2, 3]);

    let disk = FaultyDisk::new();
    let mut journal = three(&disk);
    disk.set_capacity(Some(disk.used()));
    for n in 10..30 {
        stage(&mut journal, n);
    }
    journal.commit().unwrap_err();
    disk.set_capacity(None);
    fill(&mut journal, 4..=6, 3);
    drop(journal);
    assert_eq!(items(&open_clean(&disk.crash())), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_short_write_is_cut_off_before_anything_else_is_written() {
    for written in [0, 1, 100, 300, 500] {
        let disk = FaultyDisk::new();
        let mut journal = three(&disk);
        stage(&mut journal, 10);
        stage(&mut journal, 11);
        disk.plan(Fault::new(Operation::Write, Failure::ShortWrite(written)));
        assert!(matches!(journal.commit(), Err(JournalError::NoSpace(_))));
        // Even if the power goes now, what was refused does not come back.
        let file = disk.read(&path("journal.ndjson")).unwrap();
        assert_eq!(file.len() as u64, journal.reader().segments().last().unwrap().bytes);
        fill(&mut journal, 4..=4, 1);
        assert_eq!(items(&journal), [1, 2, 3, 4], "{written}");
        assert_eq!(items(&open_clean(&disk.crash())), [1, 2, 3, 4], "{written}");
    }
}

#[test]
fn after_a_failed_sync_the_journal_moves_to_a_fresh_file() {
    for failure in [Failure::Io, Failure::DropPages, Failure::NoSpace] {
        for records in [1, 30] {
            let disk = FaultyDisk::new();
            let mut journal = three(&disk);
            let head = journal.head();
            let at = stage(&mut journal, 9).body.unwrap();
            for n in 10..9 + records {
                stage(&mut journal, n);
            }
            disk.plan(Fault::new(Operation::Sync, failure));
            journal.commit().unwrap_err();
            assert_eq!(journal.head(), head);
            assert_eq!(items(&journal), [1, 2, 3]);
            // The place of a refused record goes to the next one.
            let staged = stage(&mut journal, 4);
            assert_eq!((staged.seq, staged.body), (Seq(4), Some(at)));
            journal.commit().unwrap();
            assert_eq!(items(&journal), [1, 2, 3, 4]);
            assert_eq!(journal.reader().body(staged.body.unwrap()).unwrap(), body(4));
            assert_sound(&journal);
            for seed in 0..8 {
                let journal = open_clean(&disk.crash_at_random(seed));
                assert_eq!(items(&journal), [1, 2, 3, 4], "{failure:?}, seed {seed}");
            }
        }
    }
}

/// What the next process finds after a sync has failed in this one, and keeps through power loss.
#[test]
fn a_process_that_starts_after_a_failed_sync_builds_on_nothing_that_is_not_durable() {
    for failure in [Failure::Io, Failure::DropPages, Failure::NoSpace] {
        // The repair at once may fail as well.
        for lasting in [false, true] {
            for records in [1, 5] {
                let disk = FaultyDisk::new();
                let mut journal = three(&disk);
                let fault = Fault::new(Operation::Sync, failure);
                disk.plan(if lasting { fault.lasting() } else { fault });
                for n in 4..4 + records {
                    stage(&mut journal, n);
                }
                journal.commit().unwrap_err();
                drop(journal);
                disk.heal();
                let (mut journal, _) = open(&disk);
                let mut found = items(&journal);
                let refused: Vec<u64> = (1..4 + records).collect();
                assert!(found == [1, 2, 3] || (lasting && found == refused), "{found:?}");
                fill(&mut journal, 99..=99, 1);
                found.push(99);
                drop(journal);
                for seed in 0..4 {
                    let what = format!("{failure:?}, lasting {lasting}, seed {seed}");
                    assert_eq!(items(&open_clean(&disk.crash_at_random(seed))), found, "{what}");
                }
            }
        }
    }
}

#[test]
fn names_that_the_last_process_could_not_sync_are_synced_by_the_next() {
    for nth in 1..6 {
        let disk = FaultyDisk::new();
        disk.create_dir_all(&dir()).unwrap();
        disk.plan(Fault::new(Operation::Sync, Failure::Io).nth(nth));
        let opened = Journal::open(Arc::new(disk.clone()), &dir(), small()).is_ok();
        disk.heal();
        let (mut journal, _) = open(&disk);
        fill(&mut journal, 1..=3, 1);
        disk.plan(Fault::new(Operation::Sync, Failure::Io).nth(nth));
        let _ = journal.seal();
        drop(journal);
        disk.heal();
        let (mut journal, _) = open(&disk);
        fill(&mut journal, 4..=4, 1);
        drop(journal);
        let found = items(&open(&disk.crash()).0);
        assert_eq!(found, [1, 2, 3, 4], "sync {nth}, opened at first: {opened}");
    }
}

#[test]
fn writes_are_refused_and_reads_served_while_syncs_go_on_failing() {
    let disk = FaultyDisk::new();
    let mut journal = three(&disk);
    disk.plan(Fault::new(Operation::Sync, Failure::Io).lasting());
    stage(&mut journal, 10);
    assert!(matches!(journal.commit(), Err(JournalError::Disk(_))));
    for _ in 0..3 {
        stage(&mut journal, 10);
        let error = journal.commit().unwrap_err();
        assert!(matches!(error, JournalError::Poisoned { .. }), "{error}");
        assert!(journal.seal().is_err());
        assert_eq!(items(&journal), [1, 2, 3]);
    }
    disk.heal();
    fill(&mut journal, 4..=4, 1);
    assert_eq!(items(&open_clean(&disk.crash())), [1, 2, 3, 4]);
}

#[test]
fn a_cut_that_fails_too_is_repaired_by_the_next_commit() {
    let disk = FaultyDisk::new();
    let mut journal = three(&disk);
    stage(&mut journal, 10);
    disk.plan(Fault::new(Operation::Write, Failure::ShortWrite(200)));
    disk.plan(Fault::new(Operation::Sync, Failure::Io));
    journal.commit().unwrap_err();
    fill(&mut journal, 4..=4, 1);
    assert_eq!(items(&journal), [1, 2, 3, 4]);
    assert_eq!(items(&open_clean(&disk.crash())), [1, 2, 3, 4]);
}

#[test]
fn a_seal_that_fails_at_any_step_is_completed_later() {
    // How many operations of each kind a seal makes.
    let counts = |disk: &FaultyDisk| {
        let counts = disk.counts();
        [
            (Operation::Rename, counts.renames),
            (Operation::Sync, counts.syncs),
            (Operation::Create, counts.creates),
            (Operation::Write, counts.writes),
        ]
    };
    let disk = FaultyDisk::new();
    let mut journal = three(&disk);
    let before = counts(&disk);
    journal.seal().unwrap().unwrap();
    let after = counts(&disk);
    let mut steps = 0;
    for ((operation, before), (_, after)) in before.into_iter().zip(after) {
        for nth in 1..=after - before {
            for failure in [Failure::Io, Failure::NoSpace] {
                let what = format!("{operation:?} {nth} {failure:?}");
                let disk = FaultyDisk::new();
                let mut journal = three(&disk);
                let reader = journal.reader();
                disk.plan(Fault::new(operation, failure).nth(nth));
                // Sometimes the seal repairs itself at once; then there is no error.
                let _ = journal.seal();
                disk.heal();
                assert_eq!(items(&journal), [1, 2, 3], "{what}");
                let staged = stage(&mut journal, 4);
                journal.commit().unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(reader.body(staged.body.unwrap()).unwrap(), body(4), "{what}");
                assert_eq!(items(&journal), [1, 2, 3, 4], "{what}");
                assert_sound(&journal);
                assert_eq!(items(&open_clean(&disk.crash())), [1, 2, 3, 4], "{what}");
                steps += 1;
            }
        }
    }
    assert!(steps >= 10, "{steps}");
}

#[test]
fn a_segment_that_cannot_be_sealed_grows() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    disk.plan(Fault::new(Operation::Rename, Failure::Io).lasting());
    fill(&mut journal, 1..=30, 1);
    assert_eq!(journal.reader().segments().len(), 1);
    disk.heal();
    fill(&mut journal, 31..=31, 1);
    assert_eq!(journal.reader().segments().len(), 2);
    assert_eq!(items(&journal), (1..=31).collect::<Vec<_>>());
    assert_sound(&journal);
}

#[test]
fn sealing_needs_a_clean_stage() {
    let disk = FaultyDisk::new();
    let mut journal = open_clean(&disk);
    assert_eq!(journal.seal().unwrap(), None);
    stage(&mut journal, 1);
    assert!(matches!(journal.seal(), Err(JournalError::Misuse(_))));
    journal.commit().unwrap();
    assert_eq!(items(&journal), [1]);
}
