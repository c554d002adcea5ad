//! How long jobs that ended are kept.

use std::collections::BTreeSet;

use llm_memory_engine::ids::Timestamp;

use super::job::{Job, JobId, JobState};

/// Jobs that ended and are kept.
const KEEP: usize = 200;
/// Days that they are kept.
const KEEP_DAYS: f64 = 30.0;

/// The jobs to forget. The last success of each kind stays, however old: what watches a quarterly
/// routine asks for it after a restart too.
pub(super) fn superfluous<'a>(jobs: impl Iterator<Item = &'a Job>, now: Timestamp) -> Vec<JobId> {
    let mut ended: Vec<&Job> = jobs.filter(|job| job.state.is_final()).collect();
    ended.sort_by_key(|job| std::cmp::Reverse((job.finished_at, job.id.clone())));
    let mut successes = BTreeSet::new();
    let mut superfluous = Vec::new();
    for (position, job) in ended.into_iter().enumerate() {
        let last_success = job.state == JobState::Succeeded && successes.insert(job.label());
        let old = job.finished_at.is_some_and(|end| now.days_since(end) > KEEP_DAYS);
        if (position >= KEEP || old) && !last_success {
            superfluous.push(job.id.clone());
        }
    }
    superfluous
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::figures::fixtures::ended;

    #[test]
    fn old_and_surplus_jobs_go_and_the_last_success_of_each_kind_stays() {
        let now = Timestamp::from_millis(100 * 86_400_000);
        let day = |days: i64| Timestamp::from_millis(days * 86_400_000);
        let old_success = ended("compact", JobState::Succeeded, day(1));
        let older_success = ended("compact", JobState::Succeeded, day(0));
        let old_failure = ended("verify", JobState::Failed, day(2));
        let mut jobs = vec![old_success.clone(), older_success.clone(), old_failure.clone()];
        jobs.extend((0..KEEP).map(|_| ended("verify", JobState::Failed, day(99))));
        let pending = Job { state: JobState::Pending, ..ended("prune", JobState::Failed, day(0)) };
        jobs.push(pending);
        let gone: BTreeSet<JobId> = superfluous(jobs.iter(), now).into_iter().collect();
        assert_eq!(gone, BTreeSet::from([older_success.id, old_failure.id]));
        jobs.push(ended("verify", JobState::Failed, day(98)));
        assert_eq!(superfluous(jobs.iter(), now).len(), 3, "one over the number kept");
        jobs.retain(|job| job.id != old_success.id);
        assert_eq!(superfluous(jobs.iter(), now).len(), 2);
    }
}
