//! The form of a tool's arguments, read from its JSON Schema: what the command line needs to know
//! to offer a flag for each of them and to turn words into JSON.
//!
//! Schemas come from our own types, so what cannot be recognised is not an error: it becomes
//! [`Shape::Json`], a flag that takes a JSON value.

use serde_json::{Map, Value};

/// What kind of value an argument takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Any text.
    Text,
    /// One of these words.
    Choice(Vec<String>),
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Flag,
    /// Several values of one shape.
    List(Box<Shape>),
    /// Named values.
    Object(Vec<Field>),
    /// Anything else, written as JSON.
    Json,
}

/// One argument, or one member of an object argument.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// Name in the JSON document.
    pub(crate) name: String,
    /// Whether a call without it is refused.
    pub(crate) required: bool,
    /// What it means, with its limits and default.
    pub(crate) help: String,
    /// What it takes.
    pub(crate) shape: Shape,
}

/// How deep objects are opened into dotted flags. Deeper ones are written as JSON.
const MAX_DEPTH: usize = 3;

/// The arguments that an object schema describes, required ones first, otherwise in the schema's
/// order.
pub(crate) fn fields(schema: &Map<String, Value>) -> Vec<Field> {
    Reader { root: schema }.fields(schema, 0)
}

struct Reader<'a> {
    root: &'a Map<String, Value>,
}

impl<'a> Reader<'a> {
    fn fields(&self, schema: &'a Map<String, Value>, depth: usize) -> Vec<Field> {
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| {
            required.is_some_and(|names| names.iter().any(|entry| entry.as_str() == Some(name)))
        };
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return Vec::new();
        };
        let mut fields: Vec<Field> = properties
            .iter()
            .map(|(name, property)| Field {
                name: name.clone(),
                required: is_required(name),
                help: self.help(property),
                shape: self.shape(property, depth),
            })
            .collect();
        fields.sort_by_key(|field| !field.required);
        fields
    }

    /// Follows `$ref` and takes `null` out of unions, until a schema says what it is.
    fn resolve(&self, schema: &'a Value) -> Option<&'a Map<String, Value>> {
        let mut schema = schema.as_object()?;
        // A schema that refers to itself would never end; ours are not nested that deep.
        for _ in 0..8 {
            if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
                let name = target.strip_prefix("#/$defs/")?;
                schema = self.root.get("$defs")?.get(name)?.as_object()?;
                continue;
            }
            match union(schema).as_deref() {
                Some([only]) => schema = only.as_object()?,
                Some(_) | None => return Some(schema),
            }
        }
        None
    }

    fn shape(&self, schema: &'a Value, depth: usize) -> Shape {
        let Some(schema) = self.resolve(schema) else { return Shape::Json };
        if let Some(words) = words(schema) {
            return Shape::Choice(words);
        }
        match type_name(schema) {
            Some("string") => Shape::Text,
            Some("integer") => Shape::Integer,
            Some("number") => Shape::Number,
            Some("boolean") => Shape::Flag,
            Some("array") => schema.get("items").map_or(Shape::Json, |items| {
                match self.shape(items, depth.saturating_add(1)) {
                    Shape::Object(_) | Shape::List(_) | Shape::Json => Shape::Json,
                    simple @ (Shape::Text
                    | Shape::Choice(_)
                    | Shape::Integer
                    | Shape::Number
                    | Shape::Flag) => Shape::List(Box::new(simple)),
                }
            }),
            Some("object") if depth < MAX_DEPTH => {
                let fields = self.fields(schema, depth.saturating_add(1));
                if fields.is_empty() { Shape::Json } else { Shape::Object(fields) }
            }
            Some(_) | None => Shape::Json,
        }
    }

    fn help(&self, schema: &'a Value) -> String {
        let resolved = self.resolve(schema);
        let own = schema.as_object();
        let find = |key: &str| {
            own.and_then(|map| map.get(key)).or_else(|| resolved.and_then(|map| map.get(key)))
        };
        let mut help = find("description").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut notes = Vec::new();
        match (find("minimum"), find("maximum")) {
            (Some(low), Some(high)) => notes.push(format!("{low} to {high}")),
            // Zero as the least whole number says nothing a reader would not assume.
            (Some(low), None) if low.as_f64() != Some(0.0) => notes.push(format!("at least {low}")),
            (None, Some(high)) => notes.push(format!("at most {high}")),
            (Some(_) | None, None) => {}
        }
        if let Some(longest) = find("maxLength") {
            notes.push(format!("at most {longest} characters"));
        }
        if let Some(most) = find("maxItems") {
            notes.push(format!("at most {most} values"));
        }
        if let Some(default) = find("default").and_then(shown_default) {
            notes.push(format!("default {default}"));
        }
        if !notes.is_empty() {
            if !help.is_empty() {
                help.push(' ');
            }
            help.push('[');
            help.push_str(&notes.join("; "));
            help.push(']');
        }
        help
    }
}

/// The members of a union other than `null`.
fn union(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    let members = ["anyOf", "oneOf", "allOf"]
        .into_iter()
        .find_map(|key| schema.get(key).and_then(Value::as_array))?;
    let null = |member: &&Value| member.get("type").and_then(Value::as_str) != Some("null");
    Some(members.iter().filter(null).collect())
}

/// The type a schema names, `null` left aside.
fn type_name(schema: &Map<String, Value>) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// The words of an enumeration, in either of the forms that schema generators write.
fn words(schema: &Map<String, Value>) -> Option<Vec<String>> {
    let listed = |schema: &Map<String, Value>| -> Option<Vec<String>> {
        if let Some(word) = schema.get("const").and_then(Value::as_str) {
            return Some(vec![word.to_owned()]);
        }
        let values = schema.get("enum")?.as_array()?;
        Some(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    if let Some(words) = listed(schema) {
        return Some(words);
    }
    let mut words = Vec::new();
    for member in union(schema)? {
        words.extend(listed(member.as_object()?)?);
    }
    Some(words)
}

/// A default worth showing: nothing empty, nothing false.
fn shown_default(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("true".to_owned()),
        Value::String(_)
        | Value::Bool(false)
        | Value::Null
        | Value::Array(_)
        | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use llm_memory_engine::api::{PatchRequest, QueryRequest, UpsertRequest};
    use schemars::JsonSchema;
    use serde_json::json;

    use super::*;

    fn of<T: JsonSchema>() -> Vec<Field> {
        let schema = schemars::schema_for!(T);
        fields(schema.as_object().unwrap())
    }

    fn shape_of<'a>(fields: &'a [Field], name: &str) -> &'a Shape {
        &fields.iter().find(|field| field.name == name).unwrap().shape
    }

    #[test]
    fn query_arguments_are_recognised() {
        let fields = of::<QueryRequest>();
        assert_eq!(shape_of(&fields, "q"), &Shape::Text);
        assert_eq!(shape_of(&fields, "k"), &Shape::Integer);
        assert_eq!(shape_of(&fields, "explain"), &Shape::Flag);
        assert_eq!(shape_of(&fields, "asOf"), &Shape::Text);
        assert_eq!(
            shape_of(&fields, "scope"),
            &Shape::Choice(
                ["global", "local", "committed", "project", "all"].map(str::to_owned).to_vec()
            )
        );
        let Shape::Object(filters) = shape_of(&fields, "filters") else { panic!("filters") };
        assert_eq!(shape_of(filters, "tags"), &Shape::List(Box::new(Shape::Text)));
        assert_eq!(shape_of(filters, "pinned"), &Shape::Flag);
        let Shape::Object(range) = shape_of(filters, "confidence") else { panic!("confidence") };
        assert_eq!(shape_of(range, "min"), &Shape::Number);
        assert!(matches!(shape_of(filters, "type"), Shape::List(inner)
            if matches!(**inner, Shape::Choice(_))));
    }

    #[test]
    fn required_arguments_come_first_and_lists_of_objects_are_json() {
        let fields = of::<UpsertRequest>();
        assert!(fields[0].required && fields[1].required && !fields[2].required);
        assert_eq!(shape_of(&fields, "links"), &Shape::Json);
        assert_eq!(shape_of(&of::<PatchRequest>(), "operations"), &Shape::Json);
    }

    #[test]
    fn limits_and_defaults_are_part_of_the_help() {
        let schema = json!({"properties": {
            "k": {"type": "integer", "minimum": 1, "maximum": 200, "default": 20,
                  "description": "Hits."}}});
        let fields = fields(schema.as_object().unwrap());
        assert_eq!(fields[0].help, "Hits. [1 to 200; default 20]");
    }

    #[test]
    fn unknown_forms_become_json() {
        let schema =
            json!({"properties": {"x": true, "y": {"type": "object"}, "z": {"$ref": "#/no"}}});
        for field in fields(schema.as_object().unwrap()) {
            assert_eq!(field.shape, Shape::Json, "{}", field.name);
        }
    }
}
