//! `list`: the stores of a namespace or of the cluster, a line each.

use jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use llm_memory_crds::{MemoryStore, conditions};
use serde::Serialize;

use super::status::redraw;
use crate::context::Context;
use crate::error::{Failure, failed, is_absent};
use crate::exit::Exit;
use crate::{printer, units};

/// Flags of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stores of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Go on, and show the list again when it changes
    #[arg(short, long)]
    watch: bool,
}

/// A line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    namespace: String,
    name: String,
    ready: String,
    reason: Option<String>,
    items: Option<i64>,
    used: Option<String>,
    encoder: Option<String>,
    last_verified: Option<Timestamp>,
    created: Option<Timestamp>,
}

/// Lists the stores.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let api: Api<MemoryStore> =
        if args.all_namespaces { Api::all(context.client.clone()) } else { context.api() };
    if args.watch {
        let changes = watcher(api.clone(), watcher::Config::default()).default_backoff();
        let draw = async || {
            let lines = lines(context, args, &api).await?;
            context.printer.again(&lines, || text(&lines, &place(context, args), Timestamp::now()))
        };
        return redraw::whenever(context.printer, changes, draw).await;
    }
    let lines = lines(context, args, &api).await?;
    context.printer.answer(&lines, || text(&lines, &place(context, args), Timestamp::now()))?;
    Ok(Exit::Done)
}

async fn lines(
    context: &Context,
    args: &Args,
    api: &Api<MemoryStore>,
) -> Result<Vec<Line>, Failure> {
    let stores = api.list(&ListParams::default()).await.map_err(|error| {
        if is_absent(&error) {
            return Failure::UnknownResource { kind: "memorystores".to_owned() };
        }
        failed(format!("list memorystores in {}", place(context, args)), error)
    })?;
    Ok(stores.items.into_iter().map(line).collect())
}

fn place(context: &Context, args: &Args) -> String {
    if args.all_namespaces {
        "any namespace".to_owned()
    } else {
        format!("namespace {}", context.namespace)
    }
}

fn line(store: MemoryStore) -> Line {
    let status = store.status.unwrap_or_default();
    let ready = status.conditions.iter().find(|it| it.type_ == conditions::READY);
    Line {
        namespace: store.metadata.namespace.unwrap_or_default(),
        name: store.metadata.name.unwrap_or_default(),
        ready: ready.map_or_else(|| "Unknown".to_owned(), |it| it.status.clone()),
        reason: ready.map(|it| it.reason.clone()),
        items: status.items,
        used: status.storage.and_then(|it| it.used),
        encoder: status.encoder,
        last_verified: status.last_verification.map(|it| it.time.0),
        created: store.metadata.creation_timestamp.map(|it| it.0),
    }
}

fn text(lines: &[Line], place: &str, now: Timestamp) -> String {
    if lines.is_empty() {
        return format!("no memorystores in {place}");
    }
    let header = ["NAMESPACE", "NAME", "READY", "ITEMS", "USED", "ENCODER", "LAST-VERIFIED", "AGE"];
    let row = |line: &Line| {
        vec![
            line.namespace.clone(),
            line.name.clone(),
            match &line.reason {
                Some(reason) if line.ready != "True" => format!("{} ({reason})", line.ready),
                _ => line.ready.clone(),
            },
            line.items.map(|count| count.to_string()).unwrap_or_default(),
            line.used.clone().unwrap_or_default(),
            line.encoder.clone().unwrap_or_default(),
            units::age_or_never(line.last_verified, now),
            line.created.map(|since| units::age(since, now)).unwrap_or_default(),
        ]
    };
    printer::table(&header, lines.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn stores_line_up_whatever_they_lack() {
        let mut fresh = fixtures::store();
        fresh.metadata.name = Some("just-made".to_owned());
        fresh.status = None;
        let mut asleep = fixtures::store();
        asleep.metadata.name = Some("asleep".to_owned());
        fixtures::condition(&mut asleep, "Ready", "False", "Hibernated", "");
        let lines: Vec<_> = [fixtures::store(), fresh, asleep].into_iter().map(line).collect();
        insta::assert_snapshot!(text(&lines, "namespace prod", fixtures::now()));
    }

    #[tokio::test]
    async fn a_cluster_without_the_definition_is_told_from_an_empty_one() {
        let (context, server) = fixtures::cluster();
        let path = "/apis/llm-memory.dev/v1alpha1/namespaces/prod/memorystores";
        let script = server.refuse(path, 404, "the server could not find the requested resource");
        let args = Args { all_namespaces: false, watch: false };
        let (result, ()) = tokio::join!(run(&context, &args), script);
        insta::assert_snapshot!(result.unwrap_err(), @"the cluster does not know memorystores: install the chart llm-memory-crds, or choose another cluster with --context");
    }

    #[test]
    fn an_empty_list_says_where_it_looked() {
        let text = text(&[], "namespace prod", fixtures::now());
        assert_eq!(text, "no memorystores in namespace prod");
    }
}
