//! The StatefulSet. It replaces no pod by itself (`OnDelete`): when a pod may go is the operator's
//! to say, see `rollout`.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use llm_memory_crds::MemoryStoreSpec;
use llm_memory_crds::memory_store::{
    MaintenanceSpec, MonitoringSpec, NetworkSpec, ReclaimPolicy, UpdateSpec,
};
use serde_json::{Value, json};

use super::{Input, metadata, pod, text};
use crate::hash;
use crate::names::{EDITION as EDITION_ANNOTATION, IMAGE, INPUTS};

/// Edition of the code that makes pod templates. A template of an older edition stays as it is
/// until the spec changes, so that a newer operator restarts nothing. Raise it when the golden
/// files show another template for the same spec; a test insists.
pub const EDITION: &str = "2";

/// Hash of everything that people said and that the pod template depends on.
pub fn inputs(input: &Input<'_>) -> String {
    let spec = &input.store.spec;
    let mut relevant = spec.clone();
    // These do not reach the pod template.
    relevant.image = None;
    relevant.replicas = 0;
    relevant.paused = false;
    relevant.update = UpdateSpec::default();
    relevant.reclaim_policy = ReclaimPolicy::default();
    relevant.maintenance = MaintenanceSpec::default();
    relevant.monitoring = MonitoringSpec::default();
    relevant.network = NetworkSpec::default();
    relevant.storage.size = Quantity::default();
    relevant.mcp.auth.service_accounts.clear();
    relevant.mcp.auth.tokens = None;
    relevant.mcp.auth.rotate_at = None;
    relevant.mcp.auth.rotate_overlap_minutes = 0;
    if let Some(oidc) = &mut relevant.mcp.auth.oidc {
        oidc.subjects.clear();
    }
    let mut spec = json!(relevant);
    // A field that a newer definition adds has its default in every older spec, and must not make
    // that another one.
    drop_defaults(&mut spec, &defaults());
    hash::of(&json!({
        "spec": spec,
        "image": input.image,
        "tls": input.tls.as_ref().map(|tls| &tls.secret_name),
    }))
}

/// The spec of people who write nothing.
fn defaults() -> Value {
    let empty = serde_json::from_value::<MemoryStoreSpec>(json!({}));
    empty.map(|spec| json!(spec)).unwrap_or_default()
}

/// Removes from `value` what is in `defaults` with the same value.
fn drop_defaults(value: &mut Value, defaults: &Value) {
    let (Value::Object(members), Value::Object(defaults)) = (value, defaults) else { return };
    members.retain(|name, member| {
        let Some(default) = defaults.get(name) else { return true };
        let same = member == default;
        drop_defaults(member, default);
        !same && member.as_object().is_none_or(|members| !members.is_empty())
    });
}

pub(super) fn stateful_set(input: &Input<'_>) -> StatefulSet {
    let names = &input.store.names;
    let (template, edition, inputs) = match &input.keep {
        Some(kept) => (kept.template.clone(), kept.edition.clone(), kept.inputs.clone()),
        None => (pod::template(input), text(EDITION), inputs(input)),
    };
    let annotations = [
        (text(INPUTS), inputs),
        (text(EDITION_ANNOTATION), edition),
        (text(IMAGE), input.image.to_owned()),
    ]
    .into();
    let mut metadata = metadata(input, names.main(), "server");
    metadata.annotations = Some(annotations);
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(input.store.spec.replicas),
            service_name: Some(names.main()),
            pod_management_policy: Some(text("Parallel")),
            revision_history_limit: Some(5),
            selector: LabelSelector {
                match_labels: Some(names.selector()),
                match_expressions: None,
            },
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some(text("OnDelete")),
                rolling_update: None,
            }),
            template,
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}
