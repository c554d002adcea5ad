//! Jobs of callers whom somebody else vouches for, and jobs through TLS.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use llm_memory_tests::client::Wire;
use llm_memory_tests::server::{TestServer, server_binary};
use serde_json::{Value, json};

use super::fake::Certificate;
use super::kubernetes::Bench;
use super::{Reply, note, plain, request};

fn api(to: SocketAddr, first: &str, token: &str, body: &str) -> (u16, Value) {
    let Reply { status, body, .. } = plain(to, &request(to, first, Some(token), body));
    (status, serde_json::from_str(&body).unwrap_or_default())
}

#[test]
fn an_account_submits_jobs_with_the_role_for_it_and_they_survive_a_restart_as_its_own() {
    let account = |name: &str| json!({"namespace": "team", "name": name});
    let rules = json!([
        {"serviceAccount": account("jobs"), "roles": ["operator"]},
        {"serviceAccount": account("planner"), "roles": ["agent"]},
    ]);
    let mut bench = Bench::new(&rules);
    let token = |name: &str| bench.cluster.know(&format!("team:{name}"), "memory", 3600);
    let (jobs, planner, stranger) = (token("jobs"), token("planner"), token("stranger"));
    let to = bench.server.addresses().unwrap().mcp;
    let order = r#"{"kind": "verify", "idempotencyKey": "nightly"}"#;
    for (token, words) in
        [(&planner, "needs the role operator"), (&stranger, "team/stranger is not mapped")]
    {
        let (status, refused) = api(to, "POST /api/v1/jobs", token, order);
        assert_eq!((status, refused["error"]["code"].as_str()), (403, Some("forbidden")));
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
    let (status, job) = api(to, "POST /api/v1/jobs", &jobs, order);
    assert_eq!(status, 202, "{job}");
    assert_eq!(job["requester"], "system:serviceaccount:team:jobs");
    let look = format!("GET /api/v1/jobs/{}?waitSeconds=30", job["id"].as_str().unwrap());
    let ended = |to| loop {
        let (status, job) = api(to, &look, &jobs, "");
        assert_eq!(status, 200, "{job}");
        if !["pending", "running"].contains(&job["state"].as_str().unwrap()) {
            break job;
        }
    };
    assert_eq!(ended(to)["state"], "succeeded");

    bench.server.kill().unwrap();
    // As if the server had been killed before the work began.
    let id = job["id"].as_str().unwrap();
    let file = bench.server.data_dir().join(format!("jobs/{id}.json"));
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    kept["job"] = job.clone();
    std::fs::write(&file, kept.to_string()).unwrap();
    bench.server.start().unwrap();
    let to = bench.server.addresses().unwrap().mcp;
    let again = ended(to);
    assert_eq!((&again["state"], &again["attempts"]), (&json!("succeeded"), &json!(1)), "{again}");
    let (status, known) = api(to, "POST /api/v1/jobs", &jobs, order);
    assert_eq!((status, &known["id"]), (200, &job["id"]), "the key is still theirs");
}

#[test]
fn what_maintenance_of_every_tenant_found_is_told_to_those_alone_who_may_work_there() {
    let account = |name: &str| json!({"namespace": "team", "name": name});
    let mut bench = Bench::new(&json!([
        {"serviceAccount": account("guest"), "roles": ["agent"], "tenant": "guests"},
        {"serviceAccount": account("jobs"), "roles": ["operator"], "everyTenant": true},
        {"serviceAccount": account("whole"), "roles": ["monitor"], "everyTenant": true},
        {"serviceAccount": account("part"), "roles": ["monitor", "operator"]},
    ]));
    let token = |name: &str| bench.cluster.know(&format!("team:{name}"), "memory", 3600);
    let (guest, jobs, whole, part) = (token("guest"), token("jobs"), token("whole"), token("part"));
    let to = bench.server.addresses().unwrap().mcp;
    let verified = || {
        let (status, job) = api(to, "POST /api/v1/jobs", &jobs, r#"{"kind": "verify"}"#);
        assert_eq!(status, 202, "{job}");
        let look = format!("GET /api/v1/jobs/{}", job["id"].as_str().unwrap());
        loop {
            let (_, job) = api(to, &format!("{look}?waitSeconds=30"), &jobs, "");
            if job["state"] == "succeeded" {
                break look;
            }
        }
    };
    verified();
    // A store without tenants hides nothing from those who may see all of it.
    let (_, page) = api(to, "GET /api/v1/status", &part, "");
    assert_eq!(page["lastVerification"]["verdict"], "sound", "{page}");

    let mut client = bench.server.client(Wire::Http).unwrap().with_token(guest);
    client.call("memory_upsert", &note("mine", "global", "Of a guest")).unwrap();
    let look = verified();
    for (token, sees) in [(&whole, true), (&part, false)] {
        let (status, job) = api(to, &look, token, "");
        assert_eq!(status, if sees { 200 } else { 404 }, "{job}");
        assert_eq!(job.to_string().contains("guests:"), sees, "{job}");
        let (status, page) = api(to, "GET /api/v1/status", token, "");
        assert_eq!((status, !page["lastVerification"].is_null()), (200, sees), "{page}");
    }
    let cancel = look.replace("GET", "DELETE");
    assert_eq!(api(to, &cancel, &part, "").0, 404);
    bench.server.stop().unwrap();
}

/// A server in `data` with the certificate in `folder`, at `port`.
fn secure(folder: &Path, data: &Path, port: u16, safe_mode: bool) -> TestServer {
    TestServer::builder()
        .data_dir(data)
        .env("LLM_MEMORY_TLS_CERT_FILE", folder.join("tls.crt"))
        .env("LLM_MEMORY_TLS_KEY_FILE", folder.join("tls.key"))
        .env("LLM_MEMORY_MCP_PORT", port.to_string())
        .env("LLM_MEMORY_SAFE_MODE", safe_mode.to_string())
        .start()
        .unwrap()
}

#[test]
fn a_job_is_followed_through_tls_with_a_token_file_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (path, data) = (|name: &str| folder.path().join(name), folder.path().join("data"));
    // As a Service's certificate: it does not name the loopback address.
    Certificate::new(&["localhost"]).write(&path("tls.crt"), &path("tls.key"));
    let command = |arguments: &[&str]| {
        let mut command = Command::new(server_binary().unwrap());
        command.args(arguments).env_clear().env("LLM_MEMORY_DATA_DIR", &data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let document = |arguments: &[&str]| -> Value {
        let output = command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    document(&["memory.upsert", "--type=fact", "--scope=global", "--id=a", "--title=A"]);
    // Somebody waits for it already, and in safe mode nobody works on it.
    let waiting =
        document(&["jobs.submit", "--kind=compact", "--idempotency-key=notes-compaction-1"]);
    let token = ["token", "create", "cron", "--role=operator", "--subject=local", "--every-tenant"];
    let token = document(&[&token[..], &["--output=json"]].concat());
    std::fs::write(path("token"), token["token"].as_str().unwrap()).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);

    let mut server = secure(folder.path(), &data, port, true);
    let remote = |arguments: &[&str], authority: &str| {
        let mut command = command(arguments);
        command
            .env_remove("LLM_MEMORY_DATA_DIR")
            .env("HOME", folder.path())
            .env("LLM_MEMORY_URL", format!("https://localhost:{port}"))
            .env("LLM_MEMORY_CA_FILE", path(authority))
            .env("LLM_MEMORY_TOKEN_FILE", path("token"));
        command
    };
    let run = ["jobs", "run", "compact", "--idempotency-key=notes-compaction-1", "--output=json"];
    let mut client = remote(&run, "tls.crt").spawn().unwrap();
    let mut said = BufReader::new(client.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let id = waiting["job"]["id"].as_str().unwrap();
    assert_eq!(line, format!("job {id} pending\n"));
    server.stop().unwrap();
    let _server = secure(folder.path(), &data, port, false);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{rest}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["global"]["bytesBefore"].is_number(), "{result} {rest}");

    // Every other command goes the same way; a certificate that nobody vouches for is no trouble
    // that passes.
    let listed = remote(&["jobs.list", "--output=json"], "tls.crt").output().unwrap();
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    Certificate::new(&["localhost"]).write(&path("other.crt"), &path("other.key"));
    let refused = remote(&run, "other.crt").output().unwrap();
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("no secure connection"), "{stderr}");
}
