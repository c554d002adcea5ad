//! JSON Schemas of arguments and results, in a form that every client understands: no `$ref`, no
//! `$schema`, no `null` alternatives, no number formats that only schemars knows.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Tool;

/// Name of the HTTP header (after `Mcp-Param-`) that mirrors the `project` argument, so that a
/// gateway can route by project.
pub const PROJECT_HEADER: &str = "Project";

/// Schema of a request type, with the `project` argument that every tool takes.
pub fn input<T: JsonSchema>() -> Map<String, Value> {
    let mut schema = generate::<T>(SchemaSettings::draft2020_12());
    // The tool's own description says it better.
    schema.remove("description");
    schema.entry("type").or_insert_with(|| "object".into());
    schema.entry("additionalProperties").or_insert(Value::Bool(false));
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("project".to_owned(), project());
    }
    schema
}

fn project() -> Value {
    json!({
        "type": "string",
        "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$",
        "description": "Project whose local and committed scopes are meant; the connection's own \
            project when left out.",
        "x-mcp-header": PROJECT_HEADER,
    })
}

/// Schema of a result type.
pub fn output<T: JsonSchema>() -> Map<String, Value> {
    let mut schema = generate::<T>(SchemaSettings::draft2020_12().for_serialize());
    schema.remove("description");
    schema
}

/// Schema of a result that is one `T` for a single scope, and an object of `T`s keyed by scope
/// (with the `extra` members beside them) for several.
pub fn by_scope<T: JsonSchema>(extra: &[(&str, Map<String, Value>)]) -> Map<String, Value> {
    let one = output::<T>();
    let extra: Map<String, Value> =
        extra.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone().into())).collect();
    let several = json!({
        "type": "object",
        "properties": extra,
        "additionalProperties": Value::Object(one.clone()),
    });
    match json!({"type": "object", "anyOf": [one, several]}) {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

static INPUTS: LazyLock<BTreeMap<&'static str, Map<String, Value>>> =
    LazyLock::new(|| super::all().iter().map(|tool| (tool.name, (tool.input_schema)())).collect());

/// The cached input schema of `tool`.
pub fn of(tool: &Tool) -> &'static Map<String, Value> {
    static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    INPUTS.get(tool.name).unwrap_or(&EMPTY)
}

fn generate<T: JsonSchema>(settings: SchemaSettings) -> Map<String, Value> {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    simplify(&mut value);
    match value {
        Value::Object(mut schema) => {
            schema.remove("title");
            schema
        }
        _ => Map::new(),
    }
}

fn simplify(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(simplify),
        Value::Object(schema) => {
            schema.values_mut().for_each(simplify);
            drop_number_format(schema);
            drop_null(schema);
            merge_constants(schema);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `uint64`, `double` and the like are OpenAPI's; validators warn about them.
fn drop_number_format(schema: &mut Map<String, Value>) {
    let numeric = schema.get("type").is_some_and(|kind| match kind {
        Value::String(kind) => kind == "integer" || kind == "number",
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "integer" || kind == "number"),
        _ => false,
    });
    if numeric {
        schema.remove("format");
    }
}

/// Optional members are left out, never null: say so in the way every client understands.
fn drop_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(constants)) = schema.get_mut("enum") {
        constants.retain(|constant| !constant.is_null());
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if let [only] = choices.as_slice()
            && let Value::Object(only) = only.clone()
        {
            schema.remove("anyOf");
            for (key, value) in only {
                schema.entry(key).or_insert(value);
            }
        }
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}

/// Documented enums come as `oneOf` of constants; a plain `enum` is shorter and better known. The
/// meaning of each constant moves into the description.
fn merge_constants(schema: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let mut constants = Vec::new();
    let mut meanings = Vec::new();
    for choice in choices {
        let meaning = choice.get("description").and_then(Value::as_str);
        let named: Vec<&str> = match (choice.get("const"), choice.get("enum")) {
            (Some(Value::String(constant)), _) => vec![constant],
            (_, Some(Value::Array(some))) => some.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        for constant in named {
            constants.push(constant.to_owned());
            if let Some(meaning) = meaning {
                meanings.push(format!("{constant}: {}", meaning.trim_end_matches('.')));
            }
        }
    }
    let meanings = meanings.join("; ");
    let description = match schema.get("description").and_then(Value::as_str) {
        Some(text) if meanings.is_empty() => text.to_owned(),
        Some(text) => format!("{text} ({meanings})"),
        None => meanings,
    };
    schema.remove("oneOf");
    schema.insert("type".to_owned(), "string".into());
    schema.insert("enum".to_owned(), constants.into());
    if !description.is_empty() {
        schema.insert("description".to_owned(), description.into());
    }
}
