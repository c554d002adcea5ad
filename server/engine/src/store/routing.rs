//! From what a caller names to the scopes that answer: folders, permissions, opening.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::command::{Visibility, Who};
use super::open::{self, Opening};
use super::read::{Reader, scope_names};
use super::scope::ScopeStore;
use super::{Engine, Failed, Scopes};
use crate::api::Caller;
use crate::error::{EngineError, Result};
use crate::ids::{ProjectId, Scope, ScopeKey, ScopeSelector, TenantId, Timestamp};
use crate::progress::{NoProgress, Progress};

/// Smallest catalog cache of a scope.
const MIN_CATALOG_CACHE: u64 = 1 << 20;

/// What an administrative operation does to the scopes it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Looks at them.
    Read,
    /// Changes them, or what is derived from them.
    Write,
}

impl Access {
    fn allows(self, caller: &Caller, scope: Scope) -> bool {
        match self {
            Self::Read => caller.read.contains(scope),
            Self::Write => caller.write.contains(scope),
        }
    }

    fn refusal(self, caller: &Caller, scope: &str) -> EngineError {
        let what = match self {
            Self::Read => "read",
            Self::Write => "write to",
        };
        EngineError::Forbidden {
            reason: format!("{} may not {what} the scope {scope}", caller.subject),
        }
    }
}

/// The scopes that answer one read, in lookup order, and with whose eyes.
pub(crate) struct Routes {
    pub(crate) scopes: Vec<Arc<ScopeStore>>,
    pub(crate) visibility: Visibility,
    named: Vec<Scope>,
}

impl Routes {
    /// A reader of each scope, all at the same moment.
    pub(crate) fn readers(&self, as_of: Option<Timestamp>) -> Result<Vec<Reader<'_>>> {
        self.scopes.iter().map(|scope| Reader::new(&scope.state, as_of, &self.visibility)).collect()
    }

    /// Has the writers look after the catalogs, when one of them may be what failed a reader.
    pub(crate) fn watch<T>(&self, result: Result<T>) -> Result<T> {
        self.scopes.iter().fold(result, |result, scope| scope.watch(result))
    }

    /// The scopes asked for, for messages.
    pub(crate) fn names(&self) -> String {
        scope_names(&self.named)
    }
}

pub(crate) fn visibility(caller: &Caller) -> Visibility {
    Visibility {
        clearance: caller.clearance,
        owner: caller.own_only.then(|| caller.subject.clone()),
    }
}

pub(crate) fn who(caller: &Caller) -> Who {
    Who { subject: caller.subject.clone(), visibility: visibility(caller) }
}

impl Engine {
    /// The existing scopes that `selector` names (`None`: all, to look up an id) and the caller
    /// may read. A union leaves out what the caller may not read; a scope named alone is refused.
    pub(crate) fn readable(
        &self,
        caller: &Caller,
        selector: Option<ScopeSelector>,
    ) -> Result<Routes> {
        let selector = selector.unwrap_or(ScopeSelector::All);
        let named = selector.scopes();
        let mut scopes = Vec::with_capacity(named.len());
        let mut refused = None;
        for &scope in named {
            if !caller.read.contains(scope) {
                refused = Some(scope);
                continue;
            }
            let Some(key) = key(caller, scope, named.contains(&Scope::Global))? else { continue };
            if let Some(store) = self.existing(&key)? {
                scopes.push(store);
            }
        }
        if let (Some(scope), [_]) = (refused, named) {
            return Err(Access::Read.refusal(caller, scope.as_str()));
        }
        Ok(Routes { scopes, visibility: visibility(caller), named: named.to_vec() })
    }

    /// The scope to write to, created when missing.
    pub(crate) fn writable(&self, caller: &Caller, scope: Scope) -> Result<Arc<ScopeStore>> {
        self.open_scope(&writable_key(caller, scope)?, &NoProgress)
    }

    /// The scope to change an item in, if there is one.
    pub(crate) fn changeable(
        &self,
        caller: &Caller,
        scope: Scope,
    ) -> Result<Option<Arc<ScopeStore>>> {
        self.existing(&writable_key(caller, scope)?)
    }

    /// Scopes an administrative operation works on: those of the caller's project, or, without
    /// one, of every project that the caller may work in. Those of other tenants than the caller's
    /// go by their whole name. A union leaves out what the caller may not touch; it is refused when
    /// that is all of it.
    pub(crate) fn administered(
        &self,
        caller: &Caller,
        selector: ScopeSelector,
        access: Access,
    ) -> Result<Vec<(String, Result<Arc<ScopeStore>>)>> {
        if !selector.scopes().iter().any(|scope| access.allows(caller, *scope)) {
            return Err(access.refusal(caller, selector.as_str()));
        }
        let mut found = Vec::new();
        for key in self.keys_on_disk()? {
            if selector.scopes().contains(&key.scope) && administers(caller, &key, access) {
                let label = match (&key.project, &caller.project) {
                    _ if key.tenant != caller.tenant => key.to_string(),
                    (Some(project), None) => format!("{}/{project}", key.scope),
                    _ => key.scope.to_string(),
                };
                found.push((label, self.open_scope(&key, &NoProgress)));
            }
        }
        Ok(found)
    }

    fn existing(&self, key: &ScopeKey) -> Result<Option<Arc<ScopeStore>>> {
        if let Some(store) = self.scopes.read().known(key)? {
            return Ok(Some(store));
        }
        if self.disk.exists(&self.dir(key))? {
            self.open_scope(key, &NoProgress).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The open scope, opened (and created) when it is not.
    pub(crate) fn open_scope(
        &self,
        key: &ScopeKey,
        progress: &dyn Progress,
    ) -> Result<Arc<ScopeStore>> {
        if let Some(store) = self.scopes.read().known(key)? {
            return Ok(store);
        }
        // Opening can take long; nobody waits for it but who needs this scope.
        let turn = Arc::clone(self.scopes.write().opening.entry(key.clone()).or_default());
        let _turn = turn.lock();
        let cache = {
            let mut scopes = self.scopes.write();
            if let Some(store) = scopes.known(key)? {
                return Ok(store);
            }
            let most = self.options.max_scopes;
            if scopes.open.len() >= most {
                let reason = format!(
                    "{most} scopes are open, which is the most allowed: work in a project there \
                     is, or let an operator raise limits.maxScopes (LLM_MEMORY_MAX_SCOPES) and \
                     restart the server"
                );
                // One that holds something is missed; one that would be new is not.
                if self.disk.exists(&self.dir(key))? {
                    let failed = Failed::since(Instant::now(), reason.clone());
                    scopes.failed.insert(key.clone(), failed);
                }
                scopes.opening.remove(key);
                return Err(EngineError::Unavailable { scope: key.to_string(), reason });
            }
            // Each scope gets half of what is left, so that the sum stays within the budget
            // however many there are, and a store with one large scope uses most of it.
            let left = self.options.cache_bytes.saturating_sub(scopes.cache_given);
            let cache = (left / 2).max(MIN_CATALOG_CACHE);
            scopes.cache_given += cache;
            cache
        };
        let opening = Opening {
            disk: &self.disk,
            dir: &self.dir(key),
            options: &self.options,
            payloads: &self.payloads,
            past: &self.past,
            frames: &self.frames,
            listeners: &self.listeners,
            cache_bytes: usize::try_from(cache).unwrap_or(usize::MAX),
        };
        let begun = Instant::now();
        let opened = open::open(key.clone(), &opening, progress).map(Arc::new);
        let mut scopes = self.scopes.write();
        match opened {
            Ok(store) if scopes.closed => {
                drop(scopes);
                store.writer.stop();
                Err(EngineError::Closed)
            }
            Ok(store) => {
                scopes.failed.remove(key);
                scopes.opening.remove(key);
                scopes.open.insert(key.clone(), Arc::clone(&store));
                Ok(store)
            }
            Err(error) => {
                scopes.cache_given -= cache;
                // A scope that was not even made is not missed: names come from callers.
                if self.disk.exists(&self.dir(key)).unwrap_or(true) {
                    let failed = Failed::since(begun, error.to_string());
                    scopes.failed.insert(key.clone(), failed);
                } else if Arc::strong_count(&turn) == 2 {
                    // The table's and this one: nobody waits for it.
                    scopes.opening.remove(key);
                }
                Err(error)
            }
        }
    }

    /// Scopes that are open, for status.
    pub(crate) fn open_scopes(&self) -> Result<Vec<Arc<ScopeStore>>> {
        let scopes = self.scopes.read();
        if scopes.closed {
            return Err(EngineError::Closed);
        }
        Ok(scopes.open.values().cloned().collect())
    }

    /// Scopes that are there and could not be opened when that was tried last, with the reason.
    pub fn unavailable(&self) -> Vec<(ScopeKey, String)> {
        let scopes = self.scopes.read();
        scopes.failed.iter().map(|(key, failed)| (key.clone(), failed.reason.clone())).collect()
    }

    fn dir(&self, key: &ScopeKey) -> PathBuf {
        let mut dir = self.root.clone();
        if let Some(tenant) = &key.tenant {
            dir.push("tenants");
            dir.push(tenant.as_str());
        }
        dir.push(key.scope.as_str());
        if let Some(project) = &key.project {
            dir.push(project.as_str());
        }
        dir
    }

    /// Every scope that has a folder.
    pub(crate) fn keys_on_disk(&self) -> Result<Vec<ScopeKey>> {
        let mut tenants = vec![None];
        let folder = self.root.join("tenants");
        if self.disk.exists(&folder)? {
            for entry in self.disk.list(&folder)? {
                if let Ok(tenant) = TenantId::new(entry.name) {
                    tenants.push(Some(tenant));
                }
            }
        }
        let mut keys = Vec::new();
        for tenant in tenants {
            let global = ScopeKey { tenant: tenant.clone(), scope: Scope::Global, project: None };
            if self.disk.exists(&self.dir(&global))? {
                keys.push(global.clone());
            }
            for scope in [Scope::Local, Scope::Committed] {
                let folder = self.dir(&ScopeKey { scope, ..global.clone() });
                if !self.disk.exists(&folder)? {
                    continue;
                }
                for entry in self.disk.list(&folder)?.into_iter().filter(|entry| entry.is_dir) {
                    if let Ok(project) = ProjectId::new(entry.name) {
                        let project = Some(project);
                        keys.push(ScopeKey { tenant: tenant.clone(), scope, project });
                    }
                }
            }
        }
        Ok(keys)
    }
}

/// Whether an administrative operation of `caller` includes the scope `key`.
pub(crate) fn administers(caller: &Caller, key: &ScopeKey, access: Access) -> bool {
    let project = key.project.as_ref().is_none_or(|project| {
        caller.project.as_ref().is_none_or(|own| own == project)
            && caller.projects.as_ref().is_none_or(|allowed| allowed.contains(project))
    });
    let tenant = caller.every_tenant || key.tenant == caller.tenant;
    tenant && project && access.allows(caller, key.scope)
}

impl Scopes {
    /// The scope if it is open; the error if it is not to be opened now.
    fn known(&self, key: &ScopeKey) -> Result<Option<Arc<ScopeStore>>> {
        if self.closed {
            return Err(EngineError::Closed);
        }
        if let Some(store) = self.open.get(key) {
            return Ok(Some(Arc::clone(store)));
        }
        match self.failed.get(key) {
            Some(failed) if failed.at.elapsed() < failed.pause => Err(EngineError::Unavailable {
                scope: key.to_string(),
                reason: failed.reason.clone(),
            }),
            _ => Ok(None),
        }
    }
}

/// The journal that `scope` means for the caller. Without a project there is none for local and
/// committed: in a union with the global scope they are then left out, else they are an error.
fn key(caller: &Caller, scope: Scope, union: bool) -> Result<Option<ScopeKey>> {
    let tenant = caller.tenant.clone();
    match (scope, &caller.project) {
        (Scope::Global, _) => Ok(Some(ScopeKey { tenant, scope, project: None })),
        (Scope::Local | Scope::Committed, Some(project)) => {
            Ok(Some(ScopeKey { tenant, scope, project: Some(project.clone()) }))
        }
        (Scope::Local | Scope::Committed, None) if union => Ok(None),
        (Scope::Local | Scope::Committed, None) => Err(no_project(scope)),
    }
}

/// The journal that the caller writes to in `scope`.
fn writable_key(caller: &Caller, scope: Scope) -> Result<ScopeKey> {
    if !caller.write.contains(scope) {
        return Err(EngineError::Forbidden {
            reason: format!("{} may not write to the scope {scope}", caller.subject),
        });
    }
    key(caller, scope, false)?.ok_or_else(|| no_project(scope))
}

fn no_project(scope: Scope) -> EngineError {
    EngineError::invalid(
        "project",
        format!("the scope {scope} belongs to a project: pass project, or use the scope global"),
    )
}
