//! A job without a server: done by this process, in the folder, and kept among the others.

use std::sync::Arc;

use llm_memory_disk::OsDisk;

use super::order::Order;
use crate::cli::connect::{Backend, Target};
use crate::cli::error::CliError;
use crate::cli::printer::{TerminalProgress, tell};
use crate::jobs::{Job, Runner};
use crate::maintained::Maintained;
use crate::metrics::Metrics;
use crate::observer::Recorder;
use crate::status::Board;
use crate::tools::ToolError;
use crate::verified::Verified;

/// Runs the job to its end.
pub(super) fn run(target: &Target, order: &Order) -> Result<Job, CliError> {
    let backend = target.open(false)?;
    let ended = in_folder(target, &backend, order);
    let closed = backend.close();
    let job = ended?;
    closed?;
    Ok(job)
}

fn in_folder(target: &Target, backend: &Backend, order: &Order) -> Result<Job, CliError> {
    let Backend::Directory { engine, jobs, principal, project, audit } = backend else {
        // A server has taken the folder in the meantime.
        return Err(CliError::Locked { root: target.root.clone() });
    };
    let submission = order.submission(project.clone())?;
    let (job, _) = jobs.submit(principal, submission).map_err(ToolError::from)?;
    let verified = Arc::new(Verified::load(&OsDisk, &target.root));
    let maintained = Arc::new(Maintained::load(&OsDisk, &target.root));
    // Nobody scrapes this process.
    let metrics = Arc::new(Metrics::new(Arc::new(Board::new(false))));
    let recorder =
        Recorder::new(audit.clone(), metrics, Arc::clone(&verified), Arc::clone(&maintained), 0);
    let progress = Arc::new(TerminalProgress::new());
    let compact_over = target.compact_over();
    let runner = Runner {
        engine: Arc::clone(engine),
        queue: Arc::clone(jobs),
        observer: Arc::new(recorder),
        compact_over: Box::new(move || compact_over),
        watcher: Arc::clone(&progress) as _,
    };
    runner.run_job(&job.id);
    progress.clear();
    for saved in [verified.save(&OsDisk, &target.root), maintained.save(&OsDisk, &target.root)] {
        if let Err(error) = saved {
            tell(format_args!("warning: what was found is not kept for reports: {error}"));
        }
    }
    Ok(jobs.get(principal, job.id.as_str()).map_err(ToolError::from)?)
}
