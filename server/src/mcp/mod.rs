//! The Model Context Protocol over the tool table: Streamable HTTP and JSON lines on one TCP
//! port, and stdio; protocol revisions 2026-07-28 (stateless) and 2025-11-25 (sessions).
//!
//! ```text
//! listener  accepts, looks at the first byte      -> http   axum: auth, sessions, rmcp's tower
//!                                                 -> lines  a JSON-RPC message a line
//! api       jobs and status as plain HTTP at /api/v1, over the same table
//! handler   rmcp's ServerHandler over crate::tools -> calls  gate, blocking thread, observer
//! ```
//!
//! When things go wrong: a caller that is not let in gets 401, 403 or 429 (over TCP the same as a
//! JSON-RPC error) before anything is parsed further; a full gate answers `busy`; a failed tool is
//! a result with `isError` that says what to do; only broken protocol is a JSON-RPC error. After
//! the stop signal no new connection is taken, open requests get [`McpOptions::drain`] to end.

pub(crate) mod api;
pub mod auth;
mod backstage;
mod calls;
mod changes;
mod conformance;
pub mod errors;
mod gate;
mod handler;
pub(crate) mod http;
pub mod lines;
mod listener;
mod listing;
mod long;
mod malformed;
pub mod observe;
mod options;
mod origin;
mod prompts;
mod resources;
mod secure;
mod sessions;
mod stdio;

use std::fmt;
use std::sync::Arc;

use llm_memory_engine::Engine;

use crate::jobs::JobQueue;
use crate::mcp::auth::Authenticate;
pub use crate::mcp::backstage::Backstage;
use crate::mcp::changes::Changes;
use crate::mcp::conformance::Fixtures;
use crate::mcp::gate::Gate;
use crate::mcp::long::LongMessages;
use crate::mcp::observe::Observe;
pub use crate::mcp::options::McpOptions;
pub use crate::mcp::origin::PROJECT_HEADER;
pub use listener::serve_listener;
pub use stdio::{serve_stdio, serve_stream};

/// Everything that connections share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) backstage: Backstage,
    pub(crate) authenticator: Arc<dyn Authenticate>,
    pub(crate) observer: Arc<dyn Observe>,
    pub(crate) options: McpOptions,
    pub(crate) gate: Gate,
    pub(crate) long: LongMessages,
    pub(crate) changes: Changes,
    /// Present in conformance mode only.
    pub(crate) fixtures: Option<Fixtures>,
}

/// The protocol layer over one engine. Cheap to clone; serve as many listeners with it as needed.
#[derive(Clone)]
pub struct McpService {
    shared: Arc<Shared>,
}

impl fmt::Debug for McpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpService").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl McpService {
    /// A service over `engine`. Registers a change listener with it, so make one service an
    /// engine.
    pub fn new(
        engine: Arc<Engine>,
        backstage: Backstage,
        authenticator: Arc<dyn Authenticate>,
        observer: Arc<dyn Observe>,
        options: McpOptions,
    ) -> Self {
        let changes = Changes::new();
        engine.on_change(changes.listener());
        let shared = Shared {
            gate: Gate::new(options.max_running_calls, options.max_waiting_calls),
            long: LongMessages::new(&options),
            fixtures: options.conformance.then(Fixtures::new),
            engine,
            backstage,
            authenticator,
            observer,
            options,
            changes,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The jobs that calls are about.
    pub fn jobs(&self) -> &Arc<JobQueue> {
        &self.shared.backstage.jobs
    }

    /// Whether no call is at work in the engine.
    pub fn is_idle(&self) -> bool {
        self.shared.gate.is_idle()
    }
}
