//! Tools as commands, on a data folder that no server holds.

use std::process::Stdio;

use serde_json::{Value, json};

use super::{Cli, assert_answer};

#[test]
fn both_spellings_answer_the_same() {
    let cli = Cli::new();
    cli.store("pool", "Connection pool", "The pool holds 20 connections.");
    let dotted = cli.json("memory.query --scope=all --q=pool --k=20");
    let spaced = cli.json("memory query --scope all --q pool --k 20 --output json");
    for answer in [&dotted, &spaced] {
        assert_eq!(answer["total"], 1);
        assert_eq!(answer["items"][0]["id"], "pool");
    }
    let ids = |answer: &Value| answer["items"].as_array().unwrap().len();
    assert_eq!(ids(&dotted), ids(&spaced));
    assert_eq!(cli.json("memory_query --q=pool --scope=global")["total"], 1);
}

#[test]
fn dotted_commands_print_json_into_pipes_and_spaced_ones_text() {
    let cli = Cli::new();
    cli.store("a", "First", "one");
    assert_answer!(cli, cli.run("memory list --scope global"), @r"
    exit 0
    ----- stdout
    total           1
    total relation  eq
    items:
      id  version  type  scope   title  confidence  pinned  updated at
      a   1        fact  global  First  0.475       no      [time]
    ");
    assert_eq!(cli.json("memory.list --scope=global")["items"][0]["title"], "First");
    let text = cli.run("memory.list --scope=global --output=text");
    assert_eq!(text.stdout, cli.run("memory list --scope global").stdout);
}

#[test]
fn an_item_is_shown_with_its_text() {
    let cli = Cli::new();
    cli.store("a", "First", "one\ntwo");
    assert_answer!(cli, cli.run("memory get --id a"), @r"
    exit 0
    ----- stdout
    id          a
    version     1
    type        fact
    scope       global
    title       First
    updated at  [time]
    created at  [time]
    hash        [sha256]
    facets:
      tags: none
      files: none
      symbols: none
    links: none
    provenance:
      created by  local
      updated by  local
    quality:
      confidence         0.475
      pinned             no
      decayed usage      0
      helpful count      0
      not helpful count  0
      reuse count        0
    security:
      sensitivity  private
      secret hash refs: none
    text:
      one
      two
    ");
}

#[test]
fn texts_come_from_files_and_from_standard_input() {
    let cli = Cli::new();
    std::fs::write(cli.scratch().join("note.md"), "from a file\n").unwrap();
    let store = |id: &str, text: &str, input: &str| {
        let arguments =
            ["memory.upsert", "--type=note", "--scope=global", "--id", id, "--text", text];
        cli.run_with_input(&arguments, input).json();
        cli.json(&format!("memory.get --id={id}"))["text"].clone()
    };
    assert_eq!(store("file", "@note.md", ""), "from a file\n");
    assert_eq!(store("stdin", "-", "from standard input"), "from standard input");
    assert_eq!(store("at", "@@home", ""), "@home");
}

#[test]
fn filters_are_json_or_dotted_flags() {
    let cli = Cli::new();
    for (id, tag) in [("a", "red"), ("b", "blue"), ("c", "green")] {
        cli.run_args(&[
            "memory.upsert",
            "--type=note",
            "--scope=global",
            "--title=x",
            "--id",
            id,
            "--tags",
            tag,
        ])
        .json();
    }
    let ids = |line: &str| {
        let answer = cli.json(line);
        let mut ids: Vec<String> = answer["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    for line in [
        "memory.list --scope=global --filters.tags=red,blue",
        "memory.list --scope=global --filters.tags red --filters.tags blue",
        r#"memory.list --scope=global --filters={"tags":["red","blue"]}"#,
    ] {
        assert_eq!(ids(line), ["a", "b"], "{line}");
    }
}

#[test]
fn projects_are_apart() {
    let cli = Cli::new();
    for project in ["one", "two"] {
        cli.run(&format!(
            "memory.upsert --project={project} --type=note --scope=local --id=x --title={project}"
        ))
        .json();
    }
    for project in ["one", "two"] {
        let item = cli.json(&format!("memory.get --id=x --project={project}"));
        assert_eq!(item["title"], *project);
    }
}

#[test]
fn commands_of_the_operations_manual_work_as_they_are_written() {
    let cli = Cli::new();
    cli.store("a", "First", "one");
    for line in [
        "journal.verify --scope=all",
        "journal.stats --scope=all",
        "journal.migrate --scope=all",
        "maintenance.verify --scope=all",
        "maintenance.verify --scope=global",
        "maintenance.rebuild --scope=global",
        "maintenance.rebuild --scope=all",
        "maintenance.replay --scope=all --compact=true",
        "maintenance.compact --scope=global",
        "maintenance.compactSnapshot --scope=all",
        "maintenance.snapshot --scope=all",
        "maintenance.cleanup --scope=all --dry-run",
        "maintenance.prune --scope=all --dryRun=true",
    ] {
        let answer = cli.run(line);
        assert_eq!(answer.code, 0, "{line}: {answer:?}");
        assert!(answer.json().is_object(), "{line}");
    }
    assert_eq!(cli.json("memory.query --scope=global --q=first --k=20")["total"], 1);
}

#[test]
fn a_configuration_is_set_from_the_shell() {
    let cli = Cli::new();
    cli.json(r#"project.config.set --scope=global --config={"search":{"bm25":{"k1":1.5}}}"#);
    assert_eq!(
        cli.json("project.config.get --scope=global")["config"]["search"]["bm25"]["k1"],
        1.5
    );
    std::fs::write(cli.scratch().join("scope.json"), "{}").unwrap();
    cli.json("project.config.set --scope=global --config=@scope.json");
    assert_ne!(
        cli.json("project.config.get --scope=global")["config"]["search"]["bm25"]["k1"],
        1.5
    );
}

#[test]
fn the_answer_of_verify_has_what_scripts_pipe_into_jq() {
    let cli = Cli::new();
    cli.store("a", "First", "one");
    let answer = cli.json("journal.verify --scope=global");
    assert_eq!(answer["corruptedItems"], json!([]));
    assert_eq!(answer["integrityScore"], 1.0);
    assert!(answer["checkedCount"].as_u64().unwrap() >= 1);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let cli = Cli::new();
    let mut child = cli.command(["completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let cli = Cli::new();
    for line in ["token create ci", "config show", "doctor", "man", "completions bash"] {
        let mut command = cli.command(line.split(' '));
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let answer = super::answer(&command.stdout(full).output().unwrap());
        assert_eq!(answer.code, 2, "{line}: {answer:?}");
        assert!(answer.stderr.contains("cannot write the result"), "{line}: {answer:?}");
    }
}

#[test]
fn completions_and_manual_pages_know_the_tools() {
    let cli = Cli::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = cli.run(&format!("completions {shell}"));
        assert_eq!(script.code, 0);
        assert!(script.stdout.contains("max-chars"), "{shell}");
    }
    let page = cli.run("man memory query");
    assert!(page.stdout.contains(".TH") && page.stdout.contains("Search"), "{page:?}");
    assert_eq!(cli.run("man memory forget").code, 64);
}

#[test]
fn configured_secret_patterns_hold_for_the_command_line_too() {
    let cli = Cli::new();
    let patterns = cli.scratch().join("patterns.json");
    let file = json!({
        "patterns": ["badge-[0-9]{4}"], "replacement": "[gone]",
    });
    std::fs::write(&patterns, file.to_string()).unwrap();
    let mut command = cli.command([
        "memory.upsert",
        "--type=note",
        "--scope=global",
        "--id=a",
        "--text=mine is badge-1234",
    ]);
    command.env("LLM_MEMORY_SECRET_PATTERNS_FILE", &patterns);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(cli.json("memory.get --id=a")["text"], "mine is [gone]");
}
