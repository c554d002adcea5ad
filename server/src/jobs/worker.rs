//! Runs jobs, one after another a worker, away from the threads that answer.
//!
//! A job that has begun is not cut short: maintenance is safe to stop at any point, but what it
//! has done would be done again. When the server stops, a routine ends after the step at work and
//! goes back to the queue; everything else has the server's grace period, and runs again after the
//! restart if that is not enough.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use llm_memory_engine::Engine;
use llm_memory_engine::progress::Progress;
use tokio_util::sync::CancellationToken;

use super::authority::Authority;
use super::call::Calls;
use super::job::{Job, JobId, JobState};
use super::operation::{self, Interrupted};
use super::queue::JobQueue;
use super::result::Outcome;
use crate::mcp::observe::Observe;

/// What running a job takes.
pub struct Runner {
    /// The store.
    pub engine: Arc<Engine>,
    /// Where jobs come from.
    pub queue: Arc<JobQueue>,
    /// Who is told of the calls that jobs make.
    pub observer: Arc<dyn Observe>,
    /// Journal bytes of a scope above which routines compact it.
    pub compact_over: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Who looks at the progress besides the queue.
    pub watcher: Arc<dyn Progress + Send + Sync>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Runner {
    /// Runs the job that waits for longest; blocks. `false` when there is none.
    fn run_next(&self) -> bool {
        self.queue.claim().is_some_and(|(job, authority)| {
            self.run(&job, &authority);
            true
        })
    }

    /// Runs this job, if it is pending; blocks.
    pub fn run_job(&self, id: &JobId) -> bool {
        self.queue.claim_job(id).is_some_and(|(job, authority)| {
            self.run(&job, &authority);
            true
        })
    }

    fn run(&self, job: &Job, authority: &Authority) {
        let (id, kind) = (job.id.as_str(), job.label());
        tracing::info!(job = id, kind, attempt = job.attempts, "job begun");
        // Ends the job also when the work panics.
        let mut ending = Ending { queue: &self.queue, job, outcome: None };
        let principal = authority.principal();
        let calls = Calls {
            engine: &self.engine,
            queue: &self.queue,
            observer: &*self.observer,
            watcher: &*self.watcher,
            principal: &principal,
            job,
            interrupted: AtomicBool::new(false),
        };
        ending.outcome = Some(operation::perform(&calls, (self.compact_over)()));
    }
}

struct Ending<'a> {
    queue: &'a JobQueue,
    job: &'a Job,
    outcome: Option<Result<Outcome, Interrupted>>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let (id, kind) = (self.job.id.as_str(), self.job.label());
        let outcome = match self.outcome.take() {
            Some(Ok(outcome)) => outcome,
            Some(Err(Interrupted)) => {
                tracing::info!(job = id, kind, "job put back: the server stops");
                self.queue.put_back(&self.job.id);
                return;
            }
            None => Outcome::failed("internal", "the job ended early, see the log".to_owned()),
        };
        let (state, summary) = (outcome.state, outcome.summary.clone());
        let error = outcome.error.as_ref().map(|error| error.message.clone());
        self.queue.finish(&self.job.id, outcome);
        if state == JobState::Succeeded {
            tracing::info!(job = id, kind, summary, "job done");
        } else {
            let state = state.as_str();
            tracing::warn!(job = id, kind, state, summary, error, "job done");
        }
    }
}

/// Runs jobs until `cancel`; one that has begun by then is waited for.
pub async fn run(runner: Arc<Runner>, cancel: CancellationToken) {
    let mut changes = runner.queue.subscribe();
    while !cancel.is_cancelled() {
        changes.mark_unchanged();
        let worker = Arc::clone(&runner);
        match tokio::task::spawn_blocking(move || worker.run_next()).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "a job ended early"),
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            _ = changes.changed() => {}
        }
    }
}
