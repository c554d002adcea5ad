//! How bad it is what an operation answered.

use serde_json::Value;

use crate::exit::Exit;

/// The worst in a document of one scope, or in those of several, with their summaries. Damage is
/// critical; views that disagree with the journal, and work that was done in part, are findings.
pub(crate) fn worst(document: &Value) -> Exit {
    let Some(members) = document.as_object() else { return Exit::Done };
    let no = |key: &str| members.get(key).and_then(Value::as_bool) == Some(false);
    let some =
        |key: &str| members.get(key).and_then(Value::as_array).is_some_and(|l| !l.is_empty());
    let own = if no("valid") || some("corruptedItems") {
        Exit::Failed
    } else if no("ok") || some("errors") {
        Exit::Finding
    } else {
        Exit::Done
    };
    members.values().map(worst).max().map_or(own, |below| own.max(below))
}
