//! What the store does about records that are gone, and about scopes that cannot be used.
#![allow(clippy::disallowed_methods, reason = "damages files behind the store's back")]

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
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
    edit(&mut lines);
    fs::write(path, lines.concat()).unwrap();
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
        assert!(!report.valid && report.integrity_score < 1.0, "{report:?}");
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
    let recovered = engine.recover(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(recovered.len(), 1, "{recovered:?}");
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
    assert!(!report.valid && report.integrity_score == 0.0, "{report:?}");
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

#[test]
fn damage_behind_the_views_does_not_keep_the_scope_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..6 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", &word(n))).unwrap();
    }
    engine.close().unwrap();
    // Views as of before, and damage in what they have to follow.
    fs::remove_dir_all(dir.path().join("local/app/views")).unwrap();
    edit_lines(dir.path().join(JOURNAL), |lines| {
        lines[3] = lines[3].replacen(&word(3), "forged", 1);
    });
    let engine = open(dir.path());
    assert_eq!(engine.unavailable(), []);
    assert_eq!(engine.get(&caller(), get("n2")).unwrap().text, word(2));
    assert!(matches!(
        engine.upsert(&caller(), note("x", "t", "y")),
        Err(EngineError::ReadOnly { .. })
    ));
    let recovered = engine.recover(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(recovered["local"].salvaged, 2, "{recovered:?}");
    assert_eq!(engine.get(&caller(), get("n5")).unwrap().text, word(5));
    assert!(matches!(engine.get(&caller(), get("n3")), Err(EngineError::NotFound { .. })));
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
    fs::write(&config, "{\"rankinng\": {}}").unwrap();
    let engine = open(dir.path());
    let refused = engine.upsert(&caller(), note("x", "t", "y")).unwrap_err().to_string();
    assert!(refused.contains("config.json") && refused.contains("rankinng"), "{refused}");
    assert_eq!(engine.get(&caller(), get("local1")).unwrap().text, word(1));
    let mut elsewhere = note("x", "t", "y");
    elsewhere.scope = Scope::Global;
    engine.upsert(&caller(), elsewhere).unwrap();
    assert_eq!(engine.reload_configs().unwrap().len(), 1);
    assert!(engine.upsert(&caller(), note("x", "t", "y")).is_err());
    fs::write(&config, "{}").unwrap();
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
