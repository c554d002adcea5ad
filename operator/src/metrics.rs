//! What the operator tells Prometheus of itself and of its stores.

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use kube::ResourceExt as _;
use llm_memory_crds::conditions::{READY, VERIFIED};
use llm_memory_crds::{MemoryStore, MemoryStoreStatus};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabel {
    namespace: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<ResultLabel, Counter>,
    durations: Histogram,
    errors: Family<ReasonLabel, Counter>,
    stores: Gauge<i64, AtomicI64>,
    ready: Gauge<i64, AtomicI64>,
    leader: Gauge<i64, AtomicI64>,
    store_ready: Family<StoreLabel, Gauge>,
    store_verified: Family<StoreLabel, Gauge>,
    seen: Mutex<HashMap<(String, String), Seen>>,
}

/// What is counted of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Ready,
    NotReady,
    /// It is not to serve, and no alert is due.
    Hibernated,
}

impl Default for Metrics {
    fn default() -> Self {
        let reconciles = Family::default();
        // From 1 ms to 32 s.
        let durations = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let errors = Family::default();
        let (stores, ready, leader) = (Gauge::default(), Gauge::default(), Gauge::default());
        let (store_ready, store_verified) = (Family::default(), Family::default());
        let mut everything = Registry::default();
        everything.register(
            "llm_memory_store_ready",
            "1 when agents can use the store, 0 when not; absent while it is hibernated",
            store_ready.clone(),
        );
        everything.register(
            "llm_memory_store_verified",
            "1 when the last verification found everything intact, 0 when not; absent before",
            store_verified.clone(),
        );
        let registry = everything.sub_registry_with_prefix("llm_memory_operator");
        registry.register("reconcile", "Reconciliations by result", reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Time of a reconciliation",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("reconcile_errors", "Failed reconciliations by stage", errors.clone());
        registry.register("stores", "MemoryStores that are to serve", stores.clone());
        registry.register("stores_ready", "MemoryStores that are ready", ready.clone());
        registry.register("leader", "1 when this operator is the one that acts", leader.clone());
        Self {
            registry: everything,
            store_ready,
            store_verified,
            reconciles,
            durations,
            errors,
            stores,
            ready,
            leader,
            seen: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Counts a reconciliation.
    pub fn reconciled(&self, took: Duration, well: bool) {
        let result = if well { "ok" } else { "error" };
        self.reconciles.get_or_create(&ResultLabel { result }).inc();
        self.durations.observe(took.as_secs_f64());
    }

    /// Counts a failure.
    pub fn failed(&self, reason: &'static str) {
        self.errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Takes note of the status of a store.
    pub fn observed(&self, object: &MemoryStore, status: &MemoryStoreStatus) {
        let condition = |kind: &str| {
            let found = status.conditions.iter().find(|condition| condition.type_ == kind);
            found.map(|condition| condition.status.as_str())
        };
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let label = StoreLabel { namespace: namespace.clone(), name: name.clone() };
        let seen = if object.spec.replicas == 0 {
            Seen::Hibernated
        } else if condition(READY) == Some("True") {
            Seen::Ready
        } else {
            Seen::NotReady
        };
        match seen {
            Seen::Hibernated => drop(self.store_ready.remove(&label)),
            Seen::Ready => drop(self.store_ready.get_or_create(&label).set(1)),
            Seen::NotReady => drop(self.store_ready.get_or_create(&label).set(0)),
        }
        match condition(VERIFIED) {
            Some("True") => drop(self.store_verified.get_or_create(&label).set(1)),
            Some("False") => drop(self.store_verified.get_or_create(&label).set(0)),
            Some(_) | None => {}
        }
        self.seen.lock().insert((namespace, name), seen);
        self.count();
    }

    /// Forgets a store that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.seen.lock().remove(&key);
        let label = StoreLabel { namespace: key.0, name: key.1 };
        self.store_ready.remove(&label);
        self.store_verified.remove(&label);
        self.count();
    }

    fn count(&self) {
        let seen = self.seen.lock();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let ready = seen.values().filter(|seen| **seen == Seen::Ready).count();
        let serving = seen.values().filter(|seen| **seen != Seen::Hibernated).count();
        self.stores.set(number(serving));
        self.ready.set(number(ready));
    }

    /// Whether this operator is the one that acts.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Everything in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        encode(&mut text, &self.registry).unwrap_or_default();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_counted_while_they_are_there() {
        let metrics = Metrics::default();
        let mut store =
            MemoryStore::new("m", serde_json::from_value(serde_json::json!({})).unwrap());
        store.metadata.namespace = Some("team".to_owned());
        metrics.observed(&store, &MemoryStoreStatus::default());
        metrics.observed(&store, &MemoryStoreStatus::default());
        metrics.reconciled(Duration::from_millis(3), true);
        metrics.failed("apply");
        let text = metrics.text();
        assert!(text.contains("llm_memory_operator_stores 1\n"), "{text}");
        assert!(text.contains("llm_memory_operator_reconcile_total{result=\"ok\"} 1\n"));
        assert!(text.contains("llm_memory_operator_reconcile_errors_total{reason=\"apply\"} 1\n"));
        assert!(
            text.contains("llm_memory_store_ready{namespace=\"team\",name=\"m\"} 0\n"),
            "{text}"
        );
        store.spec.replicas = 0;
        metrics.observed(&store, &MemoryStoreStatus::default());
        let asleep = metrics.text();
        assert!(!asleep.contains("llm_memory_store_ready{"), "{asleep}");
        assert!(asleep.contains("llm_memory_operator_stores 0\n"));
        metrics.forget("team", "m");
        assert!(metrics.text().contains("llm_memory_operator_stores 0\n"));
    }
}
