//! One port, two protocols: the first byte of a connection decides. HTTP requests begin with a
//! capital letter; JSON lines begin with a brace (or with white space or a byte-order mark before
//! it), and so does what is told that it is no JSON, for it is text; anything else is hung up on. With a certificate both are spoken inside TLS only, and whoever
//! comes without is told so.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connections::{Connections, Place};
use crate::mcp::auth::TransportKind;
use crate::mcp::http::Http;
use crate::mcp::lines::{self, Source};
use crate::mcp::secure::{self, Prefixed};
use crate::mcp::{McpService, Shared};
use crate::tls::server::ServerTls;

/// How long a connection may stay silent before its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(60);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After how long a silence a client is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(60);
/// How long it is waited before it is asked again.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is asked before it is taken to have vanished.
const PROBES: u32 = 6;
/// How long streams may take to end once every call has been answered.
const FAREWELL: Duration = Duration::from_millis(500);

/// Which protocol a first byte announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http,
    Lines,
}

/// `None` for bytes that begin neither: read as lines, a TLS or binary greeting could carry one
/// that its sender never meant.
const fn spoken(first: u8) -> Option<Spoken> {
    match first {
        // Methods are case-sensitive, and all there are begin with a capital.
        b'A'..=b'Z' => Some(Spoken::Http),
        // The last is the first of a byte-order mark.
        b' '..=b'~' | b'\t' | b'\r' | b'\n' | 0xEF => Some(Spoken::Lines),
        _ => None,
    }
}

/// Serves connections of `listener` until `cancel`, then drains: no new connections, open
/// requests get [`crate::mcp::McpOptions::drain`] to end, then everything is closed.
pub async fn serve_listener(
    listener: TcpListener,
    service: McpService,
    cancel: CancellationToken,
) -> io::Result<()> {
    let shared = service.shared;
    // Ends the long-lived streams, after the calls have been answered.
    let streams = CancellationToken::new();
    let kill = CancellationToken::new();
    let http = Http::new(&shared, &streams);
    let connections = Connections::new(shared.options.max_connections);
    let open = Arc::new(Open::default());
    let tasks = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    // Out of file descriptors, usually; accepting again at once would spin.
                    tracing::warn!(%error, "cannot accept connections, trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Some(place) = connections.admit(peer.ip()) else {
            tracing::warn!(%peer, "connection refused: too many are open");
            continue;
        };
        let place = Arc::new(place);
        let connection = Connection {
            shared: Arc::clone(&shared),
            http: http.clone(),
            open: Arc::clone(&open),
            streams: streams.clone(),
            cancel: cancel.clone(),
            place: Arc::clone(&place),
        };
        let kill = kill.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = connection.serve(stream, peer) => {}
                () = place.evicted() => {
                    tracing::warn!(%peer, "connection of a stranger closed: too many are open");
                }
                () = kill.cancelled() => {}
            }
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(shared.options.drain, shared.gate.drained()).await.is_err() {
        tracing::warn!("some calls did not end in time");
    }
    // Answers are on their way to the sockets; streams that never end by themselves go now.
    let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    streams.cancel();
    let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    kill.cancel();
    tasks.wait().await;
    Ok(())
}

/// Has replies go out at once, since they are small and somebody waits for each, and has clients
/// noticed that vanish without a word, since silent ones may stay.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(SILENCE).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Open connections by transport, for the metrics.
#[derive(Debug, Default)]
struct Open {
    http: AtomicUsize,
    tcp: AtomicUsize,
}

struct Counted<'a> {
    shared: &'a Shared,
    counter: &'a AtomicUsize,
    kind: TransportKind,
}

impl<'a> Counted<'a> {
    fn new(shared: &'a Shared, open: &'a Open, kind: TransportKind) -> Self {
        let counter = if kind == TransportKind::Http { &open.http } else { &open.tcp };
        let now = counter.fetch_add(1, Ordering::Relaxed) + 1;
        shared.observer.connections(kind, now);
        Self { shared, counter, kind }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let now = self.counter.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        self.shared.observer.connections(self.kind, now);
    }
}

struct Connection {
    shared: Arc<Shared>,
    http: Http,
    open: Arc<Open>,
    streams: CancellationToken,
    cancel: CancellationToken,
    /// Kept as soon as the client has shown who it is.
    place: Arc<Place>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%peer, %error, "connection could not be prepared");
        }
        let mut first = [0_u8];
        let peeked = tokio::select! {
            peeked = tokio::time::timeout(FIRST_BYTE, stream.peek(&mut first)) => peeked,
            () = self.cancel.cancelled() => return,
        };
        // Closed, failed, or silent: nothing was asked, so nothing is answered.
        let Ok(Ok(1)) = peeked else { return };
        let spoken = spoken(first[0]);
        if let Some(tls) = self.shared.options.tls.clone() {
            return match spoken {
                None => self.serve_secure(&tls, stream, peer).await,
                Some(spoken) => {
                    tracing::debug!(%peer, "connection without TLS refused");
                    secure::refuse(stream, spoken == Spoken::Http).await;
                }
            };
        }
        match spoken {
            Some(Spoken::Http) => self.serve_http(stream, peer).await,
            Some(Spoken::Lines) => self.serve_lines(stream.into_split(), peer).await,
            None => tracing::debug!(%peer, "connection speaks neither HTTP nor JSON lines"),
        }
    }

    /// The same inside TLS, where what was read cannot be looked at without being taken.
    async fn serve_secure(self, tls: &ServerTls, stream: TcpStream, peer: SocketAddr) {
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(stream)) => shaken,
            () = self.cancel.cancelled() => return,
        };
        let mut stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_elapsed) => return tracing::debug!(%peer, "TLS handshake took too long"),
        };
        let mut first = [0_u8];
        let read = tokio::select! {
            read = tokio::time::timeout(FIRST_BYTE, stream.read(&mut first)) => read,
            () = self.cancel.cancelled() => return,
        };
        let Ok(Ok(1)) = read else { return };
        let stream = Prefixed::new(first[0], stream);
        match spoken(first[0]) {
            Some(Spoken::Http) => self.serve_http(stream, peer).await,
            Some(Spoken::Lines) => self.serve_lines(tokio::io::split(stream), peer).await,
            None => tracing::debug!(%peer, "connection speaks neither HTTP nor JSON lines"),
        }
    }

    async fn serve_http(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: SocketAddr,
    ) {
        let _counted = Counted::new(&self.shared, &self.open, TransportKind::Http);
        self.http.serve(stream, peer, &self.place, &self.cancel).await;
    }

    async fn serve_lines(
        self,
        halves: (impl AsyncRead + Send + Unpin + 'static, impl AsyncWrite + Send + Unpin + 'static),
        peer: SocketAddr,
    ) {
        let _counted = Counted::new(&self.shared, &self.open, TransportKind::Tcp);
        let source = Source::Tcp { peer, place: Arc::clone(&self.place) };
        lines::serve_tcp(&self.shared, halves, source, &self.cancel, &self.streams).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_that_vanish_are_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _peer) = listener.accept().await.unwrap();
        prepare(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
    }

    #[test]
    fn the_first_byte_tells_http_from_json() {
        for request in ["GET / HTTP/1.1", "POST /mcp HTTP/1.1", "OPTIONS *", "PRI * HTTP/2.0"] {
            assert_eq!(spoken(request.as_bytes()[0]), Some(Spoken::Http));
        }
        for line in ["{\"jsonrpc\"", " {", "\n{", "[", "\u{feff}{", "hello", "7", "\"a\""] {
            assert_eq!(spoken(line.as_bytes()[0]), Some(Spoken::Lines));
        }
        // A TLS handshake, other greetings of machines, nothing.
        for other in [0x16, 0x80, 0x7F, 0xFF, 0] {
            assert_eq!(spoken(other), None);
        }
    }
}
