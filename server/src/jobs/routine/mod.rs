//! The daily, weekly, monthly and quarterly rounds: steps one after another, each going on where
//! another failed, and a report of them all.

mod report;
mod step;
mod work;

use llm_memory_engine::ids::Timestamp;

use super::call::Calls;
use super::job::{JobState, Routine};
use super::operation::Interrupted;
use super::result::Outcome;
use report::Report;
use step::Step;
use work::Work;

/// What each round consists of, besides what the round before it does.
const fn added(routine: Routine) -> &'static [Work] {
    match routine {
        Routine::Daily => &[Work::Cleanup, Work::CompactGrown, Work::Prune],
        Routine::Weekly => &[Work::Verify],
        Routine::Monthly => &[Work::CompactAll, Work::RebuildVerify],
        Routine::Quarterly => &[Work::Statistics],
    }
}

/// Runs the round of the job of `calls`.
pub(super) fn perform(calls: &Calls<'_>, compact_over: u64) -> Result<Outcome, Interrupted> {
    // Checked when the job was submitted.
    let routine = calls.job.arguments.routine.unwrap_or(Routine::Daily);
    let begun = Timestamp::now();
    let mut steps: Vec<Step> = Vec::new();
    let rounds = Routine::ALL.into_iter().filter(|round| *round <= routine);
    for work in rounds.flat_map(added) {
        if calls.queue.is_stopping() {
            return Err(Interrupted);
        }
        steps.extend(work.run(calls, compact_over));
        if calls.are_interrupted() {
            return Err(Interrupted);
        }
    }
    let report = Report::of(routine, begun, Timestamp::now(), steps);
    Ok(report.outcome(calls.engine))
}

/// The state of a job whose worst step is this one.
const fn state(worst: step::Verdict) -> JobState {
    match worst {
        step::Verdict::Ok => JobState::Succeeded,
        step::Verdict::Finding => JobState::Finding,
        step::Verdict::Failed => JobState::Failed,
    }
}
