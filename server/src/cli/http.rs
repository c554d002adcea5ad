//! A small HTTP/1.1 client for talking to our own server: one request a connection, no redirects.
//!
//! When it goes wrong: connecting gives up after [`CONNECT_TIMEOUT`]; reading gives up after the
//! request's own limit, if it has one. Long maintenance has none, since the answer comes when the
//! work is done. Bodies beyond [`MAX_BODY`] are refused rather than kept in memory.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use llm_memory_disk::OsDisk;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::env_vars;
use crate::serve::run_files::ServerFile;
use crate::tls::client::Trust;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer taken: larger than any bounded reply of a tool.
const MAX_BODY: usize = 256 << 20;

/// A request that got no usable answer.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    /// The address cannot be used.
    #[error("{url:?} is not an address this client can use: {reason}")]
    Address {
        /// As given.
        url: String,
        /// What is wrong and what would be right.
        reason: &'static str,
    },
    /// Nobody listens there.
    #[error("no server answers at {address}: {source}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No secure connection came about.
    #[error(
        "no secure connection to {address}: {reason}; LLM_MEMORY_CA_FILE names the certificate \
         authorities to trust, and the certificate must name the host"
    )]
    Insecure {
        /// Host and port.
        address: String,
        /// What the library said.
        reason: String,
    },
    /// The answer took too long.
    #[error("the server at {address} did not answer within {seconds} s")]
    TimedOut {
        /// Host and port.
        address: String,
        /// The limit.
        seconds: u64,
    },
    /// The conversation broke off.
    #[error("the connection to {address} broke: {reason}")]
    Broken {
        /// Host and port.
        address: String,
        /// What the library said.
        reason: String,
    },
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    authority: String,
    path: String,
    /// What a certificate must be; `None` without TLS.
    trust: Option<Trust>,
}

/// The certificate authorities of a server named by its address: those in the file that
/// `LLM_MEMORY_CA_FILE` names, else the system's.
fn authorities() -> Trust {
    let file = std::env::var_os(env_vars::CA_FILE.name).filter(|path| !path.is_empty());
    file.map_or(Trust::System, |path| Trust::Authorities(path.into()))
}

impl Address {
    /// Takes `http[s]://host:port[/path]`, or `host:port` without TLS; `default_path` is used when there is no
    /// path.
    pub(crate) fn parse(url: &str, default_path: &str) -> Result<Self, HttpError> {
        let refuse = |reason| HttpError::Address { url: url.to_owned(), reason };
        let with_scheme =
            if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = with_scheme.parse().map_err(|_| refuse("write it like http://host:3000"))?;
        let (trust, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(authorities()), 443),
            Some(_) | None => return Err(refuse("write it like https://host:3000")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("the host is missing"))?;
        let path = match uri.path() {
            "" | "/" => default_path.to_owned(),
            path => uri.path_and_query().map_or(path, |whole| whole.as_str()).to_owned(),
        };
        Ok(Self {
            authority: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(port)),
            path,
            trust,
        })
    }

    /// The server that has written `server` into its data folder.
    pub(crate) fn of_running(server: &ServerFile, path: &str) -> Self {
        Self { authority: server.mcp.to_string(), path: path.to_owned(), trust: server.trust() }
    }

    /// The same server without this endpoint, if the path ends in it.
    pub(crate) fn without(&self, endpoint: &str) -> Self {
        let path = self.path.trim_end_matches('/');
        let path = path.strip_suffix(endpoint).unwrap_or(path).trim_end_matches('/').to_owned();
        Self { path, ..self.clone() }
    }

    /// The same server at `path` below this address.
    pub(crate) fn below(&self, path: &str) -> Self {
        Self { path: format!("{}/{path}", self.path), ..self.clone() }
    }

    /// Scheme, host and port, for messages.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.trust.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }

    fn host(&self) -> &str {
        self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _port)| host)
    }

    /// Host and port, for messages.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }
}

/// What is asked.
pub(crate) struct Ask<'a> {
    /// Where.
    pub(crate) address: &'a Address,
    /// Further headers.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// A body makes it a POST of JSON, none makes it a GET.
    pub(crate) body: Option<Vec<u8>>,
    /// How long the whole answer may take; `None` waits for ever.
    pub(crate) limit: Option<Duration>,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
    /// The body; of an event stream, the data of the last event.
    pub(crate) body: Vec<u8>,
    /// When to come back, in seconds, if the server says.
    pub(crate) retry_after: Option<u64>,
}

/// Sends one request and waits for the answer. The data of each server-sent event goes to
/// `on_event`; the answer's body is then the event for which it returned true.
pub(crate) fn send(
    ask: Ask<'_>,
    on_event: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Answer, HttpError> {
    let broken =
        |reason: String| HttpError::Broken { address: ask.address.authority.clone(), reason };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| broken(error.to_string()))?;
    let limit = ask.limit;
    let address = ask.address.authority.clone();
    runtime.block_on(async {
        let exchange = exchange(ask, on_event);
        match limit {
            None => exchange.await,
            Some(limit) => {
                let late = HttpError::TimedOut { address, seconds: limit.as_secs() };
                tokio::time::timeout(limit, exchange).await.unwrap_or(Err(late))
            }
        }
    })
}

async fn exchange(
    ask: Ask<'_>,
    on_event: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Answer, HttpError> {
    let address = ask.address.authority.clone();
    let broken = |error: &dyn std::fmt::Display| HttpError::Broken {
        address: address.clone(),
        reason: error.to_string(),
    };
    let stream = connect(&address).await?;
    let (mut sender, background) = match &ask.address.trust {
        None => speak(stream).await.map_err(|error| broken(&error))?,
        Some(trust) => {
            let insecure = |reason| HttpError::Insecure { address: address.clone(), reason };
            let secured = trust.connect(&OsDisk, ask.address.host(), stream);
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, secured)
                .await
                .unwrap_or_else(|_elapsed| Err("it took too long".to_owned()))
                .map_err(insecure)?;
            speak(stream).await.map_err(|error| broken(&error))?
        }
    };

    let method = if ask.body.is_some() { Method::POST } else { Method::GET };
    let mut request =
        Request::builder().method(method).uri(&ask.address.path).header(HOST, &address);
    if ask.body.is_some() {
        request = request
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
    }
    for (name, value) in ask.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(ask.body.unwrap_or_default())))
        .map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let status = response.status();
    let events = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = read(response.into_body(), events, on_event).await.map_err(|error| broken(&error));
    background.abort();
    Ok(Answer { status, body: body?, retry_after })
}

/// Begins HTTP on a stream. The connection works in the background and ends with the runtime.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(SendRequest<Full<Bytes>>, JoinHandle<()>), hyper::Error> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // What breaks it, breaks the request.
    let background = tokio::spawn(async { drop(connection.await) });
    Ok((sender, background))
}

async fn connect(address: &str) -> Result<TcpStream, HttpError> {
    let unreachable = |source| HttpError::Unreachable { address: address.to_owned(), source };
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(unreachable),
        Err(_) => Err(unreachable(std::io::Error::from(std::io::ErrorKind::TimedOut))),
    }
}

async fn read(
    mut body: Incoming,
    events: bool,
    on_event: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Vec<u8>, String> {
    let mut whole = Vec::new();
    let mut parser = EventParser::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Some(data) = frame.data_ref() else { continue };
        if events {
            for event in parser.feed(data) {
                if on_event(&event) {
                    return Ok(event);
                }
            }
            whole.clear();
        } else {
            whole.extend_from_slice(data);
        }
        if whole.len().max(parser.pending()) > MAX_BODY {
            return Err(format!("the answer is longer than {MAX_BODY} bytes"));
        }
    }
    if events { Err("the event stream ended without an answer".to_owned()) } else { Ok(whole) }
}

/// Cuts a byte stream into server-sent events and keeps their `data` fields.
#[derive(Debug, Default)]
struct EventParser {
    line: Vec<u8>,
    data: Vec<u8>,
}

impl EventParser {
    fn pending(&self) -> usize {
        self.line.len().saturating_add(self.data.len())
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut events = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let mut line = std::mem::take(&mut self.line);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if line.is_empty() {
                if !self.data.is_empty() {
                    events.push(std::mem::take(&mut self.data));
                }
            } else if let Some(value) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_a_default_path_and_say_whether_they_are_secure() {
        let address = Address::parse("http://localhost:3000", "/mcp").unwrap();
        assert_eq!((address.authority(), &*address.path), ("localhost:3000", "/mcp"));
        assert_eq!(Address::parse("[::1]:3000/x", "/mcp").unwrap().path, "/x");
        let secure = Address::parse("https://localhost", "/mcp").unwrap();
        assert_eq!(
            (secure.origin().as_str(), secure.host()),
            ("https://localhost:443", "localhost")
        );
        assert_eq!(address.trust, None);
        assert!(Address::parse("ftp://localhost", "/mcp").is_err());
        assert!(Address::parse("http://", "/mcp").is_err());
    }

    #[test]
    fn the_endpoint_of_mcp_is_as_good_as_the_server() {
        let jobs = |url: &str| {
            let address = Address::parse(url, "").unwrap().without("/mcp").below("jobs?n=1");
            format!("{}{}", address.origin(), address.path)
        };
        for url in ["https://h:1", "https://h:1/", "https://h:1/mcp", "https://h:1/mcp/"] {
            assert_eq!(jobs(url), "https://h:1/jobs?n=1");
        }
        assert_eq!(jobs("h:1"), "http://h:1/jobs?n=1");
        assert_eq!(jobs("http://h/memory/mcp"), "http://h:80/memory/jobs?n=1");
    }

    #[test]
    fn events_may_be_cut_anywhere() {
        let stream = b": hello\r\nevent: message\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\ndata:x\n\n";
        for cut in 0..stream.len() {
            let (head, tail) = stream.split_at(cut);
            let mut parser = EventParser::default();
            let mut events = parser.feed(head);
            events.extend(parser.feed(tail));
            assert_eq!(events, [b"{\"a\":\n1}".to_vec(), b"x".to_vec()], "cut at {cut}");
        }
    }

    #[test]
    fn an_address_nobody_listens_at_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let address = Address::parse(&format!("127.0.0.1:{port}"), "/").unwrap();
        let ask = Ask { address: &address, headers: Vec::new(), body: None, limit: None };
        assert!(matches!(send(ask, &mut |_| true), Err(HttpError::Unreachable { .. })));
    }
}
