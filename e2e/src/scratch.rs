//! A namespace for one test, where the restricted Pod Security Standard is enforced.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;

use crate::{evidence, wait};

/// A namespace, and the way to it.
#[derive(Clone)]
pub struct Scratch {
    /// The API server.
    pub client: Client,
    /// Name of the namespace.
    pub namespace: String,
}

impl Scratch {
    /// The objects of type `K` in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Connects to the cluster that `KUBECONFIG` names.
pub async fn connect() -> Result<Client> {
    Client::try_default().await.context("no cluster: run these tests with ./justw e2e")
}

/// Runs `test` in a namespace of its own, named after it. When the test fails, logs, events and
/// objects are kept in a folder that the error names; the namespace goes in any case.
pub async fn scratch<F, Fut>(name: &str, test: F) -> Result<()>
where
    F: FnOnce(Scratch) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let client = connect().await?;
    let namespace = format!("{name}-{:06x}", rand::random::<u32>() & 0x00ff_ffff);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let object = serde_json::from_value(json!({
        "metadata": {"name": namespace, "labels": {
            "llm-memory.dev/e2e": name,
            "pod-security.kubernetes.io/enforce": "restricted",
        }},
    }))?;
    namespaces.create(&PostParams::default(), &object).await?;
    let scratch = Scratch { client: client.clone(), namespace: namespace.clone() };
    // Pods need the default account, which a controller makes.
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = scratch.api();
    wait::until("the default account", Duration::from_secs(30), || async {
        Ok(accounts.get_opt("default").await?.ok_or("none"))
    })
    .await?;
    let outcome = test(scratch.clone()).await;
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(error) => {
            let kept = evidence::keep(&scratch).await;
            let folder = kept.unwrap_or_else(|reason| format!("nothing could be kept: {reason:#}"));
            Err(error.context(format!("evidence: {folder}")))
        }
    };
    let gone = namespaces.delete(&namespace, &DeleteParams::background()).await;
    outcome.and(gone.map(|_| ()).map_err(Into::into))
}
