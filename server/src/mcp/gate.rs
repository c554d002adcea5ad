//! Bounds the engine calls that run and wait, so that a flood of requests is answered `busy`
//! instead of filling the memory. Nobody has all places: one caller gets half of them, and a few
//! are kept for those who look after the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::Role;
use crate::mcp::origin::Origin;

/// Of how many running calls one more is kept for those who look after the store, and how many at
/// most.
const ONE_KEPT_OF: usize = 16;
const MAX_KEPT: usize = 4;

/// Too much is waiting already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    /// Calls waiting.
    pub(crate) waiting: usize,
    /// When to try again.
    pub(crate) retry_after_ms: u64,
}

/// Whose call it is, as far as the gate is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Guest {
    /// Who has a share of the places; `None` for those who may have all.
    name: Option<String>,
    /// Looks after the store, and does nothing else.
    keeper: bool,
}

impl Guest {
    /// The guest behind `origin`.
    pub(crate) fn of(origin: &Origin) -> Self {
        let principal = &origin.principal;
        // The owner of the folder, who shows none or the server's own, keeps out but themselves.
        let shown = origin.token.as_ref().filter(|_| !principal.roles.contains(&Role::Admin));
        let name = shown.map(|_token| {
            let tenant = principal.tenant.as_ref().map_or("", |tenant| tenant.as_str());
            format!("{tenant}/{}", principal.subject)
        });
        let keeper = principal.has_any(&[Role::Operator, Role::Monitor])
            && !principal.roles.contains(&Role::Agent);
        Self { name, keeper }
    }
}

/// A place among the running calls, until dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _place: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// Lets calls through, a bounded number at a time.
#[derive(Debug)]
pub(crate) struct Gate {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
    max_running: usize,
    /// Places beside the others.
    kept: Arc<Semaphore>,
    max_kept: usize,
    /// Places that each guest has, running and waiting.
    shares: Arc<Mutex<HashMap<String, usize>>>,
}

impl Gate {
    pub(crate) fn new(max_running: usize, max_waiting: usize) -> Self {
        let max_running = max_running.clamp(1, 1 << 16);
        let max_kept = (max_running / ONE_KEPT_OF).clamp(1, MAX_KEPT);
        Self {
            running: Arc::new(Semaphore::new(max_running)),
            waiting: AtomicUsize::new(0),
            max_waiting,
            max_running,
            kept: Arc::new(Semaphore::new(max_kept)),
            max_kept,
            shares: Arc::default(),
        }
    }

    /// A place among the running calls, after waiting for one if need be. Dropping the future
    /// gives the place in the queue back.
    pub(crate) async fn enter(&self, guest: Guest) -> Result<Permit, Busy> {
        let Guest { name, keeper } = guest;
        let share = match name {
            Some(name) => Some(self.share(name).ok_or_else(|| self.busy())?),
            None => None,
        };
        let permit = |place| Permit { _place: place, _share: share };
        if let Ok(place) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(permit(place));
        }
        if keeper && let Ok(place) = Arc::clone(&self.kept).try_acquire_owned() {
            return Ok(permit(place));
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.waiting);
        if waiting >= self.max_waiting {
            return Err(Busy { waiting, ..self.busy() });
        }
        // The semaphore is never closed; were it, no call could run any more.
        let place = Arc::clone(&self.running).acquire_owned().await;
        place.map(permit).map_err(|_closed| Busy { waiting, retry_after_ms: 1000 })
    }

    /// One more place for the guest `name`; `None` when they have half of all.
    fn share(&self, name: String) -> Option<Share> {
        let mut shares = self.shares.lock();
        let held = shares.get(&name).copied().unwrap_or(0);
        if held >= (self.max_running.saturating_add(self.max_waiting)).div_ceil(2) {
            return None;
        }
        shares.insert(name.clone(), held + 1);
        drop(shares);
        Some(Share { shares: Arc::clone(&self.shares), name })
    }

    fn busy(&self) -> Busy {
        // Waiting calls are mostly fsync-bound writes: a full queue drains in about this.
        Busy { waiting: self.waiting.load(Ordering::Relaxed), retry_after_ms: 250 }
    }

    /// Waits until no call runs.
    pub(crate) async fn drained(&self) {
        let all = |places: usize| u32::try_from(places).unwrap_or(u32::MAX);
        // Waiting calls come first: the semaphore is fair.
        let _running = self.running.acquire_many(all(self.max_running)).await;
        let _kept = self.kept.acquire_many(all(self.max_kept)).await;
    }

    /// Whether no call runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.available_permits() >= self.max_running
            && self.kept.available_permits() >= self.max_kept
    }

    /// Calls that wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// One of the places of a guest, until dropped.
#[derive(Debug)]
struct Share {
    shares: Arc<Mutex<HashMap<String, usize>>>,
    name: String,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = self.shares.lock();
        match shares.get_mut(&self.name) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(shares.remove(&self.name)),
        }
    }
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_call_beyond_the_queue_is_refused_at_once() {
        let gate = Gate::new(1, 1);
        let Poll::Ready(Ok(first)) = poll_once(pin!(gate.enter(Guest::default()))) else {
            panic!("must run")
        };
        let mut second = Box::pin(gate.enter(Guest::default()));
        assert!(poll_once(second.as_mut()).is_pending());
        let Poll::Ready(Err(busy)) = poll_once(pin!(gate.enter(Guest::default()))) else {
            panic!("must refuse")
        };
        assert_eq!(busy.waiting, 1);
        assert!(!gate.is_idle());
        drop(first);
        assert!(matches!(poll_once(second.as_mut()), Poll::Ready(Ok(_))));
    }

    #[test]
    fn a_call_that_gives_up_frees_its_place() {
        let gate = Gate::new(1, 1);
        let Poll::Ready(Ok(_first)) = poll_once(pin!(gate.enter(Guest::default()))) else {
            panic!("must run")
        };
        let mut second = Box::pin(gate.enter(Guest::default()));
        assert!(poll_once(second.as_mut()).is_pending());
        assert_eq!(gate.waiting(), 1);
        drop(second);
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn one_guest_has_half_of_the_places_and_others_have_the_rest() {
        let gate = Gate::new(2, 2);
        let guest = |name: &str| Guest { name: Some(name.to_owned()), keeper: false };
        let Poll::Ready(Ok(first)) = poll_once(pin!(gate.enter(guest("a")))) else {
            panic!("runs")
        };
        let Poll::Ready(Ok(_second)) = poll_once(pin!(gate.enter(guest("a")))) else {
            panic!("runs")
        };
        let Poll::Ready(Err(_)) = poll_once(pin!(gate.enter(guest("a")))) else {
            panic!("has half")
        };
        let mut other = Box::pin(gate.enter(guest("b")));
        assert!(poll_once(other.as_mut()).is_pending(), "it waits");
        drop(first);
        assert!(matches!(poll_once(other.as_mut()), Poll::Ready(Ok(_))));
        drop(other);
        let Poll::Ready(Ok(_)) = poll_once(pin!(gate.enter(guest("a")))) else {
            panic!("left one")
        };
        assert_eq!(gate.shares.lock().len(), 1, "who has none is forgotten");
    }

    #[test]
    fn a_place_is_kept_for_those_who_look_after_the_store() {
        let gate = Gate::new(1, 0);
        let keeper = || Guest { name: Some("operator".to_owned()), keeper: true };
        let Poll::Ready(Ok(_agent)) = poll_once(pin!(gate.enter(Guest::default()))) else {
            panic!("runs")
        };
        let Poll::Ready(Ok(kept)) = poll_once(pin!(gate.enter(keeper()))) else { panic!("runs") };
        assert!(matches!(poll_once(pin!(gate.enter(Guest::default()))), Poll::Ready(Err(_))));
        assert!(matches!(poll_once(pin!(gate.enter(keeper()))), Poll::Ready(Err(_))));
        drop(kept);
        assert!(!gate.is_idle());
    }
}
