//! Configuration of the server: defaults, then a JSON file, then `LLM_MEMORY_*` variables, then
//! flags. Unknown keys and variables are errors with a suggestion; every mistake is reported at
//! once, and nothing is started on a configuration that has one.

mod check;
pub mod docs;
pub mod layers;
pub mod load;
pub mod settings;
pub mod show;
mod suggest;
pub mod value;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use llm_memory_engine::Options;
use llm_memory_engine::ids::ProjectId;
use serde::Deserialize;

pub(crate) use check::is_trustworthy;
pub use load::{ConfigError, Effective, Sources, load};
pub use suggest::nearest;

/// A validated configuration. Fields are the keys of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the table in settings.rs and env_vars.rs describes each field")]
pub struct Config {
    pub data_dir: PathBuf,
    pub project: Option<String>,
    pub listen: Listen,
    pub auth: Auth,
    pub tls: Tls,
    pub redaction: Redaction,
    pub safe_mode: bool,
    pub conformance: bool,
    pub cache: Cache,
    pub journal: Journal,
    pub limits: Limits,
    pub maintenance: Maintenance,
    pub jobs: Jobs,
    pub log: Log,
    pub audit: Audit,
    pub video: Video,
}

/// Where and how connections are taken.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Listen {
    pub address: IpAddr,
    pub mcp_port: u16,
    pub health_port: u16,
    pub metrics_port: u16,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
    pub public_url: Option<String>,
    pub mcp_path: String,
    pub max_connections: usize,
    pub max_sessions: usize,
    pub session_idle_minutes: u64,
}

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Auth {
    pub allow_anonymous: bool,
    pub tokens_file: PathBuf,
    pub identities_file: PathBuf,
    pub kubernetes: Kubernetes,
    pub oidc: Oidc,
    pub lockout_failures: u32,
    pub lockout_minutes: u64,
}

impl Auth {
    /// Whether somebody else is asked who a caller is.
    pub const fn asks_outside(&self) -> bool {
        self.kubernetes.audience.is_some() || self.oidc.issuer.is_some()
    }
}

/// ServiceAccounts of a cluster.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Kubernetes {
    pub audience: Option<String>,
    pub api_server: Option<String>,
    pub token_file: PathBuf,
    pub ca_file: PathBuf,
}

/// Callers that an OpenID Connect issuer vouches for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Oidc {
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub jwks_url: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub subject_claim: String,
}

/// The certificate of the MCP port.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Tls {
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// What is kept out of memories.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Redaction {
    pub patterns_file: Option<PathBuf>,
}

/// Budgets of the caches.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Cache {
    pub catalog_mb: u64,
    pub payload_mb: u64,
    pub frame_mb: u64,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Journal {
    pub segment_mb: u64,
    pub signing_key_file: Option<PathBuf>,
}

/// Bounds on what callers can ask for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Limits {
    pub max_concurrent_calls: usize,
    pub call_queue: usize,
    pub max_scopes: usize,
    pub write_queue: usize,
    pub max_item_kb: usize,
    pub max_request_kb: usize,
    pub grace_seconds: u64,
}

/// Background maintenance.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Maintenance {
    pub auto_compact: bool,
    pub auto_compact_mb: u64,
}

/// The job queue.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Jobs {
    pub max_pending: usize,
    pub workers: usize,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Log {
    pub level: String,
    pub format: String,
    pub destination: String,
    pub max_mb: u64,
    pub keep_days: u32,
    pub slow_call_ms: u64,
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Audit {
    pub enabled: bool,
    pub max_mb: u64,
    pub keep_days: u32,
}

/// Settings of the video archive.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as for Config")]
pub struct Video {
    pub encoder: String,
    pub codec: String,
    pub crf: u32,
    pub preset: String,
    pub hwaccel: String,
    pub qr_error_correction: String,
}

/// Caches of a store in safe mode are no larger than this, MiB: whatever made safe mode necessary
/// may have been memory.
const SAFE_MODE_CACHE_MB: u64 = 32;

impl Config {
    /// The engine's options. The signing key is not among them: it is a file, read at start.
    pub fn engine_options(&self) -> Options {
        let bounded = |mb: u64| if self.safe_mode { mb.min(SAFE_MODE_CACHE_MB) } else { mb };
        Options {
            safe_mode: self.safe_mode,
            cache_bytes: bounded(self.cache.catalog_mb) << 20,
            payload_cache_bytes: bounded(self.cache.payload_mb) << 20,
            frame_cache_bytes: bounded(self.cache.frame_mb) << 20,
            segment_bytes: self.journal.segment_mb << 20,
            max_scopes: self.limits.max_scopes,
            write_queue: self.limits.write_queue,
            max_item_bytes: self.limits.max_item_kb << 10,
            ..Options::default()
        }
    }

    /// The project of calls that name none.
    pub fn default_project(&self) -> Option<ProjectId> {
        // Checked when the configuration was loaded.
        self.project.as_deref().and_then(|name| ProjectId::new(name).ok())
    }

    /// Address of a listener with `port`.
    pub const fn socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.listen.address, port)
    }

    /// How long calls in progress get when the server stops.
    pub const fn grace(&self) -> Duration {
        Duration::from_secs(self.limits.grace_seconds)
    }
}
