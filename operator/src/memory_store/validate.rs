//! Stage 1, no client: what the schema cannot say. Turns a stored object into a [`Store`], or says
//! which field cannot be acted on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt as _;
use llm_memory_crds::memory_store::ServiceAccountMapping;
use llm_memory_crds::{MemoryStore, MemoryStoreSpec};
use serde::Deserialize as _;
use thiserror::Error;

use crate::names::{CONTAINER, INSTANCE_LABEL, MANAGED_BY, Names};

/// Labels by which the operator and Services find the pod.
const OWN_LABELS: [&str; 4] =
    ["app.kubernetes.io/name", INSTANCE_LABEL, "app.kubernetes.io/component", MANAGED_BY.0];

/// A field that cannot be acted on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Invalid {
    /// The object has no namespace or uid; the API server gives every object both.
    #[error("metadata.{0} is missing")]
    Metadata(&'static str),
    /// `spec.podTemplate` is no pod template.
    #[error("spec.podTemplate: {0}. Write it as the template of a Deployment")]
    PodTemplate(String),
    /// `spec.podTemplate` changes what the operator answers for.
    #[error("spec.podTemplate.{field} must not be set: {remedy}")]
    Reserved {
        /// The field.
        field: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The wish for a restart is no moment.
    #[error(
        "metadata.annotations[{name}]: {0:?} is no moment such as 2026-01-31T12:00:00Z; \
         `kubectl memory restart` writes one",
        name = crate::names::RESTART
    )]
    Restart(String),
    /// A mapping that comes after one for everybody whom it is for.
    #[error(
        "spec.mcp.auth.serviceAccounts[{later}] never applies: serviceAccounts[{earlier}] is for \
         every account of its namespace, and the first that matches counts. Put the account before \
         the `*`, or remove one of them"
    )]
    Covered {
        /// Place of the one that never applies.
        later: usize,
        /// Place of the one before it.
        earlier: usize,
    },
    /// A schedule that the regular expression lets through and a calendar does not.
    #[error("spec.maintenance.{routine}.schedule: {reason}")]
    Schedule {
        /// The routine.
        routine: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// A store whose spec can be acted on.
#[derive(Debug, Clone)]
pub struct Store {
    /// Names of its objects.
    pub names: Names,
    /// Identity of the object, for ownership.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// The spec.
    pub spec: MemoryStoreSpec,
    /// The overlay of the pod template.
    pub pod_template: Option<PodTemplateSpec>,
    /// Pods made before this moment are to be replaced.
    pub restart_requested: Option<jiff::Timestamp>,
}

/// Checks `object`.
pub fn validate(object: &MemoryStore) -> Result<Store, Invalid> {
    let namespace = object.namespace().ok_or(Invalid::Metadata("namespace"))?;
    let uid = object.uid().ok_or(Invalid::Metadata("uid"))?;
    let pod_template = match &object.spec.pod_template {
        Some(value) => Some(pod_template(value)?),
        None => None,
    };
    if let Some((earlier, later)) = covered(&object.spec.mcp.auth.service_accounts, &namespace) {
        return Err(Invalid::Covered { later, earlier });
    }
    for (kind, routine) in object.spec.maintenance.routines() {
        if let Some(schedule) = &routine.schedule {
            super::schedule::check(schedule)
                .map_err(|reason| Invalid::Schedule { routine: kind.as_str(), reason })?;
        }
    }
    let restart_requested = match object.annotations().get(crate::names::RESTART) {
        Some(text) => Some(text.parse().map_err(|_| Invalid::Restart(text.clone()))?),
        None => None,
    };
    Ok(Store {
        names: Names::new(namespace, object.name_any()),
        uid,
        generation: object.metadata.generation.unwrap_or_default(),
        spec: object.spec.clone(),
        pod_template,
        restart_requested,
    })
}

/// Places of the first mapping for every account of a namespace, and of one after it for an account
/// of that namespace. One that is there twice does no harm; the first counts.
fn covered(accounts: &[ServiceAccountMapping], own: &str) -> Option<(usize, usize)> {
    let mut everybody = BTreeMap::new();
    accounts.iter().enumerate().find_map(|(place, account)| {
        let namespace = account.namespace.as_deref().unwrap_or(own);
        if account.name == "*" {
            everybody.entry(namespace).or_insert(place);
            return None;
        }
        everybody.get(namespace).map(|earlier| (*earlier, place))
    })
}

fn pod_template(value: &serde_json::Value) -> Result<PodTemplateSpec, Invalid> {
    let template = PodTemplateSpec::deserialize(value)
        .map_err(|error| Invalid::PodTemplate(error.to_string()))?;
    // Fields that no pod template has are typing errors; they would be lost without a word.
    let known =
        serde_json::to_value(&template).map_err(|error| Invalid::PodTemplate(error.to_string()))?;
    if let Some(path) = unknown_field("", value, &known) {
        return Err(Invalid::PodTemplate(format!("there is no field {path}")));
    }
    let reserved = |field, remedy| Err(Invalid::Reserved { field, remedy });
    if template.metadata.as_ref().and_then(|meta| meta.name.as_ref()).is_some() {
        return reserved("metadata.name", "the pod is named after the store");
    }
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    if labels.is_some_and(|labels| labels.keys().any(|name| OWN_LABELS.contains(&name.as_str()))) {
        return reserved(
            "metadata.labels",
            "labels app.kubernetes.io/name, instance, component and managed-by are how the pod is \
             found; use others",
        );
    }
    let containers = template.spec.iter().flat_map(|spec| &spec.containers);
    if containers.into_iter().any(|it| it.name == CONTAINER && it.image.is_some()) {
        return reserved(
            "spec.containers[server].image",
            "set spec.image, which is verified before, rolled out and taken back",
        );
    }
    if let Some(spec) = &template.spec
        && spec.service_account_name.is_some()
    {
        return reserved(
            "spec.serviceAccountName",
            "the server has an account of its own, which may check the tokens of its callers",
        );
    }
    Ok(template)
}

/// The first field of `given` that `known` does not have; `null` stands for a field left out.
fn unknown_field(
    path: &str,
    given: &serde_json::Value,
    known: &serde_json::Value,
) -> Option<String> {
    use serde_json::Value;
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match known.get(name) {
                Some(known) => unknown_field(&path, value, known),
                None if value.is_null() => None,
                None => Some(path),
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            given.iter().zip(known).enumerate().find_map(|(index, (given, known))| {
                unknown_field(&format!("{path}[{index}]"), given, known)
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: serde_json::Value) -> Result<Store, Invalid> {
        let mut store = MemoryStore::new("memory", serde_json::from_value(spec).unwrap());
        store.metadata.namespace = Some("team".to_owned());
        store.metadata.uid = Some("u".to_owned());
        validate(&store)
    }

    #[test]
    fn a_pod_template_is_checked_for_typing_errors_and_reserved_fields() {
        check(json!({"podTemplate": {"metadata": {"labels": {"a": "b"}}}})).unwrap();
        let wrong = |template| check(json!({ "podTemplate": template })).unwrap_err().to_string();
        let image = wrong(json!({"spec": {"containers": [{"name": "server", "image": "x"}]}}));
        assert!(image.contains("set spec.image"), "{image}");
        let label = wrong(json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}));
        assert!(label.contains("use others"), "{label}");
        assert!(
            wrong(json!({"spec": {"containers": [{"name": "server", "imagee": "x"}]}}))
                .contains("there is no field spec.containers[0].imagee")
        );
        assert!(
            wrong(json!({"spec": {"containers": [], "containres": []}}))
                .contains("there is no field spec.containres")
        );
        assert!(wrong(json!({"spec": {"containers": "x"}})).starts_with("spec.podTemplate: "));
        assert!(
            wrong(json!({"spec": {"containers": [], "serviceAccountName": "x"}}))
                .contains("spec.podTemplate.spec.serviceAccountName must not be set")
        );
    }

    #[test]
    fn an_account_after_everybody_of_its_namespace_is_told_of() {
        let accounts = |list: serde_json::Value| {
            check(json!({"mcp": {"auth": {"serviceAccounts": list}}})).map(|_| ())
        };
        let error = accounts(json!([
            {"name": "reader"},
            {"namespace": "team", "name": "*"},
            {"namespace": "other", "name": "planner"},
            {"name": "planner", "roles": ["monitor"]},
        ]))
        .unwrap_err();
        assert_eq!(error, Invalid::Covered { later: 3, earlier: 1 });
        assert!(error.to_string().starts_with("spec.mcp.auth.serviceAccounts[3] never applies"));
        accounts(json!([{"name": "planner"}, {"name": "planner"}, {"name": "*"}, {"name": "*"}]))
            .unwrap();
    }

    #[test]
    fn a_schedule_out_of_the_calendar_names_its_routine() {
        let error =
            check(json!({"maintenance": {"verify": {"schedule": "99 * * * *"}}})).unwrap_err();
        assert!(error.to_string().starts_with("spec.maintenance.verify.schedule: "), "{error}");
    }
}
