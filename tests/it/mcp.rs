//! The protocol over the real binary, byte by byte where the SDKs would hide it: one port for
//! HTTP and JSON lines, both revisions, who is let in, and what is refused.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use llm_memory_engine::ids::Digest;
use llm_memory_tests::client::Wire;
use llm_memory_tests::server::TestServer;
use serde_json::{Value, json};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;

fn server() -> TestServer {
    TestServer::builder().env("LLM_MEMORY_PROJECT", "home").start().unwrap()
}

fn address(server: &TestServer) -> SocketAddr {
    server.addresses().unwrap().mcp
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// What `printf TEXT | nc HOST PORT` prints.
fn nc(to: SocketAddr, text: &str) -> String {
    let mut stream = connect(to);
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut out = String::new();
    stream.read_to_string(&mut out).unwrap();
    out
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One HTTP request on a connection of its own: status, head in lower case, body.
fn http(to: SocketAddr, head: &str, body: &str) -> (u16, String, String) {
    let request =
        format!("{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    // Unlike a line, a request ends by itself; a client that closes its side has gone away.
    let mut stream = connect(to);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("0").parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

fn post(to: SocketAddr, headers: &str, body: &str) -> (u16, String, String) {
    let head = format!(
        "POST /mcp HTTP/1.1\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{headers}"
    );
    http(to, &head, body)
}

#[test]
fn a_line_over_tcp_is_answered_without_a_handshake() {
    let server = server();
    let answer = nc(
        address(&server),
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{}}\n",
    );
    let answers = lines(&answer);
    assert_eq!(answers.len(), 1);
    let tools = answers[0]["result"]["tools"].as_array().unwrap();
    assert!(tools.iter().any(|tool| tool["name"] == "memory_query"));
    // Neither the end of the line nor the parameters are needed.
    let answer = nc(address(&server), r#"{"jsonrpc":"2.0","id":"a","method":"tools/list"}"#);
    assert_eq!(lines(&answer)[0]["id"], "a");
}

#[test]
fn a_tcp_client_that_initializes_gets_a_session() {
    let server = server();
    let text = format!(
        "{INITIALIZE}\n{}\n{}\n{}\n",
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"memory.list","arguments":{"scope":"local"}}}"#,
    );
    let mut answers = lines(&nc(address(&server), &text));
    answers.sort_by_key(|answer| answer["id"].as_u64());
    assert_eq!(answers[0]["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(answers[1]["result"], json!({}));
    assert_eq!(answers[2]["result"]["structuredContent"]["total"], 0);
    assert!(answers[2]["result"].get("resultType").is_none(), "the older revision has none");
}

#[test]
fn broken_lines_are_answered_and_the_connection_goes_on() {
    let server = TestServer::builder().env("LLM_MEMORY_MAX_REQUEST_KB", "4").start().unwrap();
    let long = "x".repeat(8 * 1024);
    let text = format!(
        " nonsense\n{long}\n[]\n{}\n{}\n",
        r#"{"jsonrpc":"2.0","id":7,"method":"no/such/method"}"#,
        r#"{"jsonrpc":"2.0","id":8,"method":"tools/list"}"#,
    );
    let answers = lines(&nc(address(&server), &text));
    let codes: Vec<i64> =
        answers.iter().filter_map(|answer| answer["error"]["code"].as_i64()).collect();
    assert_eq!(codes, [-32700, -32600, -32600, -32601]);
    assert!(answers.iter().any(|answer| answer["id"] == 8 && answer.get("result").is_some()));
}

#[test]
fn malformed_calls_are_told_what_is_wrong_with_them() {
    let server = server();
    let request = |method: &str, params: Value| {
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
    };
    let wrong = [
        (request("tools/call", json!({})), "params: missing field `name`"),
        (
            request("tools/call", json!({"name": "memory_list", "arguments": []})),
            "params.arguments: ",
        ),
        (request("resources/read", json!({})), "params: missing field `uri`"),
        (request("tools/list", json!({"cursor": "garbage"})), "params.cursor: "),
    ];
    for (line, said) in wrong {
        let error = lines(&nc(address(&server), &line)).remove(0)["error"].clone();
        assert_eq!(error["code"], -32602, "{error}");
        assert!(error["message"].as_str().unwrap().starts_with(said), "{error}");
    }
    let answer = lines(&nc(address(&server), "hello\n")).remove(0);
    assert_eq!(answer["error"]["code"], -32700, "no HTTP for whoever speaks none: {answer}");
    let to = address(&server);
    for (body, code) in [("{bad", -32700), ("[]", -32600)] {
        let (status, _, answer) = post(to, &format!("Host: {to}"), body);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)), "{answer}");
    }
}

#[test]
fn failures_of_a_tool_are_results_that_name_the_argument() {
    let server = server();
    let call = |arguments: Value| {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "memory_upsert", "arguments": arguments}});
        lines(&nc(address(&server), &request.to_string())).remove(0)["result"].clone()
    };
    let missing = call(json!({"type": "note"}));
    assert_eq!(missing["isError"], true);
    assert_eq!(missing["_meta"]["llm-memory.dev/error"]["field"], "scope");
    let nested =
        call(json!({"type": "note", "scope": "local", "links": [{"rel": "is", "to": "x"}]}));
    assert_eq!(nested["_meta"]["llm-memory.dev/error"]["field"], "links[0].rel");
    let near = call(json!({"type": "note", "scope": "local", "ttl_days": 3}));
    let text = near["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("did you mean ttlDays?"), "{text}");
    assert!(near.get("structuredContent").is_none());
}

#[test]
fn strangers_from_a_browser_are_refused() {
    let server = server();
    let to = address(&server);
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
    let (status, ..) = post(to, "Host: evil.example", list);
    assert_eq!(status, 403);
    let (status, ..) = post(to, &format!("Host: {to}\r\nOrigin: https://evil.example"), list);
    assert_eq!(status, 403);
    let (status, head, _) =
        post(to, &format!("Host: {to}\r\nOrigin: http://localhost:5173"), INITIALIZE);
    assert_eq!(status, 200);
    assert!(head.contains("mcp-session-id"), "{head}");
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let server = TestServer::builder().env("LLM_MEMORY_MAX_REQUEST_KB", "4").start().unwrap();
    let to = address(&server);
    let text = "x".repeat(16 * 1024);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "memory_upsert",
        "arguments": {"type": "note", "scope": "global", "text": text},
    }});
    let (status, ..) = post(to, &format!("Host: {to}"), &body.to_string());
    assert_eq!(status, 413);
}

/// A server that wants tokens, and the tokens of two agents: `alice` and `bob`.
fn guarded() -> (TestServer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.json");
    let entry = |name: &str, project: &str| {
        json!({
            "name": name, "sha256": Digest::of(token(name).as_bytes()), "roles": ["agent"],
            "projects": [project],
        })
    };
    let tokens = json!([entry("alice", "home"), entry("bob", "away")]);
    std::fs::write(&file, tokens.to_string()).unwrap();
    let server = TestServer::builder().env("LLM_MEMORY_TOKENS_FILE", &file).start().unwrap();
    (server, folder)
}

fn token(name: &str) -> String {
    format!("token-of-{name}-0123456789abcdef")
}

#[test]
fn http_without_a_token_is_told_where_to_get_one() {
    let (server, _folder) = guarded();
    let to = address(&server);
    let (status, head, _) = post(to, &format!("Host: {to}"), INITIALIZE);
    assert_eq!(status, 401);
    let document = format!("http://{to}/.well-known/oauth-protected-resource/mcp");
    assert!(
        head.contains(&format!("www-authenticate: bearer resource_metadata=\"{document}\"")),
        "{head}"
    );
    assert!(!head.contains("error="), "no credential was shown: {head}");

    let request = format!("GET /.well-known/oauth-protected-resource/mcp HTTP/1.1\r\nHost: {to}");
    let (status, _, body) = http(to, &request, "");
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(document["resource"], format!("http://{to}/mcp"));

    let wrong = format!("Host: {to}\r\nAuthorization: Bearer wrong");
    let (status, head, _) = post(to, &wrong, INITIALIZE);
    assert_eq!(status, 401);
    assert!(head.contains("error=\"invalid_token\""), "{head}");
}

#[test]
fn a_path_of_its_own_is_served_beside_the_usual_one_and_told_to_clients() {
    let path = "/teams/web/memory";
    let server = TestServer::builder().env("LLM_MEMORY_MCP_PATH", path).start().unwrap();
    let to = address(&server);
    let at = |path: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream"
        );
        http(to, &head, INITIALIZE)
    };
    for path in [path, "/mcp"] {
        let (status, _, body) = at(path);
        assert!(status == 200 && body.contains("serverInfo"), "{path}: {status} {body}");
        let document = format!("GET /.well-known/oauth-protected-resource{path} HTTP/1.1");
        let (_, _, body) = http(to, &format!("{document}\r\nHost: {to}"), "");
        let document: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["resource"], format!("http://{to}{path}"));
    }
    let (status, _, body) = at("/elsewhere");
    assert!(status == 404 && body.contains(path), "{status} {body}");
}

#[test]
fn a_session_is_nobody_elses() {
    let (server, _folder) = guarded();
    let to = address(&server);
    let as_whom = |name: &str| format!("Host: {to}\r\nAuthorization: Bearer {}", token(name));
    let (status, head, _) = post(to, &as_whom("alice"), INITIALIZE);
    assert_eq!(status, 200);
    let session = head.lines().find_map(|line| line.strip_prefix("mcp-session-id: ")).unwrap();
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    let with_session = |name: &str| format!("{}\r\nMcp-Session-Id: {session}", as_whom(name));
    let (status, ..) = post(to, &with_session("bob"), ping);
    assert_eq!(status, 404);
    let (status, ..) = post(to, &with_session("alice"), ping);
    assert_eq!(status, 200);
}

#[test]
fn over_tcp_a_token_goes_into_a_message_of_its_own_or_the_first_one() {
    let (server, _folder) = guarded();
    let to = address(&server);
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let refused = lines(&nc(to, list)).remove(0);
    assert_eq!(refused["error"]["data"]["status"], 401);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains(r#""method":"auth""#), "{message}");
    assert!(message.contains("params._meta.authorization"), "{message}");

    let auth = json!({"jsonrpc": "2.0", "method": "auth", "params": {"token": token("alice")}});
    let answer = lines(&nc(to, &format!("{auth}\n{list}\n"))).remove(0);
    assert!(answer["result"]["tools"].is_array(), "{answer}");

    let first = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list",
        "params": {"_meta": {"authorization": format!("Bearer {}", token("bob"))}}});
    let second = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
    assert_eq!(lines(&nc(to, &format!("{first}\n{second}\n"))).len(), 2);
}

#[test]
fn a_token_opens_its_own_projects_and_its_roles_tools() {
    let (server, _folder) = guarded();
    let mut alice = server.client(Wire::Http).unwrap().with_token(token("alice"));
    let item = json!({"type": "note", "scope": "local", "title": "Alice's"});
    alice.call("memory_upsert", &item).unwrap();
    let mut bob = server.client(Wire::Http).unwrap().with_token(token("bob"));
    let seen = bob.call("memory_query", &json!({"q": "Alice's", "scope": "all"})).unwrap();
    assert_eq!(seen["total"], 0);
    let error = bob.call("maintenance_compact", &json!({})).unwrap_err();
    assert!(error.to_string().starts_with("not allowed"), "{error}");
}

#[test]
fn a_watched_item_is_reported_over_a_tcp_session() {
    let server = server();
    let mut client = server.client(Wire::Lines).unwrap();
    let item = json!({"id": "watched", "type": "note", "scope": "local", "title": "One"});
    client.call("memory_upsert", &item).unwrap();

    let mut watcher = BufReader::new(connect(address(&server)));
    let mut ask = |line: &str| {
        watcher.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    };
    ask(INITIALIZE);
    ask(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    ask(
        r#"{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"kb://item/watched"}}"#,
    );
    let mut next = || {
        let mut line = String::new();
        watcher.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    assert_eq!(next()["id"], 1);
    assert_eq!(next()["id"], 2);
    client.call("memory_pin", &json!({"id": "watched"})).unwrap();
    let told = next();
    assert_eq!(told["method"], "notifications/resources/updated");
    assert_eq!(told["params"]["uri"], "kb://item/watched");
}

#[test]
fn cancelled_subscriptions_make_room_for_others() {
    let server = server();
    let mut text = String::new();
    for id in 0..20 {
        let listen = json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen",
            "params": {"notifications": {"resourceSubscriptions": ["kb://item/a"]}}});
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": id}});
        text += &format!("{listen}\n{cancel}\n");
    }
    let last = r#"{"jsonrpc":"2.0","id":"last","method":"tools/list"}"#;
    let answers = lines(&nc(address(&server), &format!("{text}{last}\n")));
    assert!(answers.iter().all(|answer| answer.get("error").is_none()), "{answers:?}");
    assert!(answers.iter().any(|answer| answer["id"] == "last"));
}

#[test]
fn a_subscription_is_told_what_it_does_not_watch() {
    let server = server();
    let mut stream = BufReader::new(connect(address(&server)));
    let mut listen = |id: u64, uris: Vec<String>| {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen",
            "params": {"notifications": {"resourceSubscriptions": uris}}});
        stream.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
    };
    listen(1, ["kb://item/a", "kb://nothing", "kb://health"].map(str::to_owned).into());
    listen(2, (0..257).map(|number| format!("kb://item/{number}")).collect());
    let mut next = || {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let (mut accepted, mut refused) = (Vec::new(), None);
    while refused.is_none() || accepted.is_empty() {
        let message = next();
        refused = refused.or_else(|| message["error"]["message"].as_str().map(str::to_owned));
        accepted.extend(message["params"]["notifications"].get("resourceSubscriptions").cloned());
    }
    assert_eq!(accepted, [json!(["kb://item/a"])]);
    assert!(refused.unwrap().contains("256 resources"));
}

#[test]
fn a_revoked_token_is_worth_nothing_on_an_open_connection() {
    let (server, folder) = guarded();
    let mut stream = BufReader::new(connect(address(&server)));
    let mut ask = |line: &str| {
        stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_line(&mut answer).unwrap();
        answer
    };
    let auth = json!({"jsonrpc": "2.0", "id": 0, "method": "auth",
        "params": {"token": token("alice")}});
    assert!(ask(&auth.to_string()).contains("result"));
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    assert!(ask(list).contains("result"));
    std::fs::write(folder.path().join("tokens.json"), "[]").unwrap();
    // The server looks at the file every so often; until then the token is good.
    let refused = loop {
        let answer = ask(list);
        if !answer.contains("result") {
            break answer;
        }
    };
    assert_eq!(lines(&refused)[0]["error"]["data"]["status"], 401, "{refused}");
    assert_eq!(ask_nothing(stream), "");
}

#[test]
fn a_bad_token_entry_keeps_nobody_in_and_is_on_the_status_page() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.json");
    let entry = |name: &str, role: &str| json!({"name": name, "sha256": Digest::of(token(name).as_bytes()), "roles": [role]});
    let mut held = entry("held", "agent");
    held["projects"] = json!("web");
    // It starts with an entry that cannot be used.
    let write = |tokens: Value| std::fs::write(&file, tokens.to_string()).unwrap();
    write(json!([entry("alice", "agent"), held, entry("watch", "monitor")]));
    let server = TestServer::builder().env("LLM_MEMORY_TOKENS_FILE", &file).start().unwrap();
    let to = address(&server);
    let whom = |name: &str| format!("Host: {to}\r\nAuthorization: Bearer {}", token(name));
    let status = |name: &str| post(to, &whom(name), INITIALIZE).0;
    assert_eq!((status("alice"), status("held")), (200, 401));
    write(json!([held, entry("watch", "monitor")]));
    let begun = std::time::Instant::now();
    while status("alice") == 200 {
        assert!(begun.elapsed().as_secs() < 60, "alice is let in still");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!((status("held"), status("watch")), (401, 200));
    let get = format!("GET /api/v1/status HTTP/1.1\r\n{}", whom("watch"));
    let page: Value = serde_json::from_str(&http(to, &get, "").2).unwrap();
    let problem = page["problems"][0].as_str().unwrap();
    let expected = r#"tokens: token "held" (entry 1) admits nobody: projects: "#;
    assert!(problem.starts_with(expected), "{page}");
}

/// What comes before the server hangs up.
fn ask_nothing(mut stream: BufReader<TcpStream>) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn what_is_neither_http_nor_json_is_hung_up_on() {
    let server = server();
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let mut stream = connect(address(&server));
    stream.write_all(format!("\x16\x03\x01\n{list}\n").as_bytes()).unwrap();
    let mut heard = Vec::new();
    // Closing with bytes unread may reset the connection.
    let _ = stream.read_to_end(&mut heard);
    assert!(heard.is_empty(), "{heard:?}");
}

#[test]
fn refusals_over_http_name_what_would_let_the_request_in() {
    let server = server();
    let to = address(&server);
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
    let (status, _, body) = post(to, "Host: evil.example", list);
    assert_eq!(status, 403);
    assert!(body.contains("--allowed-hosts, LLM_MEMORY_ALLOWED_HOSTS"), "{body}");
    let (_, _, body) = post(to, &format!("Host: {to}\r\nOrigin: https://evil.example"), list);
    assert!(body.contains("--allowed-origins, LLM_MEMORY_ALLOWED_ORIGINS"), "{body}");
    let headers = format!("Host: {to}\r\nllm-memory-project: caf\u{e9}");
    let (status, _, body) = post(to, &headers, INITIALIZE);
    assert_eq!(status, 400);
    assert!(body.contains("llm-memory-project"), "{body}");
}

#[test]
fn a_missing_item_has_the_code_of_its_revision() {
    let server = server();
    let read =
        r#"{"jsonrpc":"2.0","id":2,"method":"resources/read","params":{"uri":"kb://item/none"}}"#;
    let code = |text: &str| {
        let answers = lines(&nc(address(&server), text));
        answers.iter().find_map(|answer| answer["error"]["code"].as_i64())
    };
    assert_eq!(code(read), Some(-32602));
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(code(&format!("{INITIALIZE}\n{initialized}\n{read}\n")), Some(-32002));
}

/// `llm-memory stdio` over a data folder, working in `project`.
struct StdioProcess {
    child: std::process::Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl StdioProcess {
    fn start(data: &std::path::Path, project: &str) -> Self {
        use std::process::{Command, Stdio};
        let mut command = Command::new(llm_memory_tests::server::server_binary().unwrap());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LLM_MEMORY_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg("stdio")
            .env("LLM_MEMORY_DATA_DIR", data)
            .env("LLM_MEMORY_PROJECT", project)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    fn send(&mut self, tool: &str, arguments: &Value) {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": tool, "arguments": arguments}});
        writeln!(self.child.stdin.as_ref().unwrap(), "{request}").unwrap();
    }

    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.send(tool, arguments);
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        answer["result"]["structuredContent"].clone()
    }

    /// Closes its input; what it still answers.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.answers.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

fn note(id: &str) -> Value {
    json!({"id": id, "type": "note", "scope": "local", "title": id})
}

#[test]
fn clients_that_start_their_own_server_share_one_folder_and_keep_their_projects() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = StdioProcess::start(folder.path(), "one");
    assert_eq!(first.call("memory_upsert", &note("a"))["id"], "a");
    let mut second = StdioProcess::start(folder.path(), "two");
    assert_eq!(second.call("memory_upsert", &note("b"))["id"], "b");
    assert_eq!(second.call("memory_list", &json!({"scope": "local"}))["total"], 1);
    let of_two = json!({"scope": "local", "project": "two"});
    assert_eq!(first.call("memory_list", &of_two)["total"], 1);
    second.end();
    first.end();
    assert!(!folder.path().join("run/server.json").exists());
}

#[test]
fn a_bridge_works_in_its_own_project_on_a_server_of_another() {
    let server = server();
    let mut bridge = StdioProcess::start(server.data_dir(), "elsewhere");
    bridge.call("memory_upsert", &note("a"));
    bridge.end();
    let mut client = server.client(Wire::Lines).unwrap();
    let total = |client: &mut llm_memory_tests::client::Client, project: &str| {
        let arguments = json!({"scope": "local", "project": project});
        client.call("memory_list", &arguments).unwrap()["total"].clone()
    };
    assert_eq!(total(&mut client, "elsewhere"), 1);
    assert_eq!(total(&mut client, "home"), 0);
}

#[test]
fn what_was_asked_before_the_end_of_the_input_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = StdioProcess::start(folder.path(), "one");
    process.send("memory_upsert", &note("a"));
    let answers = lines(&process.end());
    assert_eq!(answers[0]["result"]["structuredContent"]["id"], "a");
}
