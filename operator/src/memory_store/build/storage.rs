//! The claim.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use llm_memory_crds::memory_store::ReclaimPolicy;

use super::{Input, metadata, text, unowned};

/// Argo CD, where it tracks objects by their instance label, takes a claim without an owner for one
/// that was removed from the application whose name the store has. This keeps it from deleting the
/// data, and from calling the application out of sync.
const OF_NO_APPLICATION: [(&str, &str); 2] = [
    ("argocd.argoproj.io/sync-options", "Prune=false"),
    ("argocd.argoproj.io/compare-options", "IgnoreExtraneous"),
];

/// The claim that the operator makes. It is no template of the StatefulSet, so that it can grow.
/// Retained ones have no owner: deleting a store, or a whole chart, leaves them.
pub(super) fn claim(input: &Input<'_>) -> Option<PersistentVolumeClaim> {
    let storage = &input.store.spec.storage;
    if storage.existing_claim.is_some() {
        return None;
    }
    let name = input.store.names.claim();
    let metadata = match input.store.spec.reclaim_policy {
        ReclaimPolicy::Retain => {
            let annotations = OF_NO_APPLICATION.map(|(name, value)| (text(name), text(value)));
            ObjectMeta { annotations: Some(annotations.into()), ..unowned(input, name, "data") }
        }
        ReclaimPolicy::Delete => metadata(input, name, "data"),
    };
    Some(PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(storage.access_modes.clone()),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(
                    [("storage".to_owned(), Quantity(input.claim_size.to_owned()))].into(),
                ),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}
