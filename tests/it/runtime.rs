//! The server as a process: what it refuses to start with, what it leaves while it runs, how it
//! ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use llm_memory_tests::client::Wire;
use llm_memory_tests::server::{TestServer, server_binary};
use serde_json::{Value, json};

/// Runs the program in an empty environment and answers all it said: exit status, stdout, stderr.
fn run(data: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(server_binary().unwrap())
        .args(arguments)
        .env_clear()
        .env("LLM_MEMORY_DATA_DIR", data)
        .env("LLM_MEMORY_MCP_PORT", "0")
        .env("LLM_MEMORY_HEALTH_PORT", "0")
        .env("LLM_MEMORY_METRICS_PORT", "0")
        .env("LLM_MEMORY_LOG_DESTINATION", "file")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn whole(answer: &(i32, String, String)) -> String {
    format!("exit {}\n--- stdout\n{}--- stderr\n{}", answer.0, answer.1, answer.2)
}

/// Status and body of a GET.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn an_address_for_everybody_is_refused_without_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let answer = run(folder.path(), &[], &["serve", "--bind", "0.0.0.0"]);
    insta::assert_snapshot!(whole(&answer), @r"
    exit 64
    --- stdout
    --- stderr
    error: refusing to serve 0.0.0.0 without tokens, since everybody who reaches it could read and change everything: create a token with `llm-memory token create NAME`, or take identities (auth.kubernetes.audience, auth.oidc.issuer), or serve a loopback address (--bind 127.0.0.1), or let everybody in with --allow-anonymous
    ");
}

#[test]
fn every_mistake_in_the_configuration_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.json"), r#"{"listen":{"mcpprot":1}}"#).unwrap();
    let wrong = [("LLM_MEMORY_CACHE_SIZE", "1"), ("LLM_MEMORY_VIDEO_CODEC", "mpeg")];
    let mut answer = run(folder.path(), &wrong, &["serve", "--log-level=loud"]);
    answer.2 = answer.2.replace(folder.path().to_str().unwrap(), "[DATA]");
    insta::assert_snapshot!(whole(&answer), @r#"
    exit 64
    --- stdout
    --- stderr
    error: [DATA]/server.json: listen.mcpprot: no such setting; did you mean listen.mcpPort?
    LLM_MEMORY_CACHE_SIZE: no such variable; did you mean LLM_MEMORY_CACHE_SIZE_MB?
    LLM_MEMORY_VIDEO_CODEC: "mpeg" is not one of auto, ffv1, av1, h264, h265
    --log-level: "loud" is not one of error, warn, info, debug, trace
    "#);
}

#[test]
fn the_effective_configuration_says_where_each_value_came_from() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.json"), r#"{"cache":{"payloadMb":7}}"#).unwrap();
    let environment = [("LLM_MEMORY_VIDEO_ENCODER", "wasm")];
    let arguments = ["config", "show", "--frame-cache-mb=9", "--output", "json"];
    let (code, out, _) = run(folder.path(), &environment, &arguments);
    let shown: Value = serde_json::from_str(&out).unwrap();
    let of = |key: &str| {
        let setting = &shown["settings"][key];
        (setting["value"].clone(), setting["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(code, 0);
    assert_eq!(of("cache.payloadMb"), (json!(7), "file".to_owned()));
    assert_eq!(of("video.encoder"), (json!("software"), "environment".to_owned()));
    assert_eq!(of("cache.frameMb"), (json!(9), "flag".to_owned()));
    assert_eq!(of("cache.catalogMb"), (json!(128), "default".to_owned()));
}

#[test]
fn a_busy_port_is_named_with_the_flag_that_moves_it() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut answer = run(folder.path(), &[("LLM_MEMORY_METRICS_PORT", &port)], &["serve"]);
    answer.2 = answer.2.replace(&port, "[PORT]");
    insta::assert_snapshot!(whole(&answer), @r"
    exit 2
    --- stdout
    --- stderr
    error: cannot listen on 127.0.0.1:[PORT] for metrics: Address already in use (os error 98); stop the program that has it, or choose another with --metrics-port (LLM_MEMORY_METRICS_PORT)
    ");
}

#[test]
fn a_running_server_is_healthy_alone_and_leaves_nothing_behind() {
    let mut server = TestServer::builder().start().unwrap();
    let addresses = server.addresses().unwrap();
    assert_eq!(get(addresses.health, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(get(addresses.health, "/livez").0, 200);
    let (status, health) = get(addresses.health, "/health");
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["safeMode"]), (200, &json!(false)));
    let (_, scrape) = get(addresses.metrics, "/metrics");
    assert!(scrape.contains("llm_memory_ready 1"), "{scrape}");

    let second = run(server.data_dir(), &[], &["serve"]);
    assert_eq!(second.0, 2);
    let pid = server.pid().unwrap();
    assert!(
        second.2.contains(&format!("in use by the server with process id {pid}")),
        "{second:?}"
    );

    assert_eq!(server.stop().unwrap().code(), Some(0));
    let left: Vec<_> = std::fs::read_dir(server.data_dir().join("run")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let audit = std::fs::read_dir(server.data_dir().join("audit")).unwrap();
    let lines: String =
        audit.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let kinds: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].to_string())
        .collect();
    assert_eq!(kinds, [r#""start""#, r#""stop""#]);
}

#[test]
fn a_token_opens_the_door_until_it_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (code, out, _) = run(&data, &[], &["token", "create", "ci", "--output", "json"]);
    assert_eq!(code, 0);
    let created: Value = serde_json::from_str(&out).unwrap();
    let token = created["token"].as_str().unwrap();
    let server = TestServer::builder().data_dir(&data).start().unwrap();
    let list = json!({ "scope": "global" });
    server.client(Wire::Http).unwrap().call("memory.list", &list).unwrap_err();
    let with_token = || server.client(Wire::Http).unwrap().with_token(token);
    with_token().call("memory.list", &list).unwrap();

    assert_eq!(run(&data, &[], &["token", "revoke", "ci"]).0, 0);
    // The server looks at the file every two seconds.
    let patience = Instant::now() + Duration::from_secs(60);
    while with_token().call("memory.list", &list).is_ok() {
        assert!(Instant::now() < patience, "a revoked token is still accepted");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn test_mode_checks_everything_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (code, out, _) = run(&data, &[], &["serve", "--test-mode", "--output", "json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0, "{report}");
    let checks: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    for check in ["permissions", "ports", "disk space", "memory", "FFmpeg", "GPU", "start"] {
        assert!(checks.contains(&check), "{check} in {checks:?}");
    }
    std::fs::write(data.join("tokens.json"), "[{]").unwrap();
    assert_eq!(run(&data, &[], &["serve", "--test-mode"]).0, 2);
}

#[test]
fn a_client_that_never_reads_stderr_gets_all_its_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(server_binary().unwrap())
        .arg("stdio")
        .env_clear()
        .env("LLM_MEMORY_DATA_DIR", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = |id: u32, method: &str, params: Value| {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(input, "{request}").unwrap();
        if method == "initialize" {
            let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            writeln!(input, "{done}").unwrap();
        }
        let answer: Value = serde_json::from_str(&output.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer["id"], id, "{answer}");
    };
    let client = json!({"name": "test", "version": "1"});
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    ask(0, "initialize", hello);
    // Each is logged with some 200 bytes; a pipe holds 64 KiB.
    for id in 1..=1000 {
        ask(id, "tools/call", json!({"name": "memory_list", "arguments": {"scope": "global"}}));
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}
