//! Commands against a running server: found through the data folder's lock, or by its address.

use std::time::{Duration, Instant};

use llm_memory_tests::client::Wire;
use llm_memory_tests::server::TestServer;
use serde_json::{Value, json};

use super::reports::{damage, three_items};
use super::{Cli, audited};

/// A server on the folder that the commands name.
fn serve(cli: &Cli) -> TestServer {
    TestServer::builder().data_dir(cli.data()).start().unwrap()
}

#[test]
fn a_command_talks_to_the_server_that_holds_the_folder() {
    let cli = Cli::new();
    let server = serve(&cli);
    cli.store("a", "From the shell", "text");
    let mut client = server.client(Wire::Http).unwrap();
    let item = client.call("memory_get", &json!({"id": "a"})).unwrap();
    assert_eq!(item["title"], "From the shell");
    assert_eq!(cli.json("journal.verify --scope=all")["global"]["valid"], true);
    let missing = cli.run("memory.get --id=b");
    assert_eq!((missing.code, missing.stdout.as_str()), (2, ""));
    assert!(missing.stderr.contains("not found"), "{missing:?}");
}

#[test]
fn after_a_crash_the_folder_is_opened_again() {
    let cli = Cli::new();
    let mut server = serve(&cli);
    cli.store("a", "Before the crash", "text");
    server.kill().unwrap();
    assert!(cli.data().join("run/server.json").exists(), "the file is left over");
    assert_eq!(cli.json("memory.get --id=a")["title"], "Before the crash");
}

#[test]
fn a_healthy_server_passes_the_monitor() {
    let cli = Cli::new();
    let _server = serve(&cli);
    let answer = cli.run("health --max-disk-percent=100 --max-latency-ms=60000 --output=json");
    let report = answer.json_whatever_the_code();
    assert_eq!(report["seen"]["service"]["running"], true);
    assert_eq!(report["seen"]["service"]["httpStatus"], 200);
    let findings = report["findings"].as_array().unwrap();
    // The server names a volume that is nearly full; the machine of the test may have one.
    let of_the_volume =
        |finding: &Value| finding["message"].as_str().unwrap().contains("data volume");
    assert!(findings.iter().all(of_the_volume), "{findings:?}");
    assert_eq!(answer.code, i32::from(!findings.is_empty()));
    let slow = cli.run("health --max-disk-percent=100 --max-latency-ms=0 --output=json");
    assert_eq!(slow.code, 1);
    let system = cli.run("health system --output=json").json_whatever_the_code();
    let parts = system["parts"].as_array().unwrap();
    // Degraded counts half.
    let score = if parts[0]["figure"] == "ok" { 100.0 } else { 50.0 };
    assert_eq!(parts[0]["score"], score);
    let integrity = parts.iter().find(|part| part["name"] == "integrity").unwrap();
    assert_eq!(integrity["score"], Value::Null, "nothing was verified");
    assert_eq!(cli.run("token revoke nosuch").code, 2);
    let again = cli.run("health --max-disk-percent=100 --max-error-rate=0 --output=json");
    assert_eq!(again.json_whatever_the_code()["seen"]["calls"]["failed"], 0);
}

#[test]
fn a_secret_given_as_an_id_is_in_no_log() {
    let cli = Cli::new();
    let builder = TestServer::builder().data_dir(cli.data());
    let _server = builder.env("LLM_MEMORY_LOG_DESTINATION", "file").start().unwrap();
    let secret = concat!("ghp_", "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5");
    assert_eq!(cli.run(&format!("memory.get --id={secret}")).code, 2);
    let kept = |folder: &str| {
        let files = std::fs::read_dir(cli.data().join(folder)).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect::<String>()
    };
    let patience = Instant::now() + Duration::from_secs(20);
    for folder in ["audit", "logs"] {
        while !kept(folder).contains("<redacted-secret>") {
            assert!(Instant::now() < patience, "{}", kept(folder));
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(!kept(folder).contains(secret), "{}", kept(folder));
    }
}

#[test]
fn damage_that_is_known_degrades_the_service() {
    let cli = three_items();
    let _server = serve(&cli);
    damage(&cli, "bravo");
    assert_eq!(cli.run("journal.verify --scope=all").code, 2);
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = cli.run("health --max-disk-percent=100 --output=json");
        if answer.stdout.contains("the last verification found damage") {
            assert_eq!(answer.code, 1, "{answer:?}");
            return;
        }
        assert!(Instant::now() < patience, "{answer:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_comprehensive_report_has_every_part() {
    let cli = Cli::new();
    let _server = serve(&cli);
    cli.store("a", "A", "text");
    let answer = cli.run("health comprehensive --max-disk-percent=100 --output=json");
    let report = answer.json_whatever_the_code();
    assert_eq!(report["monitor"]["seen"]["service"]["running"], true);
    assert_eq!(report["storage"]["status"], "healthy");
    assert_eq!(report["segments"]["global"]["corruptedItems"], json!([]));
    assert!(report["system"]["overall"].is_number());
}

#[test]
fn an_explicit_address_needs_no_folder() {
    let served = Cli::new();
    let server = serve(&served);
    let elsewhere = Cli::new();
    let address = server.addresses().unwrap().mcp;
    let line = format!("memory.query --server=http://{address} --q=x --scope=global");
    assert_eq!(elsewhere.json(&line)["total"], 0);
    assert!(!elsewhere.data().exists());
}

#[test]
fn a_damaged_scope_is_salvaged_through_its_server() {
    let cli = three_items();
    damage(&cli, "bravo");
    let _server = serve(&cli);
    let answer = cli.run("recover --auto --salvage --output json");
    assert_eq!(answer.code, 1, "{answer:?}");
    let outcome = answer.json_whatever_the_code();
    assert_eq!(outcome["after"]["level"], "none");
    assert_eq!(outcome["results"]["global"]["salvaged"], 1);
}

#[test]
fn a_wrong_argument_is_wrong_usage_with_and_without_a_server() {
    let cli = Cli::new();
    cli.store("a", "A", "text");
    let check = |how: &str| {
        for (line, code) in [
            ("memory.get --id=a --project=../x", 64),
            ("memory.get --id= --scope=global", 64),
            ("memory.query --q=x --asOf=yesterday", 64),
            ("memory.merge --sourceIds=[] --scope=global", 64),
            ("memory.upsert --type=note --scope=local --title=x", 64),
            ("segments.verify --scope=global --sample=2", 64),
            ("memory.get --id=b", 2),
            ("memory.pin --id=b --scope=global", 2),
        ] {
            let answer = cli.run(line);
            assert_eq!(answer.code, code, "{line} {how}: {answer:?}");
        }
    };
    check("on the folder");
    let _server = serve(&cli);
    check("at the server");
}

#[test]
fn whoever_has_no_good_token_reads_what_to_do() {
    let cli = Cli::new();
    let token = cli.json("token create ci --role=agent --output=json")["token"].clone();
    let server = serve(&cli);
    let address = server.addresses().unwrap().mcp;
    let ask = |more: &[&str]| {
        let mut line = vec!["memory.list", "--scope=global"];
        let server = format!("--server=http://{address}");
        line.push(&server);
        line.extend(more);
        cli.run_args(&line)
    };
    assert_eq!(ask(&["--token", token.as_str().unwrap()]).code, 0);
    let missing = ask(&[]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("without a bearer token"), "{missing:?}");
    assert!(missing.stderr.contains("--token or LLM_MEMORY_TOKEN"), "{missing:?}");
    let unknown = ask(&["--token=guessed"]);
    assert!(unknown.stderr.contains("refused the token"), "{unknown:?}");
    // An address that goes on guessing is locked out.
    let mut guesses = (0..20).map(|_| ask(&["--token=guessed"]));
    let last = guesses.find(|answer| !answer.stderr.contains("refused the token")).unwrap();
    assert!(
        last.stderr.contains("takes no calls") && last.stderr.contains("try again"),
        "{last:?}"
    );
}

#[test]
fn tokens_are_on_record_while_a_server_writes_the_same_log() {
    let cli = Cli::new();
    cli.json("token create a --output=json");
    let mut server = serve(&cli);
    cli.json("token create b --output=json");
    cli.store("x", "X", "text");
    cli.json("token revoke a --output=json");
    assert_eq!(cli.run("token revoke nobody").code, 2);
    server.stop().unwrap();
    let of = |tool: &str| -> Vec<(Value, Value)> {
        let entries = audited(&cli).into_iter().filter(|entry| entry["tool"] == tool);
        entries.map(|entry| (entry["id"].clone(), entry["outcome"].clone())).collect()
    };
    assert_eq!(of("token.create"), [("a".into(), "ok".into()), ("b".into(), "ok".into())]);
    assert_eq!(
        of("token.revoke"),
        [("a".into(), "ok".into()), ("nobody".into(), "not_found".into())]
    );
    assert_eq!(of("memory.upsert").len(), 1);
}
