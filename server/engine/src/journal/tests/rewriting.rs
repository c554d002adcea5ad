//! Dropping bodies from sealed segments.

use std::collections::BTreeMap;

use llm_memory_disk::faulty::{Failure, Fault, Operation};

use super::*;

/// Nine items in segments of three, and one item after them.
fn three_segments(disk: &FaultyDisk) -> (Journal, Vec<Location>) {
    let (mut journal, _) =
        Journal::open(Arc::new(disk.clone()), &dir(), JournalOptions::default()).unwrap();
    let mut locations = Vec::new();
    for n in 1..=10 {
        locations.push(stage(&mut journal, n).body.unwrap());
        journal.commit().unwrap();
        if n % 3 == 0 {
            journal.seal().unwrap();
        }
    }
    (journal, locations)
}

#[test]
fn dropped_bodies_are_found_outside_and_the_chain_holds() {
    let disk = FaultyDisk::new();
    let (mut journal, locations) = three_segments(&disk);
    let reader = journal.reader();
    let proof = reader.prove(Seq(5)).unwrap();
    let replaced = journal.replace_segment(Seq(4), &mut |record| record.seq == Seq(6)).unwrap();
    assert_eq!(replaced.generation, 1);
    assert_eq!(replaced.dropped, [Digest::of(&body(4)), Digest::of(&body(5))]);
    assert!(replaced.after < replaced.before);
    let [(hash, kept)] = replaced.moved[..] else { panic!("{replaced:?}") };
    assert_eq!(hash, Digest::of(&body(6)));
    assert_eq!(reader.body(kept).unwrap(), body(6));

    // Whoever still has an old location can read it until the old generation is retired.
    assert_eq!(reader.body(locations[4]).unwrap(), body(5));
    assert_eq!(reader.superseded(), [(Seq(4), 0)]);
    assert!(journal.retire_generation(Seq(4), 1).is_err());
    journal.retire_generation(Seq(4), 0).unwrap();
    journal.retire_generation(Seq(4), 0).unwrap();
    assert!(matches!(
        reader.body(locations[4]),
        Err(JournalError::Retired { segment: Seq(4), generation: 0 })
    ));
    assert_eq!(reader.superseded(), []);

    let outside: BTreeMap<Digest, Vec<u8>> =
        [4, 5].into_iter().map(|n| (Digest::of(&body(n)), body(n))).collect();
    let fetch = |record: &Record| match outside.get(&record.hash) {
        Some(bytes) => BodyState::Stored(bytes.clone()),
        None => BodyState::Missing,
    };
    let result = reader.verify(&fetch, &NoProgress).unwrap();
    assert!(result.valid, "{:?}", result.corrupted_items);
    assert_eq!((result.checked_bodies, result.checkpoints), (10, 3));
    let erased = |_: &Record| BodyState::Erased;
    let result = reader.verify(&erased, &NoProgress).unwrap();
    assert!(result.valid);
    assert_eq!((result.checked_bodies, result.erased_bodies), (8, 2));
    let wrong = |_: &Record| BodyState::Stored(b"{}".to_vec());
    let result = reader.verify(&wrong, &NoProgress).unwrap();
    assert_eq!(result.corrupted_items.len(), 2);
    assert_eq!(verify(&journal).corrupted_items.len(), 2);
    assert!((result.integrity_score.unwrap() - 0.8).abs() < 1e-9);

    // Proofs made before hold, and those made now are the same.
    assert_eq!(reader.prove(Seq(5)).unwrap(), proof);
    verify_proof(&proof, Some(&body(5))).unwrap();

    let stats = reader.stats().unwrap();
    assert_eq!((stats.legacy.entries, stats.optimized.entries), (8, 2));
    drop(journal);
    let journal = open_clean(&disk.crash());
    assert_eq!(journal.reader().stats().unwrap(), stats);
    assert_eq!(items(&journal), (1..=10).collect::<Vec<_>>());
    assert_eq!(journal.reader().body(kept).unwrap(), body(6));
}

#[test]
fn both_generations_stay_readable_over_a_restart() {
    let disk = FaultyDisk::new();
    let (mut journal, locations) = three_segments(&disk);
    let replaced = journal.replace_segment(Seq(1), &mut |_| true).unwrap();
    drop(journal);
    let disk = disk.crash();
    let (mut journal, notes) = open(&disk);
    assert_eq!(notes.len(), 1, "{notes:?}");
    let reader = journal.reader();
    assert_eq!(reader.superseded(), [(Seq(1), 0)]);
    assert_eq!(reader.body(locations[0]).unwrap(), body(1));
    assert_eq!(reader.body(replaced.moved[0].1).unwrap(), body(1));
    journal.retire_generation(Seq(1), 0).unwrap();
    drop(journal);
    assert_sound(&open_clean(&disk.crash()));
}

#[test]
fn damage_is_not_laundered_by_a_rewrite() {
    let disk = FaultyDisk::new();
    let (mut journal, locations) = three_segments(&disk);
    flip(&disk, "journal/00000000000000000004.0.ndjson", locations[4].offset + 9);
    let error = journal.replace_segment(Seq(4), &mut |_| false).unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    assert_eq!(sealed_files(&disk).len(), 3);
    assert_eq!(verify(&journal).corrupted_items.len(), 1);
}

#[test]
fn bodies_known_to_be_damaged_go_or_are_carried_over_as_they_are() {
    let disk = FaultyDisk::new();
    let (mut journal, locations) = three_segments(&disk);
    let reader = journal.reader();
    flip(&disk, "journal/00000000000000000004.0.ndjson", locations[3].offset + 9);
    flip(&disk, "journal/00000000000000000004.0.ndjson", locations[4].offset + 9);
    let bytes = reader.body(locations[4]).unwrap();
    // Not all damage is known.
    let partly = reader.rewrite_past(Seq(4), &[Seq(4)].into(), &mut |_| true);
    assert!(matches!(partly, Err(JournalError::Corrupt { .. })));
    let known = [Seq(4), Seq(5)].into();
    let rewrite = reader.rewrite_past(Seq(4), &known, &mut |record| record.seq == Seq(5)).unwrap();
    let replaced = journal.install(rewrite).unwrap();
    journal.retire_generation(Seq(4), 0).unwrap();
    let [(hash, at)] = replaced.moved[..] else { panic!("{replaced:?}") };
    assert_eq!((hash, reader.body(at).unwrap()), (Digest::of(&body(5)), bytes));
    let result = reader.verify(&|_| BodyState::Erased, &NoProgress).unwrap();
    assert_eq!(result.corrupted_items.len(), 1, "{result:?}");
    assert_eq!((result.corrupted_items[0].seq, result.checkpoints), (Some(Seq(5)), 2));
}

#[test]
fn a_failed_rewrite_changes_nothing_and_can_be_repeated() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = three_segments(&disk);
    let before = disk.counts();
    journal.replace_segment(Seq(1), &mut |_| false).unwrap();
    let after = disk.counts();
    for (operation, count) in [
        (Operation::Write, after.writes - before.writes),
        (Operation::Sync, after.syncs - before.syncs),
        (Operation::Rename, after.renames - before.renames),
        (Operation::Create, after.creates - before.creates),
        (Operation::Read, after.reads - before.reads),
    ] {
        for nth in 1..=count {
            let what = format!("{operation:?} {nth}");
            let disk = FaultyDisk::new();
            let (mut journal, locations) = three_segments(&disk);
            disk.plan(Fault::new(operation, Failure::Io).nth(nth));
            let replaced = journal.replace_segment(Seq(1), &mut |_| true);
            disk.heal();
            assert_eq!(items(&journal), (1..=10).collect::<Vec<_>>(), "{what}");
            assert_eq!(journal.reader().body(locations[0]).unwrap(), body(1), "{what}");
            let again = match replaced {
                Ok(replaced) => replaced,
                Err(_) => journal
                    .replace_segment(Seq(1), &mut |_| true)
                    .unwrap_or_else(|error| panic!("{what}: {error}")),
            };
            journal.retire_generation(Seq(1), again.generation - 1).unwrap();
            fill(&mut journal, 11..=11, 1);
            assert_sound(&journal);
            let (journal, _) = open(&disk.crash());
            assert_eq!(items(&journal), (1..=11).collect::<Vec<_>>(), "{what}");
            assert_eq!(journal.reader().stats().unwrap().legacy.entries, 11);
        }
    }
}

#[test]
fn a_rewrite_made_before_another_one_is_refused() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = three_segments(&disk);
    let late = journal.reader().rewrite(Seq(1), &mut |_| true).unwrap();
    let replaced = journal.replace_segment(Seq(4), &mut |_| false).unwrap();
    assert_eq!(replaced.generation, 1);
    assert_eq!(journal.install(late).unwrap().generation, 1);
    let late = journal.reader().rewrite(Seq(1), &mut |_| true).unwrap();
    let _ = journal.replace_segment(Seq(1), &mut |_| true);
    assert!(matches!(journal.install(late), Err(JournalError::Misuse(_))));
    assert_eq!(items(&journal), (1..=10).collect::<Vec<_>>());
}

#[test]
fn only_sealed_segments_are_rewritten() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = three_segments(&disk);
    for segment in [Seq(10), Seq(2), Seq(99)] {
        let error = journal.replace_segment(segment, &mut |_| true).unwrap_err();
        assert!(matches!(error, JournalError::Misuse(_)), "{error}");
    }
}
