//! `storage-health`: journal verification, journal statistics and view verification in one
//! report, with what to think of them.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};
use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::ids::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::scope_flag;
use crate::args::Common;
use crate::cli::connect::{self, Backend, Target};
use crate::cli::error::CliError;
use crate::cli::printer::{Printer, tell};
use crate::cli::render::{float_text, render};
use crate::exit::Exit;
use crate::reports::by_scope::{count, documents, entries, unsound};
use crate::reports::finding::{self, Finding};

/// Integrity below which a warning is due.
const LOW_INTEGRITY: f64 = 0.99;

pub(super) fn command() -> Command {
    Command::new("storage-health")
        .about("Verify journal and views and report on both")
        .arg(scope_flag().default_value("all"))
        .arg(
            Arg::new("no-report")
                .long("no-report")
                .action(clap::ArgAction::SetTrue)
                .help("Do not keep the report in the data directory's reports folder"),
        )
        .args(connect::flags())
}

/// What the three checks said.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StorageReport {
    /// When.
    pub(super) timestamp: Timestamp,
    /// Which scopes.
    pub(super) scope: String,
    /// Who answered.
    pub(super) source: String,
    /// healthy, warning or critical.
    pub(super) status: &'static str,
    /// What is not as it should be.
    pub(super) findings: Vec<Finding>,
    /// Sound over checked records, all scopes together; absent when nothing was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) integrity_score: Option<f64>,
    /// `journal.verify`.
    pub(super) journal_verify: Value,
    /// `journal.stats`.
    pub(super) journal_stats: Value,
    /// `maintenance.verify`.
    pub(super) maintenance_verify: Value,
}

impl StorageReport {
    /// Asks the store.
    pub(super) fn collect(backend: &Backend, scope: &str) -> Result<Self, CliError> {
        let ask = |tool| backend.call_named(tool, json!({"scope": scope}));
        Ok(Self::of(
            scope,
            backend.describe(),
            ask("journal.verify")?,
            ask("journal.stats")?,
            ask("maintenance.verify")?,
        ))
    }

    fn of(scope: &str, source: String, verify: Value, stats: Value, views: Value) -> Self {
        let mut findings = Vec::new();
        let (mut checked, mut sound) = (0_u64, 0.0);
        for (name, document) in documents(&verify, scope, "checkedCount") {
            let corrupted = unsound(document);
            let records = count(document, "checkedCount");
            let integrity = document.get("integrityScore").and_then(Value::as_f64).unwrap_or(1.0);
            checked = checked.saturating_add(records);
            sound += integrity * records as f64;
            if corrupted > 0 {
                findings.push(Finding::critical(
                    "journal",
                    format!(
                        "{name}: {corrupted} damaged records in the journal; run \
                         `llm-memory recover --plan`"
                    ),
                ));
            } else if document.get("valid").and_then(Value::as_bool) == Some(false) {
                findings.push(Finding::critical(
                    "journal",
                    format!("{name}: the journal is not sound; run `llm-memory recover --plan`"),
                ));
            }
            if integrity < LOW_INTEGRITY {
                findings.push(Finding::warning(
                    "integrity",
                    format!("{name}: low integrity score {}", float_text(integrity)),
                ));
            }
        }
        for (name, document) in documents(&views, scope, "watermarks") {
            if document.get("ok").and_then(Value::as_bool) == Some(false) {
                // A rebuild mends no content.
                let damaged = documents(&verify, scope, "checkedCount")
                    .iter()
                    .any(|(other, journal)| *other == name && unsound(journal) > 0);
                let mends = if damaged { "recover --plan" } else { "maintenance.rebuild" };
                findings.push(Finding::warning(
                    "views",
                    format!(
                        "{name}: {} disagreements between views and journal; run `llm-memory \
                         {mends}`",
                        entries(document, "issues")
                    ),
                ));
            }
        }
        for (name, document) in documents(&stats, scope, "headSeq") {
            if document.get("migrationNeeded").and_then(Value::as_bool) == Some(true) {
                findings.push(Finding::info(
                    "journal",
                    format!(
                        "{name}: full-content records remain, which `llm-memory \
                         journal.migrate` moves into compressed blocks"
                    ),
                ));
            }
        }
        Self {
            timestamp: Timestamp::now(),
            scope: scope.to_owned(),
            source,
            status: finding::status(&findings),
            findings,
            integrity_score: (checked > 0).then(|| sound / checked as f64),
            journal_verify: verify,
            journal_stats: stats,
            maintenance_verify: views,
        }
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut out = format!("storage of {} ({}): {}\n", self.scope, self.source, self.status);
        for finding in &self.findings {
            out.push_str(&format!("{finding}\n"));
        }
        let integrity = self.integrity_score.map_or_else(|| "no data".to_owned(), float_text);
        out.push_str(&format!("integrity score  {integrity}\n"));
        for (title, document) in [
            ("journal.verify", &self.journal_verify),
            ("journal.stats", &self.journal_stats),
            ("maintenance.verify", &self.maintenance_verify),
        ] {
            out.push_str(&format!("\n{title}\n"));
            for line in render(document, crate::cli::printer::width()).lines() {
                out.push_str(&format!("  {line}\n"));
            }
        }
        out
    }
}

pub(super) fn run(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let target = Target::new(common, arguments)?;
    let scope = super::scope(arguments);
    let backend = target.open(false)?;
    let report = StorageReport::collect(&backend, &scope);
    let closed = backend.close();
    let report = report?;
    closed?;
    if !arguments.get_flag("no-report") && target.server.is_none() {
        match keep(&target.root, &report) {
            Ok(path) if !printer.is_json() => {
                tell(format_args!("report kept in {}", path.display()));
            }
            Ok(_) => {}
            Err(error) => tell(format_args!("warning: the report was not kept: {error}")),
        }
    }
    printer.either(&report, || report.text())?;
    Ok(finding::exit(&report.findings))
}

/// Writes the report beside earlier ones.
fn keep(root: &std::path::Path, report: &StorageReport) -> Result<PathBuf, CliError> {
    let stamp: String =
        report.timestamp.to_string().chars().filter(|letter| *letter != ':').collect();
    let folder = root.join("reports");
    OsDisk.create_dir_all(&folder)?;
    let path = folder.join(format!("storage-health-{stamp}.json"));
    let bytes = serde_json::to_vec_pretty(report).map_err(std::io::Error::from)?;
    OsDisk.durable_write(&path, &bytes)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verify: Value, views: Value) -> StorageReport {
        let stats = json!({"headSeq": 3, "migrationNeeded": false});
        StorageReport::of("global", "test".to_owned(), verify, stats, views)
    }

    fn sound() -> Value {
        json!({"valid": true, "checkedCount": 100, "integrityScore": 1.0, "corruptedItems": []})
    }

    #[test]
    fn a_sound_store_is_healthy() {
        let report = report(sound(), json!({"ok": true, "watermarks": {}, "issues": []}));
        assert_eq!((report.status, report.integrity_score), ("healthy", Some(1.0)));
    }

    #[test]
    fn corruption_is_critical_and_low_integrity_is_named() {
        let damaged = json!({"valid": false, "checkedCount": 100, "integrityScore": 0.97,
            "corruptedItems": [{"id": "a"}, {"id": "b"}, {"id": "c"}]});
        let report = report(damaged, json!({"ok": true, "watermarks": {}, "issues": []}));
        let text: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        assert_eq!(report.status, "critical");
        assert!(text[0].contains("global: 3 damaged records"), "{text:?}");
        assert!(text[1].contains("0.97"), "{text:?}");
    }

    #[test]
    fn views_that_disagree_are_a_warning_with_the_remedy() {
        let report =
            report(sound(), json!({"ok": false, "watermarks": {}, "issues": ["catalog behind"]}));
        assert_eq!(report.status, "warning");
        assert!(report.findings[0].message.contains("maintenance.rebuild"));
    }

    #[test]
    fn a_rebuild_is_not_the_remedy_for_damaged_contents() {
        let damaged = json!({"valid": false, "checkedCount": 100, "integrityScore": 0.99,
            "corruptedItems": [{"id": "a"}]});
        let views = json!({"ok": false, "watermarks": {}, "issues": ["item a: corrupt"]});
        let text: Vec<String> =
            report(damaged, views).findings.iter().map(ToString::to_string).collect();
        assert!(!text.iter().any(|finding| finding.contains("maintenance.rebuild")), "{text:?}");
    }

    #[test]
    fn nothing_checked_is_no_score() {
        let empty = json!({"valid": true, "checkedCount": 0, "integrityScore": null,
            "corruptedItems": []});
        let report = report(empty, json!({}));
        assert_eq!(report.integrity_score, None);
        assert!(report.text().contains("integrity score  no data"));
    }
}
