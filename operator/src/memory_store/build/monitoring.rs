//! What Prometheus reads, and what it alerts on.

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::{Input, metadata};

/// The alerts of one store; `__NAMESPACE__` and `__NAME__` stand for the store's.
const ALERTS: &str = include_str!("../../../rules/alerts.yaml");

fn object(input: &Input<'_>, kind: &str, spec: Value) -> DynamicObject {
    let names = &input.store.names;
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("monitoring.coreos.com", "v1", kind));
    let mut object = DynamicObject::new(&names.main(), &resource);
    object.metadata = metadata(input, names.main(), "metrics");
    object
        .metadata
        .labels
        .get_or_insert_default()
        .extend(input.store.spec.monitoring.labels.clone());
    object.data = json!({ "spec": spec });
    object
}

pub(super) fn service_monitor(input: &Input<'_>) -> Option<DynamicObject> {
    if !input.apis.service_monitor || !input.store.spec.monitoring.service_monitor {
        return None;
    }
    let names = &input.store.names;
    let spec = json!({
        "selector": {"matchLabels": names.labels("metrics")},
        "endpoints": [{
            "port": "metrics",
            "interval": "30s",
            // Alerts and dashboards speak of the store, not of the Service that is read.
            "relabelings": [{"targetLabel": "service", "replacement": names.store}],
        }],
    });
    Some(object(input, "ServiceMonitor", spec))
}

pub(super) fn prometheus_rule(input: &Input<'_>) -> Option<DynamicObject> {
    if !input.apis.prometheus_rule || !input.store.spec.monitoring.prometheus_rule {
        return None;
    }
    let names = &input.store.names;
    let yaml = ALERTS.replace("__NAMESPACE__", &names.namespace).replace("__NAME__", &names.store);
    // The file is part of the program; a test reads it.
    let spec: Value = serde_saphyr::from_str(&yaml).ok()?;
    Some(object(input, "PrometheusRule", spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alerts_can_be_read() {
        let rules: Value = serde_saphyr::from_str(ALERTS).unwrap();
        let group = &rules["groups"][0];
        assert!(group["rules"].as_array().unwrap().len() >= 5);
    }
}
