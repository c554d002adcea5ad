//! Names of the objects that a store is made of, and the labels they carry. Pure.

use std::collections::BTreeMap;

use llm_memory_crds::memory_store::RoutineKind;

/// Owner of the fields that the operator applies.
pub const FIELD_MANAGER: &str = "llm-memory-operator";
/// Label with the name of the store.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// Label and value that all objects of the operator carry.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", FIELD_MANAGER);
/// Hash of what was applied; another one means that something changed.
pub const APPLIED: &str = "llm-memory.dev/applied";
/// Hash of the parts of the spec from which the pod template was made.
pub const INPUTS: &str = "llm-memory.dev/inputs";
/// Annotation of the StatefulSet with the image that the operator put into its template: a webhook
/// may have written another name of the same there.
pub const IMAGE: &str = "llm-memory.dev/image";
/// Edition of the code that made the pod template.
pub const EDITION: &str = "llm-memory.dev/edition";
/// On a store: a person wants a pod that was made before this moment (RFC 3339) replaced.
pub const RESTART: &str = "llm-memory.dev/restart-requested-at";

/// Port of MCP in the container.
pub const MCP_PORT: i32 = 3000;
/// Port of health in the container.
pub const HEALTH_PORT: i32 = 8080;
/// Port of metrics in the container.
pub const METRICS_PORT: i32 = 9090;
/// User and group of the server's image.
pub const USER: i64 = 65532;
/// Name of the server's container.
pub const CONTAINER: &str = "server";

/// Audience of the token that the operator shows to the store with this uid, and to no other.
pub fn operator_audience(uid: &str) -> String {
    format!("llm-memory.dev/memorystore/{uid}")
}

/// By these the operator knows a claim as that of `store`.
pub fn labels_of_claims(store: &str) -> String {
    let (name, value) = MANAGED_BY;
    format!("{name}={value} and {INSTANCE_LABEL}={store}")
}

/// Names of one store's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Namespace of all of them.
    pub namespace: String,
    /// Name of the store.
    pub store: String,
}

impl Names {
    /// The names of the store `store` in `namespace`.
    pub fn new(namespace: impl Into<String>, store: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), store: store.into() }
    }

    /// StatefulSet, Service of MCP, PodDisruptionBudget, NetworkPolicy and the server's account.
    pub fn main(&self) -> String {
        self.store.clone()
    }

    /// The pod.
    pub fn pod(&self) -> String {
        format!("{}-0", self.store)
    }

    /// The claim that the operator makes.
    pub fn claim(&self) -> String {
        format!("data-{}-0", self.store)
    }

    /// Configuration and identities.
    pub fn config(&self) -> String {
        format!("{}-config", self.store)
    }

    /// Static tokens.
    pub fn tokens(&self) -> String {
        format!("{}-tokens", self.store)
    }

    /// Service of health and metrics.
    pub fn metrics(&self) -> String {
        format!("{}-metrics", self.store)
    }

    /// Account of the pods that follow maintenance.
    pub fn jobs(&self) -> String {
        format!("{}-jobs", self.store)
    }

    /// Certificate that cert-manager makes, and its Secret.
    pub fn certificate(&self) -> String {
        format!("{}-tls", self.store)
    }

    /// CronJob of a routine.
    pub fn routine(&self, kind: RoutineKind) -> String {
        format!("{}-{}", self.store, kind.as_str())
    }

    /// Name under which every pod of the cluster reaches the store.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.store, self.namespace)
    }

    /// Labels by which pods of the store are selected. They never change.
    pub fn selector(&self) -> BTreeMap<String, String> {
        labels(&[
            ("app.kubernetes.io/name", "llm-memory"),
            (INSTANCE_LABEL, &self.store),
            ("app.kubernetes.io/component", "server"),
        ])
    }

    /// Labels of every object of the store; `component` says which part it belongs to.
    pub fn labels(&self, component: &str) -> BTreeMap<String, String> {
        labels(&[
            ("app.kubernetes.io/name", "llm-memory"),
            (INSTANCE_LABEL, &self.store),
            ("app.kubernetes.io/component", component),
            MANAGED_BY,
        ])
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
