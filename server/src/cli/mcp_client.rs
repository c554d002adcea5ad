//! Calls tools of a running server over MCP (2026-07-28: stateless, one POST a call).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, StatusCode};
use llm_memory_engine::progress::Progress;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::http::{self as client, Address, Ask, HttpError};
use crate::tools::Tool;

const PROTOCOL: &str = "2026-07-28";

/// A call that failed at the server or on the way to it.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The token is missing or not good for this.
    #[error("the server refused the token ({status}): {message}")]
    Refused {
        /// 401 or 403.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The tool failed.
    #[error("{message}")]
    Tool {
        /// What the tool said.
        message: String,
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
    token: Option<String>,
    project: Option<String>,
    next_id: AtomicU64,
}

impl McpClient {
    /// A client of the MCP endpoint at `address`.
    pub(crate) fn new(address: Address, token: Option<String>, project: Option<String>) -> Self {
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
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut headers = vec![
            header("mcp-protocol-version", PROTOCOL),
            header("mcp-method", "tools/call"),
            header("mcp-name", tool.name),
        ];
        headers.extend(parameter_headers(&schema, &arguments));
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                CallError::Refused {
                    status: 401,
                    message: "the token is not ASCII text".to_owned(),
                }
            })?;
            value.set_sensitive(true);
            headers.push((AUTHORIZATION, value));
        }
        let body = json!({
            "jsonrpc": "2.0",
            "id": id,
            "method": "tools/call",
            "params": {
                "name": tool.name,
                "arguments": arguments,
                "_meta": {
                    "progressToken": id,
                    "io.modelcontextprotocol/protocolVersion": PROTOCOL,
                    "io.modelcontextprotocol/clientInfo":
                        {"name": "llm-memory-cli", "version": env!("CARGO_PKG_VERSION")},
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            },
        });
        let ask = Ask {
            address: &self.address,
            headers,
            body: Some(body.to_string().into_bytes()),
            limit: None,
        };
        let answer = client::send(ask, &mut |event| is_answer(event, id, progress))?;
        self.result(answer.status, &answer.body)
    }

    fn result(&self, status: StatusCode, body: &[u8]) -> Result<Value, CallError> {
        let message: Option<Value> = serde_json::from_slice(body).ok();
        let rpc_error = message.as_ref().and_then(|message| message.get("error"));
        let said = rpc_error
            .and_then(|error| error.get("message").or(Some(error)))
            .and_then(Value::as_str)
            .map_or_else(|| excerpt(body), str::to_owned);
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return Err(CallError::Refused { status: status.as_u16(), message: said });
        }
        if rpc_error.is_some() {
            return Err(CallError::Tool { message: said });
        }
        let Some(Value::Object(mut result)) =
            message.and_then(|mut message| message.get_mut("result").map(Value::take))
        else {
            return Err(CallError::Protocol {
                address: self.address.authority().to_owned(),
                status: status.as_u16(),
                reason: said,
            });
        };
        let text = content_text(&result);
        if result.get("isError").and_then(Value::as_bool) == Some(true) {
            return Err(CallError::Tool { message: text });
        }
        Ok(match result.remove("structuredContent") {
            Some(structured) => structured,
            None => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        })
    }
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

    fn client() -> McpClient {
        McpClient::new(Address::parse("localhost:1", "/mcp").unwrap(), None, None)
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
    fn failures_keep_what_the_server_said() {
        let call = |status: u16, body: Value| {
            client()
                .result(StatusCode::from_u16(status).unwrap(), body.to_string().as_bytes())
                .map_err(|error| error.to_string())
        };
        let ok = json!({"result": {"structuredContent": {"total": 1}, "content": []}});
        assert_eq!(call(200, ok).unwrap(), json!({"total": 1}));
        let tool =
            json!({"result": {"isError": true, "content": [{"type": "text", "text": "no"}]}});
        assert_eq!(call(200, tool).unwrap_err(), "no");
        let rpc = json!({"error": {"code": -32602, "message": "q: too long"}});
        assert_eq!(call(400, rpc).unwrap_err(), "q: too long");
        let refused = call(401, json!({"error": "invalid_token"})).unwrap_err();
        assert_eq!(refused, "the server refused the token (401): invalid_token");
        assert!(call(404, json!("<html>")).unwrap_err().contains("does not speak MCP"));
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
