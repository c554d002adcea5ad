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
