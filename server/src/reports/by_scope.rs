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

/// How much of a `journal.verify` document is not sound: its records, and at least the entries of
/// its list. The list alone does not tell: it is cut, and an entry may stand for a whole lost
/// segment, or for a fault that belongs to no record.
pub(crate) fn unsound(document: &Value) -> u64 {
    let counted = document.get("unsoundCount").and_then(Value::as_u64);
    counted.unwrap_or_else(|| scored(document)).max(entries(document, "corruptedItems"))
}

/// The same from the score, for servers that do not count.
fn scored(document: &Value) -> u64 {
    let integrity = document.get("integrityScore").and_then(Value::as_f64).unwrap_or(1.0);
    let share = (1.0 - integrity).clamp(0.0, 1.0);
    // The score was divided: the margin keeps its last bit from counting as a record.
    let records = (count(document, "checkedCount") as f64 * share - 1e-6).ceil().max(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and a count of records is far below 2^53"
    )]
    let records = records as u64;
    records
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
    fn records_are_counted_and_not_the_entries_of_a_list_that_is_cut() {
        let of = |checked: u64, unsound: u64, listed: usize| {
            let score = (checked - unsound) as f64 / checked as f64;
            super::unsound(&json!({"checkedCount": checked, "integrityScore": score,
                "corruptedItems": vec![json!({}); listed]}))
        };
        for (checked, bad) in [(3, 1), (7, 2), (1000, 999), (123_457, 64_001)] {
            assert_eq!(of(checked, bad, 1), bad, "{bad} of {checked}");
        }
        assert_eq!(of(10, 0, 2), 2, "a damaged checkpoint is no record");
        assert_eq!(super::unsound(&json!({"unsoundCount": 12, "corruptedItems": [1]})), 12);
        assert_eq!(super::unsound(&json!({"unsoundCount": 0, "corruptedItems": [1]})), 1);
    }

    #[test]
    fn a_scope_can_be_named_again() {
        assert_eq!(arguments("local/app"), json!({"scope": "local", "project": "app"}));
        assert_eq!(arguments("global"), json!({"scope": "global"}));
    }
}
