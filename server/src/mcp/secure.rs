//! What a port with a certificate needs besides TLS itself: an answer for those who come without
//! it, and streams whose first byte has been looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rmcp::model::{ErrorCode, ErrorData, JsonRpcError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// What somebody without TLS is told.
const TLS_ONLY: &str = "this port speaks TLS only: use https, or TLS around the lines";
/// How long the answer may take to get there.
const FAREWELL: Duration = Duration::from_secs(1);
/// How much of a request nobody reads is taken in meanwhile.
const MAX_SKIPPED: u64 = 64 << 10;

/// Says what is wrong in the protocol that was begun, and hangs up.
pub(super) async fn refuse(mut stream: TcpStream, http: bool) {
    let answer = if http { http_refusal() } else { line_refusal() };
    let farewell = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with input unread would take the answer back.
        let mut skipped = (&mut stream).take(MAX_SKIPPED);
        tokio::io::copy(&mut skipped, &mut tokio::io::sink()).await
    };
    // Whoever does not take the answer has gone already.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

fn http_refusal() -> String {
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{TLS_ONLY}\n",
        TLS_ONLY.len() + 1
    )
}

fn line_refusal() -> String {
    let error = ErrorData::new(ErrorCode::INVALID_REQUEST, TLS_ONLY, None);
    let line = serde_json::to_string(&JsonRpcError::new(None, error)).unwrap_or_default();
    format!("{line}\n")
}

/// A stream of which the first byte has been read, put before the rest again.
pub(super) struct Prefixed<S> {
    first: Option<u8>,
    rest: S,
}

impl<S> Prefixed<S> {
    pub(super) const fn new(first: u8, rest: S) -> Self {
        Self { first: Some(first), rest }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.rest).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.rest.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_byte_comes_first_and_once() {
        let (near, mut far) = tokio::io::duplex(16);
        far.write_all(b"ET /").await.unwrap();
        drop(far);
        let mut whole = String::new();
        Prefixed::new(b'G', near).read_to_string(&mut whole).await.unwrap();
        assert_eq!(whole, "GET /");
    }
}
