//! One open scope: its journal, its views, and the thread that writes.
//!
//! Reads take the views as they are and never wait for the writer. The views can be exchanged as
//! a whole (rebuild); a read that began before goes on with those it has.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use llm_memory_disk::Disk;
use parking_lot::{Mutex, RwLock};

use super::counted::Counted;
use super::past::PastMemory;
use super::payloads::Payloads;
use super::writer::WriterHandle;
use super::{ChangeListener, Options};
use crate::blocks::{Afresh, BlockStore};
use crate::catalog::{Blob, Catalog, ReadView};
use crate::config::ScopeConfig;
use crate::error::{EngineError, Result};
use crate::ids::{Digest, ItemId, ScopeKey, Seq};
use crate::item::{Content, canonical};
use crate::journal::{BodyState, JournalError, JournalReader, Location};
use crate::text::TextIndex;

/// The derived structures of a scope, as one exchangeable whole.
pub(crate) struct Views {
    /// Generation: the folder they lie in.
    pub(crate) generation: u64,
    pub(crate) catalog: Catalog,
    /// Shared by the views before and after a failed catalog is opened again.
    pub(crate) text: Arc<TextIndex>,
}

/// What every thread that works on a scope shares.
pub(crate) struct ScopeState {
    pub(crate) key: ScopeKey,
    /// The scope's folder.
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) views: ArcSwap<Views>,
    pub(crate) journal: JournalReader,
    pub(crate) blocks: Arc<BlockStore>,
    pub(crate) config: ArcSwap<ScopeConfig>,
    /// Counts changes of the configuration, for caches.
    pub(crate) config_generation: AtomicU64,
    pub(crate) payloads: Arc<Payloads>,
    /// Memory for reading the past, shared by all scopes.
    pub(crate) past: Arc<PastMemory>,
    pub(crate) listeners: Arc<RwLock<Vec<ChangeListener>>>,
    /// Last record that is durable and visible to readers.
    pub(crate) visible: AtomicU64,
    /// Items with counters.
    pub(crate) counted: Counted,
    /// Why writes are refused.
    pub(crate) read_only: Mutex<Option<Refusal>>,
    /// Why the disk did not take the last write; `None` when it did. The next that succeeds clears
    /// it.
    pub(crate) write_failure: Mutex<Option<String>>,
    /// Why `config.json` could not be used; writes are refused until it can.
    pub(crate) config_fault: Mutex<Option<String>>,
    /// What opening had to mend.
    pub(crate) recovered: Mutex<Vec<String>>,
    /// Held by long work: one at a time.
    pub(crate) maintenance: Mutex<()>,
    /// Bytes of catalog cache given to this scope.
    pub(crate) cache_bytes: usize,
}

/// Why a scope takes no writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server was started so.
    SafeMode,
    /// The journal is damaged, or the views know more than it.
    Damage(String),
    /// The catalog cannot be brought up to the journal; deriving it again ends that.
    Catalog(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SafeMode => f.write_str(
                "the server runs in safe mode: restart it without LLM_MEMORY_SAFE_MODE to write",
            ),
            Self::Damage(reason) | Self::Catalog(reason) => f.write_str(reason),
        }
    }
}

/// An open scope.
pub(crate) struct ScopeStore {
    pub(crate) state: Arc<ScopeState>,
    pub(crate) writer: WriterHandle,
}

impl ScopeStore {
    /// Has the writer look after the catalog, when it may be what failed a reader.
    pub(crate) fn watch<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(EngineError::Disk(_) | EngineError::Internal { .. }) = &result {
            self.writer.nudge();
        }
        result
    }
}

impl ScopeState {
    /// The catalog as of now.
    pub(crate) fn read(&self) -> Result<ReadView> {
        self.views.load().catalog.read()
    }

    /// Last record that readers see.
    pub(crate) fn visible(&self) -> Seq {
        Seq(self.visible.load(Ordering::Acquire))
    }

    /// The content of any version; `None` when it was erased.
    ///
    /// # Errors
    ///
    /// [`EngineError::Corrupt`] when the bytes are not those the hash names.
    pub(crate) fn content(&self, view: &ReadView, hash: Digest) -> Result<Option<Arc<Content>>> {
        // A reader that began before the erasure may have put it into the cache again.
        if view.blob(hash)? == Some(Blob::Erased) {
            return Ok(None);
        }
        self.cached(view, hash)
    }

    fn cached(&self, view: &ReadView, hash: Digest) -> Result<Option<Arc<Content>>> {
        if let Some(content) = self.payloads.get(hash) {
            return Ok(Some(content));
        }
        let Some(bytes) = self.body(view, hash)? else { return Ok(None) };
        let content = Arc::new(canonical::decode(&bytes)?);
        self.payloads.insert(hash, Arc::clone(&content), bytes.len());
        Ok(Some(content))
    }

    /// The canonical bytes with `hash`, checked; `None` when they were erased.
    pub(crate) fn body(&self, view: &ReadView, hash: Digest) -> Result<Option<Vec<u8>>> {
        self.body_by(view, hash, &|| Ok(self.blocks.read(&hash)?))
    }

    /// [`ScopeState::body`] as it is on disk now, past every cache.
    pub(crate) fn body_on_disk(
        &self,
        view: &ReadView,
        hash: Digest,
        blocks: &Afresh<'_>,
    ) -> Result<Option<Vec<u8>>> {
        self.body_by(view, hash, &|| Ok(blocks.read(&hash)?))
    }

    /// What has become of the body with `hash`, which the journal does not hold.
    pub(crate) fn outside(&self, view: &ReadView, hash: Digest, blocks: &Afresh<'_>) -> BodyState {
        let read = blocks.read(&hash).map_err(EngineError::from);
        if let Ok(Some(bytes)) = read {
            return BodyState::Stored(bytes);
        }
        let erased = |view: &ReadView| matches!(view.blob(hash), Ok(Some(Blob::Erased)));
        // It may have been erased, and removed, since the view was taken.
        if erased(view) || self.read().is_ok_and(|now| erased(&now)) {
            return BodyState::Erased;
        }
        match read {
            Ok(_) => BodyState::Missing,
            Err(EngineError::Corrupt { what, reason }) => {
                let file = format!("blocks/{}", what.split(' ').next().unwrap_or_default());
                BodyState::Damaged { file, reason: format!("{what}: {reason}") }
            }
            Err(error) => {
                BodyState::Damaged { file: "blocks".to_owned(), reason: error.to_string() }
            }
        }
    }

    /// The body, which `block` reads where it is in the blocks.
    fn body_by(
        &self,
        view: &ReadView,
        hash: Digest,
        block: &dyn Fn() -> Result<Option<Vec<u8>>>,
    ) -> Result<Option<Vec<u8>>> {
        let bytes = match view.blob(hash)? {
            Some(blob) => match self.blob(hash, blob, block) {
                // A compaction may have moved the body since the view was taken.
                Err(_) => match self.read()?.blob(hash)? {
                    Some(moved) => self.blob(hash, moved, block)?,
                    None => None,
                },
                found => found?,
            },
            None => block()?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let found = Digest::of(&bytes);
        if found != hash {
            return Err(EngineError::Corrupt {
                what: format!("content {hash} of scope {}", self.key),
                reason: format!("its bytes have the hash {found}: run journal.verify"),
            });
        }
        Ok(Some(bytes))
    }

    fn blob(
        &self,
        hash: Digest,
        blob: Blob,
        block: &dyn Fn() -> Result<Option<Vec<u8>>>,
    ) -> Result<Option<Vec<u8>>> {
        match blob {
            Blob::Journal { segment, generation, offset, len } => {
                let at = Location { segment: Seq(segment), generation, offset, len };
                self.journal.body(at).map(Some).map_err(JournalError::into)
            }
            Blob::Block => match block()? {
                Some(bytes) => Ok(Some(bytes)),
                None => Err(EngineError::Corrupt {
                    what: format!("content {hash} of scope {}", self.key),
                    reason: "no block holds it: run journal.verify".to_owned(),
                }),
            },
            Blob::Erased => Ok(None),
            Blob::Missing => Err(EngineError::Corrupt {
                what: format!("content {hash} of scope {}", self.key),
                reason: "neither journal nor blocks hold it: run journal.verify".to_owned(),
            }),
        }
    }

    /// The content of a live item, or of a version that is known not to be erased.
    pub(crate) fn stored(
        &self,
        view: &ReadView,
        id: &ItemId,
        hash: Digest,
    ) -> Result<Arc<Content>> {
        self.cached(view, hash)?.ok_or_else(|| EngineError::Corrupt {
            what: format!("item {id} of scope {}", self.key),
            reason: format!("its content {hash} was erased but it is still listed"),
        })
    }

    /// Refuses writes until the catalog is derived again.
    pub(crate) fn refuse_for_catalog(&self, reason: String) {
        tracing::error!(scope = %self.key, reason, "writes refused");
        self.read_only.lock().get_or_insert(Refusal::Catalog(reason));
    }

    /// Whether writes are refused because of nothing but the catalog.
    pub(crate) fn refuses_for_catalog(&self) -> bool {
        matches!(&*self.read_only.lock(), Some(Refusal::Catalog(_)))
    }

    /// Takes writes again, now that the catalog has been derived again.
    pub(crate) fn catalog_is_well(&self) {
        self.read_only.lock().take_if(|refusal| matches!(refusal, Refusal::Catalog(_)));
    }

    /// Why writes are refused, when they are.
    pub(crate) fn refusal(&self) -> Option<String> {
        let refusal = self.read_only.lock().as_ref().map(Refusal::to_string);
        refusal.or_else(|| self.config_fault.lock().clone())
    }

    pub(crate) fn views_dir(&self, generation: u64) -> PathBuf {
        self.dir.join("views").join(generation.to_string())
    }
}
