//! MemoryStores in tests.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use llm_memory_crds::MemoryStore;
use serde_json::{Value, json};

use crate::{Scratch, wait};

/// Time that a store has to become ready.
pub const READY_WITHIN: Duration = Duration::from_secs(60);

/// An image that is the same server under another name.
pub fn other_image() -> String {
    std::env::var("E2E_OTHER_IMAGE").unwrap_or_else(|_| "localhost/llm-memory:other".to_owned())
}

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

    /// The static token `default` of the store `name`.
    pub async fn token(&self, name: &str) -> Result<String> {
        let secret = self.api::<Secret>().get(&format!("{name}-tokens")).await?;
        let token = secret.data.unwrap_or_default().remove("default").context("no token")?;
        Ok(String::from_utf8(token.0)?)
    }

    /// Stores a memory through the server's own command line and answers its name.
    pub async fn remember(&self, store: &str, text: &str) -> Result<String> {
        let text = format!("--text={text}");
        let upsert = [
            "memory.upsert",
            "--scope=global",
            "--type=note",
            "--title=kept",
            &text,
            "--output",
            "json",
        ];
        let answer: Value = serde_json::from_str(&self.server(store, &upsert).await?)?;
        let id = answer.get("id").and_then(Value::as_str).context("no id")?;
        Ok(id.to_owned())
    }

    /// Waits until the memory `id` is found, and fails when it is not within a minute.
    pub async fn recalls(&self, store: &str, id: &str) -> Result<()> {
        wait::until(id, READY_WITHIN, || async {
            let get = ["memory.get", "--id", id, "--scope=global", "--output", "json"];
            let answer = self.server(store, &get).await?;
            Ok(if answer.contains(id) { Ok(()) } else { Err(answer) })
        })
        .await
    }

    /// Waits until the pod of `store` is another one than `former`.
    pub async fn another_pod(&self, store: &str, former: &str) -> Result<()> {
        wait::until("another pod", READY_WITHIN, || async {
            let pod = self.api::<Pod>().get_opt(&format!("{store}-0")).await?;
            let uid = pod.and_then(|pod| pod.uid());
            Ok(uid.filter(|uid| uid != former).map(drop).ok_or("the former one"))
        })
        .await
    }

    /// The image that the pod of a store was made with.
    pub async fn image_of_pod(&self, store: &str) -> Result<String> {
        let pod = self.api::<Pod>().get(&format!("{store}-0")).await?;
        let spec = pod.spec.context("a pod without spec")?;
        let first = spec.containers.first().and_then(|container| container.image.clone());
        first.context("a pod without image")
    }

    /// Identity of the pod of `store`.
    pub async fn pod_uid(&self, store: &str) -> Result<String> {
        let pod = self.api::<Pod>().get(&format!("{store}-0")).await?;
        pod.uid().context("a pod without uid")
    }
}
