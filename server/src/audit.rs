//! The audit log: who did what, when, with what outcome; never what was in it.
//!
//! One JSON object a line in `audit/audit-YYYYMMDD.ndjson`. Writing never makes a call wait: the
//! queue is bounded, lines that do not fit are dropped and counted in
//! `llm_memory_audit_dropped_total`. Lines are synced within a second.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::Timestamp;
use llm_memory_engine::item::Redactor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mcp::observe::{Asked, MAX_NAME};
use crate::sink::LineSink;
use crate::sink::rolling::Policy;

/// Folder of the audit log in the data folder.
pub const FOLDER: &str = "audit";
/// First part of the names of audit files.
pub const STEM: &str = "audit";
/// Last part of the names of audit files.
pub const EXTENSION: &str = "ndjson";

/// Space for all audit files together.
const MAX_TOTAL_BYTES: u64 = 512 << 20;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A tool, resource or prompt was called.
    Call,
    /// A caller was not let in.
    AuthFailure,
    /// An address or token was locked out.
    Lockout,
    /// Configuration, tokens or patterns were read again.
    Reload,
    /// The server started.
    Start,
    /// The server stopped.
    Stop,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When.
    pub ts: Timestamp,
    /// What kind of thing.
    pub kind: Kind,
    /// Who, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Tenant of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Tool (dotted), resource or prompt called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Scope named by the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Project that the call worked in, whether it named it or the connection, the token or the
    /// server did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Item concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `ok`, or the stable word of the failure.
    pub outcome: String,
    /// Milliseconds, waiting included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// Items in the answer, for reads of many: hits, entries of a pack, or what a comparison names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// Secrets redacted by the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redactions: Option<u64>,
    /// Whether the call changes something.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub write: bool,
    /// How the caller came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Address of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What else there is to say; made by the server, never by the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Entry {
    /// A line of `kind` with nothing else known.
    pub fn new(kind: Kind, outcome: impl Into<String>) -> Self {
        Self {
            ts: Timestamp::now(),
            kind,
            subject: None,
            tenant: None,
            tool: None,
            scope: None,
            project: None,
            id: None,
            outcome: outcome.into(),
            duration_ms: None,
            items: None,
            redactions: None,
            write: false,
            transport: None,
            peer: None,
            detail: None,
        }
    }

    /// Takes over where a call went: scope, project and item.
    #[must_use]
    pub fn about(mut self, asked: &Asked) -> Self {
        self.scope.clone_from(&asked.scope);
        self.project.clone_from(&asked.project);
        self.id.clone_from(&asked.id);
        self
    }

    /// Takes from the result of a call the item it concerned and counts.
    #[must_use]
    pub fn with_result(mut self, result: &Value) -> Self {
        let text = |name: &str| {
            let text = result.get(name).and_then(Value::as_str)?;
            (text.len() <= MAX_NAME).then(|| text.to_owned())
        };
        self.id = text("id").or(self.id);
        self.items = items(result);
        let redactions = result.get("redactions").and_then(Value::as_u64);
        self.redactions = redactions.filter(|count| *count > 0);
        self
    }

    /// Takes secrets out of what the caller named: one may stand where an id belongs.
    #[must_use]
    pub fn without_secrets(mut self, redactor: &Redactor) -> Self {
        let named = [&mut self.tool, &mut self.scope, &mut self.project, &mut self.id];
        for text in named.into_iter().flatten() {
            *text = redactor.redact(text).text;
        }
        self
    }

    /// Sets the time spent.
    #[must_use]
    pub fn took(mut self, duration: Duration) -> Self {
        self.duration_ms = Some((duration.as_secs_f64() * 1e6).round() / 1e3);
        self
    }

    /// Sets where the caller came from.
    #[must_use]
    pub fn from_peer(mut self, transport: &str, peer: Option<SocketAddr>) -> Self {
        self.transport = Some(transport.to_owned());
        self.peer = peer.map(|peer| peer.to_string());
        self
    }
}

/// Lists in which answers have items, besides `items`: of a pack, a comparison, a graph.
const LISTS: [&str; 9] = [
    "snippets",
    "facts",
    "configs",
    "patterns",
    "onlyLocal",
    "onlyCommitted",
    "localNewer",
    "committedNewer",
    "nodes",
];

/// How many items an answer has; `None` for answers that are not about several.
pub fn items(result: &Value) -> Option<u64> {
    let length = |name: &str| Some(result.get(name)?.as_array()?.len() as u64);
    let own = || result.get("items").and_then(Value::as_u64);
    let lists = || LISTS.into_iter().filter_map(length).reduce(u64::saturating_add);
    length("items").or_else(own).or_else(lists)
}

/// The open audit log; cheap to clone. A disabled one swallows everything.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    sink: Option<Arc<LineSink>>,
}

impl Audit {
    /// Opens the log in the data folder `root`.
    pub fn open(
        disk: Arc<dyn Disk>,
        root: &Path,
        max_bytes: u64,
        keep_days: u32,
    ) -> Result<Self, DiskError> {
        let policy = Policy {
            stem: STEM,
            extension: EXTENSION,
            dated: true,
            max_bytes,
            keep_days,
            max_total_bytes: MAX_TOTAL_BYTES,
        };
        let sink = LineSink::start(disk, &root.join(FOLDER), policy, "audit")?;
        Ok(Self { sink: Some(Arc::new(sink)) })
    }

    /// Queues a line. Returns at once.
    pub fn record(&self, entry: &Entry) {
        if let Some(sink) = &self.sink
            && let Ok(line) = serde_json::to_vec(entry)
        {
            sink.write(line);
        }
    }

    /// Lines lost so far.
    pub fn dropped(&self) -> u64 {
        self.sink.as_ref().map_or(0, |sink| sink.dropped())
    }

    /// Writes what is queued and ends.
    pub fn close(&self) {
        if let Some(sink) = &self.sink {
            sink.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_where_a_call_went_but_not_what_was_in_it() {
        let arguments = json!({
            "id": "abc", "scope": "local", "project": "web", "title": "SECRET",
            "text": "SECRET", "q": "SECRET", "tags": ["SECRET"],
        });
        let result = json!({"id": "abc", "items": [{"text": "SECRET"}], "redactions": 2});
        let mut entry = Entry::new(Kind::Call, "ok")
            .about(&Asked::of(arguments.as_object().unwrap(), None))
            .with_result(&result)
            .took(Duration::from_micros(1500));
        entry.ts = Timestamp::from_millis(0);
        let line = serde_json::to_string(&entry).unwrap();
        insta::assert_snapshot!(line, @r#"{"ts":"1970-01-01T00:00:00.000Z","kind":"call","scope":"local","project":"web","id":"abc","outcome":"ok","durationMs":1.5,"items":1,"redactions":2}"#);
        assert!(!line.contains("SECRET"));
    }

    #[test]
    fn items_are_counted_wherever_an_answer_has_them() {
        assert_eq!(items(&json!({"items": [1, 2], "nodes": [1]})), Some(2));
        assert_eq!(items(&json!({"items": 7})), Some(7));
        assert_eq!(items(&json!({"facts": [1, 2], "snippets": [3], "links": [4]})), Some(3));
        assert_eq!(items(&json!({"onlyLocal": [1], "localNewer": []})), Some(1));
        assert_eq!(items(&json!({"id": "a"})), None);
    }

    #[test]
    fn recorded_lines_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(Arc::new(OsDisk), folder.path(), 1 << 20, 90).unwrap();
        let entry = Entry::new(Kind::Lockout, "locked");
        audit.record(&entry);
        audit.close();
        let files = OsDisk.list(&folder.path().join(FOLDER)).unwrap();
        assert_eq!(files.len(), 1);
        let bytes = OsDisk.read(&folder.path().join(FOLDER).join(&files[0].name)).unwrap();
        let read: Entry = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read, entry);
    }
}
