//! `llm-memory config show`: every setting, its value and who gave it.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Effective;
use super::layers::Source;

/// One JSON document: the file read, and the settings by key.
pub fn json(effective: &Effective) -> Value {
    let settings: Map<String, Value> = effective
        .values
        .iter()
        .map(|resolved| {
            let setting = resolved.setting;
            let entry = json!({
                "value": resolved.value,
                "source": resolved.source.as_str(),
                "env": setting.env.name,
                "flag": format!("--{}", setting.flag),
                "reload": setting.reload,
            });
            (setting.key.to_owned(), entry)
        })
        .collect();
    json!({ "file": effective.file, "settings": settings })
}

/// A table for people.
pub fn text(effective: &Effective) -> String {
    let mut out = String::new();
    match &effective.file {
        Some(file) => writeln!(out, "configuration file: {}", file.display()),
        None => writeln!(out, "configuration file: none"),
    }
    .unwrap_or_default();
    let shown: Vec<(&str, String, Source)> = effective
        .values
        .iter()
        .map(|resolved| (resolved.setting.key, plain(&resolved.value), resolved.source))
        .collect();
    let width = |column: fn(&(&str, String, Source)) -> usize| shown.iter().map(column).max();
    let keys = width(|(key, _, _)| key.len()).unwrap_or(0);
    let values = width(|(_, value, _)| value.chars().count()).unwrap_or(0).min(48);
    for (key, value, source) in &shown {
        writeln!(out, "{key:keys$}  {value:values$}  {}", source.as_str()).unwrap_or_default();
    }
    out
}

/// The value as one would write it in the environment.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(parts) if parts.is_empty() => "-".to_owned(),
        Value::Array(parts) => parts.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
