//! Stage 4, no client: every object of a store, from its spec and what was looked up. The same
//! input gives the same objects, so the golden files in `snapshots/` show all there is to know.

mod access;
mod config_map;
mod cron_job;
mod disruption_budget;
mod monitoring;
mod network_policy;
mod pod;
mod service;
mod stateful_set;
mod storage;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PodTemplateSpec, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::DynamicObject;
use llm_memory_crds::MemoryStore;
use llm_memory_crds::memory_store::AuthMode;
use std::collections::BTreeMap;

use super::validate::Store;

pub use pod::{AUDIENCE_VARIABLE, ISSUER_AUTHORITY, PATH_VARIABLE, TLS_VARIABLE, TLS_VOLUME};
pub use stateful_set::{EDITION, inputs};

/// What an identity may do, in the server's terms.
pub fn access_document(access: &llm_memory_crds::memory_store::Access) -> serde_json::Value {
    config_map::access(access)
}

/// The operator, as servers and network policies have to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// Labels that select its pods; none when others in its namespace cannot be told from it.
    pub pod_labels: BTreeMap<String, String>,
    /// Ports of the API server, as it listens behind its Service.
    pub api_server_ports: Vec<u16>,
}

/// Optional APIs of the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Apis {
    /// `monitoring.coreos.com/v1`, ServiceMonitor.
    pub service_monitor: bool,
    /// `monitoring.coreos.com/v1`, PrometheusRule.
    pub prometheus_rule: bool,
    /// `cert-manager.io/v1`, Certificate.
    pub certificate: bool,
}

/// What the pod needs to know of the Secret with the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// Its name.
    pub secret_name: String,
    /// Key under which clients find the authority.
    pub authority_key: &'static str,
}

/// How the server is reached at the moment: as the pod that runs was made, and as the spec asks
/// where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// Its certificate, when it speaks TLS.
    pub tls: Option<TlsFacts>,
    /// Audience of the tokens that its callers show; none when it takes everybody.
    pub audience: Option<String>,
}

impl Reached {
    /// As the spec asks.
    pub fn asked_for(store: &Store, tls: Option<&TlsFacts>) -> Self {
        let auth = &store.spec.mcp.auth;
        let audience = (auth.mode != AuthMode::None).then(|| auth.audience.clone());
        Self { tls: tls.cloned(), audience }
    }
}

/// A pod template that runs and is to stay: nothing that people said has changed since it was made
/// by an older operator, or what they said since cannot be acted on yet.
#[derive(Debug, Clone)]
pub struct KeptTemplate {
    /// The template, as the API server has it.
    pub template: PodTemplateSpec,
    /// The edition that made it.
    pub edition: String,
    /// From what it was made, see [`inputs`].
    pub inputs: String,
}

/// Everything that objects are made from.
#[derive(Debug)]
pub struct Input<'a> {
    /// The store.
    pub store: &'a Store,
    /// Image of the server.
    pub image: &'a str,
    /// The operator.
    pub operator: &'a OperatorIdentity,
    /// Domain of the cluster.
    pub cluster_domain: &'a str,
    /// Which optional objects make sense.
    pub apis: Apis,
    /// The certificate, when the port is encrypted.
    pub tls: Option<TlsFacts>,
    /// How those who connect now have to.
    pub reached: Reached,
    /// Content of the token Secret, when the operator makes it.
    pub tokens: Option<BTreeMap<String, ByteString>>,
    /// The larger of the size asked for and the size that a kept claim has already.
    pub claim_size: &'a str,
    /// A template to keep.
    pub keep: Option<KeptTemplate>,
}

/// All objects of a store.
#[derive(Debug)]
pub struct Resources {
    /// Accounts of the server and of its jobs.
    pub service_accounts: [ServiceAccount; 2],
    /// Configuration and identities.
    pub config_map: ConfigMap,
    /// Static tokens, when the operator makes them.
    pub secret: Option<Secret>,
    /// Services of MCP and of metrics.
    pub services: [Service; 2],
    /// Who may connect.
    pub network_policy: Option<NetworkPolicy>,
    /// Lets nodes be drained.
    pub disruption_budget: PodDisruptionBudget,
    /// The claim, unless people brought one.
    pub claim: Option<PersistentVolumeClaim>,
    /// Certificate that cert-manager makes.
    pub certificate: Option<DynamicObject>,
    /// What Prometheus reads.
    pub service_monitor: Option<DynamicObject>,
    /// What Prometheus alerts on.
    pub prometheus_rule: Option<DynamicObject>,
    /// Scheduled care.
    pub cron_jobs: Vec<CronJob>,
    /// The server. Applied last, so that its pod finds everything.
    pub stateful_set: StatefulSet,
}

/// Builds everything.
pub fn build(input: &Input<'_>) -> Resources {
    Resources {
        service_accounts: access::service_accounts(input),
        config_map: config_map::config_map(input),
        secret: access::token_secret(input),
        services: service::services(input),
        network_policy: network_policy::network_policy(input),
        disruption_budget: disruption_budget::disruption_budget(input),
        claim: storage::claim(input),
        certificate: access::certificate(input),
        service_monitor: monitoring::service_monitor(input),
        prometheus_rule: monitoring::prometheus_rule(input),
        cron_jobs: cron_job::cron_jobs(input),
        stateful_set: stateful_set::stateful_set(input),
    }
}

/// Metadata of an object that goes when its store goes.
fn metadata(input: &Input<'_>, name: String, component: &str) -> ObjectMeta {
    ObjectMeta {
        owner_references: Some(vec![owner(input.store)]),
        ..unowned(input, name, component)
    }
}

/// Metadata of an object that stays.
fn unowned(input: &Input<'_>, name: String, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(input.store.names.namespace.clone()),
        labels: Some(input.store.names.labels(component)),
        ..ObjectMeta::default()
    }
}

/// The reference by which an object belongs to `store`.
pub fn owner(store: &Store) -> OwnerReference {
    use kube::Resource as _;
    OwnerReference {
        api_version: MemoryStore::api_version(&()).into_owned(),
        kind: MemoryStore::kind(&()).into_owned(),
        name: store.names.store.clone(),
        uid: store.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn text(value: &str) -> String {
    value.to_owned()
}

#[cfg(test)]
mod tests;
