//! `llm-memory stdio`: MCP on standard input and output, for clients that start their server
//! themselves.
//!
//! One process holds a data folder. When a server already does, this one becomes a bridge: JSON
//! lines between its client and that server's port, so that any number of agents can be configured
//! with the same command.

use std::sync::Arc;

use llm_memory_disk::OsDisk;
use llm_memory_engine::{Engine, EngineError};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::open::open_engine;
use super::{Instruments, Signals, mcp_options, run_files};
use crate::answer::{Answer, Failure};
use crate::config::{Config, Effective};
use crate::mcp::auth::Open;
use crate::mcp::{McpService, serve_stdio};

/// Serves standard input until it ends.
pub fn run(effective: &Effective) -> Result<Answer, Failure> {
    let config = &effective.config;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("stdio")
        .build()
        .map_err(Failure::failed)?;
    let outcome = if is_locked(config)? {
        runtime.block_on(bridge(config))
    } else {
        let instruments = Instruments::set_up(config)?;
        let outcome = open_engine(&instruments.disk, config)
            .map_err(|error| error.into_failure(config))
            .and_then(|engine| runtime.block_on(own(config, Arc::new(engine), &instruments)));
        instruments.close();
        outcome
    };
    // A thread may still be waiting for standard input, which nobody can cancel.
    runtime.shutdown_background();
    outcome.map(|()| Answer::done(json!({ "stopped": true }), ""))
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
    let service = McpService::new(
        Arc::clone(&engine),
        Arc::new(Open),
        Arc::clone(&instruments.recorder) as _,
        mcp_options(config, true),
    );
    tokio::select! {
        () = serve_stdio(service, cancel.clone()) => {}
        () = signals.stopped() => cancel.cancel(),
    }
    tokio::task::spawn_blocking(move || engine.close())
        .await
        .map_err(Failure::failed)?
        .map_err(Failure::failed)
}

/// Hands lines on to the server that holds the data folder.
async fn bridge(config: &Config) -> Result<(), Failure> {
    let Some((server, token)) = run_files::read(&OsDisk, &config.data_dir) else {
        return Err(Failure::failed(super::in_use(&config.data_dir)));
    };
    let stream = TcpStream::connect(server.mcp).await.map_err(|error| {
        Failure::failed(format!(
            "{} is in use by process {}, which does not answer on {}: {error}",
            config.data_dir.display(),
            server.pid,
            server.mcp
        ))
    })?;
    let (mut from_server, mut to_server) = stream.into_split();
    if let Some(token) = token {
        let hello = json!({ "jsonrpc": "2.0", "method": "auth", "params": { "token": token } });
        let line = format!("{hello}\n");
        to_server.write_all(line.as_bytes()).await.map_err(Failure::failed)?;
    }
    let answers =
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
        () = signals.stopped() => {}
    }
    Ok(())
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
