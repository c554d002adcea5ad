//! What a folder of blocks keeps, whatever happens to it.

mod random;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use llm_memory_disk::faulty::{Failure, Fault, FaultyDisk, Operation};
use llm_memory_disk::{Disk, OpenMode, OsDisk};

use super::error::BlockError;
use super::rewrite::Rewritten;
use super::*;
use crate::ids::{Digest, ItemId};
use crate::progress::NoProgress;

const DIR: &str = "/store/blocks";
const CACHE_BYTES: u64 = 4 << 20;

type Bodies = BTreeMap<Digest, Vec<u8>>;

fn item(number: usize) -> ItemId {
    format!("item-{number:06}").parse().unwrap()
}

/// Text of item `number` in its version `version`: long enough to fill blocks, versions alike.
fn text(number: usize, version: usize) -> Vec<u8> {
    let mut text = format!("item {number}, version {version}: ").into_bytes();
    let mut state = number as u64;
    for _ in 0..400 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.extend_from_slice(format!("{:x} ", state >> 40).as_bytes());
    }
    text
}

fn cache(bytes: u64) -> Arc<FrameCache> {
    Arc::new(FrameCache::new(bytes))
}

fn open(disk: &FaultyDisk) -> (BlockStore, Vec<String>) {
    BlockStore::open(Arc::new(disk.clone()), Path::new(DIR), &cache(CACHE_BYTES), false).unwrap()
}

/// Writes one segment; returns what is in it.
fn write(store: &BlockStore, bodies: &[(usize, Vec<u8>)]) -> Result<Bodies, BlockError> {
    let mut writer = store.writer()?;
    let mut written = Bodies::new();
    for (number, body) in bodies {
        let digest = Digest::of(body);
        writer.add(&item(*number), digest, body)?;
        written.insert(digest, body.clone());
    }
    writer.finish()?;
    Ok(written)
}

fn texts(numbers: std::ops::Range<usize>) -> Vec<(usize, Vec<u8>)> {
    numbers.map(|number| (number, text(number, 1))).collect()
}

fn assert_holds(store: &BlockStore, bodies: &Bodies) {
    for (digest, body) in bodies {
        assert_eq!(store.read(digest).unwrap().as_ref(), Some(body), "{digest}");
        assert!(store.contains(digest).unwrap());
    }
}

fn assert_sound(store: &BlockStore) {
    assert_eq!(store.verify(&NoProgress).problems, Vec::<String>::new());
}

fn files(disk: &FaultyDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn flip(disk: &FaultyDisk, name: &str, position: usize, change: u8) {
    let path = Path::new(DIR).join(name);
    let byte = disk.read(&path).unwrap()[position] ^ change;
    let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
    file.write_all_at(position as u64, &[byte]).unwrap();
}

#[test]
fn bodies_come_back_from_a_real_disk_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("blocks");
    let open = || BlockStore::open(Arc::new(OsDisk), &dir, &cache(CACHE_BYTES), false).unwrap();
    let (store, notes) = open();
    assert!(notes.is_empty() && !dir.exists(), "opening writes nothing");
    let bodies = write(&store, &texts(0..300)).unwrap();
    assert_holds(&store, &bodies);
    drop(store);
    let (store, notes) = open();
    assert_eq!(notes, Vec::<String>::new());
    assert_holds(&store, &bodies);
    assert_sound(&store);
    assert_eq!(store.digests().collect::<HashSet<_>>(), bodies.keys().copied().collect());
    assert_eq!(store.read(&Digest::of(b"other")).unwrap(), None);
    let on_disk: u64 = OsDisk.list(&dir).unwrap().iter().map(|entry| entry.len).sum();
    assert_eq!(store.bytes(), on_disk);
}

#[test]
fn a_body_is_stored_once_and_only_under_its_own_hash() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let body = text(1, 1);
    let digest = Digest::of(&body);
    let mut writer = store.writer().unwrap();
    writer.add(&item(1), digest, &body).unwrap();
    writer.add(&item(2), digest, &body).unwrap();
    assert!(matches!(
        writer.add(&item(1), Digest::of(b"another"), &body),
        Err(BlockError::Corrupt { .. })
    ));
    writer.finish().unwrap();
    assert_eq!((store.digests().count(), store.body_bytes()), (1, body.len() as u64));
    assert_eq!(files(&disk), ["segment-00000001.blk", "segment-00000001.idx"]);
}

#[test]
fn versions_of_an_item_lie_together_and_cost_little() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let one_each: Vec<_> = texts(0..100);
    write(&store, &one_each).unwrap();
    let one_each_bytes = store.bytes();
    // Written round by round, as agents do.
    let later: Vec<_> =
        (2..10).flat_map(|version| (0..100).map(move |n| (n, text(n, version)))).collect();
    write(&store, &later).unwrap();
    let eight_each_bytes = store.bytes() - one_each_bytes;
    assert!(
        eight_each_bytes < one_each_bytes * 3 / 2,
        "eight versions take {eight_each_bytes} bytes, one takes {one_each_bytes}"
    );
}

#[test]
fn decoded_blocks_stay_within_their_budget() {
    let disk = FaultyDisk::new();
    let budget = 1 << 20;
    let cache = cache(budget);
    let (store, _) =
        BlockStore::open(Arc::new(disk.clone()), Path::new(DIR), &cache, false).unwrap();
    let (other, _) =
        BlockStore::open(Arc::new(disk.clone()), Path::new("/other"), &cache, false).unwrap();
    let bodies = write(&store, &texts(0..2000)).unwrap();
    let others = write(&other, &texts(2000..4000)).unwrap();
    assert!(bodies.values().map(|body| body.len() as u64).sum::<u64>() > 4 * budget);
    assert_holds(&other, &others);
    assert_holds(&store, &bodies);
    let used = cache.usage();
    assert!(used.bytes > 0 && used.bytes <= budget, "two folders share one budget: {used:?}");
    assert!(used.hits > 0 && used.misses > 0, "{used:?}");
    let before = disk.counts().reads;
    let (digest, body) = bodies.iter().next_back().unwrap();
    for _ in 0..10 {
        assert_eq!(store.read(digest).unwrap().as_ref(), Some(body));
    }
    assert!(disk.counts().reads <= before + 1, "a cached block is not read again");
}

#[test]
fn without_a_cache_every_body_is_still_read() {
    let disk = FaultyDisk::new();
    let cache = cache(0);
    let (store, _) = BlockStore::open(Arc::new(disk), Path::new(DIR), &cache, false).unwrap();
    let bodies = write(&store, &texts(0..50)).unwrap();
    assert_holds(&store, &bodies);
    assert_eq!(cache.usage().bytes, 0);
}

#[test]
fn a_crash_at_any_sync_loses_no_finished_segment_and_shows_no_unfinished_one() {
    for sync in 1.. {
        let disk = FaultyDisk::new();
        let (store, _) = open(&disk);
        let first = write(&store, &texts(0..20)).unwrap();
        disk.plan(Fault::new(Operation::Sync, Failure::Freeze).nth(sync));
        let second = write(&store, &texts(20..40));
        let dropped: HashSet<Digest> = first.keys().take(3).copied().collect();
        let rewritten = store.rewrite_without(&|digest| dropped.contains(digest));
        let done = !disk.is_frozen();
        let found = disk.crash_at_random(sync);
        let (store, _) = open(&found);
        assert_sound(&store);
        let mut kept = first.clone();
        kept.retain(|digest, _| !dropped.contains(digest));
        assert_holds(&store, &kept);
        if let Ok(second) = &second {
            assert_holds(&store, second);
        }
        if rewritten.is_ok_and(|done| done.errors.is_empty()) {
            assert!(dropped.iter().all(|digest| !store.contains(digest).unwrap()));
        }
        // Whatever was interrupted can be done again, and then nothing is left over.
        write(&store, &texts(20..40)).unwrap();
        store.rewrite_without(&|digest| dropped.contains(digest)).unwrap();
        store.remove_leftovers().unwrap();
        assert!(dropped.iter().all(|digest| !store.contains(digest).unwrap()));
        assert_holds(&store, &kept);
        assert_eq!(files(&found).len(), 2 * store.segments());
        if done {
            assert!(sync > 8, "the loop met only {sync} syncs");
            break;
        }
    }
}

#[test]
fn a_full_or_failing_disk_is_reported_and_leaves_nothing_behind() {
    for failure in [Failure::NoSpace, Failure::Io, Failure::ShortWrite(10), Failure::DropPages] {
        for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename] {
            for nth in 1..4 {
                let disk = FaultyDisk::new();
                let (store, _) = open(&disk);
                let first = write(&store, &texts(0..20)).unwrap();
                disk.plan(Fault::new(operation, failure).nth(nth));
                let second = write(&store, &texts(20..40));
                disk.heal();
                let context = format!("{failure:?} at {operation:?} {nth}");
                if let Err(error) = second {
                    assert!(matches!(error, BlockError::Disk(_)), "{context}: {error}");
                }
                assert_holds(&store, &first);
                assert_eq!(store.leftovers().unwrap(), [], "{context}");
                let again = write(&store, &texts(20..40)).unwrap();
                assert_holds(&store, &again);
                assert_holds(&open(&disk).0, &again);
            }
        }
    }
}

#[test]
fn a_segment_that_was_named_but_not_finished_is_removed() {
    let mut removed_later = 0;
    for nth in 1..6 {
        for removable in [true, false] {
            let disk = FaultyDisk::new();
            let (store, _) = open(&disk);
            write(&store, &texts(0..20)).unwrap();
            disk.plan(Fault::new(Operation::Sync, Failure::Io).nth(nth).lasting());
            if !removable {
                disk.plan(Fault::new(Operation::Remove, Failure::Io).on("00002.blk").lasting());
            }
            write(&store, &texts(20..40)).unwrap_err();
            disk.heal();
            let name = "segment-00000002.blk".to_owned();
            if files(&disk).contains(&name) {
                assert!(!removable, "sync {nth}");
                removed_later += 1;
                assert!(store.leftovers().unwrap().iter().any(|leftover| leftover.name == name));
            }
            let done = store.rewrite_without(&|_| false).unwrap();
            assert_eq!(done, Rewritten::default());
            assert!(!files(&disk).contains(&name));
            store.remove_leftovers().unwrap();
            assert_eq!(files(&disk).len(), 2);
        }
    }
    assert!(removed_later > 0);
}

#[test]
fn leftovers_of_a_crash_are_named_and_removed_but_not_those_of_a_running_writer() {
    let disk = FaultyDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let names =
        ["segment-00000003.blk.partial", "segment-00000004.idx", ".segment-00000005.idx.7.tmp"];
    for name in names {
        disk.durable_write(&Path::new(DIR).join(name), b"unfinished").unwrap();
    }
    disk.durable_write(&Path::new(DIR).join("notes.txt"), b"not ours").unwrap();
    let (store, notes) = open(&disk);
    assert_eq!(notes.len(), 3);
    for name in names {
        assert!(notes.iter().any(|note| note.starts_with(name)), "{name} in {notes:?}");
    }
    let mut writer = store.writer().unwrap();
    writer.add(&item(1), Digest::of(b"body"), b"body").unwrap();
    let removed = store.remove_leftovers().unwrap();
    assert!(removed.iter().all(|leftover| leftover.len == 10));
    assert!(removed.iter().all(|leftover| names.contains(&leftover.name.as_str())));
    writer.finish().unwrap();
    assert_eq!(store.read(&Digest::of(b"body")).unwrap().unwrap(), b"body");
    store.remove_leftovers().unwrap();
    assert_eq!(files(&disk), ["notes.txt", "segment-00000005.blk", "segment-00000005.idx"]);
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let mut writer = store.writer().unwrap();
    writer.add(&item(1), Digest::of(b"body"), b"body").unwrap();
    assert!(writer.bytes() > 0);
    drop(writer);
    assert_eq!(files(&disk), Vec::<String>::new());
    assert!(!store.contains(&Digest::of(b"body")).unwrap());
}

#[test]
fn bodies_left_out_are_gone_from_disk_and_the_rest_stays() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    // Not compressible and a block of its own, so that its bytes can be found in the file.
    let secret: Vec<u8> = (0_u32..10_000).flat_map(|n| Digest::of(&n.to_le_bytes()).0).collect();
    let mut bodies = write(&store, &[texts(0..10), vec![(3, secret.clone())]].concat()).unwrap();
    let other = write(&store, &texts(10..20)).unwrap();
    let digest = Digest::of(&secret);
    let on_disk = |disk: &FaultyDisk| {
        files(disk).iter().any(|name| {
            let bytes = disk.read(&Path::new(DIR).join(name)).unwrap();
            bytes.windows(32).any(|window| window == &secret[..32])
        })
    };
    assert!(on_disk(&disk));
    store.read(&digest).unwrap().unwrap();
    let done = store.rewrite_without(&|candidate| *candidate == digest).unwrap();
    let expected = Rewritten { segments: 1, left_out: vec![digest], errors: Vec::new() };
    assert_eq!(done, expected);
    bodies.remove(&digest);
    for store in [&store, &open(&disk).0] {
        assert_holds(store, &bodies);
        assert_holds(store, &other);
        assert_eq!(store.read(&digest).unwrap(), None);
        assert_sound(store);
    }
    assert!(!on_disk(&disk));
    assert_eq!(store.rewrite_without(&|c| *c == digest).unwrap(), Rewritten::default());
}

#[test]
fn a_segment_of_which_nothing_stays_is_removed() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    write(&store, &texts(0..10)).unwrap();
    let done = store.rewrite_without(&|_| true).unwrap();
    assert_eq!((done.segments, done.left_out.len()), (1, 10));
    assert_eq!(files(&disk), Vec::<String>::new());
    assert_eq!((store.bytes(), store.segments()), (0, 0));
}

#[test]
fn a_body_of_two_segments_is_left_out_once() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let bodies = write(&store, &texts(0..1)).unwrap();
    write(&store, &texts(0..1)).unwrap();
    let done = store.rewrite_without(&|_| true).unwrap();
    assert_eq!(done.segments, 2);
    assert_eq!(done.left_out, bodies.into_keys().collect::<Vec<_>>());
}

#[test]
fn many_small_segments_become_one_and_a_few_stay() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let mut bodies = Bodies::new();
    for round in 0..7 {
        bodies.extend(write(&store, &texts(10 * round..10 * round + 10)).unwrap());
    }
    assert_eq!(store.merge_small().unwrap(), Rewritten::default());
    // As after a crash between writing the new segment and removing the old one.
    let (name, copy) = ("segment-00000003.blk", "segment-00000009.blk");
    let bytes = disk.read(&Path::new(DIR).join(name)).unwrap();
    disk.durable_write(&Path::new(DIR).join(copy), &bytes).unwrap();
    let (store, _) = open(&disk);
    assert_eq!(store.digests().count(), 80);
    assert_eq!(store.merge_small().unwrap().segments, 8);
    for store in [&store, &open(&disk).0] {
        assert_eq!((store.segments(), store.digests().count()), (1, 70));
        assert_holds(store, &bodies);
        assert_sound(store);
    }
}

#[test]
fn a_missing_index_is_derived_from_the_blocks() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let bodies = write(&store, &texts(0..100)).unwrap();
    let path = Path::new(DIR).join("segment-00000001.idx");
    let index = disk.read(&path).unwrap();
    disk.remove_file(&path).unwrap();
    let (store, notes) = open(&disk);
    assert_eq!(notes, ["segment-00000001.idx: is missing; derived again"]);
    assert_holds(&store, &bodies);
    assert_eq!(disk.read(&path).unwrap(), index, "as it was");
    assert!(open(&disk).1.is_empty());
}

#[test]
fn an_index_that_cannot_be_kept_serves_from_memory() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let bodies = write(&store, &texts(0..10)).unwrap();
    disk.remove_file(&Path::new(DIR).join("segment-00000001.idx")).unwrap();
    disk.plan(Fault::new(Operation::Write, Failure::NoSpace).lasting());
    let (store, notes) = open(&disk);
    assert!(notes.iter().any(|note| note.contains("kept in memory only")), "{notes:?}");
    assert_holds(&store, &bodies);
    assert_eq!(store.verify(&NoProgress).problems, ["segment-00000001.idx: is not on disk"]);
}

#[test]
fn damage_to_one_block_leaves_the_others_readable_with_and_without_the_index() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let bodies = write(&store, &texts(0..400)).unwrap();
    let blocks = store.verify(&NoProgress).blocks;
    assert!(blocks > 2, "{blocks} blocks");
    flip(&disk, "segment-00000001.blk", 16 + 40, 0xff);
    for derive in [false, true] {
        if derive {
            disk.remove_file(&Path::new(DIR).join("segment-00000001.idx")).unwrap();
        }
        let (store, _) = open(&disk);
        let (mut read, mut refused) = (0, 0);
        for (digest, body) in &bodies {
            match store.read(digest) {
                Ok(Some(found)) => {
                    assert_eq!(found, *body);
                    read += 1;
                }
                Ok(None) => {
                    assert!(derive, "an index that is whole knows every body");
                    refused += 1;
                }
                Err(error) => {
                    assert!(error.to_string().contains("segment-00000001.blk block 0"), "{error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0 && read > refused, "{read} read, {refused} refused");
        let problems = store.verify(&NoProgress).problems;
        assert!(problems[0].starts_with("segment-00000001.blk: block at 16"), "{problems:?}");
    }
}

#[test]
fn a_container_that_was_cut_off_is_noticed_on_opening_and_read_up_to_the_cut() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let bodies = write(&store, &texts(0..400)).unwrap();
    let path = Path::new(DIR).join("segment-00000001.blk");
    let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
    file.set_len(file.len().unwrap() / 2).unwrap();
    let (store, notes) = open(&disk);
    assert!(notes[0].starts_with("segment-00000001.blk: "), "{notes:?}");
    let read = bodies.iter().filter(|(digest, body)| match store.read(digest) {
        Ok(found) => {
            assert_eq!(found.as_ref(), Some(*body));
            true
        }
        Err(error) => {
            assert!(matches!(error, BlockError::Corrupt { .. }), "{error}");
            false
        }
    });
    let read = read.count();
    assert!(read > 0 && read < bodies.len());
    assert!(!store.verify(&NoProgress).problems.is_empty());
}

#[test]
fn a_damaged_body_that_is_to_stay_stops_the_rewriting_of_its_segment_alone() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let damaged = write(&store, &texts(0..10)).unwrap();
    let sound = write(&store, &texts(10..20)).unwrap();
    flip(&disk, "segment-00000001.blk", 16 + 40, 0xff);
    let first = [*damaged.keys().next().unwrap(), *sound.keys().next().unwrap()];
    let done = store.rewrite_without(&|digest| first.contains(digest)).unwrap();
    assert_eq!((done.segments, done.left_out), (1, vec![first[1]]));
    assert!(done.errors.len() == 1 && done.errors[0].contains("segment-00000001.blk"));
    assert_eq!(
        files(&disk),
        [
            "segment-00000001.blk",
            "segment-00000001.idx",
            "segment-00000004.blk",
            "segment-00000004.idx"
        ]
    );
}

#[test]
fn a_damaged_segment_is_left_out_of_merging_and_named() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let mut bodies = Bodies::new();
    for round in 0..9 {
        bodies.extend(write(&store, &texts(10 * round..10 * round + 10)).unwrap());
    }
    flip(&disk, "segment-00000005.blk", 16 + 40, 0xff);
    let done = store.merge_small().unwrap();
    assert_eq!((done.segments, done.errors.len()), (8, 1), "{done:?}");
    assert_eq!(store.segments(), 2);
    let lost = bodies.keys().filter(|digest| store.read(digest).is_err()).count();
    assert_eq!(lost, 10);
}

#[test]
fn merged_segments_stay_below_a_limit() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let mut bodies = Bodies::new();
    for round in 0..8 {
        bodies.extend(write(&store, &texts(10 * round..10 * round + 10)).unwrap());
    }
    let limit = store.bytes() / 8 * 7 / 2;
    assert_eq!(store.merge(limit).unwrap().segments, 3);
    assert_eq!(store.segments(), 6);
    assert_holds(&store, &bodies);
}

#[test]
fn files_that_cannot_be_removed_are_no_longer_read_and_removed_later() {
    for by_cleanup in [false, true] {
        let disk = FaultyDisk::new();
        let (store, _) = open(&disk);
        let bodies = write(&store, &texts(0..10)).unwrap();
        let gone = *bodies.keys().next().unwrap();
        disk.plan(Fault::new(Operation::Remove, Failure::Io).on("00001.blk").lasting());
        let done = store.rewrite_without(&|digest| *digest == gone).unwrap();
        assert_eq!((done.segments, done.left_out.len(), done.errors.len()), (1, 0, 1));
        assert_eq!(store.read(&gone).unwrap(), None);
        disk.heal();
        if by_cleanup {
            assert_eq!(store.remove_leftovers().unwrap().len(), 2);
        }
        let done = store.rewrite_without(&|_| false).unwrap();
        assert_eq!(done.left_out, [gone], "as soon as it is true");
        assert_eq!(files(&disk), ["segment-00000002.blk", "segment-00000002.idx"]);
    }
}

#[test]
fn a_body_is_not_gone_while_any_former_file_of_it_is_there() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let bodies = write(&store, &texts(0..10)).unwrap();
    let mut bodies = bodies.keys().copied();
    let (first, second) = (bodies.next().unwrap(), bodies.next().unwrap());
    disk.plan(Fault::new(Operation::Remove, Failure::Io).on("00001.blk").lasting());
    for gone in [first, second] {
        let done = store.rewrite_without(&|digest| *digest == gone).unwrap();
        assert_eq!((done.segments, done.left_out), (1, Vec::new()), "the first file has it");
    }
    disk.heal();
    let mut told = store.rewrite_without(&|_| false).unwrap().left_out;
    told.sort_unstable();
    let mut both = [first, second];
    both.sort_unstable();
    assert_eq!(told, both);
    assert_eq!(store.rewrite_without(&|_| false).unwrap(), Rewritten::default());
}

#[test]
fn an_index_that_was_derived_over_damage_does_not_launder_it() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let bodies = write(&store, &texts(0..400)).unwrap();
    flip(&disk, "segment-00000001.blk", 16 + 40, 0xff);
    disk.remove_file(&Path::new(DIR).join("segment-00000001.idx")).unwrap();
    let (store, _) = open(&disk);
    let (there, lost): (Vec<Digest>, Vec<Digest>) =
        bodies.keys().partition(|digest| store.contains(digest).unwrap());
    assert!(!there.is_empty() && !lost.is_empty());
    let done = store.rewrite_without(&|digest| *digest == there[0]).unwrap();
    assert_eq!((done.segments, done.errors.len()), (0, 1), "{done:?}");
    assert_eq!(files(&disk), ["segment-00000001.blk", "segment-00000001.idx"]);
    assert!(!store.verify(&NoProgress).problems.is_empty());
}

#[test]
fn what_cannot_be_read_costs_no_more_than_itself() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let first = write(&store, &texts(0..400)).unwrap();
    let second = write(&store, &texts(400..410)).unwrap();
    drop(store);
    // The index: derived again.
    disk.plan(Fault::new(Operation::Read, Failure::Io).on("00001.idx"));
    let (store, notes) = open(&disk);
    assert!(notes.iter().any(|note| note.contains("derived again")), "{notes:?}");
    assert_holds(&store, &first);
    drop(store);
    // A whole container, with an index or without one.
    for derive in [false, true] {
        if derive {
            disk.remove_file(&Path::new(DIR).join("segment-00000001.idx")).unwrap();
        }
        disk.plan(Fault::new(Operation::Read, Failure::Io).on("00001.blk").lasting());
        let (store, notes) = open(&disk);
        assert!(notes.iter().any(|note| note.contains("00001.blk")), "{notes:?}");
        assert_holds(&store, &second);
        for digest in first.keys() {
            assert!(!store.holds(digest) && store.read(digest).ok().flatten().is_none());
        }
        assert!(!store.verify(&NoProgress).problems.is_empty());
        let other = *second.keys().next().unwrap();
        let done = store.rewrite_without(&|digest| *digest == other).unwrap();
        assert_eq!(done.left_out, [other]);
        disk.heal();
        write(&store, &[(0, second[&other].clone())]).unwrap();
    }
    assert_holds(&open(&disk).0, &first);
}

#[test]
fn safe_mode_changes_nothing() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let bodies = write(&store, &texts(0..10)).unwrap();
    disk.remove_file(&Path::new(DIR).join("segment-00000001.idx")).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (store, _) = BlockStore::open(shared, Path::new(DIR), &cache(CACHE_BYTES), true).unwrap();
    assert_holds(&store, &bodies);
    assert_eq!(files(&disk), ["segment-00000001.blk"]);
}

#[test]
fn readers_are_not_disturbed_by_writers_and_rewriting() {
    let disk = FaultyDisk::new();
    let (store, _) = open(&disk);
    let kept = write(&store, &texts(0..100)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_holds(&store, &kept);
                }
            });
        }
        for round in 1..5 {
            let more = write(&store, &texts(100 * round..100 * round + 20)).unwrap();
            store.rewrite_without(&|digest| more.contains_key(digest)).unwrap();
            // Rewrites the segment that the readers read.
            let extra = text(0, 100 + round);
            let digest = Digest::of(&extra);
            write(&store, &[(0, extra)]).unwrap();
            store.rewrite_without(&|candidate| *candidate == digest).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let victim = *kept.keys().next().unwrap();
    let body = kept[&victim].clone();
    store.rewrite_without(&|candidate| *candidate == victim).unwrap();
    assert_eq!(store.read(&victim).unwrap(), None);
    write(&store, &[(0, body)]).unwrap();
    assert_holds(&store, &kept);
}
