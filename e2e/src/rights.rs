//! Rights: those of the chart, and those that the API server grants.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client, Config};
use serde_json::Value;
use tokio::process::Command;

use crate::audit::{self, Right};

/// Namespace where the operator is installed.
pub const SYSTEM: &str = "llm-memory-system";
/// What the API server calls the operator.
pub const OPERATOR: &str = "system:serviceaccount:llm-memory-system:llm-memory-operator";

/// The rights that the operator's chart gives to the operator, with these arguments of helm.
pub async fn of_chart(arguments: &[&str]) -> Result<BTreeSet<Right>> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/llm-memory-operator");
    let output = Command::new("helm")
        .args(["template", "llm-memory-operator", chart, "--namespace", SYSTEM])
        .args(arguments)
        .output()
        .await
        .context("helm: call these tests through ./justw e2e")?;
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(output.stdout).context("helm")?)?;
    let mut rights = BTreeSet::new();
    for role in documents {
        let text = |pointer: &str| role.pointer(pointer).and_then(Value::as_str);
        let ours = text("/metadata/labels/app.kubernetes.io~1component")
            .is_some_and(|it| it == "operator");
        if !ours || !text("/kind").is_some_and(|kind| kind.ends_with("Role")) {
            continue;
        }
        for rule in role.pointer("/rules").and_then(Value::as_array).into_iter().flatten() {
            rights.extend(of_rule(
                &texts(rule, "apiGroups"),
                &texts(rule, "resources"),
                &texts(rule, "verbs"),
            ));
        }
    }
    Ok(rights)
}

fn texts(rule: &Value, field: &str) -> Vec<String> {
    let list = rule.get(field).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Every verb on every resource that a rule speaks of.
fn of_rule(groups: &[String], resources: &[String], verbs: &[String]) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in groups {
        for resource in resources {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let name = audit::name(group, resource, subresource);
            rights.extend(verbs.iter().map(|verb| (verb.clone(), name.clone())));
        }
    }
    rights
}

/// All rights that `user` has in `namespace`, as the API server lists them to the user.
pub async fn of_user(user: &str, namespace: &str) -> Result<BTreeSet<Right>> {
    let mut config = Config::infer().await?;
    config.auth_info.impersonate = Some(user.to_owned());
    let reviews: Api<SelfSubjectRulesReview> = Api::all(Client::try_from(config)?);
    let question = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) },
        ..SelfSubjectRulesReview::default()
    };
    let status = reviews.create(&PostParams::default(), &question).await?.status;
    let status = status.context("a review without an answer")?;
    ensure!(!status.incomplete, "rights that cannot be listed: {:?}", status.evaluation_error);
    let rules = status.resource_rules.iter().map(|rule| {
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        of_rule(&list(&rule.api_groups), &list(&rule.resources), &rule.verbs)
    });
    Ok(rules.flatten().collect())
}

/// Whether `user` may do `verb` on `resource` of `group` in `namespace`; empty: in all of them.
pub async fn may(
    client: &Client,
    user: &str,
    (verb, group, resource): (&str, &str, &str),
    namespace: &str,
) -> Result<bool> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let question = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: Some(subresource.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let status = reviews.create(&PostParams::default(), &question).await?.status;
    Ok(status.context("a review without an answer")?.allowed)
}
