//! Who may call: ServiceAccounts of a cluster, people of an OpenID Connect issuer, and TLS, each
//! against the real server and a stand-in for whoever it asks.

mod fake;
mod jobs;
mod kubernetes;
mod oidc;
mod operator;
mod strangers;
mod tls;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use llm_memory_tests::server::TestServer;
use serde_json::{Value, json};

/// How an HTTP request was answered.
#[derive(Debug)]
struct Reply {
    status: u16,
    /// In lower case.
    head: String,
    body: String,
}

impl Reply {
    fn of(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
        let status = head.split(' ').nth(1).unwrap_or("0").parse().unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// Why somebody was not let in.
    fn reason(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["error_description"].as_str().unwrap_or_default().to_owned()
    }
}

/// The bytes of one HTTP request, after which the server hangs up.
fn request(to: SocketAddr, first: &str, token: Option<&str>, body: &str) -> String {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "{first} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{token}Connection: close\r\n\
         MCP-Protocol-Version: 2025-11-25\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// `initialize`, which anybody may who is let in.
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;

fn knock(server: &TestServer, token: Option<&str>) -> Reply {
    let to = server.addresses().unwrap().mcp;
    plain(to, &request(to, "POST /mcp", token, INITIALIZE))
}

fn plain(to: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Reply::of(&answer)
}

/// Asks again until the answer is as wanted; what has to happen first, happens by itself.
fn until(what: &str, mut ask: impl FnMut() -> Reply, wanted: impl Fn(&Reply) -> bool) -> Reply {
    let begun = std::time::Instant::now();
    loop {
        let reply = ask();
        if wanted(&reply) {
            return reply;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {reply:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// One figure of the server's metrics.
fn metric(server: &TestServer, name: &str) -> u64 {
    let to = server.addresses().unwrap().metrics;
    let scrape = plain(to, &request(to, "GET /metrics", None, "")).body;
    let line = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.split(' ').next().unwrap().parse().unwrap())
}

/// The audit lines of the server.
fn audit(data: &Path) -> String {
    let files = std::fs::read_dir(data.join("audit")).unwrap();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// A JSON Web Token.
fn jwt(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let message =
        format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()));
    let signature = part(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// A note of `title` in a scope.
fn note(id: &str, scope: &str, title: &str) -> Value {
    json!({"id": id, "type": "note", "scope": scope, "title": title})
}
