//! Jobs of the real server: over HTTP, by the command line, across crashes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use llm_memory_tests::server::TestServer;
use serde_json::{Value, json};

use super::reports::{damage, three_items};
use super::{Cli, audited};

fn serve(cli: &Cli) -> TestServer {
    TestServer::builder().data_dir(cli.data()).start().unwrap()
}

/// One request to the API: status, head, document.
struct Api {
    address: SocketAddr,
    token: Option<String>,
}

impl Api {
    fn of(server: &TestServer) -> Self {
        Self { address: server.addresses().unwrap().mcp, token: None }
    }

    fn with(server: &TestServer, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::of(server) }
    }

    fn send(&self, request: &str, more: &str, body: &str) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let token = self.token.as_ref();
        let token = token.map_or_else(String::new, |t| format!("Authorization: Bearer {t}\r\n"));
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}{more}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or_default())
    }

    fn post(&self, body: &Value) -> (u16, String, Value) {
        self.send("POST /api/v1/jobs", "Content-Type: application/json\r\n", &body.to_string())
    }

    fn get(&self, path: &str) -> (u16, String, Value) {
        self.send(&format!("GET /api/v1/{path}"), "", "")
    }

    /// The job, once it has left the states given.
    fn past(&self, id: &str, states: &[&str]) -> Value {
        let mut revision = 0;
        loop {
            let (status, _, job) =
                self.get(&format!("jobs/{id}?waitSeconds=30&revision={revision}"));
            assert_eq!(status, 200, "{job}");
            if !states.contains(&job["state"].as_str().unwrap()) {
                return job;
            }
            revision = job["revision"].as_u64().unwrap();
        }
    }

    fn end(&self, id: &str) -> Value {
        self.past(id, &["pending", "running"])
    }
}

fn routine() -> Value {
    json!({"kind": "routine", "arguments": {"routine": "quarterly"}})
}

#[test]
fn a_job_is_submitted_followed_and_listed_over_http() {
    let cli = three_items();
    let mut server = serve(&cli);
    let api = Api::of(&server);
    let order = json!({"kind": "compact", "idempotencyKey": "k1"});
    let (status, head, job) = api.post(&order);
    assert_eq!(status, 202, "{job}");
    let id = job["id"].as_str().unwrap();
    assert!(head.contains(&format!("location: /api/v1/jobs/{}", id.to_lowercase())), "{head}");
    let ended = api.end(id);
    assert_eq!((ended["state"].as_str(), ended["attempts"].as_u64()), (Some("succeeded"), Some(1)));
    assert!(ended["result"]["global"]["bytesBefore"].is_number(), "{ended}");
    let (status, _, again) = api.post(&order);
    assert_eq!((status, again["id"].as_str()), (200, Some(id)));
    let (status, _, other) = api.post(&json!({"kind": "prune", "idempotencyKey": "k1"}));
    assert_eq!((status, other["error"]["code"].as_str()), (409, Some("conflict")));
    let (_, _, listed) = api.get("jobs?state=succeeded&kind=compact");
    assert_eq!((listed["total"].as_u64(), &listed["jobs"][0]["id"]), (Some(1), &json!(id)));
    assert_eq!(api.get("jobs?kind=verify").2["total"], 0);
    let (status, _, error) = api.send(&format!("DELETE /api/v1/jobs/{id}"), "", "");
    assert_eq!((status, error["error"]["code"].as_str()), (409, Some("conflict")));
    let figures = cli.json("jobs.status");
    assert_eq!((figures["done24h"].as_u64(), figures["pending"].as_u64()), (Some(1), Some(0)));
    let begun = std::time::Instant::now();
    let (status, page) = loop {
        let (status, _, page) = api.get("status");
        // Whoever measures the folder begins when the server does, and may not be done.
        if page["usedBytes"].is_u64() || begun.elapsed().as_secs() > 60 {
            break (status, page);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!((status, &page["jobs"]["done24h"]), (200, &json!(1)));
    assert_eq!(page["encoder"]["encoder"], "ffv1");
    assert_eq!(page["lastCompaction"]["scopes"], 1);
    assert!(page["usedBytes"].as_u64().unwrap() > 0);
    // What is queued for the audit log is written by then.
    assert_eq!(server.stop().unwrap().code(), Some(0));
    let tools: Vec<String> = audited(&cli)
        .iter()
        .filter(|entry| entry["tool"].is_string())
        .map(|entry| format!("{} {}", entry["transport"].as_str().unwrap(), entry["tool"]))
        .collect();
    for expected in ["http \"jobs.submit\"", "job \"maintenance.compact\"", "http \"jobs.cancel\""]
    {
        assert!(tools.iter().any(|tool| tool == expected), "{expected} in {tools:?}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_told_with_its_status() {
    let server = TestServer::builder().start().unwrap();
    let api = Api::of(&server);
    let json_type = "Content-Type: application/json\r\n";
    for (request, more, body, status, code) in [
        ("POST /api/v1/jobs", json_type, "{", 400, "invalid_argument"),
        ("POST /api/v1/jobs", "", "{}", 415, "invalid_argument"),
        ("POST /api/v1/jobs", json_type, r#"{"kind":"destroy"}"#, 422, "invalid_argument"),
        ("POST /api/v1/jobs", json_type, r#"{"kind":"routine"}"#, 422, "invalid_argument"),
        ("GET /api/v1/jobs?limit=0", "", "", 422, "invalid_argument"),
        ("GET /api/v1/jobs?colour=red", "", "", 422, "invalid_argument"),
        ("GET /api/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV", "", "", 404, "not_found"),
        ("GET /api/v1/jobs/x?waitSeconds=30", "", "", 404, "not_found"),
        ("DELETE /api/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV", "", "", 404, "not_found"),
        ("GET /api/v1/status", "Origin: https://evil.example\r\n", "", 403, "forbidden"),
    ] {
        let (found, _, document) = api.send(request, more, body);
        assert_eq!((found, document["error"]["code"].as_str()), (status, Some(code)), "{request}");
        assert!(document["error"]["remedy"].is_string(), "{document}");
    }
}

#[test]
fn roles_decide_who_submits_and_who_looks() {
    let cli = Cli::new();
    let token = |role: &str| {
        let line = format!("token create {role} --role={role} --output=json");
        cli.json(&line)["token"].as_str().unwrap().to_owned()
    };
    let (operator, monitor, agent) = (token("operator"), token("monitor"), token("agent"));
    let server = serve(&cli);
    let order = json!({"kind": "verify"});
    let (status, head, refused) = Api::of(&server).post(&order);
    assert_eq!((status, refused["error"]["code"].as_str()), (401, Some("unauthorized")));
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    let (status, _, refused) = Api::with(&server, &monitor).post(&order);
    assert_eq!(status, 403);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("needs the role operator"), "{message}");
    let (status, _, job) = Api::with(&server, &operator).post(&order);
    assert_eq!((status, job["requester"].as_str()), (202, Some("operator")));
    let id = job["id"].as_str().unwrap();
    assert_eq!(Api::with(&server, &monitor).end(id)["state"], "succeeded");
    assert_eq!(Api::with(&server, &monitor).get("status").0, 200);
    for path in ["jobs", "status", &format!("jobs/{id}?waitSeconds=30")] {
        assert_eq!(Api::with(&server, &agent).get(path).0, 403, "{path}");
    }
}

#[test]
fn a_job_that_the_server_was_killed_under_ends_after_the_restart() {
    let cli = three_items();
    let mut server = serve(&cli);
    // Between the look and the kill the job may end; then another one is tried.
    let killed = (0..50).find_map(|_| {
        let api = Api::of(&server);
        let id = api.post(&routine()).2["id"].as_str().unwrap().to_owned();
        api.past(&id, &["pending"]);
        server.kill().unwrap();
        let path = cli.data().join(format!("jobs/{id}.json"));
        let kept: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let offline = cli.json(&format!("jobs.get --id={id}"));
        server.start().unwrap();
        (kept["job"]["state"] == "running").then_some((id, offline))
    });
    let (id, offline) = killed.expect("a job is caught at work");
    assert_eq!(offline["state"], "pending", "nobody runs it while there is no server");
    let ended = Api::of(&server).end(&id);
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["attempts"], 2);
    let report = ended["result"]["report"].as_str().unwrap();
    assert!(cli.data().join(report).exists());
}

#[test]
fn damage_is_a_finding_that_names_what_is_damaged() {
    let cli = three_items();
    damage(&cli, "alpha");
    let check = |how: &str| {
        let answer = cli.run("jobs run verify --output=json");
        assert_eq!(answer.code, 1, "{how}: {answer:?}");
        let found = answer.json_whatever_the_code();
        assert_eq!(found["sound"], false);
        let first = &found["damaged"][0];
        assert_eq!((&first["scope"], &first["id"]), (&json!("global"), &json!("a")), "{found}");
        assert!(first["file"].as_str().unwrap().contains("journal"), "{first}");
        assert!(answer.stderr.contains("finding") && answer.stderr.contains("global: a in "));
    };
    check("on the folder");
    let server = serve(&cli);
    check("at the server");
    let (_, _, page) = Api::of(&server).get("status");
    assert_eq!(page["lastVerification"]["verdict"], "damaged");
    assert_eq!(page["lastVerification"]["damaged"], 1);
    let named = page["lastVerification"]["damage"].as_array().unwrap();
    assert_eq!(named.len(), 1, "{page}");
    assert!(
        named[0].as_str().unwrap().starts_with("global: a in journal.ndjson: record "),
        "{page}"
    );
    assert_eq!(page["jobs"]["findings24h"], 2);
}

#[test]
fn a_full_queue_is_busy_and_safe_mode_writes_nothing() {
    let cli = three_items();
    let waiting = cli.json("jobs.submit --kind=compact")["job"]["id"].clone();
    let server = TestServer::builder()
        .data_dir(cli.data())
        .env("LLM_MEMORY_SAFE_MODE", "true")
        .env("LLM_MEMORY_MAX_PENDING_JOBS", "1")
        .start()
        .unwrap();
    let api = Api::of(&server);
    let (_, _, job) = api.get(&format!("jobs/{}", waiting.as_str().unwrap()));
    assert_eq!(job["state"], "pending");
    let (status, head, refused) = api.post(&json!({"kind": "verify"}));
    assert_eq!((status, refused["error"]["code"].as_str()), (429, Some("busy")));
    assert!(head.contains("retry-after: "), "{head}");
    let (status, _, refused) = api.post(&json!({"kind": "prune"}));
    assert_eq!((status, refused["error"]["code"].as_str()), (409, Some("read_only")));
    drop(server);
    let server = serve(&cli);
    assert_eq!(Api::of(&server).end(waiting.as_str().unwrap())["state"], "succeeded");
}

#[test]
fn a_routine_runs_on_a_folder_without_a_server_and_at_a_server() {
    let cli = three_items();
    for how in ["on the folder", "at the server"] {
        let server = (how == "at the server").then(|| serve(&cli));
        let answer = cli.run("maintenance run weekly --output=json");
        assert_eq!(answer.code, 0, "{how}: {answer:?}");
        let report = answer.json();
        assert_eq!((&report["routine"], &report["state"]), (&json!("weekly"), &json!("succeeded")));
        assert!(cli.data().join(report["report"].as_str().unwrap()).exists());
        drop(server);
    }
    assert_eq!(cli.json("jobs.list")["total"], 2);
    let last = cli.json("jobs.status")["lastSuccess"].clone();
    assert!(last["routine-weekly"].is_string(), "{last}");
    assert_eq!(cli.run("jobs run routine").code, 64);
    assert_eq!(cli.run("jobs run verify --timeout=soon").code, 64);
}

#[test]
fn a_client_waits_for_a_server_that_is_not_there_yet() {
    let cli = three_items();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let token = cli.scratch().join("token");
    std::fs::write(&token, "none yet\n").unwrap();
    let made = cli.json("token create cron --role=operator --output=json")["token"].clone();
    let mut client = cli.command(["jobs", "run", "verify", "--output=json"]);
    client
        .env("LLM_MEMORY_URL", format!("http://127.0.0.1:{port}"))
        .env("LLM_MEMORY_TOKEN_FILE", &token);
    let mut client = client.spawn().unwrap();
    let mut said = BufReader::new(client.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("waiting for the server"), "{line}");
    // The token that is there when the request is made counts.
    std::fs::write(&token, made.as_str().unwrap()).unwrap();
    let _server = TestServer::builder()
        .data_dir(cli.data())
        .env("LLM_MEMORY_MCP_PORT", &port)
        .start()
        .unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{rest}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["sound"], &found["checked"]), (&json!(true), &json!(3)));
    assert!(rest.contains("succeeded"), "{rest}");
}

#[test]
fn a_client_that_nobody_answers_gives_up_in_time() {
    let cli = Cli::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let answer = cli.run(&format!("jobs run verify --server=http://{address} --timeout=1s"));
    assert_eq!((answer.code, answer.stdout.as_str()), (2, ""), "{answer:?}");
    assert!(answer.stderr.contains("no server took the job"), "{answer:?}");
}
