//! What becomes of every finished call: a line in the audit log, counts in the metrics, an event
//! in the log. Nothing here waits for a disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use llm_memory_engine::ids::Timestamp;
use serde_json::Value;

use crate::audit::{Audit, Entry, Kind};
use crate::mcp::auth::{Denied, TransportKind};
use crate::mcp::observe::{CallRecord, Observe};
use crate::metrics::Metrics;
use crate::verified::Verified;

/// Label of everything that is read as a resource.
const RESOURCE: &str = "resources.read";
/// Label of every prompt.
const PROMPT: &str = "prompts.get";
/// The tool whose time is the search time.
const SEARCH: &str = "memory.query";
/// The tool whose success is remembered.
const VERIFY: &str = "journal.verify";

/// Tells audit, metrics and log.
#[derive(Debug)]
pub struct Recorder {
    audit: Audit,
    metrics: Arc<Metrics>,
    verified: Arc<Verified>,
    /// Calls slower than this are logged as slow; 0 turns it off.
    slow_ms: AtomicU64,
}

impl Recorder {
    /// A recorder over the given receivers.
    pub const fn new(
        audit: Audit,
        metrics: Arc<Metrics>,
        verified: Arc<Verified>,
        slow_ms: u64,
    ) -> Self {
        Self { audit, metrics, verified, slow_ms: AtomicU64::new(slow_ms) }
    }

    /// Changes what counts as slow.
    pub fn set_slow_ms(&self, slow_ms: u64) {
        self.slow_ms.store(slow_ms, Ordering::Relaxed);
    }

    fn log(&self, record: &CallRecord<'_>, operation: &str, name: &str) {
        let subject = record.principal.subject.as_str();
        let scope = record.arguments.get("scope").and_then(Value::as_str);
        let duration_ms = record.duration.as_secs_f64() * 1e3;
        let status = record.error.unwrap_or("ok");
        tracing::info!(
            tool = operation,
            subject,
            scope,
            status,
            duration_ms,
            transport = record.transport.as_str(),
            "Tool called: {name}"
        );
        if let Some(code) = record.error {
            let message = record.message.unwrap_or_default();
            if is_server_fault(code) {
                tracing::error!(
                    tool = operation,
                    subject,
                    code,
                    error = message,
                    "Tool execution failed: {name}"
                );
            } else {
                tracing::warn!(
                    tool = operation,
                    subject,
                    code,
                    error = message,
                    "Tool execution failed: {name}"
                );
            }
        }
        let slow_ms = self.slow_ms.load(Ordering::Relaxed);
        if slow_ms > 0 && record.duration.as_millis() > u128::from(slow_ms) {
            // The words of a query may be as private as the answer; their number is not.
            let query = record.arguments.get("q").and_then(Value::as_str);
            tracing::warn!(
                tool = operation,
                subject,
                scope,
                duration_ms,
                query_words = query.map(|words| words.split_whitespace().count()),
                items = record.result.and_then(item_count),
                "Slow call: {name}"
            );
        }
    }
}

impl Observe for Recorder {
    fn call_finished(&self, record: &CallRecord<'_>) {
        let operation = operation(record);
        // Logs and audit may show what was asked for; labels of metrics may not.
        let name = if record.tool.is_some() { operation } else { record.name };
        let failed = record.error.is_some_and(is_server_fault);
        self.metrics.call_finished(
            operation,
            record.error,
            record.duration,
            failed,
            operation == SEARCH,
        );
        self.log(record, operation, name);
        let mut entry = Entry::new(Kind::Call, record.error.unwrap_or("ok"))
            .with_arguments(record.arguments)
            .took(record.duration)
            .from_peer(record.transport.as_str(), record.peer);
        if let Some(result) = record.result {
            entry = entry.with_result(result);
        }
        entry.tool = Some(name.chars().take(200).collect());
        entry.subject = Some(record.principal.subject.clone());
        entry.tenant = record.principal.tenant.as_ref().map(|tenant| tenant.as_str().to_owned());
        entry.write = record.tool.is_some_and(|tool| !tool.read_only);
        self.audit.record(&entry);
        if operation == VERIFY
            && let Some(result) = record.result
        {
            self.verified.note(result, record.arguments, Timestamp::now());
        }
    }

    fn denied(&self, denied: &Denied, transport: TransportKind, peer: Option<SocketAddr>) {
        let reason = match denied {
            Denied::Missing => "missing",
            Denied::Invalid { .. } => "invalid",
            Denied::LockedOut { .. } => "locked_out",
        };
        self.metrics.denied(reason);
        let who = match denied {
            // Clients ask without a token first, to learn what is needed: nobody's misdeed. Of a
            // lockout the beginning is recorded; a line for each refusal after it would let
            // strangers fill the volume. The metric counts them all.
            Denied::Missing | Denied::LockedOut { .. } => return,
            Denied::Invalid { who, .. } => who,
        };
        let peer_text = peer.map(|peer| peer.to_string());
        tracing::warn!(
            reason,
            peer = peer_text,
            transport = transport.as_str(),
            "Unauthorized call denied: {denied}"
        );
        let mut entry = Entry::new(Kind::AuthFailure, reason).from_peer(transport.as_str(), peer);
        entry.detail = Some(denied.to_string());
        entry.subject.clone_from(who);
        self.audit.record(&entry);
    }

    fn connections(&self, transport: TransportKind, open: usize) {
        self.metrics.connections(transport.as_str(), open);
    }
}

fn operation(record: &CallRecord<'_>) -> &'static str {
    match record.tool {
        Some(tool) => tool.dotted,
        None if record.name.contains("://") => RESOURCE,
        None => PROMPT,
    }
}

fn item_count(result: &Value) -> Option<usize> {
    result.get("items").and_then(Value::as_array).map(Vec::len)
}

/// Whether a failure says something about the server rather than about the call. Only these count
/// as errors in `/health`: an agent that asks for an item that does not exist is no outage.
pub fn is_server_fault(code: &str) -> bool {
    !matches!(
        code,
        "invalid_argument" | "not_found" | "version_conflict" | "forbidden" | "cancelled"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use llm_memory_disk::{Disk, OsDisk};
    use serde_json::json;

    use super::*;
    use crate::access::Principal;
    use crate::status::fixtures;
    use crate::tools;

    #[test]
    fn a_call_is_audited_and_counted_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(Arc::new(OsDisk), folder.path(), 1 << 20, 1).unwrap();
        let metrics = Arc::new(Metrics::new(fixtures::fresh_board()));
        let verified = Arc::new(Verified::default());
        let recorder = Recorder::new(audit.clone(), Arc::clone(&metrics), verified, 0);
        let arguments = json!({"q": "SECRET words", "scope": "global"});
        let principal = Principal::local_owner();
        recorder.call_finished(&CallRecord {
            tool: tools::find("memory.query"),
            name: "memory_query",
            principal: &principal,
            arguments: arguments.as_object().unwrap(),
            result: Some(&json!({"items": [{"text": "SECRET"}]})),
            error: None,
            message: None,
            duration: Duration::from_millis(2),
            transport: TransportKind::Http,
            peer: None,
        });
        recorder.denied(&Denied::Missing, TransportKind::Http, None);
        recorder.denied(
            &Denied::Invalid { reason: "it is not known here".to_owned() },
            TransportKind::Tcp,
            Some(([10, 0, 0, 1], 9).into()),
        );
        audit.close();
        let files = OsDisk.list(&folder.path().join("audit")).unwrap();
        let bytes = OsDisk.read(&folder.path().join("audit").join(&files[0].name)).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains("SECRET"));
        let entries: Vec<Entry> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(entries.len(), 2, "{text}");
        assert_eq!(entries[0].tool.as_deref(), Some("memory.query"));
        assert_eq!(entries[0].items, Some(1));
        assert!(!entries[0].write);
        assert_eq!(entries[1].kind, Kind::AuthFailure);
        let scrape = metrics.render();
        assert!(scrape.contains("auth_failures_total{reason=\"missing\"} 1"), "{scrape}");
        assert!(scrape.contains("llm_memory_search_duration_seconds_count 1"), "{scrape}");
    }

    #[test]
    fn mistakes_of_callers_are_no_faults_of_the_server() {
        assert!(!is_server_fault("not_found"));
        assert!(!is_server_fault("invalid_argument"));
        assert!(is_server_fault("busy"));
        assert!(is_server_fault("internal"));
    }
}
