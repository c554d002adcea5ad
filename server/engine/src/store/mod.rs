//! The engine's facade: opens a data directory, routes every operation to the scopes it names,
//! and keeps the views behind the journal.
//!
//! When things go wrong: a journal that cannot be written makes the write fail and leaves nothing
//! behind; a view that cannot follow makes its scope refuse writes while reads go on; a scope that
//! cannot be opened fails the operations on it and no other. Dropping an [`Engine`] without
//! [`Engine::close`] is as good as a crash, and as safe.

mod command;
mod contradiction;
mod counted;
mod cursor;
mod generations;
mod in_flight;
mod list;
mod maintenance;
mod open;
mod past;
mod payloads;
mod query;
mod read;
mod replay;
mod routing;
mod sample;
mod scope;
mod source;
mod status;
mod sync;
mod write;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use llm_memory_disk::{Disk, LockGuard};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::api::{
    Caller, GetRequest, GraphRequest, GraphResult, HistoryRequest, HistoryResult, ListRequest,
    ListResult, QueryRequest, QueryResult,
};
use crate::blocks::FrameCache;
use crate::error::{EngineError, Result};
use crate::ids::{ItemId, ScopeKey, Seq, Timestamp, Version};
use crate::item::Item;
use crate::item::redaction::Redactor;
pub use crate::lookups::CacheUse;
use crate::progress::NoProgress;

use past::PastMemory;
use payloads::Payloads;
use query::{Eyes, QueryCache};
use routing::Routes;
use scope::ScopeStore;
pub use status::CacheReport;

/// How to open a store. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Serve reads from what is there; start no background work and refuse writes.
    pub safe_mode: bool,
    /// Budget of the catalogs' page caches, over all open scopes.
    pub cache_bytes: u64,
    /// Budget of the payload cache (decoded items).
    pub payload_cache_bytes: u64,
    /// Budget of the decoded-block cache.
    pub frame_cache_bytes: u64,
    /// Size at which a journal segment is sealed.
    pub segment_bytes: u64,
    /// Writes that may wait in one scope before the answer is `busy`.
    pub write_queue: usize,
    /// Scopes that may be open: each costs a thread and file handles, and callers name projects as
    /// they like.
    pub max_scopes: usize,
    /// Longest item (title, text and code together).
    pub max_item_bytes: usize,
    /// Free space below which writes are refused, so that views and compaction never meet a full
    /// disk.
    pub reserve_bytes: u64,
    /// Signs checkpoints.
    pub signing_key: Option<Arc<ed25519_dalek::SigningKey>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            safe_mode: false,
            cache_bytes: 128 << 20,
            payload_cache_bytes: 64 << 20,
            frame_cache_bytes: 32 << 20,
            segment_bytes: 64 << 20,
            write_queue: 1024,
            max_scopes: 1000,
            max_item_bytes: 1 << 20,
            reserve_bytes: 64 << 20,
            signing_key: None,
        }
    }
}

/// A change that has become durable, for live subscriptions.
#[derive(Debug, Clone)]
pub struct ChangeEvent {
    /// Journal it is in.
    pub key: ScopeKey,
    /// Record.
    pub seq: Seq,
    /// Item.
    pub id: ItemId,
    /// Version after it.
    pub version: Version,
    /// Operation (`upsert`, `delete`, ...).
    pub op: &'static str,
}

/// Receives changes after they are durable and searchable; must return quickly.
pub type ChangeListener = Box<dyn Fn(&ChangeEvent) + Send + Sync>;

/// An open store. Shared by reference between threads; every method blocks.
pub struct Engine {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    options: Options,
    identity: StoreIdentity,
    redactor: ArcSwap<Redactor>,
    payloads: Arc<Payloads>,
    frames: Arc<FrameCache>,
    queries: QueryCache,
    past: Arc<PastMemory>,
    listeners: Arc<RwLock<Vec<ChangeListener>>>,
    scopes: RwLock<Scopes>,
    /// Held for as long as the store is open.
    lock: Mutex<Option<Box<dyn LockGuard>>>,
}

/// The scopes that are open.
#[derive(Default)]
struct Scopes {
    open: BTreeMap<ScopeKey, Arc<ScopeStore>>,
    /// Held while a scope is being opened, by who opens it.
    opening: BTreeMap<ScopeKey, Arc<Mutex<()>>>,
    failed: BTreeMap<ScopeKey, Failed>,
    closed: bool,
    /// Catalog cache bytes given out.
    cache_given: u64,
}

/// A scope that could not be opened.
struct Failed {
    at: Instant,
    /// How long it is left alone before it is tried again.
    pause: Duration,
    reason: String,
}

impl Failed {
    /// Notes the failure, just now, of an attempt that began at `begun`.
    fn since(begun: Instant, reason: String) -> Self {
        Self { at: Instant::now(), pause: begun.elapsed().max(REOPEN_AFTER), reason }
    }
}

/// How long a scope that could not be opened is left alone at least.
const REOPEN_AFTER: Duration = Duration::from_secs(2);

/// `store.json`: what makes this store this store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreIdentity {
    /// Version of the layout of the data directory.
    pub format: u32,
    /// Unique name.
    pub store_id: String,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The layout this program reads and writes.
const FORMAT: u32 = 1;

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens (or creates) the store in `root` under its exclusive lock, and every scope that is
    /// there. A scope that cannot be opened does not keep the others from working:
    /// [`Engine::unavailable`] names it, and it is tried again with the next call that needs it.
    ///
    /// # Errors
    ///
    /// An error for which [`llm_memory_disk::DiskError::is_locked`] holds when another process
    /// has the store open.
    pub fn open(disk: Arc<dyn Disk>, root: &Path, options: Options) -> Result<Self> {
        disk.create_dir_all(root)?;
        let lock = disk.lock(&root.join("lock"))?;
        if !options.safe_mode {
            open::tidy(&disk, root);
        }
        let identity = identity(&disk, root)?;
        let redactor = Redactor::builtin().map_err(|error| EngineError::Internal {
            context: "compile the built-in secret patterns",
            message: error.to_string(),
        })?;
        let engine = Self {
            root: root.to_path_buf(),
            payloads: Arc::new(Payloads::new(options.payload_cache_bytes)),
            frames: Arc::new(FrameCache::new(options.frame_cache_bytes)),
            queries: QueryCache::new(options.payload_cache_bytes / 4),
            past: Arc::default(),
            disk,
            options,
            identity,
            redactor: ArcSwap::from_pointee(redactor),
            listeners: Arc::default(),
            scopes: RwLock::default(),
            lock: Mutex::new(Some(lock)),
        };
        for key in engine.keys_on_disk()? {
            if let Err(error) = engine.open_scope(&key, &NoProgress) {
                tracing::error!(scope = %key, %error, "a scope cannot be opened");
            }
        }
        Ok(engine)
    }

    /// Folder of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Name and age of the store.
    pub fn identity(&self) -> &StoreIdentity {
        &self.identity
    }

    /// The disk it lies on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Replaces the patterns by which secrets are taken out of what is written from now on.
    pub fn set_redactor(&self, redactor: Redactor) {
        self.redactor.store(Arc::new(redactor));
    }

    /// The patterns in force.
    pub fn redactor(&self) -> Arc<Redactor> {
        self.redactor.load_full()
    }

    /// Adds a listener for changes, for as long as the engine lives.
    pub fn on_change(&self, listener: ChangeListener) {
        self.listeners.write().push(listener);
    }

    /// Finishes waiting writes, makes every view durable, and releases the lock. Later calls
    /// answer [`EngineError::Closed`].
    pub fn close(&self) -> Result<()> {
        let (open, opening) = {
            let mut scopes = self.scopes.write();
            scopes.closed = true;
            (std::mem::take(&mut scopes.open), std::mem::take(&mut scopes.opening))
        };
        for turn in opening.values() {
            // Whoever is opening a scope finds the store closed and leaves it alone.
            drop(turn.lock());
        }
        for scope in open.values() {
            scope.writer.stop();
        }
        drop(open);
        self.lock.lock().take();
        Ok(())
    }

    /// `memory.get`.
    pub fn get(&self, caller: &Caller, request: GetRequest) -> Result<Item> {
        let routes = self.readable(caller, request.scope.map(Into::into))?;
        let get = |reader: &read::Reader<'_>| read::get(reader, &request);
        let found = match request.version {
            Some(_) => Self::living_first(&routes, &request.id, request.as_of, get),
            None => Self::first(&routes, &request.id, request.as_of, get),
        };
        match found {
            Err(missing @ EngineError::NotFound { .. }) => {
                let told = Self::first(&routes, &request.id, None, |reader| {
                    read::known_versions(reader, &request)
                });
                Err(told.unwrap_or(missing))
            }
            found => found,
        }
    }

    /// `memory.list`.
    pub fn list(&self, caller: &Caller, request: ListRequest) -> Result<ListResult> {
        let routes = self.readable(caller, Some(request.scope))?;
        let answer = || list::list(&routes.readers(request.as_of)?, &request);
        routes.watch(answer())
    }

    /// `memory.history`.
    pub fn history(&self, caller: &Caller, request: HistoryRequest) -> Result<HistoryResult> {
        let routes = self.readable(caller, request.scope.map(Into::into))?;
        let history = |reader: &read::Reader<'_>| read::history(reader, &request);
        Self::living_first(&routes, &request.id, request.as_of, history)
    }

    /// `memory.graph`.
    pub fn graph(&self, caller: &Caller, request: GraphRequest) -> Result<GraphResult> {
        let routes = self.readable(caller, request.scope.map(Into::into))?;
        Self::first(&routes, &request.id, request.as_of, |reader| read::graph(reader, &request))
    }

    /// `memory.query`.
    pub fn query(&self, caller: &Caller, request: QueryRequest) -> Result<QueryResult> {
        let routes = self.readable(caller, Some(request.scope))?;
        let eyes =
            Eyes { clearance: routes.visibility.clearance, owner: routes.visibility.owner.clone() };
        let query = || {
            let mut readers = routes.readers(request.as_of)?;
            // Nothing was there yet; that need not be found out item by item.
            readers.retain(|reader| reader.at != Some(Seq(0)));
            query::query(&readers, &eyes, &request, Some(&self.queries))
        };
        routes.watch(query())
    }

    /// The first answer of the scopes where the item is there; where it is in none of them, of
    /// those that remember it.
    fn living_first<T>(
        routes: &Routes,
        id: &ItemId,
        as_of: Option<Timestamp>,
        ask: impl Fn(&read::Reader<'_>) -> Result<Option<T>>,
    ) -> Result<T> {
        let living = Self::first(routes, id, as_of, |reader| match reader.find(id)? {
            Some(_) => ask(reader),
            None => Ok(None),
        });
        match living {
            Err(EngineError::NotFound { .. }) => Self::first(routes, id, as_of, ask),
            answered => answered,
        }
    }

    /// The first answer of the scopes in lookup order.
    fn first<T>(
        routes: &Routes,
        id: &ItemId,
        as_of: Option<Timestamp>,
        ask: impl Fn(&read::Reader<'_>) -> Result<Option<T>>,
    ) -> Result<T> {
        let first = || {
            for reader in routes.readers(as_of)? {
                if let Some(found) = ask(&reader)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        };
        routes
            .watch(first())?
            .ok_or_else(|| EngineError::NotFound { id: id.clone(), scope: routes.names() })
    }
}

fn identity(disk: &Arc<dyn Disk>, root: &Path) -> Result<StoreIdentity> {
    let path = root.join("store.json");
    if disk.exists(&path)? {
        let identity: StoreIdentity =
            serde_json::from_slice(&disk.read(&path)?).map_err(|error| EngineError::Corrupt {
                what: path.display().to_string(),
                reason: error.to_string(),
            })?;
        if identity.format != FORMAT {
            return Err(EngineError::Corrupt {
                what: path.display().to_string(),
                reason: format!(
                    "the store has format {}, this program reads format {FORMAT}: use the release \
                     that wrote it",
                    identity.format
                ),
            });
        }
        return Ok(identity);
    }
    let identity = StoreIdentity {
        format: FORMAT,
        store_id: ItemId::generate().to_string(),
        created_at: Timestamp::now(),
    };
    let bytes = serde_json::to_vec_pretty(&identity).map_err(|error| EngineError::Internal {
        context: "write store.json",
        message: error.to_string(),
    })?;
    disk.durable_write(&path, &bytes)?;
    Ok(identity)
}
