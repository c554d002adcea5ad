//! When each scope was last found sound. Kept in `reports/verified.json`, so that a restart does
//! not make a verified store look unverified.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::metrics::history;

const NAME: &str = "verified.json";

/// The times, by scope.
#[derive(Debug, Default)]
pub struct Verified {
    times: Mutex<BTreeMap<String, Timestamp>>,
    changed: AtomicBool,
}

impl Verified {
    /// Reads what was kept in the data folder `root`. A missing or broken file is an empty one:
    /// the next verification makes it good.
    pub fn load(disk: &dyn Disk, root: &Path) -> Self {
        let bytes = disk.read(&root.join(history::FOLDER).join(NAME)).unwrap_or_default();
        let times = serde_json::from_slice(&bytes).unwrap_or_default();
        Self { times: Mutex::new(times), changed: AtomicBool::new(false) }
    }

    /// Takes note of a result of `journal.verify`: of one scope, or keyed by scope.
    pub fn note(&self, result: &Value, arguments: &Map<String, Value>, now: Timestamp) {
        let mut times = self.times.lock();
        for scope in sound_scopes(result, arguments) {
            times.insert(scope, now);
            self.changed.store(true, Ordering::Release);
        }
    }

    /// The times.
    pub fn times(&self) -> BTreeMap<String, Timestamp> {
        self.times.lock().clone()
    }

    /// Writes the times down if they changed since the last call.
    pub fn save(&self, disk: &dyn Disk, root: &Path) -> Result<(), DiskError> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let folder = root.join(history::FOLDER);
        let bytes = serde_json::to_vec_pretty(&self.times()).unwrap_or_default();
        let saved = disk
            .create_dir_all(&folder)
            .and_then(|()| disk.durable_write(&folder.join(NAME), &bytes));
        if saved.is_err() {
            self.changed.store(true, Ordering::Release);
        }
        saved
    }
}

fn sound_scopes(result: &Value, arguments: &Map<String, Value>) -> Vec<String> {
    let sound = |value: &Value| value.get("valid").and_then(Value::as_bool) == Some(true);
    let Some(object) = result.as_object() else { return Vec::new() };
    if object.contains_key("checkedCount") {
        let word = |name: &str| arguments.get(name).and_then(Value::as_str);
        let scope = match (word("scope"), word("project")) {
            (Some("global"), _) => Some("global".to_owned()),
            (Some(scope), Some(project)) => Some(format!("{scope}/{project}")),
            // Which project it was is not said; the scope stays as old as it was.
            _ => None,
        };
        return scope.filter(|_| sound(result)).into_iter().collect();
    }
    object
        .iter()
        .filter(|(_, value)| value.get("checkedCount").is_some() && sound(value))
        .map(|(scope, _)| scope.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_sound_scopes_are_noted_and_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let verified = Verified::load(&OsDisk, folder.path());
        let now = Timestamp::from_millis(5_000);
        let results = json!({
            "global": {"valid": true, "checkedCount": 3},
            "local/web": {"valid": false, "checkedCount": 3},
            "overall": {"valid": false},
        });
        verified.note(&results, &Map::new(), now);
        verified.save(&OsDisk, folder.path()).unwrap();
        let again = Verified::load(&OsDisk, folder.path());
        assert_eq!(again.times(), BTreeMap::from([("global".to_owned(), now)]));
    }

    #[test]
    fn the_bare_result_of_one_scope_is_noted_under_its_name() {
        let verified = Verified::default();
        let arguments = json!({"scope": "local", "project": "web"});
        let result = json!({"valid": true, "checkedCount": 0});
        verified.note(&result, arguments.as_object().unwrap(), Timestamp::from_millis(1));
        assert!(verified.times().contains_key("local/web"));
    }
}
