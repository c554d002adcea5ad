//! rmcp's transport over lines: framing, authentication, and the limit on requests in flight.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use llm_memory_engine::ids::ProjectId;
use parking_lot::Mutex;
use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, GetExtensions as _, JsonRpcError,
    RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::frame::{Frame, FrameError, Splitter, parse};
use crate::access::Principal;
use crate::mcp::Shared;
use crate::mcp::auth::{Credentials, Denied, TransportKind};
use crate::mcp::origin::Origin;

/// Requests of one connection that may be in work; more are not read.
const MAX_IN_FLIGHT: usize = 64;
/// Subscriptions of one connection; they do not count as requests in work.
const MAX_LISTENING: usize = 16;
/// How long a client may leave an answer unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
const READ_CHUNK: usize = 16 * 1024;
/// JSON-RPC code of a refused caller; `data.status` holds what HTTP would have said.
pub(super) const UNAUTHORIZED: ErrorCode = ErrorCode(-32030);

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A TCP client, to be authenticated.
    Tcp {
        /// Its address.
        peer: SocketAddr,
    },
    /// The process that started this one.
    Stdio {
        /// Who that is.
        principal: Arc<Principal>,
        /// Project it works in.
        project: Option<ProjectId>,
    },
}

/// Places that requests in work hold, by request.
type Places = Arc<Mutex<HashMap<RequestId, OwnedSemaphorePermit>>>;

pub(crate) struct Lines<R, W> {
    shared: Arc<Shared>,
    reader: R,
    writer: Arc<AsyncMutex<Option<W>>>,
    splitter: Splitter,
    source: Source,
    origin: Option<Origin>,
    /// Whether requests get metadata: until an `initialize` begins a session.
    fill: bool,
    /// A request has been handed on; before that rmcp takes no notifications.
    started: bool,
    ended: bool,
    cancel: CancellationToken,
    requests: Arc<Semaphore>,
    listens: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
    places: Places,
}

impl<R, W> Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub(crate) fn new(
        shared: Arc<Shared>,
        reader: R,
        writer: W,
        source: Source,
        cancel: CancellationToken,
    ) -> Self {
        let origin = match &source {
            Source::Tcp { .. } => None,
            Source::Stdio { principal, project } => Some(Origin {
                principal: Arc::clone(principal),
                transport: TransportKind::Stdio,
                peer: None,
                project: project.clone(),
            }),
        };
        Self {
            splitter: Splitter::new(shared.options.max_line_bytes),
            shared,
            reader,
            writer: Arc::new(AsyncMutex::new(Some(writer))),
            source,
            origin,
            fill: true,
            started: false,
            ended: false,
            cancel,
            requests: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            listens: Arc::new(Semaphore::new(MAX_LISTENING)),
            place: None,
            places: Arc::default(),
        }
    }

    /// The next line; `None` when there are no more. Cancel-safe: what was read stays in the
    /// splitter.
    async fn next_line(&mut self) -> Option<Result<Vec<u8>, super::frame::TooLong>> {
        loop {
            if let Some(line) = self.splitter.next_line() {
                return Some(line);
            }
            if self.ended {
                return self.splitter.finish();
            }
            let mut chunk = [0_u8; READ_CHUNK];
            let read = tokio::select! {
                read = self.reader.read(&mut chunk) => read,
                () = self.cancel.cancelled() => return None,
            };
            match read {
                Ok(0) | Err(_) => self.ended = true,
                Ok(count) => self.splitter.push(chunk.get(..count).unwrap_or_default()),
            }
        }
    }

    /// Answers with an error; false when the other end is gone.
    fn reply_error(
        &self,
        id: Option<RequestId>,
        error: ErrorData,
    ) -> impl Future<Output = bool> + Send + use<R, W> {
        let writer = Arc::clone(&self.writer);
        async move { write_line(&writer, &JsonRpcError::new(id, error)).await.is_ok() }
    }

    /// Finds out who calls. False when the connection must end.
    async fn authenticate(&mut self, token: Option<&str>, id: Option<&RequestId>) -> bool {
        let Source::Tcp { peer } = self.source else { return true };
        if token.is_none() && self.origin.is_some() {
            return true;
        }
        let credentials = Credentials { token, peer: Some(peer), transport: TransportKind::Tcp };
        let verdict = self.shared.authenticator.authenticate(credentials).await;
        match verdict {
            Ok(principal) => {
                self.origin = Some(Origin {
                    principal: Arc::new(principal),
                    transport: TransportKind::Tcp,
                    peer: Some(peer),
                    project: None,
                });
                true
            }
            Err(denied) => {
                self.shared.observer.denied(&denied, TransportKind::Tcp, Some(peer));
                self.reply_error(id.cloned(), refusal(&denied)).await;
                false
            }
        }
    }

    /// Marks `message` with its origin and gives it its place. An error to answer instead when
    /// it has to be refused.
    fn admit(&mut self, message: &mut ClientJsonRpcMessage) -> Result<(), Refused> {
        let origin = self.origin.clone();
        match message {
            ClientJsonRpcMessage::Request(request) => {
                if matches!(request.request, ClientRequest::InitializeRequest(_)) {
                    self.fill = false;
                }
                let place =
                    if matches!(request.request, ClientRequest::SubscriptionsListenRequest(_)) {
                        Arc::clone(&self.listens).try_acquire_owned().map_err(|_full| Refused {
                            id: request.id.clone(),
                            reason: "too many subscriptions on this connection",
                        })?
                    } else {
                        // `receive` waited for it before it read the line.
                        match self.place.take() {
                            Some(place) => place,
                            None => return Err(Refused { id: request.id.clone(), reason: "busy" }),
                        }
                    };
                if let Some(origin) = origin {
                    request.request.extensions_mut().insert(origin);
                }
                self.places.lock().insert(request.id.clone(), place);
                self.started = true;
            }
            ClientJsonRpcMessage::Notification(notification) => {
                if let Some(origin) = origin {
                    notification.notification.extensions_mut().insert(origin);
                }
            }
            ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => {}
        }
        Ok(())
    }
}

struct Refused {
    id: RequestId,
    reason: &'static str,
}

fn refusal(denied: &Denied) -> ErrorData {
    let mut data = json!({"status": denied.status()});
    if let (Denied::LockedOut { retry_after }, Some(data)) = (denied, data.as_object_mut()) {
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        data.insert("retryAfterMs".to_owned(), millis.into());
    }
    ErrorData::new(UNAUTHORIZED, denied.to_string(), Some(data))
}

async fn write_line<W: AsyncWrite + Unpin>(
    writer: &AsyncMutex<Option<W>>,
    message: &impl Serialize,
) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    let mut guard = writer.lock().await;
    let Some(open) = guard.as_mut() else {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "the connection is closed"));
    };
    let written = tokio::time::timeout(WRITE_TIMEOUT, async {
        open.write_all(&bytes).await?;
        open.flush().await
    })
    .await
    .unwrap_or_else(|_elapsed| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answers"))
    });
    if written.is_err() {
        // A partly written line cannot be taken back; nothing more may follow it.
        *guard = None;
    }
    written
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        item: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let answered = match &item {
            ServerJsonRpcMessage::Response(response) => Some(response.id.clone()),
            ServerJsonRpcMessage::Error(error) => error.id.clone(),
            ServerJsonRpcMessage::Request(_) | ServerJsonRpcMessage::Notification(_) => None,
        };
        let writer = Arc::clone(&self.writer);
        let places = Arc::clone(&self.places);
        async move {
            let written = write_line(&writer, &item).await;
            // The place is free once the answer is out, so that answers nobody reads do not
            // pile up behind a client that keeps asking.
            if let Some(id) = answered {
                places.lock().remove(&id);
            }
            written
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if self.place.is_none() {
                let place = Arc::clone(&self.requests).acquire_owned().await.ok()?;
                self.place = Some(place);
            }
            let line = match self.next_line().await? {
                Ok(line) => line,
                Err(_too_long) => {
                    let limit = self.shared.options.max_line_bytes;
                    let reason = format!("a message may have {limit} bytes; this one was longer");
                    let error = ErrorData::new(ErrorCode::INVALID_REQUEST, reason, None);
                    if self.reply_error(None, error).await {
                        continue;
                    }
                    return None;
                }
            };
            let (mut message, token) = match parse(&line, self.fill) {
                Ok(Frame::Empty) => continue,
                Ok(Frame::Auth { token, id }) => {
                    if !self.authenticate(Some(&token), id.as_ref()).await {
                        return None;
                    }
                    let Some(id) = id else { continue };
                    let reply = json!({"jsonrpc": "2.0", "id": id, "result": {}});
                    write_line(&self.writer, &reply).await.ok()?;
                    continue;
                }
                Ok(Frame::Message { message, token }) => (*message, token),
                Err(FrameError { id, error }) => {
                    if self.reply_error(id, error).await {
                        continue;
                    }
                    return None;
                }
            };
            let id = match &message {
                ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
                _ => None,
            };
            if !self.authenticate(token.as_deref(), id.as_ref()).await {
                return None;
            }
            if !self.started && !matches!(message, ClientJsonRpcMessage::Request(_)) {
                continue;
            }
            match self.admit(&mut message) {
                Ok(()) => return Some(message),
                Err(Refused { id, reason }) => {
                    let error = ErrorData::new(ErrorCode::INTERNAL_ERROR, reason, None);
                    if !self.reply_error(Some(id), error).await {
                        return None;
                    }
                }
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        let writer = self.writer.lock().await.take();
        if let Some(mut writer) = writer {
            // The other end may be gone already.
            let _ = writer.shutdown().await;
        }
        Ok(())
    }
}
