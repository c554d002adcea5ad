//! What writes may change, and where.

use super::listing::at;
use super::*;
use crate::api::{SyncMergeRequest, SyncStatusRequest};
use crate::item::{Counters, fixtures};

fn committed(id: &str, text: &str) -> UpsertRequest {
    UpsertRequest { scope: Scope::Committed, ..note(id, "t", text) }
}

fn local(id: &str, text: &str) -> UpsertRequest {
    UpsertRequest { sensitivity: Some(Sensitivity::Team), ..note(id, "t", text) }
}

fn sync(engine: &Engine, caller: &Caller, force: bool) -> crate::api::SyncMergeResult {
    let request: SyncMergeRequest = serde_json::from_value(json!({"force": force})).unwrap();
    engine.sync_merge(caller, request).unwrap()
}

fn read_committed(engine: &Engine, id: &str) -> Item {
    let request = GetRequest { scope: Some(Scope::Committed), ..get(id) };
    engine.get(&caller(), request).unwrap()
}

#[test]
fn syncing_writes_over_no_item_of_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let own = |subject: &str| Caller { subject: subject.into(), own_only: true, ..caller() };
    engine.upsert(&own("ann"), committed("x", "hers")).unwrap();
    engine.upsert(&own("bob"), local("x", "his")).unwrap();
    engine.upsert(&own("bob"), local("y", "his too")).unwrap();
    for force in [false, true] {
        let result = sync(&engine, &own("bob"), force);
        assert_eq!(result.merged.len(), 1, "{result:?}");
        assert_eq!(result.skipped[0].id.as_str(), "x");
        assert_eq!(read_committed(&engine, "x").text, "hers");
    }
    assert_eq!(read_committed(&engine, "y").text, "his too");
}

#[test]
fn syncing_keeps_the_counters_of_the_item_it_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), committed("x", "old")).unwrap();
    engine.record_use(&caller(), item("x")).unwrap();
    engine.upsert(&caller(), local("x", "new")).unwrap();
    engine.upsert(&caller(), local("y", "only here")).unwrap();
    let used = ItemRequest { scope: Some(Scope::Local), ..item("y") };
    engine.record_use(&caller(), used).unwrap();
    assert_eq!(sync(&engine, &caller(), false).merged.len(), 2);
    let replaced = read_committed(&engine, "x");
    assert_eq!((&*replaced.text, replaced.quality.counters.reuse_count), ("new", 1));
    assert_eq!(read_committed(&engine, "y").quality.counters.reuse_count, 1);
}

#[test]
fn syncing_brings_nothing_back_that_was_deleted_or_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for id in ["deleted", "erased", "over", "changed"] {
        engine.upsert(&caller(), local(id, "old")).unwrap();
    }
    let ids = json!({"ids": ["deleted", "erased", "changed"]});
    engine.sync_merge(&caller(), serde_json::from_value(ids).unwrap()).unwrap();
    tick();
    for (id, erase) in [("deleted", false), ("erased", true), ("changed", false)] {
        let request = json!({"id": id, "scope": "committed", "erase": erase});
        engine.delete(&caller(), serde_json::from_value(request).unwrap()).unwrap();
    }
    let mut over = fixtures::note("over", "newer", Timestamp::now());
    over.sensitivity = Sensitivity::Team;
    (over.ttl_days, over.expires_at) = (Some(1.0), Some(at(1)));
    engine.import(&caller(), Scope::Committed, [(over, Counters::default())]).unwrap();
    // What was written here since the deletion is news.
    tick();
    engine.upsert(&caller(), local("changed", "new")).unwrap();
    let result = sync(&engine, &caller(), false);
    let mut skipped: Vec<_> = result.skipped.iter().map(|left| left.id.as_str()).collect();
    skipped.sort_unstable();
    assert_eq!(skipped, ["deleted", "erased", "over"], "{result:?}");
    assert_eq!(read_committed(&engine, "changed").text, "new");
    let forced = sync(&engine, &caller(), true);
    assert_eq!(forced.skipped, []);
    assert_eq!(read_committed(&engine, "erased").text, "old");
    assert_eq!(read_committed(&engine, "over").text, "old");
}

#[test]
fn comparing_scopes_counts_everything_and_names_as_much_as_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..3 {
        engine.upsert(&caller(), local(&format!("here{n}"), "x")).unwrap();
        engine.upsert(&caller(), committed(&format!("there{n}"), "x")).unwrap();
        engine.upsert(&caller(), committed(&format!("newer{n}"), "x")).unwrap();
    }
    tick();
    for n in 0..3 {
        engine.upsert(&caller(), local(&format!("newer{n}"), "y")).unwrap();
    }
    let status = |limit| engine.sync_status(&caller(), SyncStatusRequest { limit });
    let first = status(Some(2)).unwrap();
    let totals = [first.only_local_total, first.only_committed_total, first.local_newer_total];
    assert_eq!((totals, first.committed_newer_total), ([3; 3], 0));
    let names = |list: &[crate::item::Summary]| -> Vec<String> {
        list.iter().map(|one| one.id.to_string()).collect()
    };
    assert_eq!(names(&first.only_local), ["here2", "here1"]);
    assert_eq!(names(&first.only_committed), ["there2", "there1"]);
    assert_eq!(names(&first.local_newer), ["newer2", "newer1"]);
    assert_eq!(status(None).unwrap().only_local.len(), 3);
    assert_eq!(status(Some(1001)).unwrap_err().code(), "invalid_argument");
}

#[test]
fn copying_a_whole_scope_counts_everything_and_names_the_first() {
    const ITEMS: usize = 1001;
    let disk = llm_memory_disk::faulty::FaultyDisk::new();
    let options = Options { reserve_bytes: 0, ..Options::default() };
    let engine = Engine::open(Arc::new(disk), Path::new("/store"), options).unwrap();
    let items = (0..ITEMS).map(|n| {
        let mut one = fixtures::note(&format!("n{n}"), "x", at(1));
        one.sensitivity = Sensitivity::Team;
        (one, Counters::default())
    });
    engine.import(&caller(), Scope::Local, items).unwrap();
    let result = sync(&engine, &caller(), false);
    assert_eq!((result.merged_total, result.merged.len()), (1001, 1000));
    assert_eq!((result.skipped_total, result.skipped.len()), (0, 0));
    let mut ids: Vec<ItemId> = result.merged;
    ids.extend((0..2).map(|n| ItemId::new(format!("none{n}")).unwrap()));
    let named = SyncMergeRequest { ids, force: false };
    let result = engine.sync_merge(&caller(), named).unwrap();
    assert_eq!((result.merged.len(), result.skipped.len()), (1000, 2));
}

#[test]
fn importing_again_keeps_the_counters_of_the_item_it_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let import = |text: &str, moment| {
        let counters = Counters { reuse_count: 5, ..Counters::default() };
        let items = [(fixtures::note("x", text, moment), counters)];
        assert_eq!(engine.import(&caller(), Scope::Local, items).unwrap(), (1, Vec::new()));
    };
    let count = || engine.get(&caller(), get("x")).unwrap().quality.counters.reuse_count;
    import("old", at(0));
    assert_eq!(count(), 5);
    engine.record_use(&caller(), item("x")).unwrap();
    import("new", at(1));
    assert_eq!(engine.get(&caller(), get("x")).unwrap().text, "new");
    assert_eq!(count(), 6);
    engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(count(), 6);
    // One that was deleted here comes as if it were new.
    engine.delete(&caller(), serde_json::from_value(json!({"id": "x"})).unwrap()).unwrap();
    import("newer", at(2));
    assert_eq!(count(), 5);
}

#[test]
fn changing_an_item_creates_no_scope() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let mistyped = Caller { project: Some(ProjectId::new("appp").unwrap()), ..caller() };
    let delete = json!({"id": "a", "scope": "local"});
    let deleted = engine.delete(&mistyped, serde_json::from_value(delete).unwrap());
    assert!(matches!(deleted, Err(EngineError::NotFound { .. })));
    let merge = json!({"sourceIds": ["a"], "scope": "local"});
    let merged = engine.merge(&mistyped, serde_json::from_value(merge).unwrap());
    assert!(matches!(merged, Err(EngineError::NotFound { .. })));
    assert!(!dir.path().join("local").exists());
}

#[test]
fn an_item_whose_life_is_over_does_not_hide_one_of_the_same_name() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let mut over = fixtures::note("x", "over", at(0));
    (over.ttl_days, over.expires_at) = (Some(1.0), Some(at(1)));
    over.sensitivity = Sensitivity::Team;
    engine.import(&caller(), Scope::Committed, [(over, Counters::default())]).unwrap();
    engine.upsert(&caller(), note("x", "t", "alive")).unwrap();
    assert_eq!(engine.get(&caller(), get("x")).unwrap().text, "alive");
    let used = engine.record_use(&caller(), item("x")).unwrap();
    assert_eq!(used.scope, Scope::Local);
}

#[test]
fn the_scopes_of_a_project_need_a_project() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let nowhere = Caller { project: None, ..caller() };
    let list = |scope| engine.list(&nowhere, ListRequest { scope, ..ListRequest::default() });
    let error = list(ScopeSelector::Project).unwrap_err().to_string();
    assert!(error.contains("pass project"), "{error}");
    assert_eq!(list(ScopeSelector::All).unwrap().total, 0);
}

#[test]
fn a_configuration_that_may_not_be_written_is_not_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), committed("x", "y")).unwrap();
    engine.close().unwrap();
    let options = Options { safe_mode: true, ..Options::default() };
    let engine = Engine::open(Arc::new(OsDisk), dir.path(), options).unwrap();
    let config = json!({"sharing": {"sensitivity": "private"}});
    let config = crate::config::ScopeConfig::from_json(&config).unwrap();
    assert!(engine.set_scope_config(&caller(), Scope::Committed, &config).is_err());
    let current = engine.scope_config(&caller(), Scope::Committed).unwrap();
    assert_eq!(current.sharing.sensitivity, Sensitivity::Team);
    assert!(!dir.path().join("committed/app/config.json").exists());
}

/// An item of the committed scope whose life is over.
fn over(engine: &Engine, id: &str) {
    let mut over = fixtures::note(id, "over", at(5));
    (over.ttl_days, over.expires_at) = (Some(1.0), Some(at(6)));
    over.sensitivity = Sensitivity::Team;
    engine.import(&caller(), Scope::Committed, [(over, Counters::default())]).unwrap();
}

#[test]
fn deleting_and_renewing_prefer_the_item_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    over(&engine, "x");
    engine.upsert(&caller(), note("x", "t", "alive")).unwrap();
    let renew = || engine.renew(&caller(), serde_json::from_value(json!({"id": "x"})).unwrap());
    let delete = || engine.delete(&caller(), serde_json::from_value(json!({"id": "x"})).unwrap());
    assert_eq!(renew().unwrap().scope, Scope::Local);
    assert_eq!(delete().unwrap().scope, Scope::Local);
    assert_eq!(renew().unwrap().scope, Scope::Committed);
    // Of a version whose life was shorter the item's own is what counts.
    let first = GetRequest { version: Some(Version(1)), ..get("x") };
    assert_eq!(engine.get(&caller(), first).unwrap().text, "over");
    assert_eq!(delete().unwrap().scope, Scope::Committed);
}

#[test]
fn importing_again_knows_items_whose_life_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    over(&engine, "x");
    let again = |text: &str, moment| {
        let mut item = fixtures::note("x", text, moment);
        (item.ttl_days, item.expires_at) = (Some(1.0), Some(at(6)));
        item.sensitivity = Sensitivity::Team;
        engine.import(&caller(), Scope::Committed, [(item, Counters::default())]).unwrap()
    };
    assert_eq!(again("over", at(5)), (0, Vec::new()));
    let (written, skipped) = again("older", at(4));
    assert_eq!(written, 0);
    assert!(skipped[0].reason.contains("was written later"), "{skipped:?}");
    assert_eq!(again("newer", at(6)), (1, Vec::new()));
}

#[test]
fn version_0_is_that_of_an_item_that_no_reader_sees() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    over(&engine, "x");
    let expecting = |id, version| {
        let if_version = Some(Version(version));
        engine.upsert(&caller(), UpsertRequest { if_version, ..committed(id, "new") })
    };
    assert_eq!(expecting("x", 0).unwrap().version, Version(2));
    assert_eq!(expecting("x", 0).unwrap_err().code(), "version_conflict");
    let told = expecting("nope", 3).unwrap_err().to_string();
    assert!(told.contains("no item nope") && told.contains("ifVersion"), "{told}");
}
