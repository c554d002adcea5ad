//! From bytes to messages, without I/O: what the fuzzer feeds.

use std::fmt;

use llm_memory_engine::ids::ProjectId;
use rmcp::model::{ClientJsonRpcMessage, ErrorCode, ErrorData, RequestId};
use serde_json::{Map, Value, json};

/// Key of `params._meta` that may carry a bearer token.
const AUTHORIZATION: &str = "authorization";
/// Method of the message that only presents a token, a project, or both.
const AUTH_METHOD: &str = "auth";
/// What fills in for clients that send no metadata.
const PROTOCOL_VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT_INFO_KEY: &str = "io.modelcontextprotocol/clientInfo";

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Debug)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Bytes of `buffer` known to hold no line feed.
    scanned: usize,
    max: usize,
    discarding: bool,
}

/// Room that is kept for the next line.
const KEPT: usize = 32 << 10;

/// A line that exceeded the limit; it has been dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl Splitter {
    /// A splitter for lines of up to `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { buffer: Vec::new(), scanned: 0, max, discarding: false }
    }

    /// Longest line, bytes.
    pub const fn max(&self) -> usize {
        self.max
    }

    /// Takes lines of up to `max` bytes from now on.
    pub const fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Takes bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    pub fn next_line(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        loop {
            let rest = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.scanned = self.buffer.len();
                if self.discarding {
                    self.clear();
                } else if self.buffer.len() > self.max + self.half_end() {
                    self.clear();
                    self.discarding = true;
                    return Some(Err(TooLong));
                }
                return None;
            };
            let end = self.scanned + end;
            let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
            self.buffer.shrink_to(KEPT);
            self.scanned = 0;
            if std::mem::take(&mut self.discarding) {
                continue;
            }
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Some(if line.len() > self.max { Err(TooLong) } else { Ok(line) });
        }
    }

    /// What follows the last line end, when the stream is over: a client that closes its side
    /// after a message need not have ended the line.
    pub fn finish(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        if let Some(line) = self.next_line() {
            return Some(line);
        }
        let rest = std::mem::take(&mut self.buffer);
        self.scanned = 0;
        (!rest.is_empty()).then_some(Ok(rest))
    }

    /// A carriage return at the end may belong to the line end that comes next.
    fn half_end(&self) -> usize {
        usize::from(self.buffer.last() == Some(&b'\r'))
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets what is held.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        self.scanned = 0;
    }
}

/// What one line says.
pub enum Frame {
    /// Nothing: an empty line.
    Empty,
    /// Only who calls, and where they work.
    Auth {
        /// The token; may be left out where none is needed.
        token: Option<String>,
        /// Project of the messages that follow.
        project: Option<ProjectId>,
        /// Present when the client wants an answer.
        id: Option<RequestId>,
    },
    /// A message.
    Message {
        /// The message, its metadata filled in.
        message: Box<ClientJsonRpcMessage>,
        /// Token that came with it.
        token: Option<String>,
    },
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Auth { id, .. } => f.debug_struct("Auth").field("id", id).finish_non_exhaustive(),
            Self::Message { message, .. } => {
                f.debug_struct("Message").field("message", message).finish_non_exhaustive()
            }
        }
    }
}

/// A line that is not a message.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameError {
    /// The request, when it could be told.
    pub id: Option<RequestId>,
    /// What to answer.
    pub error: ErrorData,
}

/// Reads one line. With `fill`, requests without metadata get that of the current protocol
/// revision; connections that began with `initialize` do without.
pub fn parse(line: &[u8], fill: bool) -> Result<Frame, FrameError> {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(Frame::Empty);
    }
    let value: Value = serde_json::from_slice(line).map_err(|error| FrameError {
        id: None,
        error: ErrorData::parse_error(format!("not JSON: {error}"), None),
    })?;
    let Value::Object(mut object) = value else {
        let kind = if value.is_array() {
            "batches are not part of the protocol: send one message a line"
        } else {
            "a message is a JSON object"
        };
        return Err(invalid(None, kind));
    };
    let id = object.get("id").and_then(|id| serde_json::from_value::<RequestId>(id.clone()).ok());
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(invalid(id, "jsonrpc must be \"2.0\""));
    }
    let method = match object.get("method") {
        Some(Value::String(method)) => Some(method.clone()),
        Some(_) => return Err(invalid(id, "method must be a string")),
        None => None,
    };
    if method.is_some() && object.contains_key("id") && id.is_none() {
        return Err(invalid(None, "id must be a string or a whole number"));
    }
    if method.as_deref() == Some(AUTH_METHOD) {
        return auth(&object, id);
    }
    if object.get("params").is_some_and(Value::is_null) {
        object.remove("params");
    }
    let mut token = None;
    if let Some(method) = &method {
        if object.get("params").is_some_and(|params| !params.is_object()) {
            return Err(invalid(id, "params must be an object"));
        }
        token = take_token(&mut object);
        if id.is_some() && fill && method != "initialize" {
            fill_metadata(&mut object);
        }
    }
    match serde_json::from_value(Value::Object(object)) {
        Ok(message) => Ok(Frame::Message { message: Box::new(message), token }),
        Err(_) => Err(match method {
            Some(method) => FrameError {
                id,
                error: ErrorData::invalid_params(
                    format!("params do not have the form that {method} needs"),
                    None,
                ),
            },
            None => invalid(id, "neither a request nor an answer to one"),
        }),
    }
}

/// Reads the message that only presents a token, a project, or both.
fn auth(object: &Map<String, Value>, id: Option<RequestId>) -> Result<Frame, FrameError> {
    let param = |name: &str| {
        let params = object.get("params")?;
        params.get(name).and_then(Value::as_str)
    };
    let token = param("token").map(bare_token);
    let project = match param("project").map(str::parse::<ProjectId>).transpose() {
        Ok(project) => project,
        Err(error) => {
            let reason = format!("params.project: {}", error.reason);
            return Err(FrameError { id, error: ErrorData::invalid_params(reason, None) });
        }
    };
    if token.is_none() && project.is_none() {
        return Err(invalid(id, "auth needs params.token, params.project or both"));
    }
    Ok(Frame::Auth { token, project, id })
}

fn invalid(id: Option<RequestId>, reason: &'static str) -> FrameError {
    FrameError { id, error: ErrorData::new(ErrorCode::INVALID_REQUEST, reason, None) }
}

fn bare_token(text: &str) -> String {
    crate::mcp::auth::bearer_token(text).unwrap_or_else(|| text.trim()).to_owned()
}

/// Takes the token out of the metadata, so that it reaches no log and no handler.
fn take_token(object: &mut Map<String, Value>) -> Option<String> {
    let meta = object.get_mut("params")?.get_mut("_meta")?.as_object_mut()?;
    match meta.remove(AUTHORIZATION)? {
        Value::String(text) => Some(bare_token(&text)),
        _ => None,
    }
}

fn fill_metadata(object: &mut Map<String, Value>) {
    let params = object.entry("params").or_insert_with(|| json!({}));
    let Some(params) = params.as_object_mut() else { return };
    let meta = params.entry("_meta").or_insert_with(|| json!({}));
    let Some(meta) = meta.as_object_mut() else { return };
    meta.entry(PROTOCOL_VERSION_KEY).or_insert_with(|| "2026-07-28".into());
    meta.entry(CLIENT_CAPABILITIES_KEY).or_insert_with(|| json!({}));
    meta.entry(CLIENT_INFO_KEY).or_insert_with(|| json!({"name": "unnamed", "version": "0"}));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmcp::model::{ClientRequest, GetMeta};

    use super::*;

    fn message(line: &str, fill: bool) -> (ClientJsonRpcMessage, Option<String>) {
        match parse(line.as_bytes(), fill).unwrap() {
            Frame::Message { message, token } => (*message, token),
            other => panic!("{other:?}"),
        }
    }

    fn request(line: &str, fill: bool) -> ClientRequest {
        match message(line, fill).0 {
            ClientJsonRpcMessage::Request(request) => request.request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bare_request_gets_the_metadata_it_needs() {
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
        let request = request(line, true);
        assert!(matches!(request, ClientRequest::ListToolsRequest(_)));
        assert_eq!(request.get_meta().protocol_version().unwrap().as_str(), "2026-07-28");
        assert!(request.get_meta().client_capabilities().is_some());
    }

    #[test]
    fn params_may_be_left_out() {
        let line = r#"{"jsonrpc":"2.0","id":"x","method":"tools/list"}"#;
        assert!(request(line, true).get_meta().protocol_version().is_some());
        let line = r#"{"jsonrpc":"2.0","id":"x","method":"tools/list","params":null}"#;
        assert!(request(line, true).get_meta().protocol_version().is_some());
    }

    #[test]
    fn a_session_is_left_as_it_is() {
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
        assert!(request(line, false).get_meta().protocol_version().is_none());
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"n","version":"1"}}}"#;
        assert!(matches!(request(line, true), ClientRequest::InitializeRequest(_)));
    }

    #[test]
    fn a_token_is_taken_out_of_the_metadata() {
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"authorization":"Bearer s3cret"}}}"#;
        let (message, token) = message(line, true);
        assert_eq!(token.as_deref(), Some("s3cret"));
        assert!(!format!("{message:?}").contains("s3cret"));
    }

    #[test]
    fn the_auth_message_carries_a_token_a_project_or_both() {
        let read = |params: &str| {
            let line = format!(r#"{{"jsonrpc":"2.0","method":"auth","params":{params}}}"#);
            match parse(line.as_bytes(), true) {
                Ok(Frame::Auth { token, project, id: None }) => {
                    Ok((token, project.map(|project| project.as_str().to_owned())))
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.error.code),
            }
        };
        let (token, project) = (Some("abc".to_owned()), Some("home".to_owned()));
        assert_eq!(read(r#"{"token":"Bearer abc"}"#), Ok((token.clone(), None)));
        assert_eq!(read(r#"{"project":"home"}"#), Ok((None, project.clone())));
        assert_eq!(read(r#"{"token":"abc","project":"home"}"#), Ok((token, project)));
        assert_eq!(read("{}"), Err(ErrorCode::INVALID_REQUEST));
        assert_eq!(read(r#"{"project":""}"#), Err(ErrorCode::INVALID_PARAMS));
    }

    #[test]
    fn what_is_not_a_message_is_named() {
        for (line, code) in [
            ("nonsense", ErrorCode::PARSE_ERROR),
            ("[]", ErrorCode::INVALID_REQUEST),
            ("3", ErrorCode::INVALID_REQUEST),
            ("{}", ErrorCode::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#, ErrorCode::INVALID_REQUEST),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}"#,
                ErrorCode::INVALID_REQUEST,
            ),
        ] {
            assert_eq!(parse(line.as_bytes(), true).unwrap_err().error.code, code, "{line}");
        }
        let error = parse(br#"{"jsonrpc":"1.0","id":7,"method":"x"}"#, true).unwrap_err();
        assert_eq!(error.id, Some(RequestId::Number(7)));
    }

    #[test]
    fn blank_lines_say_nothing() {
        assert!(matches!(parse(b" \t", true), Ok(Frame::Empty)));
        assert!(matches!(parse(b"\xEF\xBB\xBF", true), Ok(Frame::Empty)));
    }

    #[test]
    fn a_long_line_is_dropped_and_the_next_one_read() {
        let mut splitter = Splitter::new(4);
        splitter.push(b"123456");
        assert_eq!(splitter.next_line(), Some(Err(TooLong)));
        assert_eq!(splitter.held(), 0);
        splitter.push(b"789");
        assert_eq!(splitter.next_line(), None);
        splitter.push(b"0\nab\n");
        assert_eq!(splitter.next_line(), Some(Ok(b"ab".to_vec())));
        assert_eq!(splitter.next_line(), None);
    }

    #[test]
    fn a_long_line_keeps_no_memory_once_it_is_taken() {
        let mut splitter = Splitter::new(1 << 20);
        splitter.push(&vec![b'x'; 1 << 19]);
        assert_eq!(splitter.next_line(), None);
        splitter.push(b"\nab");
        assert!(splitter.next_line().is_some());
        assert!(splitter.buffer.capacity() <= KEPT && splitter.held() == 2);
    }

    #[test]
    fn the_last_line_needs_no_end() {
        let mut splitter = Splitter::new(16);
        splitter.push(b"a\r\nbc");
        assert_eq!(splitter.next_line(), Some(Ok(b"a".to_vec())));
        assert_eq!(splitter.finish(), Some(Ok(b"bc".to_vec())));
        assert_eq!(splitter.finish(), None);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(
            text in "[ab\n\r]{0,80}", cuts in prop::collection::vec(1_usize..9, 0..40),
        ) {
            let max = 6;
            let mut whole = Splitter::new(max);
            whole.push(text.as_bytes());
            let mut expected = Vec::new();
            while let Some(line) = whole.next_line() {
                expected.push(line);
            }
            let mut pieces = Splitter::new(max);
            let mut found = Vec::new();
            let mut rest = text.as_bytes();
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
                pieces.push(piece);
                rest = after;
                while let Some(line) = pieces.next_line() {
                    found.push(line);
                }
                prop_assert!(pieces.held() <= max + 1);
            }
            // A line may be found too long before its end is seen; never twice, never later.
            prop_assert_eq!(
                expected.iter().filter(|line| line.is_ok()).collect::<Vec<_>>(),
                found.iter().filter(|line| line.is_ok()).collect::<Vec<_>>()
            );
        }

        #[test]
        fn no_line_makes_the_parser_panic(line in any::<Vec<u8>>(), fill in any::<bool>()) {
            let _ = parse(&line, fill);
        }
    }
}
