//! What a token's scopes, projects and eyes keep from administrative operations.

use super::*;
use crate::api::{SampleRequest, ScopeSet};

/// A store with one note in the global scope and one in the local scope of each project.
fn stored(engine: &Engine, projects: &[&str]) {
    for project in projects {
        engine.upsert(&of(Some(project)), note("a", "title", project)).unwrap();
    }
    let mut request = note("g", "title", "everywhere");
    request.scope = Scope::Global;
    engine.upsert(&caller(), request).unwrap();
}

fn of(project: Option<&str>) -> Caller {
    Caller::unrestricted("tester", project.map(|name| ProjectId::new(name).unwrap()))
}

/// May read all and write local of the projects `a` and `b`.
fn held() -> Caller {
    Caller {
        projects: Some(["a", "b"].map(|name| ProjectId::new(name).unwrap()).into()),
        write: ScopeSet::of([Scope::Local]),
        ..of(None)
    }
}

fn names<T>(results: BTreeMap<String, T>) -> Vec<String> {
    results.into_keys().collect()
}

#[test]
fn operations_on_everything_stay_within_the_projects_and_scopes_of_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    stored(&engine, &["a", "b", "c"]);
    let prune = PruneRequest { scope: ScopeSelector::All, dry_run: false };
    let pruned = engine.prune(&held(), prune.clone(), &NoProgress).unwrap();
    assert_eq!(names(pruned.by_scope), ["local/a", "local/b"]);
    assert_eq!(names(engine.rebuild(&held(), all(), &NoProgress).unwrap()), ["local/a", "local/b"]);
    let seen = ["global", "local/a", "local/b"];
    assert_eq!(names(engine.journal_verify(&held(), all(), &NoProgress).unwrap()), seen);
    assert_eq!(names(engine.verify_views(&held(), all(), &NoProgress).unwrap()), seen);
    assert_eq!(names(engine.journal_stats(&held(), all()).unwrap()), seen);
    let sample = SampleRequest { scope: ScopeSelector::All, sample: Some(1.0), seed: None };
    assert_eq!(names(engine.verify_sample(&held(), sample).unwrap()), seen);
    let status = engine.status_for(&held()).unwrap();
    assert_eq!(status.into_iter().map(|scope| scope.scope).collect::<Vec<_>>(), seen);
    let pruned = engine.prune(&of(None), prune, &NoProgress).unwrap();
    assert_eq!(pruned.by_scope.len(), 4, "a token without limits reaches everything");
}

#[test]
fn a_scope_named_alone_that_the_token_lacks_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    stored(&engine, &["a"]);
    let global = ScopeRequest { scope: ScopeSelector::Global };
    for error in [
        engine.compact(&held(), global.clone(), &NoProgress).unwrap_err(),
        engine.recover(&held(), global.clone(), &NoProgress).unwrap_err(),
    ] {
        assert!(matches!(error, EngineError::Forbidden { .. }), "{error}");
        assert!(error.to_string().contains("may not write to the scope global"), "{error}");
    }
    let blind = Caller { read: ScopeSet::NONE, ..of(None) };
    let error = engine.journal_verify(&blind, all(), &NoProgress).unwrap_err();
    assert!(error.to_string().contains("may not read the scope all"), "{error}");
}

#[test]
fn projects_beyond_the_limit_are_refused_with_the_remedy_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let limited = |max_scopes| {
        let options = Options { reserve_bytes: 0, max_scopes, ..Options::default() };
        Engine::open(Arc::new(OsDisk), dir.path(), options).unwrap()
    };
    let engine = limited(2);
    stored(&engine, &["a"]);
    let error = engine.upsert(&of(Some("b")), note("x", "t", "y")).unwrap_err();
    assert!(matches!(error, EngineError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("2 scopes are open") && error.to_string().contains("raise"));
    assert!(!dir.path().join("local/b").exists());
    assert_eq!(engine.unavailable(), []);
    engine.upsert(&of(Some("a")), note("x", "t", "y")).unwrap();
    engine.close().unwrap();
    let engine = limited(1);
    assert_eq!(engine.unavailable().len(), 1, "a scope that is there is missed");
}

#[test]
fn nobody_loses_what_they_write_to_a_default_above_their_clearance() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let team = Caller { clearance: Sensitivity::Team, ..caller() };
    let error = engine.upsert(&team, note("a", "t", "x")).unwrap_err();
    assert!(error.to_string().starts_with("sensitivity: "), "{error}");
    assert!(error.to_string().ends_with("give one up to team"), "{error}");
    let given = |sensitivity| UpsertRequest { sensitivity, ..note("a", "t", "x") };
    engine.upsert(&team, given(Some(Sensitivity::Team))).unwrap();
    // What is there keeps its own, and nobody learns of what they may not see.
    engine.upsert(&team, UpsertRequest { text: "y".into(), ..given(None) }).unwrap();
    assert_eq!(engine.get(&team, get("a")).unwrap().text, "y");
    engine.upsert(&caller(), given(Some(Sensitivity::Private))).unwrap();
    let error = engine.upsert(&team, given(None)).unwrap_err();
    assert!(matches!(error, EngineError::Forbidden { .. }), "{error}");
}

#[test]
fn no_proof_is_given_of_what_the_caller_may_not_see() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let ann = Caller { subject: "ann".into(), own_only: true, ..caller() };
    let bob = Caller { subject: "bob".into(), ..ann.clone() };
    let team = Caller { clearance: Sensitivity::Team, ..caller() };
    let private = UpsertRequest { sensitivity: Some(Sensitivity::Private), ..note("x", "t", "1") };
    engine.upsert(&ann, private).unwrap();
    let open_now = UpsertRequest { sensitivity: Some(Sensitivity::Team), ..note("x", "t", "2") };
    engine.upsert(&ann, open_now).unwrap();
    let prove = |caller: &Caller, version| {
        let request = ProveRequest { id: ItemId::new("x").unwrap(), scope: None, version };
        engine.journal_prove(caller, request).map(|proof| proof.version)
    };
    assert_eq!(prove(&ann, Some(Version(1))).unwrap(), Version(1));
    assert_eq!(prove(&team, Some(Version(2))).unwrap(), Version(2));
    for (caller, version) in [(&bob, Some(Version(1))), (&bob, None), (&team, Some(Version(1)))] {
        assert!(matches!(prove(caller, version), Err(EngineError::NotFound { .. })));
    }
}

#[test]
fn a_version_expected_of_an_item_that_is_not_to_be_seen_does_not_tell_the_real_one() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let private = UpsertRequest { sensitivity: Some(Sensitivity::Private), ..note("x", "t", "1") };
    engine.upsert(&caller(), private).unwrap();
    let team = Caller { clearance: Sensitivity::Team, ..caller() };
    for if_version in [None, Some(Version(1)), Some(Version(7))] {
        let error = engine.upsert(&team, UpsertRequest { if_version, ..note("x", "t", "2") });
        assert!(matches!(error, Err(EngineError::Forbidden { .. })), "{if_version:?}: {error:?}");
    }
}

#[test]
fn an_explanation_counts_nothing_for_those_from_whom_items_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let with = |id, sensitivity| UpsertRequest { sensitivity, ..note(id, "t", "retry") };
    engine.upsert(&caller(), with("a", Some(Sensitivity::Team))).unwrap();
    engine.upsert(&caller(), with("b", Some(Sensitivity::Private))).unwrap();
    let counted = |caller: &Caller| {
        let request = QueryRequest { explain: true, ..query("retry") };
        let result = engine.query(caller, request).unwrap();
        let hit = result.items.into_iter().find(|hit| hit_id(hit) == "a").unwrap();
        let explanation = hit.explanation.unwrap();
        let sum: f64 = explanation.bm25.iter().map(|term| term.value).sum();
        assert!((sum + explanation.boosts.values().sum::<f64>() - hit.score).abs() < 1e-9);
        let term = &explanation.bm25[0];
        (term.document_frequency, term.idf.is_some())
    };
    assert_eq!(counted(&caller()), (Some(2), true));
    assert_eq!(counted(&Caller { clearance: Sensitivity::Team, ..caller() }), (None, false));
    assert_eq!(counted(&Caller { own_only: true, ..caller() }), (None, false));
}

#[test]
fn a_history_leaves_out_what_was_kept_closer_than_the_item_is_now() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let ann = Caller { subject: "ann".into(), own_only: true, ..caller() };
    let bob = Caller { subject: "bob".into(), ..ann.clone() };
    let team = Caller { clearance: Sensitivity::Team, ..caller() };
    let with = |sensitivity, text| UpsertRequest {
        sensitivity: Some(sensitivity),
        ..note("x", "t", text)
    };
    engine.upsert(&ann, with(Sensitivity::Private, "1")).unwrap();
    let then = tick();
    engine.upsert(&ann, with(Sensitivity::Team, "2")).unwrap();
    let history = |caller: &Caller, as_of: Option<Timestamp>| {
        let request = json!({"id": "x", "limit": 1, "asOf": as_of.map(|then| then.to_string())});
        let mut request: HistoryRequest = serde_json::from_value(request).unwrap();
        let mut versions = Vec::new();
        loop {
            let page = engine.history(caller, request.clone())?;
            versions.extend(page.entries.iter().map(|entry| entry.version.0));
            request.cursor = page.next_cursor;
            if request.cursor.is_none() {
                assert_eq!(page.total, versions.len() as u64);
                return Ok::<_, EngineError>(versions);
            }
        }
    };
    assert_eq!(history(&ann, None).unwrap(), [2, 1]);
    assert_eq!(history(&team, None).unwrap(), [2]);
    assert!(matches!(history(&team, Some(then)), Err(EngineError::NotFound { .. })));
    let delete = |caller: &Caller, erase: bool| {
        let request = json!({"id": "x", "erase": erase});
        engine.delete(caller, serde_json::from_value(request).unwrap()).unwrap();
    };
    delete(&ann, false);
    assert_eq!(history(&ann, None).unwrap(), [3, 2, 1]);
    engine.upsert(&bob, with(Sensitivity::Private, "bob's")).unwrap();
    assert_eq!(history(&bob, None).unwrap(), [4]);
    assert_eq!(history(&caller(), None).unwrap(), [4, 3, 2, 1]);
    delete(&bob, true);
    assert_eq!(history(&bob, None).unwrap(), [5, 4], "nothing tells whose the others were");
    let prove = |version| {
        let (id, version) = (ItemId::new("x").unwrap(), Some(Version(version)));
        engine.journal_prove(&bob, ProveRequest { id, scope: None, version })
    };
    assert_eq!(prove(5).unwrap().version, Version(5));
    assert!(
        matches!(prove(3), Err(EngineError::NotFound { .. })),
        "the deletion of an item of ann"
    );
}
