//! Arguments and results of the engine's operations, as the tools, the command line and the
//! reference pages show them. Field names are the reference system's (camelCase); unknown
//! arguments are errors.

mod admin;
mod read;
mod write;

pub use admin::*;
pub use read::*;
pub use write::*;

use std::collections::BTreeSet;

use crate::ids::{ProjectId, Scope, TenantId};
use crate::item::Sensitivity;

/// Who calls, as the token says. Arguments never widen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Subject written into provenance and the journal's `actor`.
    pub subject: String,
    /// Tenant the token belongs to.
    pub tenant: Option<TenantId>,
    /// Project this call works in; `local` and `committed` need one.
    pub project: Option<ProjectId>,
    /// Projects allowed; `None` is any. What works on several projects leaves the others out.
    pub projects: Option<BTreeSet<ProjectId>>,
    /// Scopes that may be read.
    pub read: ScopeSet,
    /// Scopes that may be written.
    pub write: ScopeSet,
    /// Items above this sensitivity do not exist for the caller.
    pub clearance: Sensitivity,
    /// When true, only items the subject created exist for the caller.
    pub own_only: bool,
    /// When true, maintenance works on the scopes of every tenant. Reading and writing items keeps
    /// to the caller's own.
    pub every_tenant: bool,
}

impl Caller {
    /// A caller who may do everything in `project`, such as the owner of a data directory.
    pub fn unrestricted(subject: impl Into<String>, project: Option<ProjectId>) -> Self {
        Self {
            subject: subject.into(),
            tenant: None,
            project,
            projects: None,
            read: ScopeSet::ALL,
            write: ScopeSet::ALL,
            clearance: Sensitivity::Private,
            own_only: false,
            every_tenant: false,
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// No scope.
    pub const NONE: Self = Self(0);
    /// Every scope.
    pub const ALL: Self = Self(0b111);

    /// The set of `scopes`.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | Self::bit(scope)))
    }

    /// Whether `scope` is in the set.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & Self::bit(scope) != 0
    }

    const fn bit(scope: Scope) -> u8 {
        match scope {
            Scope::Global => 1,
            Scope::Local => 2,
            Scope::Committed => 4,
        }
    }
}
