//! `status`: everything about one store on one page.
//!
//! `observe` reads the cluster, `view` chooses what matters, `render` writes it for people.
//! Programs get the view as it is.

mod observe;
pub(crate) mod redraw;
mod render;
mod view;

use futures_util::stream;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use llm_memory_crds::MemoryStore;

use futures_util::StreamExt as _;

use self::view::View;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::names;

pub(crate) use self::observe::{Observed, event_time};

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the MemoryStore
    name: String,
    /// Go on, and show it again when it changes
    #[arg(short, long)]
    watch: bool,
}

/// Shows a store. A store that is not ready is a finding.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    if args.watch {
        let draw = async || {
            let view = View::new(Observed::read(context, &args.name).await?);
            context.printer.again(&view, || render::text(&view, Timestamp::now()))
        };
        return redraw::whenever(context.printer, changes(context, &args.name), draw).await;
    }
    let view = View::new(Observed::read(context, &args.name).await?);
    context.printer.answer(&view, || render::text(&view, Timestamp::now()))?;
    Ok(if view.is_well() { Exit::Done } else { Exit::Finding })
}

/// The page for people.
pub(crate) fn page(observed: Observed, now: Timestamp) -> String {
    render::text(&View::new(observed), now)
}

/// Changes of the store, its pod and its routines, without what changed.
fn changes(
    context: &Context,
    name: &str,
) -> impl futures_util::Stream<Item = watcher::Result<()>> + Send + use<> {
    let own = watcher::Config::default().labels(&names::selector(name));
    let this = watcher::Config::default().fields(&format!("metadata.name={name}"));
    stream::select_all([
        watcher(context.api::<MemoryStore>(), this)
            .default_backoff()
            .map(|it| it.map(drop))
            .boxed(),
        watcher(context.api::<Pod>(), own.clone()).default_backoff().map(|it| it.map(drop)).boxed(),
        watcher(context.api::<CronJob>(), own).default_backoff().map(|it| it.map(drop)).boxed(),
    ])
}
