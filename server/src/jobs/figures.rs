//! Jobs in figures: what waits, what runs, what was done lately.

use std::collections::BTreeMap;

use llm_memory_engine::ids::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::job::{Job, JobState};

const DAY_MS: i64 = 86_400_000;

/// Result of `jobs.status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobFigures {
    /// Jobs that wait for their turn.
    pub pending: u64,
    /// Jobs at work.
    pub running: u64,
    /// Jobs that did their work within the last 24 hours, whatever they found.
    pub done24h: u64,
    /// Of these, jobs that found something.
    pub findings24h: u64,
    /// Jobs that failed within the last 24 hours.
    pub failed24h: u64,
    /// Mean time from beginning to end of the jobs of the last 24 hours, milliseconds; absent when
    /// there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_processing_ms: Option<f64>,
    /// The same for people, or `no data`.
    pub mean_processing: String,
    /// When a job of each kind last succeeded; `routine-daily` and so on for routines.
    pub last_success: BTreeMap<String, Timestamp>,
}

impl JobFigures {
    /// The figures of `jobs` at the moment `now`.
    pub fn of<'a>(jobs: impl Iterator<Item = &'a Job>, now: Timestamp) -> Self {
        let mut figures = Self::default();
        let mut times: Vec<u64> = Vec::new();
        for job in jobs {
            let lately = job
                .finished_at
                .is_some_and(|end| now.as_millis().saturating_sub(end.as_millis()) <= DAY_MS);
            match job.state {
                JobState::Pending => figures.pending += 1,
                JobState::Running => figures.running += 1,
                JobState::Succeeded | JobState::Finding if lately => {
                    figures.done24h += 1;
                    figures.findings24h += u64::from(job.state == JobState::Finding);
                    times.extend(job.processing_ms());
                }
                JobState::Failed if lately => {
                    figures.failed24h += 1;
                    times.extend(job.processing_ms());
                }
                JobState::Succeeded
                | JobState::Finding
                | JobState::Failed
                | JobState::Cancelled => {}
            }
            if let (JobState::Succeeded, Some(end)) = (job.state, job.finished_at) {
                let last = figures.last_success.entry(job.label().to_owned()).or_insert(end);
                *last = end.max(*last);
            }
        }
        let total: u64 = times.iter().sum();
        figures.mean_processing_ms = (!times.is_empty()).then(|| total as f64 / times.len() as f64);
        figures.mean_processing = figures
            .mean_processing_ms
            .map_or_else(|| "no data".to_owned(), |millis| format!("{:.1} s", millis / 1e3));
        figures
    }
}

/// Jobs for tests.
#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;
    use crate::jobs::job::{JobArguments, JobId, JobKind};

    /// A job that took 2 s and ended at `end`.
    pub(crate) fn ended(kind: &str, state: JobState, end: Timestamp) -> Job {
        Job {
            id: JobId::generate(),
            kind: JobKind::ALL.into_iter().find(|known| known.as_str() == kind).unwrap(),
            arguments: JobArguments::default(),
            project: None,
            idempotency_key: None,
            requester: "test".to_owned(),
            state,
            revision: 2,
            created_at: Timestamp::from_millis(end.as_millis() - 5000),
            started_at: Some(Timestamp::from_millis(end.as_millis() - 2000)),
            finished_at: Some(end),
            attempts: 1,
            progress: None,
            summary: None,
            result: None,
            error: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::ended;
    use super::*;

    #[test]
    fn only_the_last_day_counts_and_the_last_success_is_remembered() {
        let now = Timestamp::from_millis(10 * DAY_MS);
        let hours_ago = |hours: i64| Timestamp::from_millis(now.as_millis() - hours * 3_600_000);
        let jobs = [
            ended("compact", JobState::Succeeded, hours_ago(1)),
            ended("verify", JobState::Finding, hours_ago(2)),
            ended("verify", JobState::Succeeded, hours_ago(30)),
            ended("prune", JobState::Failed, hours_ago(3)),
            Job { state: JobState::Pending, ..ended("prune", JobState::Failed, hours_ago(40)) },
        ];
        let figures = JobFigures::of(jobs.iter(), now);
        assert_eq!((figures.pending, figures.running), (1, 0));
        assert_eq!((figures.done24h, figures.findings24h, figures.failed24h), (2, 1, 1));
        assert_eq!(figures.mean_processing, "2.0 s");
        assert_eq!(figures.last_success.get("verify"), Some(&hours_ago(30)));
        assert!(!figures.last_success.contains_key("prune"));
    }

    #[test]
    fn without_jobs_there_is_no_data() {
        let figures = JobFigures::of(std::iter::empty(), Timestamp::from_millis(0));
        assert_eq!(figures.mean_processing, "no data");
        assert_eq!(figures.mean_processing_ms, None);
    }
}
