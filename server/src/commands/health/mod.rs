//! `health`: the monitor; `health system`: one score with its parts; `health comprehensive`:
//! everything in one report.

mod comprehensive;
mod probe;
mod system;

use std::path::Path;
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command};
use llm_memory_disk::{DiskError, OsDisk};
use llm_memory_engine::ids::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::args::Common;
use crate::cli::connect::{self, Target};
use crate::cli::error::CliError;
use crate::cli::printer::{Printer, tell};
use crate::commands::{figure, share};
use crate::exit::Exit;
use crate::reports::finding::{self, Finding};
use crate::reports::monitor::{self, Seen, Thresholds};
use crate::sink::rolling::{Policy, RollingFile};
use crate::telemetry;

/// The monitor's own log: `logs/health.log` in the data folder.
const LOG: Policy = Policy {
    stem: "health",
    extension: "log",
    dated: false,
    max_bytes: 8 << 20,
    keep_days: 30,
    max_total_bytes: 256 << 20,
};

pub(super) fn command() -> Command {
    Command::new("health")
        .about("Check service, latency, disk and error rate against thresholds")
        .args_conflicts_with_subcommands(true)
        .args(threshold_flags())
        .args(connect::flags())
        .subcommand(system::command())
        .subcommand(comprehensive::command().args(threshold_flags()))
}

fn threshold_flags() -> [Arg; 4] {
    let flag = |name: &'static str, value: &'static str, default: &'static str, help| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .value_parser(figure)
            .default_value(default)
            .help(help)
    };
    [
        flag("max-error-rate", "SHARE", "0.05", "Failed calls over all calls, 0 to 1")
            .value_parser(share),
        flag("max-latency-ms", "MS", "1000", "Time of a health request"),
        flag("max-disk-percent", "PERCENT", "85", "Used share of the data volume"),
        Arg::new("health-url").long("health-url").value_name("URL").help(
            "Health endpoint of the server [default: what the running server says of itself]",
        ),
    ]
}

fn thresholds(arguments: &ArgMatches) -> Thresholds {
    let given =
        |name: &str, default: f64| arguments.get_one::<f64>(name).copied().unwrap_or(default);
    let default = Thresholds::DEFAULT;
    Thresholds {
        max_error_rate: given("max-error-rate", default.max_error_rate),
        max_latency_ms: given("max-latency-ms", default.max_latency_ms),
        max_disk_percent: given("max-disk-percent", default.max_disk_percent),
    }
}

/// What the monitor found; also its log entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct MonitorReport {
    timestamp: Timestamp,
    status: &'static str,
    pub(super) findings: Vec<Finding>,
    thresholds: Thresholds,
    seen: Seen,
}

impl MonitorReport {
    /// The report, and what the server says of itself.
    fn collect(target: &Target, arguments: &ArgMatches) -> (Self, Option<Value>) {
        let thresholds = thresholds(arguments);
        let health_url = arguments.get_one::<String>("health-url").map(String::as_str);
        let (seen, document) = probe::seen(target, health_url, Timestamp::now());
        let findings = monitor::findings(&seen, &thresholds);
        let report = Self {
            timestamp: Timestamp::now(),
            status: finding::status(&findings),
            findings,
            thresholds,
            seen,
        };
        (report, document)
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for finding in &self.findings {
            out.push_str(&format!("{finding}\n"));
        }
        if self.findings.is_empty() {
            out.push_str("healthy\n");
        }
        let no_data = || "no data".to_owned();
        let service = &self.seen.service;
        let latency = service.latency_ms.map_or_else(no_data, |millis| format!("{millis:.1} ms"));
        let disk = self
            .seen
            .disk
            .as_ref()
            .map_or_else(no_data, |disk| format!("{:.1} %", disk.used_percent));
        let errors = self.seen.calls.as_ref().map_or_else(no_data, |calls| {
            let rate =
                calls.error_rate().map_or_else(no_data, |rate| format!("{:.2} %", rate * 100.0));
            format!("{rate} ({} of {} calls, {})", calls.failed, calls.calls, calls.window)
        });
        out.push_str(&format!("service        {}\n", service.detail));
        out.push_str(&format!("response time  {latency}\n"));
        out.push_str(&format!("disk usage     {disk}\n"));
        out.push_str(&format!("error rate     {errors}\n"));
        out
    }

    /// Adds the report to the monitor's log.
    fn log(&self, root: &Path) -> Result<(), DiskError> {
        let mut line = serde_json::to_vec(self)
            .map_err(|error| DiskError::new("spell the log entry of", root, error.into()))?;
        line.push(b'\n');
        let folder = root.join(telemetry::FOLDER);
        let mut file = RollingFile::open(Arc::new(OsDisk), &folder, LOG, self.timestamp)?;
        file.append(&line, self.timestamp)?;
        file.sync()
    }
}

pub(super) fn run(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    match arguments.subcommand() {
        Some(("system", arguments)) => return system::run(common, printer, arguments),
        Some((_, arguments)) => return comprehensive::run(common, printer, arguments),
        None => {}
    }
    let target = Target::new(common, arguments)?;
    let (report, _) = MonitorReport::collect(&target, arguments);
    keep_log(&target, &report);
    printer.either(&report, || report.text())?;
    Ok(finding::exit(&report.findings))
}

/// A report about a directory of this machine goes into its log; a full disk must not keep the
/// monitor from saying so.
fn keep_log(target: &Target, report: &MonitorReport) {
    if target.server.is_some() || !target.exists() {
        return;
    }
    if let Err(error) = report.log(&target.root) {
        tell(format_args!("warning: the log entry was not kept: {error}"));
    }
}
