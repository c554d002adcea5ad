//! Talks to a store's server, as its agents do: an MCP handshake over its Service, and the HTTP API
//! of jobs and status.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use thiserror::Error;

const PROTOCOL: &str = "2025-11-25";
const SESSION: &str = "mcp-session-id";
/// A server that takes longer is of no use to agents either.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Share of a volume above which it is nearly full.
pub const NEARLY_FULL_PERCENT: u64 = 85;
/// Longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

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
    let scopes = BTreeMap::<String, Scope>::deserialize(deserializer)?;
    let refusals = scopes.into_iter().filter_map(|(name, scope)| {
        let why = scope.read_only.or(scope.write_failure)?;
        Some(format!("scope {name}: {why}"))
    });
    Ok(refusals.collect())
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
    #[serde(default)]
    pub damage: Vec<String>,
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
    pub error: Option<Value>,
    /// What it found, for people.
    #[serde(default)]
    pub summary: Option<String>,
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
    /// The server at `base` (scheme, host and port). `authority` is trusted instead of the public
    /// ones when it is given.
    pub fn new(
        base: String,
        authority: Option<&[u8]>,
        token: Option<String>,
    ) -> Result<Self, ServerError> {
        let client = if base.starts_with("http:") { plain() } else { encrypted(authority) };
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
        let message = message(&url, answer).await?;
        if let Some(session) = session {
            let mut headers = self.headers();
            headers.insert(SESSION, session);
            headers.insert("mcp-protocol-version", HeaderValue::from_static(PROTOCOL));
            // The session ends by itself too; the handshake stands.
            let _ = self.client.delete(&url).headers(headers).send().await;
        }
        let word = |path: &str| {
            let found = message.pointer(path).and_then(Value::as_str).map(str::to_owned);
            found.ok_or_else(|| ServerError::Nonsense {
                url: url.clone(),
                reason: format!("the answer to initialize has no {path}: {message}"),
            })
        };
        Ok(Handshake {
            name: word("/result/serverInfo/name")?,
            version: word("/result/serverInfo/version")?,
            protocol: word("/result/protocolVersion")?,
        })
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
        parse(&url, message(&url, answer).await?)
    }

    /// Asks how a job is.
    pub async fn job(&self, id: &str) -> Result<Job, ServerError> {
        self.get(&format!("/api/v1/jobs/{id}")).await
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ServerError> {
        let url = format!("{}{path}", self.base);
        let answer = self
            .client
            .get(&url)
            .headers(self.headers())
            .send()
            .await
            .map_err(|error| unreachable(&url, &error))?;
        parse(&url, message(&url, answer).await?)
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

/// A client that trusts `authority`, or the public ones where there is none.
fn encrypted(authority: Option<&[u8]>) -> reqwest::Result<Client> {
    let mut builder = connecting();
    if let Some(pem) = authority {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(pem)?);
    }
    builder.build()
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

/// The JSON of an answer, which may come as the one event of a stream.
async fn message(url: &str, mut answer: Response) -> Result<Value, ServerError> {
    let status = answer.status();
    let stream = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(url, &error))? {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_ANSWER {
            let reason = format!("it is longer than {MAX_ANSWER} bytes");
            return Err(ServerError::Nonsense { url: url.to_owned(), reason });
        }
        // A stream may stay open after the event that answers.
        if stream && let Some(data) = event_data(&text) {
            text = data;
            break;
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    if !status.is_success() {
        return Err(ServerError::Refused {
            url: url.to_owned(),
            status: status.as_u16(),
            message: refusal(status, &text),
        });
    }
    serde_json::from_str(&text)
        .map_err(|error| ServerError::Nonsense { url: url.to_owned(), reason: error.to_string() })
}

/// The data of the first whole event that has any.
fn event_data(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let whole = text.rfind("\n\n")?;
    text.get(..whole)?.split("\n\n").find_map(|event| {
        let data: String =
            event.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
        (!data.is_empty()).then(|| data.into_bytes())
    })
}

fn refusal(status: StatusCode, text: &str) -> String {
    let said: Option<Value> = serde_json::from_str(text).ok();
    let message = said.as_ref().and_then(|value| value.pointer("/error/message")?.as_str());
    let line = message.or_else(|| text.lines().next()).unwrap_or_default().trim();
    let line = if line.is_empty() { status.canonical_reason().unwrap_or_default() } else { line };
    line.chars().take(300).collect()
}

fn parse<T: serde::de::DeserializeOwned>(url: &str, value: Value) -> Result<T, ServerError> {
    serde_json::from_value(value)
        .map_err(|error| ServerError::Nonsense { url: url.to_owned(), reason: error.to_string() })
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
    fn the_first_event_with_data_is_the_answer() {
        assert_eq!(
            event_data(b"id: 1\nretry: 3\n\ndata: {\"a\":1}\n\n"),
            Some(b"{\"a\":1}".to_vec())
        );
        assert_eq!(event_data(b"data: {\"a\""), None);
        assert_eq!(event_data(b"data: {\r\ndata: }\r\n\r\n"), Some(b"{}".to_vec()));
    }

    #[test]
    fn a_refusal_is_told_in_one_line() {
        let told = |text| refusal(StatusCode::FORBIDDEN, text);
        assert_eq!(told(r#"{"error":{"message":"not mapped"}}"#), "not mapped");
        assert_eq!(told("plain\nmore"), "plain");
        assert_eq!(told(""), "Forbidden");
    }
}
