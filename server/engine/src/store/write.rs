//! Operations that change items. Everything that can be checked or computed without the stored
//! item happens here, on the caller's thread; the rest is a [`Command`] for the scope's writer.

use std::sync::Arc;

use super::Engine;
use super::command::{Command, Edit, Join, Ready, Upsert};
use super::read::Reader;
use super::routing::{visibility, who};
use super::scope::ScopeStore;
use crate::api::{
    AppendRequest, Caller, DeleteRequest, FeedbackRequest, ItemRequest, LinkRequest, MergeRequest,
    NearDuplicate, PatchRequest, RenewRequest, TagRequest, UpsertRequest, WriteResult,
};
use crate::catalog::{Blob, ReadView};
use crate::config::ScopeConfig;
use crate::error::{EngineError, Result};
use crate::ids::{ItemId, Scope, Seq, Timestamp, Version};
use crate::item::edit::{Edited, Editor};
use crate::item::redaction::Redactor;
use crate::item::similarity::Sketch;
use crate::item::{Content, Counters};
use crate::journal::Op;

/// Candidates looked at in each similarity band.
const SIMILAR_CANDIDATES: usize = 32;
/// Near duplicates named in an answer.
const SIMILAR_SHOWN: usize = 3;

impl Engine {
    /// `memory.upsert`.
    pub fn upsert(&self, caller: &Caller, mut request: UpsertRequest) -> Result<WriteResult> {
        let scope = self.writable(caller, request.scope)?;
        let config = scope.state.config.load_full();
        let if_version = request.if_version.take();
        let redactor = self.redactor.load_full();
        // As if the item were new; what is kept of a stored one, the writer fills in.
        let rules = self.rules(caller, &config, &redactor);
        let (edited, keep) = rules.at(Timestamp::now()).upsert(request)?;
        let (redactions, warnings) = (edited.redactions, edited.warnings);
        let content = edited.content;
        if keep.sensitivity && content.sensitivity > caller.clearance {
            scope.watch(not_hidden_from_its_writer(&scope, caller, &content))?;
        }
        let ready = Ready::of(&content);
        let near_duplicates = match ready.sketch() {
            Some(sketch) => scope.watch(similar(&scope, caller, &content.id, sketch, &config))?,
            None => Vec::new(),
        };
        let upsert = Upsert { content, ready, keep, if_version, who: who(caller) };
        let done = scope.writer.write(Command::Upsert(Box::new(upsert)))?;
        Ok(WriteResult { redactions, warnings, near_duplicates, ..done })
    }

    /// `memory.delete`.
    pub fn delete(&self, caller: &Caller, request: DeleteRequest) -> Result<WriteResult> {
        let DeleteRequest { id, scope, erase, if_version } = request;
        let most = if erase { Gone::Deleted } else { Gone::Expired };
        let scope = self.holder(caller, &id, scope, most)?;
        scope.writer.write(Command::Delete {
            op: Op::Delete,
            id,
            if_version,
            erase,
            who: who(caller),
        })
    }

    /// `memory.pin`.
    pub fn pin(&self, caller: &Caller, request: ItemRequest) -> Result<WriteResult> {
        self.set_pinned(caller, request, Op::Pin, true)
    }

    /// `memory.unpin`.
    pub fn unpin(&self, caller: &Caller, request: ItemRequest) -> Result<WriteResult> {
        self.set_pinned(caller, request, Op::Unpin, false)
    }

    fn set_pinned(
        &self,
        caller: &Caller,
        request: ItemRequest,
        op: Op,
        pinned: bool,
    ) -> Result<WriteResult> {
        let ItemRequest { id, scope } = request;
        let holder = self.holder(caller, &id, scope, Gone::No)?;
        self.edit(caller, &holder, op, id, None, move |editor, stored| editor.pin(stored, pinned))
    }

    /// `memory.tag`.
    pub fn tag(&self, caller: &Caller, request: TagRequest) -> Result<WriteResult> {
        let holder = self.holder(caller, &request.id, request.scope, Gone::No)?;
        let id = request.id.clone();
        self.edit(caller, &holder, Op::Tag, id, None, move |editor, stored| {
            editor.tag(stored, &request)
        })
    }

    /// `memory.patch`.
    pub fn patch(&self, caller: &Caller, request: PatchRequest) -> Result<WriteResult> {
        let holder = self.holder(caller, &request.id, request.scope, Gone::No)?;
        let (id, if_version) = (request.id.clone(), request.if_version);
        self.edit(caller, &holder, Op::Patch, id, if_version, move |editor, stored| {
            editor.patch(stored, &request)
        })
    }

    /// `memory.append`.
    pub fn append(&self, caller: &Caller, request: AppendRequest) -> Result<WriteResult> {
        let holder = self.holder(caller, &request.id, request.scope, Gone::No)?;
        let id = request.id.clone();
        self.edit(caller, &holder, Op::Append, id, None, move |editor, stored| {
            editor.append(stored, &request)
        })
    }

    /// `memory.link`.
    pub fn link(&self, caller: &Caller, request: LinkRequest) -> Result<WriteResult> {
        let holder = self.holder(caller, &request.from, request.scope, Gone::No)?;
        if !request.remove {
            let eyes = visibility(caller);
            let reader = Reader::new(&holder.state, None, &eyes)?;
            if reader.find(&request.to)?.is_none() {
                let scope = holder.state.key.scope.to_string();
                return Err(EngineError::NotFound { id: request.to, scope });
            }
        }
        let id = request.from.clone();
        self.edit(caller, &holder, Op::Link, id, None, move |editor, stored| {
            editor.link(stored, &request)
        })
    }

    /// `memory.renew`. Also brings back an item whose life is over but which is not pruned yet.
    pub fn renew(&self, caller: &Caller, request: RenewRequest) -> Result<WriteResult> {
        let RenewRequest { id, scope, ttl_days } = request;
        let holder = self.holder(caller, &id, scope, Gone::Expired)?;
        self.edit(caller, &holder, Op::Renew, id, None, move |editor, stored| {
            editor.renew(stored, ttl_days)
        })
    }

    /// `memory.feedback`.
    pub fn feedback(&self, caller: &Caller, request: FeedbackRequest) -> Result<WriteResult> {
        let FeedbackRequest { id, scope, helpful } = request;
        let holder = self.holder(caller, &id, scope, Gone::No)?;
        holder.writer.write(Command::Count {
            op: Op::Feedback,
            id,
            who: who(caller),
            count: Box::new(move |counters, now| counters.record_vote(now, helpful)),
        })
    }

    /// `memory.use`.
    pub fn record_use(&self, caller: &Caller, request: ItemRequest) -> Result<WriteResult> {
        let ItemRequest { id, scope } = request;
        let holder = self.holder(caller, &id, scope, Gone::No)?;
        holder.writer.write(Command::Count {
            op: Op::Use,
            id,
            who: who(caller),
            count: Box::new(Counters::record_use),
        })
    }

    /// `memory.merge`.
    pub fn merge(&self, caller: &Caller, request: MergeRequest) -> Result<WriteResult> {
        let Some(first) = request.source_ids.first() else {
            return Err(EngineError::invalid("sourceIds", "give at least one item"));
        };
        let scope = self.holder(caller, first, Some(request.scope), Gone::No)?;
        let target = request.target_id.clone().unwrap_or_else(|| first.clone());
        let sources = request.source_ids.clone();
        let delete_sources = request.delete_source;
        let config = scope.state.config.load_full();
        let redactor = self.redactor.load_full();
        let rules = self.rules(caller, &config, &redactor);
        let join: Join = Box::new(move |base: Option<&Content>, sources: &[&Content], now| {
            rules.at(now).merge(sources, base, &request)
        });
        let who = who(caller);
        scope.writer.write(Command::Merge { target, sources, delete_sources, who, join })
    }

    /// Changes a stored item by `change`.
    fn edit(
        &self,
        caller: &Caller,
        holder: &ScopeStore,
        op: Op,
        id: ItemId,
        if_version: Option<Version>,
        change: impl FnOnce(Editor<'_>, &Content) -> Result<Edited> + Send + 'static,
    ) -> Result<WriteResult> {
        let config = holder.state.config.load_full();
        let redactor = self.redactor.load_full();
        let rules = self.rules(caller, &config, &redactor);
        let edit: Edit = Box::new(move |stored, now| change(rules.at(now), stored));
        let (who, expired_too) = (who(caller), op == Op::Renew);
        holder.writer.write(Command::Edit { op, id, if_version, expired_too, who, edit })
    }

    pub(crate) fn rules(
        &self,
        caller: &Caller,
        config: &Arc<ScopeConfig>,
        redactor: &Arc<Redactor>,
    ) -> Rules {
        Rules {
            actor: caller.subject.clone(),
            max_item_bytes: self.options.max_item_bytes,
            config: Arc::clone(config),
            redactor: Arc::clone(redactor),
        }
    }

    /// The writable scope that holds `id`, one that holds it alive before one where it is gone, up
    /// to `most`; a scope that is named need not hold it, but be there.
    fn holder(
        &self,
        caller: &Caller,
        id: &ItemId,
        scope: Option<Scope>,
        most: Gone,
    ) -> Result<Arc<ScopeStore>> {
        if let Some(scope) = scope {
            // What changes an item never creates a scope: the name may be mistyped.
            return self
                .changeable(caller, scope)?
                .ok_or_else(|| EngineError::NotFound { id: id.clone(), scope: scope.to_string() });
        }
        let routes = self.readable(caller, None)?;
        let now = Timestamp::now();
        let mut held: Option<(Gone, Scope)> = None;
        for scope in &routes.scopes {
            let stored = scope.watch(scope.state.read().and_then(|view| {
                let Some(item) = view.item(id)? else { return Ok(None) };
                let gone = match (item.deleted, item.expired_at(now)) {
                    (true, _) if most < Gone::Deleted || !has_bodies(&view, id)? => {
                        return Ok(None);
                    }
                    (true, _) => Gone::Deleted,
                    (false, true) => Gone::Expired,
                    (false, false) => Gone::No,
                };
                Ok(Some((gone, item)))
            }))?;
            let Some((gone, item)) = stored else { continue };
            if gone <= most
                && held.is_none_or(|(other, _)| gone < other)
                && routes.visibility.admits(item.sensitivity(), &item.created_by)
            {
                held = Some((gone, scope.state.key.scope));
            }
        }
        match held {
            Some((_, scope)) => self.writable(caller, scope),
            None => Err(EngineError::NotFound { id: id.clone(), scope: routes.names() }),
        }
    }
}

/// Whether a version of the item is left to erase.
fn has_bodies(view: &ReadView, id: &ItemId) -> Result<bool> {
    for entry in view.versions(id, Seq(u64::MAX))? {
        let (_, version) = entry?;
        if !version.deleted && view.blob(version.hash.into())? != Some(Blob::Erased) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an item is there for its readers, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gone {
    No,
    /// Its life is over.
    Expired,
    Deleted,
}

/// The rules an edit obeys, owned so that they can travel to the writer's thread.
pub(crate) struct Rules {
    actor: String,
    max_item_bytes: usize,
    config: Arc<ScopeConfig>,
    redactor: Arc<Redactor>,
}

impl Rules {
    /// An editor at the moment `now`.
    pub(crate) fn at(&self, now: Timestamp) -> Editor<'_> {
        Editor {
            actor: &self.actor,
            now,
            max_item_bytes: self.max_item_bytes,
            config: &self.config,
            redactor: &self.redactor,
        }
    }
}

/// Refuses a new item that its writer could not read, without having asked for that: what is lost
/// so is not noticed. To make it less secret than the scope's items are is for the writer to say.
fn not_hidden_from_its_writer(
    scope: &ScopeStore,
    caller: &Caller,
    content: &Content,
) -> Result<()> {
    let stored = scope.state.read()?.item(&content.id)?;
    if stored.is_some_and(|item| !item.deleted) {
        // It keeps its own.
        return Ok(());
    }
    let (default, clearance) = (content.sensitivity, caller.clearance);
    Err(EngineError::invalid(
        "sensitivity",
        format!(
            "left out it would be {default}, which you may not read yourself: give one up to \
             {clearance}"
        ),
    ))
}

/// Stored items that say nearly the same, as far as the caller may know.
fn similar(
    scope: &ScopeStore,
    caller: &Caller,
    id: &ItemId,
    sketch: &Sketch,
    config: &ScopeConfig,
) -> Result<Vec<NearDuplicate>> {
    if !config.duplicates.enabled {
        return Ok(Vec::new());
    }
    let view = scope.state.read()?;
    let eyes = visibility(caller);
    let mut found = Vec::new();
    for (other, stored) in view.similar(sketch, SIMILAR_CANDIDATES)? {
        let similarity = sketch.similarity(&stored);
        if other == *id || similarity < config.duplicates.threshold {
            continue;
        }
        if let Some(item) = view.item(&other)?
            && !item.deleted
            && eyes.admits(item.sensitivity(), &item.created_by)
        {
            found.push(NearDuplicate { id: other, similarity, title: item.title });
        }
    }
    found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then_with(|| a.id.cmp(&b.id)));
    found.truncate(SIMILAR_SHOWN);
    Ok(found)
}
