//! Local and committed memories of one project, side by side; scope configuration; import.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Engine;
use super::command::{Command, Visibility, Who};
use super::in_flight::InFlight;
use super::query::{Budget, MAX_CHARS, summary_chars};
use super::read::{Reader, limit};
use super::routing::{visibility, who};
use super::scope::ScopeStore;
use super::write::Rules;
use crate::api::{
    Caller, Skipped, SyncMergeRequest, SyncMergeResult, SyncStatus, SyncStatusRequest, WriteResult,
};
use crate::catalog::ReadView;
use crate::config::ScopeConfig;
use crate::error::{EngineError, Result};
use crate::ids::{ItemId, Scope, Timestamp, Version};
use crate::item::{Content, Counters, Summary};
use crate::journal::Op;

/// Items named in each list of a comparison when the caller does not say.
const DEFAULT_NAMED: usize = 100;
/// Most items named in a list; the others are counted.
const MAX_NAMED: usize = 1000;
/// Longest list of a comparison, in characters.
const LIST_CHARS: usize = MAX_CHARS / 4;

impl Engine {
    /// `project.sync.status`: what differs between the project's local and committed scopes.
    pub fn sync_status(&self, caller: &Caller, request: SyncStatusRequest) -> Result<SyncStatus> {
        let limit = limit("limit", request.limit, DEFAULT_NAMED, MAX_NAMED)?;
        let (local, committed) = (
            self.readable(caller, Some(Scope::Local.into()))?,
            self.readable(caller, Some(Scope::Committed.into()))?,
        );
        let local = local.readers(None)?;
        let committed = committed.readers(None)?;
        let (local, committed) = (local.first(), committed.first());
        let (only_local, local_newer) = ahead(local, committed, limit)?;
        let (only_committed, committed_newer) = ahead(committed, local, limit)?;
        Ok(SyncStatus {
            only_local_total: only_local.total,
            only_committed_total: only_committed.total,
            local_newer_total: local_newer.total,
            committed_newer_total: committed_newer.total,
            only_local: only_local.named,
            only_committed: only_committed.named,
            local_newer: local_newer.named,
            committed_newer: committed_newer.named,
        })
    }

    /// `project.sync.merge`: copies local items into the committed scope, under the rules that
    /// hold there now. An item that they refuse, or whose committed copy was written or deleted
    /// later (unless forced), is skipped and named.
    pub fn sync_merge(
        &self,
        caller: &Caller,
        request: SyncMergeRequest,
    ) -> Result<SyncMergeResult> {
        let target = self.writable(caller, Scope::Committed)?;
        let routes = self.readable(caller, Some(Scope::Local.into()))?;
        let readers = routes.readers(None)?;
        let config = target.state.config.load_full();
        let redactor = self.redactor.load_full();
        let into = Into {
            target: &target,
            rules: self.rules(caller, &config, &redactor),
            eyes: visibility(caller),
            who: who(caller),
            force: request.force,
        };
        // Whoever names items learns what became of each.
        let most = request.ids.len().max(MAX_NAMED);
        let (mut merged, mut skipped) = (First::of(most), First::of(most));
        if let Some(local) = readers.first() {
            let mut copy = |id: &ItemId| {
                let left_out = match into.copy(local, id) {
                    // The others are as good as ever.
                    Err(lost @ EngineError::Corrupt { .. }) => Some(lost.to_string()),
                    copied => copied?,
                };
                match left_out {
                    None => merged.push(|| id.clone(), |_| 0),
                    Some(reason) => skipped.push(|| Skipped { id: id.clone(), reason }, |_| 0),
                }
                Ok(true)
            };
            if request.ids.is_empty() {
                local.newest(|seen| copy(&seen.skeleton.id))?;
            }
            for id in &request.ids {
                copy(id)?;
            }
        }
        Ok(SyncMergeResult {
            merged_total: merged.total,
            skipped_total: skipped.total,
            merged: merged.named,
            skipped: skipped.named,
        })
    }

    /// The configuration of one scope.
    pub fn scope_config(&self, caller: &Caller, scope: Scope) -> Result<Arc<ScopeConfig>> {
        let routes = self.readable(caller, Some(scope.into()))?;
        Ok(routes.scopes.first().map_or_else(Arc::default, |scope| scope.state.config.load_full()))
    }

    /// Replaces the configuration of one scope; in force for every operation that begins later.
    pub fn set_scope_config(
        &self,
        caller: &Caller,
        scope: Scope,
        config: &ScopeConfig,
    ) -> Result<()> {
        let store = self.writable(caller, scope)?;
        let bytes = serde_json::to_vec_pretty(&config.to_json()).map_err(|error| {
            EngineError::Internal { context: "write config.json", message: error.to_string() }
        })?;
        let (state, config) = (Arc::clone(&store.state), config.clone());
        // One after the other, so that file and memory never disagree.
        store.writer.run(move |_| {
            if let Some(refusal) = &*state.read_only.lock() {
                return Err(EngineError::ReadOnly { reason: refusal.to_string() });
            }
            state.disk.durable_write(&state.dir.join("config.json"), &bytes)?;
            state.set_config(config);
            Ok(())
        })?;
        let meta = serde_json::Map::new();
        store.writer.write_waiting(Command::Note { op: Op::Config, meta, who: who(caller) })?;
        Ok(())
    }

    /// Reads every open scope's `config.json` again. A file that is not valid keeps the old
    /// settings and is named. A scope that refused writes because of its file takes them again
    /// once the file is valid.
    pub fn reload_configs(&self) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        for scope in self.open_scopes()? {
            match super::open::read_config(&scope.state.disk, &scope.state.dir) {
                Ok(config) => scope.state.set_config(config),
                Err(error) => problems.push(error.to_string()),
            }
        }
        Ok(problems)
    }

    /// Takes items over from another system into one scope, with their times and counters.
    /// Answers how many were written and what was skipped. An item that is stored just so is
    /// neither; one that was changed here since is skipped. One that is replaced keeps the uses and
    /// votes counted here.
    pub fn import(
        &self,
        caller: &Caller,
        scope: Scope,
        items: impl IntoIterator<Item = (Content, Counters)>,
    ) -> Result<(u64, Vec<Skipped>)> {
        let store = self.writable(caller, scope)?;
        let config = store.state.config.load_full();
        let redactor = self.redactor.load_full();
        let rules = self.rules(caller, &config, &redactor);
        let eyes = visibility(caller);
        let mut writes = InFlight::new(&store.writer);
        let mut written = 0;
        let mut skipped = Vec::new();
        for (mut content, counters) in items {
            content.scope = scope;
            let reader = Reader::new(&store.state, None, &eyes)?;
            let version = reader.version(&content.id)?;
            // Whether or not its life is over: it may have been changed here before that.
            let stored = match reader.stored(&content.id) {
                Ok(stored) => stored,
                Err(lost @ EngineError::Corrupt { .. }) => {
                    skipped.push(Skipped { id: content.id, reason: lost.to_string() });
                    continue;
                }
                Err(error) => return Err(error),
            };
            drop(reader);
            let edited = match rules.at(Timestamp::now()).import(stored.as_deref(), &content) {
                Ok(edited) => edited,
                Err(error) => {
                    skipped.push(Skipped { id: content.id, reason: error.to_string() });
                    continue;
                }
            };
            if !edited.changed {
                continue;
            }
            if stored.is_some_and(|stored| stored.updated_at > content.updated_at) {
                let reason = "the stored item was written later: delete it first to import it";
                skipped.push(Skipped { id: content.id, reason: reason.to_owned() });
                continue;
            }
            let id = content.id;
            let command = Command::Import {
                op: Op::Import,
                content: Box::new(edited.content),
                counters: (version == Version(0)).then_some(counters),
                if_version: Some(version),
                who: who(caller),
            };
            if let Some(done) = writes.begin(id, command)? {
                written += u64::from(taken(done, &mut skipped)?);
            }
        }
        while let Some(done) = writes.end() {
            written += u64::from(taken(done, &mut skipped)?);
        }
        Ok((written, skipped))
    }
}

/// The committed scope that items are copied into, and how.
struct Into<'a> {
    target: &'a ScopeStore,
    rules: Rules,
    eyes: Visibility,
    who: Who,
    force: bool,
}

impl Into<'_> {
    /// Copies one item; `Some` says why it was left out.
    fn copy(&self, local: &Reader<'_>, id: &ItemId) -> Result<Option<String>> {
        let state = &self.target.state;
        let Some(seen) = local.find(id)? else {
            return Ok(Some("not found in the local scope".to_owned()));
        };
        let content = local.state.stored(&local.view, id, seen.hash)?;
        let committed = Reader::new(state, None, &self.eyes)?;
        let stored = match committed.find(id)? {
            Some(other) => Some(state.stored(&committed.view, id, other.hash)?),
            None => None,
        };
        let version = committed.version(id)?;
        if !self.force
            && let Some(reason) = outdated(&committed.view, id, &content)?
        {
            return Ok(Some(reason));
        }
        drop(committed);
        // What was stored before a pattern or a limit was set must meet it now that others read it.
        let editor = self.rules.at(Timestamp::now());
        let edited = match editor.copy(&content, stored.as_deref(), Scope::Committed) {
            Ok(edited) => edited,
            Err(refused) => return Ok(Some(refused.to_string())),
        };
        if edited.changed {
            let command = Command::Import {
                op: Op::Sync,
                content: Box::new(edited.content),
                // A committed item has been used by others.
                counters: (version == Version(0)).then_some(seen.counters),
                if_version: Some(version),
                who: self.who.clone(),
            };
            match self.target.writer.write_waiting(command) {
                Ok(_) => {}
                Err(
                    refused @ (EngineError::Forbidden { .. } | EngineError::VersionConflict { .. }),
                ) => return Ok(Some(refused.to_string())),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// Why `content` must not take the place of the committed item: that was written or deleted later.
/// What is not to be seen any more counts as well, or an old copy would undo a deletion.
fn outdated(view: &ReadView, id: &ItemId, content: &Content) -> Result<Option<String>> {
    let Some(record) = view.item(id)? else { return Ok(None) };
    if !record.deleted {
        let newer = record.updated_at > content.updated_at.as_millis();
        return Ok(
            newer.then(|| "the committed item is newer: pass force to overwrite it".to_owned())
        );
    }
    // The record keeps the time of the last write; that of the deletion is with the versions.
    let deletion = view.version_at(id, record.seq)?;
    let later = deletion.is_some_and(|(_, version)| version.ts > content.updated_at.as_millis());
    Ok(later
        .then(|| "the committed item was deleted later: pass force to bring it back".to_owned()))
}

/// Whether an item was taken over; notes why it was refused.
fn taken((id, outcome): (ItemId, Result<WriteResult>), skipped: &mut Vec<Skipped>) -> Result<bool> {
    match outcome {
        Ok(_) => Ok(true),
        Err(refused @ (EngineError::Forbidden { .. } | EngineError::VersionConflict { .. })) => {
            skipped.push(Skipped { id, reason: refused.to_string() });
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

impl super::scope::ScopeState {
    fn set_config(&self, config: ScopeConfig) {
        self.config.store(Arc::new(config));
        *self.config_fault.lock() = None;
        self.config_generation.fetch_add(1, Ordering::Release);
    }
}

/// The first of many, and how many there are.
struct First<T> {
    most: usize,
    named: Vec<T>,
    budget: Budget,
    total: u64,
}

impl<T> First<T> {
    fn of(most: usize) -> Self {
        Self { most, named: Vec::new(), budget: Budget::of(LIST_CHARS), total: 0 }
    }

    /// Counts one more; makes it only when it is named. `chars` says how long it is.
    fn push(&mut self, one: impl FnOnce() -> T, chars: impl FnOnce(&T) -> usize) {
        self.total += 1;
        if self.named.len() >= self.most {
            return;
        }
        let one = one();
        if self.budget.take(chars(&one)) {
            self.named.push(one);
        } else {
            // Nor any that comes later.
            self.most = self.named.len();
        }
    }
}

/// Items of one scope that the other lacks, and those written later than in the other.
fn ahead(
    one: Option<&Reader<'_>>,
    other: Option<&Reader<'_>>,
    limit: usize,
) -> Result<(First<Summary>, First<Summary>)> {
    let (mut only, mut newer) = (First::of(limit), First::of(limit));
    let Some(one) = one else { return Ok((only, newer)) };
    one.newest(|seen| {
        let counterpart = match other {
            Some(other) => other.find(&seen.skeleton.id)?,
            None => None,
        };
        match counterpart {
            None => only.push(|| one.summary(&seen), summary_chars),
            Some(other) if other.skeleton.updated_at < seen.skeleton.updated_at => {
                newer.push(|| one.summary(&seen), summary_chars);
            }
            Some(_) => {}
        }
        Ok(true)
    })?;
    Ok((only, newer))
}
