//! `docs/tools.md`: every tool with its arguments and result.

use serde_json::{Map, Value};

use super::cell;
use crate::tools::{self, Tool};

const INTRODUCTION: &str = "# Tools

<!-- Made by `llm-memory docs generate`; do not edit. -->

Every operation of the server. Over MCP a tool is called by its name (`memory_query`); the dotted
name (`memory.query`) is accepted too. On the command line the same tool is
`llm-memory memory.query` or `llm-memory memory query`, see [command-line.md](command-line.md).
Arguments that are not listed are refused. `project` says whose local and committed scopes are
meant; a token that is bound to one project need not name it.

";

/// The page.
pub(super) fn markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("| tool | what it does | for |\n| --- | --- | --- |\n");
    for tool in tools::all() {
        out.push_str(&format!(
            "| [`{}`](#{}) | {} | {} |\n",
            tool.name,
            tool.name,
            cell(tool.title),
            roles(tool)
        ));
    }
    for tool in tools::all() {
        section(tool, &mut out);
    }
    out
}

fn roles(tool: &Tool) -> String {
    tool.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

fn section(tool: &Tool, out: &mut String) {
    out.push_str(&format!("\n## {}\n\n{}\n\n", tool.name, tool.description.trim()));
    let mut notes = vec![format!("`{}`", tool.dotted)];
    notes.push(if tool.read_only { "changes nothing" } else { "changes the store" }.to_owned());
    if tool.destructive {
        notes.push("may destroy data".to_owned());
    }
    if tool.idempotent && !tool.read_only {
        notes.push("twice is the same as once".to_owned());
    }
    notes.push(format!("roles: {}", roles(tool)));
    out.push_str(&format!("{}.\n", notes.join("; ")));
    table("Arguments", &(tool.input_schema)(), true, out);
    table("Result", &(tool.output_schema)(), false, out);
}

fn table(title: &str, schema: &Map<String, Value>, arguments: bool, out: &mut String) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        if let Some(members) = schema.get("anyOf").and_then(Value::as_array) {
            union(title, members, out);
        }
        return;
    };
    if properties.is_empty() {
        return;
    }
    out.push_str(&format!("\n{title}:\n\n| name | type | meaning |\n| --- | --- | --- |\n"));
    rows("", schema, properties, arguments, 0, out);
}

/// A result that has several forms: one table each.
fn union(title: &str, members: &[Value], out: &mut String) {
    for (number, member) in members.iter().enumerate() {
        let Some(schema) = member.as_object() else { continue };
        if schema.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty()) {
            let title = if number == 0 {
                format!("{title}, for one scope")
            } else {
                format!("{title}, for several scopes: the same keyed by scope, and")
            };
            table(&title, schema, false, out);
        }
    }
}

fn rows(
    prefix: &str,
    schema: &Map<String, Value>,
    properties: &Map<String, Value>,
    arguments: bool,
    depth: usize,
    out: &mut String,
) {
    let required = schema.get("required").and_then(Value::as_array);
    let mut entries: Vec<(&String, &Value, bool)> = properties
        .iter()
        .map(|(name, property)| {
            let must = required.is_some_and(|names| names.iter().any(|entry| entry == name));
            (name, property, must)
        })
        .collect();
    if arguments {
        entries.sort_by_key(|(_, _, must)| !must);
    }
    for (name, property, must) in entries {
        let mut meaning =
            property.get("description").and_then(Value::as_str).unwrap_or("").to_owned();
        if arguments && must {
            meaning = format!("**Required.** {meaning}");
        }
        if let Some(limits) = limits(property) {
            meaning = format!("{meaning} [{limits}]");
        }
        out.push_str(&format!(
            "| `{prefix}{name}` | {} | {} |\n",
            cell(&kind(property)),
            cell(meaning.trim())
        ));
        // Items are described once, with memory_get; everything else is opened here.
        if depth < 2
            && let Some((below, marker)) = object_in(property)
            && let Some(members) = below.get("properties").and_then(Value::as_object)
            && (arguments || members.len() <= 12)
        {
            let prefix = format!("{prefix}{name}{marker}.");
            rows(&prefix, below, members, arguments, depth.saturating_add(1), out);
        }
    }
}

/// The object that a property is, or is a list of.
fn object_in(property: &Value) -> Option<(&Map<String, Value>, &'static str)> {
    if property.get("properties").is_some() {
        return Some((property.as_object()?, ""));
    }
    let items = property.get("items")?;
    items.get("properties")?;
    Some((items.as_object()?, "[]"))
}

fn kind(property: &Value) -> String {
    if let Some(words) = property.get("enum").and_then(Value::as_array) {
        let words: Vec<String> =
            words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    match property.get("type") {
        Some(Value::String(name)) if name == "array" => {
            let items = property.get("items").map(kind).unwrap_or_default();
            if items.is_empty() { "list".to_owned() } else { format!("list of {items}") }
        }
        Some(Value::String(name)) if name == "string" => {
            match property.get("format").and_then(Value::as_str) {
                Some("date-time") => "moment (RFC 3339)".to_owned(),
                _ => "string".to_owned(),
            }
        }
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.join(" or ")
        }
        _ => "any".to_owned(),
    }
}

fn limits(property: &Value) -> Option<String> {
    let of = |key: &str| property.get(key).filter(|value| value.is_number());
    let mut parts = Vec::new();
    match (of("minimum"), of("maximum")) {
        (Some(low), Some(high)) => parts.push(format!("{low} to {high}")),
        (Some(low), None) if low.as_f64() != Some(0.0) => parts.push(format!("at least {low}")),
        (None, Some(high)) => parts.push(format!("at most {high}")),
        (Some(_) | None, None) => {}
    }
    for (key, what) in [("maxLength", "characters"), ("maxItems", "entries")] {
        if let Some(most) = of(key) {
            parts.push(format!("at most {most} {what}"));
        }
    }
    if let Some(default) = property.get("default") {
        match default {
            Value::String(text) if !text.is_empty() => parts.push(format!("default `{text}`")),
            Value::Number(_) | Value::Bool(true) => parts.push(format!("default `{default}`")),
            Value::String(_)
            | Value::Bool(false)
            | Value::Null
            | Value::Array(_)
            | Value::Object(_) => {}
        }
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
