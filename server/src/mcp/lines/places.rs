//! The limit on what one connection may have in work: a place for each request, from the moment
//! it is handed on until its answer is written or its caller has cancelled it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rmcp::model::RequestId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::mcp::long::LongPlace;

/// Requests of one connection that may be in work; more are not read.
const MAX_IN_FLIGHT: u32 = 64;
/// Subscriptions of one connection; they do not count as requests in work.
const MAX_LISTENING: u32 = 16;

/// What a request needs a place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ends by itself.
    Call,
    /// Lasts until it is cancelled.
    Subscription,
}

/// What a request has until it is answered: its place, and that of a long message.
pub(super) type Held = (OwnedSemaphorePermit, Option<LongPlace>);

/// Places of the requests in work, by request.
#[derive(Debug)]
pub(super) struct Places {
    calls: Arc<Semaphore>,
    subscriptions: Arc<Semaphore>,
    held: Mutex<HashMap<RequestId, Held>>,
}

impl Places {
    pub(super) fn new() -> Self {
        let semaphore = |places: u32| Arc::new(Semaphore::new(places as usize));
        Self {
            calls: semaphore(MAX_IN_FLIGHT),
            subscriptions: semaphore(MAX_LISTENING),
            held: Mutex::default(),
        }
    }

    /// Waits until a call would get a place.
    pub(super) async fn room(&self) {
        let _ = self.calls.acquire().await;
    }

    /// Waits until every call has been answered.
    pub(super) async fn answered(&self) {
        let _ = self.calls.acquire_many(MAX_IN_FLIGHT).await;
    }

    /// Gives the request `id`, which came as a `long` message, a place, or says why it gets none.
    pub(super) fn hold(
        &self,
        id: &RequestId,
        kind: Kind,
        long: Option<LongPlace>,
    ) -> Result<(), &'static str> {
        let mut held = self.held.lock();
        if held.contains_key(id) {
            return Err("id is in use by a request that has not been answered yet");
        }
        let (semaphore, full) = match kind {
            Kind::Call => (&self.calls, "too many requests at once on this connection"),
            Kind::Subscription => {
                (&self.subscriptions, "too many subscriptions on this connection")
            }
        };
        let place = Arc::clone(semaphore).try_acquire_owned().map_err(|_full| full)?;
        // What lasts until it is cancelled must not keep others from being read.
        held.insert(id.clone(), (place, long.filter(|_| kind == Kind::Call)));
        Ok(())
    }

    /// Ends the request `id`; its place is free when what this answers is dropped.
    pub(super) fn release(&self, id: &RequestId) -> Option<Held> {
        self.held.lock().remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_in_use_gets_no_second_place() {
        let places = Places::new();
        let id = RequestId::Number(1);
        places.hold(&id, Kind::Call, None).unwrap();
        assert!(places.hold(&id, Kind::Call, None).unwrap_err().contains("in use"));
        assert!(places.hold(&id, Kind::Subscription, None).is_err());
        assert!(places.release(&id).is_some());
        places.hold(&id, Kind::Subscription, None).unwrap();
    }

    #[test]
    fn a_place_is_free_when_the_answer_is_out() {
        let places = Places::new();
        let ids: Vec<RequestId> = (0..i64::from(MAX_LISTENING)).map(RequestId::Number).collect();
        for id in &ids {
            places.hold(id, Kind::Subscription, None).unwrap();
        }
        let late = RequestId::Number(-1);
        let place = places.release(&ids[0]);
        assert!(places.hold(&late, Kind::Subscription, None).is_err());
        drop(place);
        places.hold(&late, Kind::Subscription, None).unwrap();
    }
}
