//! `llm-memory serve`: one process over one data folder.
//!
//! ```text
//! ports -> tokens -> logs -> health thread -> store (replay) -> run files -> MCP, ready
//! SIGTERM/SIGINT: not ready -> no new calls, running ones get their time -> store closed -> exit 0
//! SIGHUP: configuration, tokens and patterns read again
//! ```
//!
//! When things go wrong before readiness, the process ends with a message that says what to do and
//! leaves nothing behind. A store that cannot be closed cleanly is replayed at the next start.

pub mod admission;
mod compactor;
pub mod listeners;
pub(crate) mod open;
pub mod reload;
pub mod run_files;
mod sampler;
pub mod signing_key;
pub mod stdio;
pub mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::Engine;
use parking_lot::Mutex;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Failure};
use crate::audit::{Audit, Entry, Kind};
use crate::auth::{Authenticator, own_admin, token_file};
use crate::config::{Config, Effective, Sources};
use crate::doctor::{self, Finding};
use crate::exit::Exit;
use crate::health;
use crate::mcp::{McpOptions, McpService, serve_listener};
use crate::metered_disk::MeteredDisk;
use crate::metrics::Metrics;
use crate::metrics::history::History;
use crate::observer::Recorder;
use crate::status::{Board, Phase};
use crate::telemetry::Telemetry;
use crate::verified::Verified;
use listeners::Listeners;
use open::{open_engine, parse_patterns};
use reload::Reloader;
use run_files::{RunFiles, ServerFile};
use sampler::Sampler;
use watch::WatchedFile;

/// How often watched files are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(2);
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
        let recorder = Arc::new(Recorder::new(
            audit.clone(),
            Arc::clone(&metrics),
            Arc::clone(&verified),
            config.log.slow_call_ms,
        ));
        Ok(Self { disk, board, metrics, audit, telemetry, verified, recorder })
    }

    /// Writes down everything that is queued.
    pub(crate) fn close(&self) {
        self.audit.close();
        self.telemetry.flush();
    }
}

fn in_use(root: &Path) -> String {
    let holder = run_files::read(&OsDisk, root).map_or_else(
        || "another process".to_owned(),
        |(server, _)| format!("the server with process id {}", server.pid),
    );
    format!(
        "{} is in use by {holder}: stop it, or serve another folder (--data-dir)",
        root.display()
    )
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
        max_body_bytes: config.limits.max_request_kb << 10,
        max_line_bytes: config.limits.max_request_kb << 10,
        max_connections: listen.max_connections,
        max_sessions: listen.max_sessions,
        session_idle: Duration::from_secs(listen.session_idle_minutes * 60),
        max_running_calls: config.limits.max_concurrent_calls,
        max_waiting_calls: config.limits.call_queue,
        default_project: config.default_project(),
        conformance: config.conformance,
        drain: config.grace(),
        ..defaults
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
    admission::open_to_all(&config, &tokens).map_err(Failure::usage)?;
    // The store's own lock decides later; asking now keeps this process out of the log of the one
    // that holds it, and its message from being about a port.
    if stdio::is_locked(&config)? {
        return Err(Failure::failed(in_use(&config.data_dir)));
    }
    let listeners = listeners::bind(&config).map_err(Failure::failed)?;
    let instruments = Instruments::set_up(&config)?;
    let outcome = serve(effective, sources, tokens, listeners, &instruments);
    if let Err(failure) = &outcome {
        tracing::error!(error = failure.message, "the server ends");
    }
    instruments.close();
    outcome.map(|()| Answer::done(json!({ "stopped": true }), ""))
}

fn serve(
    effective: Effective,
    sources: Sources,
    tokens: Vec<token_file::TokenEntry>,
    listeners: Listeners,
    instruments: &Instruments,
) -> Result<(), Failure> {
    let config = effective.config.clone();
    let (admin, admin_token) = own_admin();
    let (on_lockout_audit, minutes) = (instruments.audit.clone(), config.auth.lockout_minutes);
    let auth = admission::authenticator(
        &config,
        tokens,
        Some(admin),
        Box::new(move |culprit| {
            tracing::warn!(culprit, "locked out after repeated failures");
            let mut entry = Entry::new(Kind::Lockout, "locked_out");
            entry.detail = Some(format!("{culprit} for {minutes} minutes"));
            on_lockout_audit.record(&entry);
        }),
    )
    .map_err(Failure::usage)?;
    let auth = Arc::new(auth);
    let stop = CancellationToken::new();
    let address = |listener: &std::net::TcpListener| listener.local_addr().map_err(Failure::failed);
    let server = ServerFile {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: instruments.board.started_at(),
        mcp: health::reachable(address(&listeners.mcp)?),
        health: health::reachable(address(&listeners.health)?),
        metrics: health::reachable(address(&listeners.metrics)?),
        safe_mode: config.safe_mode,
    };
    let health_thread = health::spawn(
        listeners.health,
        listeners.metrics,
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
    let session = Session { effective, sources, auth, server, admin_token, instruments };
    let outcome = runtime.block_on(session.run(listeners.mcp, stop.clone()));
    stop.cancel();
    runtime.shutdown_timeout(RUNTIME_END);
    drop(health_thread.join());
    outcome
}

/// One run of the server, after the ports are taken.
struct Session<'a> {
    effective: Effective,
    sources: Sources,
    auth: Arc<Authenticator>,
    server: ServerFile,
    admin_token: String,
    instruments: &'a Instruments,
}

impl Session<'_> {
    async fn run(
        self,
        listener: std::net::TcpListener,
        stop: CancellationToken,
    ) -> Result<(), Failure> {
        let mut signals = Signals::new().map_err(Failure::failed)?;
        let config = self.effective.config.clone();
        tracing::info!(
            version = self.server.version,
            data_dir = %config.data_dir.display(),
            safe_mode = config.safe_mode,
            "starting"
        );
        let engine = self.open(&config, &mut signals).await?;
        let Some(engine) = engine else { return Ok(()) };
        let reloader = self.reloader(&engine)?;
        let files = RunFiles::write(
            Arc::clone(&self.instruments.disk),
            &config.data_dir,
            &self.server,
            &self.admin_token,
        )
        .map_err(Failure::failed)?;
        let served = self.serve(&engine, &reloader, listener, &mut signals, stop).await;
        drop(files);
        let closed = tokio::task::spawn_blocking(move || engine.close()).await;
        match closed {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => {
                return Err(Failure::failed(format!("cannot close the store: {error}")));
            }
            Err(error) => return Err(Failure::failed(format!("cannot close the store: {error}"))),
        }
        self.instruments.audit.record(&Entry::new(Kind::Stop, "ok"));
        served
    }

    /// Opens the store on a thread of its own, which a replay may keep busy for a while. `None`
    /// when the server was told to stop meanwhile.
    async fn open(
        &self,
        config: &Config,
        signals: &mut Signals,
    ) -> Result<Option<Arc<Engine>>, Failure> {
        let (disk, owned) = (Arc::clone(&self.instruments.disk), config.clone());
        let mut opening = tokio::task::spawn_blocking(move || open_engine(&disk, &owned));
        let mut stopping = false;
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened,
                event = signals.next() => stopping |= event == Event::Stop,
            }
        };
        let engine =
            opened.map_err(Failure::failed)?.map_err(|error| error.into_failure(config))?;
        if stopping {
            tokio::task::spawn_blocking(move || engine.close())
                .await
                .map_err(Failure::failed)?
                .map_err(Failure::failed)?;
            return Ok(None);
        }
        Ok(Some(Arc::new(engine)))
    }

    fn reloader(&self, engine: &Arc<Engine>) -> Result<Arc<Reloader>, Failure> {
        let config = &self.effective.config;
        let disk = &self.instruments.disk;
        let auth = Arc::clone(&self.auth);
        let tokens = WatchedFile::new(
            Arc::clone(disk),
            config.auth.tokens_file.clone(),
            "tokens",
            Box::new(move |bytes| {
                let entries = token_file::parse(bytes).map_err(|error| error.to_string())?;
                let count = entries.len();
                auth.replace(entries);
                Ok(format!("{count} in force"))
            }),
        );
        let mut files = vec![tokens];
        if let Some(path) = &config.redaction.patterns_file {
            let engine = Arc::clone(engine);
            files.push(WatchedFile::new(
                Arc::clone(disk),
                path.clone(),
                "secret patterns",
                Box::new(move |bytes| {
                    engine.set_redactor(parse_patterns(bytes)?.1);
                    Ok("in force for what is written from now on".to_owned())
                }),
            ));
        }
        Ok(Arc::new(Reloader {
            disk: Arc::clone(disk),
            sources: self.sources.clone(),
            config: Arc::new(ArcSwap::from_pointee(config.clone())),
            effective: Mutex::new(self.effective.clone()),
            auth: Arc::clone(&self.auth),
            telemetry: Arc::clone(&self.instruments.telemetry),
            recorder: Arc::clone(&self.instruments.recorder),
            audit: self.instruments.audit.clone(),
            files: Mutex::new(files),
            engine: Arc::clone(engine),
        }))
    }

    /// From readiness to the end of the last call.
    async fn serve(
        &self,
        engine: &Arc<Engine>,
        reloader: &Arc<Reloader>,
        listener: std::net::TcpListener,
        signals: &mut Signals,
        stop: CancellationToken,
    ) -> Result<(), Failure> {
        let config = &self.effective.config;
        let service = McpService::new(
            Arc::clone(engine),
            Arc::clone(&self.auth) as _,
            Arc::clone(&self.instruments.recorder) as _,
            mcp_options(config, self.auth.is_open()),
        );
        listener.set_nonblocking(true).map_err(Failure::failed)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Failure::failed)?;
        let background = stop.child_token();
        tokio::spawn(self.sampler(engine)?.run(background.clone()));
        if !config.safe_mode {
            tokio::spawn(compactor::run(
                Arc::clone(engine),
                Arc::clone(&self.instruments.board),
                Arc::clone(&reloader.config),
                background.clone(),
            ));
        }
        let drain = CancellationToken::new();
        let mut serving = tokio::spawn(serve_listener(listener, service, drain.clone()));
        self.instruments.board.set_phase(Phase::Ready);
        self.announce();
        let mut watch = tokio::time::interval(WATCH_EVERY);
        let ended_early = loop {
            tokio::select! {
                event = signals.next() => match event {
                    Event::Stop => break None,
                    Event::Reload => blocking(reloader, Reloader::reload).await,
                },
                _ = watch.tick() => blocking(reloader, Reloader::look_at_files).await,
                ended = &mut serving => break Some(ended),
            }
        };
        self.instruments.board.set_phase(Phase::Draining);
        if let Some(ended) = ended_early {
            background.cancel();
            return Err(Failure::failed(format!("the MCP listener ended: {ended:?}")));
        }
        let grace = reloader.config.load().grace();
        tracing::info!(grace_seconds = grace.as_secs(), "draining");
        drain.cancel();
        // The listener ends by itself within its own time; the margin is for a stuck one.
        if tokio::time::timeout(grace + RUNTIME_END, &mut serving).await.is_err() {
            tracing::warn!("calls still running after the grace period are abandoned");
            serving.abort();
        }
        background.cancel();
        Ok(())
    }

    fn sampler(&self, engine: &Arc<Engine>) -> Result<Arc<Sampler>, Failure> {
        let config = &self.effective.config;
        let instruments = self.instruments;
        let history = if config.safe_mode {
            None
        } else {
            let opened = History::open(Arc::clone(&instruments.disk), &config.data_dir);
            Some(opened.map_err(Failure::failed)?)
        };
        Ok(Arc::new(Sampler {
            engine: Arc::clone(engine),
            disk: Arc::clone(&instruments.disk),
            root: config.data_dir.clone(),
            board: Arc::clone(&instruments.board),
            metrics: Arc::clone(&instruments.metrics),
            auth: Arc::clone(&self.auth),
            audit: instruments.audit.clone(),
            telemetry: Arc::clone(&instruments.telemetry),
            verified: Arc::clone(&instruments.verified),
            history,
        }))
    }

    fn announce(&self) {
        let server = &self.server;
        let show = |address: SocketAddr| address.to_string();
        tracing::info!(
            mcp = format!("http://{}/mcp", server.mcp),
            health = show(server.health),
            metrics = show(server.metrics),
            tokens = self.auth.len(),
            "ready"
        );
        if self.auth.is_open() && !self.effective.config.listen.address.is_loopback() {
            tracing::warn!("everybody who reaches this server can read and change everything");
        }
        self.instruments.audit.record(&Entry::new(Kind::Start, "ok"));
    }
}

/// Runs work that touches the disk away from the threads that answer.
async fn blocking(reloader: &Arc<Reloader>, work: fn(&Reloader)) {
    let reloader = Arc::clone(reloader);
    if let Err(error) = tokio::task::spawn_blocking(move || work(&reloader)).await {
        tracing::error!(%error, "config.reload: ended early");
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that ends the process; others pass.
    async fn stopped(&mut self) {
        while self.next().await != Event::Stop {}
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::Stop,
            _ = self.interrupt.recv() => Event::Stop,
            _ = self.hang_up.recv() => Event::Reload,
        }
    }
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
    }
}
