//! The report of a round: the result of the job, and a file in `reports/`.

use std::path::Path;

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::Engine;
use llm_memory_engine::ids::Timestamp;
use serde::Serialize;

use super::state;
use super::step::{Step, Verdict};
use crate::exit::Exit;
use crate::jobs::job::{JobFailure, JobState, Routine};
use crate::jobs::result::Outcome;
use crate::metrics::history::FOLDER;

/// Reports of one round that are kept.
const KEEP: usize = 24;
const EXTENSION: &str = ".json";

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    routine: Routine,
    state: JobState,
    started_at: Timestamp,
    finished_at: Timestamp,
    /// The round in a sentence.
    summary: String,
    steps: Vec<Step>,
    /// The file, below the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<String>,
    /// Why there is no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    report_error: Option<String>,
}

impl Report {
    /// The report of `steps`.
    pub(super) fn of(
        routine: Routine,
        started_at: Timestamp,
        finished_at: Timestamp,
        steps: Vec<Step>,
    ) -> Self {
        let worst = steps.iter().map(|step| step.verdict).max().unwrap_or(Verdict::Ok);
        let lines: Vec<String> =
            steps.iter().map(|step| format!("{}: {}", step.name, short(&step.summary))).collect();
        let summary = format!("{} routine {}: {}", routine.as_str(), word(worst), lines.join("; "));
        Self {
            routine,
            state: state(worst),
            started_at,
            finished_at,
            summary,
            steps,
            report: None,
            report_error: None,
        }
    }

    /// Writes the file, and makes the report the outcome of the job.
    pub(super) fn outcome(mut self, engine: &Engine) -> Outcome {
        let name = self.file_name();
        self.report = Some(format!("{FOLDER}/{name}"));
        if let Err(error) = self.write(&**engine.disk(), engine.root(), &name) {
            tracing::warn!(%error, "the report of a routine could not be written");
            self.report = None;
            self.report_error = Some(error.to_string());
            self.state = self.state.max(JobState::Finding);
        }
        let failed: Vec<&str> = self
            .steps
            .iter()
            .filter(|step| step.verdict == Verdict::Failed)
            .map(|step| step.name)
            .collect();
        let error = (!failed.is_empty()).then(|| JobFailure {
            code: "incomplete".to_owned(),
            message: format!("these steps failed, see the result: {}", failed.join(", ")),
        });
        let (state, summary) = (self.state, self.summary.clone());
        let result = serde_json::to_value(self).unwrap_or_default();
        Outcome { state, error, ..Outcome::answered(Exit::Done, summary, result) }
    }

    /// `routine-daily-20261125T020000Z.json`; one more in the same second replaces it.
    fn file_name(&self) -> String {
        let moment: String = self.started_at.to_string().chars().take(19).collect();
        let moment = moment.replace(['-', ':'], "");
        format!("{}-{moment}Z{EXTENSION}", self.routine.label())
    }

    fn write(&self, disk: &dyn Disk, root: &Path, name: &str) -> Result<(), DiskError> {
        let folder = root.join(FOLDER);
        let path = folder.join(name);
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| DiskError::new("spell the report", &path, error.into()))?;
        disk.create_dir_all(&folder)?;
        disk.durable_write(&path, &bytes)?;
        let stem = format!("{}-", self.routine.label());
        // Names sort by time.
        let mut reports: Vec<String> = disk
            .list(&folder)?
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| name.starts_with(&stem) && name.ends_with(EXTENSION))
            .collect();
        reports.sort();
        let surplus = reports.len().saturating_sub(KEEP);
        for old in reports.iter().take(surplus) {
            disk.remove_file(&folder.join(old))?;
        }
        if surplus > 0 { disk.sync_dir(&folder) } else { Ok(()) }
    }
}

/// The beginning of what a step said; the step itself has all of it.
fn short(told: &str) -> String {
    const LONGEST: usize = 120;
    let mut shown: String = told.chars().take(LONGEST).collect();
    if shown.len() < told.len() {
        shown.push('…');
    }
    shown
}

const fn word(worst: Verdict) -> &'static str {
    match worst {
        Verdict::Ok => "done",
        Verdict::Finding => "done with findings",
        Verdict::Failed => "not done everywhere",
    }
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;
    use crate::jobs::routine::step::Done;

    fn report(second: i64) -> Report {
        let at = Timestamp::from_millis(second * 1000);
        let steps = vec![
            Step::of("cleanup", || Ok(Done::default().told("nothing to remove"))),
            Step::of("verify", || Ok(Done { finding: true, ..Done::default() }.told("damage"))),
        ];
        Report::of(Routine::Daily, at, at, steps)
    }

    #[test]
    fn the_worst_step_decides_and_every_step_is_told() {
        let report = report(0);
        assert_eq!(report.state, JobState::Finding);
        assert_eq!(
            report.summary,
            "daily routine done with findings: cleanup: nothing to remove; verify: damage"
        );
    }

    #[test]
    fn a_step_that_says_much_does_not_drown_the_others() {
        let long = Step::of("verify", || Ok(Done::default().told("x".repeat(500))));
        let last = Step::of("prune", || Ok(Done::default().told("nothing")));
        let at = Timestamp::from_millis(0);
        let report = Report::of(Routine::Weekly, at, at, vec![long, last]);
        assert!(report.summary.ends_with("x…; prune: nothing"), "{}", report.summary);
        assert!(report.summary.chars().count() < 200);
        assert_eq!(report.steps[0].summary.len(), 500);
    }

    #[test]
    fn only_the_newest_reports_of_a_round_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join(FOLDER).join("metrics-20260101.ndjson");
        for second in 0..i64::try_from(KEEP).unwrap() + 2 {
            let report = report(second);
            report.write(&OsDisk, folder.path(), &report.file_name()).unwrap();
            OsDisk.durable_write(&other, b"{}").unwrap();
        }
        let names: Vec<String> = OsDisk
            .list(&folder.path().join(FOLDER))
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names.len(), KEEP + 1, "{names:?}");
        assert!(names.contains(&"routine-daily-19700101T000025Z.json".to_owned()), "{names:?}");
        assert!(!names.contains(&"routine-daily-19700101T000001Z.json".to_owned()), "{names:?}");
    }
}
