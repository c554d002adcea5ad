//! What the operator knows of the cluster without asking: watched objects, and which optional APIs
//! there are. Caches hold no managed fields, and only the metadata of objects whose content does
//! not matter for the status: a thousand stores fit into a few tens of megabytes.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Client, Resource, ResourceExt as _};
use llm_memory_crds::MemoryStore;
use serde::de::DeserializeOwned;

use crate::memory_store::build::Apis;
use crate::names::{INSTANCE_LABEL, MANAGED_BY};

/// Namespaces that are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// All of them.
    Everywhere,
    /// One.
    Namespace(String),
}

impl Watched {
    /// The API for objects of type `K` in what is watched.
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::Everywhere => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// The watched objects of all stores.
#[derive(Debug)]
pub struct Cluster {
    /// StatefulSets.
    pub stateful_sets: Store<StatefulSet>,
    /// Pods of servers.
    pub pods: Store<Pod>,
    /// Claims that the operator made.
    pub claims: Store<PersistentVolumeClaim>,
    config_maps: Store<PartialObjectMeta<ConfigMap>>,
    services: Store<PartialObjectMeta<Service>>,
    accounts: Store<PartialObjectMeta<ServiceAccount>>,
    network_policies: Store<PartialObjectMeta<NetworkPolicy>>,
    budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
    cron_jobs: Store<PartialObjectMeta<CronJob>>,
    /// Optional APIs.
    pub apis: Apis,
}

/// A change of an object, as the store that it belongs to.
pub type Trigger = ObjectRef<MemoryStore>;

impl Cluster {
    /// Watches everything in `watched`. The stream yields the store of each changed object, and
    /// has to be polled for the caches to fill.
    pub fn watch(
        client: &Client,
        watched: &Watched,
        apis: Apis,
    ) -> (Arc<Self>, impl Stream<Item = Trigger> + Send + 'static) {
        let mut streams = Vec::new();
        let stateful_sets = reflect(watched.api(client), &mut streams);
        let pods = reflect(watched.api(client), &mut streams);
        let claims = reflect(watched.api(client), &mut streams);
        let config_maps = reflect(watched.api(client), &mut streams);
        let services = reflect(watched.api(client), &mut streams);
        let accounts = reflect(watched.api(client), &mut streams);
        let network_policies = reflect(watched.api(client), &mut streams);
        let budgets = reflect(watched.api(client), &mut streams);
        let cron_jobs = reflect(watched.api(client), &mut streams);
        let cluster = Self {
            stateful_sets,
            pods,
            claims,
            config_maps,
            services,
            accounts,
            network_policies,
            budgets,
            cron_jobs,
            apis,
        };
        (Arc::new(cluster), futures_util::stream::select_all(streams))
    }

    /// Waits until every cache has been filled once.
    pub async fn ready(&self) {
        // A cache whose watch ended for good ends the operator elsewhere.
        let _ = tokio::join!(
            self.stateful_sets.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.claims.wait_until_ready(),
            self.config_maps.wait_until_ready(),
            self.services.wait_until_ready(),
            self.accounts.wait_until_ready(),
            self.network_policies.wait_until_ready(),
            self.budgets.wait_until_ready(),
            self.cron_jobs.wait_until_ready(),
        );
    }

    /// Resource version and uid of an object, when its kind is watched and it is there.
    pub fn seen(&self, kind: &str, namespace: &str, name: &str) -> Seen {
        match kind {
            "StatefulSet" => seen(&self.stateful_sets, namespace, name),
            "PersistentVolumeClaim" => seen(&self.claims, namespace, name),
            "ConfigMap" => seen(&self.config_maps, namespace, name),
            "Service" => seen(&self.services, namespace, name),
            "ServiceAccount" => seen(&self.accounts, namespace, name),
            "NetworkPolicy" => seen(&self.network_policies, namespace, name),
            "PodDisruptionBudget" => seen(&self.budgets, namespace, name),
            "CronJob" => seen(&self.cron_jobs, namespace, name),
            _ => Seen::Unwatched,
        }
    }
}

/// What a cache says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Its kind is not watched.
    Unwatched,
    /// It is not there, or the cache has not heard of it yet.
    Absent,
    /// It is there in this version.
    Version {
        /// Identity.
        uid: String,
        /// Version.
        resource_version: String,
    },
}

fn seen<K>(store: &Store<K>, namespace: &str, name: &str) -> Seen
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    match store.get(&ObjectRef::new(name).within(namespace)) {
        None => Seen::Absent,
        Some(object) => Seen::Version {
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
        },
    }
}

type Triggers = futures_util::stream::BoxStream<'static, Trigger>;

fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1))
}

/// Begins to watch; the stream that fills the cache joins `streams`.
fn reflect<K>(api: Api<K>, streams: &mut Vec<Triggers>) -> Store<K>
where
    K: Resource<DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = reflector::store();
    let stream = watcher(api, ours())
        .default_backoff()
        .modify(|object| *object.managed_fields_mut() = Vec::new())
        .reflect(writer)
        .touched_objects()
        .filter_map(|object| async move { trigger(object) })
        .boxed();
    streams.push(stream);
    reader
}

/// The store of a changed object; failed watches are logged and tried again.
fn trigger<K: Resource>(object: Result<K, watcher::Error>) -> Option<Trigger> {
    match object {
        Ok(object) => {
            let namespace = object.meta().namespace.as_deref()?;
            let store = object.meta().labels.as_ref()?.get(INSTANCE_LABEL)?;
            Some(ObjectRef::new(store).within(namespace))
        }
        Err(error) => {
            tracing::warn!(%error, "a watch was interrupted and is begun anew");
            None
        }
    }
}
