//! `llm-memory serve`: one process over one data folder.
//!
//! ```text
//! tokens, rules, certificate -> ports -> logs -> health thread -> store (replay) -> MCP, ready -> run files
//! SIGTERM/SIGINT: not ready -> no new calls, running ones get their time -> store closed -> exit 0
//! SIGHUP: configuration and every watched file read again
//! ```
//!
//! When things go wrong before readiness, the process ends with a message that says what to do and
//! leaves nothing behind. A store that cannot be closed cleanly is replayed at the next start.

pub mod admission;
mod compactor;
mod door;
mod drain;
mod jobs;
pub mod listeners;
pub(crate) mod open;
pub mod reload;
pub mod run_files;
mod sampler;
mod session;
mod signals;
pub mod signing_key;
pub mod stdio;
pub mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use llm_memory_disk::{Disk, OsDisk};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Failure};
use crate::audit::{Audit, Entry, Kind};
use crate::auth::outside::reviews::ReviewResult;
use crate::auth::own_admin;
use crate::config::{Config, Effective, Sources};
use crate::doctor::{self, Finding};
use crate::exit::Exit;
use crate::health;
use crate::maintained::Maintained;
use crate::mcp::McpOptions;
use crate::metered_disk::MeteredDisk;
use crate::metrics::Metrics;
use crate::observer::Recorder;
use crate::status::Board;
use crate::telemetry::Telemetry;
use crate::tls::server::ServerTls;
use crate::verified::Verified;
use admission::{RulesRead, TokensRead};
use listeners::Listeners;
use open::open_engine;
use run_files::ServerFile;
use session::Session;

/// How long the runtime may take to end after everything has been closed.
const RUNTIME_END: Duration = Duration::from_secs(5);

/// What every way of serving needs: logs, metrics, audit and the disk they watch.
pub(crate) struct Instruments {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) board: Arc<Board>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) audit: Audit,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) verified: Arc<Verified>,
    pub(crate) maintained: Arc<Maintained>,
    pub(crate) recorder: Arc<Recorder>,
}

impl Instruments {
    /// Sets up logs, audit and metrics in the data folder.
    pub(crate) fn set_up(config: &Config) -> Result<Self, Failure> {
        let plain: Arc<dyn Disk> = Arc::new(OsDisk);
        let root = &config.data_dir;
        plain.create_dir_all(root).map_err(Failure::failed)?;
        let telemetry = Telemetry::init(Arc::clone(&plain), root, &config.log)
            .map(Arc::new)
            .map_err(Failure::failed)?;
        let audit = if config.audit.enabled {
            let bytes = config.audit.max_mb << 20;
            Audit::open(Arc::clone(&plain), root, bytes, config.audit.keep_days)
                .map_err(Failure::failed)?
        } else {
            Audit::default()
        };
        let board = Arc::new(Board::new(config.safe_mode));
        let metrics = Arc::new(Metrics::new(Arc::clone(&board)));
        let timed = Arc::clone(&metrics);
        let disk: Arc<dyn Disk> =
            Arc::new(MeteredDisk::new(plain, Arc::new(move |time| timed.synced(time))));
        let verified = Arc::new(Verified::load(&*disk, root));
        let maintained = Arc::new(Maintained::load(&*disk, root));
        let recorder = Arc::new(Recorder::new(
            audit.clone(),
            Arc::clone(&metrics),
            Arc::clone(&verified),
            Arc::clone(&maintained),
            config.log.slow_call_ms,
        ));
        Ok(Self { disk, board, metrics, audit, telemetry, verified, maintained, recorder })
    }

    /// Writes down everything that is queued.
    pub(crate) fn close(&self) {
        self.audit.close();
        self.telemetry.flush();
    }
}

fn in_use(root: &Path) -> String {
    let (holder, remedy) = match run_files::read(&OsDisk, root) {
        Some((server, _)) => (
            format!("the server with process id {}", server.pid),
            "stop it, or serve another folder (--data-dir)",
        ),
        None => (
            "another process, which serves nobody else".to_owned(),
            "wait until it ends, serve another folder (--data-dir), or let `llm-memory serve` \
             have it: any number of `llm-memory stdio` bridge to that",
        ),
    };
    format!("{} is in use by {holder}: {remedy}", root.display())
}

/// The protocol layer's options.
pub(crate) fn mcp_options(config: &Config, open: bool) -> McpOptions {
    let defaults = McpOptions::default();
    let listen = &config.listen;
    let configured = &listen.allowed_hosts;
    // The header protects servers without tokens from pages that resolve their own name to this
    // machine. Behind tokens, and reached under names only the operator knows, it is checked when
    // he names them.
    let any = configured.iter().any(|host| host == "*")
        || (configured.is_empty() && !open && !listen.address.is_loopback());
    let mut allowed_hosts = Vec::new();
    if !any {
        allowed_hosts.extend(defaults.allowed_hosts.iter().cloned());
        if !listen.address.is_unspecified() {
            allowed_hosts.push(listen.address.to_string());
        }
        allowed_hosts.extend(configured.iter().cloned());
    }
    let mut allowed_origins = defaults.allowed_origins.clone();
    allowed_origins.extend(listen.allowed_origins.iter().cloned());
    McpOptions {
        allowed_hosts,
        allowed_origins,
        public_url: listen.public_url.clone(),
        mcp_path: listen.mcp_path.clone(),
        max_body_bytes: config.limits.max_request_kb << 10,
        max_line_bytes: config.limits.max_request_kb << 10,
        max_connections: listen.max_connections,
        max_sessions: listen.max_sessions,
        session_idle: Duration::from_secs(listen.session_idle_minutes * 60),
        max_running_calls: config.limits.max_concurrent_calls,
        max_waiting_calls: config.limits.call_queue,
        default_project: config.default_project(),
        conformance: config.conformance,
        tls: None,
        drain: config.grace(),
    }
}

/// Names under which health and metrics are served; any where the address is no loopback one, since
/// probes of a kubelet come under that of the pod.
fn health_hosts(config: &Config) -> Vec<String> {
    if config.listen.address.is_loopback() {
        mcp_options(config, true).allowed_hosts
    } else {
        Vec::new()
    }
}

/// Checks everything a server needs, opens the store and closes it again: `serve --test-mode`.
pub fn test(effective: Effective) -> Answer {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let config = effective.config.clone();
    let mut findings = doctor::examine(&disk, Ok(effective));
    let opened = open_engine(&disk, &config).map_err(|error| error.into_failure(&config));
    findings.push(match opened.map(|engine| engine.close()) {
        Ok(Ok(())) => Finding::ok("start", "the store opens and closes"),
        Ok(Err(error)) => Finding::critical("start", error.to_string(), "look at the disk"),
        Err(failure) => Finding::critical("start", failure.message, "mend what is named above"),
    });
    let mut answer = doctor::answer(&findings);
    // A warning does not keep a server from starting.
    if answer.exit == Exit::Finding {
        answer.exit = Exit::Done;
    }
    answer
}

/// Serves until a signal ends it.
pub fn run(effective: Effective, sources: Sources) -> Result<Answer, Failure> {
    let config = effective.config.clone();
    let tokens = admission::tokens(&OsDisk, &config.auth.tokens_file).map_err(Failure::usage)?;
    let rules = admission::rules(&OsDisk, &config.auth.identities_file).map_err(Failure::usage)?;
    admission::open_to_all(&config, &tokens.file).map_err(Failure::usage)?;
    let tls = ServerTls::load(&OsDisk, &config.tls).map_err(Failure::usage)?.map(Arc::new);
    let door = Door { tokens, rules, tls };
    // The store's own lock decides later; asking now keeps this process out of the log of the one
    // that holds it, and its message from being about a port.
    if stdio::is_locked(&config)? {
        return Err(Failure::failed(in_use(&config.data_dir)));
    }
    let listeners = listeners::bind(&config).map_err(Failure::failed)?;
    let instruments = Instruments::set_up(&config)?;
    let outcome = serve(effective, sources, door, listeners, &instruments);
    if let Err(failure) = &outcome {
        tracing::error!(error = failure.message, "the server ends");
    }
    instruments.close();
    outcome.map(|()| Answer::done(json!({ "stopped": true }), ""))
}

/// What decides who comes in, as it was read at the start.
struct Door {
    tokens: TokensRead,
    rules: RulesRead,
    tls: Option<Arc<ServerTls>>,
}

fn serve(
    effective: Effective,
    sources: Sources,
    door: Door,
    listeners: Listeners,
    instruments: &Instruments,
) -> Result<(), Failure> {
    let config = effective.config.clone();
    let (admin, admin_token) = own_admin();
    let (on_lockout_audit, minutes) = (instruments.audit.clone(), config.auth.lockout_minutes);
    let Door { tokens, rules, tls } = door;
    admission::tell(&instruments.board, door::TOKENS, &tokens.file.faults);
    if config.auth.asks_outside() {
        admission::tell(&instruments.board, door::IDENTITIES, &rules.file.faults);
    }
    let reviewed = Arc::clone(&instruments.metrics);
    let on_review = Box::new(move |result: ReviewResult| reviewed.token_reviewed(result.as_str()));
    let outside = admission::outside(&instruments.disk, &config, rules.file.entries, on_review)
        .map_err(Failure::usage)?;
    let auth = admission::authenticator(
        &config,
        tokens.file,
        Some(admin),
        Box::new(move |culprit| {
            tracing::warn!(culprit, "locked out after repeated failures");
            let mut entry = Entry::new(Kind::Lockout, "locked_out");
            entry.detail = Some(format!("{culprit} for {minutes} minutes"));
            on_lockout_audit.record(&entry);
        }),
    )
    .map_err(Failure::usage)?;
    let auth = Arc::new(auth.with_outside(outside));
    let stop = CancellationToken::new();
    let address = |listener: &std::net::TcpListener| listener.local_addr().map_err(Failure::failed);
    let server = ServerFile {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: instruments.board.started_at(),
        mcp: health::reachable(address(&listeners.mcp)?),
        certificates: tls.iter().map(|tls| tls.fingerprint()).collect(),
        health: Some(health::reachable(address(&listeners.health)?)),
        metrics: Some(health::reachable(address(&listeners.metrics)?)),
        safe_mode: config.safe_mode,
    };
    let health_thread = health::spawn(
        listeners.health,
        listeners.metrics,
        health_hosts(&config),
        Arc::clone(&instruments.board),
        Arc::clone(&instruments.metrics),
        stop.clone(),
    )
    .map_err(Failure::failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("serve")
        .build()
        .map_err(Failure::failed)?;
    let (tokens_read, rules_read) = (tokens.digest, rules.digest);
    let session = Session {
        effective,
        sources,
        auth,
        tokens_read,
        rules_read,
        tls,
        server,
        admin_token,
        instruments,
    };
    let outcome = runtime.block_on(session.run(listeners.mcp, stop.clone()));
    stop.cancel();
    runtime.shutdown_timeout(RUNTIME_END);
    drop(health_thread.join());
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn config(environment: &[(&str, &str)]) -> Config {
        let environment =
            environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        load(&OsDisk, &Sources { environment, ..Sources::default() }).unwrap().config
    }

    #[test]
    fn the_host_header_is_checked_unless_tokens_guard_an_address_of_unknown_names() {
        let hosts = |environment: &[(&str, &str)], open| {
            mcp_options(&config(environment), open).allowed_hosts
        };
        let anywhere = ("LLM_MEMORY_BIND_ADDRESS", "0.0.0.0");
        assert!(hosts(&[], true).contains(&"localhost".to_owned()));
        assert!(!hosts(&[], false).is_empty());
        assert!(hosts(&[anywhere], false).is_empty());
        assert!(!hosts(&[anywhere], true).is_empty());
        let named = hosts(&[anywhere, ("LLM_MEMORY_ALLOWED_HOSTS", "memory.svc")], false);
        assert!(named.contains(&"memory.svc".to_owned()));
        assert!(hosts(&[("LLM_MEMORY_ALLOWED_HOSTS", "*")], true).is_empty());
        assert!(health_hosts(&config(&[])).contains(&"localhost".to_owned()));
        assert!(health_hosts(&config(&[anywhere])).is_empty());
    }
}
