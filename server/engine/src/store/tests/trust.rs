//! What the store does about records that are gone, and about scopes that cannot be used.
#![allow(clippy::disallowed_methods, reason = "damages what the store wrote, as others do")]

use std::fs;
use std::path::PathBuf;

use llm_memory_disk::faulty::{Failure, Fault, FaultyDisk, Operation};

use super::*;
use crate::api::{JournalVerifyResult, MaintenanceResult};

const JOURNAL: &str = "local/app/journal.ndjson";

/// A store whose global and local scopes hold three notes each, closed.
fn stored(root: &Path) {
    let engine = open(root);
    for n in 0..3 {
        for scope in ["local", "global"] {
            let mut request = note(&format!("{scope}{n}"), "a title", &word(n));
            request.scope = scope.parse().unwrap();
            engine.upsert(&caller(), request).unwrap();
        }
    }
    engine.close().unwrap();
}

/// Changes the lines of a journal.
fn edit_lines(path: PathBuf, edit: impl FnOnce(&mut Vec<String>)) {
    let text = String::from_utf8(OsDisk.read(&path).unwrap()).unwrap();
    let mut lines: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
    edit(&mut lines);
    OsDisk.durable_write(&path, lines.concat().as_bytes()).unwrap();
}

fn verified(engine: &Engine) -> JournalVerifyResult {
    let mut results = engine.journal_verify(&caller(), all(), &NoProgress).unwrap();
    results.remove("local").unwrap()
}

fn rebuild(engine: &Engine) -> Result<BTreeMap<String, MaintenanceResult>> {
    engine.rebuild(&caller(), ScopeRequest { scope: ScopeSelector::Local }, &NoProgress)
}

#[test]
fn a_journal_cut_between_two_lines_is_reported_and_takes_no_writes_until_recovered() {
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path());
    edit_lines(dir.path().join(JOURNAL), |lines| {
        assert_eq!(lines.len(), 3);
        lines.pop();
    });
    for _ in 0..2 {
        // Opening changes nothing that tells of the loss.
        let engine = open(dir.path());
        let refused = engine.upsert(&caller(), note("x", "t", "y")).unwrap_err().to_string();
        assert!(refused.contains("expected record 3") && refused.contains("recover"), "{refused}");
        assert!(matches!(rebuild(&engine), Err(EngineError::ReadOnly { .. })));
        let report = verified(&engine);
        assert!(!report.valid && report.integrity_score.unwrap() < 1.0, "{report:?}");
        let lost = report.corrupted_items.iter().find(|item| item.id.is_some()).unwrap();
        assert_eq!(lost.id.as_ref().unwrap().as_str(), "local2");
        assert_eq!(lost.seq, Some(Seq(3)));
        assert_eq!(engine.get(&caller(), get("local1")).unwrap().text, word(1));
        let status = engine.status().unwrap();
        assert!(status.iter().any(|scope| scope.read_only.is_some()));
        let mut elsewhere = note("x", "t", "y");
        elsewhere.scope = Scope::Global;
        engine.upsert(&caller(), elsewhere).unwrap();
        engine.close().unwrap();
    }
    let engine = open(dir.path());
    engine.upsert(&caller(), note("x", "t", "y")).unwrap_err();
    let recovered = engine.recover(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(recovered.len(), 1, "{recovered:?}");
    // That a write was refused before is nothing that is wrong now.
    let status = engine.status().unwrap();
    assert!(status.iter().all(|it| it.read_only.is_none() && it.write_failure.is_none()));
    assert_eq!((recovered["local"].last_sound, recovered["local"].last_seen), (Seq(2), Seq(3)));
    assert!(matches!(engine.get(&caller(), get("local2")), Err(EngineError::NotFound { .. })));
    engine.upsert(&caller(), note("local2", "again", &word(2))).unwrap();
    assert!(verified(&engine).valid);
    assert_eq!(found(&engine, &word(2)).len(), 2);
    engine.close().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("z", "t", "u")).unwrap();
    assert!(verified(&engine).valid);
}

#[test]
fn an_emptied_journal_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path());
    edit_lines(dir.path().join(JOURNAL), Vec::clear);
    let engine = open(dir.path());
    assert!(engine.upsert(&caller(), note("x", "t", "y")).is_err());
    let report = verified(&engine);
    assert!(!report.valid && report.integrity_score == Some(0.0), "{report:?}");
    assert_eq!(report.corrupted_items.iter().filter(|item| item.id.is_some()).count(), 3);
}

#[test]
fn an_exchanged_last_record_is_noticed_though_it_chains() {
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path());
    edit_lines(dir.path().join(JOURNAL), |lines| {
        let last = lines.last_mut().unwrap();
        *last = last.replacen("\"actor\":\"tester\"", "\"actor\":\"nobody\"", 1);
    });
    let engine = open(dir.path());
    let refused = engine.upsert(&caller(), note("x", "t", "y")).unwrap_err().to_string();
    assert!(refused.contains("record 3 with the head"), "{refused}");
    let report = verified(&engine);
    assert!(!report.valid, "{report:?}");
    assert!(report.corrupted_items.iter().any(|item| item.seq == Some(Seq(3))));
}

/// A store of six items whose views are as of before, with damage in what they have to follow.
fn damaged_behind_the_views(dir: &Path, damage: impl FnOnce(&mut Vec<String>)) -> Engine {
    let engine = open(dir);
    for n in 0..6 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", &word(n))).unwrap();
    }
    engine.close().unwrap();
    OsDisk.remove_dir_all(&dir.join("local/app/views")).unwrap();
    edit_lines(dir.join(JOURNAL), damage);
    open(dir)
}

#[test]
fn damage_behind_the_views_does_not_keep_the_scope_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let engine = damaged_behind_the_views(dir.path(), |lines| {
        lines[3] = lines[3].replacen(&word(3), "forged", 1);
    });
    assert_eq!(engine.unavailable(), []);
    assert_eq!(engine.get(&caller(), get("n2")).unwrap().text, word(2));
    assert!(matches!(
        engine.upsert(&caller(), note("x", "t", "y")),
        Err(EngineError::ReadOnly { .. })
    ));
    let recovered = engine.recover(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(recovered["local"].salvaged, 2, "{recovered:?}");
    assert_eq!(engine.get(&caller(), get("n5")).unwrap().text, word(5));
    assert_eq!(engine.get(&caller(), get("n5")).unwrap().version, Version(1));
    assert!(matches!(engine.get(&caller(), get("n3")), Err(EngineError::NotFound { .. })));
    assert!(verified(&engine).valid);
}

#[test]
fn a_changed_head_behind_the_views_does_not_keep_the_scope_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let engine = damaged_behind_the_views(dir.path(), |lines| {
        lines[2] = lines[2].replacen("\"actor\":\"tester\"", "\"actor\":\"nobody\"", 1);
    });
    assert_eq!(engine.unavailable(), []);
    assert_eq!(engine.get(&caller(), get("n1")).unwrap().text, word(1));
    assert!(matches!(engine.get(&caller(), get("n2")), Err(EngineError::NotFound { .. })));
    let recovered = engine.recover(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(recovered["local"].last_seen, Seq(6), "{recovered:?}");
    for n in 0..6 {
        assert_eq!(engine.get(&caller(), get(&format!("n{n}"))).unwrap().text, word(n));
    }
    assert!(verified(&engine).valid);
}

#[test]
fn what_was_left_over_outside_the_scopes_is_removed_once_nobody_can_be_writing_it() {
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path());
    let (old, fresh) = (["doctor.tmp", "reports/.a.json.1.tmp"], "run/.server.json.2.tmp");
    for name in old.into_iter().chain([fresh]) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"x").unwrap();
    }
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_hours(24);
    for name in old {
        let file = fs::File::options().write(true).open(dir.path().join(name)).unwrap();
        file.set_modified(yesterday).unwrap();
    }
    let engine = open(dir.path());
    let cleanup = |dry_run| {
        let request = PruneRequest { scope: ScopeSelector::All, dry_run };
        let mut results = engine.cleanup(&caller(), request, &NoProgress).unwrap();
        assert!(results["local"].removed.is_empty(), "{results:?}");
        results.remove("global").unwrap()
    };
    assert_eq!(cleanup(true).removed, old);
    let done = cleanup(false);
    assert_eq!((done.removed, done.bytes), (old.map(str::to_owned).to_vec(), 2));
    assert!(old.iter().all(|name| !dir.path().join(name).exists()));
    assert!(dir.path().join(fresh).exists());
}

#[test]
fn a_configuration_that_cannot_be_read_stops_writes_of_its_scope_alone() {
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path());
    let config = dir.path().join("local/app/config.json");
    OsDisk.durable_write(&config, b"{\"rankinng\": {}}").unwrap();
    let engine = open(dir.path());
    let refused = engine.upsert(&caller(), note("x", "t", "y")).unwrap_err().to_string();
    assert!(refused.contains("config.json") && refused.contains("rankinng"), "{refused}");
    assert_eq!(engine.get(&caller(), get("local1")).unwrap().text, word(1));
    let mut elsewhere = note("x", "t", "y");
    elsewhere.scope = Scope::Global;
    engine.upsert(&caller(), elsewhere).unwrap();
    assert_eq!(engine.reload_configs().unwrap().len(), 1);
    assert!(engine.upsert(&caller(), note("x", "t", "y")).is_err());
    OsDisk.durable_write(&config, b"{}").unwrap();
    assert_eq!(engine.reload_configs().unwrap(), Vec::<String>::new());
    engine.upsert(&caller(), note("x", "t", "y")).unwrap();
}

#[test]
fn a_scope_that_cannot_be_opened_is_named_and_the_others_work() {
    let disk = FaultyDisk::new();
    let root = Path::new("/store");
    let start = || {
        let options = Options { reserve_bytes: 0, ..Options::default() };
        Engine::open(Arc::new(disk.clone()), root, options).unwrap()
    };
    let engine = start();
    let mut elsewhere = note("g", "t", "y");
    elsewhere.scope = Scope::Global;
    engine.upsert(&caller(), elsewhere.clone()).unwrap();
    engine.upsert(&caller(), note("l", "t", "y")).unwrap();
    engine.close().unwrap();
    disk.plan(Fault::new(Operation::Read, Failure::Io).on("local").nth(1).lasting());
    let engine = start();
    let unavailable = engine.unavailable();
    assert_eq!(unavailable.len(), 1, "{unavailable:?}");
    assert_eq!(unavailable[0].0.scope, Scope::Local);
    elsewhere.text = "changed".to_owned();
    engine.upsert(&caller(), elsewhere).unwrap();
    let refused = engine.upsert(&caller(), note("l", "t", "z")).unwrap_err();
    assert!(matches!(&refused, EngineError::Unavailable { scope, .. } if scope.contains("local")));
    assert!(engine.query(&caller(), query("y")).is_err(), "never a part in place of the whole");
}

#[test]
fn a_nearly_full_disk_takes_no_writes_and_still_reads_and_compacts() {
    let disk = FaultyDisk::new();
    let options = Options { reserve_bytes: 3 << 20, ..Options::default() };
    let engine = Engine::open(Arc::new(disk.clone()), Path::new("/store"), options).unwrap();
    engine.upsert(&caller(), note("a", "t", "first")).unwrap();
    disk.set_capacity(Some(3 << 20));
    let refused = engine.upsert(&caller(), note("b", "t", "second")).unwrap_err();
    assert_eq!(refused.code(), "no_space");
    assert!(refused.to_string().contains("the last 3 MiB are kept"), "{refused}");
    let status = serde_json::to_string(&engine.status().unwrap()).unwrap();
    assert!(status.contains("the last 3 MiB are kept"), "{status}");
    assert_eq!(engine.query(&caller(), query("first")).unwrap().items.len(), 1);
    engine.compact(&caller(), all(), &NoProgress).unwrap();
    disk.set_capacity(None);
    engine.upsert(&caller(), note("b", "t", "second")).unwrap();
}

/// Notes, uses and an erasure, with damage in the third note; nothing is durable but the journal.
fn damaged() -> FaultyDisk {
    let disk = FaultyDisk::new();
    let engine = on(&disk);
    for n in 0..6 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", &word(n))).unwrap();
    }
    engine.record_use(&caller(), item("n5")).unwrap();
    let erase = json!({"id": "n4", "erase": true});
    engine.delete(&caller(), serde_json::from_value(erase).unwrap()).unwrap();
    engine.upsert(&caller(), note("n2", "t", &word(9))).unwrap();
    engine.close().unwrap();
    let path = Path::new("/store").join(JOURNAL);
    let text = String::from_utf8(disk.read(&path).unwrap()).unwrap();
    let text = text.replacen(&format!("\"{}\"", word(2)), &format!("\"{}\"", word(8)), 1);
    disk.durable_write(&path, text.as_bytes()).unwrap();
    disk
}

fn on(disk: &FaultyDisk) -> Engine {
    let options = Options { reserve_bytes: 0, ..Options::default() };
    Engine::open(Arc::new(disk.clone()), Path::new("/store"), options).unwrap()
}

#[test]
fn recovery_keeps_counters_erasures_and_authors_and_can_be_cut_short_anywhere() {
    let mut finished = false;
    for sync in 1.. {
        let disk = damaged();
        let engine = on(&disk);
        assert!(engine.upsert(&caller(), note("x", "t", "y")).is_err());
        disk.plan(Fault::new(Operation::Sync, Failure::Freeze).nth(sync));
        let operator = Caller::unrestricted("operator", caller().project);
        let recovered = engine.recover(&operator, all(), &NoProgress);
        finished = !disk.is_frozen();
        drop(engine);
        let found_disk = disk.crash_at_random(sync);
        let engine = on(&found_disk);
        if engine.upsert(&caller(), note("x", "t", "y")).is_err() {
            assert!(!finished, "{recovered:?}");
            assert_eq!(engine.recover(&operator, all(), &NoProgress).unwrap().len(), 1);
            engine.upsert(&caller(), note("x", "t", "y")).unwrap();
        }
        let newest = engine.get(&caller(), get("n2")).unwrap();
        assert_eq!(newest.text, word(9), "sync {sync}");
        assert_eq!(newest.provenance.updated_by, "tester");
        assert_eq!(engine.get(&caller(), get("n5")).unwrap().quality.counters.reuse_count, 1);
        assert!(matches!(engine.get(&caller(), get("n4")), Err(EngineError::NotFound { .. })));
        for (n, hits) in [(0, 1), (1, 1), (2, 0), (3, 1), (4, 0), (5, 1), (8, 0), (9, 1)] {
            assert_eq!(found(&engine, &word(n)).len(), hits, "word {n}, sync {sync}");
        }
        assert!(verified(&engine).valid, "sync {sync}");
        let views = engine.verify_views(&caller(), all(), &NoProgress).unwrap();
        assert!(views["local"].ok, "sync {sync}: {views:?}");
        engine.journal_migrate(&caller(), all(), &NoProgress).unwrap();
        assert_eq!(verified(&engine).erased_bodies, 1, "sync {sync}");
        engine.close().unwrap();
        if finished {
            break;
        }
    }
    assert!(finished);
}

#[test]
fn counters_of_salvaged_records_count_in_searches() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..3 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", &word(n))).unwrap();
    }
    engine.record_use(&caller(), item("n2")).unwrap();
    engine.close().unwrap();
    OsDisk.remove_dir_all(&dir.path().join("local/app/views")).unwrap();
    edit_lines(dir.path().join(JOURNAL), |lines| {
        lines[1] = lines[1].replacen(&word(1), "forged", 1);
    });
    let engine = open(dir.path());
    engine.recover(&caller(), all(), &NoProgress).unwrap();
    let counted = &engine.open_scopes().unwrap()[0].state.counted;
    assert!(counted.contains(crate::text::id_hash(&ItemId::new("n2").unwrap())));
    assert!(!counted.contains(crate::text::id_hash(&ItemId::new("n0").unwrap())));
}

#[test]
fn a_recovery_whose_views_cannot_be_derived_can_be_run_again() {
    let disk = damaged();
    let engine = on(&disk);
    disk.plan(Fault::new(Operation::Create, Failure::NoSpace).on("views/2").lasting());
    engine.recover(&caller(), all(), &NoProgress).unwrap_err();
    assert!(engine.upsert(&caller(), note("x", "t", "y")).is_err());
    disk.heal();
    assert_eq!(engine.recover(&caller(), all(), &NoProgress).unwrap().len(), 1);
    engine.upsert(&caller(), note("x", "t", "y")).unwrap();
    assert_eq!(engine.get(&caller(), get("n2")).unwrap().text, word(9));
    assert!(verified(&engine).valid);
}

/// A store with many versions of one note in several sealed segments.
fn versions(disk: &FaultyDisk) -> Engine {
    let options = Options { reserve_bytes: 0, segment_bytes: 4 << 10, ..Options::default() };
    let engine = Engine::open(Arc::new(disk.clone()), Path::new("/store"), options).unwrap();
    for n in 0..VERSIONS {
        engine.upsert(&caller(), note("a", "t", &word(n).repeat(20))).unwrap();
    }
    engine
}

const VERSIONS: usize = 30;

fn assert_versions(engine: &Engine, what: &str) {
    for n in 0..VERSIONS {
        let version = Some(Version(n as u64 + 1));
        let item = engine.get(&caller(), GetRequest { version, ..get("a") });
        assert_eq!(item.unwrap_or_else(|e| panic!("{what}: {e}")).text, word(n).repeat(20));
    }
}

/// Damages the first block of every container, or mends it again.
fn flip_blocks(disk: &FaultyDisk) {
    let folder = Path::new("/store/local/app/blocks");
    if !disk.exists(folder).unwrap() {
        return;
    }
    for entry in disk.list(folder).unwrap() {
        if entry.name.split_once('.').is_some_and(|(_, ending)| ending == "blk") {
            let path = folder.join(&entry.name);
            let byte = disk.read(&path).unwrap()[60] ^ 0xff;
            let file = disk.open(&path, llm_memory_disk::OpenMode::ReadWrite).unwrap();
            file.write_all_at(60, &[byte]).unwrap();
            file.sync().unwrap();
        }
    }
}

/// Does something once, when work reports for the first time.
struct Meanwhile<F>(std::sync::Once, F);

impl<F: Fn() + Send + Sync> crate::progress::Progress for Meanwhile<F> {
    fn report(&self, _: u64, _: Option<u64>, _: &str) {
        self.0.call_once(&self.1);
    }
}

#[test]
fn views_that_did_not_come_into_use_are_not_used_by_the_next_start() {
    let disk = FaultyDisk::new();
    let engine = versions(&disk);
    engine.open_scopes().unwrap()[0].writer.run(|journal| Ok(journal.seal()?)).unwrap();
    engine.close().unwrap();
    let engine = on(&disk);
    let meanwhile = Meanwhile(std::sync::Once::new(), || {
        engine.upsert(&caller(), note("late", "t", "written meanwhile")).unwrap();
        // So that neither this record can be read nor what was derived be removed.
        disk.plan(Fault::new(Operation::Read, Failure::Io).on("journal.ndjson").lasting());
        disk.plan(Fault::new(Operation::Remove, Failure::Io).on("views/2").lasting());
    });
    engine.rebuild(&caller(), all(), &meanwhile).unwrap_err();
    disk.heal();
    assert!(disk.exists(Path::new("/store/local/app/views/2")).unwrap());
    // Moves the bodies that both views know of; one of them is told.
    engine.journal_migrate(&caller(), all(), &NoProgress).unwrap();
    engine.close().unwrap();
    let engine = on(&disk);
    assert_versions(&engine, "after the failed rebuild");
    assert_eq!(engine.get(&caller(), get("late")).unwrap().text, "written meanwhile");
    let views = engine.verify_views(&caller(), all(), &NoProgress).unwrap();
    assert!(views["local"].ok, "{views:?}");
}

#[test]
fn compaction_is_not_done_before_an_erased_text_is_gone_from_the_disk() {
    let written = |disk: &FaultyDisk| {
        let folder = Path::new("/store/local/app/journal");
        let files = disk.list(folder).unwrap();
        files.iter().any(|entry| {
            let bytes = disk.read(&folder.join(&entry.name)).unwrap();
            String::from_utf8_lossy(&bytes).contains("heron")
        })
    };
    let mut unfinished = 0;
    let removal = Fault::new(Operation::Remove, Failure::Io).on(".0.ndjson");
    let catalog = Fault::new(Operation::Sync, Failure::Io).on("catalog.redb");
    let faults = [removal.clone().lasting(), removal, catalog.clone(), catalog.clone().nth(2)];
    for (number, fault) in
        faults.into_iter().chain((3..8).map(|n| catalog.clone().nth(n))).enumerate()
    {
        let disk = FaultyDisk::new();
        let engine = on(&disk);
        engine.upsert(&caller(), note("secret", "t", "the heron nests")).unwrap();
        engine.upsert(&caller(), note("kept", "t", "stays")).unwrap();
        let erase = json!({"id": "secret", "erase": true});
        engine.delete(&caller(), serde_json::from_value(erase).unwrap()).unwrap();
        disk.plan(fault);
        // Twice, so that what the first leaves behind is told by the second.
        for run in 0..2 {
            let told = match engine.compact(&caller(), all(), &NoProgress) {
                Ok(compacted) => compacted["local"].details["errors"] != json!([]),
                Err(_) => true,
            };
            assert!(told || !written(&disk), "fault {number}, run {run}");
            unfinished += usize::from(written(&disk));
        }
        disk.heal();
        // So that the writer opens a failed catalog again.
        engine.upsert(&caller(), note("later", "t", "more")).unwrap();
        let compacted = engine.compact(&caller(), all(), &NoProgress).unwrap();
        assert_eq!(compacted["local"].details["errors"], json!([]), "fault {number}");
        assert!(!written(&disk), "fault {number}");
        assert_eq!(engine.get(&caller(), get("kept")).unwrap().text, "stays");
        assert!(verified(&engine).valid);
    }
    assert!(unfinished > 2);
}

#[test]
fn the_last_copy_of_a_body_stays_though_an_index_names_another() {
    let disk = FaultyDisk::new();
    let engine = versions(&disk);
    // The blocks are written, but the journal keeps its bodies.
    disk.plan(Fault::new(Operation::Rename, Failure::Io).on(".ndjson.partial").lasting());
    let compacted = engine.compact(&caller(), all(), &NoProgress).unwrap();
    assert_ne!(compacted["local"].details["errors"], json!([]));
    disk.heal();
    flip_blocks(&disk);
    let compacted = engine.compact(&caller(), all(), &NoProgress).unwrap();
    assert!(compacted["local"].deleted > 0, "{compacted:?}");
    engine.close().unwrap();
    let engine = on(&disk);
    assert_versions(&engine, "after damage to the first copy");
    assert!(verified(&engine).valid);
}

#[test]
fn an_older_generation_stays_as_long_as_blocks_do_not_give_its_bodies_back() {
    let generations = |disk: &FaultyDisk| -> Vec<String> {
        let names = disk.list(Path::new("/store/local/app/journal")).unwrap();
        names.into_iter().map(|entry| entry.name).filter(|n| n.ends_with(".ndjson")).collect()
    };
    let mut kept = 0;
    for sync in 1.. {
        let disk = FaultyDisk::new();
        let engine = versions(&disk);
        disk.plan(Fault::new(Operation::Sync, Failure::Freeze).nth(sync));
        let _ = engine.compact(&caller(), all(), &NoProgress);
        let frozen = disk.is_frozen();
        drop(engine);
        let disk = disk.crash();
        let before = generations(&disk);
        let older: Vec<&String> = before
            .iter()
            .filter(|name| before.contains(&name.replace(".0.ndjson", ".1.ndjson")))
            .filter(|name| name.ends_with(".0.ndjson"))
            .collect();
        if !older.is_empty() {
            flip_blocks(&disk);
            on(&disk).close().unwrap();
            let after = generations(&disk);
            assert!(older.iter().all(|name| after.contains(name)), "{older:?} of {after:?}");
            kept += 1;
            flip_blocks(&disk);
            on(&disk).close().unwrap();
            let after = generations(&disk);
            assert!(!older.iter().any(|name| after.contains(name)), "{older:?} of {after:?}");
        }
        assert_versions(&on(&disk), &format!("sync {sync}"));
        if !frozen {
            break;
        }
    }
    assert!(kept > 0);
}
