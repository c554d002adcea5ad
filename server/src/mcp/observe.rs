//! What the protocol layer tells to audit, metrics and logs.

use std::net::SocketAddr;
use std::time::Duration;

use llm_memory_engine::ids::ProjectId;
use llm_memory_engine::item::Redactor;
use serde_json::{Map, Value};

use crate::access::Principal;
use crate::mcp::auth::{Denied, TransportKind};
use crate::tools::Tool;

/// Longest name or identifier kept; longer ones are not names.
pub const MAX_NAME: usize = 200;

/// What is kept of the arguments of a call: where it went, never what was in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// Scope named.
    pub scope: Option<String>,
    /// Project worked in, whoever named it.
    pub project: Option<String>,
    /// Item concerned.
    pub id: Option<String>,
    /// Words of the query: they may be as private as the answer, their number is not.
    pub query_words: Option<usize>,
}

impl Asked {
    /// Picks from `arguments`; `default_project` is where a call works that names no project. Only
    /// short texts are names; an argument that is none of these is not looked at.
    pub fn of(arguments: &Map<String, Value>, default_project: Option<&ProjectId>) -> Self {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str);
        let short =
            |name: &str| text(name).filter(|text| text.len() <= MAX_NAME).map(str::to_owned);
        Self {
            scope: short("scope"),
            project: short("project").or_else(|| default_project.map(ToString::to_string)),
            id: short("id").or_else(|| short("from")),
            query_words: text("q").map(|words| words.split_whitespace().count()),
        }
    }
}

/// A finished operation.
#[derive(Debug)]
pub struct CallRecord<'a> {
    /// The tool that did it, also for resources and prompts.
    pub tool: &'static Tool,
    /// Name as called: a tool's name, a resource's URI, a prompt's name.
    pub name: &'a str,
    /// Who called.
    pub principal: &'a Principal,
    /// What was asked for.
    pub asked: &'a Asked,
    /// The result; `None` when it failed.
    pub result: Option<&'a Value>,
    /// Stable word of the failure (`busy`, `not_found`, ...); `None` when it succeeded.
    pub error: Option<&'static str>,
    /// Message of the failure.
    pub message: Option<&'a str>,
    /// The argument that was not acceptable.
    pub field: Option<&'a str>,
    /// Time from the request to the answer, waiting included.
    pub duration: Duration,
    /// How the caller came.
    pub transport: TransportKind,
    /// Address of the caller.
    pub peer: Option<SocketAddr>,
    /// Takes secrets out of what is kept of the call: one may stand where an id belongs.
    pub redactor: &'a Redactor,
}

/// Receives what happens. Called from async tasks, so it must not block.
pub trait Observe: Send + Sync + 'static {
    /// An operation finished, well or not.
    fn call_finished(&self, record: &CallRecord<'_>);

    /// A caller was not let in.
    fn denied(&self, denied: &Denied, transport: TransportKind, peer: Option<SocketAddr>) {
        let _ = (denied, transport, peer);
    }

    /// The number of open connections changed.
    fn connections(&self, transport: TransportKind, open: usize) {
        let _ = (transport, open);
    }
}

/// Nobody is watching.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observe for NoObserver {
    fn call_finished(&self, _record: &CallRecord<'_>) {}
}
