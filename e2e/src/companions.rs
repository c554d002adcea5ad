//! Resources of other projects that the operator makes where the cluster knows them: those of
//! Prometheus' operator and of cert-manager. Their definitions are enough for that; what would act
//! on them is played by the tests.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};

use crate::{Scratch, wait};

/// The operator looks for such definitions every minute.
pub const NOTICED: Duration = Duration::from_secs(120);

const DEFINITIONS: [&str; 3] = [
    "servicemonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
    "certificates.cert-manager.io",
];

/// Makes the cluster know them, unless it does.
pub async fn install(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut absent = Vec::new();
    for name in DEFINITIONS {
        if api.get_opt(name).await?.is_none() {
            absent.push(name);
        }
    }
    if absent.is_empty() {
        return Ok(());
    }
    let folder = std::env::var("E2E_DEFINITIONS").with_context(|| {
        format!("the cluster does not know {absent:?}, and E2E_DEFINITIONS names no folder of them")
    })?;
    let apply = ["apply", "--server-side", "--force-conflicts", "--filename", &folder];
    let output = tokio::process::Command::new("kubectl").args(apply).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Scratch {
    /// Objects of another project's kind.
    pub fn companions(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Waits until such an object is there.
    pub async fn companion(&self, group: &str, kind: &str, name: &str) -> Result<DynamicObject> {
        let api = self.companions(group, kind);
        wait::until(&format!("{kind} {name}"), NOTICED, || async {
            Ok(api.get_opt(name).await?.ok_or("absent"))
        })
        .await
    }

    /// Waits until it is not.
    pub async fn no_companion(&self, group: &str, kind: &str, name: &str) -> Result<()> {
        let api = self.companions(group, kind);
        wait::until(&format!("no {kind} {name}"), NOTICED, || async {
            Ok(api.get_opt(name).await?.map_or(Ok(()), |_| Err("it is there")))
        })
        .await
    }
}
