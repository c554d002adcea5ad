//! `logs`: the server's log, as the pod wrote it.

use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::names;

/// Flags of `logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the MemoryStore
    name: String,
    /// Go on as lines are written
    #[arg(short, long)]
    follow: bool,
    /// Lines from the end; everything when left out
    #[arg(long)]
    tail: Option<u32>,
    /// The log of the container before its last restart
    #[arg(short, long)]
    previous: bool,
}

/// Prints the log.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let store = context.store(&args.name).await?;
    let pod = names::pod(&args.name);
    let missing = if store.spec.replicas == 0 {
        "the store is hibernated; `kubectl memory wake` starts a pod"
    } else {
        "`kubectl memory status` shows why there is none"
    };
    let params = LogParams {
        container: Some(names::SERVER.to_owned()),
        follow: args.follow,
        tail_lines: args.tail.map(i64::from),
        previous: args.previous,
        ..LogParams::default()
    };
    let log =
        context.api::<Pod>().log_stream(&pod, &params).await.map_err(|error| {
            context.object("pod", &pod, missing).failed("read the log of", error)
        })?;
    let (mut log, mut out) = (log.compat(), tokio::io::stdout());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // Reading and writing fail for different reasons, so they are told apart.
        let count = log.read(&mut buffer).await.map_err(|source| Failure::Local {
            what: format!("the log of pod {pod} broke off; `-f --tail 0` takes it up again"),
            source,
        })?;
        let Some(lines) = buffer.get(..count).filter(|lines| !lines.is_empty()) else {
            return Ok(Exit::Done);
        };
        out.write_all(lines).await.map_err(Failure::Output)?;
        out.flush().await.map_err(Failure::Output)?;
    }
}
