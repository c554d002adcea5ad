//! Brings one object to what it should be, by server-side apply, and only when it is not that
//! already: at steady state nothing is written, and of watched objects nothing is read either.
//!
//! Another program's changes to fields that the operator sets are undone; fields that it does not
//! set are nobody's business. An object of the same name that belongs to somebody else is never
//! touched.

use std::collections::HashMap;
use std::sync::Arc;

use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt as _};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::cluster::{Cluster, Seen};
use crate::hash::{self, Print};
use crate::memory_store::quantity;
use crate::names::{APPLIED, FIELD_MANAGER, INSTANCE_LABEL, MANAGED_BY, labels_of_claims};

/// Why an object could not be brought to what it should be.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// Somebody else's object has the name.
    #[error(
        "{kind} {name} is there already and belongs to somebody else: {remedy}, or give the \
         MemoryStore another name"
    )]
    Foreign {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What to do about it.
        remedy: String,
    },
    /// The API server did not take it.
    #[error("{kind} {name}: {source}")]
    Api {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The object cannot be written as JSON.
    #[error("{kind} cannot be written: {source}")]
    Json {
        /// Kind of the object.
        kind: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// An object as it should be.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Its type.
    pub resource: ApiResource,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Name of the store that it is for.
    store: String,
    body: Value,
    hash: String,
    /// What its maker knows of the live object, of a kind that is not watched.
    known: Option<Seen>,
}

impl Desired {
    /// Spares a read: its maker has just seen the live object.
    #[must_use]
    pub fn known(mut self, seen: Seen) -> Self {
        self.known = Some(seen);
        self
    }

    /// The wanted form of `object`.
    pub fn of<K>(object: &K) -> Result<Self, ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        Self::dynamic(ApiResource::erase::<K>(&()), object)
    }

    /// The wanted form of an object whose type is known at run time only.
    pub fn dynamic<K: Resource + Serialize>(
        resource: ApiResource,
        object: &K,
    ) -> Result<Self, ApplyError> {
        let mut body = serde_json::to_value(object)
            .map_err(|source| ApplyError::Json { kind: resource.kind.clone(), source })?;
        drop_nulls(&mut body);
        let hash = hash::of(&body);
        if let Value::Object(root) = &mut body {
            root.insert("apiVersion".to_owned(), json!(resource.api_version));
            root.insert("kind".to_owned(), json!(resource.kind));
            root.remove("status");
        }
        if let Some(Value::Object(meta)) = body.get_mut("metadata") {
            let annotations = meta.entry("annotations").or_insert_with(|| json!({}));
            if let Value::Object(annotations) = annotations {
                annotations.insert(APPLIED.to_owned(), json!(hash));
            }
        }
        let meta = object.meta();
        Ok(Self {
            name: meta.name.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            store: object.labels().get(INSTANCE_LABEL).cloned().unwrap_or_default(),
            resource,
            body,
            hash,
            known: None,
        })
    }

    /// What to do about an object of somebody else that has the name. A claim may hold the very
    /// data that the store is to serve, and is not to be deleted for a name.
    fn remedy(&self) -> String {
        if self.resource.kind != "PersistentVolumeClaim" {
            return "rename or delete it".to_owned();
        }
        format!(
            "if its data is to be served by this one, set its labels {} and remove its owners",
            labels_of_claims(&self.store)
        )
    }

    /// Which object it is, of those of its store.
    fn print(&self) -> Print {
        hash::print(&[&self.resource.kind, &self.name])
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// What applying did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was as it should be.
    Unchanged,
    /// It was made.
    Created,
    /// It was changed.
    Changed,
}

/// Applies objects, and remembers in which version each was seen to be right.
pub struct Applier {
    client: Client,
    cluster: Arc<Cluster>,
    /// By store: of each object, which it is, and in which version with which content it was right.
    verified: Mutex<HashMap<(String, String), HashMap<Print, Print>>>,
}

impl Applier {
    /// An applier that trusts the caches of `cluster`.
    pub fn new(client: Client, cluster: Arc<Cluster>) -> Self {
        Self { client, cluster, verified: Mutex::default() }
    }

    /// Makes `desired` true. `owner` is the uid of the store it belongs to.
    pub async fn apply(&self, desired: &Desired, owner: &str) -> Result<Outcome, ApplyError> {
        let seen = desired.known.clone().unwrap_or_else(|| {
            self.cluster.seen(&desired.resource.kind, &desired.namespace, &desired.name)
        });
        if let Seen::Version { uid, resource_version } = seen {
            let now = hash::print(&[&uid, &resource_version, &desired.hash]);
            if self.is_verified(desired, now) {
                return Ok(Outcome::Unchanged);
            }
        }
        let failed = |source| ApplyError::Api {
            kind: desired.resource.kind.clone(),
            name: desired.name.clone(),
            source: Box::new(source),
        };
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &desired.namespace, &desired.resource);
        let live = api.get_opt(&desired.name).await.map_err(failed)?;
        if let Some(live) = &live {
            if !belongs(live, desired, owner) {
                return Err(ApplyError::Foreign {
                    kind: desired.resource.kind.clone(),
                    name: desired.name.clone(),
                    remedy: desired.remedy(),
                });
            }
            let current = serde_json::to_value(live).map_err(|source| ApplyError::Json {
                kind: desired.resource.kind.clone(),
                source,
            })?;
            if contains(&current, &desired.body) {
                self.remember(live, desired);
                return Ok(Outcome::Unchanged);
            }
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = api
            .patch(&desired.name, &parameters, &Patch::Apply(&desired.body))
            .await
            .map_err(failed)?;
        self.remember(&applied, desired);
        Ok(match live.map(|live| live.resource_version()) {
            None => Outcome::Created,
            // It was said in other words: the API server writes quantities in its own.
            Some(version) if version == applied.resource_version() => Outcome::Unchanged,
            Some(_) => Outcome::Changed,
        })
    }

    /// Removes an object that is no longer wanted, when it is ours. True when it was there.
    pub async fn remove(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        owner: &str,
    ) -> Result<bool, ApplyError> {
        if self.cluster.seen(&resource.kind, namespace, name) == Seen::Absent {
            return Ok(false);
        }
        let failed = |source| ApplyError::Api {
            kind: resource.kind.clone(),
            name: name.to_owned(),
            source: Box::new(source),
        };
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        let Some(live) = api.get_opt(name).await.map_err(failed)? else { return Ok(false) };
        let ours = live.owner_references().iter().any(|reference| reference.uid == owner);
        if !ours {
            return Ok(false);
        }
        let parameters = DeleteParams {
            preconditions: Some(Preconditions { uid: live.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(name, &parameters).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(source) => Err(failed(source)),
        }
    }

    /// Forgets a store that is gone.
    pub fn forget(&self, namespace: &str, store: &str) {
        self.verified.lock().remove(&(namespace.to_owned(), store.to_owned()));
    }

    fn is_verified(&self, desired: &Desired, now: Print) -> bool {
        let verified = self.verified.lock();
        let store = verified.get(&(desired.namespace.clone(), desired.store.clone()));
        store.and_then(|objects| objects.get(&desired.print())) == Some(&now)
    }

    fn remember(&self, live: &DynamicObject, desired: &Desired) {
        let (uid, version) = (live.uid(), live.resource_version());
        let (uid, version) = (uid.unwrap_or_default(), version.unwrap_or_default());
        let now = hash::print(&[&uid, &version, &desired.hash]);
        let store = (desired.namespace.clone(), desired.store.clone());
        self.verified.lock().entry(store).or_default().insert(desired.print(), now);
    }
}

/// Owned objects are ours when this very store owns them; kept ones, such as claims, when they
/// carry its name and the operator's.
fn belongs(live: &DynamicObject, desired: &Desired, owner: &str) -> bool {
    let owners = live.owner_references();
    if owners.iter().any(|reference| reference.uid == owner) {
        return true;
    }
    let wanted = desired.body.pointer("/metadata/labels").and_then(|all| all.get(INSTANCE_LABEL));
    let label = |name: &str| live.labels().get(name).map(String::as_str);
    owners.is_empty()
        && desired.resource.kind == "PersistentVolumeClaim"
        && label(MANAGED_BY.0) == Some(MANAGED_BY.1)
        && label(INSTANCE_LABEL) == wanted.and_then(Value::as_str)
}

/// Whether every field of `wanted` is in `live` with that value. Objects may have more fields;
/// lists must have the same length, and their elements may have more fields too.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| match live.get(name) {
                Some(live) if name == "requests" || name == "limits" => same_amounts(live, wanted),
                Some(live) => contains(live, wanted),
                // Variables that are empty have no value there.
                None => is_empty(wanted) || (name == "value" && wanted == ""),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len()
                && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        _ => live == wanted,
    }
}

/// Whether amounts of resources are the same, however they are written.
fn same_amounts(live: &Value, wanted: &Value) -> bool {
    let (Value::Object(amounts), Value::Object(all)) = (live, wanted) else {
        return contains(live, wanted);
    };
    all.iter().all(|(name, wanted)| match (amounts.get(name), wanted) {
        (Some(Value::String(live)), Value::String(wanted)) => quantity::same(live, wanted),
        (live, wanted) => live == Some(wanted),
    })
}

/// The API server drops empty objects and lists.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_the_api_server_are_no_difference_and_everything_else_is() {
        let live = json!({"a": 1, "list": [{"name": "x", "defaulted": true}], "extra": {}});
        for (wanted, same) in [
            (json!({"a": 1}), true),
            (json!({"list": [{"name": "x"}]}), true),
            (json!({"empty": {}}), true),
            (json!({"a": 2}), false),
            (json!({"list": []}), false),
            (json!({"list": [{"name": "y"}]}), false),
            (json!({"b": 1}), false),
        ] {
            assert_eq!(contains(&live, &wanted), same, "{wanted}");
        }
    }

    #[test]
    fn amounts_are_the_same_in_other_words_and_other_words_are_not() {
        let live = json!({
            "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "1"}},
            "env": [{"name": "A"}, {"name": "B", "value": "1Gi"}],
        });
        for (wanted, same) in [
            (json!({"resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}}}), true),
            (json!({"resources": {"limits": {"cpu": "0.6"}}}), false),
            (json!({"resources": {"limits": {"gpu": "0"}}}), false),
            (json!({"resources": {"requests": {"cpu": "1000m"}}}), true),
            (json!({"env": [{"name": "A", "value": ""}, {"name": "B", "value": "1Gi"}]}), true),
            (json!({"env": [{"name": "A", "value": "x"}, {"name": "B"}]}), false),
            (json!({"env": [{"name": "A"}, {"name": "B", "value": "1024Mi"}]}), false),
        ] {
            assert_eq!(contains(&live, &wanted), same, "{wanted}");
        }
    }
}
