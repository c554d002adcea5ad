//! Long messages. Each connection may hold a short one that is not whole yet; for a longer one it
//! needs a place, of which there are so few that all of them together fit into the memory of a
//! small server. Whoever gets none in time is told to come back, and whoever does not end what
//! they began is hung up on.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::mcp::McpOptions;

/// A message of up to so many bytes needs no place.
pub(crate) const SHORT: usize = 64 << 10;
/// Places, where as many calls may run.
const PLACES: usize = 16;
/// How long it is waited for a place.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a message may take, and how many bytes of a longer one in each further second.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
const BYTES_A_SECOND: usize = 64 << 10;

/// A message that was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Unread {
    /// There was no place for it.
    #[error(
        "busy: too many long messages at once; try again in {} s, or send shorter ones",
        PATIENCE.as_secs()
    )]
    Busy,
    /// It did not end in time.
    #[error("the message did not end in time")]
    Late,
    /// It is longer than messages may be.
    #[error("the message is too long: send a shorter one, or raise limits.maxRequestKb")]
    TooLong,
    /// The client went away.
    #[error("the message is not whole")]
    Broken,
}

impl Unread {
    /// What HTTP says.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }

    /// When to try again.
    pub(crate) const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Busy => Some(PATIENCE),
            Self::Late | Self::TooLong | Self::Broken => None,
        }
    }
}

/// The place of a long message, until dropped.
pub(crate) type LongPlace = OwnedSemaphorePermit;

/// The places for long messages of all connections.
#[derive(Debug)]
pub(crate) struct LongMessages {
    places: Arc<Semaphore>,
    longest: usize,
}

impl LongMessages {
    /// No more places than calls may run.
    pub(crate) fn new(options: &McpOptions) -> Self {
        let places = options.max_running_calls.clamp(1, PLACES);
        Self { places: Arc::new(Semaphore::new(places)), longest: options.max_body_bytes }
    }

    /// Waits for a place. Cancel-safe.
    pub(crate) async fn place(&self) -> Option<LongPlace> {
        // The semaphore is never closed.
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// How long a message may take from its first byte to its last.
    pub(crate) fn whole_within(&self) -> Duration {
        WHOLE_WITHIN + Duration::from_secs((self.longest / BYTES_A_SECOND) as u64)
    }

    /// `request` with its body read, and the place of a long one, which is to be kept until it has
    /// been answered: until then somebody holds it in memory.
    pub(crate) async fn whole(
        &self,
        request: Request,
    ) -> Result<(Request, Option<LongPlace>), Unread> {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            return Ok((Request::from_parts(parts, body), None));
        }
        let size = body.size_hint();
        if size.lower() > self.longest as u64 {
            return Err(Unread::TooLong);
        }
        let place = if size.upper().is_none_or(|most| most > SHORT as u64) {
            let waited = tokio::time::timeout(PATIENCE, self.place()).await;
            waited.map_err(|_elapsed| Unread::Busy)?
        } else {
            None
        };
        let read = Limited::new(body, self.longest).collect();
        let read = tokio::time::timeout(self.whole_within(), read).await;
        let bytes = match read.map_err(|_elapsed| Unread::Late)? {
            Ok(read) => read.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(Unread::TooLong),
            Err(_) => return Err(Unread::Broken),
        };
        // A body of unknown length may have been a short one.
        let place = place.filter(|_| bytes.len() > SHORT);
        Ok((Request::from_parts(parts, Body::from(bytes)), place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(places: usize) -> LongMessages {
        LongMessages::new(&McpOptions { max_running_calls: places, ..McpOptions::default() })
    }

    fn post(bytes: usize) -> Request {
        Request::new(Body::from(vec![b'x'; bytes]))
    }

    /// A body that begins and does not end.
    fn endless() -> Request {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(&b"{"[..])]);
        let never = futures_util::stream::pending();
        let body = futures_util::StreamExt::chain(first, never);
        Request::new(Body::from_stream(body))
    }

    #[tokio::test(start_paused = true)]
    async fn long_bodies_wait_for_a_place_and_short_ones_do_not() {
        let messages = messages(1);
        let (_, place) = messages.whole(post(SHORT + 1)).await.unwrap();
        assert!(place.is_some());
        assert_eq!(messages.whole(post(SHORT + 1)).await.unwrap_err(), Unread::Busy);
        let (request, none) = messages.whole(post(SHORT)).await.unwrap();
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes().len(), SHORT);
        assert!(none.is_none());
        drop(place);
        assert!(messages.whole(post(SHORT + 1)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_gives_its_place_back() {
        let messages = messages(1);
        assert_eq!(messages.whole(endless()).await.unwrap_err(), Unread::Late);
        assert!(messages.whole(post(SHORT + 1)).await.is_ok());
        assert_eq!(messages.whole(post((4 << 20) + 1)).await.unwrap_err(), Unread::TooLong);
    }
}
