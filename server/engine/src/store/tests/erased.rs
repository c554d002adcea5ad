//! Items that expire or are erased, and versions whose content is lost.

use super::listing::{at, import};
use super::*;
use crate::api::WriteResult;
use crate::item::fixtures;
use crate::journal::{Draft, Journal, JournalOptions, Op};
use crate::store::command::{Command, Visibility, Who};

fn local(engine: &Engine) -> Arc<ScopeStore> {
    let mut open = engine.open_scopes().unwrap().into_iter();
    open.find(|scope| scope.state.key.scope == Scope::Local).unwrap()
}

fn erase(engine: &Engine, id: &str) {
    let request = serde_json::from_value(json!({"id": id, "erase": true})).unwrap();
    engine.delete(&caller(), request).unwrap();
}

/// What pruning does with an item that it has found expired.
fn prune(engine: &Engine, id: &str) -> Result<WriteResult> {
    let who = Who { subject: "pruner".to_owned(), visibility: Visibility::all() };
    let id = ItemId::new(id).unwrap();
    let command = Command::Delete { op: Op::Prune, id, if_version: None, erase: false, who };
    local(engine).writer.write(command)
}

#[test]
fn pruning_spares_what_was_renewed_since_it_was_found_expired() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    import(
        &engine,
        ["over", "renewed"].map(|id| {
            let mut content = fixtures::note(id, "x", at(0));
            (content.ttl_days, content.expires_at) = (Some(1.0), Some(at(1)));
            content
        }),
    );
    let renew = json!({"id": "renewed", "ttlDays": 1});
    engine.renew(&caller(), serde_json::from_value(renew).unwrap()).unwrap();
    assert!(matches!(prune(&engine, "renewed"), Err(EngineError::NotFound { .. })));
    assert!(engine.get(&caller(), get("renewed")).is_ok());
    prune(&engine, "over").unwrap();
}

/// Adds a record to the journal of a closed store, as if the clock had been `days` ahead.
fn jump_ahead(root: &Path, days: f64) {
    let options = JournalOptions::default();
    let folder = root.join("local/app");
    let (mut journal, _) = Journal::open(Arc::new(OsDisk), &folder, options).unwrap();
    journal.stage(&Draft {
        ts: Timestamp::now().plus_days(days),
        op: Op::Config,
        id: &ItemId::new("scope").unwrap(),
        version: Version(0),
        hash: crate::ids::Digest::ZERO,
        actor: "tester",
        meta: serde_json::Map::new(),
        body: None,
    });
    journal.commit().unwrap();
}

#[test]
fn a_clock_that_once_ran_ahead_ends_no_life() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let ids = ["edited", "used", "renewed", "target", "pruned", "written"];
    for id in ids {
        engine
            .upsert(&caller(), UpsertRequest { ttl_days: Some(1.0), ..note(id, "t", id) })
            .unwrap();
    }
    engine.close().unwrap();
    jump_ahead(dir.path(), 300.0);
    let engine = open(dir.path());
    let tag = json!({"id": "edited", "add": ["x"]});
    engine.tag(&caller(), serde_json::from_value(tag).unwrap()).unwrap();
    engine.record_use(&caller(), item("used")).unwrap();
    let renew = json!({"id": "renewed"});
    engine.renew(&caller(), serde_json::from_value(renew).unwrap()).unwrap();
    engine.upsert(&caller(), note("written", "t", "again")).unwrap();
    let merge = json!({"sourceIds": ["edited"], "scope": "local", "targetId": "target"});
    engine.merge(&caller(), serde_json::from_value(merge).unwrap()).unwrap();
    let pruned = prune(&engine, "pruned");
    assert!(matches!(pruned, Err(EngineError::NotFound { .. })), "{pruned:?}");
    let tomorrow = Timestamp::now().plus_days(1.0);
    let read = |engine: &Engine| ids.map(|id| engine.get(&caller(), get(id)).unwrap());
    let items = read(&engine);
    assert!(items.iter().all(|item| item.quality.expires_at.unwrap() <= tomorrow), "{items:?}");
    assert!(items[1].quality.counters.last_used_at.unwrap() <= Timestamp::now());
    assert_eq!(items[3].text, "target\nedited");
    let hashes = items.map(|item| item.hash);
    engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(read(&engine).map(|item| item.hash), hashes);
}

#[test]
fn merging_into_an_item_whose_life_is_over_makes_one_that_lives() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let mut over = fixtures::note("notes", "stale", at(0));
    (over.ttl_days, over.expires_at) = (Some(1.0), Some(at(1)));
    import(&engine, [over]);
    engine.upsert(&caller(), note("a", "t", "first")).unwrap();
    engine.upsert(&caller(), note("b", "t", "second")).unwrap();
    let merge = json!({"sourceIds": ["a", "b"], "scope": "local", "targetId": "notes",
        "deleteSource": true});
    let merged = engine.merge(&caller(), serde_json::from_value(merge).unwrap()).unwrap();
    assert_eq!((merged.created, merged.version), (true, Version(2)));
    let check = |engine: &Engine| {
        let read = engine.get(&caller(), get("notes")).unwrap();
        assert!(read.text.contains("first") && read.text.contains("second"), "{}", read.text);
        assert!(!read.text.contains("stale"), "{}", read.text);
        assert_eq!(read.quality.expires_at, None);
        assert_eq!(found(engine, "second"), ["notes"]);
    };
    check(&engine);
    engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    check(&engine);
}

#[test]
fn what_is_erased_in_one_scope_hides_no_deleted_one_of_another() {
    for (erased, deleted) in [(Scope::Local, Scope::Global), (Scope::Global, Scope::Local)] {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        let remove = |request| engine.delete(&caller(), serde_json::from_value(request).unwrap());
        for scope in [erased, deleted] {
            engine.upsert(&caller(), UpsertRequest { scope, ..note("a", "t", "x") }).unwrap();
        }
        remove(json!({"id": "a", "scope": erased, "erase": true})).unwrap();
        remove(json!({"id": "a", "scope": deleted})).unwrap();
        let done = remove(json!({"id": "a", "erase": true})).unwrap();
        assert_eq!(done.scope, deleted);
        let nothing_left = remove(json!({"id": "a", "erase": true}));
        assert!(matches!(nothing_left, Err(EngineError::NotFound { .. })), "{nothing_left:?}");
    }
}

#[test]
fn erasure_leaves_no_words_in_the_catalog_however_it_was_derived() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let mut request = note("a", "the heron", "nests");
    (request.tags, request.files) = (vec!["bird".to_owned()], vec!["nest.rs".to_owned()]);
    engine.upsert(&caller(), request).unwrap();
    engine.record_use(&caller(), item("a")).unwrap();
    erase(&engine, "a");
    let row = |engine: &Engine| {
        local(engine).state.read().unwrap().item(&ItemId::new("a").unwrap()).unwrap().unwrap()
    };
    let live = row(&engine);
    assert!(live.deleted && live.title.is_empty() && live.tags.is_empty(), "{live:?}");
    assert!(live.files.is_empty() && live.symbols.is_empty(), "{live:?}");
    engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(row(&engine), live);
    engine.compact(&caller(), all(), &NoProgress).unwrap();
    engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(row(&engine), live);
    // Numbering and history go on.
    let history = json!({"id": "a"});
    let history = engine.history(&caller(), serde_json::from_value(history).unwrap()).unwrap();
    assert_eq!(history.total, 2);
    assert_eq!(engine.upsert(&caller(), note("a", "", "new")).unwrap().version, Version(3));
}

#[test]
fn compaction_takes_erased_words_from_the_text_index() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let known = |word: &str| {
        let text = Arc::clone(&local(&engine).state.views.load().text);
        text.flush().unwrap();
        let statistics = text.statistics(&crate::text::parse(word), None).unwrap();
        statistics.frequencies.iter().sum::<u64>() > 0
    };
    engine.upsert(&caller(), note("a", "t", "heron")).unwrap();
    engine.upsert(&caller(), note("b", "t", "stork")).unwrap();
    // So that no segment of the index holds nothing but what is deleted, which goes by itself.
    engine.upsert(&caller(), note("d", "t", "crane")).unwrap();
    assert!(known("heron"));
    for (id, word) in [("a", "heron"), ("b", "stork")] {
        erase(&engine, id);
        assert!(known(word));
        engine.compact(&caller(), all(), &NoProgress).unwrap();
        assert!(!known(word), "{word}");
        // What lies in blocks is found there.
        engine.upsert(&caller(), note("c", "t", "egret")).unwrap();
        engine.journal_migrate(&caller(), all(), &NoProgress).unwrap();
    }
    assert!(known("egret"));
}

#[test]
fn an_erased_text_in_a_cache_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "t", "the heron nests")).unwrap();
    let scope = local(&engine);
    let before = scope.state.read().unwrap();
    let hash = engine.get(&caller(), get("a")).unwrap().hash;
    erase(&engine, "a");
    // A reader that began before the erasure and is slow.
    assert!(scope.state.content(&before, hash).unwrap().is_some());
    let first = GetRequest { version: Some(Version(1)), ..get("a") };
    let refused = engine.get(&caller(), first).unwrap_err().to_string();
    assert!(refused.contains("erased"), "{refused}");
    let history = json!({"id": "a", "content": true});
    let history = engine.history(&caller(), serde_json::from_value(history).unwrap()).unwrap();
    assert!(history.entries.iter().all(|entry| entry.item.is_none()));
}

/// A store with versions of `a` in blocks, and views that have to be derived.
fn in_blocks(root: &Path) {
    let engine = open(root);
    for text in ["one", "two"] {
        engine.upsert(&caller(), note("a", "t", text)).unwrap();
    }
    engine.upsert(&caller(), note("b", "t", "other")).unwrap();
    engine.journal_migrate(&caller(), all(), &NoProgress).unwrap();
    engine.upsert(&caller(), note("c", "t", "kept")).unwrap();
    engine.close().unwrap();
    OsDisk.remove_dir_all(&root.join("local/app/views")).unwrap();
}

fn check_lost_content(root: &Path) {
    let engine = open(root);
    assert_eq!(engine.unavailable(), []);
    assert_eq!(engine.get(&caller(), get("c")).unwrap().text, "kept");
    let notes = &engine.status().unwrap()[0].recovered;
    assert!(notes.iter().any(|note| note.contains("content of 3 versions")), "{notes:?}");
    // Never an older version in place of the one that is lost.
    let error = engine.get(&caller(), get("a")).unwrap_err();
    assert!(matches!(error, EngineError::Corrupt { .. }), "{error}");
    assert!(found(&engine, "one").is_empty());
    let history = json!({"id": "a"});
    let history = engine.history(&caller(), serde_json::from_value(history).unwrap()).unwrap();
    assert_eq!(history.total, 2);
    // It can be written whole again, and deleted.
    assert_eq!(engine.upsert(&caller(), note("a", "", "three")).unwrap().version, Version(3));
    assert_eq!(found(&engine, "three"), ["a"]);
    engine.delete(&caller(), serde_json::from_value(json!({"id": "b"})).unwrap()).unwrap();
}

#[test]
fn versions_whose_content_is_gone_keep_their_place() {
    let dir = tempfile::tempdir().unwrap();
    in_blocks(dir.path());
    OsDisk.remove_dir_all(&dir.path().join("local/app/blocks")).unwrap();
    check_lost_content(dir.path());
}

#[test]
fn a_damaged_block_does_not_keep_a_scope_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    in_blocks(dir.path());
    let blocks = dir.path().join("local/app/blocks");
    for entry in OsDisk.list(&blocks).unwrap() {
        let path = blocks.join(&entry.name);
        if path.extension().is_some_and(|extension| extension == "blk") {
            let mut bytes = OsDisk.read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            OsDisk.durable_write(&path, &bytes).unwrap();
        }
    }
    check_lost_content(dir.path());
}

#[test]
fn what_was_deleted_or_pruned_before_can_still_be_erased() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("deleted", "t", "one")).unwrap();
    engine.delete(&caller(), serde_json::from_value(json!({"id": "deleted"})).unwrap()).unwrap();
    let mut over = fixtures::note("pruned", "two", at(0));
    (over.ttl_days, over.expires_at) = (Some(1.0), Some(at(1)));
    import(&engine, [over]);
    prune(&engine, "pruned").unwrap();
    let first = |id| {
        let request = GetRequest { version: Some(Version(1)), ..get(id) };
        engine.get(&caller(), request).map(|item| item.text).map_err(|error| error.to_string())
    };
    assert_eq!(first("deleted").unwrap(), "one");
    for id in ["deleted", "pruned"] {
        erase(&engine, id);
        let request = serde_json::from_value(json!({"id": id, "erase": true})).unwrap();
        let again = engine.delete(&caller(), request).unwrap_err();
        assert!(matches!(again, EngineError::NotFound { .. }), "{again}");
    }
    assert!(first("deleted").unwrap_err().contains("was erased"));
    engine.compact(&caller(), all(), &NoProgress).unwrap();
    let report = &engine.journal_verify(&caller(), all(), &NoProgress).unwrap()["local"];
    assert_eq!((report.valid, report.erased_bodies), (true, 2));
    let items = engine.status().unwrap()[0].items;
    engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    assert_eq!((items, engine.status().unwrap()[0].items), (0, 0));
    assert!(engine.verify_views(&caller(), all(), &NoProgress).unwrap()["local"].ok);
}

#[test]
fn a_lost_body_does_not_keep_a_reader_of_many_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    in_blocks(dir.path());
    OsDisk.remove_dir_all(&dir.path().join("local/app/blocks")).unwrap();
    let engine = open(dir.path());
    let then = tick();
    for id in ["a", "c"] {
        engine.upsert(&caller(), note(id, "t", "three")).unwrap();
    }
    let as_of = Some(then);
    let result = engine.query(&caller(), QueryRequest { as_of, ..query("kept") }).unwrap();
    assert_eq!(result.items.iter().map(hit_id).collect::<Vec<_>>(), ["c"]);
    assert!(result.notice.unwrap().contains("damaged"));
    let list = ListRequest { as_of, scope: ScopeSelector::Local, ..ListRequest::default() };
    let list = engine.list(&caller(), list).unwrap();
    let listed: Vec<&str> = list.items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(listed, ["c", "b"]);
    assert!(list.notice.unwrap().contains("damaged"));
    let history = serde_json::from_value(json!({"id": "a", "content": true})).unwrap();
    let history = engine.history(&caller(), history).unwrap();
    let told: Vec<bool> = history.entries.iter().map(|entry| entry.item.is_some()).collect();
    assert_eq!(told, [true, false, false]);
    // What is lost is left out by name; the others are looked at.
    let merged = engine.sync_merge(&caller(), SyncMergeRequest::default()).unwrap();
    assert_eq!(merged.skipped_total, 3);
    let lost = |reason: &str| reason.starts_with("corrupt");
    assert_eq!(merged.skipped.iter().filter(|one| lost(&one.reason)).count(), 1);
    let items =
        ["b", "d"].map(|id| (fixtures::note(id, "x", at(0)), crate::item::Counters::default()));
    let (written, skipped) = engine.import(&caller(), Scope::Local, items).unwrap();
    assert_eq!((written, skipped.len()), (1, 1));
    assert!(skipped[0].id.as_str() == "b" && lost(&skipped[0].reason), "{skipped:?}");
}
