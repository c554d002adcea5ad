//! What can be chosen about the protocol layer.

use std::sync::Arc;
use std::time::Duration;

use llm_memory_engine::ids::ProjectId;

use crate::mcp::http::MCP_PATH;
use crate::tls::server::ServerTls;

/// Settings of the protocol layer. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct McpOptions {
    /// Values of the `Host` header that are served, as `host` or `host:port`; empty serves any.
    pub allowed_hosts: Vec<String>,
    /// Browser origins that may call, as `https://app.example.com:443` or `http://localhost:*`;
    /// a request with any other `Origin` header is refused.
    pub allowed_origins: Vec<String>,
    /// Address under which clients reach the server, for RFC 9728 metadata; taken from the `Host`
    /// header when left out.
    pub public_url: Option<String>,
    /// Path at which MCP is served besides `/mcp`, and which clients are told.
    pub mcp_path: String,
    /// Longest HTTP request body.
    pub max_body_bytes: usize,
    /// Longest line over TCP and stdio.
    pub max_line_bytes: usize,
    /// Connections open at one time; one more closes the oldest of those who have not shown who they
    /// are, and is refused where there is none.
    pub max_connections: usize,
    /// Sessions of the 2025-11-25 protocol open at one time; one more closes the one unused for
    /// longest, of whoever holds the most where that is over a quarter of all.
    pub max_sessions: usize,
    /// A session without traffic for so long is closed.
    pub session_idle: Duration,
    /// Engine calls running at one time.
    pub max_running_calls: usize,
    /// Engine calls waiting to run; more are answered `busy`.
    pub max_waiting_calls: usize,
    /// Project of calls that name none.
    pub default_project: Option<ProjectId>,
    /// Serve the fixtures of the official conformance suite besides the real tools.
    pub conformance: bool,
    /// Certificate of the port, which then speaks TLS only.
    pub tls: Option<Arc<ServerTls>>,
    /// How long open requests may take to end after the stop signal.
    pub drain: Duration,
}

impl Default for McpOptions {
    fn default() -> Self {
        Self {
            allowed_hosts: ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
            allowed_origins: ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"]
                .map(str::to_owned)
                .to_vec(),
            public_url: None,
            mcp_path: MCP_PATH.to_owned(),
            max_body_bytes: 4 << 20,
            max_line_bytes: 4 << 20,
            max_connections: 1024,
            max_sessions: 1024,
            session_idle: Duration::from_secs(30 * 60),
            max_running_calls: 128,
            max_waiting_calls: 512,
            default_project: None,
            conformance: false,
            tls: None,
            drain: Duration::from_secs(10),
        }
    }
}
