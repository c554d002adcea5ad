//! One run of `llm-memory serve`, after the ports are taken: opens the store, serves until a signal,
//! and sees everything end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use llm_memory_engine::Engine;
use llm_memory_engine::ids::Digest;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::drain::{self, Work};
use super::open::{open_with_patterns, parse_patterns};
use super::reload::Reloader;
use super::run_files::{RunFiles, ServerFile};
use super::sampler::Sampler;
use super::signals::{Event, Signals};
use super::watch::WatchedFile;
use super::{Instruments, compactor, jobs, mcp_options};
use crate::answer::Failure;
use crate::audit::{Entry, Kind};
use crate::auth::Authenticator;
use crate::auth::outside::Outside;
use crate::config::{Config, Effective, Sources};
use crate::jobs::JobQueue;
use crate::mcp::{McpOptions, McpService, serve_listener};
use crate::metrics::history::History;
use crate::status::Phase;
use crate::tls::server::ServerTls;

/// How often watched files are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// One run of the server, after the ports are taken.
pub(super) struct Session<'a> {
    pub(super) effective: Effective,
    pub(super) sources: Sources,
    pub(super) auth: Arc<Authenticator>,
    /// Hash of the token file that is in force.
    pub(super) tokens_read: Option<Digest>,
    /// Hash of the identities file that is in force.
    pub(super) rules_read: Option<Digest>,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) server: ServerFile,
    pub(super) admin_token: String,
    pub(super) instruments: &'a Instruments,
}

impl Session<'_> {
    pub(super) async fn run(
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
        let Some((engine, patterns_read)) = engine else { return Ok(()) };
        let reloader = self.reloader(&engine, patterns_read);
        let jobs = jobs::open(&config, self.instruments).map_err(Failure::failed)?;
        let service = McpService::new(
            Arc::clone(&engine),
            jobs::backstage(&jobs, &config, self.instruments),
            Arc::clone(&self.auth) as _,
            Arc::clone(&self.instruments.recorder) as _,
            McpOptions { tls: self.tls.clone(), ..mcp_options(&config, self.auth.is_open()) },
        );
        let work = Work::of(service);
        let served = self.serve(&engine, &reloader, listener, &mut signals, stop, &work).await;
        let outcome = drain::close(engine, &work).await?;
        self.instruments.audit.record(&Entry::new(Kind::Stop, outcome));
        served
    }

    /// Opens the store on a thread of its own, which a replay may keep busy for a while. `None`
    /// when the server was told to stop meanwhile.
    async fn open(
        &self,
        config: &Config,
        signals: &mut Signals,
    ) -> Result<Option<(Arc<Engine>, Option<Digest>)>, Failure> {
        let (disk, owned) = (Arc::clone(&self.instruments.disk), config.clone());
        let mut opening = tokio::task::spawn_blocking(move || open_with_patterns(&disk, &owned));
        let mut stopping = false;
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened,
                event = signals.next() => match event {
                    Event::Stop => stopping = true,
                    // There is nothing to reload yet; the serving loop makes up for it.
                    Event::Reload => signals.missed_reload = true,
                },
            }
        };
        let (engine, patterns_read) =
            opened.map_err(Failure::failed)?.map_err(|error| error.into_failure(config))?;
        if stopping {
            tokio::task::spawn_blocking(move || engine.close())
                .await
                .map_err(Failure::failed)?
                .map_err(Failure::failed)?;
            return Ok(None);
        }
        Ok(Some((Arc::new(engine), patterns_read)))
    }

    fn reloader(&self, engine: &Arc<Engine>, patterns_read: Option<Digest>) -> Arc<Reloader> {
        let config = &self.effective.config;
        let disk = &self.instruments.disk;
        let mut files = self.door_files();
        if let Some(path) = &config.redaction.patterns_file {
            let engine = Arc::clone(engine);
            files.push(WatchedFile::new(
                Arc::clone(disk),
                path.clone(),
                "secret patterns",
                patterns_read,
                Box::new(move |bytes| {
                    engine.set_redactor(parse_patterns(bytes)?.redactor);
                    Ok("in force for what is written from now on".to_owned().into())
                }),
            ));
        }
        Arc::new(Reloader {
            disk: Arc::clone(disk),
            sources: self.sources.clone(),
            config: Arc::new(ArcSwap::from_pointee(config.clone())),
            effective: Mutex::new(self.effective.clone()),
            auth: Arc::clone(&self.auth),
            telemetry: Arc::clone(&self.instruments.telemetry),
            recorder: Arc::clone(&self.instruments.recorder),
            audit: self.instruments.audit.clone(),
            board: Arc::clone(&self.instruments.board),
            files: Mutex::new(files),
            engine: Arc::clone(engine),
        })
    }

    /// From readiness to the end of the last call.
    async fn serve(
        &self,
        engine: &Arc<Engine>,
        reloader: &Arc<Reloader>,
        listener: std::net::TcpListener,
        signals: &mut Signals,
        stop: CancellationToken,
        work: &Work,
    ) -> Result<(), Failure> {
        let config = &self.effective.config;
        listener.set_nonblocking(true).map_err(Failure::failed)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Failure::failed)?;
        let queue = work.jobs();
        let background = stop.child_token();
        let (auth, until) = (Arc::clone(&self.auth), background.clone());
        tokio::spawn(async move {
            if let Some(outside) = auth.outside() {
                outside.keep_fresh(&until).await;
            }
        });
        tokio::spawn(self.sampler(engine, queue)?.run(background.clone()));
        let drain = background.child_token();
        let compact_over = jobs::compact_over(Arc::clone(&reloader.config));
        let runner = jobs::runner(engine, queue, self.instruments, compact_over);
        jobs::start(&runner, config.jobs.workers, &work.maintenance, &drain);
        if !config.safe_mode {
            work.maintenance.spawn(compactor::run(
                Arc::clone(engine),
                Arc::clone(&self.instruments.board),
                Arc::clone(&self.instruments.maintained),
                Arc::clone(&reloader.config),
                drain.clone(),
            ));
        }
        let mut serving = tokio::spawn(serve_listener(listener, work.service(), drain.clone()));
        self.instruments.board.set_phase(Phase::Ready);
        // Whoever sees them may ask at once; they go when the last call has ended.
        let _files = RunFiles::write(
            Arc::clone(&self.instruments.disk),
            &config.data_dir,
            &self.server,
            &self.admin_token,
        )
        .map_err(Failure::failed)?;
        self.announce();
        if signals.missed_reload {
            blocking(reloader, Reloader::reload).await;
        }
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
        let grace = reloader.config.load().grace();
        tracing::info!(grace_seconds = grace.as_secs(), "draining");
        // Whoever waits for a job is answered now and asks again at the next start.
        queue.stop();
        drain.cancel();
        let listening = ended_early.is_none().then_some(&mut serving);
        work.finish(grace, listening).await;
        background.cancel();
        match ended_early {
            Some(ended) => Err(Failure::failed(format!("the MCP listener ended: {ended:?}"))),
            None => Ok(()),
        }
    }

    fn sampler(
        &self,
        engine: &Arc<Engine>,
        queue: &Arc<JobQueue>,
    ) -> Result<Arc<Sampler>, Failure> {
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
            maintained: Arc::clone(&instruments.maintained),
            used: parking_lot::Mutex::new(None),
            jobs: Arc::clone(queue),
            history,
        }))
    }

    fn announce(&self) {
        let server = &self.server;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let show = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        tracing::info!(
            mcp = format!("{scheme}://{}/mcp", server.mcp),
            health = show(server.health),
            metrics = show(server.metrics),
            tokens = self.auth.len(),
            identities = self.auth.outside().map(Outside::len),
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
