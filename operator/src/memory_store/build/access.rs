//! Accounts, static tokens and the certificate.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::json;

use super::{Input, metadata, text};

/// The server's account, with which it asks the API server to review tokens; and the account of
/// the pods that follow maintenance, which has no rights in the cluster.
pub(super) fn service_accounts(input: &Input<'_>) -> [ServiceAccount; 2] {
    let names = &input.store.names;
    [(names.main(), "server"), (names.jobs(), "maintenance")].map(|(name, component)| {
        ServiceAccount {
            metadata: metadata(input, name, component),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }
    })
}

pub(super) fn token_secret(input: &Input<'_>) -> Option<Secret> {
    let data = input.tokens.clone()?;
    Some(Secret {
        metadata: metadata(input, input.store.names.tokens(), "tokens"),
        data: Some(data),
        type_: Some(text("Opaque")),
        ..Secret::default()
    })
}

pub(super) fn certificate(input: &Input<'_>) -> Option<DynamicObject> {
    let issuer = input.store.spec.tls.as_ref()?.cert_manager_issuer_ref.as_ref()?;
    if !input.apis.certificate {
        return None;
    }
    let names = &input.store.names;
    let host = names.host();
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
    let mut object = DynamicObject::new(&names.certificate(), &resource);
    object.metadata = metadata(input, names.certificate(), "server");
    object.data = json!({"spec": {
        "secretName": names.certificate(),
        // Shorter ones are good for whatever else is called so.
        "dnsNames": [host, format!("{host}.{}", input.cluster_domain)],
        "issuerRef": {"name": issuer.name, "kind": issuer.kind},
        "usages": ["server auth"],
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
    }});
    Some(object)
}
