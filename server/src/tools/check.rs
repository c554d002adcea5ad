//! Checks arguments against the schema that was advertised, so that every declared limit is an
//! enforced one and every message names the argument by its path. Covers exactly the keywords
//! that [`super::schema`] produces.

use std::fmt::Write as _;

use llm_memory_engine::ids::Timestamp;
use serde_json::{Map, Value};

use super::ToolError;

/// Checks `arguments` against `schema`.
pub(super) fn arguments(
    schema: &Map<String, Value>,
    arguments: &Map<String, Value>,
) -> Result<(), ToolError> {
    object(schema, arguments, &mut String::new())
}

/// Writes whole numbers as such: clients whose language has one kind of number may send `5.0`
/// where five is meant.
pub(super) fn settle_numbers(members: &mut Map<String, Value>) {
    members.values_mut().for_each(settle);
}

fn settle(value: &mut Value) {
    match value {
        Value::Number(_) => {
            if let Some(number) = whole(value) {
                *value = number.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(settle),
        Value::Object(members) => settle_numbers(members),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The whole number that is written with a fraction of nothing, if it is one that floats count
/// without gaps.
fn whole(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = value.as_number().filter(|number| number.is_f64())?.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// The beginning of what was given, for messages: an argument may be megabytes long.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn fail(path: &str, reason: impl Into<String>) -> ToolError {
    let field = if path.is_empty() { "arguments" } else { path };
    ToolError::Arguments { field: field.to_owned(), reason: reason.into() }
}

fn object(
    schema: &Map<String, Value>,
    members: &Map<String, Value>,
    path: &mut String,
) -> Result<(), ToolError> {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    for (name, value) in members {
        // Absent and null mean the same, as in the reference system.
        if value.is_null() {
            continue;
        }
        match properties.get(name).or_else(|| schema.get("additionalProperties")) {
            Some(Value::Object(inner)) => within(path, name, |path| check(inner, value, path))?,
            Some(Value::Bool(false)) => {
                let name = excerpt(name);
                return within(path, &name, |path| Err(fail(path, unknown(&name, properties))));
            }
            _ => {}
        }
    }
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if members.get(name).is_none_or(Value::is_null) {
            let reason = match properties.get(name).map(describe) {
                Some(kind) if !kind.is_empty() => format!("is required: {kind}"),
                _ => "is required".to_owned(),
            };
            return within(path, name, |path| Err(fail(path, reason)));
        }
    }
    Ok(())
}

fn check(schema: &Map<String, Value>, value: &Value, path: &mut String) -> Result<(), ToolError> {
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let fits = |choice: &Value| {
            choice.as_object().is_none_or(|choice| check(choice, value, &mut path.clone()).is_ok())
        };
        return if choices.iter().any(fits) {
            Ok(())
        } else {
            let kinds: Vec<String> = choices.iter().map(describe).collect();
            Err(fail(path, format!("must be {}", kinds.join(" or "))))
        };
    }
    if let Some(constants) = schema.get("enum").and_then(Value::as_array)
        && !constants.contains(value)
    {
        return Err(fail(path, not_one_of(value, constants)));
    }
    let Some(kind) = schema.get("type").and_then(Value::as_str) else { return Ok(()) };
    match (kind, value) {
        ("object", Value::Object(members)) => object(schema, members, path),
        ("array", Value::Array(values)) => array(schema, values, path),
        ("string", Value::String(text)) => string(schema, text, path),
        ("boolean", Value::Bool(_)) => Ok(()),
        ("integer", Value::Number(number)) if !number.is_f64() || whole(value).is_some() => {
            number_range(schema, value, path)
        }
        ("number", Value::Number(_)) => number_range(schema, value, path),
        // Some lists may be given as their only entry; the request type knows which.
        ("array", Value::String(_)) => match schema.get("items") {
            Some(Value::Object(inner)) => check(inner, value, path),
            _ => Ok(()),
        },
        _ => Err(fail(path, format!("must be {}, not {}", a(kind), a(kind_of(value))))),
    }
}

fn array(
    schema: &Map<String, Value>,
    values: &[Value],
    path: &mut String,
) -> Result<(), ToolError> {
    size(schema, ("minItems", "maxItems"), values.len(), "entries", path)?;
    if let Some(Value::Object(inner)) = schema.get("items") {
        let length = path.len();
        for (index, value) in values.iter().enumerate() {
            // Writing into a String cannot fail.
            let _ = write!(path, "[{index}]");
            check(inner, value, path)?;
            path.truncate(length);
        }
    }
    Ok(())
}

fn string(schema: &Map<String, Value>, text: &str, path: &str) -> Result<(), ToolError> {
    size(schema, ("minLength", "maxLength"), text.chars().count(), "characters", path)?;
    if schema.get("format").is_some_and(|format| format == "date-time")
        && text.parse::<Timestamp>().is_err()
    {
        return Err(fail(
            path,
            format!(
                "{:?} is not an RFC 3339 moment: write it like 2026-11-22T01:00:00Z",
                excerpt(text)
            ),
        ));
    }
    Ok(())
}

fn size(
    schema: &Map<String, Value>,
    (min, max): (&str, &str),
    found: usize,
    what: &str,
    path: &str,
) -> Result<(), ToolError> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    let found_u64 = u64::try_from(found).unwrap_or(u64::MAX);
    if let Some(least) = bound(min).filter(|least| found_u64 < *least) {
        return Err(fail(path, format!("has {found} {what}; at least {least} are needed")));
    }
    if let Some(most) = bound(max).filter(|most| found_u64 > *most) {
        return Err(fail(path, format!("has {found} {what}; at most {most} are allowed")));
    }
    Ok(())
}

fn number_range(schema: &Map<String, Value>, value: &Value, path: &str) -> Result<(), ToolError> {
    let found = value.as_f64().unwrap_or(f64::NAN);
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    if let Some(least) = bound("minimum").filter(|least| found < *least) {
        return Err(fail(path, format!("is {value}; the least is {least}")));
    }
    if let Some(most) = bound("maximum").filter(|most| found > *most) {
        return Err(fail(path, format!("is {value}; the most is {most}")));
    }
    Ok(())
}

fn within<T>(path: &mut String, name: &str, inner: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
    let out = inner(path);
    path.truncate(length);
    out
}

fn unknown(name: &str, properties: &Map<String, Value>) -> String {
    let folded = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let wanted = folded(name);
    let near = properties
        .keys()
        .map(|known| (strsim::damerau_levenshtein(&folded(known), &wanted), known))
        .filter(|(distance, known)| *distance <= 2 && *distance < known.len())
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, known)) => format!("is not an argument; did you mean {known}?"),
        None => {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            format!("is not an argument; there are {}", known.join(", "))
        }
    }
}

fn not_one_of(value: &Value, constants: &[Value]) -> String {
    let known: Vec<String> = constants
        .iter()
        .map(|constant| constant.as_str().map_or_else(|| constant.to_string(), str::to_owned))
        .collect();
    format!("{} is not allowed: use {}", excerpt(&value.to_string()), known.join(", "))
}

/// What a schema asks for, in words.
fn describe(schema: &Value) -> String {
    if let Some(constants) = schema.get("enum").and_then(Value::as_array) {
        let known: Vec<String> = constants
            .iter()
            .map(|constant| constant.as_str().map_or_else(|| constant.to_string(), str::to_owned))
            .collect();
        return format!("one of {}", known.join(", "));
    }
    schema.get("type").and_then(Value::as_str).map(a).unwrap_or_default()
}

fn a(kind: &str) -> String {
    match kind {
        "object" | "array" | "integer" => format!("an {kind}"),
        "null" => kind.to_owned(),
        _ => format!("a {kind}"),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(value: Value) -> Result<(), (String, String)> {
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["id"],
            "properties": {
                "id": {"type": "string", "minLength": 1, "maxLength": 4},
                "ttlDays": {"type": "number", "minimum": 0.5, "maximum": 10},
                "k": {"type": "integer", "minimum": 1},
                "kind": {"type": "string", "enum": ["note", "fact"]},
                "asOf": {"type": "string", "format": "date-time"},
                "either": {"anyOf": [{"type": "string"}, {"type": "array"}]},
                "operations": {"type": "array", "maxItems": 3, "items": {
                    "type": "object",
                    "required": ["old"],
                    "additionalProperties": false,
                    "properties": {"old": {"type": "string"}},
                }},
            },
        });
        let mut members = json!({"id": "a"});
        members.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        match arguments(schema.as_object().unwrap(), members.as_object().unwrap()) {
            Ok(()) => Ok(()),
            Err(ToolError::Arguments { field, reason }) => Err((field, reason)),
            Err(other) => panic!("{other}"),
        }
    }

    fn field(value: Value) -> String {
        checked(value).unwrap_err().0
    }

    #[test]
    fn arguments_that_fit_pass() {
        checked(json!({
            "ttlDays": 3, "k": 2, "kind": "fact", "asOf": "2026-11-22T01:00:00Z",
            "either": ["x"], "operations": [{"old": "x"}]
        }))
        .unwrap();
    }

    #[test]
    fn errors_name_the_argument_by_its_path() {
        assert_eq!(field(json!({"id": null})), "id");
        assert_eq!(field(json!({"id": ""})), "id");
        assert_eq!(field(json!({"id": "abcde"})), "id");
        assert_eq!(field(json!({"ttlDays": 11})), "ttlDays");
        assert_eq!(field(json!({"k": 0})), "k");
        assert_eq!(field(json!({"k": 1.5})), "k");
        assert_eq!(field(json!({"asOf": "yesterday"})), "asOf");
        assert_eq!(field(json!({"either": 3})), "either");
        assert_eq!(field(json!({"operations": [{"old": "x"}, {"old": 3}]})), "operations[1].old");
        assert_eq!(field(json!({"operations": [{}]})), "operations[0].old");
        assert_eq!(field(json!({"operations": [{"old": "", "x": 1}]})), "operations[0].x");
    }

    #[test]
    fn an_unknown_argument_gets_a_suggestion() {
        let (field, reason) = checked(json!({"ttl_days": 3})).unwrap_err();
        assert_eq!(field, "ttl_days");
        assert!(reason.contains("did you mean ttlDays?"), "{reason}");
        let (_, reason) = checked(json!({"zzzzzz": 3})).unwrap_err();
        assert!(reason.contains("operations"), "{reason}");
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_right_ones() {
        let (field, reason) = checked(json!({"kind": "memo"})).unwrap_err();
        assert_eq!(
            (field.as_str(), reason.as_str()),
            ("kind", "\"memo\" is not allowed: use note, fact")
        );
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_fraction_of_nothing() {
        checked(json!({"k": 5.0})).unwrap();
        assert_eq!(field(json!({"k": 5.5})), "k");
        assert_eq!(field(json!({"k": 0.0})), "k");
        assert_eq!(field(json!({"k": 1e300})), "k");
        let mut members = json!({"k": 5.0, "s": 0.5, "list": [{"n": -2.0}], "big": 1e300});
        settle_numbers(members.as_object_mut().unwrap());
        assert_eq!(members, json!({"k": 5, "s": 0.5, "list": [{"n": -2}], "big": 1e300}));
    }

    #[test]
    fn messages_repeat_no_more_than_the_beginning_of_an_argument() {
        let long = "ä".repeat(10_000);
        for given in [json!({"kind": long}), json!({"asOf": long}), json!({ long.as_str(): 1 })] {
            let (field, reason) = checked(given).unwrap_err();
            assert!(field.len() + reason.len() < 400, "{field}: {reason}");
        }
    }

    #[test]
    fn null_means_left_out() {
        checked(json!({"k": null, "kind": null})).unwrap();
    }
}
