//! The reference server's `config.json`, as far as we have the same settings.

use serde_json::{Map, Value, json};

use crate::config::ScopeConfig;

/// Settings under another name here.
const RENAMED: &[(&str, &str)] = &[
    ("ranking.bm25.k1", "search.bm25.k1"),
    ("ranking.bm25.b", "search.bm25.b"),
    ("ranking.fields.title", "search.bm25.fieldWeights.title"),
    ("ranking.fields.text", "search.bm25.fieldWeights.text"),
    ("ranking.fields.code", "search.bm25.fieldWeights.code"),
    ("ranking.fields.tag", "search.bm25.fieldWeights.tags"),
    ("ranking.fieldWeights.title", "search.bm25.fieldWeights.title"),
    ("ranking.fieldWeights.text", "search.bm25.fieldWeights.text"),
    ("ranking.fieldWeights.code", "search.bm25.fieldWeights.code"),
    ("ranking.fieldWeights.tag", "search.bm25.fieldWeights.tags"),
    ("ranking.hybrid.enabled", "search.vector.enabled"),
    ("ranking.hybrid.wVec", "search.vector.weight"),
    ("contextPack.order", "pack.order"),
    ("contextPack.caps.snippets", "pack.caps.snippets"),
    ("contextPack.caps.facts", "pack.caps.facts"),
    ("contextPack.caps.patterns", "pack.caps.patterns"),
    ("contextPack.caps.configs", "pack.caps.configs"),
];

/// The settings of `value` that we have, and what is said about the others.
pub(super) fn translate(value: &Value) -> (ScopeConfig, Vec<String>) {
    let mut problems = Vec::new();
    let mut leaves = Vec::new();
    flatten("", value, &mut leaves);
    let mut config = Value::Object(Map::new());
    for (path, leaf) in leaves {
        let ours = RENAMED
            .iter()
            .find_map(|(theirs, ours)| (*theirs == path).then_some(*ours))
            .unwrap_or(&path);
        // One setting at a time, so that one bad value does not lose the others.
        let single = nested(ours, leaf);
        match ScopeConfig::from_json(&single) {
            Ok(_) => merge(&mut config, single),
            Err(error) => {
                let reasons: Vec<String> =
                    error.problems.into_iter().map(|problem| problem.reason).collect();
                problems.push(format!("{path}: {}", reasons.join("; ")));
            }
        }
    }
    let config = ScopeConfig::from_json(&config).unwrap_or_else(|error| {
        problems.push(error.to_string());
        ScopeConfig::default()
    });
    (config, problems)
}

fn flatten<'a>(path: &str, value: &'a Value, out: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, out);
            }
        }
        Value::Object(_) => {}
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            out.push((path.to_owned(), value));
        }
    }
}

fn nested(path: &str, value: &Value) -> Value {
    path.rsplit('.').fold(value.clone(), |inner, key| json!({ key: inner }))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
