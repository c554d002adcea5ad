//! What the cluster has of a store.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::api::ListParams;
use llm_memory_crds::MemoryStore;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::{Failure, failed};
use crate::{names, units};

/// What the cluster has of a store. Only the store itself must be readable; what else is not, is
/// named in `unreadable`.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) store: MemoryStore,
    pub(crate) pod: Option<Pod>,
    pub(crate) claim: Option<PersistentVolumeClaim>,
    pub(crate) cron_jobs: Vec<CronJob>,
    pub(crate) warnings: Vec<Event>,
    /// What could not be read, by kind, and why. It is unknown, and not absent.
    pub(crate) unreadable: BTreeMap<&'static str, String>,
}

impl Observed {
    /// Reads it all at once.
    pub(crate) async fn read(context: &Context, name: &str) -> Result<Self, Failure> {
        let store = context.store(name).await?;
        let claim = store.spec.storage.existing_claim.clone().unwrap_or_else(|| names::claim(name));
        let pod = names::pod(name);
        let own = ListParams::default().labels(&names::selector(name));
        let warnings = ListParams::default().fields("type=Warning");
        let (pod, claim, cron_jobs, warnings) = tokio::join!(
            get::<Pod>(context, "pod", &pod),
            get::<PersistentVolumeClaim>(context, "persistentvolumeclaim", &claim),
            list::<CronJob>(context, "cronjobs", &own),
            list::<Event>(context, "events", &warnings),
        );
        let mut unreadable = BTreeMap::new();
        let pod = known("pod", pod, &mut unreadable);
        let claim = known("claim", claim, &mut unreadable);
        let cron_jobs = known("cronJobs", cron_jobs, &mut unreadable);
        let mut warnings = known("events", warnings, &mut unreadable);
        warnings.retain(|event| {
            event.involved_object.name.as_deref().is_some_and(|object| names::belongs(name, object))
        });
        Ok(Self { store, pod, claim, cron_jobs, warnings, unreadable })
    }

    /// The share of the volume that is used, where both are known.
    pub(crate) fn used_share(&self) -> Option<f64> {
        let used = self.store.status.as_ref()?.storage.as_ref()?.used_bytes?;
        let capacity = self.claim.as_ref()?.status.as_ref()?.capacity.as_ref()?.get("storage")?;
        let capacity = units::quantity(capacity)?;
        (capacity > 0.0).then(|| used as f64 / capacity)
    }

    /// A condition by its type.
    pub(crate) fn condition(&self, type_: &str) -> Option<&Condition> {
        self.store.status.as_ref()?.conditions.iter().find(|it| it.type_ == type_)
    }
}

fn known<T: Default>(
    kind: &'static str,
    read: Result<T, Failure>,
    unreadable: &mut BTreeMap<&'static str, String>,
) -> T {
    read.unwrap_or_else(|failure| {
        unreadable.insert(kind, failure.to_string());
        T::default()
    })
}

async fn get<K>(context: &Context, kind: &str, name: &str) -> Result<Option<K>, Failure>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let found = context.api::<K>().get_opt(name).await;
    found.map_err(|error| context.object(kind, name, "").failed("read", error))
}

async fn list<K>(context: &Context, kinds: &str, params: &ListParams) -> Result<Vec<K>, Failure>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let found = context.api::<K>().list(params).await;
    let action = || format!("list {kinds} in namespace {}", context.namespace);
    found.map(|list| list.items).map_err(|error| failed(action(), error))
}

/// When an event last happened; each kind of reporter fills in another field.
pub(crate) fn event_time(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|it| it.last_observed_time.as_ref()).map(|it| it.0);
    series
        .or_else(|| event.last_timestamp.as_ref().map(|it| it.0))
        .or_else(|| event.event_time.as_ref().map(|it| it.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|it| it.0))
}
