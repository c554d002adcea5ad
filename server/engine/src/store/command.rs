//! Commands of the writer, and how each is decided.
//!
//! Deciding looks at the state left by the commands before it, in the same transaction, and either
//! stages journal records or refuses without having staged anything.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::ChangeEvent;
use super::payloads::bytes_of;
use super::scope::{ScopeState, Views};
use super::source::{index_doc, settle};
use crate::api::WriteResult;
use crate::catalog::{Applied, Applier, Blob, COUNTERS_META, ERASE_META, ItemRecord};
use crate::error::{EngineError, Result};
use crate::ids::{Digest, ItemId, Seq, Timestamp, Version};
use crate::item::edit::{Edited, Keep, expect_version, says_the_same};
use crate::item::similarity::Sketch;
use crate::item::{Content, Counters, Sensitivity, canonical};
use crate::journal::{Draft, Journal, MORE_META, Op, Record};
use crate::text::{Prepared, PreparedChange};

/// What the caller may see: other items do not exist for them.
#[derive(Debug, Clone)]
pub(crate) struct Visibility {
    pub(crate) clearance: Sensitivity,
    /// Only items created by this subject.
    pub(crate) owner: Option<String>,
}

impl Visibility {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self { clearance: Sensitivity::Private, owner: None }
    }

    /// Whether nothing is kept from the caller.
    pub(crate) fn sees_all(&self) -> bool {
        self.clearance == Sensitivity::Private && self.owner.is_none()
    }

    pub(crate) fn admits(&self, sensitivity: Sensitivity, created_by: &str) -> bool {
        sensitivity <= self.clearance
            && self.owner.as_deref().is_none_or(|owner| owner == created_by)
    }
}

/// Derives the next content of an item from the stored one.
pub(crate) type Edit = Box<dyn FnOnce(&Content, Timestamp) -> Result<Edited> + Send>;
/// Joins contents: the target (when it is there and its life is not over), the sources, the time.
pub(crate) type Join =
    Box<dyn FnOnce(Option<&Content>, &[&Content], Timestamp) -> Result<Edited> + Send>;
/// Changes counters.
pub(crate) type Count = Box<dyn FnOnce(&mut Counters, Timestamp) + Send>;

/// A write whose arguments have been checked and redacted.
pub(crate) enum Command {
    /// Creates an item or replaces it whole. Version, times and what is kept of the stored item
    /// are filled in when it is decided.
    Upsert(Box<Upsert>),
    /// Changes a stored item.
    Edit {
        op: Op,
        id: ItemId,
        if_version: Option<Version>,
        expired_too: bool,
        who: Who,
        edit: Edit,
    },
    /// Changes counters of a stored item.
    Count { op: Op, id: ItemId, who: Who, count: Count },
    /// Deletes an item.
    Delete { op: Op, id: ItemId, if_version: Option<Version>, erase: bool, who: Who },
    /// Joins items into one.
    Merge { target: ItemId, sources: Vec<ItemId>, delete_sources: bool, who: Who, join: Join },
    /// Takes an item over from elsewhere with its times and version. Without counters those of the
    /// stored item are kept.
    Import {
        op: Op,
        content: Box<Content>,
        counters: Option<Counters>,
        if_version: Option<Version>,
        who: Who,
    },
    /// Records that something happened to the scope as a whole.
    Note { op: Op, meta: Map<String, Value>, who: Who },
}

/// Who writes and what they may see.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) subject: String,
    pub(crate) visibility: Visibility,
}

/// Arguments of [`Command::Upsert`].
pub(crate) struct Upsert {
    /// As for a new item.
    pub(crate) content: Content,
    /// What was made of its words on the caller's thread.
    pub(crate) ready: Ready,
    /// What the caller left out is kept of the stored item.
    pub(crate) keep: Keep,
    pub(crate) if_version: Option<Version>,
    pub(crate) who: Who,
}

/// What is derived from the words of a content. Making it takes longer than writing the item.
pub(crate) struct Ready {
    sketch: Option<Sketch>,
    prepared: Prepared,
}

impl Ready {
    pub(crate) fn of(content: &Content) -> Self {
        let prepared = Prepared::new(Box::new(index_doc(content, Seq(0))));
        Self { sketch: Sketch::of(content), prepared }
    }

    pub(crate) fn sketch(&self) -> Option<&Sketch> {
        self.sketch.as_ref()
    }
}

/// What a decided command answers.
pub(crate) type Outcome = WriteResult;

/// Why a command was not decided.
pub(crate) enum Rejection {
    /// The command alone is refused; nothing was staged for it.
    Command(EngineError),
    /// The transaction cannot go on.
    Batch(EngineError),
}

impl From<EngineError> for Rejection {
    fn from(error: EngineError) -> Self {
        Self::Command(error)
    }
}

impl Command {
    /// Roughly the bytes it will write.
    pub(crate) fn weight(&self) -> usize {
        let content = match self {
            Self::Upsert(upsert) => &upsert.content,
            Self::Import { content, .. } => content,
            Self::Edit { .. }
            | Self::Count { .. }
            | Self::Delete { .. }
            | Self::Merge { .. }
            | Self::Note { .. } => return 1024,
        };
        512 + bytes_of(content)
    }
}

/// Decides the commands of one batch.
pub(crate) struct Decider<'a, 't> {
    state: &'a ScopeState,
    views: &'a Views,
    journal: &'a mut Journal,
    applier: Applier<'a, 't>,
    /// Contents staged in this batch: they are in no file yet.
    fresh: HashMap<Digest, Arc<Content>>,
    changes: Vec<PreparedChange>,
    events: Vec<ChangeEvent>,
    staged: usize,
    bytes: usize,
    /// Time of the next record: now, or that of the last record where the clock was set back since.
    /// "As of" is a position in the journal because it never runs backwards.
    clock: Timestamp,
    /// Now, as readers have it, for everything that ends or fades with time: a clock that was wrong
    /// once must not end lives until time has caught up.
    now: Timestamp,
    /// Hash of the last head, staged ones included.
    tip: Digest,
}

/// A record about to be staged.
struct Entry<'a> {
    op: Op,
    id: &'a ItemId,
    version: Version,
    hash: Digest,
    actor: &'a str,
    meta: Map<String, Value>,
}

impl<'a, 't> Decider<'a, 't> {
    pub(crate) fn new(
        state: &'a ScopeState,
        views: &'a Views,
        journal: &'a mut Journal,
        applier: Applier<'a, 't>,
    ) -> Self {
        let head = journal.head();
        Self {
            state,
            views,
            journal,
            applier,
            fresh: HashMap::new(),
            changes: Vec::new(),
            events: Vec::new(),
            staged: 0,
            bytes: 0,
            clock: head.ts,
            now: Timestamp::now(),
            tip: head.hash,
        }
    }

    /// Bytes of the contents staged.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Ends the batch: changes for the index, events, number of records, content bytes.
    pub(crate) fn finish(self) -> Result<(Vec<PreparedChange>, Vec<ChangeEvent>, usize, usize)> {
        self.applier.finish()?;
        #[expect(clippy::iter_over_hash_type, reason = "a cache does not care about order")]
        for (hash, content) in self.fresh {
            let bytes = bytes_of(&content);
            self.state.payloads.insert(hash, content, bytes);
        }
        Ok((self.changes, self.events, self.staged, self.bytes))
    }

    pub(crate) fn decide(&mut self, command: Command) -> Result<Outcome, Rejection> {
        self.now = Timestamp::now();
        self.clock = self.clock.max(self.now);
        match command {
            Command::Upsert(upsert) => self.upsert(*upsert),
            Command::Edit { op, id, if_version, expired_too, who, edit } => {
                let stored = self.visible(&id, &who.visibility, expired_too)?;
                expect_version(&id, if_version, stored.version)?;
                let content = self.content(&id, &stored)?;
                let edited = edit(&content, self.now)?;
                let done = if edited.changed {
                    self.put_next(op, edited.content, &stored, &who)?
                } else {
                    self.unchanged(id, &stored)
                };
                let (redactions, warnings) = (edited.redactions, edited.warnings);
                Ok(WriteResult { redactions, warnings, ..done })
            }
            Command::Count { op, id, who, count } => {
                let stored = self.visible(&id, &who.visibility, false)?;
                let mut counters = stored.counters();
                count(&mut counters, self.now);
                let entry = Entry {
                    op,
                    id: &id,
                    version: stored.version,
                    hash: stored.hash(),
                    actor: &who.subject,
                    meta: counters_meta(counters),
                };
                let seq = self.stage(entry, None, None)?;
                Ok(WriteResult { seq, changed: true, ..self.unchanged(id.clone(), &stored) })
            }
            Command::Delete { op, id, if_version, erase, who } => {
                let stored = if erase {
                    self.erasable(&id, &who.visibility)?
                } else {
                    self.visible(&id, &who.visibility, true)?
                };
                let current = if stored.deleted { Version(0) } else { stored.version };
                expect_version(&id, if_version, current)?;
                if op == Op::Prune && !stored.expired_at(self.now) {
                    // Renewed since somebody found it expired.
                    return Err(self.not_found(&id).into());
                }
                self.delete(op, &id, &stored, erase, &who)
            }
            Command::Merge { target, sources, delete_sources, who, join } => {
                self.merge(&target, &sources, delete_sources, &who, join)
            }
            Command::Import { op, content, counters, if_version, who } => {
                self.import(op, *content, counters, if_version, &who)
            }
            Command::Note { op, meta, who } => {
                let id = ItemId::new("scope").map_err(EngineError::from)?;
                let actor = &who.subject;
                let (version, hash) = (Version(0), Digest::ZERO);
                let seq =
                    self.stage(Entry { op, id: &id, version, hash, actor, meta }, None, None)?;
                Ok(result(id, self.state.key.scope, version, seq))
            }
        }
    }

    fn upsert(&mut self, upsert: Upsert) -> Result<Outcome, Rejection> {
        let Upsert { mut content, ready, keep, if_version, who } = upsert;
        let stored = self.applier.tables().item(&content.id)?;
        let live = stored.as_ref().filter(|item| !item.deleted);
        // First, or a conflict would tell the version of an item that the writer may not know of.
        check_admitted(&content.id, live, &who)?;
        let current = match live {
            // For readers it is not there any more.
            Some(item) if if_version == Some(Version(0)) && item.expired_at(self.now) => Version(0),
            live => live.map_or(Version(0), |item| item.version),
        };
        expect_version(&content.id, if_version, current)?;
        content.updated_at = self.clock;
        content.created_at = self.clock;
        content.version = stored.as_ref().map_or(Version(1), |item| item.version.next());
        if let Some(live) = live {
            // The body is read only when something is kept that the record does not hold.
            let before = if keep.secrets || (keep.links && !live.links.is_empty()) {
                self.content(&content.id, live)?
            } else {
                Arc::new(live.skeleton(&content.id, self.state.key.scope))
            };
            let ceiling = self.state.config.load().sharing.sensitivity;
            keep.carry_over(&mut content, &before, ceiling, self.now)?;
        }
        if let Some(live) = live
            && self.same_as_stored(&content, live)?
        {
            return Ok(self.unchanged(content.id, live));
        }
        let created = live.is_none();
        let (id, version, expires_at) = (content.id.clone(), content.version, content.expires_at);
        let seq = self.put(Op::Upsert, content, Map::new(), Some(ready), &who)?;
        Ok(WriteResult { created, expires_at, ..result(id, self.state.key.scope, version, seq) })
    }

    /// Whether writing `content` would change nothing but version and time.
    fn same_as_stored(&mut self, content: &Content, live: &ItemRecord) -> Result<bool> {
        let plausible = live.title == content.title
            && live.pinned == content.pinned
            && live.tags == content.facets.tags
            && live.expires_at == content.expires_at.map(Timestamp::as_millis);
        if !plausible {
            return Ok(false);
        }
        let stored = match self.content(&content.id, live) {
            // What is lost can be written again.
            Err(EngineError::Corrupt { .. }) => return Ok(false),
            stored => stored?,
        };
        Ok(says_the_same(content, &stored))
    }

    fn put_next(
        &mut self,
        op: Op,
        mut next: Content,
        stored: &ItemRecord,
        who: &Who,
    ) -> Result<Outcome, Rejection> {
        next.version = stored.version.next();
        next.updated_at = self.clock;
        next.provenance.updated_by.clone_from(&who.subject);
        let (id, version, expires_at) = (next.id.clone(), next.version, next.expires_at);
        let seq = self.put(op, next, Map::new(), None, who)?;
        Ok(WriteResult { expires_at, ..result(id, self.state.key.scope, version, seq) })
    }

    fn merge(
        &mut self,
        target: &ItemId,
        sources: &[ItemId],
        delete_sources: bool,
        who: &Who,
        join: Join,
    ) -> Result<Outcome, Rejection> {
        let mut records = Vec::with_capacity(sources.len());
        let mut contents = Vec::with_capacity(sources.len());
        for id in sources {
            let record = self.visible(id, &who.visibility, false)?;
            contents.push(self.content(id, &record)?);
            records.push(record);
        }
        let stored = self.applier.tables().item(target)?;
        let live = stored.as_ref().filter(|item| !item.deleted);
        if let Some(live) = live
            && !who.visibility.admits(live.sensitivity(), &live.created_by)
        {
            return Err(self.not_found(target).into());
        }
        // One whose life is over is gone for readers. As a base it would give its end of life to
        // the result, and what the sources said would be gone with it.
        let base = live.filter(|live| !live.expired_at(self.now));
        let before = base.map(|base| self.content(target, base)).transpose()?;
        let borrowed: Vec<&Content> = contents.iter().map(AsRef::as_ref).collect();
        let edited = join(before.as_deref(), &borrowed, self.now)?;
        let mut merged = edited.content;
        let mut counters = base.map(ItemRecord::counters).unwrap_or_default();
        for (id, record) in sources.iter().zip(&records) {
            if id != target {
                counters.absorb(&record.counters(), self.now);
            }
        }
        merged.version = stored.as_ref().map_or(Version(1), |item| item.version.next());
        merged.updated_at = self.clock;
        if base.is_none() {
            merged.created_at = self.clock;
            merged.provenance.created_by.clone_from(&who.subject);
        }
        merged.provenance.updated_by.clone_from(&who.subject);
        let (version, created, expires_at) = (merged.version, base.is_none(), merged.expires_at);
        let names: Vec<&str> = sources.iter().map(ItemId::as_str).collect();
        let mut meta = counters_meta(counters);
        meta.insert("sources".to_owned(), Value::from(names));
        let mut gone: Vec<(&ItemId, &ItemRecord)> = Vec::new();
        if delete_sources {
            let mut named = HashSet::from([target]);
            gone.extend(sources.iter().zip(&records).filter(|(id, _)| named.insert(*id)));
        }
        // All of them or none: a merged item beside its sources is not what was asked for.
        if !gone.is_empty() {
            meta.insert(MORE_META.to_owned(), Value::from(gone.len()));
        }
        let seq = self.put(Op::Merge, merged, meta, None, who)?;
        for (after, (id, record)) in (0..gone.len()).rev().zip(gone) {
            self.delete_one(Op::Delete, id, record, more(after), who)?;
        }
        let scope = self.state.key.scope;
        let (redactions, warnings) = (edited.redactions, edited.warnings);
        let done = result(target.clone(), scope, version, seq);
        Ok(WriteResult { created, redactions, warnings, expires_at, ..done })
    }

    fn import(
        &mut self,
        op: Op,
        mut content: Content,
        counters: Option<Counters>,
        if_version: Option<Version>,
        who: &Who,
    ) -> Result<Outcome, Rejection> {
        let stored = self.applier.tables().item(&content.id)?;
        let live = stored.as_ref().filter(|item| !item.deleted);
        check_admitted(&content.id, live, who)?;
        expect_version(&content.id, if_version, live.map_or(Version(0), |item| item.version))?;
        let created = live.is_none();
        content.version = stored.map_or(content.version.max(Version(1)), |item| {
            item.version.next().max(content.version)
        });
        let (id, version) = (content.id.clone(), content.version);
        let meta = counters.map(counters_meta).unwrap_or_default();
        let seq = self.put(op, content, meta, None, who)?;
        Ok(WriteResult { created, ..result(id, self.state.key.scope, version, seq) })
    }

    fn delete(
        &mut self,
        op: Op,
        id: &ItemId,
        stored: &ItemRecord,
        erase: bool,
        who: &Who,
    ) -> Result<Outcome, Rejection> {
        let mut meta = Map::new();
        if erase {
            meta.insert(ERASE_META.to_owned(), Value::Bool(true));
            for hash in self.applier.hashes_of(id)? {
                self.state.payloads.remove(hash);
                self.fresh.remove(&hash);
            }
        }
        self.delete_one(op, id, stored, meta, who)
    }

    fn delete_one(
        &mut self,
        op: Op,
        id: &ItemId,
        stored: &ItemRecord,
        meta: Map<String, Value>,
        who: &Who,
    ) -> Result<Outcome, Rejection> {
        let version = stored.version.next();
        let (hash, actor) = (stored.hash(), who.subject.as_str());
        let seq = self.stage(Entry { op, id, version, hash, actor, meta }, None, None)?;
        self.changes.push(PreparedChange::Remove(seq, id.clone()));
        Ok(result(id.clone(), self.state.key.scope, version, seq))
    }

    fn put(
        &mut self,
        op: Op,
        content: Content,
        meta: Map<String, Value>,
        ready: Option<Ready>,
        who: &Who,
    ) -> Result<Seq, Rejection> {
        let canonical::Canonical { bytes: body, hash } = canonical::encode(&content)?;
        let Ready { sketch, mut prepared } = ready.unwrap_or_else(|| Ready::of(&content));
        let entry = Entry {
            op,
            id: &content.id,
            version: content.version,
            hash,
            actor: &who.subject,
            meta,
        };
        let seq = self.stage(entry, Some((&content, &body)), sketch.as_ref())?;
        prepared.settle(|doc| settle(doc, &content, seq));
        self.changes.push(PreparedChange::Put(seq, prepared));
        self.bytes += body.len();
        self.fresh.insert(hash, Arc::new(content));
        Ok(seq)
    }

    fn stage(
        &mut self,
        entry: Entry<'_>,
        content: Option<(&Content, &[u8])>,
        sketch: Option<&Sketch>,
    ) -> Result<Seq, Rejection> {
        let Entry { op, id, version, hash, actor, meta } = entry;
        let ts = self.clock;
        if meta.contains_key(COUNTERS_META) {
            self.state.counted.insert(id);
        }
        let body = content.map(|(_, body)| body);
        let draft = Draft { ts, op, id, version, hash, actor, meta, body };
        let staged = self.journal.stage(&draft);
        let prev = std::mem::replace(&mut self.tip, staged.head_hash);
        let Draft { meta, .. } = draft;
        let record = Record {
            seq: staged.seq,
            ts,
            op,
            id: id.clone(),
            version,
            hash,
            prev,
            actor: actor.to_owned(),
            meta,
        };
        let applied = Applied {
            record: &record,
            head_hash: staged.head_hash,
            content: content.map(|(content, _)| content),
            known: None,
            content_bytes: body.map_or(0, <[u8]>::len),
            blob: staged.body.map(Blob::from),
            sketch,
        };
        self.applier.apply(&applied).map_err(Rejection::Batch)?;
        self.staged += 1;
        self.events.push(ChangeEvent {
            key: self.state.key.clone(),
            seq: staged.seq,
            id: id.clone(),
            version,
            op: op.as_str(),
        });
        Ok(staged.seq)
    }

    /// The live item, if the caller may know of it.
    fn visible(
        &mut self,
        id: &ItemId,
        visibility: &Visibility,
        expired_too: bool,
    ) -> Result<ItemRecord> {
        self.applier
            .tables()
            .item(id)?
            .filter(|item| !item.deleted)
            .filter(|item| expired_too || !item.expired_at(self.now))
            .filter(|item| visibility.admits(item.sensitivity(), &item.created_by))
            .ok_or_else(|| self.not_found(id))
    }

    /// The item, if the caller may know of it and there is still something to erase: what was
    /// deleted keeps its bodies.
    fn erasable(&mut self, id: &ItemId, visibility: &Visibility) -> Result<ItemRecord> {
        let stored = self.applier.tables().item(id)?;
        let stored = stored
            .filter(|item| visibility.admits(item.sensitivity(), &item.created_by))
            .ok_or_else(|| self.not_found(id))?;
        let mut left = !stored.deleted;
        for hash in self.applier.hashes_of(id)? {
            left = left || self.applier.tables().blob(hash)? != Some(Blob::Erased);
        }
        if left { Ok(stored) } else { Err(self.not_found(id)) }
    }

    fn not_found(&self, id: &ItemId) -> EngineError {
        EngineError::NotFound { id: id.clone(), scope: self.state.key.scope.to_string() }
    }

    fn content(&mut self, id: &ItemId, record: &ItemRecord) -> Result<Arc<Content>> {
        if let Some(content) = self.fresh.get(&record.hash()) {
            return Ok(Arc::clone(content));
        }
        let view = self.views.catalog.read()?;
        self.state.stored(&view, id, record.hash())
    }

    fn unchanged(&self, id: ItemId, stored: &ItemRecord) -> Outcome {
        WriteResult {
            changed: false,
            expires_at: stored.expires_at.map(Timestamp::from_millis),
            ..result(id, self.state.key.scope, stored.version, stored.seq)
        }
    }
}

/// Refuses to write over an item that the writer may not know of.
fn check_admitted(id: &ItemId, live: Option<&ItemRecord>, who: &Who) -> Result<()> {
    match live {
        Some(live) if !who.visibility.admits(live.sensitivity(), &live.created_by) => {
            Err(EngineError::Forbidden {
                reason: format!("the id {id} belongs to an item you may not see"),
            })
        }
        _ => Ok(()),
    }
}

/// Says that `after` more records of the same operation follow.
fn more(after: usize) -> Map<String, Value> {
    let mut meta = Map::new();
    if after > 0 {
        meta.insert(MORE_META.to_owned(), Value::from(after));
    }
    meta
}

fn counters_meta(counters: Counters) -> Map<String, Value> {
    match serde_json::to_value(counters) {
        Ok(value) => Map::from_iter([(COUNTERS_META.to_owned(), value)]),
        // Numbers and times always serialise.
        Err(_) => Map::new(),
    }
}

pub(crate) fn result(
    id: ItemId,
    scope: crate::ids::Scope,
    version: Version,
    seq: Seq,
) -> WriteResult {
    WriteResult {
        id,
        scope,
        version,
        seq,
        changed: true,
        created: false,
        redactions: 0,
        warnings: Vec::new(),
        near_duplicates: Vec::new(),
        expires_at: None,
    }
}
