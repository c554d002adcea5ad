//! Contents that are damaged on disk.

use std::path::PathBuf;

use llm_memory_disk::OpenMode;
use llm_memory_disk::faulty::{Failure, Fault, FaultyDisk, Operation};

use super::*;
use crate::api::JournalVerifyResult;
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

fn erase(engine: &Engine, id: &str) {
    let request = serde_json::from_value(json!({"id": id, "erase": true})).unwrap();
    engine.delete(&caller(), request).unwrap();
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
