//! `logs analyze`: the server's log and its audit log over a span of time: levels, top errors,
//! failed tools, slow calls.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::ids::Timestamp;
use serde::Serialize;

use super::{figure, lines, local_files, since};
use crate::args::Common;
use crate::cli::error::CliError;
use crate::cli::printer::Printer;
use crate::cli::render::float_text;
use crate::exit::Exit;
use crate::reports::audit_lines::{AuditAnalysis, CallSummary, Limits};
use crate::reports::log_lines::{LogAnalysis, LogSummary};
use crate::{audit, telemetry};

pub(super) fn command() -> Command {
    Command::new("logs").about("The server's logs").subcommand_required(true).subcommand(
        Command::new("analyze")
            .about("Count events by level, list top errors, failed tools and slow calls")
            .arg(super::since_flag())
            .arg(
                Arg::new("slow-ms")
                    .long("slow-ms")
                    .value_name("MS")
                    .value_parser(figure)
                    .default_value("1000")
                    .help("Calls that took at least so long are listed"),
            )
            .arg(
                Arg::new("file")
                    .long("file")
                    .value_name("FILE")
                    .value_parser(value_parser!(PathBuf))
                    .help("Analyze this log file instead of the data folder's logs"),
            ),
    )
}

const HEALTHY: &str = "healthy";
const NO_AUDIT: &str = "no audit log";
/// Nothing is known where nothing was kept, or where the wrong folder was named.
pub(super) const NO_DATA: &str = "no data";

/// What the logs say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogReport {
    /// From here on.
    since: Timestamp,
    /// Until now.
    until: Timestamp,
    /// healthy, warning, or "no data" where nothing was read.
    status: &'static str,
    #[serde(skip)]
    exit: Exit,
    /// Files read.
    files: usize,
    /// The server's log; absent when there is none.
    log: Option<LogSummary>,
    /// Calls by the audit log; absent when there is none.
    calls: Option<CallSummary>,
    /// Why there are no calls.
    #[serde(skip)]
    no_calls: &'static str,
}

impl LogReport {
    /// Reads the logs of the data directory.
    pub(super) fn of_directory(
        disk: &dyn Disk,
        root: &Path,
        since: Timestamp,
        slow_ms: f64,
    ) -> Result<Self, CliError> {
        let logs = lines::files(
            disk,
            &root.join(telemetry::FOLDER),
            telemetry::STEM,
            telemetry::EXTENSION,
        )?;
        let audits = audit_since(disk, root, limits(since, slow_ms, u64::MAX))?;
        let log = log_summary(disk, &logs, since)?;
        let calls = (audits.read > 0).then(|| audits.analysis.calls());
        let (status, exit) = judge(log.as_ref(), calls.as_ref(), audits.exists);
        Ok(Self {
            since,
            until: Timestamp::now(),
            status,
            exit,
            files: logs.len().saturating_add(audits.read),
            log,
            calls,
            no_calls: if audits.exists {
                "the audit log has no files of this span"
            } else {
                NO_AUDIT
            },
        })
    }

    fn of_file(disk: &dyn Disk, file: &Path, since: Timestamp) -> Result<Self, CliError> {
        let log = log_summary(disk, &[file.to_path_buf()], since)?;
        let (status, exit) = judge(log.as_ref(), None, false);
        let (until, no_calls) = (Timestamp::now(), NO_AUDIT);
        Ok(Self { since, until, status, exit, files: 1, log, calls: None, no_calls })
    }

    /// Whether a person should look.
    pub(super) const fn exit(&self) -> Exit {
        self.exit
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut out =
            format!("logs since {} ({} files): {}\n", self.since, self.files, self.status);
        match &self.log {
            None => out.push_str("entries: no data (no log file)\n"),
            Some(log) => {
                out.push_str(&format!("entries: {}\n", log.total));
                for (level, share) in &log.levels {
                    out.push_str(&format!(
                        "  {level:5}  {} ({} %)\n",
                        share.count,
                        float_text(share.percent)
                    ));
                }
                if log.unreadable_lines > 0 {
                    out.push_str(&format!("  unreadable lines: {}\n", log.unreadable_lines));
                }
                for (title, list) in
                    [("top errors", &log.top_errors), ("top warnings", &log.top_warnings)]
                {
                    if !list.is_empty() {
                        out.push_str(&format!("{title}:\n"));
                    }
                    for entry in list {
                        out.push_str(&format!(
                            "  {} x {} (last {})\n",
                            entry.count, entry.message, entry.last
                        ));
                    }
                }
            }
        }
        match &self.calls {
            None => out.push_str(&format!("calls: no data ({})\n", self.no_calls)),
            Some(calls) => out.push_str(&calls_text(calls)),
        }
        out
    }
}

fn calls_text(calls: &CallSummary) -> String {
    let rate = calls
        .error_rate
        .map_or_else(|| "no data".to_owned(), |rate| format!("{} %", float_text(rate * 100.0)));
    let mut out = format!(
        "calls: {}, failed {}, of these {} faults of the server ({rate} of all calls)\n",
        calls.calls, calls.failed, calls.faults
    );
    if let Some(latency) = &calls.latency {
        out.push_str(&format!(
            "  mean {} ms, p95 {} ms, p99 {} ms\n",
            float_text(latency.mean_ms),
            float_text(latency.p95_ms),
            float_text(latency.p99_ms)
        ));
    }
    for tool in &calls.failed_tools {
        let reasons: Vec<String> =
            tool.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        out.push_str(&format!(
            "  failed: {} {} of {} ({})\n",
            tool.tool,
            tool.failed,
            tool.calls,
            reasons.join(", ")
        ));
    }
    if calls.slow_calls > 0 {
        out.push_str(&format!("slow calls: {}\n", calls.slow_calls));
    }
    for call in &calls.slowest {
        out.push_str(&format!(
            "  {}  {}  {} ms  {}\n",
            call.ts,
            call.tool,
            float_text(call.duration_ms),
            call.subject
        ));
    }
    out
}

pub(super) fn run(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let Some(("analyze", arguments)) = arguments.subcommand() else { return Ok(Exit::Usage) };
    let since = since(arguments)?;
    let slow_ms = arguments.get_one::<f64>("slow-ms").copied().unwrap_or(1000.0);
    let report = match arguments.get_one::<PathBuf>("file") {
        Some(file) => LogReport::of_file(&OsDisk, file, since)?,
        None => {
            let target = local_files(common, arguments)?;
            LogReport::of_directory(&OsDisk, &target.root, since, slow_ms)?
        }
    };
    printer.either(&report, || report.text())?;
    Ok(report.exit())
}

/// How it looks, and whether a person should. Quiet days are no finding; a log that was never kept
/// is one, and so is one that cannot be read.
fn judge(
    log: Option<&LogSummary>,
    calls: Option<&CallSummary>,
    audited: bool,
) -> (&'static str, Exit) {
    let sum = |of_log: fn(&LogSummary) -> u64, of_calls: fn(&CallSummary) -> u64| {
        log.map_or(0, of_log).saturating_add(calls.map_or(0, of_calls))
    };
    let read = sum(|log| log.total, |calls| calls.calls);
    let unreadable = sum(|log| log.unreadable_lines, |calls| calls.unreadable_lines);
    if log.is_some_and(|log| !log.top_errors.is_empty()) {
        ("warning", Exit::Finding)
    } else if read > 0 {
        (HEALTHY, Exit::Done)
    } else if unreadable > 0 || (log.is_none() && !audited) {
        (NO_DATA, Exit::Finding)
    } else {
        (NO_DATA, Exit::Done)
    }
}

fn log_summary(
    disk: &dyn Disk,
    files: &[PathBuf],
    since: Timestamp,
) -> Result<Option<LogSummary>, CliError> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut analysis = LogAnalysis::since(since);
    for file in files {
        lines::each(disk, file, &mut |line| analysis.line(line))?;
    }
    Ok(Some(analysis.summary()))
}

/// Limits of an analysis.
pub(super) fn limits(since: Timestamp, slow_ms: f64, bulk_items: u64) -> Limits {
    Limits { since, slow_ms, bulk_items }
}

/// What the audit log has of a span.
pub(super) struct Audited {
    /// Its entries.
    pub(super) analysis: AuditAnalysis,
    /// Files read.
    pub(super) read: usize,
    /// Whether there is a log at all, be it of earlier days.
    pub(super) exists: bool,
}

/// Reads the audit files that can hold entries within `limits`.
pub(super) fn audit_since(
    disk: &dyn Disk,
    root: &Path,
    limits: Limits,
) -> Result<Audited, CliError> {
    let mut analysis = AuditAnalysis::new(limits);
    let mut read = 0_usize;
    let files = lines::files(disk, &root.join(audit::FOLDER), audit::STEM, audit::EXTENSION)?;
    let exists = !files.is_empty();
    for file in files {
        // Files are cut by day; one of an earlier day ends before the span begins.
        let day = file
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| crate::sink::names::parse(name, audit::STEM, audit::EXTENSION));
        if day.is_some_and(|(day, _)| day < crate::sink::names::day_of(limits.since)) {
            continue;
        }
        read = read.saturating_add(1);
        lines::each(disk, &file, &mut |line| analysis.line(line))?;
    }
    Ok(Audited { analysis, read, exists })
}
