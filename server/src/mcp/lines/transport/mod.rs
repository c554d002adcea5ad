//! rmcp's transport over lines: framing, authentication, and the limit on requests in flight.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use llm_memory_engine::ids::ProjectId;
use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorCode, ErrorData,
    GetExtensions as _, JsonRpcError, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frame::{Frame, FrameError, Splitter, TooLong, parse};
use super::places::{Kind, Places};
use crate::access::Principal;
use crate::connections::Place;
use crate::mcp::Shared;
use crate::mcp::auth::{Credentials, Denied, TransportKind};
use crate::mcp::long::{LongPlace, PATIENCE, SHORT, Unread};
use crate::mcp::origin::{Origin, Token};

/// How long a client may leave an answer unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a stranger may take to say who they are.
const INTRODUCTION: Duration = Duration::from_secs(60);
/// Longest line of a stranger.
const STRANGERS_LINE: usize = SHORT;
const READ_CHUNK: usize = 16 * 1024;
/// JSON-RPC code of a refused caller; `data.status` holds what HTTP would have said.
pub(super) const UNAUTHORIZED: ErrorCode = ErrorCode(-32030);
/// How a token is shown here.
const HOW_TO_SHOW: &str = ": begin with {\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"auth\",\
     \"params\":{\"token\":\"TOKEN\"}}, or put the token into params._meta.authorization";

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A TCP client, to be authenticated.
    Tcp {
        /// Its address.
        peer: SocketAddr,
        /// Its place, kept once it is let in.
        place: Arc<Place>,
    },
    /// The process that started this one.
    Stdio {
        /// Who that is.
        principal: Arc<Principal>,
        /// Project it works in.
        project: Option<ProjectId>,
    },
}

/// When a connection ends, and what ends with it.
pub(crate) struct Ending {
    /// Told from outside: nothing more is read.
    pub(crate) cancel: CancellationToken,
    /// Told from here, once every call has been answered: subscriptions end.
    pub(crate) streams: CancellationToken,
}

/// What is still to come from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// More bytes, perhaps.
    Open,
    /// No bytes, but lines among those that were read.
    Ended,
    /// Nothing that would be taken.
    Over,
}

/// One connection. rmcp drops the future of `receive` whenever something else happens and calls
/// it again, so what must not be lost is kept here or written by a task of its own.
pub(crate) struct Lines<R, W> {
    shared: Arc<Shared>,
    reader: R,
    writer: Arc<AsyncMutex<Option<W>>>,
    /// Messages of our own on their way out, each telling whether it got there.
    replies: JoinSet<bool>,
    splitter: Splitter,
    /// By when the line that has begun must end.
    line_by: Option<Instant>,
    /// By when it must have a place, once it is long.
    place_by: Option<Instant>,
    /// The line at hand.
    line: Option<Result<Vec<u8>, Unread>>,
    /// The place of a long line, at hand or not whole yet.
    long: Option<LongPlace>,
    source: Source,
    origin: Option<Origin>,
    /// Project that the client named for all its messages.
    project: Option<ProjectId>,
    /// When a client without an origin is hung up on.
    introduce_by: Instant,
    /// Whether requests get metadata: until an `initialize` begins a session.
    fill: bool,
    /// A request has been handed on; before that rmcp takes no notifications.
    started: bool,
    input: Input,
    /// When answers under way are given up.
    answer_by: Option<Instant>,
    ending: Ending,
    places: Arc<Places>,
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
        ending: Ending,
    ) -> Self {
        let origin = match &source {
            Source::Tcp { .. } => None,
            Source::Stdio { principal, project } => Some(Origin {
                principal: Arc::clone(principal),
                transport: TransportKind::Stdio,
                peer: None,
                project: project.clone(),
                token: None,
            }),
        };
        let longest = shared.options.max_line_bytes;
        let longest = if origin.is_none() { longest.min(STRANGERS_LINE) } else { longest };
        Self {
            splitter: Splitter::new(longest),
            line_by: None,
            place_by: None,
            line: None,
            long: None,
            shared,
            reader,
            writer: Arc::new(AsyncMutex::new(Some(writer))),
            replies: JoinSet::new(),
            source,
            origin,
            project: None,
            introduce_by: Instant::now() + INTRODUCTION,
            fill: true,
            started: false,
            input: Input::Open,
            answer_by: None,
            ending,
            places: Arc::new(Places::new()),
        }
    }

    /// Lets the client in without a token, where none is needed.
    pub(crate) async fn knock(&mut self) {
        let _ = self.authenticate(None).await;
    }

    /// The next line; `None` when there are no more. Cancel-safe: what was read stays in the
    /// splitter.
    async fn next_line(&mut self) -> Option<Result<Vec<u8>, Unread>> {
        loop {
            if let Some(line) = self.splitter.next_line() {
                self.line_by = None;
                return Some(line.map_err(|TooLong| Unread::TooLong));
            }
            if self.input != Input::Open {
                return self.splitter.finish().map(|rest| rest.map_err(|TooLong| Unread::TooLong));
            }
            if !self.has_place().await? {
                return Some(Err(Unread::Busy));
            }
            let late = self.late();
            let mut chunk = [0_u8; READ_CHUNK];
            let read = tokio::select! {
                biased;
                () = self.ending.cancel.cancelled() => return None,
                () = tokio::time::sleep_until(self.introduce_by), if self.origin.is_none() => {
                    return None;
                }
                () = tokio::time::sleep_until(late.unwrap_or(self.introduce_by)),
                    if late.is_some() => return Some(Err(Unread::Late)),
                read = self.reader.read(&mut chunk) => read,
            };
            match read {
                Ok(0) | Err(_) => self.input = Input::Ended,
                Ok(count) => self.splitter.push(chunk.get(..count).unwrap_or_default()),
            }
        }
    }

    /// By when the line that has begun must end: whoever was let in holds memory with it, of which
    /// all have only so much. Whoever started this process has it for themselves.
    fn late(&mut self) -> Option<Instant> {
        let shared = matches!(self.source, Source::Tcp { .. }) && self.origin.is_some();
        if !shared || self.splitter.held() == 0 {
            self.line_by = None;
        } else if self.line_by.is_none() {
            self.line_by = Some(Instant::now() + self.shared.long.whole_within());
        }
        self.line_by
    }

    /// Waits until more may be read of the line that has begun; false when it got no place in time,
    /// `None` when nothing more will be read.
    async fn has_place(&mut self) -> Option<bool> {
        let shared = matches!(self.source, Source::Tcp { .. });
        if !shared || self.long.is_some() || self.splitter.held() <= SHORT {
            return Some(true);
        }
        let by = *self.place_by.get_or_insert_with(|| Instant::now() + PATIENCE);
        let place = tokio::select! {
            biased;
            () = self.ending.cancel.cancelled() => return None,
            place = self.shared.long.place() => place,
            () = tokio::time::sleep_until(by) => None,
        };
        self.place_by = None;
        self.long = place;
        Some(self.long.is_some())
    }

    /// Waits until one more request may be read; false when none will be.
    async fn room(&mut self) -> bool {
        tokio::select! {
            () = self.places.room() => true,
            () = self.ending.cancel.cancelled() => false,
        }
    }

    /// Waits until what was asked has been answered, for as long as a stop may take.
    async fn farewell(&mut self) {
        // The one that says why this is the end may be among them.
        self.replied().await;
        let grace = self.shared.options.drain;
        let until = *self.answer_by.get_or_insert_with(|| Instant::now() + grace);
        if tokio::time::timeout_at(until, self.places.answered()).await.is_err() {
            tracing::warn!("some calls of a connection did not end in time");
        }
        self.ending.streams.cancel();
    }

    /// Writes a message of our own. Whether or not anybody waits for that, it is written whole.
    async fn reply(&mut self, message: impl Serialize + Send + Sync + 'static) {
        let writer = Arc::clone(&self.writer);
        self.replies.spawn(async move { write_line(&writer, &message).await.is_ok() });
        self.replied().await;
    }

    /// Waits until the messages of our own are out. Cancel-safe: whoever waits next waits for the
    /// same ones.
    async fn replied(&mut self) {
        while let Some(written) = self.replies.join_next().await {
            if !written.unwrap_or(false) {
                // The other end is gone: there is nobody to read for.
                self.input = Input::Over;
            }
        }
    }

    async fn reply_error(&mut self, id: Option<RequestId>, error: ErrorData) {
        self.reply(JsonRpcError::new(id, error)).await;
    }

    /// Finds out who calls, by the token shown or the one shown before. Asked for every message,
    /// so that a token that has expired or was revoked ends with the message before.
    async fn authenticate(&mut self, shown: Option<&str>) -> Result<(), Denied> {
        let Source::Tcp { peer, place } = &self.source else { return Ok(()) };
        let peer = *peer;
        let before = || self.origin.as_ref().and_then(|origin| origin.token.clone());
        let token = shown.map(Token::from).or_else(before);
        let credentials = Credentials {
            token: token.as_ref().map(Token::as_str),
            peer: Some(peer),
            transport: TransportKind::Tcp,
        };
        let principal = self.shared.authenticator.authenticate(credentials).await?;
        place.keep();
        self.splitter.set_max(self.shared.options.max_line_bytes);
        self.origin = Some(Origin {
            principal: Arc::new(principal),
            transport: TransportKind::Tcp,
            peer: Some(peer),
            project: self.project.clone(),
            token,
        });
        Ok(())
    }

    /// Answers a caller who is not let in, and hangs up.
    async fn refuse(&mut self, denied: &Denied, id: Option<RequestId>) {
        let Source::Tcp { peer, .. } = self.source else { return };
        self.shared.observer.denied(denied, TransportKind::Tcp, Some(peer));
        // Somebody else may have failed from the same address, or whoever decides is away: who was
        // let in may wait for that.
        if denied.retry_after().is_none() || self.origin.is_none() {
            self.input = Input::Over;
        }
        self.reply_error(id, refusal(denied)).await;
    }

    /// Takes the line at hand; the message in it, when there is one to hand on. The line stays at
    /// hand until whoever sent it is known, which may take a call to the cluster: dropped in the
    /// middle of that, this begins again with the same line.
    async fn take(&mut self) -> Option<ClientJsonRpcMessage> {
        let frame = match self.line.as_ref()? {
            Ok(line) => parse(line, self.fill),
            Err(unread) => Err(self.unread(*unread)),
        };
        let known = match &frame {
            Ok(Frame::Auth { token, project, .. }) => {
                if project.is_some() {
                    self.project.clone_from(project);
                }
                self.authenticate(token.as_deref()).await
            }
            Ok(Frame::Message { token, .. }) => self.authenticate(token.as_deref()).await,
            Ok(Frame::Empty) | Err(_) => Ok(()),
        };
        // Of a line that has not ended nothing more is read.
        if matches!(self.line.take(), Some(Err(Unread::Busy | Unread::Late))) {
            self.splitter.clear();
            self.input = Input::Over;
        }
        let long = self.long.take();
        let (id, message) = match frame {
            Ok(Frame::Empty) => return None,
            Ok(Frame::Auth { id, .. }) => (id, None),
            Ok(Frame::Message { message, .. }) => (request_id(&message), Some(*message)),
            Err(FrameError { id, error }) => {
                self.reply_error(id, error).await;
                return None;
            }
        };
        if let Err(denied) = known {
            self.refuse(&denied, id).await;
            return None;
        }
        match (message, id) {
            (Some(message), id) => self.hand_on(message, id, long).await,
            (None, Some(id)) => {
                self.reply(json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
                None
            }
            (None, None) => None,
        }
    }

    /// Why a line was not read.
    fn unread(&self, unread: Unread) -> FrameError {
        if unread == Unread::TooLong {
            return self.too_long();
        }
        let data = unread.retry_after().map(|after| {
            json!({"status": unread.status().as_u16(), "retryAfterMs": after.as_secs() * 1000})
        });
        let code = match unread {
            Unread::Busy => ErrorCode::INTERNAL_ERROR,
            Unread::Late | Unread::TooLong | Unread::Broken => ErrorCode::INVALID_REQUEST,
        };
        FrameError { id: None, error: ErrorData::new(code, unread.to_string(), data) }
    }

    fn too_long(&self) -> FrameError {
        let limit = self.splitter.max();
        let when = if self.origin.is_none() { " before a token was shown" } else { "" };
        let reason = format!("a message may have {limit} bytes{when}; this one was longer");
        FrameError { id: None, error: ErrorData::new(ErrorCode::INVALID_REQUEST, reason, None) }
    }

    async fn hand_on(
        &mut self,
        mut message: ClientJsonRpcMessage,
        id: Option<RequestId>,
        long: Option<LongPlace>,
    ) -> Option<ClientJsonRpcMessage> {
        if !self.started && id.is_none() {
            return None;
        }
        match self.admit(&mut message, long) {
            Ok(()) => Some(message),
            Err(reason) => {
                let error = ErrorData::new(ErrorCode::INVALID_REQUEST, reason, None);
                self.reply_error(id, error).await;
                None
            }
        }
    }

    /// Marks `message` with its origin and gives it its place; says why when there is none.
    fn admit(
        &mut self,
        message: &mut ClientJsonRpcMessage,
        long: Option<LongPlace>,
    ) -> Result<(), &'static str> {
        let origin = self.origin.clone();
        match message {
            ClientJsonRpcMessage::Request(request) => {
                let kind = match &request.request {
                    ClientRequest::SubscriptionsListenRequest(_) => Kind::Subscription,
                    _ => Kind::Call,
                };
                self.places.hold(&request.id, kind, long)?;
                if matches!(request.request, ClientRequest::InitializeRequest(_)) {
                    self.fill = false;
                }
                if let Some(origin) = origin {
                    request.request.extensions_mut().insert(origin);
                }
                self.started = true;
            }
            ClientJsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) =
                    &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    // rmcp sends no answer to a request that was cancelled.
                    self.places.release(id);
                }
                if let Some(origin) = origin {
                    notification.notification.extensions_mut().insert(origin);
                }
            }
            ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => {}
        }
        Ok(())
    }
}

fn request_id(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
        _ => None,
    }
}

fn refusal(denied: &Denied) -> ErrorData {
    let mut data = json!({"status": denied.status()});
    if let (Some(retry_after), Some(data)) = (denied.retry_after(), data.as_object_mut()) {
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        data.insert("retryAfterMs".to_owned(), millis.into());
    }
    // Over HTTP the challenge says where a token goes.
    let how = match denied {
        Denied::Missing => HOW_TO_SHOW,
        Denied::Invalid { .. }
        | Denied::Unmapped { .. }
        | Denied::Unavailable { .. }
        | Denied::LockedOut { .. } => "",
    };
    ErrorData::new(UNAUTHORIZED, format!("{denied}{how}"), Some(data))
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
        // The place is free once the answer is out, so that answers nobody reads do not pile up
        // behind a client that keeps asking.
        let place = answered.and_then(|id| self.places.release(&id));
        let writer = Arc::clone(&self.writer);
        async move {
            let written = write_line(&writer, &item).await;
            drop(place);
            written
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        while self.input != Input::Over {
            // Of a client that does not read what it is told nothing more is read.
            self.replied().await;
            if self.line.is_none() {
                self.line = if self.room().await { self.next_line().await } else { None };
            }
            if self.line.is_none() {
                self.input = Input::Over;
            } else if let Some(message) = self.take().await {
                return Some(message);
            }
        }
        self.farewell().await;
        None
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

#[cfg(test)]
mod tests;
