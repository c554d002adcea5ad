//! Reads from the cluster what goes into a report.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, LogParams};
use kube::{Api, ResourceExt as _};
use serde::Serialize;

use super::{Kit, redact};
use crate::commands::status::{Observed, event_time};
use crate::context::Context;
use crate::error::{failed, is_absent};
use crate::names;

/// What the operator makes: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 14] = [
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("batch", "v1", "CronJob", "cronjobs"),
    ("batch", "v1", "Job", "jobs"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
    ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
    ("cert-manager.io", "v1", "Certificate", "certificates"),
];

/// APIs that a cluster may do without.
const OPTIONAL: [&str; 2] = ["monitoring.coreos.com", "cert-manager.io"];
/// Selects the pods of the operator, in whatever namespace they are and whatever their chart was
/// told to name them.
const OPERATOR: &str = "app.kubernetes.io/part-of=llm-memory,app.kubernetes.io/component=operator";
/// No log takes more of a report than this, whatever its lines are like.
const LOG_BYTES: i64 = 16 * 1024 * 1024;

/// Reads everything; what fails becomes a problem of the kit.
pub(super) async fn kit(context: &Context, name: &str, observed: &Observed, tail: u32) -> Kit {
    let mut kit = Kit::default();
    object(&mut kit, "memorystore.yaml".to_owned(), &observed.store);
    if let (Some(claim), Some(_)) = (&observed.claim, &observed.store.spec.storage.existing_claim) {
        object(&mut kit, "objects/persistentvolumeclaims/existing.yaml".to_owned(), claim);
    }
    kit.problems.extend(observed.unreadable.values().cloned());
    for kind in KINDS {
        objects(context, name, kind, &mut kit).await;
    }
    events(context, name, &mut kit).await;
    let own = ListParams::default().labels(&names::selector(name));
    logs(&context.api(), &own, "logs", tail, &mut kit).await;
    let everywhere = Api::all(context.client.clone());
    let operator = ListParams::default().labels(OPERATOR);
    logs_of_operator(context, &everywhere, &operator, tail, &mut kit).await;
    match context.client.apiserver_version().await {
        Ok(version) => {
            kit.add("cluster-version.txt".to_owned(), format!("{}\n", version.git_version));
        }
        Err(error) => {
            let failure = failed("read the version of the cluster", error);
            kit.problems.push(failure.to_string());
        }
    }
    kit
}

/// Adds one object as YAML, without its secrets.
fn object(kit: &mut Kit, path: String, object: &impl Serialize) {
    let yaml =
        serde_json::to_value(object).map_err(|error| error.to_string()).and_then(|mut value| {
            redact::object(&mut value);
            serde_saphyr::to_string(&value).map_err(|error| error.to_string())
        });
    match yaml {
        Ok(yaml) => kit.add(path, yaml),
        Err(error) => kit.problems.push(format!("cannot write {path}: {error}")),
    }
}

async fn objects(
    context: &Context,
    name: &str,
    (group, version, kind, plural): (&str, &str, &str, &str),
    kit: &mut Kit,
) {
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &context.namespace, &resource);
    match api.list(&ListParams::default().labels(&names::selector(name))).await {
        Ok(list) => {
            for mut found in list {
                // A list's items do not say what they are, and redaction asks.
                found.types = Some(kube::core::TypeMeta {
                    api_version: resource.api_version.clone(),
                    kind: kind.to_owned(),
                });
                object(kit, format!("objects/{plural}/{}.yaml", found.name_any()), &found);
            }
        }
        // A cluster without that API has no such objects; those who may not read everything are
        // told of a right that they lack instead.
        Err(error) if is_absent(&error) => {}
        Err(kube::Error::Api(status)) if status.code == 403 && OPTIONAL.contains(&group) => {}
        Err(error) => kit.problems.push(failed(format!("list {plural}"), error).to_string()),
    }
}

async fn events(context: &Context, name: &str, kit: &mut Kit) {
    match context.api::<Event>().list(&ListParams::default()).await {
        Ok(list) => {
            let mut events: Vec<_> = list
                .items
                .into_iter()
                .filter(|it| {
                    it.involved_object.name.as_deref().is_some_and(|it| names::belongs(name, it))
                })
                .collect();
            events.sort_by_key(event_time);
            let lines: String = events.iter().map(event).collect();
            kit.add("events.txt".to_owned(), redact::text(&lines));
        }
        Err(error) => kit.problems.push(failed("list events", error).to_string()),
    }
}

fn event(event: &Event) -> String {
    let about = &event.involved_object;
    format!(
        "{} {} x{} {}/{} {}: {}\n",
        event_time(event).map_or_else(|| "-".to_owned(), |at| format!("{at:.0}")),
        event.type_.as_deref().unwrap_or("-"),
        event.series.as_ref().and_then(|it| it.count).or(event.count).unwrap_or(1),
        about.kind.as_deref().unwrap_or("-").to_lowercase(),
        about.name.as_deref().unwrap_or("-"),
        event.reason.as_deref().unwrap_or("-"),
        event.message.as_deref().unwrap_or_default().replace('\n', " "),
    )
}

/// Logs of pods, with those of the containers before their last restart.
async fn logs(pods: &Api<Pod>, which: &ListParams, folder: &str, tail: u32, kit: &mut Kit) {
    match pods.list(which).await {
        Ok(list) => {
            for pod in list {
                logs_of(pods, &pod, folder, tail, kit).await;
            }
        }
        Err(error) => kit.problems.push(failed("list pods", error).to_string()),
    }
}

/// The operator's logs, where the user may see its pods.
async fn logs_of_operator(
    context: &Context,
    everywhere: &Api<Pod>,
    which: &ListParams,
    tail: u32,
    kit: &mut Kit,
) {
    match everywhere.list(which).await {
        Ok(list) if list.items.is_empty() => {
            let problem =
                format!("no pod of the operator was found: none has the labels {OPERATOR}");
            kit.problems.push(problem);
        }
        Ok(list) => {
            for pod in list {
                let namespace = pod.namespace().unwrap_or_default();
                let pods = Api::namespaced(context.client.clone(), &namespace);
                logs_of(&pods, &pod, "operator-logs", tail, kit).await;
            }
        }
        // Whoever looks after a store need not be allowed to look after the operator.
        Err(kube::Error::Api(status)) if status.code == 403 => {
            kit.add("operator-logs/not-collected.txt".to_owned(), format!("{}\n", status.message));
        }
        Err(error) => kit.problems.push(failed("list the operator's pods", error).to_string()),
    }
}

async fn logs_of(pods: &Api<Pod>, pod: &Pod, folder: &str, tail: u32, kit: &mut Kit) {
    let name = pod.name_any();
    let status = pod.status.as_ref();
    let containers = [
        status.and_then(|it| it.init_container_statuses.as_ref()),
        status.and_then(|it| it.container_statuses.as_ref()),
    ];
    for container in containers.into_iter().flatten().flatten() {
        // What has not started has no log.
        let state = container.state.as_ref();
        let started = state.is_some_and(|it| it.running.is_some() || it.terminated.is_some());
        for previous in [false, true] {
            if (previous && container.restart_count == 0) || (!previous && !started) {
                continue;
            }
            let params = LogParams {
                container: Some(container.name.clone()),
                previous,
                tail_lines: Some(i64::from(tail)),
                limit_bytes: Some(LOG_BYTES),
                timestamps: true,
                ..LogParams::default()
            };
            let suffix = if previous { ".previous" } else { "" };
            match pods.logs(&name, &params).await {
                Ok(log) => {
                    let path = format!("{folder}/{name}/{}{suffix}.log", container.name);
                    kit.add(path, redact::text(&log));
                }
                Err(error) => {
                    let action =
                        format!("read the log of container {} of pod {name}", container.name);
                    kit.problems.push(failed(action, error).to_string());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures;

    async fn operator_logs(pods: serde_json::Value) -> Kit {
        let (context, server) = fixtures::cluster();
        let answers = server.serve(|path, query| {
            if path != "/api/v1/pods" {
                return Some(json!("a line"));
            }
            // The labels of the chart that do not depend on its values.
            let selector = "labelSelector=app.kubernetes.io%2Fpart-of%3Dllm-memory%2C\
                app.kubernetes.io%2Fcomponent%3Doperator";
            assert!(query.contains(selector), "{query}");
            Some(json!({"metadata": {}, "items": pods}))
        });
        let mut kit = Kit::default();
        let everywhere = Api::all(context.client.clone());
        let which = ListParams::default().labels(OPERATOR);
        tokio::select! {
            () = logs_of_operator(&context, &everywhere, &which, 10, &mut kit) => kit,
            () = answers => unreachable!("the client is there"),
        }
    }

    #[tokio::test]
    async fn the_operator_is_found_whatever_its_name_and_missed_when_it_is_not() {
        let mut pod = fixtures::pod();
        pod.metadata.name = Some("renamed-1".to_owned());
        let kit = operator_logs(json!([pod])).await;
        assert_eq!(kit.problems, Vec::<String>::new());
        let kit = operator_logs(json!([])).await;
        assert!(kit.problems.iter().any(|it| it.contains("no pod of the operator")));
    }
}
