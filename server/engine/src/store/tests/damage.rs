//! Contents that are damaged on disk.

use std::path::PathBuf;

use llm_memory_disk::OpenMode;
use llm_memory_disk::faulty::{Failure, Fault, FaultyDisk, Operation};

use super::*;
use crate::api::{JournalVerifyResult, SampleRequest};
use crate::journal::BodyState;

const SCOPE: &str = "local/app";

fn flip(path: PathBuf, at: u64) {
    let file = OsDisk.open(&path, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_exact_at(at, &mut byte).unwrap();
    file.write_all_at(at, &[byte[0] ^ 1]).unwrap();
}

/// Flips a byte of `word`, wherever it is in the sealed segments.
fn flip_sealed(root: &Path, word: &str) {
    let folder = root.join(SCOPE).join("journal");
    for entry in OsDisk.list(&folder).unwrap() {
        let path = folder.join(&entry.name);
        let bytes = OsDisk.read(&path).unwrap();
        let text = bytes.windows(word.len()).position(|window| window == word.as_bytes());
        if let Some(at) = text {
            return flip(path, at as u64 + 3);
        }
    }
    panic!("{word} is in no sealed segment");
}

/// Whether a file of the journal holds `word`.
fn is_stored(root: &Path, word: &str) -> bool {
    let folder = root.join(SCOPE).join("journal");
    OsDisk.list(&folder).unwrap().iter().any(|entry| {
        let bytes = OsDisk.read(&folder.join(&entry.name)).unwrap();
        bytes.windows(word.len()).any(|window| window == word.as_bytes())
    })
}

fn scope(engine: &Engine) -> Arc<ScopeStore> {
    engine.open_scopes().unwrap().remove(0)
}

fn seal(engine: &Engine) {
    scope(engine).writer.run(|journal| Ok(journal.seal()?)).unwrap();
}

/// A store of three notes that are in one block.
fn three(root: &Path) -> Engine {
    let engine = open(root);
    for n in 0..3 {
        engine.upsert(&caller(), note(&format!("n{n}"), &word(100 + n), &word(n))).unwrap();
    }
    engine.journal_migrate(&caller(), all(), &NoProgress).unwrap();
    engine
}

fn block_file(root: &Path) -> PathBuf {
    root.join(SCOPE).join("blocks/segment-00000001.blk")
}

fn verified(engine: &Engine) -> JournalVerifyResult {
    engine.journal_verify(&caller(), all(), &NoProgress).unwrap().remove("local").unwrap()
}

fn sampled(engine: &Engine, share: f64, seed: Option<u64>) -> crate::api::SampleResult {
    let request = SampleRequest { scope: ScopeSelector::All, sample: Some(share), seed };
    engine.verify_sample(&caller(), request).unwrap().remove("local").unwrap()
}

fn erase(engine: &Engine, id: &str) {
    let request = serde_json::from_value(json!({"id": id, "erase": true})).unwrap();
    engine.delete(&caller(), request).unwrap();
}

#[test]
fn verification_reads_the_disk_and_leaves_the_cache_alone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = three(dir.path());
    let sound = verified(&engine);
    assert!(sound.valid && sound.checked_bodies == 3, "{sound:?}");
    assert_eq!(sampled(&engine, 1.0, None).corrupted_items, []);
    assert!(engine.verify_views(&caller(), all(), &NoProgress).unwrap()["local"].ok);
    assert_eq!(engine.frames.usage().bytes, 0);
    // Whoever reads fills it.
    let hash = engine.get(&caller(), get("n0")).unwrap().hash;
    assert!(scope(&engine).state.blocks.read(&hash).unwrap().is_some());
    assert!(engine.frames.usage().bytes > 0);
    flip(block_file(dir.path()), 60);
    let report = verified(&engine);
    assert!(!report.valid && report.unsound_count == 3, "{report:?}");
    assert_eq!(report.integrity_score, Some(0.0));
    for item in &report.corrupted_items {
        assert_eq!(item.file, "blocks/segment-00000001.blk", "{item:?}");
        assert!(item.issue.contains("block 0"), "{item:?}");
    }
    assert_eq!(sampled(&engine, 1.0, None).corrupted_items.len(), 3);
    let views = engine.verify_views(&caller(), all(), &NoProgress).unwrap();
    assert!(views["local"].issues.iter().any(|issue| issue.contains("item n0")), "{views:?}");
}

#[test]
fn rebuilding_over_damage_keeps_what_the_views_knew_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path()).close().unwrap();
    flip(block_file(dir.path()), 60);
    let engine = open(dir.path());
    engine.upsert(&caller(), note("whole", "t", "y")).unwrap();
    let titles = |engine: &Engine| {
        let list = engine.list(&caller(), ListRequest::default()).unwrap();
        list.items.into_iter().map(|item| item.title).collect::<Vec<_>>()
    };
    let before = titles(&engine);
    for run in 0..2 {
        let rebuilt = engine.rebuild(&caller(), all(), &NoProgress).unwrap();
        let details = &rebuilt["local"].details;
        assert_eq!(details["unreadableBodies"], 3, "{details:?}");
        assert!(details["errors"][0].as_str().unwrap().contains("backup"), "{details:?}");
        assert_eq!(titles(&engine), before, "run {run}");
        let result = engine.query(&caller(), query(&word(101))).unwrap();
        assert!(result.items.is_empty());
        assert!(result.notice.unwrap().contains("1 damaged item is left out"));
        let error = engine.get(&caller(), get("n1")).unwrap_err().to_string();
        assert!(error.contains("segment-00000001.blk"), "{error}");
        let views = engine.verify_views(&caller(), all(), &NoProgress).unwrap();
        let issues = &views["local"].issues;
        assert!(!issues.iter().any(|issue| issue.contains("text index")), "{issues:?}");
        let notes = engine.status().unwrap().remove(0).recovered;
        assert_eq!(notes.iter().filter(|note| note.contains("of 3 versions")).count(), 1);
    }
    // What is erased is kept nowhere, and what is mended comes back.
    erase(&engine, "n1");
    flip(block_file(dir.path()), 60);
    let rebuilt = engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    assert!(!rebuilt["local"].details.contains_key("errors"), "{rebuilt:?}");
    assert_eq!(engine.get(&caller(), get("n2")).unwrap().text, word(2));
    assert!(!titles(&engine).contains(&word(101)));
}

#[test]
fn a_damaged_body_in_a_sealed_segment_keeps_no_scope_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..3 {
        engine.upsert(&caller(), note(&format!("n{n}"), &word(100 + n), &word(n))).unwrap();
    }
    seal(&engine);
    engine.close().unwrap();
    flip_sealed(dir.path(), &word(1));
    let engine = open(dir.path());
    let check = |engine: &Engine| {
        assert_eq!(engine.get(&caller(), get("n2")).unwrap().text, word(2));
        let error = engine.get(&caller(), get("n1")).unwrap_err();
        assert!(matches!(error, EngineError::Corrupt { .. }), "{error}");
        engine.upsert(&caller(), note("late", "t", "y")).unwrap();
        assert_eq!(verified(engine).unsound_count, 1);
    };
    let rebuilt = engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(rebuilt["local"].details["unreadableBodies"], 1);
    check(&engine);
    let list = engine.list(&caller(), ListRequest::default()).unwrap();
    assert!(list.items.iter().any(|item| item.title == word(101)), "{list:?}");
    engine.close().unwrap();
    OsDisk.remove_dir_all(&dir.path().join(SCOPE).join("views")).unwrap();
    let engine = open(dir.path());
    assert_eq!(engine.unavailable(), []);
    check(&engine);
}

#[test]
fn damage_keeps_no_neighbour_from_being_erased_or_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for id in ["live", "old", "erased", "gone", "fine"] {
        engine.upsert(&caller(), note(id, "t", &format!("{id} {}", word(7)))).unwrap();
    }
    for id in ["old", "fine"] {
        engine.upsert(&caller(), note(id, "t", "newer")).unwrap();
    }
    erase(&engine, "erased");
    erase(&engine, "gone");
    seal(&engine);
    for id in ["live", "old", "gone"] {
        flip_sealed(dir.path(), &format!("{id} {}", word(7)));
    }
    let damaged = |id: &str| {
        let mut text = format!("{id} {}", word(7)).into_bytes();
        text[3] ^= 1;
        String::from_utf8(text).unwrap()
    };
    assert!(is_stored(dir.path(), &damaged("gone")));
    let compacted = engine.compact(&caller(), all(), &NoProgress).unwrap();
    let details = &compacted["local"].details;
    assert_eq!((&details["segments"], &details["damagedBodies"]), (&json!(1), &json!(2)));
    assert!(details["errors"][0].as_str().unwrap().contains("2 bodies are damaged"));
    for (text, stays) in [
        (damaged("live"), true),
        (damaged("old"), true),
        (damaged("gone"), false),
        (format!("erased {}", word(7)), false),
        (format!("fine {}", word(7)), false),
    ] {
        assert_eq!(is_stored(dir.path(), &text), stays, "{text}");
    }
    let first = GetRequest { version: Some(Version(1)), ..get("fine") };
    assert_eq!(engine.get(&caller(), first).unwrap().text, format!("fine {}", word(7)));
    assert_eq!(verified(&engine).unsound_count, 2);
    engine.close().unwrap();
    let engine = open(dir.path());
    assert_eq!(engine.get(&caller(), get("old")).unwrap().text, "newer");
    assert!(engine.get(&caller(), get("live")).is_err());
}

#[test]
fn a_body_erased_while_verification_runs_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let engine = three(dir.path());
    let scope = scope(&engine);
    let (view, blocks) = (scope.state.read().unwrap(), scope.state.blocks.afresh());
    let hash = engine.get(&caller(), get("n1")).unwrap().hash;
    erase(&engine, "n1");
    engine.compact(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(scope.state.outside(&view, hash, &blocks), BodyState::Erased);
    let unknown = crate::ids::Digest::of(b"nobody's");
    assert_eq!(scope.state.outside(&view, unknown, &blocks), BodyState::Missing);
}

#[test]
fn a_sample_is_another_each_time_and_never_empty() {
    let dir = tempfile::tempdir().unwrap();
    let engine = three(dir.path());
    for n in 0..60 {
        engine.upsert(&caller(), note(&format!("m{n}"), "t", &word(n))).unwrap();
    }
    erase(&engine, "m0");
    let few = sampled(&engine, 0.000_001, None);
    assert_eq!((few.checked, few.stored), (1, 63), "{few:?}");
    let checked = |seed| sampled(&engine, 0.5, Some(seed)).checked;
    assert_eq!(checked(1), checked(1));
    assert!((2..20).any(|seed| checked(seed) != checked(1)));
    flip(block_file(dir.path()), 60);
    let found = |seed| sampled(&engine, 0.02, Some(seed)).corrupted_items.len();
    assert!((0..300).any(|seed| found(seed) > 0), "every body comes up some time");
}

#[test]
fn where_nothing_is_to_be_checked_no_score_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let key = ScopeKey { tenant: None, scope: Scope::Local, project: caller().project };
    engine.open_scope(&key, &NoProgress).unwrap();
    let report = verified(&engine);
    assert_eq!((report.valid, report.integrity_score, report.checked_count), (true, None, 0));
    assert!(report.note.unwrap().contains("nothing"));
    engine.upsert(&caller(), note("a", "t", "y")).unwrap();
    let report = verified(&engine);
    assert_eq!((report.integrity_score, report.note), (Some(1.0), None));
}

#[test]
fn views_are_verified_in_safe_mode_too() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path()).close().unwrap();
    for lost in [false, true] {
        if lost {
            OsDisk.remove_dir_all(&dir.path().join(SCOPE).join("views")).unwrap();
        }
        let options = Options { safe_mode: true, ..Options::default() };
        let engine = Engine::open(Arc::new(OsDisk), dir.path(), options).unwrap();
        let views = engine.verify_views(&caller(), all(), &NoProgress).unwrap();
        assert!(views["local"].ok, "{views:?}");
        engine.close().unwrap();
    }
}

#[test]
fn a_generation_that_cannot_be_removed_keeps_no_scope_from_opening() {
    let disk = FaultyDisk::new();
    let start = || {
        let options = Options { reserve_bytes: 0, ..Options::default() };
        Engine::open(Arc::new(disk.clone()), Path::new("/store"), options).unwrap()
    };
    let engine = start();
    engine.upsert(&caller(), note("a", "t", "first")).unwrap();
    engine.upsert(&caller(), note("a", "t", "second")).unwrap();
    disk.plan(Fault::new(Operation::Remove, Failure::Io).on(".0.ndjson").lasting());
    engine.compact(&caller(), all(), &NoProgress).unwrap();
    engine.close().unwrap();
    let engine = start();
    assert_eq!(engine.unavailable(), []);
    assert_eq!(engine.get(&caller(), get("a")).unwrap().text, "second");
    let notes = engine.status().unwrap().remove(0).recovered;
    assert!(notes.iter().any(|note| note.contains("older generations are kept")), "{notes:?}");
    disk.heal();
    let compacted = engine.compact(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(compacted["local"].details["errors"], json!([]));
    assert!(
        !disk.exists(Path::new("/store/local/app/journal/00000000000000000001.0.ndjson")).unwrap()
    );
}

#[test]
fn a_damaged_body_keeps_no_older_generation_with_erased_ones() {
    let segment = |generation: u32| {
        PathBuf::from(format!("/store/local/app/journal/00000000000000000001.{generation}.ndjson"))
    };
    let mut interrupted = 0;
    for nth in 1..8 {
        let disk = FaultyDisk::new();
        let options = Options { reserve_bytes: 0, ..Options::default() };
        let engine = Engine::open(Arc::new(disk.clone()), Path::new("/store"), options).unwrap();
        engine.upsert(&caller(), note("secret", "t", "the heron nests")).unwrap();
        engine.upsert(&caller(), note("kept", "t", "stays")).unwrap();
        erase(&engine, "secret");
        seal(&engine);
        let bytes = disk.read(&segment(0)).unwrap();
        let at = bytes.windows(5).position(|window| window == b"stays").unwrap();
        let file = disk.open(&segment(0), OpenMode::ReadWrite).unwrap();
        file.write_all_at(at as u64, b"S").unwrap();
        file.sync().unwrap();
        disk.plan(Fault::new(Operation::Sync, Failure::Io).on("catalog.redb").nth(nth));
        let _ = engine.compact(&caller(), all(), &NoProgress);
        interrupted +=
            usize::from(disk.exists(&segment(0)).unwrap() && disk.exists(&segment(1)).unwrap());
        disk.heal();
        // So that the writer opens a failed catalog again.
        engine.upsert(&caller(), note("later", "t", "more")).unwrap();
        let compacted = engine.compact(&caller(), all(), &NoProgress).unwrap();
        let errors = compacted["local"].details["errors"].to_string();
        assert!(!errors.contains("older generations"), "sync {nth}: {errors}");
        assert!(!disk.exists(&segment(0)).unwrap(), "sync {nth}");
        assert_eq!(verified(&engine).unsound_count, 1, "sync {nth}");
    }
    assert!(interrupted > 0);
}

#[test]
fn compaction_prefers_a_sound_copy_in_a_block_to_a_damaged_one_in_the_journal() {
    let disk = FaultyDisk::new();
    let options = Options { reserve_bytes: 0, ..Options::default() };
    let engine = Engine::open(Arc::new(disk.clone()), Path::new("/store"), options).unwrap();
    for version in ["first", "second", "third"] {
        engine.upsert(&caller(), note("a", "t", version)).unwrap();
    }
    // The blocks are written, but the journal keeps its bodies.
    disk.plan(Fault::new(Operation::Rename, Failure::Io).on(".ndjson.partial").lasting());
    engine.compact(&caller(), all(), &NoProgress).unwrap();
    disk.heal();
    let segment = Path::new("/store/local/app/journal/00000000000000000001.0.ndjson");
    let bytes = disk.read(segment).unwrap();
    let at = bytes.windows(6).position(|window| window == b"second").unwrap();
    let file = disk.open(segment, OpenMode::ReadWrite).unwrap();
    file.write_all_at(at as u64, b"SECOND").unwrap();
    let second = || {
        let request = GetRequest { version: Some(Version(2)), ..get("a") };
        engine.get(&caller(), request).map(|item| item.text)
    };
    engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(second().unwrap(), "second");
    engine.journal_migrate(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(second().unwrap(), "second");
    assert!(verified(&engine).valid);
}
