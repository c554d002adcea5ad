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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    every_tenant: bool,
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
            every_tenant: principal.every_tenant,
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
            every_tenant: self.every_tenant,
            expires: None,
        }
    }

    /// Whether `principal` may see a job that works on `scopes` of `project` on this authority: of
    /// the same tenant, in no project and no scope that is not theirs to read, since results name
    /// what lies there. A job over the scopes of every tenant is seen by those who may work there.
    /// Who sees only their own memories sees only their own jobs.
    pub fn is_seen_by(
        &self,
        principal: &Principal,
        project: Option<&ProjectId>,
        scopes: &[Scope],
    ) -> bool {
        let own = self.subject == principal.subject;
        // What the job itself may not read, it names to nobody.
        let read = scopes.iter().filter(|scope| self.read.contains(scope));
        if !read.copied().all(|scope| principal.read.contains(scope))
            || (principal.own_only && !own)
            || (self.every_tenant && !principal.every_tenant)
        {
            return false;
        }
        let Some(allowed) = &principal.projects else { return self.tenant == principal.tenant };
        let within = match (project, &self.projects) {
            (Some(project), _) => allowed.contains(project),
            (None, Some(projects)) => projects.is_subset(allowed),
            (None, None) => false,
        };
        self.tenant == principal.tenant && within
    }

    /// Whether `principal`, who sees a job that works on `scopes`, may take it back: their own, or
    /// one that changes nothing but what they may write.
    pub fn is_cancelled_by(&self, principal: &Principal, scopes: &[Scope]) -> bool {
        self.subject == principal.subject
            || scopes.iter().all(|scope| principal.write.contains(*scope))
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
        let seen = |by: &Principal, who: &Principal, project: Option<&ProjectId>| {
            of(by).is_seen_by(who, project, &SCOPES)
        };
        assert!(seen(&owner, &owner, None));
        assert!(!seen(&acme, &owner, None) && !seen(&owner, &acme, None));
        assert!(seen(&web, &owner, None) && seen(&web, &web, None));
        assert!(!seen(&owner, &web, None), "it works in every project");
        assert!(seen(&owner, &web, Some(&project("web"))));
        assert!(!seen(&owner, &web, Some(&project("app"))));
    }

    #[test]
    fn jobs_over_every_tenant_are_seen_by_those_who_may_work_there() {
        let whole = Principal::local_owner();
        let part = Principal { every_tenant: false, ..whole.clone() };
        let seen = |by: &Principal, who: &Principal| {
            Authority::of(by).is_seen_by(who, Some(&project("web")), &SCOPES)
        };
        assert!(!seen(&whole, &part));
        assert!(seen(&whole, &whole) && seen(&part, &whole) && seen(&part, &part));
    }

    #[test]
    fn jobs_in_scopes_that_may_not_be_read_are_not_seen_nor_others_taken_back() {
        let owner = Principal::local_owner();
        let local = Principal {
            subject: "ci".to_owned(),
            read: ScopeSet::of([Scope::Local]),
            write: ScopeSet::NONE,
            ..owner.clone()
        };
        let of = Authority::of(&owner);
        assert!(!of.is_seen_by(&local, None, &SCOPES));
        assert!(of.is_seen_by(&local, None, &[Scope::Local]));
        assert!(!of.is_cancelled_by(&local, &[Scope::Local]));
        let theirs = Authority::of(&local);
        assert!(theirs.is_seen_by(&local, None, &SCOPES), "it reads no more than they do");
        assert!(theirs.is_cancelled_by(&local, &SCOPES));
        let own_only = Principal { subject: "me".to_owned(), own_only: true, ..owner };
        assert!(!of.is_seen_by(&own_only, None, &[Scope::Local]));
    }
}
