//! The jobs of a serving process: opened with the store, run beside the calls, given the grace
//! period when it ends.

use std::sync::Arc;

use arc_swap::ArcSwap;
use llm_memory_disk::DiskError;
use llm_memory_engine::Engine;
use llm_memory_engine::progress::NoProgress;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Instruments;
use crate::config::Config;
use crate::jobs::{self, JobQueue, Limits, Runner};
use crate::mcp::Backstage;
use crate::store_status::StatusPage;

/// Opens the jobs of the data folder, which this process holds.
pub(super) fn open(config: &Config, instruments: &Instruments) -> Result<Arc<JobQueue>, DiskError> {
    let limits = Limits { max_pending: config.jobs.max_pending };
    let disk = Arc::clone(&instruments.disk);
    let queue = JobQueue::open(disk, &config.data_dir, limits, config.safe_mode)?;
    let metrics = Arc::clone(&instruments.metrics);
    queue.on_end(Box::new(move |job| metrics.job_ended(job.label(), job.state.as_str())));
    if let Err(error) = queue.settle() {
        // A full disk keeps nobody from reading.
        tracing::warn!(%error, "what the restart changed about jobs could not be kept");
    }
    Ok(Arc::new(queue))
}

/// What the protocol layer of a server gets.
pub(super) fn backstage(
    queue: &Arc<JobQueue>,
    config: &Config,
    instruments: &Instruments,
) -> Backstage {
    let status = StatusPage::new(
        Arc::clone(&instruments.board),
        Arc::clone(&instruments.maintained),
        Arc::clone(queue),
        config.video.clone(),
        Arc::clone(&instruments.disk),
        config.data_dir.clone(),
    );
    Backstage { jobs: Arc::clone(queue), status: Some(Arc::new(status)) }
}

/// The size above which routines compact a journal, as the configuration has it at the time.
pub(super) fn compact_over(config: Arc<ArcSwap<Config>>) -> Box<dyn Fn() -> u64 + Send + Sync> {
    Box::new(move || config.load().maintenance.auto_compact_mb << 20)
}

/// What runs the jobs.
pub(super) fn runner(
    engine: &Arc<Engine>,
    queue: &Arc<JobQueue>,
    instruments: &Instruments,
    compact_over: Box<dyn Fn() -> u64 + Send + Sync>,
) -> Arc<Runner> {
    Arc::new(Runner {
        engine: Arc::clone(engine),
        queue: Arc::clone(queue),
        observer: Arc::clone(&instruments.recorder) as _,
        compact_over,
        watcher: Arc::new(NoProgress),
    })
}

/// Starts the workers; they end after `cancel`, each with the job that it has begun.
pub(super) fn start(
    runner: &Arc<Runner>,
    workers: usize,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) {
    for _ in 0..workers {
        tasks.spawn(jobs::run(Arc::clone(runner), cancel.clone()));
    }
}
