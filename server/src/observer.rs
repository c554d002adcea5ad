//! What becomes of every finished call: a line in the audit log, counts in the metrics, an event
//! in the log. Nothing here waits for a disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use llm_memory_engine::ids::Timestamp;
use parking_lot::Mutex;

use crate::audit::{Audit, Entry, Kind, items};
use crate::maintained::Maintained;
use crate::mcp::auth::{Denied, TransportKind};
use crate::mcp::observe::{CallRecord, MAX_NAME, Observe};
use crate::metrics::Metrics;
use crate::telemetry::one_line;
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
    maintained: Arc<Maintained>,
    /// Calls slower than this are logged as slow; 0 turns it off.
    slow_ms: AtomicU64,
    /// Callers with an identity and no rule who were recorded lately.
    unmapped: Lately,
}

/// How often one such caller is recorded again.
const UNMAPPED_EVERY: Duration = Duration::from_secs(60);
/// Such callers remembered; the next one makes all be forgotten.
const MAX_UNMAPPED: usize = 1024;

/// Who was recorded when.
#[derive(Debug, Default)]
struct Lately(Mutex<BTreeMap<String, Instant>>);

impl Lately {
    const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether `who` is to be recorded now.
    fn is_due(&self, who: &str, now: Instant) -> bool {
        let mut lately = self.0.lock();
        if lately.get(who).is_some_and(|at| now < *at + UNMAPPED_EVERY) {
            return false;
        }
        if lately.len() >= MAX_UNMAPPED {
            lately.clear();
        }
        lately.insert(who.to_owned(), now);
        true
    }
}

impl Recorder {
    /// A recorder over the given receivers.
    pub const fn new(
        audit: Audit,
        metrics: Arc<Metrics>,
        verified: Arc<Verified>,
        maintained: Arc<Maintained>,
        slow_ms: u64,
    ) -> Self {
        Self {
            audit,
            metrics,
            verified,
            maintained,
            slow_ms: AtomicU64::new(slow_ms),
            unmapped: Lately::new(),
        }
    }

    /// Changes what counts as slow.
    pub fn set_slow_ms(&self, slow_ms: u64) {
        self.slow_ms.store(slow_ms, Ordering::Relaxed);
    }

    fn log(&self, record: &CallRecord<'_>, operation: &str, name: &str) {
        let subject = record.principal.subject.as_str();
        let redacted = |text: &str| record.redactor.redact(text).text;
        let scope = record.asked.scope.as_deref().map(redacted);
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
            // What is wrong with an argument is told in its words, which are the caller's own.
            let message = record.message.filter(|_| code != "invalid_argument").map(redacted);
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
                    field = record.field.map(|field| redacted(&short(field))),
                    error = message,
                    "Tool execution failed: {name}"
                );
            }
        }
        let slow_ms = self.slow_ms.load(Ordering::Relaxed);
        if slow_ms > 0 && record.duration.as_millis() > u128::from(slow_ms) {
            tracing::warn!(
                tool = operation,
                subject,
                scope,
                duration_ms,
                query_words = record.asked.query_words,
                items = record.result.and_then(items),
                "Slow call: {name}"
            );
        }
    }
}

impl Observe for Recorder {
    fn call_finished(&self, record: &CallRecord<'_>) {
        let operation = operation(record);
        // Logs and audit may show what was asked for; labels of metrics may not.
        let name = if operation == record.tool.dotted {
            Cow::Borrowed(operation)
        } else {
            short(record.name)
        };
        let name = record.redactor.redact(&name).text;
        let failed = record.error.is_some_and(is_server_fault);
        self.metrics.call_finished(
            operation,
            record.error,
            record.duration,
            failed,
            operation == SEARCH,
        );
        self.log(record, operation, &name);
        let mut entry = Entry::new(Kind::Call, record.error.unwrap_or("ok"))
            .about(record.asked)
            .took(record.duration)
            .from_peer(record.transport.as_str(), record.peer);
        if let Some(result) = record.result {
            entry = entry.with_result(result);
        }
        entry.tool = Some(name);
        entry.subject = Some(record.principal.subject.clone());
        entry.tenant = record.principal.tenant.as_ref().map(|tenant| tenant.as_str().to_owned());
        entry.write = !record.tool.read_only;
        self.audit.record(&entry.without_secrets(record.redactor));
        // What was refused before it began is no verification.
        if record.result.is_some() || record.error.is_some_and(has_begun) {
            let tenant = record.principal.tenant.as_ref();
            let now = Timestamp::now();
            self.maintained.note(operation, record.asked, tenant, record.result, now);
        }
        if operation == VERIFY
            && let Some(result) = record.result
        {
            let tenant = record.principal.tenant.as_ref();
            self.verified.note(result, record.asked, tenant, Timestamp::now());
        }
    }

    fn denied(&self, denied: &Denied, transport: TransportKind, peer: Option<SocketAddr>) {
        let reason = denied.word();
        self.metrics.denied(reason);
        let who = match denied {
            // Clients ask without a token first, to learn what is needed: nobody's misdeed. Of a
            // lockout the beginning is recorded; a line for each refusal after it would let
            // strangers fill the volume. The metric counts them all.
            Denied::Missing | Denied::LockedOut { .. } | Denied::Unavailable { .. } => return,
            Denied::Invalid { who, .. } => who.clone(),
            // Such a caller is not locked out, and may ask for ever.
            Denied::Unmapped { who, .. } if !self.unmapped.is_due(who, Instant::now()) => return,
            Denied::Unmapped { who, .. } => Some(who.clone()),
        };
        let peer_text = peer.map(|peer| peer.to_string());
        tracing::warn!(
            reason,
            peer = peer_text,
            transport = transport.as_str(),
            "Unauthorized call denied: {denied}"
        );
        let mut entry = Entry::new(Kind::AuthFailure, reason).from_peer(transport.as_str(), peer);
        entry.subject = who;
        entry.detail = Some(denied.to_string());
        self.audit.record(&entry);
    }

    fn connections(&self, transport: TransportKind, open: usize) {
        self.metrics.connections(transport.as_str(), open);
    }
}

fn operation(record: &CallRecord<'_>) -> &'static str {
    let tool = record.tool;
    if record.name == tool.name || record.name == tool.dotted {
        tool.dotted
    } else if record.name.contains("://") {
        RESOURCE
    } else {
        PROMPT
    }
}

/// A name without what may stand in a URI's query, and not longer than names are, in one line.
fn short(name: &str) -> Cow<'_, str> {
    let name = name.split('?').next().unwrap_or_default();
    one_line(name.get(..name.floor_char_boundary(MAX_NAME)).unwrap_or_default())
}

/// Whether a failure says something about the server rather than about the call. Only these count
/// as errors in `/health`: an agent that asks for an item that does not exist is no outage.
pub fn is_server_fault(code: &str) -> bool {
    !matches!(
        code,
        "invalid_argument"
            | "not_found"
            | "version_conflict"
            | "conflict"
            | "forbidden"
            | "cancelled"
    )
}

/// Whether a call that failed like this had begun: only then does it say something about what it
/// was to look at.
fn has_begun(code: &str) -> bool {
    is_server_fault(code) && !matches!(code, "busy" | "shutting_down" | "unauthorized")
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::{Disk, OsDisk};
    use llm_memory_engine::ids::ProjectId;
    use llm_memory_engine::item::Redactor;
    use serde_json::{Value, json};

    use super::*;
    use crate::access::Principal;
    use crate::mcp::observe::Asked;
    use crate::status::fixtures;
    use crate::tools;

    struct Bench {
        folder: tempfile::TempDir,
        audit: Audit,
        metrics: Arc<Metrics>,
        maintained: Arc<Maintained>,
        recorder: Recorder,
    }

    fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(Arc::new(OsDisk), folder.path(), 1 << 20, 1).unwrap();
        let metrics = Arc::new(Metrics::new(fixtures::fresh_board()));
        let verified = Arc::new(Verified::default());
        let maintained = Arc::new(Maintained::default());
        let recorder = Recorder::new(
            audit.clone(),
            Arc::clone(&metrics),
            verified,
            Arc::clone(&maintained),
            0,
        );
        Bench { folder, audit, metrics, maintained, recorder }
    }

    impl Bench {
        fn call(&self, tool: &str, name: &str, asked: &Asked, result: &Value) {
            self.ended(tool, name, asked, Ok(result));
        }

        fn ended(
            &self,
            tool: &str,
            name: &str,
            asked: &Asked,
            outcome: Result<&Value, &'static str>,
        ) {
            self.recorder.call_finished(&CallRecord {
                tool: tools::find(tool).unwrap(),
                name,
                principal: &Principal::local_owner(),
                asked,
                result: outcome.ok(),
                error: outcome.err(),
                message: None,
                field: None,
                duration: Duration::from_millis(2),
                transport: TransportKind::Http,
                peer: None,
                redactor: &Redactor::builtin().unwrap(),
            });
        }

        fn denied(&self, denied: &Denied) {
            self.recorder.denied(denied, TransportKind::Tcp, Some(([10, 0, 0, 1], 9).into()));
        }

        fn audited(&self) -> (String, Vec<Entry>) {
            self.audit.close();
            let folder = self.folder.path().join("audit");
            let files = OsDisk.list(&folder).unwrap();
            let bytes = OsDisk.read(&folder.join(&files[0].name)).unwrap();
            let text = String::from_utf8(bytes).unwrap();
            let entries = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (text, entries)
        }
    }

    fn invalid(who: Option<&str>) -> Denied {
        let reason = "it expired at 2026-01-01T00:00:00.000Z".to_owned();
        Denied::Invalid { reason, who: who.map(str::to_owned) }
    }

    #[test]
    fn a_call_is_audited_and_counted_without_its_content() {
        let bench = bench();
        let arguments = json!({"q": "SECRET words", "scope": "global"});
        let home = ProjectId::new("home").unwrap();
        let asked = Asked::of(arguments.as_object().unwrap(), Some(&home));
        let result = json!({"items": [{"text": "SECRET"}]});
        bench.call("memory.query", "memory_query", &asked, &result);
        let (text, entries) = bench.audited();
        assert!(!text.contains("SECRET"));
        assert_eq!(entries.len(), 1, "{text}");
        assert_eq!(entries[0].tool.as_deref(), Some("memory.query"));
        assert_eq!(entries[0].project.as_deref(), Some("home"), "where the call worked");
        assert_eq!(entries[0].items, Some(1));
        assert!(!entries[0].write);
        let scrape = bench.metrics.render();
        assert!(scrape.contains("llm_memory_search_duration_seconds_count 1"), "{scrape}");
    }

    #[test]
    fn resources_and_prompts_are_counted_as_what_they_are() {
        let bench = bench();
        let result = json!({});
        let uri = "kb://context/pack?q=SECRET";
        bench.call("memory.query", uri, &Asked::default(), &result);
        bench.call("memory.query", "check-memory", &Asked::default(), &result);
        let (_, entries) = bench.audited();
        assert_eq!(entries[0].tool.as_deref(), Some("kb://context/pack"));
        assert_eq!(entries[1].tool.as_deref(), Some("check-memory"));
        let scrape = bench.metrics.render();
        for operation in [RESOURCE, PROMPT] {
            assert!(scrape.contains(&format!("\"{operation}\"")), "{scrape}");
        }
        assert!(scrape.contains("llm_memory_search_duration_seconds_count 0"), "{scrape}");
    }

    #[test]
    fn a_secret_where_an_id_belongs_is_not_kept() {
        let bench = bench();
        let secret = concat!("ghp_", "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5");
        let asked = |name: &str| Asked::of(json!({ name: secret }).as_object().unwrap(), None);
        bench.call("memory.get", "memory_get", &asked("id"), &json!({"id": secret}));
        bench.call("memory.link", "memory_link", &asked("from"), &json!({}));
        bench.call("memory.list", "memory_list", &asked("scope"), &json!({}));
        bench.call("memory.list", "memory_list", &asked("project"), &json!({}));
        bench.call("memory.get", &format!("kb://item/{secret}"), &asked("id"), &json!({}));
        let (text, entries) = bench.audited();
        assert_eq!(entries.len(), 5);
        assert!(!text.contains(secret), "{text}");
        assert_eq!(entries[0].id.as_deref(), Some("<redacted-secret>"));
    }

    #[test]
    fn failed_authentication_is_audited_with_its_owner_and_lockouts_are_only_counted() {
        let bench = bench();
        bench.denied(&Denied::Missing);
        for _ in 0..3 {
            bench.denied(&Denied::LockedOut { retry_after: Duration::from_secs(1) });
        }
        bench.denied(&invalid(Some("ada")));
        let (text, entries) = bench.audited();
        assert_eq!(entries.len(), 1, "{text}");
        assert_eq!(entries[0].kind, Kind::AuthFailure);
        assert_eq!(entries[0].subject.as_deref(), Some("ada"));
        let scrape = bench.metrics.render();
        assert!(scrape.contains("auth_failures_total{reason=\"missing\"} 1"), "{scrape}");
        assert!(scrape.contains("auth_failures_total{reason=\"locked_out\"} 3"), "{scrape}");
    }

    #[test]
    fn a_caller_with_an_identity_and_no_rule_is_recorded_once_a_minute() {
        let bench = bench();
        let unmapped = |who: &str| Denied::Unmapped { reason: "no".into(), who: who.to_owned() };
        for who in ["a", "b", "a"] {
            bench.denied(&unmapped(who));
        }
        let (text, entries) = bench.audited();
        let subjects: Vec<_> = entries.iter().filter_map(|e| e.subject.as_deref()).collect();
        assert_eq!(subjects, ["a", "b"], "{text}");
        let scrape = bench.metrics.render();
        assert!(scrape.contains("auth_failures_total{reason=\"unmapped\"} 3"), "{scrape}");
        let (lately, now) = (Lately::new(), Instant::now());
        assert!(lately.is_due("a", now) && !lately.is_due("a", now));
        assert!(lately.is_due("a", now + UNMAPPED_EVERY));
    }

    #[test]
    fn a_verification_that_did_not_begin_found_nothing() {
        let bench = bench();
        let asked = Asked { scope: Some("all".to_owned()), ..Asked::default() };
        let verdict = |code: &'static str| {
            bench.ended(VERIFY, VERIFY, &asked, Err(code));
            bench.maintained.last().verification.map(|last| last.verdict)
        };
        for code in ["busy", "shutting_down", "cancelled", "forbidden", "invalid_argument"] {
            assert_eq!(verdict(code), None, "{code}");
        }
        assert_eq!(verdict("disk_failure"), Some(crate::maintained::Verdict::Failed));
    }

    #[test]
    fn a_name_adds_no_line_to_a_log() {
        let bench = bench();
        let uri = "kb://item/x\n2026-01-01 ERROR forged\u{2028}too\u{1b}[2J";
        bench.call("memory.query", uri, &Asked::default(), &json!({}));
        let (_, entries) = bench.audited();
        let tool = entries[0].tool.as_deref().unwrap();
        assert_eq!(tool, r"kb://item/x\n2026-01-01 ERROR forged\u{2028}too\u{1b}[2J");
    }

    #[test]
    fn mistakes_of_callers_are_no_faults_of_the_server() {
        assert!(!is_server_fault("not_found"));
        assert!(!is_server_fault("invalid_argument"));
        assert!(is_server_fault("busy"));
        assert!(is_server_fault("internal"));
    }
}
