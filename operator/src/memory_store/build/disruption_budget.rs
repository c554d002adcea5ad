//! The PodDisruptionBudget.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Input, metadata, text};

/// A store has one pod, which drains and starts within seconds: its eviction is allowed, so that
/// nodes can be drained, and an unhealthy pod never holds a node.
pub(super) fn disruption_budget(input: &Input<'_>) -> PodDisruptionBudget {
    let names = &input.store.names;
    PodDisruptionBudget {
        metadata: metadata(input, names.main(), "server"),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(names.selector()),
                match_expressions: None,
            }),
            unhealthy_pod_eviction_policy: Some(text("AlwaysAllow")),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
