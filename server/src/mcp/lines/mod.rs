//! JSON-RPC, a message a line, over TCP and stdio.
//!
//! A connection that begins with `initialize` is a session of the 2025-11-25 protocol. Any other
//! connection speaks 2026-07-28, and the metadata that revision wants with each request is filled
//! in where it is missing, so that `echo '{"jsonrpc":"2.0","id":1,"method":"tools/list"}' | nc`
//! is answered. [`super::auth`] says where a token goes; the message that presents it may also, or
//! only, name the project of the messages after it: `"params":{"token":"TOKEN","project":"NAME"}`.
//!
//! When things go wrong: a line that is too long is answered with an error and skipped, as is one
//! that is not a message; one that does not end, or is long while too many others are, is the last
//! of its connection; a caller that is not let in is told so and hung up on, as is one who was,
//! with the first message after the token expired or was revoked; a client that does not read its
//! answers is not read from either, and after a minute is hung up on. At the end of the input and
//! at the stop signal, what was asked is answered first.

mod frame;
mod places;
mod transport;

use std::sync::Arc;

pub use frame::{Frame, FrameError, Splitter, parse};
use rmcp::service::serve_server_with_ct;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
pub(crate) use transport::{Ending, Lines, Source};

use crate::mcp::Shared;
use crate::mcp::handler::Handler;

/// Serves one TCP connection to its end. On `cancel` nothing more is read; on `streams` what is
/// still open is closed.
pub(crate) async fn serve_tcp(
    shared: &Arc<Shared>,
    (reader, writer): (
        impl AsyncRead + Send + Unpin + 'static,
        impl AsyncWrite + Send + Unpin + 'static,
    ),
    source: Source,
    cancel: &CancellationToken,
    streams: &CancellationToken,
) {
    serve(shared, reader, writer, source, cancel.clone(), streams).await;
}

/// Serves messages from `reader` until it ends.
pub(crate) async fn serve<R, W>(
    shared: &Arc<Shared>,
    reader: R,
    writer: W,
    source: Source,
    cancel: CancellationToken,
    streams: &CancellationToken,
) where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    // A child: rmcp cancels the token that it is given when the connection ends.
    let streams = streams.child_token();
    let ending = Ending { cancel, streams: streams.clone() };
    let mut transport = Lines::new(Arc::clone(shared), reader, writer, source, ending);
    transport.knock().await;
    let handler = Handler::new(Arc::clone(shared));
    match serve_server_with_ct(handler, transport, streams).await {
        Ok(running) => {
            let _ = running.waiting().await;
        }
        // The other end went away before it asked anything.
        Err(error) => tracing::debug!(%error, "connection ended before its first request"),
    }
}
