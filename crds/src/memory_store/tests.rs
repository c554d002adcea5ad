//! The rules, evaluated as the API server evaluates them; and what the schema fills in.

use kube::CustomResourceExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

#[derive(Deserialize)]
struct Example {
    rule: String,
    old: Option<Value>,
    accept: Value,
    reject: Value,
    message: String,
}

fn examples() -> Vec<Example> {
    serde_saphyr::from_str(include_str!("../../testdata/rules.yaml")).unwrap()
}

/// As the API server stores it: with defaults.
fn stored(spec: Value) -> MemoryStore {
    MemoryStore::new("memory", serde_json::from_value(spec).unwrap())
}

fn verdict(new: &MemoryStore, old: Option<&MemoryStore>) -> Vec<String> {
    let result = match old {
        Some(old) => new.validate_cel_update(old),
        None => new.validate_cel(),
    };
    result.err().map(|errors| vec![errors.to_string()]).unwrap_or_default()
}

/// The evaluator here knows neither quantities nor time zones; the cluster tests cover these.
fn needs_an_api_server(example: &Example) -> bool {
    ["storage size", "storage only grows", "time zones", "replicas"]
        .iter()
        .any(|prefix| example.rule.starts_with(prefix))
}

#[test]
fn every_rule_accepts_what_it_should_and_names_the_field_otherwise() {
    for example in examples() {
        if needs_an_api_server(&example) {
            continue;
        }
        let old = example.old.clone().map(stored);
        let about = |found: &[String]| -> Vec<String> {
            found.iter().filter(|text| !text.contains("quantity")).cloned().collect()
        };
        let accepted = verdict(&stored(example.accept.clone()), old.as_ref());
        assert_eq!(about(&accepted), Vec::<String>::new(), "{} must accept", example.rule);
        let rejected = verdict(&stored(example.reject.clone()), old.as_ref());
        assert!(
            rejected.iter().any(|text| text.contains(&example.message)),
            "{} must reject with {:?}: {rejected:?}",
            example.rule,
            example.message
        );
    }
}

#[test]
fn every_rule_has_an_example() {
    let schema = serde_json::to_value(MemoryStore::crd()).unwrap();
    let mut messages = Vec::new();
    collect_messages(&schema, &mut messages);
    assert!(messages.len() > 20, "{messages:?}");
    let examples = examples();
    for message in messages.iter().filter(|message| !message.starts_with("metadata.name")) {
        assert!(
            examples.iter().any(|example| message.contains(&example.message)),
            "no example for: {message}"
        );
    }
}

fn collect_messages(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for rule in object
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                into.push(rule["message"].as_str().unwrap_or_default().to_owned());
            }
            object.values().for_each(|value| collect_messages(value, into));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_messages(value, into)),
        _ => {}
    }
}

#[test]
fn an_empty_spec_is_a_whole_store() {
    let spec: MemoryStoreSpec = serde_json::from_value(json!({})).unwrap();
    insta::assert_yaml_snapshot!(spec);
}

#[test]
fn every_field_is_explained() {
    let schema = serde_json::to_value(MemoryStore::crd()).unwrap();
    let spec = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut silent = Vec::new();
    unexplained("spec", spec, &mut silent);
    assert_eq!(silent, Vec::<String>::new());
}

fn unexplained(path: &str, schema: &Value, into: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, property) in properties {
        let path = format!("{path}.{name}");
        if property["description"].as_str().is_none_or(str::is_empty) {
            into.push(path.clone());
        }
        unexplained(&path, property, into);
        unexplained(&path, &property["items"], into);
    }
}

#[test]
fn the_definition_fits_into_the_annotation_of_kubectl_apply() {
    let bytes = serde_json::to_vec(&MemoryStore::crd()).unwrap().len();
    assert!(bytes < 262_144, "{bytes} bytes");
}
