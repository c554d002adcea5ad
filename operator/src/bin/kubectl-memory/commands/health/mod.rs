//! `health`: a store in one figure, with its parts; and everything about it in one report.

mod score;
mod server;

use futures_util::StreamExt as _;
use kube::api::ListParams;
use llm_memory_crds::MemoryStore;
use serde::Serialize;
use serde_json::Value;

use self::score::Score;
use super::pod::{self, Finding};
use super::status::Observed;
use super::usage;
use crate::context::Context;
use crate::error::{Failure, failed};
use crate::exit::Exit;
use crate::printer;

/// Flags of `health`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the MemoryStore; all of the namespace when left out
    name: Option<String>,
    /// Also check the pod, and let the server report on itself: service, latency, disk, journal,
    /// views, segments and jobs. Runs a command in the pod
    #[arg(long, requires = "name")]
    comprehensive: bool,
}

/// Stores that are looked at at the same time.
const AT_ONCE: usize = 8;

/// The cluster's view of a store, the check of its pod, and the server's own report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Comprehensive {
    cluster: Score,
    pod: Vec<Finding>,
    server: OfServer,
}

/// The server's report, or why there is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum OfServer {
    Had(Value),
    Missing { missing: String },
}

/// Scores one store, or all of the namespace.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    match &args.name {
        Some(name) if args.comprehensive => comprehensive(context, name).await,
        Some(name) => {
            let score = look(context, name).await?.1;
            context.printer.answer(&score, || score.text())?;
            Ok(score.exit())
        }
        None => all(context).await,
    }
}

async fn look(context: &Context, name: &str) -> Result<(Observed, Score), Failure> {
    let (observed, usage) =
        tokio::try_join!(Observed::read(context, name), usage::read(context, name))?;
    let score = Score::of(&observed, usage.as_ref());
    Ok((observed, score))
}

async fn comprehensive(context: &Context, name: &str) -> Result<Exit, Failure> {
    let (observed, cluster) = look(context, name).await?;
    let server = match server::report(context, name).await {
        Ok(report) => OfServer::Had(report),
        Err(failure) => OfServer::Missing { missing: failure.to_string() },
    };
    let (pod, worst) = pod::check(&observed);
    let of_server = match &server {
        OfServer::Had(report) => server::exit(report),
        OfServer::Missing { .. } => Exit::Finding,
    };
    let exit = [cluster.exit(), worst, of_server].into_iter().max_by_key(|exit| exit.code());
    let report = Comprehensive { cluster, pod, server };
    context.printer.answer(&report, || text(&report))?;
    Ok(exit.unwrap_or(Exit::Done))
}

fn text(report: &Comprehensive) -> String {
    let server = match &report.server {
        // The server's own page would take a second run of what this document already says.
        OfServer::Had(document) => {
            serde_saphyr::to_string(document).unwrap_or_else(|error| error.to_string())
        }
        OfServer::Missing { missing } => format!("no data: {missing}\n"),
    };
    format!("{}\npod\n{}\n\nserver\n{server}", report.cluster.text(), pod::text(&report.pod))
}

async fn all(context: &Context) -> Result<Exit, Failure> {
    let stores = context.api::<MemoryStore>().list(&ListParams::default()).await;
    let stores = stores.map_err(|error| {
        failed(format!("list memorystores in namespace {}", context.namespace), error)
    })?;
    let names = stores.into_iter().map(|store| store.metadata.name.unwrap_or_default());
    let looks = names.map(|name| async move { look(context, &name).await });
    let mut scores = Vec::new();
    let mut looks = futures_util::stream::iter(looks).buffered(AT_ONCE);
    while let Some(looked) = looks.next().await {
        match looked {
            Ok((_, score)) => scores.push(score),
            // Deleted since it was listed.
            Err(Failure::NotFound { .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    let row = |score: &Score| {
        vec![
            score.name.clone(),
            score.overall_text(),
            score.word.to_owned(),
            score.worst().unwrap_or_default(),
        ]
    };
    context.printer.answer(&scores, || match scores.len() {
        0 => format!("no stores in namespace {}", context.namespace),
        _ => printer::table(&["NAME", "SCORE", "STATE", "WORST"], scores.iter().map(row).collect()),
    })?;
    let worst = scores.iter().map(Score::exit).max_by_key(|exit| exit.code());
    Ok(worst.unwrap_or(Exit::Done))
}
