//! Talks to a store's server, as its agents do: an MCP handshake over its Service, and the HTTP API
//! of jobs and status.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use thiserror::Error;

const PROTOCOL: &str = "2025-11-25";
const SESSION: &str = "mcp-session-id";
/// A server that takes longer is of no use to agents either.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Share of a volume above which it is nearly full.
pub const NEARLY_FULL_PERCENT: u64 = 85;
/// Longest answer that is read, and longest answer to the handshake.
const MAX_ANSWER: usize = 1 << 20;
const MAX_HANDSHAKE: usize = 64 << 10;
/// Longest list of words that is kept.
const MAX_LIST: usize = 50;
/// Longest word of a server that is shown to people.
const MAX_WORDS: usize = 300;

/// Why a server did not answer as it should.
#[derive(Debug, Error)]
pub enum ServerError {
    /// No connection, or it broke, or it took too long.
    #[error("{url}: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why, in one line.
        reason: String,
    },
    /// It answered that it will not.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// Where.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// Its answer is not MCP, or not JSON.
    #[error("{url} gave an answer that makes no sense: {reason}")]
    Nonsense {
        /// Where.
        url: String,
        /// What was found.
        reason: String,
    },
    /// The certificate authority cannot be used.
    #[error("the certificate authority of the store cannot be read: {0}")]
    Authority(String),
    /// There is none.
    #[error(
        "the certificate of the store cannot be checked, because its Secret is missing, or has \
         neither ca.crt nor tls.crt: create the Secret that spec.tls names again"
    )]
    Uncertified,
}

/// What a server said of itself in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The protocol version agreed on.
    pub protocol: String,
}

/// `GET /api/v1/status`, as far as the operator cares.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerStatus {
    /// Live items.
    pub items: Option<i64>,
    /// Bytes of the journals.
    pub journal_bytes: Option<i64>,
    /// Bytes that the store uses.
    pub used_bytes: Option<i64>,
    /// The volume.
    pub volume: Option<Volume>,
    /// Encoder in use.
    pub encoder: Option<Encoder>,
    /// The last verification that ended.
    pub last_verification: Option<Verified>,
    /// The last compaction that ended well.
    pub last_compaction: Option<Compacted>,
    /// Of each scope that takes no writes, which it is and why.
    #[serde(rename = "scopes", deserialize_with = "refusals")]
    pub refusals: Vec<String>,
}

/// The scopes that take no writes: of many others nothing is kept.
fn refusals<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Scope {
        #[serde(default)]
        read_only: Option<String>,
        #[serde(default)]
        write_failure: Option<String>,
    }
    struct Scopes;
    impl<'de> Visitor<'de> for Scopes {
        type Value = Vec<String>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("scopes by their names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut scopes: A) -> Result<Self::Value, A::Error> {
            let mut refusals = Vec::new();
            while let Some((name, scope)) = scopes.next_entry::<String, Scope>()? {
                if let Some(why) = scope.read_only.or(scope.write_failure) {
                    refusals.push(format!("scope {name}: {why}"));
                }
            }
            refusals.sort();
            Ok(refusals)
        }
    }
    deserializer.deserialize_map(Scopes)
}

/// The volume, as the server sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Size.
    pub total_bytes: u64,
    /// What is left.
    pub available_bytes: u64,
}

impl Volume {
    /// Whether more than 85 % are used.
    pub const fn is_nearly_full(self) -> bool {
        let used = self.total_bytes.saturating_sub(self.available_bytes);
        self.total_bytes > 0 && used.saturating_mul(100) / self.total_bytes > NEARLY_FULL_PERCENT
    }
}

/// The encoder in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Encoder {
    /// `hardware` or `software`.
    pub kind: String,
    /// Its name.
    pub encoder: String,
    /// Why it is this one.
    pub reason: String,
}

/// A verification that ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// When.
    pub at: jiff::Timestamp,
    /// What it found; `sound` when all is well.
    pub verdict: String,
    /// Records checked.
    #[serde(default)]
    pub checked: u64,
    /// Records damaged or lost.
    #[serde(default)]
    pub damaged: u64,
    /// The first of them by name.
    #[serde(default, deserialize_with = "few")]
    pub damage: Vec<String>,
}

/// The first of many words, of which people read no more.
fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Words;
    impl<'de> Visitor<'de> for Words {
        type Value = Vec<String>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("a list of words")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut words = Vec::new();
            while words.len() < MAX_LIST
                && let Some(word) = list.next_element()?
            {
                words.push(word);
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(words)
        }
    }
    deserializer.deserialize_seq(Words)
}

/// A compaction that ended well.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Compacted {
    /// When.
    pub at: jiff::Timestamp,
}

/// A job of the server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: String,
    /// How it is.
    pub state: JobState,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Reason>,
    /// What it found, for people.
    #[serde(default)]
    pub summary: Option<String>,
}

/// What an error says, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// In one line.
    pub message: Option<String>,
}

/// What a server says to `initialize`, as far as anybody cares. Whatever else it says is not kept
/// for a moment: there are many servers, and not all mean well.
#[derive(Deserialize)]
struct Initialized {
    result: Option<Introduction>,
    error: Option<Reason>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Introduction {
    server_info: Named,
    protocol_version: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    version: String,
}

impl Initialized {
    fn handshake(self) -> Result<Handshake, String> {
        let Some(Introduction { server_info, protocol_version }) = self.result else {
            let said = self.error.and_then(|error| error.message);
            let said = said.map_or_else(String::new, |said| format!(": {}", in_short(&said)));
            return Err(format!("the answer to initialize has no result{said}"));
        };
        Ok(Handshake {
            name: in_short(&server_info.name),
            version: in_short(&server_info.version),
            protocol: in_short(&protocol_version),
        })
    }
}

fn in_short(words: &str) -> String {
    words.chars().take(MAX_WORDS).collect()
}

/// How a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// It waits.
    Pending,
    /// It runs.
    Running,
    /// It ended well.
    Succeeded,
    /// It found something.
    Finding,
    /// It failed.
    Failed,
    /// Somebody took it back.
    Cancelled,
}

/// A server, and how to reach it.
#[derive(Debug, Clone)]
pub struct ServerApi {
    client: Client,
    base: String,
    token: Option<String>,
}

impl ServerApi {
    /// The server at `base` (scheme, host and port). Over TLS it is believed when `authority` (PEM)
    /// has certified it, and nobody else.
    pub fn new(
        base: String,
        authority: Option<&[u8]>,
        token: Option<String>,
    ) -> Result<Self, ServerError> {
        let client = match authority {
            _ if base.starts_with("http:") => plain(),
            Some(authority) => encrypted(authority),
            None => return Err(ServerError::Uncertified),
        };
        let client = client.map_err(|error| ServerError::Authority(cause(&error)))?;
        Ok(Self { client, base, token })
    }

    /// Opens an MCP session, learns who answers, and closes it again.
    pub async fn handshake(&self) -> Result<Handshake, ServerError> {
        let url = format!("{}/mcp", self.base);
        let request = json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {
                "protocolVersion": PROTOCOL,
                "capabilities": {},
                "clientInfo": {
                    "name": "llm-memory-operator", "version": env!("CARGO_PKG_VERSION")
                },
            },
        });
        let answer = self
            .client
            .post(&url)
            .headers(self.headers())
            .body(request.to_string())
            .send()
            .await
            .map_err(|error| unreachable(&url, &error))?;
        let session = answer.headers().get(SESSION).cloned();
        let said = message::<Initialized>(&url, answer, MAX_HANDSHAKE).await;
        let said = said.and_then(|said| {
            said.handshake().map_err(|reason| ServerError::Nonsense { url: url.clone(), reason })
        });
        if let Some(session) = session {
            let mut headers = self.headers();
            headers.insert(SESSION, session);
            headers.insert("mcp-protocol-version", HeaderValue::from_static(PROTOCOL));
            // The session ends by itself too; the handshake stands.
            let _ = self.client.delete(&url).headers(headers).send().await;
        }
        said
    }

    /// Asks how the store is.
    pub async fn status(&self) -> Result<ServerStatus, ServerError> {
        self.get("/api/v1/status").await
    }

    /// Asks for a verification; the same `key` never starts two.
    pub async fn verify(&self, key: &str) -> Result<Job, ServerError> {
        let url = format!("{}/api/v1/jobs", self.base);
        let body = json!({"kind": "verify", "idempotencyKey": key}).to_string();
        let answer = self
            .client
            .post(&url)
            .headers(self.headers())
            .body(body)
            .send()
            .await
            .map_err(|error| unreachable(&url, &error))?;
        message(&url, answer, MAX_ANSWER).await
    }

    /// Asks how a job is.
    pub async fn job(&self, id: &str) -> Result<Job, ServerError> {
        self.get(&format!("/api/v1/jobs/{id}")).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServerError> {
        let url = format!("{}{path}", self.base);
        let answer = self
            .client
            .get(&url)
            .headers(self.headers())
            .send()
            .await
            .map_err(|error| unreachable(&url, &error))?;
        message(&url, answer, MAX_ANSWER).await
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if let Some(token) = &self.token
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}"))
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers
    }
}

/// What is true of every connection to a server.
fn connecting() -> ClientBuilder {
    Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        // A proxy of the operator's environment is not the way into the cluster.
        .no_proxy()
        // A token goes where it is meant to go and nowhere else.
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("llm-memory-operator/", env!("CARGO_PKG_VERSION")))
}

/// The client of all servers without TLS: one for each question would be most of the work of
/// asking it.
fn plain() -> reqwest::Result<Client> {
    static PLAIN: OnceLock<Client> = OnceLock::new();
    if let Some(client) = PLAIN.get() {
        return Ok(client.clone());
    }
    // Without this the client asks for the system's authorities, of which an image may have none.
    let client = connecting().tls_certs_only([]).build()?;
    Ok(PLAIN.get_or_init(|| client).clone())
}

/// A client that trusts `authority` and no other.
fn encrypted(authority: &[u8]) -> reqwest::Result<Client> {
    connecting().tls_certs_only(Certificate::from_pem_bundle(authority)?).build()
}

fn unreachable(url: &str, error: &reqwest::Error) -> ServerError {
    ServerError::Unreachable { url: url.to_owned(), reason: cause(error) }
}

/// The innermost cause: the outer ones only say that something failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The JSON of an answer, which may come as the one event of a stream. It may have `limit` bytes.
async fn message<T: DeserializeOwned>(
    url: &str,
    mut answer: Response,
    limit: usize,
) -> Result<T, ServerError> {
    let status = answer.status();
    let nonsense = |reason| ServerError::Nonsense { url: url.to_owned(), reason };
    let stream = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    let mut text = Vec::new();
    let mut looked = Looked::default();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(url, &error))? {
        if text.len() + chunk.len() > limit {
            return Err(nonsense(format!("it is longer than {limit} bytes")));
        }
        text.extend_from_slice(&chunk);
        // A stream may stay open after the event that answers.
        if stream && let Some(data) = looked.event_data(&text) {
            text = data;
            break;
        }
    }
    if !status.is_success() {
        return Err(ServerError::Refused {
            url: url.to_owned(),
            status: status.as_u16(),
            message: refusal(status, &String::from_utf8_lossy(&text)),
        });
    }
    serde_json::from_slice(&text).map_err(|error| nonsense(error.to_string()))
}

/// How far a stream of events was looked at, so that no byte is looked at for each that follows.
#[derive(Default)]
struct Looked {
    /// Where the event begins that is not whole yet.
    event: usize,
    /// Where the line begins that is not whole yet.
    line: usize,
    /// Up to where there is no other end of a line.
    until: usize,
}

impl Looked {
    /// The data of the first whole event of `bytes` that has any. They begin with those of the
    /// last call.
    fn event_data(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        while let Some(end) = bytes.get(self.until..)?.iter().position(|byte| *byte == b'\n') {
            let end = self.until + end;
            let line = bytes.get(self.line..end)?;
            (self.line, self.until) = (end + 1, end + 1);
            if !line.trim_ascii().is_empty() {
                continue;
            }
            let event = bytes.get(self.event..end)?;
            self.event = end + 1;
            let data: Vec<u8> = event
                .split(|byte| *byte == b'\n')
                .filter_map(|line| line.strip_prefix(b"data:"))
                .flat_map(|data| data.trim_ascii().iter().copied())
                .collect();
            if !data.is_empty() {
                return Some(data);
            }
        }
        self.until = bytes.len();
        None
    }
}

fn refusal(status: StatusCode, text: &str) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: Reason,
    }
    let said = serde_json::from_str::<Refusal>(text).ok().and_then(|said| said.error.message);
    let line = said.as_deref().or_else(|| text.lines().next()).unwrap_or_default().trim();
    let line = if line.is_empty() { status.canonical_reason().unwrap_or_default() } else { line };
    in_short(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_that_take_no_writes_are_kept_and_the_others_are_not() {
        let status: ServerStatus = serde_json::from_value(json!({"scopes": {
            "global": {"items": 3, "readOnly": null, "writeFailure": "no space left"},
            "local/web": {"items": 1},
            "local/app": {"readOnly": "the journal is damaged", "writeFailure": "older"},
        }}))
        .unwrap();
        let told = ["scope global: no space left", "scope local/app: the journal is damaged"];
        assert_eq!(status.refusals, told);
        assert_eq!(
            serde_json::from_value::<ServerStatus>(json!({})).unwrap(),
            ServerStatus::default()
        );
    }

    #[test]
    fn of_much_damage_the_first_is_kept() {
        let words: Vec<String> = (0..1000).map(|number| format!("item {number}")).collect();
        let verified: Verified = serde_json::from_value(json!({
            "at": "2026-01-01T00:00:00Z", "verdict": "damaged", "damage": words, "more": 1,
        }))
        .unwrap();
        assert_eq!(verified.damage, words[..MAX_LIST]);
    }

    #[test]
    fn the_first_event_with_data_is_the_answer() {
        let event_data = |bytes: &[u8]| Looked::default().event_data(bytes);
        assert_eq!(
            event_data(b"id: 1\nretry: 3\n\ndata: {\"a\":1}\n\n"),
            Some(b"{\"a\":1}".to_vec())
        );
        assert_eq!(event_data(b"data: {\"a\""), None);
        assert_eq!(event_data(b"data: {\r\ndata: }\r\n\r\n"), Some(b"{}".to_vec()));
    }

    #[test]
    fn a_stream_that_comes_byte_by_byte_is_looked_at_once() {
        let stream = b": hello\r\n\r\nid: 1\r\ndata: {\r\ndata: }\r\n\r\nmore";
        let mut looked = Looked::default();
        let first = (0..=stream.len()).find_map(|end| {
            let found = looked.event_data(&stream[..end]);
            assert!(found.is_some() || looked.until == end, "{end}");
            found
        });
        assert_eq!(first, Some(b"{}".to_vec()));
    }

    #[test]
    fn of_a_handshake_is_kept_who_answered() {
        let said = |value: serde_json::Value| {
            serde_json::from_value::<Initialized>(value)
                .map_err(|error| error.to_string())?
                .handshake()
        };
        let good = said(json!({"jsonrpc": "2.0", "result": {
            "serverInfo": {"name": "n".repeat(1000), "version": "1", "icons": [{}, {}]},
            "protocolVersion": "p", "capabilities": {"tools": {}},
        }}));
        assert_eq!(good.map(|good| (good.name.len(), good.protocol)), Ok((300, "p".to_owned())));
        let refused = said(json!({"error": {"code": -32600, "message": "no"}})).unwrap_err();
        assert_eq!(refused, "the answer to initialize has no result: no");
        let odd = said(json!({"result": {"protocolVersion": "p"}})).unwrap_err();
        assert!(odd.contains("serverInfo"), "{odd}");
    }

    /// What a client is told by a server that answers `text`, and how many requests it made.
    async fn told(text: String) -> (Result<Handshake, ServerError>, usize) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (count, mut counted) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = count.send(());
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let length = text.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                     mcp-session-id: s\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                let _ = socket.write_all(format!("{head}{text}").as_bytes()).await;
                let _ = socket.shutdown().await;
            }
        });
        let said = ServerApi::new(base, None, None).unwrap().handshake().await;
        let mut requests = 0;
        while counted.try_recv().is_ok() {
            requests += 1;
        }
        (said, requests)
    }

    #[tokio::test]
    async fn a_server_that_talks_too_much_is_not_listened_to_and_its_session_ends() {
        let good = json!({"result": {"serverInfo": {"name": "m", "version": "1"}, "protocolVersion": "p"}});
        let (said, requests) = told(good.to_string()).await;
        assert_eq!((said.unwrap().name.as_str(), requests), ("m", 2));
        let long = json!({"result": vec![json!({}); 50_000]}).to_string();
        assert!(long.len() > MAX_HANDSHAKE && long.len() < MAX_ANSWER);
        let (said, requests) = told(long).await;
        let error = said.unwrap_err().to_string();
        assert!(error.contains("longer than 65536 bytes"), "{error}");
        assert_eq!(requests, 2);
    }

    #[test]
    fn a_refusal_is_told_in_one_line() {
        let told = |text| refusal(StatusCode::FORBIDDEN, text);
        assert_eq!(told(r#"{"error":{"message":"not mapped"}}"#), "not mapped");
        assert_eq!(told("plain\nmore"), "plain");
        assert_eq!(told(""), "Forbidden");
    }
}
