//! Reading items: one, histories, graphs. Every read takes "as of".

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::command::Visibility;
use super::cursor::Cursor;
use super::past::{MAX_PAST_BYTES, PastShare};
use super::payloads::bytes_of;
use super::query::{Budget, MAX_CHARS, item_chars, summary_chars};
use super::scope::{ScopeState, Views};
use crate::api::{
    Direction, Filters, GetRequest, GraphEdge, GraphNode, GraphRequest, GraphResult, HistoryEntry,
    HistoryRequest, HistoryResult,
};
use crate::catalog::{ItemRecord, ReadView, VersionRecord, relation_of};
use crate::config::ScopeConfig;
use crate::error::{EngineError, Result};
use crate::ids::{ItemId, Scope, Seq, Timestamp, Version};
use crate::item::{
    Content, Counters, Item, Link, Relation, Summary, confidence, present, summarize,
};

/// Entries in a history when the caller does not say.
const DEFAULT_HISTORY: usize = 20;
/// Most entries in a history.
const MAX_HISTORY: usize = 200;
/// Items changed since a moment that a search or a graph of that moment lays over the present, at
/// most.
const MAX_PAST_ITEMS: usize = 50_000;
/// Bytes that an item comes to while it is laid over the present, by those of its words: the words
/// once more, where they stand, and what is made of them on the way.
const PAST_FACTOR: usize = 8;
/// Bytes that an item's id, or a link, comes to beside its letters.
const PAST_ID_BYTES: usize = 64;

/// Time and journal record of an item's last write.
pub(crate) type Position = (Timestamp, Seq);

fn end_of_time() -> Timestamp {
    Timestamp::from_millis(i64::MAX)
}

/// Before every item of a list.
pub(crate) fn top() -> Position {
    (end_of_time(), Seq(u64::MAX))
}

/// A scope as a reader sees it: at one position, with one caller's eyes.
pub(crate) struct Reader<'a> {
    pub(crate) state: &'a ScopeState,
    pub(crate) views: Arc<Views>,
    pub(crate) view: ReadView,
    /// A record whose effects the views certainly show.
    pub(crate) head: Seq,
    /// Position; `None` is now.
    pub(crate) at: Option<Seq>,
    /// Moment that confidence and expiry are evaluated at.
    pub(crate) now: Timestamp,
    pub(crate) visibility: &'a Visibility,
    pub(crate) config: Arc<ScopeConfig>,
    /// Not newer than `config`, so that nothing made with an older one is kept for this one.
    pub(crate) config_generation: u64,
    /// Items that were passed over because their bodies are damaged.
    pub(crate) damaged: Cell<usize>,
}

/// An item as of the reader's position, without texts.
pub(crate) struct Seen {
    /// Record that wrote it.
    pub(crate) seq: Seq,
    pub(crate) hash: crate::ids::Digest,
    /// The content; texts are empty when it came from the catalog.
    pub(crate) skeleton: Arc<Content>,
    pub(crate) counters: Counters,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        state: &'a ScopeState,
        as_of: Option<Timestamp>,
        visibility: &'a Visibility,
    ) -> Result<Self> {
        // Before the views are taken, so that they show at least this much.
        let head = state.visible();
        let views = state.views.load_full();
        let view = views.catalog.read()?;
        let at = as_of.map(|moment| view.seq_at(moment)).transpose()?;
        let now = as_of.unwrap_or_else(Timestamp::now);
        let config_generation = state.config_generation.load(Ordering::Acquire);
        let config = state.config.load_full();
        let damaged = Cell::new(0);
        Ok(Self {
            state,
            views,
            view,
            head,
            at,
            now,
            visibility,
            config,
            config_generation,
            damaged,
        })
    }

    /// The item, unless it does not exist for this reader.
    pub(crate) fn find(&self, id: &ItemId) -> Result<Option<Seen>> {
        let seen = match (self.at, self.view.item(id)?) {
            (_, None) => None,
            (None, Some(record)) => (!record.deleted).then(|| self.latest(id, &record)),
            (Some(at), Some(record)) if record.seq <= at => {
                if record.deleted {
                    None
                } else {
                    let counters = self.counters_at(id, at)?;
                    Some(Seen { counters, ..self.latest(id, &record) })
                }
            }
            (Some(at), Some(record)) => self.before(id, &record, at)?,
        };
        Ok(seen.filter(|seen| self.admits(&seen.skeleton)))
    }

    /// The version of the stored item, whether or not it may be seen; 0 when there is none.
    pub(crate) fn version(&self, id: &ItemId) -> Result<Version> {
        let live = self.view.item(id)?.filter(|item| !item.deleted);
        Ok(live.map_or(Version(0), |item| item.version))
    }

    /// The content stored now, whether or not its life is over, unless it may not be seen.
    pub(crate) fn stored(&self, id: &ItemId) -> Result<Option<Arc<Content>>> {
        let live = self.view.item(id)?.filter(|item| !item.deleted && self.admits_latest(item));
        live.map(|item| self.state.stored(&self.view, id, item.hash())).transpose()
    }

    /// What was found, or nothing where its body is damaged: one lost body must not keep a reader of
    /// many from the others.
    fn unless_damaged<T>(&self, found: Result<Option<T>>) -> Result<Option<T>> {
        match found {
            Err(EngineError::Corrupt { what, reason }) => {
                tracing::warn!(what, reason, "an item cannot be read");
                self.damaged.set(self.damaged.get() + 1);
                Ok(None)
            }
            found => found,
        }
    }

    fn latest(&self, id: &ItemId, record: &ItemRecord) -> Seen {
        Seen {
            seq: record.seq,
            hash: record.hash(),
            skeleton: Arc::new(record.skeleton(id, self.state.key.scope)),
            counters: record.counters(),
        }
    }

    /// The item as of record `at`.
    pub(crate) fn past(&self, id: &ItemId, at: Seq) -> Result<Option<Seen>> {
        match self.view.item(id)? {
            Some(latest) => self.before(id, &latest, at),
            None => Ok(None),
        }
    }

    fn before(&self, id: &ItemId, latest: &ItemRecord, at: Seq) -> Result<Option<Seen>> {
        if !self.admits_latest(latest) {
            return Ok(None);
        }
        let Some((seq, version)) = self.view.version_at(id, at)? else { return Ok(None) };
        if version.deleted {
            return Ok(None);
        }
        let hash = version.hash.into();
        // An erased version existed but nothing can be said about it any more.
        let Some(skeleton) = self.state.content(&self.view, hash)? else { return Ok(None) };
        Ok(Some(Seen { seq, hash, skeleton, counters: self.counters_at(id, at)? }))
    }

    /// Usage and feedback as of record `seq` and the reader's moment.
    fn counters_at(&self, id: &ItemId, seq: Seq) -> Result<Counters> {
        let moment = if self.at.is_some() { self.now } else { end_of_time() };
        self.view.counters_at(id, seq, moment)
    }

    /// Whether the item as it is now may be seen. Who may not sees none of its past either:
    /// it may have been classified for what it was.
    pub(crate) fn admits_latest(&self, latest: &ItemRecord) -> bool {
        self.visibility.admits(latest.sensitivity(), &latest.created_by)
    }

    /// Whether a version of an item whose newest may be seen may be seen as well. It may have been
    /// kept closer than the item is now, or be of another item that had this name before; so may
    /// one whose content is gone.
    pub(crate) fn admits_version(
        &self,
        latest: &ItemRecord,
        version: &VersionRecord,
    ) -> Result<bool> {
        let hash = version.hash.into();
        // A damaged body must not keep whoever may see everything from what is known of it.
        if self.visibility.sees_all() || hash == latest.hash() {
            return Ok(true);
        }
        match self.state.content(&self.view, hash) {
            Ok(content) => Ok(content.is_some_and(|content| {
                self.visibility.admits(content.sensitivity, &content.provenance.created_by)
            })),
            Err(EngineError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn admits(&self, content: &Content) -> bool {
        content.expires_at.is_none_or(|end| end > self.now)
            && self.visibility.admits(content.sensitivity, &content.provenance.created_by)
    }

    /// The whole item.
    pub(crate) fn item(&self, seen: &Seen) -> Result<Item> {
        let content = self.state.stored(&self.view, &seen.skeleton.id, seen.hash)?;
        let content = Content::clone(&content);
        Ok(present(content, &seen.counters, seen.hash, self.now, &self.config.confidence))
    }

    /// What lists show of it.
    pub(crate) fn summary(&self, seen: &Seen) -> Summary {
        summarize(&seen.skeleton, &seen.counters, self.now, &self.config.confidence)
    }

    fn confidence(&self, seen: &Seen) -> f64 {
        confidence::evaluate(&seen.skeleton, &seen.counters, self.now, &self.config.confidence)
    }

    /// Whether `filters` let the item through.
    pub(crate) fn matches(&self, filters: &Filters, seen: &Seen) -> bool {
        let content = &seen.skeleton;
        let any = |wanted: &[String], have: &[String]| {
            wanted.is_empty() || wanted.iter().any(|value| have.contains(value))
        };
        (filters.types.is_empty() || filters.types.contains(&content.item_type))
            && any(&filters.tags, &content.facets.tags)
            && any(&filters.files, &content.facets.files)
            && any(&filters.symbols, &content.facets.symbols)
            && any(&filters.language, content.language.as_slice())
            && any(&filters.created_by, std::slice::from_ref(&content.provenance.created_by))
            && filters.pinned.is_none_or(|pinned| pinned == content.pinned)
            && filters.time_range.is_none_or(|range| {
                range.start.is_none_or(|start| start <= content.updated_at)
                    && range.end.is_none_or(|end| content.updated_at <= end)
            })
            && filters.confidence.is_none_or(|range| {
                let value = self.confidence(seen);
                range.min.is_none_or(|min| min <= value) && range.max.is_none_or(|max| value <= max)
            })
    }

    /// Items by last write, newest first; those of a reader of the past in the order in which
    /// they were written here.
    pub(crate) fn newest(&self, mut visit: impl FnMut(Seen) -> Result<bool>) -> Result<()> {
        self.walk(top(), |_, seen| seen.map_or(Ok(true), &mut visit))
    }

    /// [`Reader::newest`] from a position on; a reader of the past begins at the end. Shows the
    /// position of items that are not to be seen as well.
    pub(crate) fn walk(
        &self,
        from: Position,
        mut visit: impl FnMut(Position, Option<Seen>) -> Result<bool>,
    ) -> Result<()> {
        let Some(at) = self.at else {
            for entry in self.view.live(from)? {
                let (moment, seq, id) = entry?;
                if !visit((moment, seq), self.find(&id)?)? {
                    break;
                }
            }
            return Ok(());
        };
        for change in self.view.changes(Seq(0), at)?.rev() {
            let (seq, moment, id) = change?;
            let seen = self.unless_damaged(self.find(&id))?.filter(|seen| seen.seq == seq);
            if !visit((moment, seq), seen)? {
                break;
            }
        }
        Ok(())
    }

    fn links(&self, seen: &Seen) -> Result<Vec<Link>> {
        Ok(self.state.stored(&self.view, &seen.skeleton.id, seen.hash)?.links.clone())
    }

    /// Items that link to `id`, as of the reader's position; `past` is [`Reader::past_links`].
    fn links_in(&self, id: &ItemId, past: Option<&PastLinks>) -> Result<Vec<(Relation, ItemId)>> {
        let now = self.view.links_in(id)?.into_iter().map(|(code, from)| (relation_of(code), from));
        let Some(past) = past else { return Ok(now.collect()) };
        let mut found: Vec<(Relation, ItemId)> =
            now.filter(|(_, from)| !past.changed.contains(from)).collect();
        found.extend(past.to.get(id).into_iter().flatten().cloned());
        found.sort();
        Ok(found)
    }

    /// What a reader of the past needs to know who links to an item; `None` for the present.
    fn past_links(&self) -> Result<Option<PastLinks>> {
        let Some(at) = self.at else { return Ok(None) };
        let (mut changed, mut to) = (HashSet::new(), HashMap::<_, Vec<_>>::new());
        let mut bytes = 0;
        let share = self.each_changed_since(at, "a graph", |id, seen| {
            bytes += id.as_str().len() + PAST_ID_BYTES;
            if let Some(seen) = seen {
                // Of the past the skeleton is the whole content.
                for link in &seen.skeleton.links {
                    to.entry(link.to.clone()).or_default().push((link.rel, id.clone()));
                    bytes += link.to.as_str().len() + id.as_str().len() + 2 * PAST_ID_BYTES;
                }
                // Read, though not kept: a graph must not take for ever, either.
                bytes += bytes_of(&seen.skeleton);
            }
            changed.insert(id);
            bytes
        })?;
        Ok(Some(PastLinks { changed, to, _share: share }))
    }

    /// Gives `each` every item that was written since record `at`, as it was then: `None` where it
    /// was not there. `each` answers how many bytes all it has made of them come to; what is
    /// answered in the end is the memory for that, taken before it is made. `purpose` is for the
    /// message.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when there are more items or bytes than one reader gets,
    /// [`EngineError::Busy`] when other readers leave too little.
    pub(crate) fn each_changed_since(
        &self,
        at: Seq,
        purpose: &str,
        mut each: impl FnMut(ItemId, Option<Seen>) -> usize,
    ) -> Result<PastShare> {
        let too_much = || {
            let reason = format!(
                "too much of the scope {} has changed since for {purpose} of that moment (at most \
                 {MAX_PAST_ITEMS} items or {} MiB): choose a later moment, or use memory.list, \
                 memory.get and memory.history with asOf",
                self.state.key.scope,
                MAX_PAST_BYTES >> 20
            );
            EngineError::invalid("asOf", reason)
        };
        let mut share = self.state.past.share();
        let mut hold = |bytes| {
            if bytes > MAX_PAST_BYTES { Err(too_much()) } else { share.hold(bytes) }
        };
        let (mut changed, mut names) = (BTreeSet::new(), 0);
        for change in self.view.changes(at, Seq(u64::MAX))? {
            let (_, _, id) = change?;
            let bytes = id.as_str().len() + PAST_ID_BYTES;
            if changed.insert(id) {
                names += bytes;
                hold(names)?;
            }
            if changed.len() > MAX_PAST_ITEMS {
                return Err(too_much());
            }
        }
        let mut bytes = 0;
        for id in changed {
            let seen = self.unless_damaged(self.past(&id, at))?;
            let words = seen.as_ref().map_or(0, |seen| bytes_of(&seen.skeleton));
            hold(names + bytes + PAST_ID_BYTES + PAST_FACTOR * words)?;
            bytes = each(id, seen);
        }
        hold(bytes)?;
        Ok(share)
    }
}

/// Links into items as of a moment in the past. They are not kept: they are those of now, but for
/// what was written since, and what the items written since pointed at before.
struct PastLinks {
    /// Items written since.
    changed: HashSet<ItemId>,
    /// What linked to an item then, of those.
    to: HashMap<ItemId, Vec<(Relation, ItemId)>>,
    /// Kept for as long as they are.
    _share: PastShare,
}

/// `memory.get` in one scope.
pub(crate) fn get(reader: &Reader<'_>, request: &GetRequest) -> Result<Option<Item>> {
    let Some(version) = request.version else {
        return reader.find(&request.id)?.map(|seen| reader.item(&seen)).transpose();
    };
    let Some(latest) = reader.view.item(&request.id)? else { return Ok(None) };
    // A version may have been given a shorter life than the item has now.
    if !reader.admits_latest(&latest) || latest.expired_at(reader.now) {
        return Ok(None);
    }
    let until = reader.at.unwrap_or(Seq(u64::MAX));
    for entry in reader.view.versions(&request.id, until)? {
        let (seq, record) = entry?;
        if record.version != version || record.deleted {
            continue;
        }
        let hash = record.hash.into();
        let Some(content) = reader.state.content(&reader.view, hash)? else {
            return Err(EngineError::invalid(
                "version",
                format!("the content of version {version} was erased; its hash is {hash}"),
            ));
        };
        let counters = reader.counters_at(&request.id, until)?;
        let seen = Seen { seq, hash, skeleton: content, counters };
        let admitted = reader
            .visibility
            .admits(seen.skeleton.sensitivity, &seen.skeleton.provenance.created_by);
        return if admitted { reader.item(&seen).map(Some) } else { Ok(None) };
    }
    Ok(None)
}

/// Why there is no such version, or nothing at that moment, of an item that is there for this
/// reader of the present.
pub(crate) fn known_versions(
    reader: &Reader<'_>,
    request: &GetRequest,
) -> Result<Option<EngineError>> {
    let id = &request.id;
    let Some(latest) =
        reader.view.item(id)?.filter(|_| reader.find(id).is_ok_and(|it| it.is_some()))
    else {
        return Ok(None);
    };
    let mut oldest = None;
    for entry in reader.view.versions(id, Seq(u64::MAX))? {
        let (_, record) = entry?;
        if !record.deleted && reader.admits_version(&latest, &record)? {
            oldest = Some((record.version, Timestamp::from_millis(record.ts)));
        }
    }
    let Some((first, since)) = oldest else { return Ok(None) };
    let error = match (request.version, request.as_of) {
        (_, Some(_)) => EngineError::invalid(
            "asOf",
            format!(
                "item {id} was not there at that moment: its first version is of {since}; \
                 memory_history lists all"
            ),
        ),
        (Some(version), None) => EngineError::invalid(
            "version",
            format!(
                "item {id} has no version {version}: the oldest is {first}, the newest {}; \
                 memory_history lists all",
                latest.version
            ),
        ),
        (None, None) => return Ok(None),
    };
    Ok(Some(error))
}

/// `memory.history` in one scope; `None` when the item never existed for this reader.
pub(crate) fn history(
    reader: &Reader<'_>,
    request: &HistoryRequest,
) -> Result<Option<HistoryResult>> {
    let limit = limit("limit", request.limit, DEFAULT_HISTORY, MAX_HISTORY)?;
    let before = match request.cursor.as_deref() {
        Some(text) => Cursor::parse(text, "history")?.seq(),
        None => Seq(u64::MAX),
    };
    let until = reader.at.unwrap_or(Seq(u64::MAX));
    let Some(latest) = reader.view.item(&request.id)? else { return Ok(None) };
    if !reader.admits_latest(&latest) {
        return Ok(None);
    }
    let mut total = 0;
    let mut entries = Vec::new();
    let mut more = false;
    let mut budget = Budget::of(MAX_CHARS);
    for entry in reader.view.versions(&request.id, until)? {
        let (seq, record) = entry?;
        if !reader.admits_version(&latest, &record)? {
            continue;
        }
        total += 1;
        if seq >= before {
            continue;
        }
        if more || entries.len() >= limit {
            more = true;
            continue;
        }
        let hash = record.hash.into();
        let item = if request.content && !record.deleted {
            match reader.unless_damaged(reader.state.content(&reader.view, hash))? {
                Some(content) => {
                    let counters = reader.counters_at(&request.id, seq)?;
                    let moment = Timestamp::from_millis(record.ts);
                    let content = Content::clone(&content);
                    let parameters = &reader.config.confidence;
                    Some(present(content, &counters, hash, moment, parameters))
                }
                None => None,
            }
        } else {
            None
        };
        if item.as_ref().is_some_and(|item| !budget.take(item_chars(item))) {
            more = true;
            continue;
        }
        entries.push(HistoryEntry {
            version: record.version,
            seq,
            ts: Timestamp::from_millis(record.ts),
            op: record.op,
            actor: record.actor,
            hash,
            item,
        });
    }
    if total == 0 {
        return Ok(None);
    }
    let next_cursor = entries
        .last()
        .filter(|_| more)
        .map(|entry| Cursor::new("history", entry.ts, 0, entry.seq).to_string());
    let scope = reader.state.key.scope;
    Ok(Some(HistoryResult { id: request.id.clone(), scope, total, entries, next_cursor }))
}

/// `memory.graph` in one scope; `None` when the start does not exist for this reader.
pub(crate) fn graph(reader: &Reader<'_>, request: &GraphRequest) -> Result<Option<GraphResult>> {
    let depth = match request.depth {
        None => 2,
        Some(depth @ 1..=10) => depth,
        Some(depth) => {
            return Err(EngineError::invalid("depth", format!("{depth} is not between 1 and 10")));
        }
    };
    let limit = limit("limit", request.limit, 100, 1000)?;
    let Some(start) = reader.find(&request.id)? else { return Ok(None) };
    let follow = |rel: Relation| request.rels.is_empty() || request.rels.contains(&rel);
    let mut nodes = vec![GraphNode { summary: reader.summary(&start), depth: 0 }];
    let mut budget = Budget::of(MAX_CHARS);
    let mut reached = HashSet::from([request.id.clone()]);
    let mut edges: BTreeMap<(ItemId, Relation, ItemId), bool> = BTreeMap::new();
    let mut queue = VecDeque::from([(start, 0_u32)]);
    let mut truncated = false;
    let inward = request.direction != Direction::Out;
    // Once for all nodes.
    let past = if inward { reader.past_links()? } else { None };
    while let Some((seen, level)) = queue.pop_front() {
        if level >= depth {
            continue;
        }
        let here = &seen.skeleton.id;
        let mut neighbours: Vec<(Relation, ItemId, bool)> = Vec::new();
        if request.direction != Direction::In {
            neighbours
                .extend(reader.links(&seen)?.into_iter().map(|link| (link.rel, link.to, true)));
        }
        if inward {
            let found = reader.links_in(here, past.as_ref())?;
            neighbours.extend(found.into_iter().map(|(rel, from)| (rel, from, false)));
        }
        for (rel, other, outward) in neighbours {
            if !follow(rel) {
                continue;
            }
            let key = if outward {
                (here.clone(), rel, other.clone())
            } else {
                (other.clone(), rel, here.clone())
            };
            let found = reader.find(&other)?;
            if found.is_none() && !outward {
                continue;
            }
            let exists = found.is_some();
            if let Some(found) = found
                && !reached.contains(&other)
            {
                let summary = reader.summary(&found);
                if nodes.len() >= limit || !budget.take(summary_chars(&summary)) {
                    truncated = true;
                    continue;
                }
                reached.insert(other);
                nodes.push(GraphNode { summary, depth: level + 1 });
                queue.push_back((found, level + 1));
            }
            edges.insert(key, exists);
        }
    }
    let mut result = GraphResult { nodes, edges: Vec::new(), dangling: Vec::new(), truncated };
    for ((from, rel, to), exists) in edges {
        let edge = GraphEdge { from, rel, to };
        if exists { result.edges.push(edge) } else { result.dangling.push(edge) }
    }
    Ok(Some(result))
}

/// Checks a limit given by the caller.
pub(crate) fn limit(
    field: &str,
    given: Option<usize>,
    default: usize,
    most: usize,
) -> Result<usize> {
    match given {
        None => Ok(default),
        Some(value) if (1..=most).contains(&value) => Ok(value),
        Some(value) => {
            Err(EngineError::invalid(field, format!("{value} is not between 1 and {most}")))
        }
    }
}

/// The scope of a reader, for messages.
pub(crate) fn scope_names(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}
