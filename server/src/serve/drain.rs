//! The end of serving: calls and maintenance get their time, then the store is closed.
//!
//! What still runs after its time keeps the store, and with it the folder's lock, until the process
//! ends: closing would let another process in beside it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use llm_memory_engine::Engine;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::RUNTIME_END;
use crate::answer::Failure;
use crate::jobs::JobQueue;
use crate::mcp::McpService;

/// What may be at work in the store.
pub(super) struct Work {
    service: McpService,
    /// Maintenance that nobody asked for by a call.
    pub(super) maintenance: TaskTracker,
}

impl Work {
    /// The calls of `service`, and no maintenance yet.
    pub(super) fn of(service: McpService) -> Self {
        Self { service, maintenance: TaskTracker::new() }
    }

    /// The service whose calls these are.
    pub(super) fn service(&self) -> McpService {
        self.service.clone()
    }

    /// The jobs that are done beside the calls.
    pub(super) fn jobs(&self) -> &Arc<JobQueue> {
        self.service.jobs()
    }

    /// Waits for the listener and for maintenance, both of which have been told to end.
    pub(super) async fn finish(
        &self,
        grace: Duration,
        listening: Option<&mut JoinHandle<io::Result<()>>>,
    ) {
        // The listener ends by itself within its own time; the margin is for a stuck one.
        let until = Instant::now() + grace + RUNTIME_END;
        if let Some(listening) = listening
            && timeout_at(until, &mut *listening).await.is_err()
        {
            tracing::warn!("calls still running after the grace period are abandoned");
            listening.abort();
        }
        self.maintenance.close();
        if timeout_at(until, self.maintenance.wait()).await.is_err() {
            tracing::warn!(
                "maintenance still runs after the grace period; a job among it runs again at the next start"
            );
        }
    }

    /// Whether nothing reads or writes the store any more.
    fn is_done(&self) -> bool {
        self.service.is_idle() && self.maintenance.is_empty()
    }
}

/// Closes the store, unless something is still at work in it; how that went, in a word.
pub(super) async fn close(engine: Arc<Engine>, work: &Work) -> Result<&'static str, Failure> {
    if !work.is_done() {
        tracing::warn!(
            "work that did not end in time keeps the store locked until this process ends; the \
             next start replays it"
        );
        return Ok("abandoned");
    }
    let closed = tokio::task::spawn_blocking(move || engine.close()).await;
    let reason = match closed {
        Ok(Ok(())) => {
            tracing::info!("stopped");
            return Ok("ok");
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(Failure::failed(format!("cannot close the store: {reason}")))
}
