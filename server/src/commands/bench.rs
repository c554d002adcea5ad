//! `bench`: runs queries and reports each one's duration, percentiles and the share that
//! succeeded; compares with an earlier run. No two of its questions are the same, so that none is
//! answered from the cache of answers; what that costs is told apart.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::ids::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{figure, scope_flag};
use crate::args::Common;
use crate::cli::connect::{self, Backend, Target};
use crate::cli::error::CliError;
use crate::cli::printer::{Printer, tell};
use crate::cli::render::float_text;
use crate::exit::Exit;
use crate::reports::latency::{Latency, round};

/// The operations manual's queries, used when none are given.
const QUERIES: [&str; 5] = [
    "memory management",
    "video encoding",
    "storage compression",
    "search performance",
    "typescript implementation",
];
/// Targets of the operations manual, milliseconds.
const TARGET_MEAN_MS: f64 = 100.0;
const TARGET_P95_MS: f64 = 200.0;
/// Longest answer asked for, characters: what the server answers by itself, and up to so many more
/// ([`LENGTHS`]) that each question is another one to the cache, and the same to the search.
const LENGTH: u64 = 40_000;
const LENGTHS: u64 = 900_000;

pub(super) fn command() -> Command {
    Command::new("bench")
        .about("Measure how long queries take")
        .arg(
            Arg::new("iterations")
                .long("iterations")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=1_000_000))
                .default_value("50")
                .help("Queries to run"),
        )
        .arg(scope_flag().help("Scope to search [default: project with --project, else global]"))
        .arg(
            Arg::new("k")
                .long("k")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=200))
                .default_value("20")
                .help("Hits to ask for"),
        )
        .arg(
            Arg::new("query")
                .long("query")
                .value_name("WORDS")
                .action(ArgAction::Append)
                .help("Words to look for; repeat for several, asked in turn"),
        )
        .arg(
            Arg::new("save")
                .long("save")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Also write the JSON result to FILE"),
        )
        .arg(
            Arg::new("compare")
                .long("compare")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Compare with an earlier result"),
        )
        .arg(
            Arg::new("max-regression-percent")
                .long("max-regression-percent")
                .value_name("PERCENT")
                .value_parser(figure)
                .default_value("25")
                .help("p95 may be this much above the earlier result before it is a finding"),
        )
        .args(connect::flags())
}

/// The result file. Names are the operations manual's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Document {
    benchmark: Benchmark,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Benchmark {
    timestamp: Timestamp,
    version: String,
    iterations: u32,
    scope: String,
    /// Hits asked for.
    k: u32,
    source: String,
    results: Vec<Measured>,
    summary: Summary,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

/// One query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Measured {
    iteration: u32,
    query: String,
    duration_ms: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result_count: Option<u64>,
    /// Answered from the cache, and therefore no measure of a search.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Summary {
    /// Mean of the queries that succeeded; absent when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    avg_duration_ms: Option<f64>,
    /// Percent.
    success_rate: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
    /// The same questions once more, answered from the cache; absent where nothing is cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cached: Option<Latency>,
    targets: Vec<TargetMet>,
}

/// A figure against its target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct TargetMet {
    name: String,
    target_ms: f64,
    measured_ms: f64,
    met: bool,
}

/// This run against an earlier one; positive is slower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Comparison {
    earlier: Timestamp,
    mean_change_percent: f64,
    p95_change_percent: f64,
    success_rate_change: f64,
    regressed: bool,
}

impl Summary {
    fn of(results: &[Measured], repeated: &[Measured]) -> Self {
        let millis = |results: &[Measured], cached: bool| -> Vec<f64> {
            let counts = |r: &&Measured| r.error.is_none() && r.cached == cached;
            results.iter().filter(counts).map(|result| result.duration_ms).collect()
        };
        let succeeded = results.iter().filter(|result| result.error.is_none()).count();
        let latency = Latency::of(&millis(results, false));
        let targets = latency.as_ref().map_or_else(Vec::new, |latency| {
            [("mean", TARGET_MEAN_MS, latency.mean_ms), ("p95", TARGET_P95_MS, latency.p95_ms)]
                .map(|(name, target_ms, measured_ms)| TargetMet {
                    name: name.to_owned(),
                    target_ms,
                    measured_ms,
                    met: measured_ms < target_ms,
                })
                .to_vec()
        });
        Self {
            avg_duration_ms: latency.as_ref().map(|latency| latency.mean_ms),
            success_rate: if results.is_empty() {
                0.0
            } else {
                round(100.0 * succeeded as f64 / results.len() as f64)
            },
            latency,
            cached: Latency::of(&millis(repeated, true)),
            targets,
        }
    }
}

impl Comparison {
    /// `None` when one of the runs measured nothing.
    fn of(now: &Summary, earlier: &Benchmark, max_regression_percent: f64) -> Option<Self> {
        let (new, old) = (now.latency.as_ref()?, earlier.summary.latency.as_ref()?);
        let change = |new: f64, old: f64| {
            if old > 0.0 { round((new - old) / old * 100.0) } else { 0.0 }
        };
        let p95_change_percent = change(new.p95_ms, old.p95_ms);
        Some(Self {
            earlier: earlier.timestamp,
            mean_change_percent: change(new.mean_ms, old.mean_ms),
            p95_change_percent,
            success_rate_change: round(now.success_rate - earlier.summary.success_rate),
            regressed: p95_change_percent > max_regression_percent,
        })
    }
}

impl Benchmark {
    fn exit(&self) -> Exit {
        let regressed = self.comparison.as_ref().is_some_and(|comparison| comparison.regressed);
        if self.summary.latency.is_none() {
            Exit::Failed
        } else if regressed
            || self.summary.success_rate < 100.0
            || self.summary.targets.iter().any(|target| !target.met)
        {
            Exit::Finding
        } else {
            Exit::Done
        }
    }

    fn text(&self) -> String {
        let mut out = format!(
            "{} queries in scope {} ({}), success rate {} %\n",
            self.iterations,
            self.scope,
            self.source,
            float_text(self.summary.success_rate)
        );
        match &self.summary.latency {
            None => out.push_str("no query succeeded: no durations\n"),
            Some(latency) => out.push_str(&format!(
                "mean {} ms, p50 {} ms, p95 {} ms, p99 {} ms, fastest {} ms, slowest {} ms\n",
                float_text(latency.mean_ms),
                float_text(latency.p50_ms),
                float_text(latency.p95_ms),
                float_text(latency.p99_ms),
                float_text(latency.min_ms),
                float_text(latency.max_ms),
            )),
        }
        if let Some(cached) = &self.summary.cached {
            out.push_str(&format!(
                "asked again, from the cache: mean {} ms\n",
                float_text(cached.mean_ms)
            ));
        }
        if self.results.iter().all(|result| result.result_count.unwrap_or(0) == 0) {
            out.push_str("nothing was found: give words of this store (--query)\n");
        }
        for target in &self.summary.targets {
            let word = if target.met { "met" } else { "missed" };
            out.push_str(&format!("target {} < {} ms: {word}\n", target.name, target.target_ms));
        }
        if let Some(comparison) = &self.comparison {
            out.push_str(&format!(
                "against {}: mean {:+.1} %, p95 {:+.1} %{}\n",
                comparison.earlier,
                comparison.mean_change_percent,
                comparison.p95_change_percent,
                if comparison.regressed { " (slower than allowed)" } else { "" }
            ));
        }
        if let Some(error) = self.results.iter().find_map(|result| result.error.as_ref()) {
            out.push_str(&format!("first failure: {error}\n"));
        }
        out
    }
}

pub(super) fn run(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    // An unreadable earlier result is found before the work, not after it.
    let earlier = match arguments.get_one::<PathBuf>("compare") {
        Some(path) => Some(read(path)?.benchmark),
        None => None,
    };
    let target = Target::new(common, arguments)?;
    let scope = arguments
        .get_one::<String>("scope")
        .cloned()
        .unwrap_or_else(|| if target.project.is_some() { "project" } else { "global" }.to_owned());
    let queries = queries(arguments);
    let k = arguments.get_one::<u32>("k").copied().unwrap_or(20);
    if let Some(earlier) = &earlier {
        comparable(earlier, &scope, k, &queries)?;
    }
    let backend = target.open(false)?;
    let asked = Asked { scope: &scope, k, begun: Timestamp::now() };
    let results = measure(&backend, &asked, &queries, iterations(arguments));
    let repeated = repeat(&backend, &asked, &results);
    let source = backend.describe();
    backend.close()?;

    let summary = Summary::of(&results, &repeated);
    let allowed = arguments.get_one::<f64>("max-regression-percent").copied().unwrap_or(25.0);
    let comparison =
        earlier.as_ref().and_then(|earlier| Comparison::of(&summary, earlier, allowed));
    let document = Document {
        benchmark: Benchmark {
            timestamp: Timestamp::now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            iterations: iterations(arguments),
            scope,
            k,
            source,
            results,
            summary,
            comparison,
        },
    };
    if let Some(path) = arguments.get_one::<PathBuf>("save") {
        let bytes = serde_json::to_vec_pretty(&document).map_err(std::io::Error::from)?;
        OsDisk.durable_write(path, &bytes)?;
        tell(format_args!("result written to {}", path.display()));
    }
    printer.either(&document, || document.benchmark.text())?;
    Ok(document.benchmark.exit())
}

fn iterations(arguments: &ArgMatches) -> u32 {
    arguments.get_one::<u32>("iterations").copied().unwrap_or(50)
}

/// The queries to ask in turn; a short run does not come to all of them.
fn queries(arguments: &ArgMatches) -> Vec<&str> {
    let given: Vec<&str> =
        arguments.get_many::<String>("query").into_iter().flatten().map(String::as_str).collect();
    let mut queries = if given.is_empty() { QUERIES.to_vec() } else { given };
    queries.truncate(iterations(arguments) as usize);
    queries
}

/// Refuses to compare what was measured over something else.
fn comparable(earlier: &Benchmark, scope: &str, k: u32, queries: &[&str]) -> Result<(), CliError> {
    let before: BTreeSet<&str> = earlier.results.iter().map(|r| r.query.as_str()).collect();
    let differs = |what: &str, before: &str, now: &str| {
        let message = format!(
            "--compare: the earlier result is of other {what} ({before}, now {now}): measure the \
             same, or save a new result"
        );
        Err(CliError::Usage { message })
    };
    if earlier.scope != scope {
        return differs("scopes", &earlier.scope, scope);
    }
    if earlier.k != k {
        return differs("values of --k", &earlier.k.to_string(), &k.to_string());
    }
    let now: BTreeSet<&str> = queries.iter().copied().collect();
    if before != now {
        let list = |all: &BTreeSet<&str>| all.iter().copied().collect::<Vec<_>>().join(", ");
        return differs("queries", &list(&before), &list(&now));
    }
    Ok(())
}

/// What every question of a run has in common.
struct Asked<'a> {
    scope: &'a str,
    k: u32,
    begun: Timestamp,
}

impl Asked<'_> {
    /// Asks the question of `iteration`.
    fn ask(&self, backend: &Backend, iteration: u32, query: &str) -> Measured {
        let begun = self.begun.as_millis().unsigned_abs();
        let length = LENGTH + begun.wrapping_add(u64::from(iteration)) % LENGTHS;
        let started = Instant::now();
        let answer = backend.call_named(
            "memory.query",
            json!({"q": query, "scope": self.scope, "k": self.k, "maxChars": length}),
        );
        let duration_ms = round(started.elapsed().as_secs_f64() * 1000.0);
        let (result_count, cached, error) = match answer {
            Ok(answer) => {
                let cached = answer.get("cached").and_then(Value::as_bool).unwrap_or(false);
                (Some(crate::reports::by_scope::entries(&answer, "items")), cached, None)
            }
            Err(error) => (None, false, Some(error.to_string())),
        };
        let query = query.to_owned();
        Measured { iteration, query, duration_ms, result_count, cached, error }
    }
}

fn measure(
    backend: &Backend,
    asked: &Asked<'_>,
    queries: &[&str],
    iterations: u32,
) -> Vec<Measured> {
    let turns = (1..=iterations).zip(queries.iter().cycle());
    turns.map(|(iteration, query)| asked.ask(backend, iteration, query)).collect()
}

/// Asks the last questions of the run once more.
fn repeat(backend: &Backend, asked: &Asked<'_>, results: &[Measured]) -> Vec<Measured> {
    let last = results.iter().rev().take(QUERIES.len());
    last.map(|result| asked.ask(backend, result.iteration, &result.query)).collect()
}

fn read(path: &Path) -> Result<Document, CliError> {
    serde_json::from_slice(&OsDisk.read(path)?).map_err(|error| CliError::Document {
        what: path.display().to_string(),
        reason: format!("not a result of `llm-memory bench`: {error}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "the values are exact")]

    use super::*;

    fn measured(duration_ms: f64, error: Option<&str>) -> Measured {
        Measured {
            iteration: 1,
            query: "q".to_owned(),
            duration_ms,
            result_count: None,
            cached: false,
            error: error.map(str::to_owned),
        }
    }

    fn benchmark(results: Vec<Measured>) -> Benchmark {
        Benchmark {
            timestamp: Timestamp::default(),
            version: "0".to_owned(),
            iterations: 4,
            scope: "global".to_owned(),
            k: 20,
            source: "test".to_owned(),
            summary: Summary::of(&results, &[]),
            results,
            comparison: None,
        }
    }

    #[test]
    fn failures_count_against_the_success_rate_but_not_as_durations() {
        let run = benchmark(vec![
            measured(1.0, None),
            measured(3.0, None),
            measured(2.0, None),
            measured(900.0, Some("busy")),
        ]);
        assert_eq!(run.summary.success_rate, 75.0);
        assert_eq!(run.summary.avg_duration_ms, Some(2.0));
        assert_eq!(run.exit(), Exit::Finding);
        assert!(run.text().contains("first failure: busy"));
    }

    #[test]
    fn a_run_without_success_has_no_durations_and_fails() {
        let run = benchmark(vec![measured(5.0, Some("no"))]);
        assert_eq!((run.summary.latency.is_none(), run.exit()), (true, Exit::Failed));
    }

    #[test]
    fn a_slower_run_is_a_finding() {
        let earlier = benchmark(vec![measured(10.0, None)]);
        let mut now = benchmark(vec![measured(13.0, None)]);
        now.comparison = Comparison::of(&now.summary, &earlier, 25.0);
        assert_eq!(now.comparison.as_ref().unwrap().p95_change_percent, 30.0);
        assert_eq!(now.exit(), Exit::Finding);
        let allowed = Comparison::of(&now.summary, &earlier, 50.0).unwrap();
        assert!(!allowed.regressed);
    }

    #[test]
    fn answers_from_the_cache_are_told_apart() {
        let cached = |duration_ms| Measured { cached: true, ..measured(duration_ms, None) };
        let summary = Summary::of(&[measured(4.0, None), cached(0.1)], &[cached(0.2)]);
        assert_eq!((summary.success_rate, summary.avg_duration_ms), (100.0, Some(4.0)));
        assert_eq!(summary.cached.unwrap().mean_ms, 0.2);
    }

    #[test]
    fn only_the_same_questions_are_compared() {
        let earlier = benchmark(vec![measured(10.0, None)]);
        let with = |scope, k, queries: &[&str]| comparable(&earlier, scope, k, queries);
        with("global", 20, &["q"]).unwrap();
        for (other, what) in [
            (with("local", 20, &["q"]), "other scopes (global, now local)"),
            (with("global", 5, &["q"]), "other values of --k"),
            (with("global", 20, &["p"]), "other queries (q, now p)"),
        ] {
            let message = other.unwrap_err().to_string();
            assert!(message.contains(what), "{message}");
        }
    }

    #[test]
    fn results_survive_a_round_trip() {
        let document = Document { benchmark: benchmark(vec![measured(1.0, None)]) };
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document);
    }
}
