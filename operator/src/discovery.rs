//! Which APIs the cluster serves.

use kube::Client;
use kube::discovery::{Scope, oneshot};
use llm_memory_crds::{GROUP, VERSION};

use crate::memory_store::build::Apis;

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// MemoryStores can be watched.
    pub memory_stores: bool,
    /// Optional APIs.
    pub apis: Apis,
}

/// Asks the API server.
pub async fn look(client: &Client) -> Result<Served, kube::Error> {
    let has = async |group: &str, version: &str, kind: &str| -> Result<bool, kube::Error> {
        let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
        match oneshot::pinned_kind(client, &gvk).await {
            Ok((_, capabilities)) => Ok(capabilities.scope == Scope::Namespaced),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(kube::Error::Discovery(_)) => Ok(false),
            Err(error) => Err(error),
        }
    };
    Ok(Served {
        memory_stores: has(GROUP, VERSION, "MemoryStore").await?,
        apis: Apis {
            service_monitor: has("monitoring.coreos.com", "v1", "ServiceMonitor").await?,
            prometheus_rule: has("monitoring.coreos.com", "v1", "PrometheusRule").await?,
            certificate: has("cert-manager.io", "v1", "Certificate").await?,
        },
    })
}
