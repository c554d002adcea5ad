#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::OsDisk;

fn path(name: &str) -> PathBuf {
    Path::new("/data").join(name)
}

fn disk() -> FaultyDisk {
    let disk = FaultyDisk::new();
    disk.create_dir_all(&path("")).unwrap();
    disk
}

fn names(disk: &FaultyDisk) -> Vec<String> {
    disk.list(&path("")).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn unsynced_bytes_and_names_are_lost_and_synced_ones_kept() {
    let disk = disk();
    let named = disk.open(&path("named"), OpenMode::CreateNew).unwrap();
    disk.sync_dir(&path("")).unwrap();
    let nameless = disk.open(&path("nameless"), OpenMode::CreateNew).unwrap();
    nameless.write_all_at(0, b"synced, but not its folder").unwrap();
    nameless.sync().unwrap();
    named.write_all_at(0, b"first").unwrap();
    named.sync().unwrap();
    named.write_all_at(0, b"second").unwrap();
    let found = disk.crash();
    assert_eq!(names(&found), ["named"]);
    assert_eq!(found.read(&path("named")).unwrap(), b"first");
    assert!(disk.is_frozen() && disk.read(&path("named")).is_err(), "the old disk is gone");
}

#[test]
fn a_cut_is_lost_unless_synced_and_leaves_zeros_when_grown_again() {
    let disk = disk();
    disk.durable_write(&path("file"), &[7; 1000]).unwrap();
    let file = disk.open(&path("file"), OpenMode::ReadWrite).unwrap();
    file.set_len(10).unwrap();
    assert_eq!(disk.crash().read(&path("file")).unwrap(), [7; 1000]);

    let disk = FaultyDisk::new();
    disk.create_dir_all(&path("")).unwrap();
    disk.durable_write(&path("file"), &[7; 1000]).unwrap();
    let file = disk.open(&path("file"), OpenMode::ReadWrite).unwrap();
    file.set_len(10).unwrap();
    file.set_len(1000).unwrap();
    file.sync().unwrap();
    let mut expected = [0; 1000];
    expected[..10].fill(7);
    assert_eq!(disk.crash().read(&path("file")).unwrap(), expected);
}

#[test]
fn a_folder_whose_name_could_not_be_synced_is_there_until_the_power_goes() {
    for again in [false, true] {
        let disk = disk();
        disk.plan(Fault::new(Operation::Sync, Failure::Io).on("new"));
        disk.create_dir_all(&path("new")).unwrap_err();
        assert!(disk.exists(&path("new")).unwrap());
        if again {
            disk.create_dir_all(&path("new")).unwrap();
        }
        assert_eq!(disk.crash().exists(&path("new")).unwrap(), again);
    }
}

#[test]
fn bytes_written_again_after_a_failed_sync_become_durable_with_their_length() {
    for again in [false, true] {
        let disk = disk();
        disk.durable_write(&path("file"), b"old").unwrap();
        let file = disk.open(&path("file"), OpenMode::ReadWrite).unwrap();
        file.write_all_at(3, b"new").unwrap();
        disk.plan(Fault::new(Operation::Sync, Failure::Io));
        file.sync().unwrap_err();
        if again {
            file.write_all_at(3, b"new").unwrap();
        }
        file.sync().unwrap();
        let expected: &[u8] = if again { b"oldnew" } else { b"old" };
        assert_eq!(disk.crash().read(&path("file")).unwrap(), expected);
    }
}

#[test]
fn a_rename_is_lost_or_whole_and_never_loses_the_file() {
    for seed in 0..64 {
        let disk = disk();
        disk.create_dir_all(&path("to")).unwrap();
        disk.durable_write(&path("from"), b"bytes").unwrap();
        disk.rename(&path("from"), &path("to/name")).unwrap();
        let found = disk.crash_at_random(seed);
        let places = [path("from"), path("to/name")];
        let there: Vec<_> = places.iter().filter(|p| found.exists(p).unwrap()).collect();
        assert_eq!(there.len(), 1, "seed {seed}");
        assert_eq!(found.read(there[0]).unwrap(), b"bytes");
    }
}

#[test]
fn syncing_only_the_target_folder_leaves_both_names() {
    let disk = disk();
    disk.create_dir_all(&path("to")).unwrap();
    disk.durable_write(&path("from"), b"bytes").unwrap();
    disk.rename(&path("from"), &path("to/name")).unwrap();
    disk.sync_dir(&path("to")).unwrap();
    let found = disk.crash();
    assert!(found.exists(&path("from")).unwrap() && found.exists(&path("to/name")).unwrap());
}

#[test]
fn a_durable_rename_survives_in_both_folders() {
    let disk = disk();
    disk.create_dir_all(&path("to")).unwrap();
    disk.durable_write(&path("from"), b"bytes").unwrap();
    disk.durable_rename(&path("from"), &path("to/name")).unwrap();
    let found = disk.crash();
    assert!(!found.exists(&path("from")).unwrap());
    assert_eq!(found.read(&path("to/name")).unwrap(), b"bytes");
}

#[test]
fn a_removal_comes_back_unless_the_folder_is_synced() {
    let disk = disk();
    for name in ["a", "b"] {
        disk.durable_write(&path(name), b"x").unwrap();
    }
    disk.remove_file(&path("a")).unwrap();
    disk.sync_dir(&path("")).unwrap();
    disk.remove_file(&path("b")).unwrap();
    assert!(names(&disk).is_empty());
    assert_eq!(names(&disk.crash()), ["b"]);
}

#[test]
fn a_durable_write_shows_the_old_or_the_new_content_at_every_crash_point() {
    // Write, sync, rename and folder sync: four operations, frozen one after another.
    for (operation, kept) in [
        (Operation::Create, &b"old"[..]),
        (Operation::Write, b"old"),
        (Operation::Sync, b"old"),
        (Operation::Rename, b"old"),
    ] {
        for seed in 0..8 {
            let disk = disk();
            disk.durable_write(&path("file"), b"old").unwrap();
            disk.plan(Fault::new(operation, Failure::Freeze));
            disk.durable_write(&path("file"), b"new").unwrap_err();
            assert_eq!(disk.crash_at_random(seed).read(&path("file")).unwrap(), kept);
        }
    }
    let disk = disk();
    disk.durable_write(&path("file"), b"old").unwrap();
    disk.plan(Fault::new(Operation::Sync, Failure::Freeze).nth(2));
    disk.durable_write(&path("file"), b"new").unwrap_err();
    let outcomes: HashSet<Vec<u8>> =
        (0..16).map(|seed| disk.crash_at_random(seed).read(&path("file")).unwrap()).collect();
    assert!(outcomes.iter().all(|bytes| bytes == b"old" || bytes == b"new"));
}

#[test]
fn a_failed_sync_is_not_made_good_by_a_later_one() {
    let disk = disk();
    disk.durable_write(&path("file"), b"old").unwrap();
    let file = disk.open(&path("file"), OpenMode::ReadWrite).unwrap();
    file.write_all_at(0, b"new").unwrap();
    disk.plan(Fault::new(Operation::Sync, Failure::Io));
    file.sync().unwrap_err();
    file.sync().unwrap();
    assert_eq!(disk.read(&path("file")).unwrap(), b"new", "still in view");
    assert_eq!(disk.crash().read(&path("file")).unwrap(), b"old");
}

#[test]
fn dropped_pages_put_the_durable_bytes_back_in_view() {
    let disk = disk();
    disk.durable_write(&path("file"), b"old").unwrap();
    let file = disk.open(&path("file"), OpenMode::ReadWrite).unwrap();
    file.write_all_at(0, b"newer").unwrap();
    disk.plan(Fault::new(Operation::Sync, Failure::DropPages));
    file.sync().unwrap_err();
    assert_eq!(disk.read(&path("file")).unwrap(), b"old");
}

#[test]
fn a_full_disk_takes_what_fits_and_recovers_when_space_is_freed() {
    let disk = disk();
    disk.set_capacity(Some(1024));
    disk.durable_write(&path("a"), &[1; 512]).unwrap();
    let file = disk.open(&path("b"), OpenMode::Create).unwrap();
    let error = file.write_all_at(100, &[2; 1000]).unwrap_err();
    assert!(error.is_no_space());
    assert_eq!(file.len().unwrap(), 512, "what fits into the last sector");
    assert!(disk.durable_write(&path("c"), b"x").unwrap_err().is_no_space());
    assert_eq!(names(&disk), ["a", "b"], "no temporary file is left");
    file.write_all_at(0, &[3; 512]).unwrap();
    assert_eq!(disk.space(&path("")).unwrap(), Space { total: 1024, available: 0 });
    disk.remove_file(&path("a")).unwrap();
    file.write_all_at(512, &[4; 512]).unwrap();
    disk.set_capacity(None);
    file.write_all_at(1024, &[5; 512]).unwrap();
}

#[test]
fn faults_strike_the_nth_matching_operation_once_or_until_healed() {
    let disk = disk();
    let fault = |failure| Fault::new(Operation::Write, failure).on("journal");
    disk.plan(fault(Failure::Io).nth(2));
    let journal = disk.open(&path("journal"), OpenMode::Create).unwrap();
    let other = disk.open(&path("other"), OpenMode::Create).unwrap();
    journal.write_all_at(0, b"1").unwrap();
    other.write_all_at(0, b"1").unwrap();
    assert!(!journal.write_all_at(0, b"2").unwrap_err().is_no_space());
    journal.write_all_at(0, b"3").unwrap();
    disk.plan(fault(Failure::NoSpace).lasting());
    for _ in 0..3 {
        assert!(journal.write_all_at(0, b"4").unwrap_err().is_no_space());
    }
    disk.heal();
    disk.plan(fault(Failure::ShortWrite(2)));
    assert!(journal.write_all_at(0, b"567").unwrap_err().is_no_space());
    assert_eq!(disk.read(&path("journal")).unwrap(), b"56");
    assert_eq!(disk.counts().writes, 8);
}

#[test]
fn a_frozen_disk_refuses_everything_and_counts_on() {
    let disk = disk();
    disk.durable_write(&path("file"), b"x").unwrap();
    let file = disk.open(&path("file"), OpenMode::ReadWrite).unwrap();
    disk.plan(Fault::new(Operation::Sync, Failure::Freeze));
    file.write_all_at(0, b"y").unwrap();
    file.sync().unwrap_err();
    disk.heal();
    assert!(file.len().is_err() && file.read_exact_at(0, &mut [0]).is_err());
    assert!(file.write_all_at(0, b"z").is_err() && file.set_len(0).is_err());
    assert!(disk.open(&path("file"), OpenMode::Read).is_err());
    assert!(disk.list(&path("")).is_err() && disk.exists(&path("file")).is_err());
    assert!(disk.rename(&path("file"), &path("b")).is_err());
    assert!(disk.remove_file(&path("file")).is_err());
    assert!(disk.lock(&path("lock")).is_err() && disk.space(&path("")).is_err());
    assert!(disk.create_dir_all(&path("new")).is_err());
}

#[test]
fn a_lock_excludes_a_second_holder_and_does_not_survive_a_crash() {
    let disk = disk();
    let held = disk.lock(&path("lock")).unwrap();
    assert!(disk.lock(&path("lock")).unwrap_err().is_locked());
    disk.crash().create_dir_all(&path("")).unwrap();
    let found = disk.crash();
    found.lock(&path("lock")).unwrap();
    drop(held);
}

#[test]
fn chance_keeps_unsynced_sectors_in_any_combination_and_repeats_by_seed() {
    let outcome = |seed| {
        let disk = disk();
        disk.durable_write(&path("file"), &[0; 3 * SECTOR]).unwrap();
        let file = disk.open(&path("file"), OpenMode::ReadWrite).unwrap();
        file.write_all_at(0, &[1; 3 * SECTOR]).unwrap();
        disk.crash_at_random(seed).read(&path("file")).unwrap()
    };
    let outcomes: HashSet<Vec<u8>> = (0..200).map(outcome).collect();
    assert_eq!(outcomes.len(), 8, "three sectors, each kept or not");
    assert_eq!(outcome(17), outcome(17));
}

#[derive(Debug, Clone)]
enum Step {
    CreateDirs(&'static str),
    DurableWrite(&'static str, Vec<u8>),
    WriteAt(&'static str, OpenMode, u16, Vec<u8>),
    SetLen(&'static str, u16),
    ReadAt(&'static str, u16, u16),
    Rename(&'static str, &'static str),
    RemoveFile(&'static str),
    RemoveDir(&'static str),
    List(&'static str),
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["f", "g", "d", "d/f", "d/e", "d/e/f", "d/e/g"])
}

fn any_step() -> impl Strategy<Value = Step> {
    let bytes = |min: usize| prop::collection::vec(any::<u8>(), min..40);
    let mode = prop::sample::select(vec![
        OpenMode::Read,
        OpenMode::ReadWrite,
        OpenMode::Create,
        OpenMode::CreateNew,
        OpenMode::CreateNewPrivate,
    ]);
    prop_oneof![
        any_name().prop_map(Step::CreateDirs),
        (any_name(), bytes(0)).prop_map(|(name, bytes)| Step::DurableWrite(name, bytes)),
        (any_name(), mode, 0..1200_u16, bytes(1))
            .prop_map(|(name, mode, offset, bytes)| Step::WriteAt(name, mode, offset, bytes)),
        (any_name(), 0..1200_u16).prop_map(|(name, len)| Step::SetLen(name, len)),
        (any_name(), 0..1200_u16, 0..64_u16)
            .prop_map(|(name, offset, len)| Step::ReadAt(name, offset, len)),
        (any_name(), any_name()).prop_map(|(from, to)| Step::Rename(from, to)),
        any_name().prop_map(Step::RemoveFile),
        any_name().prop_map(Step::RemoveDir),
        any_name().prop_map(Step::List),
    ]
}

/// Carries out a step and renders everything that can be seen of its outcome.
fn carry_out(disk: &dyn Disk, root: &Path, step: &Step) -> String {
    fn outcome<T: fmt::Debug>(result: Result<T>) -> String {
        match result {
            Ok(value) => format!("{value:?}"),
            Err(e) => format!("error: not found {}, exists {}", e.is_not_found(), e.is_exists()),
        }
    }
    let at = |name: &str| root.join(name);
    match step {
        Step::CreateDirs(name) => outcome(disk.create_dir_all(&at(name))),
        Step::DurableWrite(name, bytes) => outcome(disk.durable_write(&at(name), bytes)),
        Step::WriteAt(name, mode, offset, bytes) => outcome(
            disk.open(&at(name), *mode)
                .and_then(|file| file.write_all_at(u64::from(*offset), bytes)),
        ),
        Step::SetLen(name, len) => outcome(
            disk.open(&at(name), OpenMode::ReadWrite)
                .and_then(|file| file.set_len(u64::from(*len))),
        ),
        Step::ReadAt(name, offset, len) => {
            let mut bytes = vec![0; usize::from(*len)];
            outcome(
                disk.open(&at(name), OpenMode::ReadWrite)
                    .and_then(|file| file.read_exact_at(u64::from(*offset), &mut bytes))
                    .map(|()| bytes),
            )
        }
        Step::Rename(from, to) => outcome(disk.rename(&at(from), &at(to))),
        Step::RemoveFile(name) => outcome(disk.remove_file(&at(name))),
        Step::RemoveDir(name) => outcome(disk.remove_dir_all(&at(name))),
        Step::List(name) => outcome(disk.list(&at(name)).map(|entries| {
            let seen = |e: Entry| (e.name, e.is_dir, e.len, e.mode);
            entries.into_iter().map(seen).collect::<Vec<_>>()
        })),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn it_behaves_as_the_operating_system_does(
        steps in prop::collection::vec(any_step(), 1..40)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (real, faulty) = (OsDisk, FaultyDisk::new());
        let names = ["", "f", "g", "d", "d/f", "d/e", "d/e/f", "d/e/g"];
        for step in &steps {
            let real_outcome = carry_out(&real, folder.path(), step);
            prop_assert_eq!(&real_outcome, &carry_out(&faulty, Path::new("/"), step), "{:?}", step);
            for name in names {
                let (a, b) = (folder.path().join(name), Path::new("/").join(name));
                let both_read = (real.read(&a).ok(), faulty.read(&b).ok());
                prop_assert_eq!(both_read.0, both_read.1, "{} after {:?}", name, step);
                let both_map = (real.map(&a).ok(), faulty.map(&b).ok());
                prop_assert_eq!(
                    both_map.0.as_ref().map(|map| map.bytes()),
                    both_map.1.as_ref().map(|map| map.bytes())
                );
            }
        }
    }

    #[test]
    fn what_was_synced_survives_any_crash(
        synced in prop::collection::vec(any::<u8>(), 0..3000),
        later in prop::collection::vec((0..4000_usize, 1..600_usize), 0..6),
        seed in any::<u64>(),
    ) {
        let disk = disk();
        disk.durable_write(&path("file"), &synced).unwrap();
        let file = disk.open(&path("file"), OpenMode::ReadWrite).unwrap();
        let mut touched = HashSet::new();
        for (offset, len) in &later {
            file.write_all_at(*offset as u64, &vec![0xee; *len]).unwrap();
            touched.extend(offset / SECTOR..=(offset + len - 1) / SECTOR);
        }
        let found = disk.crash_at_random(seed).read(&path("file")).unwrap();
        prop_assert!(found.len() >= synced.len());
        for (index, byte) in synced.iter().enumerate() {
            if !touched.contains(&(index / SECTOR)) {
                prop_assert_eq!(found[index], *byte);
            }
        }
    }
}
