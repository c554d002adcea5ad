//! What maintenance last came to: the last verification and the last compaction, whoever asked for
//! them. Kept in `reports/maintenance.json`, so that a restart forgets neither.

use std::path::Path;

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kept::Kept;
use crate::reports::by_scope::{count, documents, unsound};
use crate::reports::damage;

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

/// The last verification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastVerification {
    /// When it ended.
    pub at: Timestamp,
    /// What it found.
    pub verdict: Verdict,
    /// Scopes that it looked at.
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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Last {
    /// `journal.verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<LastVerification>,
    /// `maintenance.compact` and its kin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction: Option<LastCompaction>,
}

/// Where they are noted.
#[derive(Debug)]
pub struct Maintained(Kept<Last>);

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

    /// Takes note of what the tool named `dotted` answered (`None`: it failed) when it was asked
    /// for `scope`. Tools that are neither verification nor compaction are none of its business.
    pub fn note(&self, dotted: &str, scope: Option<&str>, result: Option<&Value>, now: Timestamp) {
        let asked = scope.unwrap_or_default();
        let mut last = self.0.lock();
        match (dotted, result) {
            ("journal.verify", None) => {
                last.verification = Some(LastVerification {
                    at: now,
                    verdict: Verdict::Failed,
                    scopes: 0,
                    checked: 0,
                    damaged: 0,
                    damage: Vec::new(),
                });
            }
            ("journal.verify", Some(result)) => {
                last.verification = Some(verification(asked, result, now));
            }
            ("maintenance.compact" | "maintenance.compact.now", Some(result)) => {
                last.compaction = Some(compaction(asked, result, now));
            }
            ("maintenance.compactSnapshot", Some(result)) => {
                let result = result.get("compacted").unwrap_or(&Value::Null);
                last.compaction = Some(compaction(asked, result, now));
            }
            _ => return,
        }
        drop(last);
        self.0.touch();
    }

    /// Both, as they are now.
    pub fn last(&self) -> Last {
        self.0.get()
    }

    /// Writes them down if they changed since the last call.
    pub fn save(&self, disk: &dyn Disk, root: &Path) -> Result<(), DiskError> {
        self.0.save(disk, root)
    }
}

fn verification(asked: &str, result: &Value, at: Timestamp) -> LastVerification {
    let scopes = documents(result, asked, "checkedCount");
    let damaged = scopes.iter().map(|(_, document)| unsound(document)).sum();
    let checked = scopes.iter().map(|(_, document)| count(document, "checkedCount")).sum();
    let verdict = if damaged == 0 { Verdict::Sound } else { Verdict::Damaged };
    let lines = scopes.iter().flat_map(|(scope, document)| damage::of(scope, document));
    let damage = lines.take(MAX_NAMED).map(|damaged| damaged.line()).collect();
    LastVerification { at, verdict, scopes: scopes.len() as u64, checked, damaged, damage }
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
        maintained.note("journal.verify", Some("all"), Some(&verified), at);
        let compacted = json!({"bytesBefore": 9, "bytesAfter": 4});
        maintained.note("maintenance.compact", Some("global"), Some(&compacted), at);
        maintained.note("memory.query", None, Some(&json!({"checkedCount": 1})), at);
        maintained.save(&OsDisk, folder.path()).unwrap();
        let last = Maintained::load(&OsDisk, folder.path()).last();
        let verification = last.verification.unwrap();
        assert_eq!((verification.verdict, verification.damaged), (Verdict::Damaged, 12));
        assert_eq!(verification.damage.len(), MAX_NAMED);
        assert_eq!(verification.damage[9], "global: m9 in f: lost");
        let compaction = last.compaction.unwrap();
        assert_eq!((compaction.scopes, compaction.bytes_after), (1, 4));
    }
}
