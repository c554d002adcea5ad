//! Calls tools of a running server over MCP (2026-07-28: stateless, one POST a call).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use llm_memory_engine::progress::{NoProgress, Progress};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::http::{self as client, Address, Answer, Ask, HttpError};
use super::token::TokenSource;
use crate::mcp::errors::ERROR_META;
use crate::tools::Tool;

const PROTOCOL: &str = "2026-07-28";
/// The stable word for arguments that make no sense, and JSON-RPC's number for them.
const INVALID: &str = "invalid_argument";
const INVALID_PARAMS: i64 = -32602;

/// A call that failed at the server or on the way to it.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A token is needed and none was given.
    #[error(
        "the server at {address} lets nobody in without a bearer token: give one with --token or \
         LLM_MEMORY_TOKEN"
    )]
    TokenMissing {
        /// Host and port.
        address: String,
    },
    /// The token is not one of the server's, or no longer.
    #[error(
        "the server refused the token: {message}; give another with --token or LLM_MEMORY_TOKEN"
    )]
    TokenRefused {
        /// What it said.
        message: String,
    },
    /// The file that should hold the token cannot be used.
    #[error("the token file that {variable} names cannot be used: {reason}")]
    TokenFile {
        /// The variable.
        variable: &'static str,
        /// Why, with the file.
        reason: String,
    },
    /// The caller is known, and not allowed this.
    #[error("the server does not allow this: {message}")]
    Forbidden {
        /// What it said.
        message: String,
    },
    /// The caller has to wait.
    #[error("the server takes no calls from here for now: {message}")]
    TooMany {
        /// What it said, and when to come back.
        message: String,
    },
    /// The tool failed.
    #[error("{message}")]
    Tool {
        /// What the tool said.
        message: String,
        /// The server's stable word for it.
        code: Option<String>,
    },
    /// An answer that is no MCP.
    #[error("the server at {address} does not speak MCP here ({status}): {reason}")]
    Protocol {
        /// Host and port.
        address: String,
        /// HTTP status.
        status: u16,
        /// What was found.
        reason: String,
    },
}

/// A server and the token to call it with.
#[derive(Debug)]
pub(crate) struct McpClient {
    address: Address,
    token: TokenSource,
    project: Option<String>,
    next_id: AtomicU64,
}

impl McpClient {
    /// A client of the MCP endpoint at `address`.
    pub(crate) fn new(address: Address, token: TokenSource, project: Option<String>) -> Self {
        Self { address, token, project, next_id: AtomicU64::new(1) }
    }

    /// Host and port, for messages.
    pub(crate) fn authority(&self) -> &str {
        self.address.authority()
    }

    /// Calls `tool` and answers its structured result.
    pub(crate) fn call(
        &self,
        tool: &Tool,
        mut arguments: Map<String, Value>,
        progress: &dyn Progress,
    ) -> Result<Value, CallError> {
        let schema = (tool.input_schema)();
        if let Some(project) = &self.project
            && property(&schema, "project").is_some()
        {
            arguments.entry("project").or_insert_with(|| project.clone().into());
        }
        let mut headers = vec![header("mcp-name", tool.name)];
        headers.extend(parameter_headers(&schema, &arguments));
        let params = json!({"name": tool.name, "arguments": arguments});
        let mut result = self.ask("tools/call", headers, params, progress)?;
        let text = content_text(&result);
        if result.get("isError").and_then(Value::as_bool) == Some(true) {
            let code = result.get("_meta").and_then(error_code);
            return Err(CallError::Tool { message: text, code });
        }
        Ok(match result.remove("structuredContent") {
            Some(structured) => structured,
            None => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        })
    }

    /// Reads the JSON resource at `uri`.
    pub(crate) fn read(&self, uri: &'static str) -> Result<Value, CallError> {
        let (headers, params) = (vec![header("mcp-name", uri)], json!({"uri": uri}));
        let result = self.ask("resources/read", headers, params, &NoProgress)?;
        let contents = result.get("contents").and_then(Value::as_array);
        let text = contents.and_then(|all| all.first()?.get("text")?.as_str());
        text.and_then(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| self.no_mcp(StatusCode::OK, format!("{uri} is no JSON document")))
    }

    fn ask(
        &self,
        method: &'static str,
        mut headers: Vec<(HeaderName, HeaderValue)>,
        mut params: Value,
        progress: &dyn Progress,
    ) -> Result<Map<String, Value>, CallError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        headers.push(header("mcp-protocol-version", PROTOCOL));
        headers.push(header("mcp-method", method));
        headers.extend(self.token.header()?);
        let meta = json!({
            "progressToken": id,
            "io.modelcontextprotocol/protocolVersion": PROTOCOL,
            "io.modelcontextprotocol/clientInfo":
                {"name": "llm-memory-cli", "version": env!("CARGO_PKG_VERSION")},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        if let Some(params) = params.as_object_mut() {
            params.insert("_meta".to_owned(), meta);
        }
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let ask = Ask {
            address: &self.address,
            headers,
            body: Some(body.to_string().into_bytes()),
            limit: None,
        };
        let answer = client::send(ask, &mut |event| is_answer(event, id, progress))?;
        self.result(&answer)
    }

    fn result(&self, answer: &Answer) -> Result<Map<String, Value>, CallError> {
        let Answer { status, body, retry_after } = answer;
        let message: Option<Value> = serde_json::from_slice(body).ok();
        let member = |name: &str| message.as_ref().and_then(|message| message.get(name));
        let rpc_error = member("error");
        let said = member("error_description")
            .or_else(|| rpc_error.and_then(|error| error.get("message").or(Some(error))))
            .and_then(Value::as_str)
            .map_or_else(|| excerpt(body), str::to_owned);
        // A proxy before a server that is down says the same, in other words.
        let away =
            *status == StatusCode::SERVICE_UNAVAILABLE && member("error_description").is_some();
        match *status {
            StatusCode::UNAUTHORIZED if self.token.is_absent() => {
                let address = self.authority().to_owned();
                return Err(CallError::TokenMissing { address });
            }
            StatusCode::UNAUTHORIZED => return Err(CallError::TokenRefused { message: said }),
            StatusCode::FORBIDDEN => return Err(CallError::Forbidden { message: said }),
            status if status == StatusCode::TOO_MANY_REQUESTS || away => {
                let message = match retry_after {
                    Some(seconds) if !said.contains("try again") => {
                        format!("{said}; try again in {seconds} s")
                    }
                    Some(_) | None => said,
                };
                return Err(CallError::TooMany { message });
            }
            _ => {}
        }
        if let Some(error) = rpc_error {
            let invalid = error.get("code").and_then(Value::as_i64) == Some(INVALID_PARAMS);
            let code = error.get("data").and_then(error_code);
            let code = code.or_else(|| invalid.then(|| INVALID.to_owned()));
            return Err(CallError::Tool { message: said, code });
        }
        match message.and_then(|mut message| message.get_mut("result").map(Value::take)) {
            Some(Value::Object(result)) => Ok(result),
            Some(_) | None => Err(self.no_mcp(*status, said)),
        }
    }

    fn no_mcp(&self, status: StatusCode, reason: String) -> CallError {
        let address = self.authority().to_owned();
        CallError::Protocol { address, status: status.as_u16(), reason }
    }
}

impl CallError {
    /// Whether nothing was tried, because the arguments make no sense.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Http(HttpError::Address { .. }) => true,
            Self::Tool { code, .. } => code.as_deref() == Some(INVALID),
            Self::Http(_)
            | Self::TokenMissing { .. }
            | Self::TokenRefused { .. }
            | Self::TokenFile { .. }
            | Self::Forbidden { .. }
            | Self::TooMany { .. }
            | Self::Protocol { .. } => false,
        }
    }
}

/// The stable word in what a server adds to a failure for programs.
fn error_code(meta: &Value) -> Option<String> {
    meta.get(ERROR_META)?.get("code")?.as_str().map(str::to_owned)
}

/// Gets a JSON document, such as the health report, and the time it took.
pub(crate) fn get_json(
    address: &Address,
    limit: Duration,
) -> Result<(StatusCode, Value, Duration), HttpError> {
    let (status, body, took) = get(address, limit)?;
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null), took))
}

/// Gets a document, and the time it took.
pub(crate) fn get(
    address: &Address,
    limit: Duration,
) -> Result<(StatusCode, Vec<u8>, Duration), HttpError> {
    let started = std::time::Instant::now();
    let ask = Ask { address, headers: Vec::new(), body: None, limit: Some(limit) };
    let answer = client::send(ask, &mut |_| true)?;
    Ok((answer.status, answer.body, started.elapsed()))
}

/// Whether an event is the answer to call `id`; progress on the way is passed on.
fn is_answer(event: &[u8], id: u64, progress: &dyn Progress) -> bool {
    let Ok(message) = serde_json::from_slice::<Value>(event) else { return false };
    if message.get("method").and_then(Value::as_str) == Some("notifications/progress") {
        if let Some(params) = message.get("params") {
            let count = |key: &str| {
                params.get(key).and_then(|value| value.as_u64().or_else(|| whole(value.as_f64()?)))
            };
            let what = params.get("message").and_then(Value::as_str).unwrap_or_default();
            progress.report(count("progress").unwrap_or(0), count("total"), what);
        }
        return false;
    }
    message.get("id").and_then(Value::as_u64) == Some(id)
        && (message.get("result").is_some() || message.get("error").is_some())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and progress is only shown"
)]
fn whole(number: f64) -> Option<u64> {
    (number >= 0.0).then_some(number as u64)
}

fn header(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}

/// The schema of one argument.
fn property<'a>(schema: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(name)
}

/// Headers that repeat arguments marked `x-mcp-header`, which gateways route by.
fn parameter_headers(
    schema: &Map<String, Value>,
    arguments: &Map<String, Value>,
) -> Vec<(HeaderName, HeaderValue)> {
    let marked = arguments.iter().filter_map(|(name, value)| {
        let suffix = property(schema, name)?.get("x-mcp-header")?.as_str()?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        let name = HeaderName::from_bytes(format!("mcp-param-{suffix}").as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(&text).ok()?))
    });
    marked.collect()
}

fn content_text(result: &Map<String, Value>) -> String {
    let blocks = result.get("content").and_then(Value::as_array);
    let texts = blocks.into_iter().flatten().filter_map(|block| block.get("text")?.as_str());
    texts.collect::<Vec<_>>().join("\n")
}

fn excerpt(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    if text.trim().is_empty() { "the answer is empty".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<Vec<(u64, Option<u64>, String)>>);

    impl Progress for Seen {
        fn report(&self, done: u64, total: Option<u64>, what: &str) {
            self.0.lock().unwrap().push((done, total, what.to_owned()));
        }
    }

    fn client(token: Option<&str>) -> McpClient {
        let address = Address::parse("localhost:1", "/mcp").unwrap();
        McpClient::new(address, TokenSource::fixed(token), None)
    }

    fn answer(status: u16, body: &Value) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, body: body.to_string().into_bytes(), retry_after: None }
    }

    #[test]
    fn progress_is_passed_on_until_the_answer_comes() {
        let seen = Seen::default();
        let note = json!({"method": "notifications/progress",
            "params": {"progressToken": 7, "progress": 2.0, "total": 5, "message": "records"}});
        assert!(!is_answer(note.to_string().as_bytes(), 7, &seen));
        assert_eq!(*seen.0.lock().unwrap(), [(2, Some(5), "records".to_owned())]);
        assert!(!is_answer(br#"{"id": 6, "result": {}}"#, 7, &seen));
        assert!(is_answer(br#"{"id": 7, "result": {}}"#, 7, &seen));
    }

    #[test]
    fn failures_keep_what_the_server_said_and_its_word_for_it() {
        let call = |status: u16, body: Value| client(None).result(&answer(status, &body));
        let ok = json!({"result": {"structuredContent": {"total": 1}, "content": []}});
        assert_eq!(call(200, ok).unwrap()["structuredContent"], json!({"total": 1}));
        let rpc = call(400, json!({"error": {"code": -32602, "message": "q: too long"}}));
        let rpc = rpc.unwrap_err();
        assert_eq!((rpc.to_string().as_str(), rpc.is_usage()), ("q: too long", true));
        let busy = json!({"error": {"code": -32603, "message": "busy",
            "data": {(ERROR_META): {"code": "busy"}}}});
        assert!(!call(200, busy).unwrap_err().is_usage());
        assert!(call(404, json!("<html>")).unwrap_err().to_string().contains("not speak MCP"));
    }

    #[test]
    fn whoever_is_not_let_in_reads_why_and_what_to_do() {
        let said = |error: &str, words: &str| json!({"error": error, "error_description": words});
        let of = |token: Option<&str>, answer: &Answer| {
            client(token).result(answer).unwrap_err().to_string()
        };
        let missing = answer(401, &said("invalid_token", "a bearer token is needed"));
        let text = of(None, &missing);
        assert!(text.contains("without a bearer token") && text.contains("--token"), "{text}");
        let expired = answer(401, &said("invalid_token", "invalid token: it has expired"));
        let text = of(Some("t"), &expired);
        assert!(text.contains("it has expired") && text.contains("LLM_MEMORY_TOKEN"), "{text}");
        let mut locked = answer(429, &said("temporarily_unavailable", "too many attempts"));
        locked.retry_after = Some(60);
        assert!(of(Some("t"), &locked).ends_with("too many attempts; try again in 60 s"));
    }

    #[test]
    fn marked_arguments_are_repeated_as_headers() {
        let schema = json!({"properties": {"project": {"x-mcp-header": "Project"}, "q": {}}});
        let arguments = json!({"project": "app", "q": "words"});
        let headers =
            parameter_headers(schema.as_object().unwrap(), arguments.as_object().unwrap());
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[0].0.as_str(), "mcp-param-project");
    }
}
