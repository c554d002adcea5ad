//! One figure for the state of a store, with the parts it is made of; pure.
//!
//! Each part scores 0 to 100. A share of something limited (memory, CPU, storage) scores 100 up to
//! its target and falls evenly to 0 at 100 % use. The overall score is the mean of the parts that
//! have data, as the server's own `health system` computes it; but a store that does not serve, is
//! damaged or takes no writes scores 0, whatever else is well.

use k8s_openapi::api::batch::v1::CronJob;
use llm_memory_crds::conditions;
use serde::Serialize;

use crate::commands::restart::is_ready;
use crate::commands::status::Observed;
use crate::commands::usage::{self, Usage, number};
use crate::exit::Exit;
use crate::printer;

/// Targets of the operations manual, percent.
const MEMORY_TARGET: f64 = 80.0;
const CPU_TARGET: f64 = 70.0;
const STORAGE_TARGET: f64 = 85.0;
/// From these scores on the state is good, or fair.
const GOOD: f64 = 90.0;
const FAIR: f64 = 70.0;

/// A store in one figure.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Score {
    pub(super) namespace: String,
    pub(super) name: String,
    /// 0 to 100; none when no part has data.
    pub(super) overall: Option<f64>,
    /// Good, Fair, Poor, or `no data`.
    pub(super) word: &'static str,
    pub(super) parts: Vec<Part>,
}

/// A part of the figure.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part {
    name: &'static str,
    /// 0 to 100; none without data.
    score: Option<f64>,
    /// What it is computed from, or why there is nothing.
    figure: String,
    /// At 0 the whole is at 0.
    vital: bool,
}

impl Part {
    fn share(name: &'static str, good: f64, figure: impl Into<String>) -> Self {
        let score = Some(one_decimal(100.0 * good.clamp(0.0, 1.0)));
        Self { name, score, figure: figure.into(), vital: false }
    }

    fn usage(name: &'static str, share: f64, target: f64) -> Self {
        let used = (share * 100.0).clamp(0.0, 100.0);
        let over = (used - target).max(0.0) / (100.0 - target);
        let figure = format!("{} % used (target under {target} %)", one_decimal(used));
        Self::share(name, 1.0 - over, figure)
    }

    fn no_data(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, score: None, figure: why.into(), vital: false }
    }

    fn vital(self) -> Self {
        Self { vital: true, ..self }
    }
}

fn one_decimal(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

impl Score {
    /// The score of a store.
    pub(super) fn of(observed: &Observed, usage: Option<&Usage>) -> Self {
        let parts = vec![
            pods(observed).vital(),
            service(observed).vital(),
            limited("memory", observed, usage.map(|it| it.memory), MEMORY_TARGET),
            limited("cpu", observed, usage.map(|it| it.cpu), CPU_TARGET),
            storage(observed).vital(),
            integrity(observed).vital(),
            routines(observed),
            Part::no_data("frequency alignment", "the store holds no personas"),
        ];
        let scores: Vec<f64> = parts.iter().filter_map(|part| part.score).collect();
        let dead = parts.iter().any(|part| part.vital && part.score == Some(0.0));
        let overall = match scores.len() {
            0 => None,
            _ if dead => Some(0.0),
            count => Some(one_decimal(scores.iter().sum::<f64>() / count as f64)),
        };
        let word = match overall {
            Some(score) if score >= GOOD => "Good",
            Some(score) if score >= FAIR => "Fair",
            Some(_) => "Poor",
            None => "no data",
        };
        let metadata = &observed.store.metadata;
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            overall,
            word,
            parts,
        }
    }

    /// How a command that found this ends.
    pub(super) fn exit(&self) -> Exit {
        match self.overall {
            Some(score) if score >= GOOD => Exit::Done,
            Some(score) if score >= FAIR => Exit::Finding,
            Some(_) => Exit::Failed,
            None => Exit::Finding,
        }
    }

    /// The overall score for people.
    pub(super) fn overall_text(&self) -> String {
        percent(self.overall)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let row =
            |part: &Part| vec![part.name.to_owned(), percent(part.score), part.figure.clone()];
        let table =
            printer::table(&["PART", "SCORE", "FIGURE"], self.parts.iter().map(row).collect());
        let (namespace, name) = (&self.namespace, &self.name);
        let overall = self.overall_text();
        format!("memorystore {namespace}/{name}: {overall} ({})\n\n{table}\n", self.word)
    }

    /// The part that does worst, unless all are well.
    pub(super) fn worst(&self) -> Option<String> {
        let scored = self.parts.iter().filter_map(|part| Some((part.score?, part)));
        let (score, part) = scored.min_by(|one, other| one.0.total_cmp(&other.0))?;
        (score < GOOD).then(|| format!("{}: {}", part.name, part.figure))
    }
}

fn percent(score: Option<f64>) -> String {
    score.map_or_else(|| "no data".to_owned(), |score| format!("{score} %"))
}

fn pods(observed: &Observed) -> Part {
    const NAME: &str = "pods";
    let desired = observed.store.spec.replicas;
    if let Some(why) = observed.unreadable.get("pod") {
        return Part::no_data(NAME, why);
    }
    if desired == 0 {
        return Part::no_data(NAME, "none desired: the store is hibernated");
    }
    let ready = i32::from(observed.pod.as_ref().is_some_and(is_ready));
    Part::share(NAME, f64::from(ready) / f64::from(desired), format!("{ready} of {desired} ready"))
}

fn service(observed: &Observed) -> Part {
    const NAME: &str = "service";
    match observed.condition(conditions::READY) {
        None => Part::no_data(NAME, "the operator has not looked at it yet"),
        Some(ready) if ready.status == "True" => Part::share(NAME, 1.0, &*ready.message),
        Some(ready) if ready.reason == conditions::ready::HIBERNATED => {
            Part::no_data(NAME, &*ready.message)
        }
        Some(ready) => Part::share(NAME, 0.0, format!("{}: {}", ready.reason, ready.message)),
    }
}

fn limited(name: &'static str, observed: &Observed, used: Option<f64>, target: f64) -> Part {
    let Some(pod) = &observed.pod else { return Part::no_data(name, "there is no pod") };
    let Some(limit) = number(&usage::resources(pod), true, name).filter(|limit| *limit > 0.0)
    else {
        return Part::no_data(name, format!("no limit is set: spec.resources.limits.{name}"));
    };
    used.map_or_else(
        || Part::no_data(name, "the cluster has no metrics API, or no sample of the pod yet"),
        |used| Part::usage(name, used / limit, target),
    )
}

fn storage(observed: &Observed) -> Part {
    const NAME: &str = "storage";
    let fails = observed
        .condition(conditions::STORAGE_HEALTHY)
        .filter(|it| it.status == "False" && it.reason == conditions::storage::WRITES_FAIL);
    if let Some(fails) = fails {
        return Part::share(NAME, 0.0, &*fails.message);
    }
    observed.used_share().map_or_else(
        || Part::no_data(NAME, "the server has not reported what it uses"),
        |share| Part::usage(NAME, share, STORAGE_TARGET),
    )
}

fn integrity(observed: &Observed) -> Part {
    const NAME: &str = "integrity";
    let status = observed.store.status.as_ref();
    match status.and_then(|status| status.last_verification.as_ref()) {
        None => Part::no_data(NAME, "never verified: `kubectl memory verify` does"),
        Some(last) => Part::share(NAME, if last.intact { 1.0 } else { 0.0 }, &*last.message),
    }
}

/// How many of the routines that were due have ended well the last time.
fn routines(observed: &Observed) -> Part {
    const NAME: &str = "routines";
    if let Some(why) = observed.unreadable.get("cronJobs") {
        return Part::no_data(NAME, why);
    }
    let due: Vec<bool> = observed.cron_jobs.iter().filter_map(ended_well).collect();
    if due.is_empty() {
        return Part::no_data(NAME, "none has run yet");
    }
    let well = due.iter().filter(|well| **well).count();
    let figure = format!("{well} of {} ended well the last time", due.len());
    Part::share(NAME, well as f64 / due.len() as f64, figure)
}

/// Whether the last run ended well; none before the first one has ended.
fn ended_well(routine: &CronJob) -> Option<bool> {
    let status = routine.status.as_ref()?;
    let begun = status.last_schedule_time.as_ref()?.0;
    let succeeded = status.last_successful_time.as_ref().is_some_and(|at| at.0 >= begun);
    let running = status.active.as_ref().is_some_and(|active| !active.is_empty());
    (succeeded || !running).then_some(succeeded)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the values are exact")]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;
    use crate::fixtures::{self, observed};

    fn usage() -> Usage {
        Usage { cpu: 0.1, memory: 900.0 * 1024.0 * 1024.0 }
    }

    #[test]
    fn a_store_that_is_well_shows_its_figures() {
        let mut observed = observed();
        observed.cron_jobs = vec![fixtures::cron_job()];
        let score = Score::of(&observed, Some(&usage()));
        assert_eq!(score.exit(), Exit::Done);
        assert_eq!(score.worst().unwrap(), "memory: 87.9 % used (target under 80 %)");
        insta::assert_snapshot!(score.text());
    }

    #[test]
    fn a_store_that_takes_no_writes_is_worth_nothing() {
        let mut observed = observed();
        let store = &mut observed.store;
        fixtures::condition(store, "StorageHealthy", "False", "WritesFail", "no space left");
        let score = Score::of(&observed, None);
        assert_eq!((score.overall, score.exit()), (Some(0.0), Exit::Failed));
        assert_eq!(score.worst().unwrap(), "storage: no space left");
    }

    #[test]
    fn damage_and_a_pod_that_is_not_ready_are_worth_nothing() {
        let mut damaged = observed();
        damaged.store.status.as_mut().unwrap().last_verification.as_mut().unwrap().intact = false;
        assert_eq!(Score::of(&damaged, None).overall, Some(0.0));
        let mut gone = observed();
        gone.pod = None;
        assert_eq!(Score::of(&gone, None).overall, Some(0.0));
    }

    #[test]
    fn a_routine_that_runs_counts_when_it_has_ended() {
        let mut routine = fixtures::cron_job();
        assert_eq!(ended_well(&routine), Some(true));
        let status = routine.status.as_mut().unwrap();
        status.last_successful_time = None;
        assert_eq!(ended_well(&routine), Some(false));
        routine.status.as_mut().unwrap().active = Some(vec![ObjectReference::default()]);
        assert_eq!(ended_well(&routine), None);
    }

    #[test]
    fn a_hibernated_store_has_no_score_for_what_it_does_not_run() {
        let mut observed = observed();
        observed.store.spec.replicas = 0;
        observed.pod = None;
        fixtures::condition(&mut observed.store, "Ready", "False", "Hibernated", "asleep");
        let score = Score::of(&observed, None);
        assert_eq!((score.overall, score.word), (Some(100.0), "Good"), "{score:?}");
    }
}
