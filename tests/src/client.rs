//! A small blocking MCP client, over newline-delimited JSON-RPC or Streamable HTTP, one request
//! at a time. Programs that load or crash a server use it; compatibility is tested with the
//! official SDKs instead.
//!
//! A failed call is either *refused* (the server answered, and nothing happened) or *lost* (no
//! answer: nobody knows whether it happened). After a lost call the client is of no more use.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// Protocol revision that requests name.
const REVISION: &str = "2026-07-28";

/// How long an answer may take before the call counts as lost.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);

/// A call without a result.
#[derive(Debug)]
pub enum CallError {
    /// The server answered with an error; it did not do what was asked.
    Refused {
        /// The engine's stable word (`busy`, `version_conflict`), when the answer has one.
        code: Option<String>,
        /// What the server said.
        message: String,
    },
    /// The connection ended before the answer.
    Lost(io::Error),
}

impl CallError {
    /// Whether the server refused with this stable word (`busy`, `not_found`).
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Refused { code: Some(code), .. } if code == word)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { message, .. } => f.write_str(message),
            Self::Lost(error) => write!(f, "connection lost: {error}"),
        }
    }
}

impl std::error::Error for CallError {}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Which wire a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// One JSON document a line over TCP.
    Lines,
    /// `POST /mcp`, keep-alive.
    Http,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    wire: Wire,
    address: SocketAddr,
    token: Option<String>,
    next_id: u64,
}

impl Client {
    /// Connects to the MCP port of a server.
    pub fn connect(address: SocketAddr, wire: Wire) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream: BufReader::new(stream), wire, address, token: None, next_id: 0 })
    }

    /// Sends `token` with every request (HTTP only).
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Calls a tool and answers its structured result.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, CallError> {
        let result = self.request(
            "tools/call",
            Some(tool),
            json!({ "name": tool, "arguments": arguments }),
        )?;
        let text = || {
            result
                .pointer("/content/0/text")
                .and_then(Value::as_str)
                .unwrap_or("no text")
                .to_owned()
        };
        let structured = result.get("structuredContent").cloned();
        if result.get("isError").and_then(Value::as_bool) == Some(true) {
            let code = result.pointer("/_meta/llm-memory.dev~1error/code").and_then(Value::as_str);
            return Err(CallError::Refused { code: code.map(str::to_owned), message: text() });
        }
        Ok(structured.unwrap_or_else(|| Value::String(text())))
    }

    /// Sends one JSON-RPC request and answers its `result`.
    pub fn request(
        &mut self,
        method: &str,
        name: Option<&str>,
        mut params: Value,
    ) -> Result<Value, CallError> {
        self.next_id += 1;
        if let Some(params) = params.as_object_mut() {
            params.insert(
                "_meta".to_owned(),
                json!({
                    "io.modelcontextprotocol/protocolVersion": REVISION,
                    "io.modelcontextprotocol/clientCapabilities": {},
                    "io.modelcontextprotocol/clientInfo": {
                        "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"),
                    },
                }),
            );
        }
        let request =
            json!({ "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params });
        let mut response = match self.wire {
            Wire::Lines => self.over_lines(&request)?,
            Wire::Http => self.over_http(&request, method, name)?,
        };
        if let Some(error) = response.get("error") {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("no message");
            let code = error.pointer("/data/llm-memory.dev~1error/code").and_then(Value::as_str);
            return Err(CallError::Refused {
                code: code.map(str::to_owned),
                message: message.to_owned(),
            });
        }
        response
            .get_mut("result")
            .map(Value::take)
            .ok_or_else(|| invalid("an answer without result and error").into())
    }

    fn over_lines(&mut self, request: &Value) -> io::Result<Value> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        loop {
            let mut answer = String::new();
            if self.stream.read_line(&mut answer)? == 0 {
                return Err(closed());
            }
            if let Some(response) = self.answer(&answer)? {
                return Ok(response);
            }
        }
    }

    fn over_http(
        &mut self,
        request: &Value,
        method: &str,
        name: Option<&str>,
    ) -> io::Result<Value> {
        let body = serde_json::to_vec(request)?;
        let mut head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {REVISION}\r\n\
             Mcp-Method: {method}\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        );
        if let Some(name) = name {
            head.extend(["Mcp-Name: ", name, "\r\n"]);
        }
        if let Some(token) = &self.token {
            head.extend(["Authorization: Bearer ", token.as_str(), "\r\n"]);
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&body);
        self.stream.get_mut().write_all(&bytes)?;

        let body = self.read_http_body()?;
        // A server may answer with one JSON document or with a stream of events.
        let lines = body
            .lines()
            .map(|line| line.strip_prefix("data:").map_or(line, str::trim_start))
            .filter(|line| line.starts_with('{'));
        for line in lines {
            if let Some(response) = self.answer(line)? {
                return Ok(response);
            }
        }
        Err(invalid(&format!("no answer in {body:?}")))
    }

    fn read_http_body(&mut self) -> io::Result<String> {
        let (mut length, mut chunked) = (None, false);
        self.read_line()?;
        loop {
            let line = self.read_line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse::<usize>().ok();
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                let size = self.read_line()?;
                let size = usize::from_str_radix(size.split(';').next().unwrap_or(""), 16)
                    .map_err(|_| invalid("a chunk without a size"))?;
                self.read_into(&mut body, size)?;
                self.read_line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            let length = length.ok_or_else(|| invalid("a body without a length"))?;
            self.read_into(&mut body, length)?;
        }
        String::from_utf8(body).map_err(|_| invalid("a body that is not UTF-8"))
    }

    fn read_into(&mut self, body: &mut Vec<u8>, len: usize) -> io::Result<()> {
        let read = self.stream.by_ref().take(len as u64).read_to_end(body)?;
        if read < len { Err(closed()) } else { Ok(()) }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(closed());
        }
        Ok(line.trim_end().to_owned())
    }

    /// The message, if it answers the current request; notifications are passed over.
    fn answer(&self, line: &str) -> io::Result<Option<Value>> {
        let message: Value = serde_json::from_str(line.trim())?;
        let id = message.get("id");
        // An error about a request that could not be read has no id.
        let of_us = id.and_then(Value::as_u64) == Some(self.next_id)
            || (message.get("error").is_some() && id.is_none_or(Value::is_null));
        Ok(of_us.then_some(message))
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
