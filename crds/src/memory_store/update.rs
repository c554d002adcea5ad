//! How a change of the pod is brought about.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a change of the pod is brought about.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSpec {
    /// Automatic replaces the pod when this spec changes it; Manual leaves it until
    /// `kubectl memory restart`. Whatever else makes the pod anew meanwhile, such as a drain or an
    /// eviction, brings every change but that of `image`. A newer operator replaces no pod by
    /// itself.
    #[serde(default)]
    pub strategy: UpdateStrategy,
    /// Verify the whole store before its image changes; damage stops the update.
    #[serde(default = "yes")]
    pub verify_before: bool,
    /// Seconds that a pod with a new image has to become ready before the former image is put
    /// back.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 10, max = 86_400))]
    pub ready_timeout_seconds: i32,
}

impl Default for UpdateSpec {
    fn default() -> Self {
        Self {
            strategy: UpdateStrategy::default(),
            verify_before: true,
            ready_timeout_seconds: five_minutes(),
        }
    }
}

const fn yes() -> bool {
    true
}

const fn five_minutes() -> i32 {
    300
}

/// When a changed pod is replaced.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// At once.
    #[default]
    Automatic,
    /// When a person says so, or when the pod is made anew for another reason.
    Manual,
}
