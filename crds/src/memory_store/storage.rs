//! The volume of a store.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The volume of a store.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.existingClaim) == has(oldSelf.existingClaim) && (!has(self.existingClaim) || self.existingClaim == oldSelf.existingClaim)")
        .message("storage.existingClaim cannot change: the data would stay behind. Make a new store and move the memories there"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storage.storageClassName cannot change: a claim keeps its class. Make a new store and move the memories there"),
    validation = Rule::new("!has(self.existingClaim) || !has(self.storageClassName)")
        .message("storage.existingClaim and storage.storageClassName exclude each other: an existing claim has its class already"),
)]
pub struct StorageSpec {
    /// Size of the volume. It can grow where the storage class allows it, and never shrink.
    #[serde(default = "ten_gibibytes")]
    #[schemars(schema_with = "quantity")]
    #[x_kube(
        validation = Rule::new("isQuantity(self) && quantity(self).compareTo(quantity('256Mi')) >= 0")
            .message("storage.size must be a quantity of at least 256Mi, such as 10Gi: the server keeps 64Mi free for compaction and recovery"),
        validation = Rule::new("!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0")
            .message("storage.size can only grow: volumes do not shrink. Make a smaller store and move the memories there"),
    )]
    pub size: Quantity,
    /// Storage class; the cluster's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// How the volume may be mounted.
    #[serde(default = "read_write_once")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(
        validation = Rule::new("self.all(mode, mode in ['ReadWriteOnce', 'ReadWriteOncePod', 'ReadWriteMany'])")
            .message("storage.accessModes must be of ReadWriteOnce, ReadWriteOncePod, ReadWriteMany: the server writes"),
        validation = Rule::new("self == oldSelf").message("storage.accessModes cannot change: a claim keeps its modes"),
    )]
    pub access_modes: Vec<AccessMode>,
    /// A claim that is there already, instead of one that the operator makes. It is never changed
    /// nor deleted; `size` has no effect then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub existing_claim: Option<String>,
}

/// How a volume may be mounted; see `PersistentVolumeClaim`.
pub type AccessMode = String;

impl Default for StorageSpec {
    fn default() -> Self {
        Self {
            size: ten_gibibytes(),
            storage_class_name: None,
            access_modes: read_write_once(),
            existing_claim: None,
        }
    }
}

fn ten_gibibytes() -> Quantity {
    Quantity("10Gi".to_owned())
}

fn read_write_once() -> Vec<AccessMode> {
    vec!["ReadWriteOnce".to_owned()]
}

fn quantity(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    // The bound keeps the estimated cost of the rules within the API server's budget.
    schemars::json_schema!({ "type": "string", "maxLength": 32 })
}

/// What becomes of the volume when the store is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReclaimPolicy {
    /// The claim and its data stay.
    #[default]
    Retain,
    /// The claim is deleted with the store.
    Delete,
}
