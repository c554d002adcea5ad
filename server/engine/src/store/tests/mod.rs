//! The store as its callers meet it, on a real folder.

mod access;
mod damage;
mod erased;
mod listing;
mod opening;
mod trust;
mod writing;

use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::OsDisk;
use serde_json::json;

use super::*;
use crate::api::{
    DeleteRequest, ItemRequest, LinkRequest, MergeRequest, ProveRequest, PruneRequest,
    QueryRequest, RenewRequest, ScopeRequest, SyncMergeRequest, SyncStatusRequest, TagRequest,
    UpsertRequest,
};
use crate::ids::{ProjectId, Scope, ScopeSelector};
use crate::item::redaction::{PatternFile, Redactor};
use crate::item::{Relation, Sensitivity};
use crate::progress::NoProgress;

fn open(root: &Path) -> Engine {
    let options = Options { reserve_bytes: 0, segment_bytes: 64 << 10, ..Options::default() };
    Engine::open(Arc::new(OsDisk), root, options).unwrap()
}

fn caller() -> Caller {
    Caller::unrestricted("tester", Some(ProjectId::new("app").unwrap()))
}

fn note(id: &str, title: &str, text: &str) -> UpsertRequest {
    let value = json!({"id": id, "type": "note", "scope": "local", "title": title, "text": text});
    serde_json::from_value(value).unwrap()
}

fn get(id: &str) -> GetRequest {
    serde_json::from_value(json!({"id": id})).unwrap()
}

fn item(id: &str) -> ItemRequest {
    ItemRequest { id: ItemId::new(id).unwrap(), scope: None }
}

/// A word that no other number has, in letters alone: the tokenizer takes digits apart.
fn word(mut n: usize) -> String {
    let mut word = String::from("zq");
    for _ in 0..3 {
        word.push(char::from(b'a' + u8::try_from(n % 26).unwrap()));
        n /= 26;
    }
    word
}

fn query(text: &str) -> QueryRequest {
    QueryRequest { q: text.to_owned(), scope: ScopeSelector::All, ..QueryRequest::default() }
}

fn found(engine: &Engine, text: &str) -> Vec<String> {
    let result = engine.query(&caller(), query(text)).unwrap();
    result.items.iter().map(hit_id).collect()
}

fn all() -> ScopeRequest {
    ScopeRequest { scope: ScopeSelector::All }
}

#[test]
fn a_write_is_found_at_once_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let written = engine.upsert(&caller(), note("a", "Retry policy", "use backoff")).unwrap();
    assert!(written.created && written.changed);
    assert_eq!(written.version, Version(1));
    assert_eq!(found(&engine, "backoff"), ["a"]);
    engine.upsert(&caller(), note("a", "Retry policy", "use jitter")).unwrap();
    assert_eq!(found(&engine, "jitter"), ["a"]);
    assert_eq!(found(&engine, "backoff"), Vec::<String>::new());
    engine.close().unwrap();
    assert!(matches!(engine.get(&caller(), get("a")), Err(EngineError::Closed)));
    let engine = open(dir.path());
    assert_eq!(engine.get(&caller(), get("a")).unwrap().text, "use jitter");
    assert_eq!(found(&engine, "jitter"), ["a"]);
}

#[test]
fn a_store_that_was_not_closed_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..500 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", &word(n))).unwrap();
    }
    // As kill -9 leaves it: no thread gets to finish, only the lock is let go.
    let copy = tempfile::tempdir().unwrap();
    copy_tree(dir.path(), copy.path());
    let reopened = open(copy.path());
    for n in [0, 250, 499] {
        assert_eq!(found(&reopened, &word(n)), [format!("n{n}")]);
    }
    let report = reopened.journal_verify(&caller(), all(), &NoProgress).unwrap();
    assert!(report["local"].valid, "{report:?}");
    assert_eq!(report["local"].checked_count, 500);
}

#[test]
fn concurrent_increments_are_all_counted() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "t", "x")).unwrap();
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..50 {
                    engine.record_use(&caller(), item("a")).unwrap();
                }
            });
        }
    });
    engine.upsert(&caller(), note("a", "t", "changed")).unwrap();
    let read = engine.get(&caller(), get("a")).unwrap();
    assert_eq!(read.quality.counters.reuse_count, 400);
    assert_eq!(read.text, "changed");
    engine.close().unwrap();
    let engine = open(dir.path());
    assert_eq!(engine.get(&caller(), get("a")).unwrap().quality.counters.reuse_count, 400);
}

#[test]
fn every_read_shows_the_past() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "first", "alpha")).unwrap();
    engine.upsert(&caller(), note("b", "second", "beta")).unwrap();
    let link = LinkRequest {
        from: ItemId::new("a").unwrap(),
        to: ItemId::new("b").unwrap(),
        rel: Relation::Depends,
        scope: None,
        remove: false,
    };
    engine.link(&caller(), link.clone()).unwrap();
    let then = tick();
    engine.upsert(&caller(), note("a", "first", "gamma")).unwrap();
    engine.link(&caller(), LinkRequest { remove: true, ..link }).unwrap();
    engine.delete(&caller(), serde_json::from_value(json!({"id": "b"})).unwrap()).unwrap();
    engine.upsert(&caller(), note("c", "third", "delta")).unwrap();

    let past = GetRequest { as_of: Some(then), ..get("a") };
    assert_eq!(engine.get(&caller(), past).unwrap().text, "alpha");
    let list = ListRequest { as_of: Some(then), ..ListRequest::default() };
    let ids: Vec<String> =
        engine.list(&caller(), list).unwrap().items.iter().map(|s| s.id.to_string()).collect();
    assert_eq!(ids, ["a", "b"]);
    let now = engine.list(&caller(), ListRequest::default()).unwrap();
    assert_eq!(now.items.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["c", "a"]);
    let search = |text: &str, as_of| {
        let request = QueryRequest { as_of, ..query(text) };
        let hits = engine.query(&caller(), request).unwrap().items;
        hits.iter().map(hit_id).collect::<Vec<_>>()
    };
    assert_eq!(search("alpha", Some(then)), ["a"]);
    assert_eq!(search("beta", Some(then)), ["b"]);
    assert!(search("gamma", Some(then)).is_empty());
    assert!(search("alpha", None).is_empty());
    assert!(search("beta", None).is_empty());
    let graph = |as_of: Option<Timestamp>| {
        let request = json!({"id": "b", "direction": "in", "asOf": as_of.map(|t| t.to_string())});
        engine.graph(&caller(), serde_json::from_value(request).unwrap())
    };
    assert_eq!(graph(Some(then)).unwrap().edges.len(), 1);
    assert!(matches!(graph(None), Err(EngineError::NotFound { .. })));
    let history = json!({"id": "a", "content": true});
    let history = engine.history(&caller(), serde_json::from_value(history).unwrap()).unwrap();
    let texts: Vec<_> =
        history.entries.iter().map(|e| e.item.as_ref().unwrap().text.clone()).collect();
    assert_eq!(texts, ["gamma", "gamma", "alpha", "alpha"]);
}

#[test]
fn compaction_keeps_every_version_and_erasure_leaves_only_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..200 {
        engine
            .upsert(&caller(), note("a", "t", &format!("version {n} {}", "x".repeat(500))))
            .unwrap();
    }
    engine.upsert(&caller(), note("secret", "t", "the heron nests at dawn")).unwrap();
    let request: DeleteRequest =
        serde_json::from_value(json!({"id": "secret", "erase": true})).unwrap();
    engine.delete(&caller(), request).unwrap();
    let compacted = engine.compact(&caller(), all(), &NoProgress).unwrap();
    assert!(compacted["local"].bytes_after < compacted["local"].bytes_before, "{compacted:?}");
    let report = engine.journal_verify(&caller(), all(), &NoProgress).unwrap();
    assert!(report["local"].valid, "{report:?}");
    assert_eq!(report["local"].erased_bodies, 1);
    let old = GetRequest { version: Some(Version(7)), ..get("a") };
    assert!(engine.get(&caller(), old).unwrap().text.starts_with("version 6 "));
    engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    let views = engine.verify_views(&caller(), all(), &NoProgress).unwrap();
    assert!(views["local"].ok, "{views:?}");
    engine.close().unwrap();
    assert!(!contains(dir.path(), b"heron nests"), "the erased text is still on disk");
    let engine = open(dir.path());
    let old = GetRequest { version: Some(Version(100)), ..get("a") };
    assert!(engine.get(&caller(), old).unwrap().text.starts_with("version 99 "));
}

#[test]
fn what_is_erased_is_gone_after_the_next_compaction_however_little_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { reserve_bytes: 0, ..Options::default() };
    let engine = Engine::open(Arc::new(OsDisk), dir.path(), options).unwrap();
    for n in 0..200 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", &"x y ".repeat(200))).unwrap();
    }
    for (round, text) in ["the heron nests at dawn", "the otter sleeps at noon"].iter().enumerate()
    {
        engine.upsert(&caller(), note("secret", "t", text)).unwrap();
        let request = json!({"id": "secret", "erase": true});
        engine.delete(&caller(), serde_json::from_value(request).unwrap()).unwrap();
        let compacted = engine.compact(&caller(), all(), &NoProgress).unwrap();
        assert_eq!(compacted["local"].details["errors"], json!([]));
        assert!(!contains(&dir.path().join("local/app/journal"), text.as_bytes()), "{round}");
        let open_segment = OsDisk.read(&dir.path().join("local/app/journal.ndjson")).unwrap();
        let open_segment = String::from_utf8(open_segment).unwrap();
        assert!(!open_segment.contains(text), "round {round}");
        let report = engine.journal_verify(&caller(), all(), &NoProgress).unwrap();
        assert!(report["local"].valid, "{report:?}");
        assert_eq!(report["local"].erased_bodies, round as u64 + 1);
    }
}

#[test]
fn one_superseded_body_does_not_rewrite_a_whole_segment() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..200 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", &"x y ".repeat(200))).unwrap();
    }
    engine.upsert(&caller(), note("n0", "t", "changed")).unwrap();
    let compacted = engine.compact(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(compacted["local"].details["segments"], json!(0), "{compacted:?}");
    for n in 0..40 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", "changed as well")).unwrap();
    }
    let compacted = engine.compact(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(compacted["local"].details["segments"], json!(1), "{compacted:?}");
    let old = GetRequest { version: Some(Version(1)), ..get("n0") };
    assert!(engine.get(&caller(), old).unwrap().text.starts_with("x y"));
}

#[test]
fn rebuilding_derives_the_same_views() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..50 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", &word(n))).unwrap();
        engine.record_use(&caller(), item(&format!("n{}", n / 2))).unwrap();
    }
    engine.delete(&caller(), serde_json::from_value(json!({"id": "n3"})).unwrap()).unwrap();
    let before = engine.snapshot(&caller(), all(), &NoProgress).unwrap()["local"].checksum;
    engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    let after = engine.verify_views(&caller(), all(), &NoProgress).unwrap();
    assert!(after["local"].ok, "{after:?}");
    assert_eq!(after["local"].checksum, before);
    assert_eq!(found(&engine, &word(7)), ["n7"]);
    assert!(found(&engine, &word(3)).is_empty());
}

#[test]
fn damaged_views_are_derived_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "t", "kept")).unwrap();
    engine.close().unwrap();
    let catalog = dir.path().join("local/app/views/1/catalog.redb");
    let disk = OsDisk;
    disk.durable_write(&catalog, b"not a catalog").unwrap();
    let engine = open(dir.path());
    assert_eq!(found(&engine, "kept"), ["a"]);
    let status = engine.status().unwrap();
    assert!(status[0].recovered.iter().any(|note| note.contains("derived again")), "{status:?}");
}

#[test]
fn damage_in_the_open_segment_refuses_writes_until_it_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..9 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", &word(n))).unwrap();
    }
    engine.close().unwrap();
    let path = dir.path().join("local/app/journal.ndjson");
    let mut bytes = OsDisk.read(&path).unwrap();
    let needle = word(4);
    let at = bytes.windows(needle.len()).position(|w| w == needle.as_bytes()).unwrap();
    bytes[at] = b'X';
    OsDisk.durable_write(&path, &bytes).unwrap();
    let engine = open(dir.path());
    let error = engine.upsert(&caller(), note("new", "t", "x")).unwrap_err();
    assert!(matches!(error, EngineError::ReadOnly { .. }), "{error}");
    assert_eq!(found(&engine, &word(2)), ["n2"]);
    let report = engine.journal_verify(&caller(), all(), &NoProgress).unwrap();
    assert!(!report["local"].valid);
    let recovered = engine.recover(&caller(), all(), &NoProgress).unwrap();
    assert_eq!(recovered["local"].salvaged, 4, "{recovered:?}");
    engine.upsert(&caller(), note("new", "t", "x")).unwrap();
    assert_eq!(found(&engine, &word(8)), ["n8"]);
    assert!(engine.get(&caller(), get("n4")).is_err());
    assert!(engine.journal_verify(&caller(), all(), &NoProgress).unwrap()["local"].valid);
}

#[test]
fn tenants_and_owners_do_not_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let tenant = |name: &str| Caller { tenant: Some(TenantName::new(name).unwrap()), ..caller() };
    engine.upsert(&tenant("red"), note("a", "t", "crimson")).unwrap();
    assert!(engine.get(&tenant("red"), get("a")).is_ok());
    for other in [tenant("blue"), caller()] {
        assert!(matches!(engine.get(&other, get("a")), Err(EngineError::NotFound { .. })));
        assert!(engine.query(&other, query("crimson")).unwrap().items.is_empty());
        assert!(engine.list(&other, ListRequest::default()).unwrap().items.is_empty());
    }
    let own = |subject: &str| Caller { subject: subject.into(), own_only: true, ..caller() };
    engine.upsert(&own("ann"), note("mine", "t", "walnut")).unwrap();
    assert!(engine.get(&own("bob"), get("mine")).is_err());
    assert!(engine.query(&own("bob"), query("walnut")).unwrap().items.is_empty());
    assert_eq!(engine.query(&own("ann"), query("walnut")).unwrap().items.len(), 1);
    assert!(engine.pin(&own("bob"), item("mine")).is_err());
    let team = Caller { clearance: Sensitivity::Team, ..caller() };
    assert!(engine.get(&team, get("mine")).is_err(), "local items are private by default");
    let error = engine.upsert(&own("bob"), note("mine", "t", "x")).unwrap_err();
    assert!(matches!(error, EngineError::Forbidden { .. }));
}

#[test]
fn expired_items_vanish_can_be_renewed_and_are_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let brief = UpsertRequest { ttl_days: Some(0.001), ..note("a", "t", "mayfly") };
    let written = engine.upsert(&caller(), brief.clone()).unwrap();
    assert!(written.expires_at.is_some());
    assert_eq!(found(&engine, "mayfly"), ["a"]);
    let later = Timestamp::now().plus_days(1.0);
    let future = GetRequest { as_of: Some(later), ..get("a") };
    assert!(engine.get(&caller(), future).is_err(), "expired a day from now");
    let renewed = engine
        .renew(
            &caller(),
            RenewRequest { id: ItemId::new("a").unwrap(), scope: None, ttl_days: None },
        )
        .unwrap();
    assert!(renewed.expires_at >= written.expires_at);
    let request = PruneRequest { scope: ScopeSelector::All, dry_run: false };
    let pruned = engine.prune(&caller(), request, &NoProgress).unwrap();
    assert_eq!((pruned.total_expired, pruned.total_kept), (0, 1));
}

#[test]
fn refusals_name_the_field_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "t", "x")).unwrap();
    let stale = UpsertRequest { if_version: Some(Version(0)), ..note("a", "t", "y") };
    assert!(matches!(
        engine.upsert(&caller(), stale),
        Err(EngineError::VersionConflict { actual: Version(1), .. })
    ));
    let no_project = Caller { project: None, ..caller() };
    let error = engine.upsert(&no_project, note("b", "t", "x")).unwrap_err();
    assert!(error.to_string().contains("project"), "{error}");
    let committed = UpsertRequest {
        scope: Scope::Committed,
        sensitivity: Some(Sensitivity::Private),
        ..note("c", "t", "x")
    };
    assert!(engine.upsert(&caller(), committed.clone()).is_err());
    assert!(engine.upsert(&caller(), UpsertRequest { sensitivity: None, ..committed }).is_ok());
    let same = engine.upsert(&caller(), note("a", "t", "x")).unwrap();
    assert!(!same.changed);
    assert_eq!(same.version, Version(1));
}

#[test]
fn merging_and_tagging_keep_what_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "A", "one\ntwo")).unwrap();
    engine.upsert(&caller(), note("b", "B", "two\nthree")).unwrap();
    let tags = TagRequest {
        id: ItemId::new("b").unwrap(),
        scope: None,
        add: vec!["red".to_owned()],
        remove: Vec::new(),
    };
    engine.tag(&caller(), tags).unwrap();
    let request: MergeRequest = serde_json::from_value(
        json!({"sourceIds": ["a", "b"], "scope": "local", "deleteSource": true}),
    )
    .unwrap();
    engine.merge(&caller(), request).unwrap();
    let merged = engine.get(&caller(), get("a")).unwrap();
    assert_eq!(merged.text, "one\ntwo\nthree");
    assert_eq!(merged.facets.tags, ["red"]);
    assert!(engine.get(&caller(), get("b")).is_err());
}

#[test]
fn a_proof_of_inclusion_checks_out() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..5 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", "x y z")).unwrap();
    }
    let request = ProveRequest { id: ItemId::new("n2").unwrap(), scope: None, version: None };
    let proof = engine.journal_prove(&caller(), request).unwrap();
    assert_eq!(proof.content_hash, engine.get(&caller(), get("n2")).unwrap().hash);
    crate::journal::verify_proof(&proof, None).unwrap();
}

/// A moment strictly between what was written before and what is written after.
fn tick() -> Timestamp {
    let begun = Timestamp::now();
    while Timestamp::now() == begun {
        std::hint::spin_loop();
    }
    let middle = Timestamp::now();
    while Timestamp::now() == middle {
        std::hint::spin_loop();
    }
    middle
}

use crate::ids::TenantId as TenantName;

fn copy_tree(from: &Path, to: &Path) {
    let disk = OsDisk;
    for entry in disk.list(from).unwrap() {
        let (source, target) = (from.join(&entry.name), to.join(&entry.name));
        if entry.is_dir {
            disk.create_dir_all(&target).unwrap();
            copy_tree(&source, &target);
        } else {
            disk.durable_write(&target, &disk.read(&source).unwrap()).unwrap();
        }
    }
}

fn contains(folder: &Path, needle: &[u8]) -> bool {
    let disk = OsDisk;
    disk.list(folder).unwrap().into_iter().any(|entry| {
        let path = folder.join(&entry.name);
        if entry.is_dir {
            contains(&path, needle)
        } else {
            disk.read(&path).unwrap().windows(needle.len()).any(|window| window == needle)
        }
    })
}

fn hit_id(hit: &crate::api::Hit) -> String {
    use crate::api::HitBody;
    match &hit.body {
        HitBody::Full(item) => item.id.to_string(),
        HitBody::Snippet { summary, .. } | HitBody::Summary(summary) => summary.id.to_string(),
    }
}

#[test]
fn importing_again_writes_only_what_changed_there_and_nothing_that_changed_here() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let then = Timestamp::from_millis(1_790_000_000_000);
    let import = |texts: [&str; 2]| {
        let items = texts.into_iter().enumerate().map(|(n, text)| {
            let content = crate::item::fixtures::note(&format!("n{n}"), text, then);
            (content, crate::item::Counters::default())
        });
        engine.import(&caller(), Scope::Local, items).unwrap()
    };
    assert_eq!(import(["one", "two"]).0, 2);
    assert_eq!(import(["one", "two"]), (0, vec![]));
    assert_eq!(import(["one", "2"]).0, 1);
    assert_eq!(engine.get(&caller(), get("n1")).unwrap().text, "2");

    engine.upsert(&caller(), note("n0", "", "mine")).unwrap();
    let (written, skipped) = import(["one", "2"]);
    assert_eq!((written, skipped.len()), (0, 1));
    assert_eq!(engine.get(&caller(), get("n0")).unwrap().text, "mine");
}

#[test]
fn what_a_reader_got_can_be_written_back_with_its_secrets_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let secret = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let written = engine.upsert(&caller(), note("a", "", &format!("use {secret}"))).unwrap();
    assert_eq!(written.redactions, 1);
    let read = engine.get(&caller(), get("a")).unwrap();
    assert_eq!(read.text, "use <redacted-secret>");
    assert!(!engine.upsert(&caller(), note("a", "", &read.text)).unwrap().changed);
    assert_eq!(engine.get(&caller(), get("a")).unwrap().security.secret_hash_refs.len(), 1);
    engine.upsert(&caller(), note("a", "", "nothing left")).unwrap();
    assert!(engine.get(&caller(), get("a")).unwrap().security.secret_hash_refs.is_empty());
}

#[test]
fn a_sensitivity_kept_from_before_still_passes_the_gate() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let accept = |most: &str| {
        let config = json!({"sharing": {"sensitivity": most}});
        let config = crate::config::ScopeConfig::from_json(&config).unwrap();
        engine.set_scope_config(&caller(), Scope::Committed, &config).unwrap();
    };
    accept("private");
    let mut request = UpsertRequest { scope: Scope::Committed, ..note("a", "", "x") };
    request.sensitivity = Some(Sensitivity::Private);
    engine.upsert(&caller(), request.clone()).unwrap();
    accept("team");
    request.sensitivity = None;
    request.text = "y".into();
    let error = engine.upsert(&caller(), request).unwrap_err().to_string();
    assert!(error.contains("private exceeds team"), "{error}");
}

#[test]
fn copying_to_the_committed_scope_obeys_the_rules_of_today() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for (id, text) in [("a", "ticket-4711"), ("ticket-4712", "x")] {
        let request = UpsertRequest { sensitivity: Some(Sensitivity::Team), ..note(id, "", text) };
        engine.upsert(&caller(), request).unwrap();
    }
    engine.upsert(&caller(), note("private", "", "x")).unwrap();
    let file = PatternFile { patterns: vec!["ticket-[0-9]+".into()], ..PatternFile::default() };
    engine.set_redactor(Redactor::new(&file).unwrap());

    // The second time there is nothing to write.
    for _ in 0..2 {
        let result = engine.sync_merge(&caller(), SyncMergeRequest::default()).unwrap();
        assert_eq!(result.merged, [ItemId::new("a").unwrap()]);
        let mut reasons: Vec<_> = result.skipped.into_iter().map(|one| one.reason).collect();
        reasons.sort_unstable();
        assert!(reasons[0].starts_with("id: looks like a secret"), "{reasons:?}");
        assert!(reasons[1].starts_with("sensitivity: private exceeds team"), "{reasons:?}");
        let committed = GetRequest { scope: Some(Scope::Committed), ..get("a") };
        let copy = engine.get(&caller(), committed).unwrap();
        assert_eq!((copy.text.as_str(), copy.version), ("<redacted-secret>", Version(1)));
        assert_eq!(copy.security.secret_hash_refs.len(), 1);
        let status = engine.sync_status(&caller(), SyncStatusRequest::default()).unwrap();
        assert!(status.local_newer.is_empty() && status.committed_newer.is_empty());
    }
}
