//! What was observed of a store.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was observed of a store. Nothing here is copied from the spec.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStoreStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Ready, Progressing, StorageHealthy, Verified, HardwareEncoding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Pods that there are.
    #[serde(default)]
    pub replicas: i32,
    /// Selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Where agents in the cluster reach the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Image that the pod template names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the server said of itself in the MCP handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_info: Option<ServerInfo>,
    /// Live items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<i64>,
    /// Bytes of the journals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_bytes: Option<i64>,
    /// The volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// Encoder in use, such as software or nvenc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// The last verification that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verification: Option<LastVerification>,
    /// When a compaction last ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_compaction: Option<Time>,
    /// The change of image that is under way or ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
}

/// What the server said of itself.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The protocol version that was agreed on.
    pub protocol_version: String,
}

/// The volume.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// Size asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    /// Size that the claim has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// Bytes that the store uses, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Bytes that the store uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<i64>,
}

/// A verification that ended.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastVerification {
    /// When it ended.
    pub time: Time,
    /// Everything was intact.
    pub intact: bool,
    /// What is damaged, or how much was checked.
    pub message: String,
}

/// A change of image.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStatus {
    /// The step it is in.
    pub phase: UpdatePhase,
    /// Image before.
    pub from: String,
    /// Image after.
    pub to: String,
    /// When the step began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The server's job that verifies the store beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_job: Option<String>,
    /// Why it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A step of a change of image. Steps follow each other downwards, and end in one of the last
/// three.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdatePhase {
    /// The store is being verified.
    #[default]
    Verifying,
    /// The pod with the new image is awaited.
    RollingOut,
    /// The pod with the former image is awaited.
    RollingBack,
    /// The new image serves.
    Complete,
    /// The former image serves; the new one did not become ready.
    RolledBack,
    /// Verification found damage; nothing was changed.
    Refused,
}
