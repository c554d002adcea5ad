//! Tool results that are one document for a single scope and one document a scope otherwise.

use serde_json::Value;

/// The documents in `result` by scope. `marker` is a member that only such a document has, which
/// tells scopes from the totals beside them; `asked` names the scope of a bare document.
pub(crate) fn documents<'a>(
    result: &'a Value,
    asked: &str,
    marker: &str,
) -> Vec<(String, &'a Value)> {
    if result.get(marker).is_some() {
        return vec![(asked.to_owned(), result)];
    }
    let members = result.as_object().into_iter().flatten();
    members
        .filter(|(_, document)| document.get(marker).is_some())
        .map(|(scope, document)| (scope.clone(), document))
        .collect()
}

/// A count in a document; 0 when it has none.
pub(crate) fn count(document: &Value, key: &str) -> u64 {
    document.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// How many entries a list in a document has.
pub(crate) fn entries(document: &Value, key: &str) -> u64 {
    let length = document.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The arguments that name one scope of a result again: `local/app` is scope `local` of project
/// `app`.
pub(crate) fn arguments(scope: &str) -> Value {
    match scope.split_once('/') {
        Some((scope, project)) => serde_json::json!({"scope": scope, "project": project}),
        None => serde_json::json!({"scope": scope}),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn totals_are_not_taken_for_scopes() {
        let several = json!({
            "global": {"checkedCount": 3}, "local/app": {"checkedCount": 4},
            "overall": {"valid": true}});
        let scopes: Vec<_> = documents(&several, "all", "checkedCount")
            .into_iter()
            .map(|(scope, document)| (scope, count(document, "checkedCount")))
            .collect();
        assert_eq!(scopes, [("global".to_owned(), 3), ("local/app".to_owned(), 4)]);
        let bare = json!({"checkedCount": 5, "corruptedItems": [1, 2]});
        let one = documents(&bare, "global", "checkedCount");
        assert_eq!((one[0].0.as_str(), entries(one[0].1, "corruptedItems")), ("global", 2));
    }

    #[test]
    fn a_scope_can_be_named_again() {
        assert_eq!(arguments("local/app"), json!({"scope": "local", "project": "app"}));
        assert_eq!(arguments("global"), json!({"scope": "global"}));
    }
}
