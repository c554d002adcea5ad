//! Damage by name: what `journal.verify` found, entry by entry.

use serde::Serialize;
use serde_json::Value;

/// Longest line about one damaged thing, in characters: an issue quotes what was found, and that
/// may be anything.
const MAX_LINE: usize = 200;

/// One damaged thing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Damaged {
    /// Where.
    scope: String,
    /// The item, when its name could be read.
    #[serde(skip_serializing_if = "Value::is_null")]
    id: Value,
    /// Its version.
    #[serde(skip_serializing_if = "Value::is_null")]
    version: Value,
    /// The journal record.
    #[serde(skip_serializing_if = "Value::is_null")]
    seq: Value,
    /// The file (a journal segment, a block file), below the scope's folder.
    #[serde(skip_serializing_if = "Value::is_null")]
    file: Value,
    /// What was expected and what was found.
    issue: Value,
}

/// What is damaged in `scope`, of which `journal.verify` answered `document`.
pub(crate) fn of<'a>(
    scope: &'a str,
    document: &'a Value,
) -> impl Iterator<Item = Damaged> + use<'a> {
    let entries = document.get("corruptedItems").and_then(Value::as_array);
    entries.into_iter().flatten().map(|entry| Damaged::of(scope, entry))
}

impl Damaged {
    fn of(scope: &str, entry: &Value) -> Self {
        let member = |name: &str| entry.get(name).cloned().unwrap_or(Value::Null);
        Self {
            scope: scope.to_owned(),
            id: member("id"),
            version: member("version"),
            seq: member("seq"),
            file: member("file"),
            issue: member("issue"),
        }
    }

    /// A view that does not agree with its journal.
    pub(crate) fn of_view(scope: &str, issue: &Value) -> Self {
        Self { issue: issue.clone(), ..Self::of(scope, &Value::Null) }
    }

    /// In one short line: scope, item or else segment, and what is wrong.
    pub(crate) fn line(&self) -> String {
        let mut words = vec![self.scope.as_str()];
        let place = match (self.id.as_str(), self.file.as_str()) {
            (Some(id), Some(file)) => Some(format!("{id} in {file}")),
            (Some(name), None) | (None, Some(name)) => Some(name.to_owned()),
            (None, None) => None,
        };
        words.extend(place.as_deref());
        words.extend(self.issue.as_str());
        shortened(&words.join(": "))
    }
}

/// At most [`MAX_LINE`] characters of `text`, none of which ends the line.
fn shortened(text: &str) -> String {
    let mut letters = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let line: String = letters.by_ref().take(MAX_LINE).collect();
    match letters.next() {
        None => line,
        Some(_) => line.chars().take(MAX_LINE - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(entry: &Value) -> String {
        Damaged::of("local/web", entry).line()
    }

    #[test]
    fn a_line_names_the_item_or_the_segment() {
        let file = "journal/7.ndjson";
        assert_eq!(
            line(&json!({"id": "a", "file": file, "issue": "the body has another hash"})),
            "local/web: a in journal/7.ndjson: the body has another hash"
        );
        assert_eq!(
            line(&json!({"file": file, "issue": "missing"})),
            "local/web: journal/7.ndjson: missing"
        );
        let view = Damaged::of_view("global", &json!("item b is missing"));
        assert_eq!(view.line(), "global: item b is missing");
    }

    #[test]
    fn a_line_is_one_and_short_whatever_was_found() {
        let long = line(&json!({"file": "f", "issue": format!("found \n{}", "ß".repeat(1000))}));
        assert_eq!(long.chars().count(), MAX_LINE);
        assert!(long.starts_with("local/web: f: found  ß") && long.ends_with('…'), "{long}");
    }
}
