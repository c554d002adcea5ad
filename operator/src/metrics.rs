//! What the operator tells Prometheus of itself and of its stores.

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use kube::ResourceExt as _;
use llm_memory_crds::conditions::READY;
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
    seen: Mutex<HashMap<(String, String), bool>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let reconciles = Family::default();
        // From 1 ms to 32 s.
        let durations = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let errors = Family::default();
        let (stores, ready, leader) = (Gauge::default(), Gauge::default(), Gauge::default());
        let mut registry = Registry::with_prefix("llm_memory_operator");
        registry.register("reconcile", "Reconciliations by result", reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Time of a reconciliation",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("reconcile_errors", "Failed reconciliations by stage", errors.clone());
        registry.register("stores", "MemoryStores that are reconciled", stores.clone());
        registry.register("stores_ready", "MemoryStores that are ready", ready.clone());
        registry.register("leader", "1 when this operator is the one that acts", leader.clone());
        Self {
            registry,
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
        let is_ready = status
            .conditions
            .iter()
            .any(|condition| condition.type_ == READY && condition.status == "True");
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        self.seen.lock().insert(key, is_ready);
        self.count();
    }

    /// Forgets a store that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.seen.lock().remove(&(namespace.to_owned(), name.to_owned()));
        self.count();
    }

    fn count(&self) {
        let seen = self.seen.lock();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.stores.set(number(seen.len()));
        self.ready.set(number(seen.values().filter(|ready| **ready).count()));
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
        let mut store = MemoryStore::new("m", llm_memory_crds::MemoryStoreSpec::default());
        store.metadata.namespace = Some("team".to_owned());
        metrics.observed(&store, &MemoryStoreStatus::default());
        metrics.observed(&store, &MemoryStoreStatus::default());
        metrics.reconciled(Duration::from_millis(3), true);
        metrics.failed("apply");
        let text = metrics.text();
        assert!(text.contains("llm_memory_operator_stores 1\n"), "{text}");
        assert!(text.contains("llm_memory_operator_reconcile_total{result=\"ok\"} 1\n"));
        assert!(text.contains("llm_memory_operator_reconcile_errors_total{reason=\"apply\"} 1\n"));
        metrics.forget("team", "m");
        assert!(metrics.text().contains("llm_memory_operator_stores 0\n"));
    }
}
