//! Who is calling and what they may do. Authentication makes a [`Principal`]; every tool call
//! turns it, with the project it names, into the engine's [`Caller`].

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use llm_memory_engine::api::{Caller, ScopeSet};
use llm_memory_engine::ids::{ProjectId, TenantId, Timestamp};
use llm_memory_engine::item::Sensitivity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a token may be used for. A role does not include another one: a token lists all it has,
/// and [`Role::Admin`] passes every check.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Everything, tokens and configuration included.
    Admin,
    /// Maintenance, journal, migration.
    Operator,
    /// Health, statistics, reports; no item content.
    Monitor,
    /// Reserved for the approval of guarded changes; without effect until something asks for it.
    Approver,
    /// The `memory_*` and `project_*` tools.
    Agent,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] =
        [Self::Admin, Self::Operator, Self::Monitor, Self::Approver, Self::Agent];

    /// The word used in tokens and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Monitor => "monitor",
            Self::Approver => "approver",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            format!("{text:?} is not a role: use admin, operator, monitor, approver or agent")
        })
    }
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Name for provenance, audit and logs.
    pub subject: String,
    /// Roles held.
    pub roles: BTreeSet<Role>,
    /// Tenant; never taken from an argument.
    pub tenant: Option<TenantId>,
    /// Projects allowed; `None` is any.
    pub projects: Option<BTreeSet<ProjectId>>,
    /// Scopes that may be read.
    pub read: ScopeSet,
    /// Scopes that may be written.
    pub write: ScopeSet,
    /// Highest sensitivity visible.
    pub clearance: Sensitivity,
    /// Only sees items it created.
    pub own_only: bool,
    /// Maintenance works on the scopes of every tenant.
    pub every_tenant: bool,
    /// When the token ends.
    pub expires: Option<Timestamp>,
}

impl Principal {
    /// The owner of the data directory, as with stdio or an open loopback server.
    pub fn local_owner() -> Self {
        Self {
            subject: "local".to_owned(),
            roles: BTreeSet::from(Role::ALL),
            tenant: None,
            projects: None,
            read: ScopeSet::ALL,
            write: ScopeSet::ALL,
            clearance: Sensitivity::Private,
            own_only: false,
            every_tenant: true,
            expires: None,
        }
    }

    /// Whether one of `roles` (or admin) is held.
    pub fn has_any(&self, roles: &[Role]) -> bool {
        self.roles.contains(&Role::Admin) || roles.iter().any(|role| self.roles.contains(role))
    }

    /// The project of calls that name none: the server's `own`, unless the token is for others;
    /// then the token's, if it has exactly one.
    pub fn default_project(&self, own: Option<&ProjectId>) -> Option<ProjectId> {
        let allowed =
            |own: &&ProjectId| self.projects.as_ref().is_none_or(|allowed| allowed.contains(*own));
        own.filter(allowed).or_else(|| self.only_project()).cloned()
    }

    fn only_project(&self) -> Option<&ProjectId> {
        self.projects.as_ref().filter(|allowed| allowed.len() == 1)?.first()
    }

    /// The engine's caller for work in `project`; the error names a project that is not allowed.
    pub fn caller(&self, project: Option<ProjectId>) -> Result<Caller, String> {
        if let (Some(project), Some(allowed)) = (&project, &self.projects)
            && !allowed.contains(project)
        {
            let names = allowed.iter().map(ProjectId::as_str).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "project {project} is not allowed for {}: use {names}",
                self.subject
            ));
        }
        // A token for exactly one project need not name it in every call.
        let project = project.or_else(|| self.only_project().cloned());
        Ok(Caller {
            subject: self.subject.clone(),
            tenant: self.tenant.clone(),
            project,
            projects: self.projects.clone(),
            read: self.read,
            write: self.write,
            clearance: self.clearance,
            own_only: self.own_only,
            every_tenant: self.every_tenant,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> ProjectId {
        ProjectId::new(name).unwrap()
    }

    fn held_to(projects: &[&str]) -> Principal {
        let projects = projects.iter().map(|name| project(name)).collect();
        Principal { projects: Some(projects), ..Principal::local_owner() }
    }

    #[test]
    fn the_project_of_the_server_is_that_of_tokens_that_allow_it_and_of_no_others() {
        let own = project("away");
        let default = |principal: Principal| principal.default_project(Some(&own));
        assert_eq!(default(Principal::local_owner()), Some(project("away")));
        assert_eq!(default(held_to(&["away", "home"])), Some(project("away")));
        assert_eq!(default(held_to(&["home"])), Some(project("home")));
        assert_eq!(default(held_to(&["home", "work"])), None);
        assert_eq!(held_to(&["home"]).default_project(None), Some(project("home")));
    }

    #[test]
    fn a_project_that_is_named_and_not_allowed_is_refused() {
        let refused = held_to(&["home"]).caller(Some(project("away"))).unwrap_err();
        assert_eq!(refused, "project away is not allowed for local: use home");
        let caller = held_to(&["home", "work"]).caller(None).unwrap();
        assert_eq!(caller.project, None);
        assert_eq!(caller.projects.unwrap().len(), 2);
    }
}
