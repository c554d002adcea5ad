//! The engine's facade: opens a data directory, routes every operation to the scopes it names,
//! and keeps the views behind the journal.

mod query;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llm_memory_disk::Disk;

use crate::api::{
    AppendRequest, Caller, CleanupResult, DeleteRequest, FeedbackRequest, GetRequest, GraphRequest,
    GraphResult, HistoryRequest, HistoryResult, InclusionProof, ItemRequest, JournalMigrateResult,
    JournalStats, JournalVerifyResult, LinkRequest, ListRequest, ListResult, MaintenanceResult,
    MergeRequest, PatchRequest, ProveRequest, PruneRequest, PruneResult, QueryRequest, QueryResult,
    RenewRequest, ReplayRequest, ScopeRequest, ScopeStatus, SnapshotResult, SyncMergeRequest,
    SyncMergeResult, SyncStatus, TagRequest, UpsertRequest, ViewsVerifyResult, WriteResult,
};
use crate::error::{EngineError, Result};
use crate::ids::{ItemId, ScopeKey, Seq, Version};
use crate::item::Item;
use crate::progress::Progress;

/// How to open a store. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Serve reads from what is there; start no background work and refuse writes.
    pub safe_mode: bool,
    /// Budget of the catalog's page cache, over all open scopes.
    pub cache_bytes: u64,
    /// Budget of the payload cache (decoded items).
    pub payload_cache_bytes: u64,
    /// Budget of the decoded-block cache.
    pub frame_cache_bytes: u64,
    /// Size at which a journal segment is sealed.
    pub segment_bytes: u64,
    /// Writes that may wait in one scope before the answer is `busy`.
    pub write_queue: usize,
    /// Longest item (title, text and code together).
    pub max_item_bytes: usize,
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
            max_item_bytes: 1 << 20,
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
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("root", &self.root).finish_non_exhaustive()
    }
}

macro_rules! pending {
    ($($(#[$doc:meta])* fn $name:ident($request:ty) -> $result:ty;)*) => {
        impl Engine {
            $(
                $(#[$doc])*
                pub fn $name(&self, caller: &Caller, request: $request) -> Result<$result> {
                    let _ = (caller, request, &self.disk, &self.options);
                    Err(EngineError::Closed)
                }
            )*
        }
    };
}

macro_rules! pending_long {
    ($($(#[$doc:meta])* fn $name:ident($request:ty) -> $result:ty;)*) => {
        impl Engine {
            $(
                $(#[$doc])*
                pub fn $name(
                    &self,
                    caller: &Caller,
                    request: $request,
                    progress: &dyn Progress,
                ) -> Result<$result> {
                    let _ = (caller, request, progress);
                    Err(EngineError::Closed)
                }
            )*
        }
    };
}

pending! {
    /// `memory.upsert`.
    fn upsert(UpsertRequest) -> WriteResult;
    /// `memory.delete`.
    fn delete(DeleteRequest) -> WriteResult;
    /// `memory.pin`.
    fn pin(ItemRequest) -> WriteResult;
    /// `memory.unpin`.
    fn unpin(ItemRequest) -> WriteResult;
    /// `memory.use`.
    fn record_use(ItemRequest) -> WriteResult;
    /// `memory.tag`.
    fn tag(TagRequest) -> WriteResult;
    /// `memory.patch`.
    fn patch(PatchRequest) -> WriteResult;
    /// `memory.append`.
    fn append(AppendRequest) -> WriteResult;
    /// `memory.merge`.
    fn merge(MergeRequest) -> WriteResult;
    /// `memory.link`.
    fn link(LinkRequest) -> WriteResult;
    /// `memory.renew`.
    fn renew(RenewRequest) -> WriteResult;
    /// `memory.feedback`.
    fn feedback(FeedbackRequest) -> WriteResult;
    /// `memory.get`.
    fn get(GetRequest) -> Item;
    /// `memory.list`.
    fn list(ListRequest) -> ListResult;
    /// `memory.query`.
    fn query(QueryRequest) -> QueryResult;
    /// `memory.graph`.
    fn graph(GraphRequest) -> GraphResult;
    /// `memory.history`.
    fn history(HistoryRequest) -> HistoryResult;
    /// `journal.stats`, by scope.
    fn journal_stats(ScopeRequest) -> BTreeMap<String, JournalStats>;
    /// `journal.prove`.
    fn journal_prove(ProveRequest) -> InclusionProof;
    /// `project.sync.status`.
    fn sync_status(()) -> SyncStatus;
    /// `project.sync.merge`.
    fn sync_merge(SyncMergeRequest) -> SyncMergeResult;
}

pending_long! {
    /// `journal.verify`, by scope.
    fn journal_verify(ScopeRequest) -> BTreeMap<String, JournalVerifyResult>;
    /// `journal.migrate`, by scope.
    fn journal_migrate(ScopeRequest) -> BTreeMap<String, JournalMigrateResult>;
    /// `maintenance.rebuild`: drops every view and derives it again, by scope.
    fn rebuild(ScopeRequest) -> BTreeMap<String, MaintenanceResult>;
    /// `maintenance.replay`, by scope.
    fn replay(ReplayRequest) -> BTreeMap<String, MaintenanceResult>;
    /// `maintenance.compact`, by scope.
    fn compact(ScopeRequest) -> BTreeMap<String, MaintenanceResult>;
    /// `maintenance.snapshot`, by scope.
    fn snapshot(ScopeRequest) -> BTreeMap<String, SnapshotResult>;
    /// `maintenance.verify`, by scope.
    fn verify_views(ScopeRequest) -> BTreeMap<String, ViewsVerifyResult>;
    /// `maintenance.prune`.
    fn prune(PruneRequest) -> PruneResult;
    /// `maintenance.cleanup`, by scope.
    fn cleanup(PruneRequest) -> BTreeMap<String, CleanupResult>;
}

impl Engine {
    /// Opens (or creates) the store in `root` under its exclusive lock.
    pub fn open(disk: Arc<dyn Disk>, root: &Path, options: Options) -> Result<Self> {
        Ok(Self { root: root.to_path_buf(), disk, options })
    }

    /// Folder of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What each scope that has been opened holds.
    pub fn status(&self) -> Result<Vec<ScopeStatus>> {
        Err(EngineError::Closed)
    }

    /// Adds a listener for changes.
    pub fn on_change(&self, listener: ChangeListener) {
        drop(listener);
    }

    /// Finishes waiting writes, makes every view durable, and releases the lock. Later calls
    /// answer [`EngineError::Closed`].
    pub fn close(&self) -> Result<()> {
        Ok(())
    }
}
