//! From arguments to requests, and from results to what the caller reads.

use std::collections::BTreeMap;

use llm_memory_engine::EngineError;
use llm_memory_engine::api::{HitBody, QueryResult};
use llm_memory_engine::ids::ScopeSelector;
use llm_memory_engine::item::Item;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ToolError;

/// The request that checked arguments spell.
pub(super) fn parse<T: DeserializeOwned>(arguments: Map<String, Value>) -> Result<T, ToolError> {
    // Null and absent mean the same; serde distinguishes them for members with a default.
    let given: Map<String, Value> =
        arguments.into_iter().filter(|(_, value)| !value.is_null()).collect();
    serde_path_to_error::deserialize(Value::Object(given)).map_err(|error| {
        let path = error.path().to_string();
        ToolError::Arguments {
            field: if path == "." { "arguments".to_owned() } else { path },
            reason: in_our_words(error.into_inner().to_string()),
        }
    })
}

/// What serde says of a text in place of a list, which the schema check leaves to the request type:
/// some lists may be given as their only entry.
fn in_our_words(reason: String) -> String {
    if reason.starts_with("invalid type: string") && reason.ends_with("expected a sequence") {
        "must be an array, not a string".to_owned()
    } else {
        reason
    }
}

/// A result as JSON.
pub(super) fn value<T: Serialize>(result: T) -> Result<Value, ToolError> {
    serde_json::to_value(result).map_err(|error| {
        EngineError::Internal { context: "write the reply", message: error.to_string() }.into()
    })
}

/// Whether `results` by scope are one that needs no name: one scope was asked for, and it is the
/// caller's own. That of another tenant is told by its name.
pub(super) fn is_bare<T>(asked: ScopeSelector, results: &BTreeMap<String, T>) -> bool {
    let own = results.keys().all(|scope| !scope.contains(':'));
    asked.scopes().len() == 1 && results.len() == 1 && own
}

/// Results by scope: the bare result when one scope was asked for, otherwise an object keyed by
/// scope with `extra` members beside them.
pub(super) fn by_scope<T: Serialize>(
    asked: ScopeSelector,
    results: BTreeMap<String, T>,
    extra: Vec<(&'static str, Value)>,
) -> Result<Value, ToolError> {
    if is_bare(asked, &results) {
        return results.into_values().next().map_or(Ok(Value::Null), value);
    }
    let mut out = Map::new();
    for (scope, result) in results {
        out.insert(scope, value(result)?);
    }
    for (name, result) in extra {
        out.insert(name.to_owned(), result);
    }
    Ok(Value::Object(out))
}

/// The items of hits that were asked for whole.
pub(crate) fn whole_items(found: QueryResult) -> Vec<Item> {
    found
        .items
        .into_iter()
        .filter_map(|hit| match hit.body {
            HitBody::Full(item) => Some(*item),
            HitBody::Snippet { .. } | HitBody::Summary(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use llm_memory_engine::api::{Filters, UpsertRequest};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_in_place_of_a_list_is_told_so_unless_it_may_stand_for_one() {
        let members = |value: Value| value.as_object().cloned().unwrap();
        let note = json!({"type": "note", "scope": "global", "title": "t", "tags": "a"});
        let error = parse::<UpsertRequest>(members(note)).unwrap_err();
        assert_eq!(error.to_string(), "tags: must be an array, not a string");
        parse::<Filters>(members(json!({"language": "rust"}))).unwrap();
    }
}
