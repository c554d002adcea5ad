//! What maintenance last came to: the last verification and the last compaction, whoever asked for
//! them. Kept in `reports/maintenance.json`, so that a restart forgets neither.

use std::collections::BTreeMap;
use std::path::Path;

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kept::Kept;
use crate::mcp::observe::Asked;
use crate::reports::by_scope::{count, documents, unsound};
use crate::reports::damage;
use crate::verified::scope_key;

const NAME: &str = "maintenance.json";
/// Damaged things named; a person looks at the first of them, and the report has them all.
const MAX_NAMED: usize = 10;

/// What a verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Everything it looked at.
    Sound,
    /// Damage.
    Damaged,
    /// It could not look at everything.
    Failed,
}

/// The last verification: of each scope the last, and of all scopes together the worst.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastVerification {
    /// When one last ended.
    pub at: Timestamp,
    /// What it found.
    pub verdict: Verdict,
    /// Scopes that were looked at.
    pub scopes: u64,
    /// Records checked.
    pub checked: u64,
    /// Records damaged or lost.
    pub damaged: u64,
    /// The first of what is damaged by name, a short line each.
    #[serde(default)]
    pub damage: Vec<String>,
}

/// The last compaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastCompaction {
    /// When it ended.
    pub at: Timestamp,
    /// Scopes that were compacted.
    pub scopes: u64,
    /// Bytes on disk before.
    pub bytes_before: u64,
    /// Bytes on disk after.
    pub bytes_after: u64,
}

/// Both.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Last {
    /// `journal.verify`.
    pub verification: Option<LastVerification>,
    /// `maintenance.compact` and its kin.
    pub compaction: Option<LastCompaction>,
}

/// What the last verification of one scope found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ScopeNote {
    checked: u64,
    damaged: u64,
    damage: Vec<String>,
}

/// A verification that could not look at everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FailedNote {
    at: Timestamp,
    asked: String,
}

/// What is kept: scope by scope, so that a scope found sound does not hide another that is not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Notes {
    scopes: BTreeMap<String, ScopeNote>,
    /// When a verification last ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Timestamp>,
    /// The last that failed, until one that was asked for as much went through.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<FailedNote>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compaction: Option<LastCompaction>,
}

impl Notes {
    fn verified(
        &mut self,
        asked: &Asked,
        tenant: Option<&TenantId>,
        result: &Value,
        now: Timestamp,
    ) {
        let scope = asked.scope.as_deref().unwrap_or_default();
        for (label, document) in documents(result, scope, "checkedCount") {
            let key = scope_key(&label, asked, tenant).map_or(label.clone(), |key| key.to_string());
            let lines = damage::of(&label, document).take(MAX_NAMED);
            let note = ScopeNote {
                checked: count(document, "checkedCount"),
                damaged: unsound(document),
                damage: lines.map(|damaged| damaged.line()).collect(),
            };
            self.scopes.insert(key, note);
        }
        self.verified = Some(now);
        self.failed.take_if(|failed| scope == "all" || failed.asked == scope);
    }

    fn verification(&self) -> Option<LastVerification> {
        let at = self.verified.max(self.failed.as_ref().map(|failed| failed.at))?;
        let sum = |of: fn(&ScopeNote) -> u64| self.scopes.values().map(of).sum();
        let damaged = sum(|note| note.damaged);
        let damage = self.scopes.values().flat_map(|note| note.damage.iter().cloned());
        Some(LastVerification {
            at,
            verdict: match (damaged, &self.failed) {
                (0, None) => Verdict::Sound,
                (0, Some(_)) => Verdict::Failed,
                (_, _) => Verdict::Damaged,
            },
            scopes: self.scopes.len() as u64,
            checked: sum(|note| note.checked),
            damaged,
            damage: damage.take(MAX_NAMED).collect(),
        })
    }
}

/// Where they are noted.
#[derive(Debug)]
pub struct Maintained(Kept<Notes>);

impl Default for Maintained {
    fn default() -> Self {
        Self(Kept::new(NAME))
    }
}

impl Maintained {
    /// Reads what was kept in the data folder `root`. A missing or broken file is an empty one.
    pub fn load(disk: &dyn Disk, root: &Path) -> Self {
        Self(Kept::load(disk, root, NAME))
    }

    /// Takes note of what the tool named `dotted` answered (`None`: it failed) to somebody of
    /// `tenant`. Tools that are neither verification nor compaction are none of its business.
    pub fn note(
        &self,
        dotted: &str,
        asked: &Asked,
        tenant: Option<&TenantId>,
        result: Option<&Value>,
        now: Timestamp,
    ) {
        let scope = asked.scope.as_deref().unwrap_or_default();
        let mut notes = self.0.lock();
        match (dotted, result) {
            ("journal.verify", None) => {
                notes.failed = Some(FailedNote { at: now, asked: scope.to_owned() });
            }
            ("journal.verify", Some(result)) => notes.verified(asked, tenant, result, now),
            ("maintenance.compact" | "maintenance.compact.now", Some(result)) => {
                notes.compaction = Some(compaction(scope, result, now));
            }
            ("maintenance.compactSnapshot", Some(result)) => {
                let result = result.get("compacted").unwrap_or(&Value::Null);
                notes.compaction = Some(compaction(scope, result, now));
            }
            _ => return,
        }
        drop(notes);
        self.0.touch();
    }

    /// Both, as they are now.
    pub fn last(&self) -> Last {
        let notes = self.0.lock();
        Last { verification: notes.verification(), compaction: notes.compaction.clone() }
    }

    /// Writes them down if they changed since the last call.
    pub fn save(&self, disk: &dyn Disk, root: &Path) -> Result<(), DiskError> {
        self.0.save(disk, root)
    }
}

fn compaction(asked: &str, result: &Value, at: Timestamp) -> LastCompaction {
    let scopes = documents(result, asked, "bytesBefore");
    let sum = |key: &str| scopes.iter().map(|(_, document)| count(document, key)).sum();
    let (bytes_before, bytes_after) = (sum("bytesBefore"), sum("bytesAfter"));
    LastCompaction { at, scopes: scopes.len() as u64, bytes_before, bytes_after }
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_of_both_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let maintained = Maintained::load(&OsDisk, folder.path());
        assert_eq!(maintained.last(), Last::default());
        let at = Timestamp::from_millis(7);
        let entry = |id: u64| json!({"id": format!("m{id}"), "file": "f", "issue": "lost"});
        let corrupted: Vec<Value> = (0..12).map(entry).collect();
        let verified = json!({
            "global": {"checkedCount": 30, "unsoundCount": 12, "corruptedItems": corrupted},
            "overall": {"valid": false}});
        let asked = |scope: &str| Asked { scope: Some(scope.to_owned()), ..Asked::default() };
        let note = |tool: &str, scope: &str, result: Option<&Value>| {
            maintained.note(tool, &asked(scope), None, result, at);
        };
        note("journal.verify", "all", Some(&verified));
        let compacted = json!({"bytesBefore": 9, "bytesAfter": 4});
        note("maintenance.compact", "global", Some(&compacted));
        note("memory.query", "global", Some(&json!({"checkedCount": 1})));
        // Another scope is sound: that makes this one no better.
        note("journal.verify", "local", Some(&json!({"checkedCount": 5, "unsoundCount": 0})));
        maintained.save(&OsDisk, folder.path()).unwrap();
        let last = Maintained::load(&OsDisk, folder.path()).last();
        let verification = last.verification.unwrap();
        assert_eq!((verification.verdict, verification.damaged), (Verdict::Damaged, 12));
        assert_eq!(verification.damage.len(), MAX_NAMED);
        assert_eq!(verification.damage[9], "global: m9 in f: lost");
        assert_eq!((verification.scopes, verification.checked), (2, 35));
        let compaction = last.compaction.unwrap();
        assert_eq!((compaction.scopes, compaction.bytes_after), (1, 4));
        note("journal.verify", "global", Some(&json!({"checkedCount": 30, "unsoundCount": 0})));
        assert_eq!(maintained.last().verification.unwrap().verdict, Verdict::Sound);
        note("journal.verify", "local", None);
        note("journal.verify", "global", Some(&json!({"checkedCount": 30, "unsoundCount": 0})));
        assert_eq!(maintained.last().verification.unwrap().verdict, Verdict::Failed);
        note("journal.verify", "all", Some(&json!({})));
        assert_eq!(maintained.last().verification.unwrap().verdict, Verdict::Sound);
    }
}
