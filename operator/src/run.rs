//! One run of the operator: waits for the definition and for the Lease, then reconciles until a
//! signal, or until the Lease is lost. A run that ends early ends the process: the kubelet starts
//! it anew, and everything it knew is in the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt as _;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, Config, ResourceExt as _};
use llm_memory_crds::MemoryStore;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::apply::Applier;
use crate::args::Run;
use crate::cluster::{Cluster, Watched, concerned, in_pages, no_managed_fields};
use crate::context::{Context, Failures, Refusals, Settings};
use crate::guard::Guarded;
use crate::identity::Identity;
use crate::lease::Leadership;
use crate::memory_store::build::{Apis, OperatorIdentity};
use crate::memory_store::events::Told;
use crate::memory_store::{error_policy, reconcile};
use crate::metrics::Metrics;
use crate::names::FIELD_MANAGER;
use crate::probes::Probes;
use crate::{discovery, http};

/// Changes of one store that come within this time are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Stores reconciled at the same time.
const AT_ONCE: u16 = 16;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(300);
/// How long a question of a moment may take.
const MOMENT: Duration = Duration::from_secs(10);
/// How long reconciliations may go on when the operator ends. With the time after which a holder
/// gives its Lease up, no more than that after which another takes it.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// How often the definition is looked for before it is there.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked whether the cluster serves other optional APIs than at the start.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Runs until a signal, and cancels `stop` when it ends of its own accord.
pub async fn run(arguments: Run, stop: CancellationToken) -> Result<()> {
    let mut config = Config::infer()
        .await
        .context("no way to the API server: run in a cluster, or set KUBECONFIG")?;
    // What is refused for now is told on the store and tried again with its own pauses.
    config.default_retry = false;
    // An API server that falls silent, or a balancer before it that forgets a connection: longer
    // than the longest watch, which it ends itself.
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let client = Client::try_from(config).context("a client of the API server")?;
    let metrics = Arc::new(Metrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    let mut web = tokio::spawn(http::serve(
        arguments.http_address,
        Arc::clone(&metrics),
        Arc::clone(&ready),
        stop.clone(),
    ));
    let mut apis = loop {
        match look(&client).await {
            Ok(found) if found.memory_stores => break found.apis,
            Ok(_) => tracing::warn!(
                "MemoryStore is not defined in this cluster: install the chart llm-memory-crds"
            ),
            Err(error) => tracing::warn!(%error, "the API server does not say what it serves"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return Ok(()),
        }
    };
    ready.store(true, Ordering::Relaxed);
    tracing::info!(?apis, version = env!("CARGO_PKG_VERSION"), "started");
    let leadership = arguments.leader_elect.then(|| {
        let identity = arguments
            .pod_name
            .clone()
            .unwrap_or_else(|| format!("{FIELD_MANAGER}-{}", std::process::id()));
        Leadership::new(
            client.clone(),
            &arguments.namespace,
            arguments.lease_name.clone(),
            identity,
        )
    });
    let mut leads_since = None;
    if let Some(leadership) = &leadership {
        tracing::info!("waiting for the Lease");
        leads_since = leadership.acquire(&stop).await;
        if leads_since.is_none() {
            return Ok(());
        }
        // The wait may have been long.
        apis = look(&client).await.map_or(apis, |found| found.apis);
    }
    metrics.set_leader(true);
    tracing::info!("leading");
    let mut work =
        tokio::spawn(work(client.clone(), arguments, apis, Arc::clone(&metrics), stop.clone()));
    let leading = async {
        match leadership.as_ref().zip(leads_since) {
            Some((leadership, since)) => leadership.keep(since, &stop).await,
            None => {
                stop.cancelled().await;
                false
            }
        }
    };
    // An operator that does not work must not keep the Lease, nor one that cannot be asked.
    let lost = tokio::select! {
        // A signal ends the others too, which is then no failure of theirs.
        biased;
        () = stop.cancelled() => false,
        lost = leading => lost,
        () = other_apis(&client, apis) => {
            tracing::info!("the cluster serves other optional APIs now: ending, to start anew");
            false
        }
        ended = &mut work => {
            ended.context("the controllers ended early")??;
            bail!("the controllers ended early");
        }
        ended = &mut web => {
            ended.context("metrics and health")?.context("metrics and health")?;
            bail!("the listener of metrics and health ended early");
        }
    };
    if lost {
        // At once, and with it every write under way: another operator acts from now on.
        bail!("the Lease is lost to another operator");
    }
    // Not only at a signal: the listener of metrics and health ends too, and with it the process.
    stop.cancel();
    match tokio::time::timeout(LAST_WRITES, &mut work).await {
        Ok(ended) => ended.context("the controllers ended early")??,
        // What is cut off here is carried on by whoever leads next.
        Err(_) => work.abort(),
    }
    metrics.set_leader(false);
    if let Some(leadership) = &leadership {
        let _ = tokio::time::timeout(MOMENT, leadership.release()).await;
    }
    // Somebody who has sent half a request would be waited for without an end.
    match tokio::time::timeout(MOMENT, web).await {
        Ok(ended) => ended.context("metrics and health")?.context("metrics and health"),
        Err(_) => Ok(()),
    }
}

/// Asks what the cluster serves, for a moment.
async fn look(client: &Client) -> Result<discovery::Served> {
    let looked = tokio::time::timeout(MOMENT, discovery::look(client)).await;
    Ok(looked.context("the API server does not answer")??)
}

/// Waits until the cluster serves other optional APIs than `apis`: Prometheus' operator or
/// cert-manager was installed or removed.
async fn other_apis(client: &Client, apis: Apis) {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        match look(client).await {
            Ok(found) if found.memory_stores && found.apis != apis => return,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the API server does not say what it serves"),
        }
    }
}

/// Runs one controller for each watched namespace, or one for all.
async fn work(
    client: Client,
    arguments: Run,
    apis: Apis,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<()> {
    let settings = Arc::new(Settings {
        server_image: arguments.server_image,
        identity: OperatorIdentity {
            namespace: arguments.namespace,
            service_account: arguments.service_account,
            pod_labels: arguments.pod_labels.into_iter().collect(),
            api_server_ports: arguments.api_server_ports,
        },
        cluster_domain: arguments.cluster_domain,
    });
    // A variable that is set to nothing names one namespace without a name.
    let named: Vec<Watched> = arguments
        .watch_namespaces
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(Watched::Namespace)
        .collect();
    let watched = if named.is_empty() { vec![Watched::Everywhere] } else { named };
    let mut controllers = tokio::task::JoinSet::new();
    for watched in watched {
        let (cluster, triggers) = Cluster::watch(&client, &watched, apis);
        let identity = Identity::new(client.clone(), &settings.identity);
        let (probes, changed) = Probes::new(Duration::from_secs(arguments.probe_seconds), identity);
        tokio::spawn(Arc::clone(&probes).run(stop.clone()));
        let context = Arc::new(Context {
            client: client.clone(),
            settings: Arc::clone(&settings),
            applier: Arc::new(Applier::new(client.clone(), Arc::clone(&cluster))),
            cluster,
            probes,
            told: Arc::new(Told::default()),
            metrics: Arc::clone(&metrics),
            failures: Arc::new(Failures::default()),
            refusals: Arc::new(Refusals::default()),
        });
        controllers.spawn(control(watched, context, triggers, changed, stop.clone()));
    }
    while let Some(ended) = controllers.join_next().await {
        ended.context("a controller ended early")?;
    }
    Ok(())
}

async fn control(
    watched: Watched,
    context: Arc<Context>,
    triggers: impl futures_util::Stream<Item = ObjectRef<MemoryStore>> + Send + 'static,
    changed: mpsc::UnboundedReceiver<ObjectRef<MemoryStore>>,
    stop: CancellationToken,
) {
    let answers = futures_util::stream::unfold(changed, |mut changed| async move {
        changed.recv().await.map(|store| (store, changed))
    });
    let mut triggers = futures_util::stream::select(triggers.boxed(), answers.boxed())
        .map(|store| guarded(&store));
    // The caches fill while the watches are read. What changes until then needs no second look:
    // every store is reconciled when the controller begins.
    let filled = {
        let reading = triggers.by_ref().for_each(|_| std::future::ready(()));
        tokio::select! {
            () = context.cluster.ready() => true,
            () = reading => false,
            () = stop.cancelled() => false,
        }
    };
    if !filled {
        return;
    }
    let api: Api<Guarded> = watched.api(&context.client);
    let (reader, writer) = reflector::store();
    let events =
        watcher(api, in_pages()).modify(no_managed_fields).default_backoff().reflect(writer);
    // Deleted ones too: their figures and probes have to go.
    let stores = concerned(events, reader.clone(), |store| Some(unguarded(store)));
    let triggers = futures_util::stream::select(triggers, stores.map(|store| guarded(&store)));
    // What it would take from the watch itself comes before the cache has it.
    let nothing = futures_util::stream::pending::<watcher::Result<_>>();
    Controller::for_stream(nothing, reader)
        .with_config(controller::Config::default().debounce(DEBOUNCE).concurrency(AT_ONCE))
        .reconcile_on(triggers)
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile, error_policy, Arc::clone(&context))
        .for_each(|outcome| {
            if let Err(controller::Error::ObjectNotFound(gone)) = outcome {
                forget(&context, &gone);
            }
            std::future::ready(())
        })
        .await;
}

fn unguarded(store: &Guarded) -> ObjectRef<MemoryStore> {
    ObjectRef::new(&store.name_any()).within(&store.namespace().unwrap_or_default())
}

fn guarded(store: &ObjectRef<MemoryStore>) -> ObjectRef<Guarded> {
    let namespace = store.namespace.as_deref().unwrap_or_default();
    ObjectRef::new(&store.name).within(namespace)
}

/// A store is gone; its objects go by their owner reference.
fn forget(context: &Context, gone: &ObjectRef<kube::core::DynamicObject>) {
    let namespace = gone.namespace.clone().unwrap_or_default();
    let reference = ObjectRef::new(&gone.name).within(&namespace);
    context.probes.forget(&reference);
    context.failures.succeeded(&reference);
    context.metrics.forget(&namespace, &gone.name);
    context.applier.forget(&namespace, &gone.name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_keep_name_and_namespace() {
        let reference = guarded(&ObjectRef::new("m").within("team"));
        assert_eq!((reference.name.as_str(), reference.namespace.as_deref()), ("m", Some("team")));
    }
}
