//! Clients who have not said who they are: they keep nobody out.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use llm_memory_tests::client::Wire;
use llm_memory_tests::server::TestServer;
use serde_json::json;

use super::kubernetes::Bench;
use super::{INITIALIZE, knock, request};

const FEW: (&str, &str) = ("LLM_MEMORY_MAX_CONNECTIONS", "8");

fn bench() -> Bench {
    let account = json!({"namespace": "agents", "name": "planner"});
    Bench::with(&json!([{"serviceAccount": account, "roles": ["agent"]}]), &[FEW])
}

/// More connections than there are places, which say nothing.
fn silent(to: SocketAddr) -> Vec<TcpStream> {
    (0..24).map(|_| TcpStream::connect(to).unwrap()).collect()
}

/// Sends a request that does not end the connection; whether the connection ends within `limit`.
fn is_last(to: SocketAddr, first: &str, token: Option<&str>, limit: Duration) -> bool {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(limit)).unwrap();
    let request = request(to, first, token, INITIALIZE).replace("Connection: close\r\n", "");
    stream.write_all(request.as_bytes()).unwrap();
    let ended = stream.read_to_end(&mut Vec::new());
    // Otherwise it waits for the next request.
    ended.is_ok()
}

#[test]
fn silent_connections_make_room_for_those_who_are_let_in() {
    let bench = bench();
    let token = bench.cluster.know("agents:planner", "memory", 3600);
    let to = bench.server.addresses().unwrap().mcp;
    let mut known = bench.server.client(Wire::Http).unwrap().with_token(&token);
    known.call("memory_list", &json!({"scope": "global"})).unwrap();
    let _silent = silent(to);
    assert_eq!(knock(&bench.server, Some(&token)).status, 200);
    known.call("memory_list", &json!({"scope": "global"})).unwrap();
}

#[test]
fn a_server_that_lets_everybody_in_is_reached_past_silent_connections() {
    let server = TestServer::builder().env(FEW.0, FEW.1).start().unwrap();
    let _silent = silent(server.addresses().unwrap().mcp);
    assert_eq!(knock(&server, None).status, 200);
}

#[test]
fn strangers_do_not_hold_a_connection_by_asking_again() {
    let bench = bench();
    let token = bench.cluster.know("agents:planner", "memory", 3600);
    let unmapped = bench.cluster.know("agents:stranger", "memory", 3600);
    let to = bench.server.addresses().unwrap().mcp;
    for (first, token) in [
        ("GET /x", None),
        ("POST /mcp", None),
        ("GET /api/v1/status", None),
        ("POST /mcp", Some("a.b.c")),
        ("POST /mcp", Some(&unmapped)),
        ("GET /.well-known/oauth-protected-resource", None),
    ] {
        assert!(is_last(to, first, token, Duration::from_secs(30)), "{first} {token:?}");
    }
    assert!(!is_last(to, "POST /mcp", Some(&token), Duration::from_secs(2)));
}
