//! `MemoryStore`: one memory server and the volume it keeps its memories on.
//!
//! The spec is split by subject; each file holds the fields, their defaults and the CEL rules that
//! the API server enforces. Rules that need to see several subjects are on [`MemoryStoreSpec`].

mod access;
mod gpu;
mod maintenance;
mod network;
mod status;
mod storage;
mod update;
mod video;

pub use access::{
    Access, AuthMode, AuthSpec, McpSpec, OidcSpec, OidcSubject, Role, Scope, ServiceAccountMapping,
    TokenSpec,
};
pub use gpu::{GpuMode, GpuSpec};
pub use maintenance::{MaintenanceSpec, Routine, RoutineKind};
pub use network::{IssuerRef, MonitoringSpec, NetworkSpec, TlsSpec};
pub use status::{
    LastVerification, MemoryStoreStatus, ServerInfo, StorageStatus, UpdatePhase, UpdateStatus,
};
pub use storage::{ReclaimPolicy, StorageSpec};
pub use update::{UpdateSpec, UpdateStrategy};
pub use video::{
    ErrorCorrection, HardwareAcceleration, VideoCodec, VideoEncoder, VideoPreset, VideoSpec,
};

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, PodSecurityContext, ResourceRequirements, Toleration,
    TopologySpreadConstraint,
};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A memory for agents: one server, its volume, who may call it, and how it is cared for.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "llm-memory.dev",
    version = "v1alpha1",
    kind = "MemoryStore",
    plural = "memorystores",
    singular = "memorystore",
    shortname = "mem",
    category = "memory",
    namespaced,
    status = "MemoryStoreStatus",
    derive = "PartialEq",
    doc = "A memory for agents: one server, its volume, who may call it, and how it is cared for.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Agents can use the store"
    ),
    printcolumn(name = "Items", type_ = "integer", json_path = ".status.items"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.storage.used"),
    printcolumn(name = "Encoder", type_ = "string", json_path = ".status.encoder"),
    printcolumn(
        name = "Last verified",
        type_ = "date",
        json_path = ".status.lastVerification.time"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 40 && !self.metadata.name.contains('.') && self.metadata.name.matches('^[a-z]')")
        .message("metadata.name must begin with a letter, and have at most 40 characters and no dot: names of Services, CronJobs and pods are made from it. Choose another name"),
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.tls) || !has(self.tls.certManagerIssuerRef) || !has(self.tls.secretName)")
        .message("tls.secretName and tls.certManagerIssuerRef exclude each other: name the Secret that holds the certificate, or the issuer that makes one"),
    validation = Rule::new("!has(self.mcp) || !has(self.mcp.auth) || self.mcp.auth.mode != 'None' || (has(self.network) && self.network.enabled && has(self.network.ingressFrom) && size(self.network.ingressFrom) > 0)")
        .message("mcp.auth.mode None lets everybody in who reaches the port: list in network.ingressFrom who may, with network.enabled, or choose Token"),
)]
pub struct MemoryStoreSpec {
    /// Image of the server. Left out, the image that the operator was configured with when the
    /// store was made, which a newer operator does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When the kubelet pulls the image.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets of this namespace for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// 1 serves; 0 hibernates: the pod goes, the data stays. There is one writer, so never more.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1))]
    #[x_kube(validation = Rule::new("self == 0 || self == 1").message("replicas must be 0 (hibernated) or 1: a store has one writer. For more throughput, make more stores"))]
    pub replicas: i32,
    /// Change nothing in the cluster until this is false again; the status is still reported.
    #[serde(default)]
    pub paused: bool,
    /// How a change of the pod is brought about.
    #[serde(default)]
    pub update: UpdateSpec,
    /// The volume.
    #[serde(default)]
    pub storage: StorageSpec,
    /// What becomes of the volume when the store is deleted. Retain keeps the claim and its data;
    /// a new store of the same name finds them again. Delete removes them with the store.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
    /// Graphics hardware for encoding video.
    #[serde(default)]
    pub gpu: GpuSpec,
    /// The video archive.
    #[serde(default)]
    pub video: VideoSpec,
    /// Where agents reach the store, and who may.
    #[serde(default)]
    pub mcp: McpSpec,
    /// Encryption of the MCP port. Left out, it speaks plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Who may connect, by network.
    #[serde(default)]
    pub network: NetworkSpec,
    /// Scheduled care.
    #[serde(default)]
    pub maintenance: MaintenanceSpec,
    /// Objects for Prometheus, made where its operator is installed.
    #[serde(default)]
    pub monitoring: MonitoringSpec,
    /// Other settings of the server by their key, such as `limits.maxItemKb`; the server's
    /// configuration page lists them. Those that follow from other fields are not accepted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "settings")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('listen.') && !key.startsWith('auth.') && !key.startsWith('tls.') && !key.startsWith('video.') && key != 'dataDir')")
        .message("settings must not contain dataDir, listen.*, auth.*, tls.* or video.*: they follow from spec.mcp, spec.tls and spec.video. Set them there"))]
    pub settings: BTreeMap<String, String>,
    /// Compute resources of the server.
    #[serde(default = "default_resources")]
    pub resources: ResourceRequirements,
    /// Labels a node must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Where the pod may and would rather run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// How pods of several stores spread.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    /// Security context of the pod. Left out, the one that the restricted Pod Security Standard
    /// asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurityContext>,
    /// Merged into the pod template last, as `kubectl patch` would: for what no other field says.
    /// The server's container is named `server`. A template of more than 4096 values is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub pod_template: Option<serde_json::Value>,
}

/// When the kubelet pulls an image.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Whenever a pod starts.
    Always,
    /// Never; the node must have it.
    Never,
}

impl ImagePullPolicy {
    /// The word that the pod's own API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

const fn one() -> i32 {
    1
}

/// Enough for some hundred thousand items; memory is a limit too, so that one store does not take
/// a node down.
fn default_resources() -> ResourceRequirements {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    let list = |pairs: &[(&str, &str)]| {
        let owned =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned())));
        Some(owned.collect::<BTreeMap<_, _>>())
    };
    ResourceRequirements {
        requests: list(&[("cpu", "100m"), ("memory", "256Mi")]),
        limits: list(&[("memory", "1Gi")]),
        ..ResourceRequirements::default()
    }
}

fn settings(_: &mut SchemaGenerator) -> Schema {
    let text = json_schema!({ "type": "string", "maxLength": 4096 });
    json_schema!({ "type": "object", "maxProperties": 64, "additionalProperties": text })
}

/// Labels of a node, or of an object; Kubernetes bounds each value by itself.
fn labels(_: &mut SchemaGenerator) -> Schema {
    let text = json_schema!({ "type": "string", "maxLength": 63 });
    json_schema!({ "type": "object", "maxProperties": 64, "additionalProperties": text })
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

#[cfg(test)]
mod tests;
