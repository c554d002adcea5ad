//! `llm-memory stdio`: MCP on standard input and output, for clients that start their server
//! themselves.
//!
//! One process holds a data folder. When another already does, be it a server or one like this,
//! this one becomes a bridge: JSON lines between its client and the other's port, so that any
//! number of agents can be configured with the same command. One that holds the folder listens on
//! the loopback address for as long as its own client stays, for whoever can read its token.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use llm_memory_disk::OsDisk;
use llm_memory_engine::{Engine, EngineError};
use serde_json::{Map, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::drain::{self, Work};
use super::open::open_engine;
use super::run_files::{self, RunFiles, ServerFile};
use super::signals::Signals;
use super::{Instruments, RUNTIME_END, admission, jobs, mcp_options};
use crate::answer::{Answer, Failure};
use crate::auth::lockout::Lockout;
use crate::auth::{Authenticator, own_admin};
use crate::config::{Config, Effective};
use crate::mcp::{Backstage, McpService, serve_listener, serve_stdio};

/// How long a process that has just taken the folder may take to say where it listens.
const HOLDER_STARTS: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Serves standard input until it ends.
pub fn run(effective: &Effective) -> Result<Answer, Failure> {
    let config = &effective.config;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("stdio")
        .build()
        .map_err(Failure::failed)?;
    let outcome = serve(config, &runtime);
    // A thread may still be waiting for standard input, which nobody can cancel.
    runtime.shutdown_background();
    outcome.map(|()| Answer::done(json!({ "stopped": true }), ""))
}

/// Holds the folder, or bridges to whoever does; looks again where that has just changed.
fn serve(config: &Config, runtime: &Runtime) -> Result<(), Failure> {
    let mut instruments = None;
    let outcome = loop {
        if is_locked(config)? {
            match runtime.block_on(bridge(config)) {
                Ok(Bridged::FolderIsFree) => continue,
                Ok(Bridged::Done) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        }
        let instruments = match &mut instruments {
            Some(instruments) => instruments,
            none => none.insert(Instruments::set_up(config)?),
        };
        match open_engine(&instruments.disk, config) {
            Ok(engine) => break runtime.block_on(own(config, Arc::new(engine), instruments)),
            // Another client's process was faster.
            Err(_) if is_locked(config)? => {}
            Err(error) => break Err(error.into_failure(config)),
        }
    };
    if let Some(instruments) = instruments {
        instruments.close();
    }
    outcome
}

/// Whether another process holds the data folder.
pub(crate) fn is_locked(config: &Config) -> Result<bool, Failure> {
    use llm_memory_disk::Disk as _;

    let path = config.data_dir.join("lock");
    if !OsDisk.exists(&path).map_err(Failure::failed)? {
        return Ok(false);
    }
    match OsDisk.lock(&path) {
        Ok(guard) => {
            drop(guard);
            Ok(false)
        }
        Err(error) if error.is_locked() => Ok(true),
        Err(error) => Err(Failure::failed(EngineError::from(error))),
    }
}

async fn own(
    config: &Config,
    engine: Arc<Engine>,
    instruments: &Instruments,
) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(Failure::failed)?;
    let cancel = CancellationToken::new();
    let (admin, token) = own_admin();
    let lockout = Lockout::new(config.auth.lockout_failures, admission::lockout_time(config));
    let jobs = jobs::open(config, instruments).map_err(Failure::failed)?;
    let service = McpService::new(
        Arc::clone(&engine),
        Backstage::of(Arc::clone(&jobs)),
        // Our own client needs no token; others show the one in the folder.
        Arc::new(Authenticator::new(Vec::new(), false, Some(admin), lockout, Box::new(|_| {}))),
        Arc::clone(&instruments.recorder) as _,
        mcp_options(config, true),
    );
    let work = Work::of(service);
    let over = config.maintenance.auto_compact_mb << 20;
    let runner = jobs::runner(&engine, &jobs, instruments, Box::new(move || over));
    jobs::start(&runner, config.jobs.workers, &work.maintenance, &cancel);
    let mut sharing = match share(config, instruments, &token, &work, &cancel).await {
        Ok(sharing) => Some(sharing),
        Err(failure) => {
            tracing::warn!(error = failure.message, "other clients cannot use this process");
            None
        }
    };
    let mut serving = std::pin::pin!(serve_stdio(work.service(), cancel.clone()));
    tokio::select! {
        () = &mut serving => {
            jobs.stop();
            cancel.cancel();
        }
        () = signals.stopped() => {
            jobs.stop();
            cancel.cancel();
            let limit = config.grace() + RUNTIME_END;
            if tokio::time::timeout(limit, &mut serving).await.is_err() {
                tracing::warn!("calls still running after the grace period are abandoned");
            }
        }
    }
    let listening = sharing.as_mut().map(|(_, listening)| listening);
    work.finish(config.grace(), listening).await;
    drop(sharing);
    drain::close(engine, &work).await.map(|_how| ())
}

/// Lets the processes of other clients bridge to this one.
async fn share(
    config: &Config,
    instruments: &Instruments,
    token: &str,
    work: &Work,
    cancel: &CancellationToken,
) -> Result<(RunFiles, JoinHandle<std::io::Result<()>>), Failure> {
    let listener =
        tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Failure::failed)?;
    let server = ServerFile {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: instruments.board.started_at(),
        mcp: listener.local_addr().map_err(Failure::failed)?,
        certificates: Vec::new(),
        health: None,
        metrics: None,
        safe_mode: config.safe_mode,
    };
    let disk = Arc::clone(&instruments.disk);
    let files = RunFiles::write(disk, &config.data_dir, &server, token).map_err(Failure::failed)?;
    let listening = tokio::spawn(serve_listener(listener, work.service(), cancel.clone()));
    Ok((files, listening))
}

/// A connection in one direction, with or without TLS.
type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects to the MCP port of `server`.
async fn connect(server: &ServerFile) -> std::io::Result<(Reader, Writer)> {
    let stream = TcpStream::connect(server.mcp).await?;
    let Some(trust) = server.trust() else {
        let (reader, writer) = stream.into_split();
        return Ok((Box::new(reader), Box::new(writer)));
    };
    let host = server.mcp.ip().to_string();
    let secured = trust.connect(&OsDisk, &host, stream).await.map_err(std::io::Error::other)?;
    let (reader, writer) = tokio::io::split(secured);
    Ok((Box::new(reader), Box::new(writer)))
}

/// A connection to the process that holds the data folder, and its token. One that has just begun
/// gets its time. `None` when nobody holds it any more.
async fn holder(config: &Config) -> Result<Option<((Reader, Writer), Option<String>)>, Failure> {
    let until = Instant::now() + HOLDER_STARTS;
    loop {
        let failure = match run_files::read(&OsDisk, &config.data_dir) {
            None => super::in_use(&config.data_dir),
            Some((server, token)) => match connect(&server).await {
                Ok(halves) => return Ok(Some((halves, token))),
                Err(error) => format!(
                    "{} is in use by process {}, which does not answer on {}: {error}",
                    config.data_dir.display(),
                    server.pid,
                    server.mcp
                ),
            },
        };
        if !is_locked(config)? {
            return Ok(None);
        }
        if Instant::now() >= until {
            return Err(Failure::failed(failure));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// How a bridge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bridged {
    /// Its client or a signal ended it.
    Done,
    /// There was nobody to bridge to.
    FolderIsFree,
}

/// Hands lines on to the process that holds the data folder.
async fn bridge(config: &Config) -> Result<Bridged, Failure> {
    let Some((halves, token)) = holder(config).await? else { return Ok(Bridged::FolderIsFree) };
    let (mut from_server, mut to_server) = halves;
    if let Some(hello) = hello(token, config) {
        to_server.write_all(hello.as_bytes()).await.map_err(Failure::failed)?;
    }
    let mut answers =
        tokio::spawn(async move { copy(&mut from_server, &mut tokio::io::stdout()).await });
    let mut input = tokio::io::stdin();
    let mut signals = Signals::new().map_err(Failure::failed)?;
    tokio::select! {
        asked = copy(&mut input, &mut to_server) => {
            asked.map_err(Failure::failed)?;
            // The client has closed its end; answers still under way are its own.
            to_server.shutdown().await.map_err(Failure::failed)?;
            answers.await.map_err(Failure::failed)?.map_err(Failure::failed)?;
        }
        _ = &mut answers => {
            let root = config.data_dir.display();
            return Err(Failure::failed(format!(
                "the process that held {root} has ended: start this one again"
            )));
        }
        () = signals.stopped() => {}
    }
    Ok(Bridged::Done)
}

/// What a bridge says first: who calls, and the project of its client, which the other process
/// does not know.
fn hello(token: Option<String>, config: &Config) -> Option<String> {
    let token = token.map(|token| ("token".to_owned(), token.into()));
    let project = config.default_project();
    let project = project.map(|project| ("project".to_owned(), project.as_str().into()));
    let params: Map<_, _> = token.into_iter().chain(project).collect();
    if params.is_empty() {
        return None;
    }
    Some(format!("{}\n", json!({ "jsonrpc": "2.0", "method": "auth", "params": params })))
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt as _;

    let mut buffer = vec![0_u8; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        to.write_all(bytes).await?;
        // A line is worth nothing to its reader before it is whole.
        to.flush().await?;
    }
}
