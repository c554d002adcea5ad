//! `security analyze`: who did what, from the audit log.

use std::path::Path;

use clap::{Arg, ArgMatches, Command, value_parser};
use llm_memory_disk::OsDisk;
use serde::Serialize;

use super::logs::{NO_DATA, audit_since, limits};
use super::{local_files, since};
use crate::args::Common;
use crate::audit;
use crate::cli::error::CliError;
use crate::cli::printer::Printer;
use crate::exit::Exit;
use crate::reports::audit_lines::{Counts, Event, SecuritySummary};
use crate::reports::finding::{self, Finding};

/// Failed authentications of one address or subject that are worth a warning; the same number
/// locks an address out by default.
const MANY_FAILURES: u64 = 5;
/// Items read within an hour that are worth telling, in bulk reads.
const MANY_READS: u64 = 10;

pub(super) fn command() -> Command {
    Command::new("security").about("Security reviews").subcommand_required(true).subcommand(
        Command::new("analyze")
            .about("Review access from the audit log")
            .arg(super::since_flag())
            .arg(
                Arg::new("bulk-items")
                    .long("bulk-items")
                    .value_name("N")
                    .value_parser(value_parser!(u64).range(1..))
                    .default_value("100")
                    .help("Reads that answered at least so many items are bulk reads"),
            ),
    )
}

/// The review.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    status: &'static str,
    findings: Vec<Finding>,
    /// Absent when there is no audit log for the span.
    summary: Option<SecuritySummary>,
}

impl Review {
    fn of(summary: SecuritySummary) -> Self {
        let mut findings = Vec::new();
        review(&summary, &mut findings);
        Self { status: finding::status(&findings), findings, summary: Some(summary) }
    }

    /// A review of nothing. Quiet days are no finding; a log that was never kept is one.
    fn without_entries(folder: &Path, exists: bool) -> Self {
        let finding = if exists {
            Finding::info("audit", "no data: the audit log has no files of this span")
        } else {
            let folder = folder.display();
            Finding::warning(
                "audit",
                format!(
                    "no data: there is no audit log in {folder} (is --data-dir right, is \
                     audit.enabled off?)"
                ),
            )
        };
        Self { status: NO_DATA, findings: vec![finding], summary: None }
    }

    fn text(&self) -> String {
        let mut out = format!("security review: {}\n", self.status);
        for finding in &self.findings {
            out.push_str(&format!("{finding}\n"));
        }
        let Some(summary) = &self.summary else { return out };
        out.push_str(&format!("since {}\n", summary.since));
        for (title, counts) in [
            ("calls by subject", &summary.calls_by_subject),
            ("secrets redacted by subject", &summary.redactions),
            ("bulk reads by subject", &summary.bulk_reads),
            ("most items read in an hour by subject", &summary.items_read_in_an_hour),
            ("deletes by subject", &summary.deletes),
            ("maintenance calls by tool", &summary.maintenance_calls),
            ("calls denied by subject", &summary.denied_calls),
            ("authentication failures by subject", &summary.auth_failures),
            ("authentication failures by address", &summary.auth_failures_by_address),
        ] {
            out.push_str(&counts_text(title, counts));
        }
        out.push_str(&events_text("configuration changes", &summary.config_changes));
        out.push_str(&events_text("lockouts", &summary.lockouts));
        out
    }
}

fn review(summary: &SecuritySummary, findings: &mut Vec<Finding>) {
    for event in &summary.lockouts {
        findings.push(Finding::warning(
            "lockout",
            format!("{} was locked out at {}: {}", event.subject, event.ts, event.what),
        ));
    }
    for (who, counts) in
        [("address", &summary.auth_failures_by_address), ("subject", &summary.auth_failures)]
    {
        // A caller without a readable token has no subject; its address says who it was.
        let named = counts.iter().filter(|(name, _)| *name != "unknown");
        for (name, count) in named.filter(|(_, count)| **count >= MANY_FAILURES) {
            findings.push(Finding::warning(
                "authentication",
                format!("{count} failed authentications of {who} {name}"),
            ));
        }
    }
    for (subject, count) in &summary.denied_calls {
        findings.push(Finding::info(
            "denied",
            format!("{subject} was denied {count} calls it has no right to"),
        ));
    }
    for (subject, count) in &summary.bulk_reads {
        findings.push(Finding::info(
            "bulk reads",
            format!("{subject} made {count} reads of {} items or more", summary.bulk_read_items),
        ));
    }
    let many = summary.bulk_read_items.saturating_mul(MANY_READS);
    for (subject, items) in &summary.items_read_in_an_hour {
        if *items >= many {
            findings.push(Finding::info(
                "bulk reads",
                format!("{subject} read {items} items within an hour"),
            ));
        }
    }
    if summary.unreadable_lines > 0 {
        findings.push(Finding::warning(
            "audit",
            format!("{} lines of the audit log cannot be read", summary.unreadable_lines),
        ));
    }
}

fn counts_text(title: &str, counts: &Counts) -> String {
    if counts.is_empty() {
        return format!("{title}: none\n");
    }
    let mut out = format!("{title}:\n");
    let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    for (name, count) in sorted.into_iter().take(20) {
        out.push_str(&format!("  {name}  {count}\n"));
    }
    out
}

fn events_text(title: &str, events: &[Event]) -> String {
    if events.is_empty() {
        return format!("{title}: none\n");
    }
    let mut out = format!("{title}:\n");
    for event in events {
        out.push_str(&format!("  {}  {}  {}\n", event.ts, event.subject, event.what));
    }
    out
}

pub(super) fn run(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let Some(("analyze", arguments)) = arguments.subcommand() else { return Ok(Exit::Usage) };
    let target = local_files(common, arguments)?;
    let bulk = arguments.get_one::<u64>("bulk-items").copied().unwrap_or(100);
    let within = limits(since(arguments)?, f64::INFINITY, bulk);
    let audited = audit_since(&OsDisk, &target.root, within)?;
    let review = if audited.read > 0 {
        Review::of(audited.analysis.security())
    } else {
        Review::without_entries(&target.root.join(audit::FOLDER), audited.exists)
    };
    printer.either(&review, || review.text())?;
    Ok(finding::exit(&review.findings))
}

#[cfg(test)]
mod tests {
    use llm_memory_engine::ids::Timestamp;

    use super::*;
    use crate::audit::{Entry, Kind};
    use crate::reports::audit_lines::AuditAnalysis;

    fn review_of(entries: &[Entry]) -> Review {
        let mut analysis = AuditAnalysis::new(limits(Timestamp::default(), 1e9, 100));
        for entry in entries {
            analysis.line(&serde_json::to_vec(entry).unwrap());
        }
        Review::of(analysis.security())
    }

    #[test]
    fn quiet_days_are_healthy_and_no_log_is_a_finding() {
        assert_eq!(review_of(&[]).status, "healthy");
        let exit = |exists| {
            let nothing = Review::without_entries(Path::new("/data/audit"), exists);
            assert_eq!(nothing.status, "no data");
            finding::exit(&nothing.findings)
        };
        assert_eq!((exit(true), exit(false)), (Exit::Done, Exit::Finding));
    }

    #[test]
    fn many_pages_within_an_hour_are_told() {
        let mut page = Entry::new(Kind::Call, "ok");
        page.ts = Timestamp::from_millis(1_000);
        page.items = Some(90);
        let review = |pages| review_of(&vec![page.clone(); pages]).findings;
        assert!(review(11).is_empty());
        assert_eq!(review(12)[0].message, "unknown read 1080 items within an hour");
    }

    #[test]
    fn repeated_failures_and_lockouts_are_warnings() {
        let mut failure = Entry::new(Kind::AuthFailure, "invalid");
        failure.peer = Some("[::1]:4000".to_owned());
        let mut entries = vec![failure; 5];
        entries.push(Entry::new(Kind::Lockout, "locked"));
        let review = review_of(&entries);
        assert_eq!(review.status, "warning");
        let text = review.text();
        assert!(text.contains("5 failed authentications of address [::1]"), "{text}");
        assert!(text.contains("was locked out"), "{text}");
    }
}
