//! Everything that the operator has made in some namespaces, in a form that two runs have in
//! common, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, ResourceExt as _};
use llm_memory_crds::MemoryStore;
use serde_json::{Value, json};

use crate::Scratch;

const OURS: &str = "app.kubernetes.io/managed-by=llm-memory-operator";
const INSTANCE: &str = "app.kubernetes.io/instance";

/// What there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// Objects of stores that are there, by number of the namespace, kind and name.
    pub objects: BTreeMap<String, Value>,
    /// Objects whose store is gone, or that belong to a former one of its name.
    pub orphans: BTreeSet<String>,
    /// Claims that were kept for a later store.
    pub retained: BTreeSet<String>,
    /// Stores and pods that are not what their spec says yet.
    pub pending: BTreeSet<String>,
}

/// Looks at all `namespaces`.
pub async fn take(namespaces: &[Scratch]) -> Result<Inventory> {
    let mut inventory = Inventory::default();
    for (number, scratch) in namespaces.iter().enumerate() {
        let stores = scratch.api::<MemoryStore>().list(&ListParams::default()).await?;
        let mut uids = BTreeMap::new();
        for store in stores {
            if !is_settled(&store) {
                inventory.pending.insert(format!("{number} MemoryStore {}", store.name_any()));
            }
            uids.insert(store.name_any(), store.uid().unwrap_or_default());
        }
        let sets = scratch.api::<StatefulSet>().list(&ListParams::default()).await?;
        let revisions: BTreeMap<String, String> = sets
            .into_iter()
            .filter_map(|set| Some((set.name_any(), set.status?.update_revision?)))
            .collect();
        for resource in kinds() {
            let api: Api<DynamicObject> =
                Api::namespaced_with(scratch.client.clone(), &scratch.namespace, &resource);
            for object in api.list(&ListParams::default().labels(OURS)).await? {
                let key = format!("{number} {} {}", resource.kind, object.name_any());
                let store = object.labels().get(INSTANCE).cloned().unwrap_or_default();
                let owners = object.owner_references();
                if resource.kind == "PersistentVolumeClaim"
                    && owners.is_empty()
                    && !uids.contains_key(&store)
                {
                    inventory.retained.insert(key);
                    continue;
                }
                let owned = owners.iter().filter(|owner| owner.kind == "MemoryStore");
                let strange = owned.into_iter().any(|owner| uids.get(&store) != Some(&owner.uid));
                let Some(uid) = uids.get(&store).filter(|_| !strange) else {
                    inventory.orphans.insert(key);
                    continue;
                };
                if resource.kind == "Pod" {
                    let revision = object.labels().get("controller-revision-hash");
                    if revision != revisions.get(&store)
                        || object.metadata.deletion_timestamp.is_some()
                    {
                        inventory.pending.insert(key.clone());
                    }
                }
                let text = serde_json::to_string(&normal(&resource.kind, object)?)?;
                let text = text.replace(&scratch.namespace, "NAMESPACE").replace(uid, "UID");
                inventory.objects.insert(key, serde_json::from_str(&text)?);
            }
        }
    }
    Ok(inventory)
}

fn kinds() -> Vec<ApiResource> {
    vec![
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<CronJob>(&()),
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<Pod>(&()),
    ]
}

fn is_settled(store: &MemoryStore) -> bool {
    let Some(status) = &store.status else { return false };
    status.observed_generation == store.metadata.generation
        && status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Accepted" && condition.status == "True")
        && status.conditions.iter().all(|condition| condition.reason != "ApplyFailed")
}

/// The object without what differs between two that are alike.
fn normal(kind: &str, object: DynamicObject) -> Result<Value> {
    let annotations: BTreeMap<String, String> = object
        .annotations()
        .iter()
        // A hash of everything, uids included; and what other controllers note.
        .filter(|(name, _)| *name != "llm-memory.dev/applied" && !name.contains("kubernetes.io/"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut labels = object.labels().clone();
    let owners: Vec<Value> = object
        .owner_references()
        .iter()
        .map(|owner| json!([owner.kind, owner.name, owner.controller, owner.block_owner_deletion]))
        .collect();
    let mut body = object.data.clone();
    if let Value::Object(body) = &mut body {
        body.remove("status");
        if kind == "Pod" {
            // Its template is compared; that it is made from it is looked at above.
            body.remove("spec");
            labels.remove("controller-revision-hash");
        }
        if kind == "Secret" {
            let data = body.remove("data").unwrap_or_default();
            body.insert("tokens".to_owned(), tokens(&data)?);
        }
        if let Some(Value::Object(spec)) = body.get_mut("spec") {
            for field in ["clusterIP", "clusterIPs", "volumeName"] {
                spec.remove(field);
            }
        }
    }
    Ok(json!({"labels": labels, "annotations": annotations, "owners": owners, "body": body}))
}

/// Keys of a Secret, and the entries of its token file without what is random.
fn tokens(data: &Value) -> Result<Value> {
    let data: BTreeMap<String, ByteString> = serde_json::from_value(data.clone())?;
    let keys: Vec<&String> = data.keys().collect();
    let file = data.get("tokens.json").map_or(&b"[]"[..], |file| file.0.as_slice());
    let mut entries: Vec<Value> = serde_json::from_slice(file)?;
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        for random in ["id", "sha256", "created"] {
            entry.remove(random);
        }
    }
    entries.sort_by_key(Value::to_string);
    Ok(json!({"keys": keys, "entries": entries}))
}

/// How `seen` differs from `expected`: one line for each object.
pub fn differences(expected: &Inventory, seen: &Inventory) -> Vec<String> {
    let keys: BTreeSet<&String> = expected.objects.keys().chain(seen.objects.keys()).collect();
    keys.into_iter()
        .filter_map(|key| match (expected.objects.get(key), seen.objects.get(key)) {
            (Some(_), None) => Some(format!("missing: {key}")),
            (None, Some(_)) => Some(format!("surplus: {key}")),
            (Some(expected), Some(seen)) if expected != seen => {
                Some(format!("different: {key}\n  expected {expected}\n  seen     {seen}"))
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_random_is_left_out_and_everything_else_compared() {
        let service = |uid: &str, address: &str, port: u16| {
            normal("Service", object(json!({
                "metadata": {"name": "m", "uid": uid, "resourceVersion": uid, "ownerReferences": [
                    {"apiVersion": "v1", "kind": "MemoryStore", "name": "m", "uid": uid}
                ], "annotations": {"llm-memory.dev/applied": uid}},
                "spec": {"clusterIP": address, "ports": [{"port": port}]}, "status": {"a": uid},
            })))
            .unwrap()
        };
        assert_eq!(service("1", "10.0.0.1", 80), service("2", "10.0.0.2", 80));
        assert_ne!(service("1", "10.0.0.1", 80), service("1", "10.0.0.1", 81));
    }

    #[test]
    fn tokens_are_compared_by_name_and_not_by_secret() {
        let secret = |name: &str, secret: &str| {
            let file = json!([{"name": name, "sha256": secret, "id": secret}]).to_string();
            let data: BTreeMap<&str, ByteString> = [
                (name, ByteString(secret.as_bytes().to_vec())),
                ("tokens.json", ByteString(file.into_bytes())),
            ]
            .into();
            normal("Secret", object(json!({"metadata": {"name": "m"}, "data": data}))).unwrap()
        };
        assert_eq!(secret("ada", "x"), secret("ada", "y"));
        assert_ne!(secret("ada", "x"), secret("bob", "x"));
    }

    #[test]
    fn differences_name_what_is_missing_surplus_and_different() {
        let inventory = |objects: &[(&str, i32)]| Inventory {
            objects: objects.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect(),
            ..Inventory::default()
        };
        let expected = inventory(&[("a", 1), ("b", 1), ("c", 1)]);
        let lines = differences(&expected, &inventory(&[("b", 2), ("c", 1), ("d", 1)]));
        let words: Vec<&str> = lines.iter().filter_map(|line| line.split('\n').next()).collect();
        assert_eq!(words, ["missing: a", "different: b", "surplus: d"]);
        assert!(differences(&expected, &expected).is_empty());
    }
}
