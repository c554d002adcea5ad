use llm_memory_disk::OsDisk;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::ScopeConfig;
use crate::ids::Digest;
use crate::item::edit::Editor;
use crate::item::{ItemType, Redactor, Relation, Sensitivity};

/// A folder as the reference server leaves it.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(name);
        OsDisk.create_dir_all(path.parent().unwrap()).unwrap();
        OsDisk.durable_write(&path, bytes.as_ref()).unwrap();
        self
    }

    fn import(&self) -> (Vec<Imported>, Report) {
        let mut import =
            Import::open(&OsDisk, self.0.path(), Scope::Committed, "importer").unwrap();
        let items = import.by_ref().map(Result::unwrap).collect();
        (items, import.into_report())
    }
}

fn full(id: &str) -> Value {
    json!({
        "id": id, "type": "snippet", "scope": "local", "title": "Retry", "text": "why",
        "code": "retry()", "language": "ts",
        "facets": {"tags": ["http"], "files": ["src/a.ts"], "symbols": ["retry"]},
        "context": {"repoId": "r", "file": "src/a.ts", "range": {"start": 3, "end": 9}},
        "quality": {"confidence": 0.7, "reuseCount": 4, "pinned": true, "ttlDays": 30,
            "expiresAt": "2026-01-31T00:00:00.000Z", "helpfulCount": 2, "notHelpfulCount": 1,
            "decayedUsage": 2.5, "decayUpdatedAt": "2026-01-01T00:00:00.000Z",
            "lastAccessedAt": "2026-01-01T00:00:00.000Z",
            "lastUsedAt": "2026-01-01T00:00:00.000Z"},
        "security": {"sensitivity": "team",
            "secretHashRefs": [Digest::of(b"s").to_hex(), "short"]},
        "links": [{"rel": "fixes", "to": "other"}, {"rel": "eats", "to": "other"}],
        "createdAt": "2025-12-31T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
        "version": 7
    })
}

#[test]
fn an_item_is_read_whole_and_what_is_not_kept_is_said() {
    let fixture = Fixture::new();
    let mut item = full("a");
    item["mood"] = json!("good");
    item["quality"]["stars"] = json!(5);
    fixture.write("items/a.json", item.to_string());
    let (items, report) = fixture.import();
    let Imported { content, counters, reference_version, .. } = &items[0];
    assert_eq!(content.item_type, ItemType::Snippet);
    assert_eq!(content.scope, Scope::Committed);
    assert_eq!((&*content.title, &*content.text, &*content.code), ("Retry", "why", "retry()"));
    assert_eq!(content.facets.symbols, ["retry"]);
    assert_eq!(content.context.range.map(|range| (range.start, range.end)), Some((3, 9)));
    assert!(content.pinned);
    assert_eq!(content.ttl_days, Some(30.0));
    assert_eq!(content.expires_at.unwrap().to_string(), "2026-01-31T00:00:00.000Z");
    assert_eq!(content.sensitivity, Sensitivity::Team);
    assert_eq!(content.secret_hash_refs, [Digest::of(b"s")]);
    assert_eq!(content.links.len(), 1);
    assert_eq!(content.links[0].rel, Relation::Fixes);
    assert_eq!(content.created_at.to_string(), "2025-12-31T00:00:00.000Z");
    assert_eq!((counters.reuse_count, counters.helpful_count), (4, 2));
    assert!((counters.decayed_usage - 2.5).abs() < 1e-9);
    assert_eq!(*reference_version, Some(7));

    assert_eq!(report.unknown_fields.keys().collect::<Vec<_>>(), ["mood", "quality.stars"]);
    assert_eq!(report.adjusted_total, 3, "{:?}", report.adjusted);
    assert!(report.adjusted.iter().any(|note| note.contains("scope was local")));
    assert!(report.is_complete());
}

#[test]
fn damaged_files_are_reported_and_do_not_stop_the_others() {
    let fixture = Fixture::new();
    fixture
        .write("items/a.json", full("a").to_string())
        .write("items/broken.json", "{\"id\": \"broken\"")
        .write("items/noid.json", "{\"type\": \"note\"}")
        .write("items/list.json", "[]")
        .write("items/copy.json", full("a").to_string())
        .write("items/z.json", full("z").to_string())
        .write("items/readme.txt", "hello")
        .write("index/inverted.json", "{}")
        .write("stray.bin", "?");
    let (items, report) = fixture.import();
    let ids: Vec<&str> = items.iter().map(|item| item.content.id.as_str()).collect();
    assert_eq!(ids, ["a", "z"]);
    let files: Vec<&str> = report.problems.iter().map(|problem| &*problem.file).collect();
    assert_eq!(
        files,
        ["items/broken.json", "items/copy.json", "items/list.json", "items/noid.json"]
    );
    let ignored: Vec<&str> = report.ignored.iter().map(|ignored| &*ignored.path).collect();
    assert_eq!(ignored, ["index", "stray.bin", "items/readme.txt"]);
}

#[test]
fn items_without_a_readable_file_come_from_the_legacy_journal() {
    let fixture = Fixture::new();
    let line = |op: &str, item: Value| {
        json!({"op": op, "item": item, "ts": "2026-01-01T00:00:00.000Z", "actor": "mcp@1"})
            .to_string()
    };
    let mut older = full("lost");
    older["title"] = json!("older");
    let journal = [
        line("upsert", older),
        line("upsert", full("lost")),
        line("upsert", full("gone")),
        json!({"op": "delete", "id": "gone", "ts": "2026-01-02T00:00:00.000Z"}).to_string(),
        line("upsert", full("torn")),
        "{\"op\": \"upsert\", \"item\": {\"id\"".to_owned(),
    ];
    fixture
        .write("journal.ndjson", journal.join("\n"))
        .write("items/torn.json", "")
        .write("catalog.json", json!({"lost": {}, "gone": {}, "nowhere": {}}).to_string());
    let (items, report) = fixture.import();
    let titles: Vec<(&str, &str)> =
        items.iter().map(|item| (item.content.id.as_str(), &*item.content.title)).collect();
    assert_eq!(titles, [("lost", "Retry"), ("torn", "Retry")]);
    assert_eq!(items[0].content.provenance.created_by, "mcp@1");
    assert_eq!((report.items, report.from_journal, report.deleted), (2, 2, 1));
    let problems: Vec<(&str, Option<u64>, Option<&str>)> = report
        .problems
        .iter()
        .map(|problem| (&*problem.file, problem.line, problem.id.as_deref()))
        .collect();
    assert_eq!(
        problems,
        [
            ("journal.ndjson", Some(6), None),
            ("items/torn.json", None, Some("torn")),
            ("catalog.json", None, Some("nowhere")),
        ]
    );
}

#[test]
fn the_optimised_journal_gives_the_creator_and_names_what_is_missing() {
    let fixture = Fixture::new();
    let line = |id: &str, actor: &str| {
        json!({"op": "upsert", "id": id, "contentHash": "h", "ts": "2026-01-01T00:00:00.000Z",
            "actor": actor, "meta": {"size": 1}})
        .to_string()
    };
    let mut journal = vec![line("a", ""), line("a", "ann"), line("b", "ann")];
    // However much happened since.
    journal.extend((0..200).map(|_| line("a", "bob")));
    fixture
        .write("journal-optimized.ndjson", journal.join("\n") + "\n")
        .write("items/a.json", full("a").to_string());
    let (items, report) = fixture.import();
    assert_eq!(items[0].content.provenance.created_by, "ann");
    assert_eq!(report.journal_lines, 203);
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].id.as_deref(), Some("b"));
}

#[test]
fn settings_are_taken_over_one_by_one() {
    let fixture = Fixture::new();
    fixture.write("items/a.json", full("a").to_string()).write(
        "config.json",
        json!({
            "version": "1",
            "sharing": {"sensitivity": "public"},
            "ranking": {"bm25": {"k1": 1.5, "b": 9}},
            "contextPack": {"caps": {"facts": 3}},
            "maintenance": {"compactEvery": 10}
        })
        .to_string(),
    );
    let (_, report) = fixture.import();
    let config = ScopeConfig::from_json(&report.config.unwrap()).unwrap();
    assert_eq!(config.sharing.sensitivity, Sensitivity::Public);
    assert!((config.search.bm25.k1 - 1.5).abs() < 1e-9);
    assert!((config.search.bm25.b - 0.75).abs() < 1e-9);
    assert_eq!((config.pack.facts, config.maintenance.compact_every), (3, 10));
    let mut keys: Vec<&str> =
        report.config_problems.iter().filter_map(|problem| problem.split(": ").next()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["ranking.bm25.b", "version"]);
}

#[test]
fn another_folder_is_refused() {
    let fixture = Fixture::new();
    fixture.write("photo.jpg", "");
    let error = Import::open(&OsDisk, fixture.0.path(), Scope::Local, "x").unwrap_err();
    assert!(error.to_string().contains("neither items/ nor a journal"));
}

#[test]
fn imported_items_pass_redaction_and_gate() {
    let fixture = Fixture::new();
    let mut secret = full("a");
    let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    secret["text"] = json!(format!("token {token}"));
    let mut private = full("b");
    private["security"]["sensitivity"] = json!("private");
    fixture.write("items/a.json", secret.to_string()).write("items/b.json", private.to_string());
    let (items, _) = fixture.import();

    let redactor = Redactor::builtin().unwrap();
    let config = ScopeConfig::default();
    let editor = Editor {
        actor: "importer",
        now: Timestamp::from_millis(1_790_000_000_000),
        max_item_bytes: 1 << 20,
        config: &config,
        redactor: &redactor,
    };
    let edited = editor.import(None, &items[0].content).unwrap();
    assert_eq!(edited.content.text, "token <redacted-secret>");
    assert_eq!(edited.content.updated_at, items[0].content.updated_at);
    let error = editor.import(None, &items[1].content).unwrap_err();
    assert!(error.to_string().contains("private exceeds team"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_item_and_journal_are_read_or_reported(
        item in "[{}\\[\\]\":,a-z0-9 ]{0,80}",
        journal in "([{}\":,a-z ]{0,40}\n){0,4}",
    ) {
        let fixture = Fixture::new();
        fixture.write("items/x.json", item).write("journal.ndjson", journal);
        let (items, report) = fixture.import();
        prop_assert_eq!(items.len() as u64, report.items);
    }

    #[test]
    fn one_wrong_field_never_loses_the_item(
        path in proptest::sample::select(vec![
            "/type", "/scope", "/title", "/text", "/code", "/language", "/facets", "/facets/tags",
            "/context", "/context/range", "/quality", "/quality/pinned", "/quality/ttlDays",
            "/quality/expiresAt", "/security", "/security/sensitivity", "/links", "/createdAt",
            "/updatedAt", "/version",
        ]),
        wrong in proptest::sample::select(vec![
            json!(null), json!(true), json!(-1), json!("?"), json!([1]), json!({"x": 1}),
        ]),
    ) {
        let mut item = full("a");
        *item.pointer_mut(path).unwrap() = wrong;
        let fixture = Fixture::new();
        fixture.write("items/a.json", item.to_string());
        let (items, report) = fixture.import();
        prop_assert_eq!(items.len(), 1);
        prop_assert!(report.is_complete());
        prop_assert!(crate::item::validate::check(&items[0].content, 1 << 20).is_ok());
    }
}
