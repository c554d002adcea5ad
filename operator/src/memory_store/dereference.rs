//! Stage 2, needs a client: looks up what the spec refers to and what is there already. Watched
//! objects come from the caches; Secrets are read one by one, by name, so that the operator needs
//! no right to list the Secrets of a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use llm_memory_crds::memory_store::AuthMode;
use thiserror::Error;

use super::build::{ISSUER_AUTHORITY, Reached, TlsFacts};
use super::pods;
use super::validate::Store;
use crate::cluster::Cluster;

/// Why something could not be looked up.
#[derive(Debug, Error)]
pub enum DereferenceError {
    /// An object that the spec names is not there, or not what it should be.
    #[error("{field}: {reason}")]
    Missing {
        /// The field that names it.
        field: &'static str,
        /// What is missing, and what to do.
        reason: String,
    },
    /// The API server did not answer.
    #[error("{what} could not be read: {source}")]
    Api {
        /// What was asked for.
        what: String,
        /// What it said.
        source: Box<kube::Error>,
    },
}

/// What there is.
#[derive(Debug, Clone)]
pub struct Found {
    /// The StatefulSet.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// The pod.
    pub pod: Option<Arc<Pod>>,
    /// The claim: the operator's own, or the one that people brought.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// The Secret with the static tokens that the operator makes.
    pub tokens: Option<Secret>,
    /// The certificate that the spec asks for.
    pub tls: Option<TlsFacts>,
    /// How the server is reached now.
    pub reached: Reached,
    /// The authority (PEM) that those who reach it have to trust.
    pub authority: Option<Vec<u8>>,
    /// What the pods need and is not there any more; the one that runs has it still.
    pub missing: Option<String>,
}

/// Looks everything up.
pub async fn dereference(
    client: &Client,
    cluster: &Cluster,
    store: &Store,
) -> Result<Found, DereferenceError> {
    let names = &store.names;
    let namespace = &names.namespace;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let claim = match &store.spec.storage.existing_claim {
        None => cluster.claims.get(&ObjectRef::new(&names.claim()).within(namespace)),
        Some(name) => {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
            let found = claims.get_opt(name).await.map_err(|source| DereferenceError::Api {
                what: format!("PersistentVolumeClaim {name}"),
                source: Box::new(source),
            })?;
            Some(Arc::new(found.ok_or_else(|| DereferenceError::Missing {
                field: "spec.storage.existingClaim",
                reason: format!("there is no PersistentVolumeClaim {name}: create it"),
            })?))
        }
    };
    let stateful_set = cluster.stateful_sets.get(&ObjectRef::new(&names.main()).within(namespace));
    let mut missing = Missing { before_the_first: stateful_set.is_none(), told: None };
    let auth = &store.spec.mcp.auth;
    let mut tokens = None;
    if auth.mode != AuthMode::None {
        match &auth.secret_name {
            None => tokens = get(&secrets, &names.tokens()).await?,
            Some(name) => {
                let secret = get(&secrets, name).await?;
                let has_file = secret
                    .and_then(|secret| secret.data)
                    .is_some_and(|data| data.contains_key(super::tokens::FILE));
                if !has_file {
                    missing.note(DereferenceError::Missing {
                        field: "spec.mcp.auth.secretName",
                        reason: format!(
                            "there is no Secret {name} with the key {}: `llm-memory token create` \
                             writes such a file",
                            super::tokens::FILE
                        ),
                    })?;
                }
            }
        }
    }
    if let Some(name) = auth.oidc.as_ref().and_then(|oidc| oidc.ca_config_map.as_ref()) {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let map = maps.get_opt(name).await.map_err(|source| DereferenceError::Api {
            what: format!("ConfigMap {name}"),
            source: Box::new(source),
        })?;
        let has = |map: ConfigMap| {
            map.data.is_some_and(|data| data.contains_key(ISSUER_AUTHORITY))
                || map.binary_data.is_some_and(|data| data.contains_key(ISSUER_AUTHORITY))
        };
        if !map.is_some_and(has) {
            missing.note(DereferenceError::Missing {
                field: "spec.mcp.auth.oidc.caConfigMap",
                reason: format!(
                    "there is no ConfigMap {name} with the key {ISSUER_AUTHORITY}: create it with \
                     the authority of the issuer's certificate"
                ),
            })?;
        }
    }
    let (tls, mut authority) = certificate(&secrets, cluster, store, &mut missing).await?;
    let mut reached = Reached::asked_for(store, tls.as_ref());
    let pod = cluster.pods.get(&ObjectRef::new(&names.pod()).within(namespace));
    if let Some(pod) = pod.as_deref().filter(|pod| !pods::is_going(pod)) {
        reached.audience = pods::audience(pod).map(str::to_owned);
        if !pods::is_encrypted(pod) {
            (reached.tls, authority) = (None, None);
        } else if let Some(name) = pods::certificate(pod)
            && tls.as_ref().is_none_or(|tls| tls.secret_name != name)
        {
            let secret = get(&secrets, name).await?;
            let (facts, found) = facts(name, secret.and_then(|secret| secret.data).as_ref());
            (reached.tls, authority) = (Some(facts), found);
        }
    }
    Ok(Found { stateful_set, pod, claim, tokens, tls, reached, authority, missing: missing.told })
}

/// What is missing of a store.
struct Missing {
    /// Nothing runs yet: nothing is begun either.
    before_the_first: bool,
    told: Option<String>,
}

impl Missing {
    /// An error before there is anything. Later the rest of the spec is acted on all the same: who
    /// may call, whether there is to be a pod, what becomes of the volume.
    fn note(&mut self, what: DereferenceError) -> Result<(), DereferenceError> {
        if self.before_the_first {
            return Err(what);
        }
        self.told.get_or_insert(what.to_string());
        Ok(())
    }
}

async fn certificate(
    secrets: &Api<Secret>,
    cluster: &Cluster,
    store: &Store,
    missing: &mut Missing,
) -> Result<(Option<TlsFacts>, Option<Vec<u8>>), DereferenceError> {
    let Some(tls) = &store.spec.tls else { return Ok((None, None)) };
    let name = match (&tls.secret_name, &tls.cert_manager_issuer_ref) {
        (Some(name), _) => name.clone(),
        (None, _) if cluster.apis.certificate => store.names.certificate(),
        (None, _) => {
            missing.note(DereferenceError::Missing {
                field: "spec.tls.certManagerIssuerRef",
                reason: "cert-manager is not installed in this cluster: install it, which the \
                         operator notices within a minute, or name a Secret in spec.tls.secretName"
                    .to_owned(),
            })?;
            store.names.certificate()
        }
    };
    let data = get(secrets, &name).await?.and_then(|secret| secret.data);
    let Some(data) = data else {
        // The pod waits for the Secret by itself, and so does the kubelet's event say.
        if tls.secret_name.is_some() {
            missing.note(DereferenceError::Missing {
                field: "spec.tls.secretName",
                reason: format!("there is no Secret {name}: create it with tls.crt and tls.key"),
            })?;
        }
        let (facts, _) = facts(&name, None);
        return Ok((Some(facts), None));
    };
    for key in ["tls.crt", "tls.key"] {
        if !data.contains_key(key) {
            missing.note(DereferenceError::Missing {
                field: "spec.tls.secretName",
                reason: format!("the Secret {name} has no key {key}"),
            })?;
        }
    }
    let (facts, authority) = facts(&name, Some(&data));
    Ok((Some(facts), authority))
}

/// What the Secret `name` with the content `data` says of a certificate, and its authority.
fn facts(name: &str, data: Option<&BTreeMap<String, ByteString>>) -> (TlsFacts, Option<Vec<u8>>) {
    // A certificate that nobody else signed is its own authority.
    let own = data.is_some_and(|data| !data.contains_key("ca.crt"));
    let authority_key = if own { "tls.crt" } else { "ca.crt" };
    let authority = data.and_then(|data| data.get(authority_key)).map(|bytes| bytes.0.clone());
    (TlsFacts { secret_name: name.to_owned(), authority_key }, authority)
}

/// The authority of the certificate that `pod` serves TLS with, while the spec cannot be acted on.
pub async fn authority(
    client: &Client,
    namespace: &str,
    pod: &Pod,
) -> Result<Option<Vec<u8>>, DereferenceError> {
    let Some(name) = pods::certificate(pod) else { return Ok(None) };
    let secret = get(&Api::namespaced(client.clone(), namespace), name).await?;
    Ok(facts(name, secret.and_then(|secret| secret.data).as_ref()).1)
}

async fn get(secrets: &Api<Secret>, name: &str) -> Result<Option<Secret>, DereferenceError> {
    secrets.get_opt(name).await.map_err(|source| DereferenceError::Api {
        what: format!("Secret {name}"),
        source: Box::new(source),
    })
}
