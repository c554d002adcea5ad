//! When each scope was last found sound. Kept in `reports/verified.json`, so that a restart does
//! not make a verified store look unverified.

use std::collections::BTreeMap;
use std::path::Path;

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::{ProjectId, Scope, ScopeKey, TenantId, Timestamp};
use serde_json::Value;

use crate::kept::Kept;
use crate::mcp::observe::Asked;

const NAME: &str = "verified.json";

/// The times, by scope, named as in [`ScopeKey`].
#[derive(Debug)]
pub struct Verified(Kept<BTreeMap<String, Timestamp>>);

impl Default for Verified {
    fn default() -> Self {
        Self(Kept::new(NAME))
    }
}

impl Verified {
    /// Reads what was kept in the data folder `root`. A missing or broken file is an empty one:
    /// the next verification makes it good.
    pub fn load(disk: &dyn Disk, root: &Path) -> Self {
        Self(Kept::load(disk, root, NAME))
    }

    /// Takes note of what `journal.verify` answered to somebody of `tenant`: a result of one
    /// scope, or results keyed by scope.
    pub fn note(&self, result: &Value, asked: &Asked, tenant: Option<&TenantId>, now: Timestamp) {
        let mut times = self.0.lock();
        for label in sound_scopes(result, asked) {
            // Without a project nobody knows which one it was; the scope stays as old as it was.
            let Some(key) = scope_key(label, asked, tenant) else { continue };
            times.insert(key.to_string(), now);
            self.0.touch();
        }
    }

    /// The times.
    pub fn times(&self) -> BTreeMap<String, Timestamp> {
        self.0.get()
    }

    /// Writes the times down if they changed since the last call.
    pub fn save(&self, disk: &dyn Disk, root: &Path) -> Result<(), DiskError> {
        self.0.save(disk, root)
    }
}

/// Labels of the scopes found sound, as the answer has them.
fn sound_scopes<'a>(result: &'a Value, asked: &'a Asked) -> Vec<&'a str> {
    let sound = |value: &Value| value.get("valid").and_then(Value::as_bool) == Some(true);
    let Some(object) = result.as_object() else { return Vec::new() };
    if object.contains_key("checkedCount") {
        return asked.scope.as_deref().filter(|_| sound(result)).into_iter().collect();
    }
    object
        .iter()
        .filter(|(_, value)| value.get("checkedCount").is_some() && sound(value))
        .map(|(label, _)| label.as_str())
        .collect()
}

/// The scope behind a label: `local/web`, or `local` for that of the project worked in, with the
/// tenant before it, as in `acme:local/web`, where it is not that of the caller.
pub(crate) fn scope_key(label: &str, asked: &Asked, tenant: Option<&TenantId>) -> Option<ScopeKey> {
    let (tenant, label) = match label.split_once(':') {
        Some((other, label)) => (Some(TenantId::new(other).ok()?), label),
        None => (tenant.cloned(), label),
    };
    let (scope, project) = match label.split_once('/') {
        Some((scope, project)) => (scope, Some(project)),
        None => (label, asked.project.as_deref()),
    };
    let scope = scope.parse().ok()?;
    let project = match scope {
        Scope::Global => None,
        Scope::Local | Scope::Committed => Some(ProjectId::new(project?).ok()?),
    };
    Some(ScopeKey { tenant, scope, project })
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
        verified.note(&results, &Asked::default(), None, now);
        verified.save(&OsDisk, folder.path()).unwrap();
        let again = Verified::load(&OsDisk, folder.path());
        assert_eq!(again.times(), BTreeMap::from([("global".to_owned(), now)]));
    }

    fn in_project(scope: &str) -> Asked {
        let (scope, project) = (Some(scope.to_owned()), Some("web".to_owned()));
        Asked { scope, project, ..Asked::default() }
    }

    fn names(verified: &Verified) -> Vec<String> {
        verified.times().into_keys().collect()
    }

    #[test]
    fn results_are_noted_under_the_full_name_of_their_scope() {
        let verified = Verified::default();
        let sound = json!({"valid": true, "checkedCount": 0});
        verified.note(&sound, &in_project("local"), None, Timestamp::from_millis(1));
        assert_eq!(names(&verified), ["local/web"]);
        let several = json!({"committed": sound, "global": sound, "local": sound});
        verified.note(&several, &in_project("all"), None, Timestamp::from_millis(1));
        assert_eq!(names(&verified), ["committed/web", "global", "local/web"]);
        let nowhere = Asked { project: None, ..in_project("local") };
        verified.note(&sound, &nowhere, None, Timestamp::from_millis(2));
        assert!(verified.times().values().all(|when| *when == Timestamp::from_millis(1)));
    }

    #[test]
    fn what_a_tenant_verifies_is_noted_as_that_of_the_tenant() {
        let verified = Verified::default();
        let tenant = TenantId::new("acme").unwrap();
        let result = json!({"valid": true, "checkedCount": 0});
        verified.note(&result, &in_project("global"), Some(&tenant), Timestamp::from_millis(1));
        verified.note(&result, &in_project("local"), Some(&tenant), Timestamp::from_millis(1));
        assert_eq!(names(&verified), ["acme:global", "acme:local/web"]);
        let of_all = json!({"global": result, "other:local/app": result});
        verified.note(&of_all, &in_project("all"), None, Timestamp::from_millis(2));
        let all = ["acme:global", "acme:local/web", "global", "other:local/app"];
        assert_eq!(names(&verified), all);
    }
}
