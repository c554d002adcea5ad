//! Verification: every hash of the journal, and the views against it.

use serde::Serialize;
use serde_json::{Value, json};

use super::call::Calls;
use crate::exit::Exit;
use crate::reports::by_scope::{count, documents, entries, unsound};
use crate::reports::damage::{self, Damaged};
use crate::tools::ToolError;

/// Damage named one by one.
const MAX_NAMED: usize = 100;
/// Damage named in a sentence.
const MAX_TOLD: usize = 3;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verification {
    /// Nothing is damaged and the views agree.
    pub(super) sound: bool,
    /// Records checked.
    pub(super) checked: u64,
    /// Records damaged or lost.
    pub(super) unsound: u64,
    /// Scope by scope.
    pub(super) scopes: Vec<ScopeVerdict>,
    /// What is damaged, the first of it.
    pub(super) damaged: Vec<Damaged>,
    /// What `journal.verify` answered.
    pub(super) journal: Value,
    /// What `maintenance.verify` answered.
    pub(super) views: Value,
}

/// One scope.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScopeVerdict {
    /// Which.
    pub(super) scope: String,
    /// Sound records over checked ones.
    pub(super) integrity: f64,
    /// Records damaged or lost.
    pub(super) unsound: u64,
    /// The views agree with the journal.
    pub(super) views_agree: bool,
}

/// Verifies what `arguments` name; `asked` is the scope among them.
pub(super) fn verify(
    calls: &Calls<'_>,
    asked: &str,
    arguments: &Value,
) -> Result<Verification, ToolError> {
    let journal = calls.call("verify the journal", "journal.verify", arguments.clone())?;
    let views = calls.call("verify the views", "maintenance.verify", arguments.clone());
    let views = match views {
        Ok(views) => views,
        // What cannot be read cannot be compared either; the journal's report says why.
        Err(error) if unsound_in(&journal, asked) => json!({ "error": error.to_string() }),
        Err(error) => return Err(error),
    };
    Ok(Verification::of(asked, journal, views))
}

fn unsound_in(journal: &Value, asked: &str) -> bool {
    documents(journal, asked, "checkedCount").iter().any(|(_, document)| unsound(document) > 0)
}

impl Verification {
    fn of(asked: &str, journal: Value, views: Value) -> Self {
        let mut scopes: Vec<ScopeVerdict> = Vec::new();
        let mut damaged = Vec::new();
        let mut checked = 0;
        for (scope, document) in documents(&journal, asked, "checkedCount") {
            checked += count(document, "checkedCount");
            damaged.extend(damage::of(&scope, document).take(MAX_NAMED));
            scopes.push(ScopeVerdict {
                integrity: document.get("integrityScore").and_then(Value::as_f64).unwrap_or(1.0),
                unsound: unsound(document),
                views_agree: true,
                scope,
            });
        }
        for (scope, document) in documents(&views, asked, "watermarks") {
            if document.get("ok").and_then(Value::as_bool) != Some(false) {
                continue;
            }
            match scopes.iter_mut().find(|known| known.scope == scope) {
                Some(known) => known.views_agree = false,
                // Labels change when a scope is made between the two questions.
                None => scopes.push(ScopeVerdict {
                    scope: scope.clone(),
                    integrity: 1.0,
                    unsound: 0,
                    views_agree: false,
                }),
            }
            let issues = document.get("issues").and_then(Value::as_array);
            damaged
                .extend(issues.into_iter().flatten().map(|issue| Damaged::of_view(&scope, issue)));
            if entries(document, "issues") == 0 {
                let issue = "the views do not agree with the journal".into();
                damaged.push(Damaged::of_view(&scope, &issue));
            }
        }
        damaged.truncate(MAX_NAMED);
        let unsound = scopes.iter().map(|scope| scope.unsound).sum();
        let agree = scopes.iter().all(|scope| scope.views_agree);
        Self { sound: unsound == 0 && agree, checked, unsound, scopes, damaged, journal, views }
    }

    /// How bad it is: damage is for a person to look at.
    pub(super) const fn exit(&self) -> Exit {
        if self.sound { Exit::Done } else { Exit::Finding }
    }

    /// The same in a sentence.
    pub(super) fn summary(&self) -> String {
        let scopes = self.scopes.len();
        if self.sound {
            return format!("{} records in {scopes} scopes verified, all sound", self.checked);
        }
        let mut told: Vec<String> = self.damaged.iter().take(MAX_TOLD).map(Damaged::line).collect();
        if self.damaged.len() > MAX_TOLD {
            told.push("and more".to_owned());
        }
        let disagree = self.scopes.iter().filter(|scope| !scope.views_agree).count();
        format!(
            "{} of {} records in {scopes} scopes are damaged or lost, the views of {disagree} \
             scopes disagree ({})",
            self.unsound,
            self.checked,
            told.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_named_with_its_scope_item_and_segment() {
        let journal = json!({
            "global": {"checkedCount": 4, "unsoundCount": 1, "integrityScore": 0.75,
                "corruptedItems": [{"id": "a", "version": 2, "seq": 3,
                    "file": "journal/1.ndjson", "issue": "hash differs"}]},
            "local/web": {"checkedCount": 6, "unsoundCount": 0, "integrityScore": 1.0,
                "corruptedItems": []},
            "overall": {"valid": false}});
        let views = json!({
            "global": {"ok": true, "watermarks": {}, "issues": []},
            "local/web": {"ok": false, "watermarks": {}, "issues": ["item b is missing"]}});
        let found = Verification::of("all", journal, views);
        assert_eq!((found.sound, found.checked, found.unsound), (false, 10, 1));
        assert_eq!(found.exit(), Exit::Finding);
        let named = serde_json::to_value(&found.damaged).unwrap();
        assert_eq!(
            named,
            json!([
                {"scope": "global", "id": "a", "version": 2, "seq": 3,
                    "file": "journal/1.ndjson", "issue": "hash differs"},
                {"scope": "local/web", "issue": "item b is missing"},
            ])
        );
        assert!(!found.scopes[1].views_agree);
        assert_eq!(
            found.summary(),
            "1 of 10 records in 2 scopes are damaged or lost, the views of 1 scopes disagree \
             (global: a in journal/1.ndjson: hash differs; local/web: item b is missing)"
        );
    }

    #[test]
    fn the_bare_document_of_one_scope_is_understood() {
        let journal = json!({"checkedCount": 2, "unsoundCount": 0, "integrityScore": 1.0,
            "corruptedItems": []});
        let views = json!({"ok": true, "watermarks": {}, "issues": []});
        let found = Verification::of("global", journal, views);
        assert!(found.sound);
        assert_eq!(found.summary(), "2 records in 1 scopes verified, all sound");
    }
}
