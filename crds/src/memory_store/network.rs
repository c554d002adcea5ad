//! Encryption, network and monitoring of a store.

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Encryption of the MCP port.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretName) || has(self.certManagerIssuerRef)")
    .message("tls needs secretName or certManagerIssuerRef; remove tls for plain HTTP"))]
pub struct TlsSpec {
    /// Secret of this namespace with `tls.crt` and `tls.key`, and with `ca.crt`, the authority of
    /// the certificate, unless that is its own. It has to name `<store>.<namespace>.svc`, which is
    /// where the operator and the store's jobs connect to. A new certificate in it is taken without
    /// a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// Issuer of cert-manager that makes the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_manager_issuer_ref: Option<IssuerRef>,
}

/// An issuer of cert-manager.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Issuer or ClusterIssuer.
    #[serde(default = "issuer")]
    #[x_kube(validation = Rule::new("self in ['Issuer', 'ClusterIssuer']").message("tls.certManagerIssuerRef.kind must be Issuer or ClusterIssuer"))]
    #[schemars(length(max = 63))]
    pub kind: String,
}

fn issuer() -> String {
    "Issuer".to_owned()
}

/// Who may connect, by network. All other traffic to the pod is denied where the cluster enforces
/// network policies; probes, the operator and the store's own jobs are always let in.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSpec {
    /// Make a NetworkPolicy.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Who may reach the MCP port. Left out: every pod of the store's namespace, and of the
    /// namespaces whose ServiceAccounts are mapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub ingress_from: Option<Vec<NetworkPolicyPeer>>,
    /// Who may read the metrics. Left out: every pod of the cluster; an empty list: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub metrics_from: Option<Vec<NetworkPolicyPeer>>,
    /// Where the server may connect to besides DNS, and besides ports 443 and 6443 of every
    /// address, which reviewing tokens and reaching identity providers need; these are closed too
    /// when `mcp.auth.mode` is None.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub egress_to: Vec<NetworkPolicyEgressRule>,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self { enabled: true, ingress_from: None, metrics_from: None, egress_to: Vec::new() }
    }
}

const fn yes() -> bool {
    true
}

/// Objects for Prometheus, made where its operator's API exists.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringSpec {
    /// Make a ServiceMonitor.
    #[serde(default = "yes")]
    pub service_monitor: bool,
    /// Make a PrometheusRule with the alerts.
    #[serde(default = "yes")]
    pub prometheus_rule: bool,
    /// Labels for both, by which a Prometheus selects what it reads.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    #[schemars(schema_with = "super::labels")]
    pub labels: std::collections::BTreeMap<String, String>,
}

impl Default for MonitoringSpec {
    fn default() -> Self {
        Self {
            service_monitor: true,
            prometheus_rule: true,
            labels: std::collections::BTreeMap::new(),
        }
    }
}
