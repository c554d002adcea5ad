//! Commands against a running server: found through the data folder's lock, or by its address.

use llm_memory_tests::client::Wire;
use llm_memory_tests::server::TestServer;
use serde_json::{Value, json};

use super::Cli;

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
    let answer = cli.run("health --max-disk-percent=100 --output=json");
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
    assert_eq!(system["parts"][0]["score"], 100.0);
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
