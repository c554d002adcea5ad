//! What the protocol layer tells to audit, metrics and logs.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::access::Principal;
use crate::mcp::auth::{Denied, TransportKind};
use crate::tools::Tool;

/// A finished operation.
#[derive(Debug)]
pub struct CallRecord<'a> {
    /// The tool; `None` for resources and prompts.
    pub tool: Option<&'static Tool>,
    /// Name as called: a tool's name, a resource's URI, a prompt's name.
    pub name: &'a str,
    /// Who called.
    pub principal: &'a Principal,
    /// Arguments as received; contains item text, so the receiver picks what it keeps.
    pub arguments: &'a Map<String, Value>,
    /// The result; `None` when it failed.
    pub result: Option<&'a Value>,
    /// Stable word of the failure (`busy`, `not_found`, ...); `None` when it succeeded.
    pub error: Option<&'static str>,
    /// Message of the failure.
    pub message: Option<&'a str>,
    /// Time from the request to the answer, waiting included.
    pub duration: Duration,
    /// How the caller came.
    pub transport: TransportKind,
    /// Address of the caller.
    pub peer: Option<SocketAddr>,
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
