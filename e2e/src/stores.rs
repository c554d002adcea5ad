//! MemoryStores in tests.

use std::time::Duration;

use anyhow::Result;
use kube::api::{Patch, PatchParams, PostParams};
use llm_memory_crds::MemoryStore;
use serde_json::{Value, json};

use crate::{Scratch, wait};

/// Time that a store has to become ready.
pub const READY_WITHIN: Duration = Duration::from_secs(60);

impl Scratch {
    /// Makes the store `name` with `spec`.
    pub async fn create(&self, name: &str, spec: Value) -> Result<MemoryStore> {
        // The object goes as JSON, so that the API server fills in what a person leaves out.
        let api: kube::Api<kube::api::DynamicObject> = kube::Api::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &kube::api::ApiResource::erase::<MemoryStore>(&()),
        );
        let object = serde_json::from_value(json!({
            "apiVersion": "llm-memory.dev/v1alpha1", "kind": "MemoryStore",
            "metadata": {"name": name}, "spec": spec,
        }))?;
        Ok(api.create(&PostParams::default(), &object).await?.try_parse()?)
    }

    /// Changes the spec of the store `name` by a merge patch.
    pub async fn change(&self, name: &str, spec: Value) -> Result<MemoryStore> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        Ok(self.api::<MemoryStore>().patch(name, &PatchParams::default(), &patch).await?)
    }

    /// Waits until the condition `kind` of the store `name` has this status and reason.
    pub async fn condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
        limit: Duration,
    ) -> Result<MemoryStore> {
        let api = self.api::<MemoryStore>();
        let what = format!("{name}: {kind}={status} ({reason})");
        wait::until(&what, limit, || async {
            let store = api.get(name).await?;
            let conditions =
                store.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
            let holds = conditions.iter().any(|condition| {
                condition.type_ == kind
                    && condition.status == status
                    && (reason.is_empty() || condition.reason == reason)
                    && condition.observed_generation == store.metadata.generation
            });
            let seen: Vec<String> = conditions
                .iter()
                .map(|c| format!("{}={} ({}): {}", c.type_, c.status, c.reason, c.message))
                .collect();
            Ok(if holds { Ok(store) } else { Err(seen) })
        })
        .await
    }

    /// Waits until the store `name` is ready.
    pub async fn ready(&self, name: &str) -> Result<MemoryStore> {
        self.condition(name, "Ready", "True", "Serving", READY_WITHIN).await
    }
}
