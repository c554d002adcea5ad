//! Bounds the engine calls that run and wait, so that a flood of requests is answered `busy`
//! instead of filling the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Too much is waiting already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    /// Calls waiting.
    pub(crate) waiting: usize,
    /// When to try again.
    pub(crate) retry_after_ms: u64,
}

/// Lets calls through, a bounded number at a time.
#[derive(Debug)]
pub(crate) struct Gate {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
    max_running: usize,
}

impl Gate {
    pub(crate) fn new(max_running: usize, max_waiting: usize) -> Self {
        let max_running = max_running.clamp(1, 1 << 16);
        Self {
            running: Arc::new(Semaphore::new(max_running)),
            waiting: AtomicUsize::new(0),
            max_waiting,
            max_running,
        }
    }

    /// A place among the running calls, after waiting for one if need be. Dropping the future
    /// gives the place in the queue back.
    pub(crate) async fn enter(&self) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.waiting);
        if waiting >= self.max_waiting {
            // Waiting calls are mostly fsync-bound writes: a full queue drains in about this.
            return Err(Busy { waiting, retry_after_ms: 250 });
        }
        // The semaphore is never closed; were it, no call could run any more.
        Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(|_closed| Busy { waiting, retry_after_ms: 1000 })
    }

    /// Waits until no call runs.
    pub(crate) async fn drained(&self) {
        let all = u32::try_from(self.max_running).unwrap_or(u32::MAX);
        // Waiting calls come first: the semaphore is fair.
        let _ = self.running.acquire_many(all).await;
    }

    /// Whether no call runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.available_permits() >= self.max_running
    }

    /// Calls that wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
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
        let Poll::Ready(Ok(first)) = poll_once(pin!(gate.enter())) else { panic!("must run") };
        let mut second = Box::pin(gate.enter());
        assert!(poll_once(second.as_mut()).is_pending());
        let Poll::Ready(Err(busy)) = poll_once(pin!(gate.enter())) else { panic!("must refuse") };
        assert_eq!(busy.waiting, 1);
        assert!(!gate.is_idle());
        drop(first);
        assert!(matches!(poll_once(second.as_mut()), Poll::Ready(Ok(_))));
    }

    #[test]
    fn a_call_that_gives_up_frees_its_place() {
        let gate = Gate::new(1, 1);
        let Poll::Ready(Ok(_first)) = poll_once(pin!(gate.enter())) else { panic!("must run") };
        let mut second = Box::pin(gate.enter());
        assert!(poll_once(second.as_mut()).is_pending());
        assert_eq!(gate.waiting(), 1);
        drop(second);
        assert_eq!(gate.waiting(), 0);
    }
}
