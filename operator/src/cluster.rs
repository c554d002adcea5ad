//! What the operator knows of the cluster without asking: watched objects, and which optional APIs
//! there are. Caches hold only what is looked at: no managed fields, of the spec of pods whether
//! how they are reached, and of objects whose content does not matter for the status which version is
//! there. Lists come in small pages, because a page is in memory with all of that: a thousand
//! stores fit into some tens of megabytes.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, PersistentVolumeClaim, Pod, PodSpec, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Client, Resource, ResourceExt as _};
use llm_memory_crds::MemoryStore;
use serde::de::DeserializeOwned;

use crate::memory_store::build::{self, Apis};
use crate::memory_store::pods;
use crate::names::{EDITION, INSTANCE_LABEL, MANAGED_BY};

/// Objects of a list that are read at once.
const PAGE: u32 = 50;

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
        let stateful_sets = reflect(watched.api(client), &mut streams, without_own_template);
        let pods = reflect(watched.api(client), &mut streams, almost_without_spec);
        let claims = reflect(watched.api(client), &mut streams, no_managed_fields);
        let config_maps = reflect(watched.api(client), &mut streams, version_only);
        let services = reflect(watched.api(client), &mut streams, version_only);
        let accounts = reflect(watched.api(client), &mut streams, version_only);
        let network_policies = reflect(watched.api(client), &mut streams, version_only);
        let budgets = reflect(watched.api(client), &mut streams, version_only);
        let cron_jobs = reflect(watched.api(client), &mut streams, version_only);
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

impl Seen {
    /// What is known of an object that was read.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self::Version {
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
        }
    }
}

fn seen<K>(store: &Store<K>, namespace: &str, name: &str) -> Seen
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    match store.get(&ObjectRef::new(name).within(namespace)) {
        None => Seen::Absent,
        Some(object) => Seen::of(&*object),
    }
}

type Triggers = futures_util::stream::BoxStream<'static, Trigger>;

/// How everything is watched.
pub fn in_pages() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

fn ours() -> watcher::Config {
    in_pages().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1))
}

/// Drops who set which field, which is often more than the object itself.
pub fn no_managed_fields<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Of the spec of a pod only how it is reached.
fn almost_without_spec(pod: &mut Pod) {
    no_managed_fields(pod);
    pods::trim_spec(pod);
}

/// Drops of a pod template, which is the larger part of a StatefulSet, all but the images. Only
/// one that another edition of the operator made is needed: it may be kept as it is.
fn without_own_template(set: &mut StatefulSet) {
    no_managed_fields(set);
    let edition = set.metadata.annotations.as_ref().and_then(|all| all.get(EDITION));
    if edition.map(String::as_str) != Some(build::EDITION) {
        return;
    }
    let template = set.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    let Some(template) = template else { return };
    let containers = std::mem::take(&mut template.containers);
    *template = PodSpec {
        containers: containers
            .into_iter()
            .map(|container| Container {
                name: container.name,
                image: container.image,
                ..Container::default()
            })
            .collect(),
        ..PodSpec::default()
    };
}

/// Drops everything but name, version and store.
fn version_only<K: Resource>(object: &mut K) {
    let meta = std::mem::take(object.meta_mut());
    let store = meta.labels.unwrap_or_default().remove(INSTANCE_LABEL);
    *object.meta_mut() = ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        labels: store.map(|store| [(INSTANCE_LABEL.to_owned(), store)].into()),
        ..ObjectMeta::default()
    };
}

/// Begins to watch, and keeps what `trim` leaves; the stream that fills the cache joins `streams`.
fn reflect<K>(api: Api<K>, streams: &mut Vec<Triggers>, trim: fn(&mut K)) -> Store<K>
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
    let events = watcher(api, ours()).default_backoff().modify(trim).reflect(writer);
    streams.push(concerned(events, reader.clone(), instance).boxed());
    reader
}

/// Of the events of a watch that fills `cache`, the stores `of` whose they are, each once the cache
/// shows what happened. What a list brings is in the cache when the list is complete, and only
/// then is that missing which went while nobody watched.
pub fn concerned<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    cache: Store<K>,
    of: fn(&K) -> Option<Trigger>,
) -> impl Stream<Item = Trigger> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let mut listed = HashSet::new();
    let told = events.map(move |event| match event {
        Ok(Event::Apply(object) | Event::Delete(object)) => of(&object).into_iter().collect(),
        Ok(Event::Init) => {
            listed = cache.state().iter().filter_map(|object| of(object)).collect();
            Vec::new()
        }
        Ok(Event::InitApply(object)) => {
            listed.extend(of(&object));
            Vec::new()
        }
        Ok(Event::InitDone) => std::mem::take(&mut listed).into_iter().collect(),
        Err(error) => {
            tracing::warn!(%error, "a watch was interrupted and is begun anew");
            Vec::new()
        }
    });
    told.flat_map(stream::iter)
}

/// The store that an object is labelled with.
fn instance<K: Resource>(object: &K) -> Option<Trigger> {
    let namespace = object.meta().namespace.as_deref()?;
    let store = object.meta().labels.as_ref()?.get(INSTANCE_LABEL)?;
    Some(ObjectRef::new(store).within(namespace))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_pod_is_kept_how_it_is_reached() {
        let kept = |env: serde_json::Value| -> Pod {
            let mut pod = serde_json::from_value(json!({
                "metadata": {"name": "m-0", "managedFields": [{"manager": "kubelet"}]},
                "spec": {
                    "containers": [
                        {"name": "proxy", "env": [{"name": "LLM_MEMORY_TLS_CERT_FILE", "value": "x"}]},
                        {"name": "server", "image": "i", "env": env},
                    ],
                    // A sidecar's may have the name, too.
                    "volumes": [{"name": "data"}, {"name": "tls", "secret": {"secretName": "web"}}],
                },
            }))
            .unwrap();
            almost_without_spec(&mut pod);
            pod
        };
        let plain = kept(json!([{"name": "LLM_MEMORY_DATA_DIR", "value": "/data"}]));
        assert!(!pods::is_encrypted(&plain));
        assert_eq!((pods::certificate(&plain), pods::audience(&plain)), (None, None));
        assert_eq!(pods::path(&plain), "/mcp");
        let spec = plain.spec.unwrap();
        assert_eq!((spec.containers.capacity(), &spec.containers[0].image), (1, &None));
        assert_eq!(spec.volumes.map(|all| all.capacity()), Some(1));
        assert_eq!(spec.containers[0].env, Some(Vec::new()));
        let told = kept(json!([
            {"name": "LLM_MEMORY_TLS_CERT_FILE", "value": "/etc/tls.crt"},
            {"name": "LLM_MEMORY_KUBERNETES_AUDIENCE", "value": "memory"},
            {"name": "LLM_MEMORY_MCP_PATH", "value": "/web"},
        ]));
        assert_eq!(
            (pods::certificate(&told), pods::audience(&told)),
            (Some("web"), Some("memory"))
        );
        assert_eq!(pods::path(&told), "/web");
    }

    #[test]
    fn templates_of_another_edition_are_kept_whole_and_own_ones_by_their_images() {
        let set = |edition: &str| -> StatefulSet {
            let mut set = serde_json::from_value(json!({
                "metadata": {"name": "m", "annotations": {EDITION: edition}},
                "spec": {"selector": {}, "serviceName": "m", "template": {"spec": {
                    "containers": [{"name": "server", "image": "i", "args": ["serve"]}],
                    "serviceAccountName": "m",
                }}},
            }))
            .unwrap();
            without_own_template(&mut set);
            set
        };
        let template = |set: StatefulSet| set.spec.unwrap().template.spec.unwrap();
        let own = template(set(build::EDITION));
        assert_eq!((own.service_account_name, &own.containers[0].args), (None, &None));
        assert_eq!(own.containers[0].image.as_deref(), Some("i"));
        let former = template(set("before"));
        assert_eq!(former.service_account_name.as_deref(), Some("m"));
        assert!(former.containers[0].args.is_some());
    }

    #[test]
    fn caches_keep_the_version_and_the_store_and_nothing_else() {
        let mut object: PartialObjectMeta<CronJob> = serde_json::from_value(json!({
            "metadata": {
                "name": "m-daily", "namespace": "team", "uid": "u", "resourceVersion": "7",
                "labels": {INSTANCE_LABEL: "m", "other": "x"}, "annotations": {"other": "x"},
                "managedFields": [{"manager": "x"}],
            },
        }))
        .unwrap();
        version_only(&mut object);
        let left = json!({
            "name": "m-daily", "namespace": "team", "uid": "u", "resourceVersion": "7",
            "labels": {INSTANCE_LABEL: "m"},
        });
        assert_eq!(serde_json::to_value(&object.metadata).unwrap(), left);
        assert_eq!(instance(&object), Some(ObjectRef::new("m").within("team")));
    }

    /// An API server that lists no pod at first, then one, then none, and that breaks off the first
    /// two watches of pods, because it no longer knows what has happened since the list.
    async fn forgetful(request: Request<Body>, lists: Arc<AtomicU32>) -> Response<Body> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let pods = path.ends_with("/pods");
        let body = if query.contains("watch=true") {
            if !pods || lists.load(Ordering::Relaxed) > 2 {
                return std::future::pending().await;
            }
            json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "code": 410, "reason": "Expired", "message": "too old resource version: 1 (9)",
            }})
        } else {
            let there = pods && lists.fetch_add(1, Ordering::Relaxed) == 1;
            let pod = json!({"metadata": {
                "name": "m-0", "namespace": "team", "labels": {INSTANCE_LABEL: "m"},
            }});
            let items = if there { vec![pod] } else { Vec::new() };
            json!({"metadata": {"resourceVersion": "1"}, "items": items})
        };
        Response::new(Body::from(format!("{body}\n").into_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_happened_while_nobody_watched_is_learned_from_a_list() {
        let lists = Arc::new(AtomicU32::new(0));
        let service = tower::service_fn(move |request| {
            let lists = Arc::clone(&lists);
            async move { Ok::<_, std::convert::Infallible>(forgetful(request, lists).await) }
        });
        let client = Client::new(service, "team");
        let (cluster, mut triggers) =
            Cluster::watch(&client, &Watched::Everywhere, Apis::default());
        let (store, pod) =
            (ObjectRef::new("m").within("team"), ObjectRef::new("m-0").within("team"));
        assert_eq!(triggers.next().await, Some(store.clone()));
        assert!(cluster.pods.get(&pod).is_some(), "it was made");
        assert_eq!(triggers.next().await, Some(store));
        assert!(cluster.pods.get(&pod).is_none(), "it was deleted");
    }
}
