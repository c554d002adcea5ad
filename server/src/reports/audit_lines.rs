//! What the audit log says over a span of time: calls and failures by tool, slow calls, and what
//! a security review asks about. The lines are the server's own (`audit.rs`); what cannot be read
//! is counted, never guessed.

use std::collections::BTreeMap;

use llm_memory_engine::ids::Timestamp;
use serde::Serialize;

use super::latency::{Latency, round};
use super::log_lines::percent;
use crate::audit::{Entry, Kind};
use crate::observer::is_server_fault;

/// Entries listed one by one.
const LISTED: usize = 20;
/// Durations kept for percentiles; enough for a day at ten calls a second.
const DURATIONS: usize = 1 << 20;
const HOUR_MS: i64 = 3_600_000;
/// Names kept apart; a flood of made-up names must not fill the memory.
const NAMES: usize = 10_000;

/// What counts as worth listing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Entries before this moment are left out.
    pub(crate) since: Timestamp,
    /// Calls that took at least so long are slow, milliseconds.
    pub(crate) slow_ms: f64,
    /// Reads that answered at least so many items are bulk reads.
    pub(crate) bulk_items: u64,
}

/// Counts by name.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Collects entries.
#[derive(Debug)]
pub(crate) struct AuditAnalysis {
    limits: Limits,
    calls: u64,
    failures: u64,
    faults: u64,
    by_tool: BTreeMap<String, ToolCounts>,
    by_subject: Counts,
    durations: Vec<f64>,
    slow: Vec<SlowCall>,
    slow_calls: u64,
    redactions: Counts,
    bulk_reads: Counts,
    items_read: BTreeMap<String, HourlyReads>,
    deletes: Counts,
    config_changes: Vec<Event>,
    maintenance: Counts,
    denied: Counts,
    auth_failures: Counts,
    auth_failures_by_peer: Counts,
    lockouts: Vec<Event>,
    unreadable: u64,
}

#[derive(Debug, Default)]
struct ToolCounts {
    calls: u64,
    failures: Counts,
}

/// Items that somebody read, hour by hour: many small reads are as much as a large one.
#[derive(Debug, Default)]
struct HourlyReads {
    hour: i64,
    in_hour: u64,
    most: u64,
}

impl HourlyReads {
    fn add(&mut self, at: Timestamp, items: u64) {
        let hour = at.as_millis().div_euclid(HOUR_MS);
        if hour != self.hour {
            (self.hour, self.in_hour) = (hour, 0);
        }
        self.in_hour = self.in_hour.saturating_add(items);
        self.most = self.most.max(self.in_hour);
    }
}

/// A tool and how its calls ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolSummary {
    /// The tool.
    pub(crate) tool: String,
    /// Calls.
    pub(crate) calls: u64,
    /// Calls that failed.
    pub(crate) failed: u64,
    /// Failed over all, percent.
    pub(crate) failed_percent: f64,
    /// Failures by their stable word.
    pub(crate) reasons: Counts,
}

/// A call that took long.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SlowCall {
    /// When.
    pub(crate) ts: Timestamp,
    /// The tool.
    pub(crate) tool: String,
    /// Who called.
    pub(crate) subject: String,
    /// How long, milliseconds.
    pub(crate) duration_ms: f64,
}

/// Something that happened, for a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    /// When.
    pub(crate) ts: Timestamp,
    /// Who.
    pub(crate) subject: String,
    /// What.
    pub(crate) what: String,
}

/// Calls over the span.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallSummary {
    /// Calls finished.
    pub(crate) calls: u64,
    /// Calls that failed, for whatever reason.
    pub(crate) failed: u64,
    /// Calls that failed through no fault of the caller.
    pub(crate) faults: u64,
    /// Faults over calls, 0 to 1; absent without calls. A question for an item that does not
    /// exist is no error of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_rate: Option<f64>,
    /// Durations; absent without calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
    /// Tools with failures, most failures first.
    pub(crate) failed_tools: Vec<ToolSummary>,
    /// Slow calls, all of them counted.
    pub(crate) slow_calls: u64,
    /// The slowest of them.
    pub(crate) slowest: Vec<SlowCall>,
    /// Lines that are no entries.
    pub(crate) unreadable_lines: u64,
}

/// Access over the span.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecuritySummary {
    /// Entries from this moment on.
    pub(crate) since: Timestamp,
    /// Calls by subject.
    pub(crate) calls_by_subject: Counts,
    /// Secrets taken out of memories, by subject.
    pub(crate) redactions: Counts,
    /// Reads of many items, by subject.
    pub(crate) bulk_reads: Counts,
    /// Most items read within an hour of the clock, by subject.
    pub(crate) items_read_in_an_hour: Counts,
    /// Items a read needs to count as one of many.
    pub(crate) bulk_read_items: u64,
    /// Deletes, by subject.
    pub(crate) deletes: Counts,
    /// Changes of configuration.
    pub(crate) config_changes: Vec<Event>,
    /// Maintenance, journal and migration calls, by tool.
    pub(crate) maintenance_calls: Counts,
    /// Calls refused for lack of a right, by subject.
    pub(crate) denied_calls: Counts,
    /// Callers not let in, by subject (`unknown` without a readable token).
    pub(crate) auth_failures: Counts,
    /// Callers not let in, by address.
    pub(crate) auth_failures_by_address: Counts,
    /// Addresses and tokens locked out.
    pub(crate) lockouts: Vec<Event>,
    /// Lines that are no entries.
    pub(crate) unreadable_lines: u64,
}

impl AuditAnalysis {
    /// Counts within `limits`.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            calls: 0,
            failures: 0,
            faults: 0,
            by_tool: BTreeMap::new(),
            by_subject: Counts::new(),
            durations: Vec::new(),
            slow: Vec::new(),
            slow_calls: 0,
            redactions: Counts::new(),
            bulk_reads: Counts::new(),
            items_read: BTreeMap::new(),
            deletes: Counts::new(),
            config_changes: Vec::new(),
            maintenance: Counts::new(),
            denied: Counts::new(),
            auth_failures: Counts::new(),
            auth_failures_by_peer: Counts::new(),
            lockouts: Vec::new(),
            unreadable: 0,
        }
    }

    /// Takes one line of an audit file.
    pub(crate) fn line(&mut self, line: &[u8]) {
        match serde_json::from_slice::<Entry>(line) {
            Ok(entry) if entry.ts >= self.limits.since => self.entry(&entry),
            Ok(_) => {}
            Err(_) => self.unreadable = self.unreadable.saturating_add(1),
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let subject = entry.subject.as_deref().unwrap_or("unknown");
        let event = |what: String| Event { ts: entry.ts, subject: subject.to_owned(), what };
        match entry.kind {
            Kind::Call => self.call(entry, subject),
            Kind::AuthFailure => {
                add(&mut self.auth_failures, subject, 1);
                // The port changes with every connection; the address is what matters.
                let peer = entry.peer.as_deref().unwrap_or("unknown");
                let address = peer.rsplit_once(':').map_or(peer, |(address, _)| address);
                add(&mut self.auth_failures_by_peer, address, 1);
            }
            Kind::Lockout => {
                let what = entry.detail.clone().unwrap_or_else(|| entry.outcome.clone());
                self.lockouts.push(event(what));
            }
            Kind::Reload => {
                let what = entry.detail.clone().unwrap_or_else(|| entry.outcome.clone());
                self.config_changes.push(event(format!("reload: {what}")));
            }
            Kind::Start | Kind::Stop => {}
        }
    }

    fn call(&mut self, entry: &Entry, subject: &str) {
        let tool = entry.tool.as_deref().unwrap_or("unknown");
        let failed = entry.outcome != "ok";
        self.calls = self.calls.saturating_add(1);
        add(&mut self.by_subject, subject, 1);
        if self.by_tool.len() < NAMES || self.by_tool.contains_key(tool) {
            let counts = self.by_tool.entry(tool.to_owned()).or_default();
            counts.calls = counts.calls.saturating_add(1);
            if failed {
                add(&mut counts.failures, &entry.outcome, 1);
            }
        }
        if failed {
            self.failures = self.failures.saturating_add(1);
            self.faults = self.faults.saturating_add(u64::from(is_server_fault(&entry.outcome)));
        }
        if entry.outcome == "forbidden" {
            add(&mut self.denied, subject, 1);
        }
        if let Some(millis) = entry.duration_ms {
            if self.durations.len() < DURATIONS {
                self.durations.push(millis);
            }
            if millis >= self.limits.slow_ms {
                self.slow_call(entry, tool, subject, millis);
            }
        }
        self.review(entry, tool, subject, failed);
    }

    fn slow_call(&mut self, entry: &Entry, tool: &str, subject: &str, duration_ms: f64) {
        self.slow_calls = self.slow_calls.saturating_add(1);
        self.slow.push(SlowCall {
            ts: entry.ts,
            tool: tool.to_owned(),
            subject: subject.to_owned(),
            duration_ms: round(duration_ms),
        });
        if self.slow.len() > LISTED.saturating_mul(4) {
            keep_slowest(&mut self.slow);
        }
    }

    /// What a security review asks about.
    fn review(&mut self, entry: &Entry, tool: &str, subject: &str, failed: bool) {
        if let Some(count) = entry.redactions {
            add(&mut self.redactions, subject, count);
        }
        if let Some(items) = entry.items.filter(|_| !entry.write) {
            if items >= self.limits.bulk_items {
                add(&mut self.bulk_reads, subject, 1);
            }
            if self.items_read.len() < NAMES || self.items_read.contains_key(subject) {
                self.items_read.entry(subject.to_owned()).or_default().add(entry.ts, items);
            }
        }
        if tool == "memory.delete" && !failed {
            add(&mut self.deletes, subject, 1);
        }
        if tool.ends_with("config.set") {
            let place = entry.scope.as_deref().unwrap_or("unknown scope");
            let what = format!("{tool} ({place}): {}", entry.outcome);
            self.config_changes.push(Event { ts: entry.ts, subject: subject.to_owned(), what });
        }
        if ["maintenance.", "journal.", "migration."].iter().any(|group| tool.starts_with(group)) {
            add(&mut self.maintenance, tool, 1);
        }
    }

    /// Calls, failures and durations.
    pub(crate) fn calls(&self) -> CallSummary {
        let mut failed_tools: Vec<ToolSummary> = self
            .by_tool
            .iter()
            .filter(|(_, counts)| !counts.failures.is_empty())
            .map(|(tool, counts)| {
                let failed = counts.failures.values().sum();
                ToolSummary {
                    tool: tool.clone(),
                    calls: counts.calls,
                    failed,
                    failed_percent: percent(failed, counts.calls),
                    reasons: counts.failures.clone(),
                }
            })
            .collect();
        failed_tools.sort_by(|a, b| b.failed.cmp(&a.failed).then_with(|| a.tool.cmp(&b.tool)));
        failed_tools.truncate(LISTED);
        let mut slowest = self.slow.clone();
        keep_slowest(&mut slowest);
        CallSummary {
            calls: self.calls,
            failed: self.failures,
            faults: self.faults,
            error_rate: (self.calls > 0).then(|| self.faults as f64 / self.calls as f64),
            latency: Latency::of(&self.durations),
            failed_tools,
            slow_calls: self.slow_calls,
            slowest,
            unreadable_lines: self.unreadable,
        }
    }

    /// Access.
    pub(crate) fn security(self) -> SecuritySummary {
        SecuritySummary {
            since: self.limits.since,
            calls_by_subject: self.by_subject,
            redactions: self.redactions,
            bulk_reads: self.bulk_reads,
            items_read_in_an_hour: self
                .items_read
                .into_iter()
                .map(|(subject, reads)| (subject, reads.most))
                .collect(),
            bulk_read_items: self.limits.bulk_items,
            deletes: self.deletes,
            config_changes: latest(self.config_changes),
            maintenance_calls: self.maintenance,
            denied_calls: self.denied,
            auth_failures: self.auth_failures,
            auth_failures_by_address: self.auth_failures_by_peer,
            lockouts: latest(self.lockouts),
            unreadable_lines: self.unreadable,
        }
    }
}

fn add(counts: &mut Counts, name: &str, more: u64) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_add(more);
    } else if counts.len() < NAMES {
        counts.insert(name.to_owned(), more);
    }
}

fn keep_slowest(slow: &mut Vec<SlowCall>) {
    slow.sort_by(|a, b| b.duration_ms.total_cmp(&a.duration_ms).then_with(|| a.ts.cmp(&b.ts)));
    slow.truncate(LISTED);
}

/// The latest events, newest first.
fn latest(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| std::cmp::Reverse(event.ts));
    events.truncate(LISTED);
    events
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "the values are exact")]

    use super::*;

    fn limits() -> Limits {
        let since = "2026-11-22T00:00:00Z".parse().unwrap();
        Limits { since, slow_ms: 100.0, bulk_items: 100 }
    }

    fn entry(kind: Kind, subject: &str, outcome: &str) -> Entry {
        let mut entry = Entry::new(kind, outcome);
        entry.ts = "2026-11-22T10:00:00Z".parse().unwrap();
        entry.subject = Some(subject.to_owned());
        entry
    }

    fn call(tool: &str, outcome: &str, millis: f64) -> Entry {
        let mut entry = entry(Kind::Call, "ada", outcome);
        entry.tool = Some(tool.to_owned());
        entry.duration_ms = Some(millis);
        entry
    }

    fn analysis(entries: &[Entry]) -> AuditAnalysis {
        let mut analysis = AuditAnalysis::new(limits());
        for entry in entries {
            analysis.line(&serde_json::to_vec(entry).unwrap());
        }
        analysis
    }

    #[test]
    fn failures_and_durations_are_counted_by_tool() {
        let calls = analysis(&[
            call("memory.query", "ok", 5.0),
            call("memory.query", "busy", 250.0),
            call("memory.get", "not_found", 1.0),
            call("memory.get", "ok", 150.0),
        ])
        .calls();
        assert_eq!((calls.calls, calls.failed, calls.faults), (4, 2, 1));
        assert_eq!(calls.error_rate, Some(0.25));
        assert_eq!(calls.failed_tools[0].tool, "memory.get");
        assert_eq!(calls.failed_tools[0].failed_percent, 50.0);
        assert_eq!(calls.slow_calls, 2);
        assert_eq!(calls.slowest[0].duration_ms, 250.0);
    }

    #[test]
    fn old_entries_and_torn_lines_do_not_count_as_calls() {
        let mut old = call("memory.get", "ok", 1.0);
        old.ts = "2026-11-21T23:59:59Z".parse().unwrap();
        let mut analysis = analysis(&[old]);
        analysis.line(b"{\"ts\":\"2026-11-22T");
        let calls = analysis.calls();
        assert_eq!((calls.calls, calls.unreadable_lines), (0, 1));
        assert_eq!((calls.error_rate, calls.latency), (None, None));
    }

    #[test]
    fn many_small_reads_are_summed_up_by_the_hour() {
        let page = |hour: &str| {
            let mut page = call("memory.list", "ok", 1.0);
            page.ts = format!("2026-11-22T{hour}:30:00Z").parse().unwrap();
            page.items = Some(90);
            page
        };
        let pages = [page("10"), page("10"), page("10"), page("11")];
        let security = analysis(&pages).security();
        assert!(security.bulk_reads.is_empty());
        assert_eq!(security.items_read_in_an_hour["ada"], 270);
    }

    #[test]
    fn a_review_sees_who_did_what() {
        let mut bulk = call("memory.list", "ok", 1.0);
        bulk.items = Some(1000);
        let mut redacted = call("memory.upsert", "ok", 1.0);
        redacted.redactions = Some(2);
        redacted.write = true;
        let mut config = call("project.config.set", "ok", 1.0);
        config.scope = Some("committed".to_owned());
        let mut failure = entry(Kind::AuthFailure, "mallory", "invalid");
        failure.peer = Some("10.0.0.9:55100".to_owned());
        let mut second = failure.clone();
        second.peer = Some("10.0.0.9:55101".to_owned());
        let security = analysis(&[
            bulk,
            redacted,
            config,
            call("memory.delete", "ok", 1.0),
            call("memory.delete", "not_found", 1.0),
            call("maintenance.compact", "ok", 1.0),
            call("journal.verify", "forbidden", 1.0),
            failure,
            second,
            entry(Kind::Lockout, "mallory", "locked"),
        ])
        .security();
        let one = |counts: &Counts, name: &str| counts.get(name).copied();
        assert_eq!(one(&security.bulk_reads, "ada"), Some(1));
        assert_eq!(one(&security.items_read_in_an_hour, "ada"), Some(1000));
        assert_eq!(one(&security.redactions, "ada"), Some(2));
        assert_eq!(one(&security.deletes, "ada"), Some(1));
        assert_eq!(one(&security.denied_calls, "ada"), Some(1));
        assert_eq!(one(&security.maintenance_calls, "maintenance.compact"), Some(1));
        assert_eq!(one(&security.auth_failures, "mallory"), Some(2));
        assert_eq!(one(&security.auth_failures_by_address, "10.0.0.9"), Some(2));
        assert_eq!(security.lockouts.len(), 1);
        assert_eq!(security.config_changes[0].what, "project.config.set (committed): ok");
    }
}
