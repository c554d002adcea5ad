//! `health comprehensive`: the monitor, the storage report, the segment check, the jobs and the
//! system score in one report. A part that cannot be had says why; the others are reported all the
//! same.

use clap::{ArgMatches, Command};
use llm_memory_engine::ids::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{MonitorReport, keep_log, system};
use crate::args::Common;
use crate::cli::connect::Target;
use crate::cli::error::CliError;
use crate::cli::printer::{Printer, width};
use crate::cli::render::render;
use crate::commands::scope_flag;
use crate::commands::storage_health::StorageReport;
use crate::exit::Exit;
use crate::reports::by_scope::{documents, entries};
use crate::reports::finding;
use crate::reports::score::SystemScore;

pub(super) fn command() -> Command {
    Command::new("comprehensive")
        .about("Monitor, storage, segments, jobs and system score in one report")
        .arg(scope_flag().default_value("all"))
}

/// A part of the report, or why it is missing.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Section<T> {
    Had(T),
    Missing { missing: String },
}

impl<T> Section<T> {
    fn of(result: Result<T, CliError>) -> Self {
        match result {
            Ok(had) => Self::Had(had),
            Err(error) => Self::Missing { missing: error.to_string() },
        }
    }
}

#[derive(Debug, Serialize)]
struct Comprehensive {
    timestamp: Timestamp,
    status: &'static str,
    monitor: MonitorReport,
    storage: Section<StorageReport>,
    /// `segments.verify` over a tenth of the stored bodies.
    segments: Section<Value>,
    /// `jobs.status`.
    jobs: Section<Value>,
    system: SystemScore,
    /// Parts that this store has not, and why.
    #[serde(rename = "noData")]
    no_data: [(&'static str, &'static str); 1],
}

pub(super) fn run(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let target = Target::new(common, arguments)?;
    let (monitor, document) = MonitorReport::collect(&target, arguments);
    keep_log(&target, &monitor);
    let (storage, segments, jobs) = stored(&target, &crate::commands::scope(arguments));
    let system = system::collect(&target, &monitor.seen, document.as_ref());
    let exit = [
        finding::exit(&monitor.findings),
        match &storage {
            Section::Had(report) => finding::exit(&report.findings),
            Section::Missing { .. } => Exit::Finding,
        },
        match &segments {
            Section::Had(sample) if damaged(sample) => Exit::Failed,
            Section::Had(_) => Exit::Done,
            Section::Missing { .. } => Exit::Finding,
        },
        match &jobs {
            Section::Had(figures)
                if figures.get("failed24h").is_some_and(|failed| *failed != 0) =>
            {
                Exit::Finding
            }
            Section::Had(_) => Exit::Done,
            Section::Missing { .. } => Exit::Finding,
        },
        system::exit(&system),
    ]
    .into_iter()
    .max()
    .unwrap_or(Exit::Done);
    let status = match exit {
        Exit::Done => "healthy",
        Exit::Finding => "warning",
        Exit::Failed | Exit::Usage => "critical",
    };
    let report = Comprehensive {
        timestamp: Timestamp::now(),
        status,
        monitor,
        storage,
        segments,
        jobs,
        system,
        no_data: [("cluster", system::no_cluster())],
    };
    printer.either(&report, || text(&report))?;
    Ok(exit)
}

/// Share of the stored bodies that is read.
const SAMPLE: f64 = 0.1;

/// Storage, segments and jobs.
type Stored = (Section<StorageReport>, Section<Value>, Section<Value>);

/// The parts that ask the store.
fn stored(target: &Target, scope: &str) -> Stored {
    let backend = match target.open(false) {
        Ok(backend) => backend,
        Err(error) => {
            let missing = error.to_string();
            let value = || Section::Missing { missing: missing.clone() };
            return (Section::Missing { missing: missing.clone() }, value(), value());
        }
    };
    let storage = Section::of(StorageReport::collect(&backend, scope));
    let sample = json!({"scope": scope, "sample": SAMPLE});
    let segments = Section::of(backend.call_named("segments.verify", sample));
    let jobs = Section::of(backend.call_named("jobs.status", json!({})));
    match backend.close() {
        Ok(()) => (storage, segments, jobs),
        Err(error) => (Section::Missing { missing: error.to_string() }, segments, jobs),
    }
}

/// Whether a sample found a body that is not what it must be.
fn damaged(sample: &Value) -> bool {
    let scopes = documents(sample, "all", "checked");
    scopes.iter().any(|(_, document)| entries(document, "corruptedItems") > 0)
}

fn text(report: &Comprehensive) -> String {
    let mut out = format!("comprehensive health: {}\n\nmonitor\n", report.status);
    out.push_str(&report.monitor.text());
    out.push_str("\nstorage\n");
    match &report.storage {
        Section::Had(storage) => out.push_str(&storage.text()),
        Section::Missing { missing } => out.push_str(&format!("no data: {missing}\n")),
    }
    out.push_str("\nsegments (a tenth of the stored bodies)\n");
    match &report.segments {
        Section::Had(sample) => out.push_str(&render(sample, width())),
        Section::Missing { missing } => out.push_str(&format!("no data: {missing}\n")),
    }
    out.push_str("\njobs\n");
    match &report.jobs {
        Section::Had(figures) => out.push_str(&render(figures, width())),
        Section::Missing { missing } => out.push_str(&format!("no data: {missing}\n")),
    }
    out.push('\n');
    out.push_str(&report.system.text());
    for (part, why) in &report.no_data {
        out.push_str(&format!("{part}: no data ({why})\n"));
    }
    out
}
