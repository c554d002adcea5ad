//! The manifests of the resources, as YAML.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::MemoryStore;

/// Every definition.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![MemoryStore::crd()]
}

/// File name and content of each definition in the chart of definitions. Helm templates them, so
/// braces that it would take for its own are not used in any description.
pub fn files() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    all()
        .into_iter()
        .map(|mut definition| {
            // Deleting the chart must not delete every store of the cluster.
            definition
                .metadata
                .annotations
                .get_or_insert_default()
                .insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
            let name = format!("{}.yaml", definition.spec.names.plural);
            let yaml = serde_saphyr::to_string(&definition)?;
            Ok((name, format!("# Made by `./justw crds`; do not edit.\n{yaml}")))
        })
        .collect()
}
