//! On whose authority a job works: what its requester's token allowed when the job was submitted.
//! It is kept with the job, so that a restart neither widens nor loses it.

use std::collections::BTreeSet;

use llm_memory_engine::api::ScopeSet;
use llm_memory_engine::ids::{ProjectId, Scope, TenantId};
use llm_memory_engine::item::Sensitivity;
use serde::{Deserialize, Serialize};

use crate::access::{Principal, Role};

const SCOPES: [Scope; 3] = [Scope::Global, Scope::Local, Scope::Committed];

/// The part of a [`Principal`] that outlives its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    subject: String,
    roles: BTreeSet<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<TenantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    projects: Option<BTreeSet<ProjectId>>,
    read: Vec<Scope>,
    write: Vec<Scope>,
    clearance: Sensitivity,
    own_only: bool,
}

impl Authority {
    /// That of `principal`.
    pub fn of(principal: &Principal) -> Self {
        let listed =
            |set: ScopeSet| SCOPES.into_iter().filter(|scope| set.contains(*scope)).collect();
        Self {
            subject: principal.subject.clone(),
            roles: principal.roles.clone(),
            tenant: principal.tenant.clone(),
            projects: principal.projects.clone(),
            read: listed(principal.read),
            write: listed(principal.write),
            clearance: principal.clearance,
            own_only: principal.own_only,
        }
    }

    /// The principal that calls are made as.
    pub fn principal(&self) -> Principal {
        Principal {
            subject: self.subject.clone(),
            roles: self.roles.clone(),
            tenant: self.tenant.clone(),
            projects: self.projects.clone(),
            read: ScopeSet::of(self.read.iter().copied()),
            write: ScopeSet::of(self.write.iter().copied()),
            clearance: self.clearance,
            own_only: self.own_only,
            expires: None,
        }
    }

    /// Whether `principal` may see a job that works in `project` on this authority: of the same
    /// tenant, and in no project that is not theirs.
    pub fn is_seen_by(&self, principal: &Principal, project: Option<&ProjectId>) -> bool {
        let Some(allowed) = &principal.projects else { return self.tenant == principal.tenant };
        let within = match (project, &self.projects) {
            (Some(project), _) => allowed.contains(project),
            (None, Some(projects)) => projects.is_subset(allowed),
            (None, None) => false,
        };
        self.tenant == principal.tenant && within
    }

    /// Whether a key of theirs is a key of `principal`.
    pub fn shares_keys_with(&self, principal: &Principal) -> bool {
        self.tenant == principal.tenant && self.subject == principal.subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> ProjectId {
        ProjectId::new(name).unwrap()
    }

    #[test]
    fn authority_survives_being_written_down() {
        let principal = Principal {
            roles: BTreeSet::from([Role::Operator]),
            tenant: Some(TenantId::new("acme").unwrap()),
            projects: Some(BTreeSet::from([project("web")])),
            read: ScopeSet::of([Scope::Local]),
            write: ScopeSet::NONE,
            clearance: Sensitivity::Public,
            ..Principal::local_owner()
        };
        let text = serde_json::to_string(&Authority::of(&principal)).unwrap();
        let back: Authority = serde_json::from_str(&text).unwrap();
        assert_eq!(back.principal(), principal);
    }

    #[test]
    fn jobs_of_other_tenants_and_projects_are_not_seen() {
        let owner = Principal::local_owner();
        let acme = Principal { tenant: Some(TenantId::new("acme").unwrap()), ..owner.clone() };
        let web = Principal { projects: Some(BTreeSet::from([project("web")])), ..owner.clone() };
        let of = |principal: &Principal| Authority::of(principal);
        assert!(of(&owner).is_seen_by(&owner, None));
        assert!(!of(&acme).is_seen_by(&owner, None) && !of(&owner).is_seen_by(&acme, None));
        assert!(of(&web).is_seen_by(&owner, None) && of(&web).is_seen_by(&web, None));
        assert!(!of(&owner).is_seen_by(&web, None), "it works in every project");
        assert!(of(&owner).is_seen_by(&web, Some(&project("web"))));
        assert!(!of(&owner).is_seen_by(&web, Some(&project("app"))));
    }
}
