//! The server's configuration, and the identities that it maps to what they may do.

use k8s_openapi::api::core::v1::ConfigMap;
use llm_memory_crds::memory_store::{Access, Role, Scope};
use serde_json::{Map, Value, json};

use super::{Input, metadata, text};
use crate::names::operator_audience;

/// Key of the configuration.
pub(super) const SERVER: &str = "server.json";
/// Key of the identities.
pub(super) const IDENTITIES: &str = "identities.json";

pub(super) fn config_map(input: &Input<'_>) -> ConfigMap {
    ConfigMap {
        metadata: metadata(input, input.store.names.config(), "server"),
        data: Some(
            [
                (text(SERVER), pretty(&server(input))),
                (text(IDENTITIES), pretty(&Value::Array(identities(input)))),
            ]
            .into(),
        ),
        ..ConfigMap::default()
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// `spec.settings` as the nested document that the server reads.
pub(super) fn server(input: &Input<'_>) -> Value {
    let mut root = Map::new();
    for (key, text) in &input.store.spec.settings {
        let mut object = &mut root;
        let mut words = key.split('.').peekable();
        while let Some(word) = words.next() {
            if words.peek().is_none() {
                object.insert(word.to_owned(), scalar(text));
            } else {
                let child = object.entry(word).or_insert_with(|| json!({}));
                let Value::Object(child) = child else { break };
                object = child;
            }
        }
    }
    Value::Object(root)
}

/// A setting that reads as a number or a switch is one.
fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// The operator, the store's own jobs, and whom the spec names. The first that matches counts.
fn identities(input: &Input<'_>) -> Vec<Value> {
    let (names, auth) = (&input.store.names, &input.store.spec.mcp.auth);
    let operator = input.operator;
    let mut rules = vec![
        (
            json!({"serviceAccount": {
                "namespace": operator.namespace, "name": operator.service_account,
                "audience": operator_audience(&input.store.uid),
            }}),
            json!({"roles": ["monitor", "operator"], "everyTenant": true}),
        ),
        (
            json!({"serviceAccount": {"namespace": names.namespace, "name": names.jobs()}}),
            json!({"roles": ["operator"], "everyTenant": true}),
        ),
    ];
    for account in &auth.service_accounts {
        let namespace = account.namespace.as_ref().unwrap_or(&names.namespace);
        let who = json!({"serviceAccount": {"namespace": namespace, "name": account.name}});
        rules.push((who, access(&account.access)));
    }
    if let Some(oidc) = &auth.oidc {
        for subject in &oidc.subjects {
            let who = [
                ("issuer", Some(&oidc.issuer)),
                ("subject", subject.subject.as_ref()),
                ("claim", subject.claim.as_ref()),
                ("value", subject.value.as_ref()),
            ];
            let who: Map<String, Value> = who
                .into_iter()
                .filter_map(|(name, value)| value.map(|value| (text(name), json!(value))))
                .collect();
            rules.push((json!({ "oidc": who }), access(&subject.access)));
        }
    }
    let mut identities: Vec<Value> = Vec::new();
    let mut seen: Vec<Value> = Vec::new();
    for (who, what) in rules {
        // The server refuses a rule that can never match; `validate`, one that a `*` comes before.
        if seen.contains(&who) {
            continue;
        }
        seen.push(who.clone());
        let mut rule = who;
        if let (Value::Object(rule), Value::Object(what)) = (&mut rule, what) {
            rule.extend(what);
        }
        identities.push(rule);
    }
    identities
}

/// The server's terms for what an identity may do; those of a token entry.
pub(super) fn access(access: &Access) -> Value {
    let roles: Vec<&str> = if access.roles.is_empty() {
        vec![Role::Agent.as_str()]
    } else {
        access.roles.iter().map(|role| role.as_str()).collect()
    };
    let mut rule = Map::from_iter([(text("roles"), json!(roles))]);
    let mut set = |name: &str, value: Value| rule.insert(text(name), value);
    if let Some(projects) = &access.projects {
        set("projects", json!(projects));
    }
    let words = |scopes: &[Scope]| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>();
    let scopes = match (&access.read, &access.write) {
        (None, None) => None,
        (Some(read), write) => Some((words(read), words(write.as_deref().unwrap_or_default()))),
        (None, Some(write)) => Some((words(write), words(write))),
    };
    if let Some((read, write)) = scopes {
        set("scopes", json!({"read": read, "write": write}));
    }
    if let Some(tenant) = &access.tenant {
        set("tenant", json!(tenant));
    }
    Value::Object(rule)
}
