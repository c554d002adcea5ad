//! Lists, and what readers of the past see.

use super::*;
use crate::api::{Filters, TotalRelation};
use crate::item::{Content, Counters, fixtures};

/// Takes items over that were written elsewhere.
pub(super) fn import(engine: &Engine, items: impl IntoIterator<Item = Content>) {
    let items = items.into_iter().map(|content| (content, Counters::default()));
    let (_, skipped) = engine.import(&caller(), Scope::Local, items).unwrap();
    assert!(skipped.is_empty(), "{skipped:?}");
}

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

fn pages(engine: &Engine, caller: &Caller, mut request: ListRequest) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = engine.list(caller, request.clone()).unwrap();
        ids.extend(page.items.iter().map(|item| item.id.to_string()));
        if page.next_cursor.is_none() {
            assert_eq!((page.total, page.total_relation), (ids.len() as u64, TotalRelation::Eq));
            return ids;
        }
        request.cursor = page.next_cursor;
    }
}

#[test]
fn ranges_that_nothing_can_lie_in_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let (early, late) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
    let times = crate::api::TimeRange { start: Some(late), end: Some(early) };
    let figures = crate::api::Range { min: Some(0.9), max: Some(0.1) };
    for (filters, field) in [
        (Filters { time_range: Some(times), ..Filters::default() }, "filters.timeRange: "),
        (Filters { confidence: Some(figures), ..Filters::default() }, "filters.confidence: "),
    ] {
        let request = ListRequest { filters: filters.clone(), ..ListRequest::default() };
        let listed = engine.list(&caller(), request).unwrap_err().to_string();
        let found = engine.query(&caller(), QueryRequest { filters, ..query("x") });
        for said in [listed, found.unwrap_err().to_string()] {
            assert!(said.starts_with(field), "{said}");
        }
    }
}

#[test]
fn a_list_is_in_order_of_the_last_write_however_the_items_came_here() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    // The newest come first, as a reader of a folder may meet them.
    import(
        &engine,
        (0..9).map(|n| fixtures::note(&format!("n{n}"), &word(n), at(-i64::try_from(n).unwrap()))),
    );
    let mut life = fixtures::note("over", "x", at(-4));
    life.expires_at = Some(at(0));
    life.ttl_days = Some(1.0);
    import(&engine, [life]);
    let expected: Vec<String> = (0..9).map(|n| format!("n{n}")).collect();
    let own = Caller { own_only: true, ..caller() };
    for limit in [1, 2, 3, 9, 50] {
        let request = ListRequest { limit: Some(limit), ..ListRequest::default() };
        assert_eq!(pages(&engine, &caller(), request.clone()), expected, "{limit}");
        assert_eq!(pages(&engine, &own, request.clone()), expected, "{limit}, own");
        let past = ListRequest { as_of: Some(Timestamp::now()), ..request };
        assert_eq!(pages(&engine, &caller(), past), expected, "{limit}, as of now");
    }
    engine.upsert(&caller(), note("n5", "", "written again")).unwrap();
    let first = engine.list(&caller(), ListRequest::default()).unwrap();
    assert_eq!(first.items[0].id.as_str(), "n5");
}

#[test]
fn readers_of_the_past_do_not_see_what_was_counted_later() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "t", "x")).unwrap();
    engine.record_use(&caller(), item("a")).unwrap();
    let then = tick();
    engine.record_use(&caller(), item("a")).unwrap();
    let count = |as_of| {
        let read = engine.get(&caller(), GetRequest { as_of, ..get("a") }).unwrap();
        read.quality.counters.reuse_count
    };
    assert_eq!((count(Some(then)), count(None)), (1, 2));
    engine.upsert(&caller(), note("a", "t", "y")).unwrap();
    assert_eq!((count(Some(then)), count(None)), (1, 2));
}

#[test]
fn who_may_not_see_an_item_now_does_not_see_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let with = |sensitivity| UpsertRequest { sensitivity, ..note("a", "t", "harmless") };
    engine.upsert(&caller(), with(Some(Sensitivity::Team))).unwrap();
    let then = tick();
    engine.upsert(&caller(), with(Some(Sensitivity::Private))).unwrap();
    let team = Caller { clearance: Sensitivity::Team, ..caller() };
    let first = GetRequest { version: Some(Version(1)), ..get("a") };
    let past = GetRequest { as_of: Some(then), ..get("a") };
    for request in [first, past] {
        assert_eq!(engine.get(&caller(), request.clone()).unwrap().text, "harmless");
        let refused = engine.get(&team, request).unwrap_err();
        assert!(matches!(refused, EngineError::NotFound { .. }), "{refused}");
    }
    let request = QueryRequest { as_of: Some(then), ..query("harmless") };
    assert!(engine.query(&team, request).unwrap().items.is_empty());
}

#[test]
fn a_graph_of_the_past_reads_what_has_changed_since_once() {
    const NODES: usize = 8;
    const OTHERS: u64 = 60;
    let disk = llm_memory_disk::faulty::FaultyDisk::new();
    let options = Options { reserve_bytes: 0, payload_cache_bytes: 0, ..Options::default() };
    let engine = Engine::open(Arc::new(disk.clone()), Path::new("/store"), options).unwrap();
    let link = |from: usize, to: usize, remove| {
        let (from, to) = (format!("n{from}"), format!("n{to}"));
        let request = json!({"from": from, "to": to, "rel": "depends", "remove": remove});
        engine.link(&caller(), serde_json::from_value(request).unwrap()).unwrap();
    };
    for n in 0..NODES {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", "x")).unwrap();
    }
    for n in 2..NODES {
        link(n, n - 1, false);
    }
    link(1, 0, false);
    let others: Vec<String> = (0..OTHERS).map(|n| format!("other{n}")).collect();
    for id in &others {
        engine.upsert(&caller(), note(id, "t", "x")).unwrap();
    }
    let then = tick();
    for id in &others {
        engine.upsert(&caller(), note(id, "t", "y")).unwrap();
    }
    // One link that is not there any more, one that was not there yet, and one that has stayed.
    link(1, 0, true);
    link(5, 0, false);
    let request = json!({"id": "n0", "direction": "in", "depth": 10, "asOf": then.to_string()});
    let before = disk.counts().reads;
    let graph = engine.graph(&caller(), serde_json::from_value(request).unwrap()).unwrap();
    let reads = disk.counts().reads - before;
    assert!(reads < 3 * OTHERS, "{reads} reads for {OTHERS} items");
    let edges: Vec<(&str, &str)> =
        graph.edges.iter().map(|edge| (edge.from.as_str(), edge.to.as_str())).collect();
    let expected: Vec<(String, String)> =
        (1..NODES).map(|n| (format!("n{n}"), format!("n{}", n - 1))).collect();
    let expected: Vec<(&str, &str)> = expected.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert_eq!(edges, expected);
}

#[test]
fn readers_of_the_past_are_refused_while_others_hold_the_memory_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "t", "before")).unwrap();
    let then = tick();
    engine.upsert(&caller(), note("a", "t", "after")).unwrap();
    let mut others: Vec<_> = (0..3).map(|_| engine.past.share()).collect();
    for share in &mut others {
        share.hold(super::super::past::MAX_PAST_BYTES).unwrap();
    }
    let request = QueryRequest { as_of: Some(then), ..query("before") };
    let graph = json!({"id": "a", "direction": "in", "asOf": then.to_string()});
    let graph: GraphRequest = serde_json::from_value(graph).unwrap();
    let refused = engine.query(&caller(), request.clone()).unwrap_err();
    assert!(matches!(refused, EngineError::Busy { waiting: 3, .. }), "{refused}");
    assert_eq!(engine.graph(&caller(), graph.clone()).unwrap_err().code(), "busy");
    assert_eq!(found(&engine, "after"), ["a"], "the present needs none of it");
    drop(others);
    for _ in 0..2 {
        assert_eq!(engine.query(&caller(), request.clone()).unwrap().items.len(), 1);
        assert_eq!(engine.graph(&caller(), graph.clone()).unwrap().nodes.len(), 1);
    }
}

/// A note whose files alone are more than 100,000 characters.
fn heavy(id: &str) -> UpsertRequest {
    let files = (0..100).map(|n| format!("{n:03}{}", "x".repeat(1000))).collect();
    UpsertRequest { files, ..note(id, "t", "needle") }
}

#[test]
fn replies_are_bounded_by_all_that_can_be_long_in_an_item() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..12 {
        engine.upsert(&caller(), heavy(&format!("n{n:02}"))).unwrap();
    }
    let request = QueryRequest { token_budget: Some(50), ..query("needle") };
    let page = engine.query(&caller(), request).unwrap();
    assert_eq!((page.items.len(), page.items[0].truncated), (1, false));
    assert!(page.next_cursor.is_some() && page.notice.is_some());

    let list = ListRequest { scope: ScopeSelector::Local, ..ListRequest::default() };
    let page = engine.list(&caller(), list.clone()).unwrap();
    assert_eq!((page.total, page.items.len()), (12, 9));
    let mut all = pages(&engine, &caller(), list);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 12);

    let status = engine.sync_status(&caller(), SyncStatusRequest::default()).unwrap();
    assert_eq!((status.only_local_total, status.only_local.len()), (12, 2));

    for n in 1..12 {
        let link = json!({"from": "n00", "to": format!("n{n:02}"), "rel": "relates"});
        engine.link(&caller(), serde_json::from_value(link).unwrap()).unwrap();
    }
    let graph = serde_json::from_value(json!({"id": "n00"})).unwrap();
    let graph = engine.graph(&caller(), graph).unwrap();
    assert_eq!((graph.nodes.len(), graph.truncated), (10, true));
}

#[test]
fn a_history_with_contents_comes_in_pages_of_a_bounded_length() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..3 {
        engine.upsert(&caller(), note("a", "t", &format!("{n}{}", "x ".repeat(300_000)))).unwrap();
    }
    let mut request: HistoryRequest =
        serde_json::from_value(json!({"id": "a", "content": true})).unwrap();
    for version in [3, 2, 1] {
        let page = engine.history(&caller(), request.clone()).unwrap();
        assert_eq!((page.total, page.entries.len()), (3, 1));
        assert_eq!(page.entries[0].version, Version(version));
        assert!(page.entries[0].item.is_some());
        request.cursor = page.next_cursor;
    }
    assert_eq!(request.cursor, None);
}

#[test]
fn hits_that_are_gone_end_no_paging() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let write = |lost: bool| {
        let numbers = (0..20).filter(|n| (n % 4 == 3) == lost);
        import(&engine, numbers.map(|n| fixtures::note(&format!("n{n}"), "needle", at(n))));
    };
    write(true);
    engine.journal_migrate(&caller(), all(), &NoProgress).unwrap();
    write(false);
    engine.close().unwrap();
    OsDisk.remove_dir_all(&dir.path().join("local/app/blocks")).unwrap();
    let engine = open(dir.path());
    let mut request = QueryRequest { k: Some(3), ..query("needle") };
    let mut seen = Vec::new();
    loop {
        let page = engine.query(&caller(), request.clone()).unwrap();
        seen.extend(page.items.iter().map(hit_id));
        request.cursor = page.next_cursor;
        if request.cursor.is_none() {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 15, "{seen:?}");
}

#[test]
fn a_query_without_anything_to_look_for_finds_nothing_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "t", "words")).unwrap();
    for nothing in ["\u{1f389}", "!!!", "\"", "-", "?! ..."] {
        let result = engine.query(&caller(), query(nothing)).unwrap();
        assert_eq!((result.items.len(), result.total), (0, 0), "{nothing}");
        assert!(result.notice.unwrap().contains("no letters or digits"), "{nothing}");
    }
    for listing in ["", "  ", "-other"] {
        assert_eq!(found(&engine, listing), ["a"], "{listing:?}");
    }
}

#[test]
fn a_history_is_that_of_the_item_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let committed = UpsertRequest { scope: Scope::Committed, ..note("x", "t", "gone") };
    let committed = UpsertRequest { sensitivity: Some(Sensitivity::Team), ..committed };
    engine.upsert(&caller(), committed).unwrap();
    engine.upsert(&caller(), note("x", "t", "alive")).unwrap();
    let delete = json!({"id": "x", "scope": "committed"});
    engine.delete(&caller(), serde_json::from_value(delete).unwrap()).unwrap();
    let history = || {
        let request = serde_json::from_value(json!({"id": "x"})).unwrap();
        engine.history(&caller(), request).unwrap().scope
    };
    let first = || {
        let first = GetRequest { version: Some(Version(1)), ..get("x") };
        engine.get(&caller(), first).unwrap().text
    };
    assert_eq!((history(), &*first()), (Scope::Local, "alive"));
    engine.delete(&caller(), serde_json::from_value(json!({"id": "x"})).unwrap()).unwrap();
    assert_eq!((history(), &*first()), (Scope::Committed, "gone"));
}

#[test]
fn nothing_made_with_an_old_configuration_is_kept_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "t", "x")).unwrap();
    let routes = engine.readable(&caller(), Some(ScopeSelector::Local)).unwrap();
    let generation =
        |readers: &[read::Reader<'_>]| query::ItemSource::config_generation(&readers[0]);
    let before = routes.readers(None).unwrap();
    let at_first = generation(&before);
    let config = crate::config::ScopeConfig::default();
    engine.set_scope_config(&caller(), Scope::Local, &config).unwrap();
    assert_eq!(generation(&before), at_first);
    assert!(generation(&routes.readers(None).unwrap()) > at_first);
}

#[test]
fn what_there_is_of_an_item_is_told_who_asks_for_another_version_or_moment() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let before = tick();
    engine.upsert(&caller(), note("a", "t", "one")).unwrap();
    engine.upsert(&caller(), note("a", "t", "two")).unwrap();
    let told = |caller: &Caller, request| engine.get(caller, request).unwrap_err();
    let version = GetRequest { version: Some(Version(7)), ..get("a") };
    let error = told(&caller(), version.clone());
    assert_eq!(error.code(), "invalid_argument");
    assert!(error.to_string().contains("the oldest is 1, the newest 2"), "{error}");
    let past = GetRequest { as_of: Some(before), ..get("a") };
    let error = told(&caller(), past.clone()).to_string();
    assert!(error.contains("was not there at that moment: its first version is of 20"), "{error}");
    // Of an item that is not to be seen nothing is told, nor of one that is not there.
    let team = Caller { clearance: Sensitivity::Team, ..caller() };
    let nope = GetRequest { version: Some(Version(7)), ..get("nope") };
    for (caller, request) in [(&team, version), (&team, past), (&caller(), nope)] {
        assert_eq!(told(caller, request).code(), "not_found");
    }
}
