//! Monitoring, reports and recovery, on a data folder that no server holds.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Cli, assert_answer, audited};

/// The active journal of the global scope.
fn journal(cli: &Cli) -> PathBuf {
    cli.data().join("global").join("journal.ndjson")
}

/// Damages the text of one stored item, the length of its line unchanged.
pub(super) fn damage(cli: &Cli, text: &str) {
    damage_file(journal(cli), text);
}

fn damage_file(path: PathBuf, text: &str) {
    let journal = std::fs::read_to_string(&path).unwrap();
    let damaged = journal.replacen(text, &"X".repeat(text.len()), 1);
    assert_ne!(journal, damaged, "{text} is not in the journal");
    std::fs::write(path, damaged).unwrap();
}

/// Seals the journal of the global scope and damages a record in it.
fn damage_sealed(cli: &Cli) {
    cli.json("journal.migrate --scope=global");
    let folder = std::fs::read_dir(cli.data().join("global").join("journal")).unwrap();
    let mut segments = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("0000"));
    damage_file(segments.next().unwrap(), "local");
}

pub(super) fn three_items() -> Cli {
    let cli = Cli::new();
    for (id, text) in [("a", "alpha"), ("b", "bravo"), ("c", "charlie")] {
        cli.store(id, id, text);
    }
    cli
}

#[test]
fn without_a_server_the_monitor_is_critical_and_keeps_a_log() {
    let cli = three_items();
    let answer = cli.run("health --max-disk-percent=100 --output=json");
    assert_eq!(answer.code, 2);
    let report = answer.json_whatever_the_code();
    assert_eq!(report["status"], "critical");
    assert_eq!(report["findings"][0]["check"], "service");
    let log = std::fs::read_to_string(cli.data().join("logs/health.log")).unwrap();
    let entry: Value = serde_json::from_str(log.trim()).unwrap();
    assert_eq!(entry["findings"], report["findings"]);
}

#[test]
fn a_sound_store_is_reported_healthy() {
    let cli = three_items();
    let report = cli.json("storage-health --scope=all --output=json");
    assert_eq!(report["status"], "healthy");
    assert_eq!(report["integrityScore"], 1.0);
    let kept = std::fs::read_dir(cli.data().join("reports")).unwrap().count();
    assert_eq!(kept, 1, "the report is kept");
}

#[test]
fn a_damaged_item_is_named_by_every_check() {
    let cli = three_items();
    damage(&cli, "alpha");
    let verify = cli.run("journal.verify --scope=global");
    assert_eq!(verify.code, 2, "{verify:?}");
    let verify = verify.json_whatever_the_code();
    assert_eq!(verify["valid"], false);
    assert_eq!(verify["corruptedItems"][0]["id"], "a");

    let storage = cli.run("storage-health --scope=global --output=json");
    assert_eq!(storage.code, 2, "{storage:?}");
    assert_eq!(storage.json_whatever_the_code()["status"], "critical");
}

#[test]
fn a_recovery_plan_changes_nothing_and_says_what_a_restore_needs() {
    let cli = three_items();
    damage(&cli, "alpha");
    let before = std::fs::read(journal(&cli)).unwrap();
    let answer = cli.run("recover --plan");
    assert_eq!(answer.code, 2);
    assert!(answer.stdout.contains("restore global [by hand]"), "{answer:?}");
    assert_eq!(std::fs::read(journal(&cli)).unwrap(), before);
    // There is nothing to be asked about: the damage is severe.
    let unasked = cli.run("recover");
    assert_eq!((unasked.code, unasked.stdout), (2, answer.stdout));
    let cannot_be_asked = cli.run("recover --salvage");
    assert_eq!(cannot_be_asked.code, 64, "{cannot_be_asked:?}");
    assert_eq!(std::fs::read(journal(&cli)).unwrap(), before);
}

#[test]
fn nothing_is_said_to_be_salvaged_where_only_a_backup_helps() {
    let cli = three_items();
    damage_sealed(&cli);
    for line in ["recover --auto", "recover --auto --salvage"] {
        let answer = cli.run(&format!("{line} --output json"));
        assert_eq!(answer.code, 2, "{answer:?}");
        let outcome = answer.json_whatever_the_code();
        assert_eq!((&outcome["acted"], &outcome["after"]), (&false.into(), &Value::Null));
        let steps = outcome["plan"]["steps"].as_array().unwrap();
        assert!(steps.iter().all(|step| step["action"] == "restore"), "{steps:?}");
    }
    cli.store("d", "d", "the scope takes writes as before");
}

#[test]
fn damage_has_one_exit_status_whichever_tool_finds_it() {
    let cli = three_items();
    damage_sealed(&cli);
    for line in [
        "journal.verify --scope=global",
        "journal.verify --scope=all",
        "maintenance.replay --scope=global",
        "maintenance.replay --scope=all",
        "storage-health --scope=all",
    ] {
        assert_eq!(cli.run(line).code, 2, "{line}");
    }
}

#[test]
fn a_salvage_goes_on_with_what_is_sound() {
    let cli = three_items();
    damage(&cli, "bravo");
    let refused = cli.run_args(&["memory.upsert", "--type=note", "--scope=global", "--title=new"]);
    assert_ne!(refused.code, 0, "writes are refused while the journal is damaged");
    assert_eq!(cli.run("recover --auto").code, 2, "severe: nothing is done without a word");

    let answer = cli.run("recover --auto --salvage --output json");
    assert_eq!(answer.code, 1, "{answer:?}");
    let outcome = answer.json_whatever_the_code();
    assert_eq!(outcome["after"]["level"], "none");
    assert_eq!(outcome["results"]["global"]["salvaged"], 1);
    assert_eq!(cli.json("memory.get --id=a")["text"], "alpha");
    assert_eq!(cli.json("memory.get --id=c")["text"], "charlie");
    assert_eq!(cli.run("memory.get --id=b").code, 2, "what was damaged is gone");
    cli.store("d", "d", "delta");
    assert_eq!(cli.json("journal.verify --scope=global")["valid"], true);
}

#[test]
fn nothing_to_recover_is_said_so() {
    let cli = three_items();
    assert_answer!(cli, cli.run("recover --plan"), @r"
    exit 0
    ----- stdout
    nothing is damaged (0 damaged records, integrity 1)
    ");
    assert_eq!(cli.run("recover --auto").code, 0);
}

#[test]
fn a_benchmark_counts_its_queries_and_compares_with_an_earlier_one() {
    let cli = three_items();
    let first = cli.run("bench --iterations 3 --query alpha --save first.json --output json");
    let document = first.json_whatever_the_code();
    let results = document["benchmark"]["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|result| result["result_count"] == 1), "{results:?}");
    assert_eq!(document["benchmark"]["summary"]["success_rate"], 100.0);
    assert!(document["benchmark"]["summary"]["latency"]["p95_ms"].as_f64().unwrap() > 0.0);

    let cached = |result: &Value| result.get("cached").is_some();
    assert!(!results.iter().any(cached), "the same answer again would be no measure: {results:?}");
    assert!(document["benchmark"]["summary"]["cached"]["mean_ms"].is_number());

    let second = cli.run(
        "bench --iterations 3 --query alpha --compare first.json \
         --max-regression-percent 1000000 --output json",
    );
    let comparison = &second.json_whatever_the_code()["benchmark"]["comparison"];
    assert_eq!(comparison["regressed"], false);
    assert_eq!(comparison["earlier"], document["benchmark"]["timestamp"]);

    let wrong = cli.run("bench --iterations 1 --compare nowhere.json");
    assert_eq!(wrong.code, 2);
    for line in [
        "bench --scope=galobal",
        "bench --max-regression-percent=NaN",
        "bench --iterations 3 --query bravo --compare first.json",
    ] {
        assert_eq!(cli.run(line).code, 64, "{line}");
    }
    assert_eq!(cli.run("health --max-latency-ms=NaN").code, 64);
    let percent = cli.run("health --max-error-rate=5");
    assert_eq!(percent.code, 64);
    assert!(percent.stderr.contains("0.05 is 5 %"), "{percent:?}");
}

#[test]
fn logs_are_analyzed_whatever_the_time_zone() {
    let cli = Cli::new();
    let lines = [
        r#"{"timestamp":"2026-11-22T08:00:00.1Z","level":"INFO","message":"Tool called: memory.query"}"#,
        r#"{"timestamp":"2026-11-22T08:00:01Z","level":"ERROR","message":"Tool execution failed: memory.query","error":"busy: 12 calls are ahead of this one"}"#,
        r#"{"timestamp":"2026-11-22T08:00:02Z","level":"ERROR","message":"Tool execution failed: memory.query","error":"busy: 7 calls are ahead of this one"}"#,
        r#"{"timestamp":"2026-11-21T07:59:59Z","level":"ERROR","message":"long ago"}"#,
        "torn",
    ];
    std::fs::write(cli.scratch().join("some.log"), lines.join("\n")).unwrap();
    let answer = cli.run("logs analyze --file some.log --timeframe 2026-11-21T08:00:00Z");
    assert_answer!(cli, answer, @r"
    exit 1
    ----- stdout
    logs since [time] (1 files): warning
    entries: 3
      ERROR  2 (66.67 %)
      INFO   1 (33.33 %)
      unreadable lines: 1
    top errors:
      2 x Tool execution failed: memory.query: busy: # calls are ahead of this one (last [time])
    calls: no data (no audit log)
    ");
    assert_eq!(cli.run("logs analyze --since yesterday").code, 64);
}

#[test]
fn logs_of_which_nothing_was_read_are_not_called_healthy() {
    let cli = three_items();
    let wrong = cli.run("logs analyze --file data/store.json --output json");
    assert_eq!((wrong.code, &wrong.json_whatever_the_code()["status"]), (1, &json!("no data")));
    let later = cli.run("logs analyze --since 2999-01-01T00:00:00Z");
    assert_eq!(later.code, 0, "{later:?}");
    for part in ["no data\n", "calls: no data (the audit log has no files of this span)"] {
        assert!(later.stdout.contains(part), "{later:?}");
    }
}

#[test]
fn the_audit_log_says_who_did_what() {
    let cli = Cli::new();
    let folder = cli.data().join("audit");
    std::fs::create_dir_all(&folder).unwrap();
    let entry = |rest: &str| format!(r#"{{"ts":"2026-11-22T08:00:00.000Z",{rest}}}"#);
    let mut lines = vec![
        entry(
            r#""kind":"call","subject":"ada","tool":"memory.list","outcome":"ok","durationMs":3.0,"items":500"#,
        ),
        entry(
            r#""kind":"call","subject":"ada","tool":"memory.delete","outcome":"ok","durationMs":2.0,"write":true"#,
        ),
        entry(
            r#""kind":"call","subject":"bob","tool":"maintenance.compact","outcome":"forbidden","durationMs":0.1"#,
        ),
    ];
    for port in 0..5 {
        lines.push(entry(&format!(
            r#""kind":"authFailure","outcome":"invalid","peer":"10.0.0.9:{port}""#
        )));
    }
    std::fs::write(folder.join("audit-20261122.ndjson"), lines.join("\n")).unwrap();
    assert_answer!(cli, cli.run("security analyze --since 2026-11-22T00:00:00Z"), @r"
    exit 1
    ----- stdout
    security review: warning
    WARNING: 5 failed authentications of address 10.0.0.9
    INFO: bob was denied 1 calls it has no right to
    INFO: ada made 1 reads of 100 items or more
    since [time]
    calls by subject:
      ada  2
      bob  1
    secrets redacted by subject: none
    bulk reads by subject:
      ada  1
    most items read in an hour by subject:
      ada  500
    deletes by subject:
      ada  1
    maintenance calls by tool:
      maintenance.compact  1
    calls denied by subject:
      bob  1
    authentication failures by subject:
      unknown  5
    authentication failures by address:
      10.0.0.9  5
    configuration changes: none
    lockouts: none
    ");
    let nothing = cli.run("security analyze --since 2026-11-23T00:00:00Z --output json");
    assert_eq!(nothing.code, 0);
    assert_eq!(nothing.json()["summary"], Value::Null);
}

#[test]
fn a_folder_without_logs_is_not_called_healthy() {
    let cli = Cli::new();
    for command in ["security", "logs"] {
        let answer = cli.run(&format!("{command} analyze --output json"));
        assert_eq!(answer.code, 1, "{answer:?}");
        assert_eq!(answer.json_whatever_the_code()["status"], "no data");
        let mut asked = cli.command([command, "analyze"]);
        let asked = asked.env("LLM_MEMORY_URL", "http://memory:3000").output().unwrap();
        let asked = super::answer(&asked);
        assert_eq!(asked.code, 64, "{asked:?}");
        assert!(asked.stderr.contains("http://memory:3000"), "{asked:?}");
    }
}

/// A folder as the reference server leaves it: two items, one of them with a secret.
fn reference_folder(cli: &Cli) -> PathBuf {
    let folder = cli.scratch().join("reference");
    std::fs::create_dir_all(folder.join("items")).unwrap();
    let item = |id: &str, text: &str| {
        serde_json::json!({
            "id": id, "type": "insight", "scope": "global", "title": id, "text": text,
            "facets": {"tags": ["old"], "files": [], "symbols": []},
            "context": {}, "links": [],
            "quality": {"confidence": 0.5, "reuseCount": 3, "pinned": false},
            "security": {"sensitivity": "private", "secretHashRefs": []},
            "createdAt": "2025-01-02T03:04:05.000Z", "updatedAt": "2025-02-03T04:05:06.000Z",
            "version": 4,
        })
    };
    let secret = format!("the key is sk-{}", "a1B2".repeat(8));
    for (id, text) in [("one", "plain words"), ("two", secret.as_str())] {
        let path = folder.join("items").join(format!("{id}.json"));
        std::fs::write(path, item(id, text).to_string()).unwrap();
    }
    folder
}

#[test]
fn the_reference_servers_items_are_taken_over_and_redacted() {
    let cli = Cli::new();
    let folder = reference_folder(&cli);
    let line = format!("import reference --from {} --scope global --output json", folder.display());
    let rehearsal = cli.run(&format!("{line} --dry-run")).json();
    assert_eq!(rehearsal["read"]["items"], 2);
    assert_eq!(rehearsal.get("skipped"), None, "no item was judged");
    assert!(!cli.data().exists(), "a dry run must not create a store");
    assert_eq!(cli.run(&format!("{line} --server=http://localhost:1")).code, 64);

    assert_eq!(cli.run(&line).json()["written"], 2);
    let one = cli.json("memory.get --id=one");
    assert_eq!(one["createdAt"], "2025-01-02T03:04:05.000Z");
    assert_eq!(one["quality"]["reuseCount"], 3);
    let two = cli.json("memory.get --id=two");
    assert_eq!(two["text"], "the key is <redacted-secret>");
    assert_eq!(cli.json("memory.query --scope=global --q=plain")["total"], 1);

    let audited = audited(&cli);
    let imported = audited.iter().find(|entry| entry["tool"] == "import.reference").unwrap();
    assert_eq!((&imported["items"], &imported["write"]), (&2.into(), &true.into()));

    let nowhere = cli.run("import reference --from nowhere --scope global");
    assert_ne!(nowhere.code, 0);
}

#[test]
fn a_sample_of_the_bodies_is_read_and_timed() {
    let cli = three_items();
    let result = cli.json("segments.verify --scope=global --sample=1");
    assert_eq!((&result["stored"], &result["checked"]), (&3.into(), &3.into()));
    assert!(result["meanAccessMs"].as_f64().unwrap() > 0.0);
    damage(&cli, "bravo");
    let damaged = cli.run("segments.verify --scope=global --sample=1");
    assert_eq!(damaged.code, 2, "{damaged:?}");
    assert_eq!(damaged.json_whatever_the_code()["corruptedItems"][0]["id"], "b");
    assert_eq!(cli.run("segments verify --scope global --sample 2").code, 64);
}
