//! Graphics hardware of a store.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Graphics hardware for encoding video.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode != 'Disabled' || (!has(self.nodeSelector) && !has(self.tolerations) && !has(self.runtimeClassName))")
    .message("gpu.nodeSelector, gpu.tolerations and gpu.runtimeClassName have no effect while gpu.mode is Disabled: choose Preferred or Required, or remove them"))]
pub struct GpuSpec {
    /// Disabled asks for nothing. Preferred would rather run where there is hardware, and encodes
    /// in software elsewhere, which the condition HardwareEncoding says. Required runs nowhere
    /// else, and waits.
    #[serde(default)]
    pub mode: GpuMode,
    /// Name of the resource that Required asks for, and label of the nodes that Preferred
    /// prefers (`<name>.present`, as the device plugins' feature discovery sets it).
    #[serde(default = "nvidia")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')")
        .message("gpu.resourceName must be a qualified name such as nvidia.com/gpu"))]
    pub resource_name: String,
    /// How many of them.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub count: i32,
    /// Labels of nodes with hardware: must hold when Required, count in favour when Preferred.
    /// Left out, Preferred looks for `<resourceName>.present=true`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes with hardware. Left out, a taint named as the resource is tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Runtime class that brings the drivers into the container, such as nvidia. With Preferred
    /// every node must know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
}

impl Default for GpuSpec {
    fn default() -> Self {
        Self {
            mode: GpuMode::default(),
            resource_name: nvidia(),
            count: one(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            runtime_class_name: None,
        }
    }
}

fn nvidia() -> String {
    "nvidia.com/gpu".to_owned()
}

const fn one() -> i32 {
    1
}

/// Whether a store needs graphics hardware.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuMode {
    /// It asks for none.
    #[default]
    Disabled,
    /// It would rather have some.
    Preferred,
    /// It does not run without.
    Required,
}
