//! The index of one scope.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use llm_memory_disk::Disk;
use parking_lot::RwLock;
use tantivy::{Index, IndexReader, ReloadPolicy, Term};

use super::directory::DiskDirectory;
use super::document::{Change, TextField};
use super::error::TextError;
use super::flush::{Flusher, is_crowded, is_overfull, watermark_of};
use super::query::ParsedQuery;
use super::schema::{Fields, tokenizers};
use super::search::{Candidates, Overlay, SearchRequest, Snapshot, scoring};
use super::statistics::Statistics;
use super::tail::{PreparedChange, Tail};
use super::view::View;
use crate::ids::Seq;

/// How to open a text index.
#[derive(Debug, Clone, Copy)]
pub struct TextOptions {
    /// Memory of tantivy's writer while a flush runs, bytes; at least 15 MB are used.
    pub writer_memory_bytes: usize,
    /// Writes in memory at which a flush begins. So many more may gather while it runs, and when
    /// eight times as many have, writers wait.
    pub flush_docs: usize,
    /// Longest time that a write stays in memory only.
    pub flush_interval: Duration,
    /// Never write to disk; changes applied stay in memory.
    pub read_only: bool,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            writer_memory_bytes: 16 << 20,
            flush_docs: 5_000,
            flush_interval: Duration::from_secs(10),
            read_only: false,
        }
    }
}

/// What searches look at. Swapped as a whole, so that a search sees one state.
pub(super) struct State {
    pub(super) view: Arc<View>,
    /// Being committed.
    pub(super) frozen: Option<Arc<Tail>>,
    /// Receives writes.
    pub(super) active: Tail,
}

/// What the index and its background thread share.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) directory: DiskDirectory,
    pub(super) options: TextOptions,
    pub(super) fields: Arc<Fields>,
    pub(super) index: Index,
    pub(super) reader: IndexReader,
    pub(super) state: RwLock<State>,
    pub(super) watermark: AtomicU64,
}

impl Shared {
    pub(super) fn error(
        &self,
        context: &'static str,
    ) -> impl FnOnce(tantivy::TantivyError) -> TextError {
        let (dir, directory) = (self.dir.clone(), self.directory.clone());
        move |error| TextError::from_tantivy(&dir, context, &error, directory.take_failure())
    }
}

/// The text index of one scope. All methods may be called from any thread.
pub struct TextIndex {
    shared: Arc<Shared>,
    flusher: Flusher,
}

impl std::fmt::Debug for TextIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextIndex").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl TextIndex {
    /// Opens the index in `dir`, or creates it. [`TextError::Damaged`] means: delete the folder,
    /// open again, and replay everything.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: TextOptions) -> Result<Self, TextError> {
        let directory = DiskDirectory::new(Arc::clone(&disk), dir);
        let failed = |context| {
            let directory = directory.clone();
            move |error: tantivy::TantivyError| {
                TextError::from_tantivy(dir, context, &error, directory.take_failure())
            }
        };
        let fields = Arc::new(Fields::new());
        let mut index = if disk.exists(&dir.join("meta.json"))? {
            let index = Index::open(directory.clone()).map_err(failed("open"))?;
            if index.schema() != fields.schema {
                return Err(TextError::Damaged {
                    dir: dir.to_path_buf(),
                    reason: "it was made by another version".to_owned(),
                });
            }
            index
        } else if options.read_only {
            Index::create_in_ram(fields.schema.clone())
        } else {
            disk.create_dir_all(dir)?;
            Index::builder()
                .schema(fields.schema.clone())
                .open_or_create(directory.clone())
                .map_err(failed("create"))?
        };
        index.set_tokenizers(tokenizers());
        let metas = index.load_metas().map_err(failed("read meta.json"))?;
        let watermark =
            watermark_of(metas.payload.as_deref()).ok_or_else(|| TextError::Damaged {
                dir: dir.to_path_buf(),
                reason: "meta.json has no watermark".to_owned(),
            })?;
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(0)
            .try_into()
            .map_err(failed("open segments"))?;
        let view = Arc::new(View::new(reader.searcher()).map_err(failed("open columns"))?);
        let state = State { view, frozen: None, active: Tail::after(watermark) };
        let shared = Arc::new(Shared {
            disk,
            dir: dir.to_path_buf(),
            directory,
            options,
            fields,
            index,
            reader,
            state: RwLock::new(state),
            watermark: AtomicU64::new(watermark.0),
        });
        let flusher = Flusher::start(Arc::clone(&shared))?;
        Ok(Self { shared, flusher })
    }

    /// The committed index on disk holds everything up to this record.
    #[must_use]
    pub fn watermark(&self) -> Seq {
        Seq(self.shared.watermark.load(Ordering::Acquire))
    }

    /// Everything up to this record is searchable.
    #[must_use]
    pub fn applied(&self) -> Seq {
        self.shared.state.read().active.last_seq()
    }

    /// Makes changes visible to every search that begins after the return. Works in memory; waits
    /// only when far more writes have gathered than a running flush has taken.
    pub fn apply(&self, changes: Vec<Change>) {
        self.apply_prepared(changes.into_iter().map(PreparedChange::from).collect());
    }

    /// The same for changes whose words have been counted already.
    pub(crate) fn apply_prepared(&self, prepared: Vec<PreparedChange>) {
        let full = {
            let mut state = self.shared.state.write();
            for change in prepared {
                state.active.apply(change);
            }
            self.flusher.is_due(&state.active)
        };
        if full {
            self.flusher.wake_and_make_room(|| {
                is_crowded(&self.shared.state.read().active, self.shared.options.flush_docs)
            });
        }
    }

    /// Moves everything applied so far into the index on disk.
    pub fn flush(&self) -> Result<(), TextError> {
        self.flusher.flush(&self.shared)
    }

    /// Takes the words of everything deleted or overwritten so far from the disk.
    pub fn purge(&self) -> Result<(), TextError> {
        self.flusher.purge(&self.shared)
    }

    /// Why nothing more is to be applied, when that is so: it could not be committed for so long
    /// that memory would run out.
    pub fn overfull(&self) -> Option<String> {
        let failing = self.flusher.failing()?;
        let state = self.shared.state.read();
        is_overfull(&state.active, self.shared.options.flush_docs).then(|| {
            format!(
                "the text index cannot be committed ({failing}), and {} changes wait in memory for \
                 that: mend the disk, it is tried again every few seconds",
                state.active.len()
            )
        })
    }

    /// What BM25 must know for a query.
    pub fn statistics(
        &self,
        query: &ParsedQuery,
        overlay: Option<&Overlay>,
    ) -> Result<Statistics, TextError> {
        let mut sum = Statistics::empty(query);
        let view = {
            let state = self.shared.state.read();
            let tails = overlay.map(|overlay| &overlay.tail).into_iter();
            for tail in tails.chain(state.frozen.as_deref()).chain([&state.active]) {
                add_tail(&mut sum, tail, query);
            }
            Arc::clone(&state.view)
        };
        let searcher = &view.searcher;
        let fields = &self.shared.fields;
        for reader in searcher.segment_readers() {
            sum.documents += u64::from(reader.max_doc());
            for (field, tokens) in TextField::ALL.into_iter().zip(&mut sum.tokens) {
                let index = reader
                    .inverted_index(fields.of(field))
                    .map_err(self.shared.error("read statistics"))?;
                *tokens += index.total_num_tokens();
            }
        }
        for (term, frequency) in query.terms.iter().zip(&mut sum.frequencies) {
            let term = Term::from_field_text(fields.of(term.field), &term.term);
            *frequency += searcher.doc_freq(&term).map_err(self.shared.error("read statistics"))?;
        }
        Ok(sum)
    }

    /// Searches everything applied before the call.
    pub fn search(
        &self,
        request: &SearchRequest<'_>,
        statistics: &Statistics,
    ) -> Result<Candidates, TextError> {
        let scoring = scoring(request.query, statistics, request.parameters);
        let in_tail = |tail: &Tail, shadowed: &dyn Fn(u64) -> bool| {
            tail.search(request.query, &scoring, request.filter, shadowed)
        };
        let mut shadows = Vec::new();
        let mut tail_hits = Vec::new();
        if let Some(overlay) = request.overlay {
            tail_hits.extend(in_tail(&overlay.tail, &|_| false));
            shadows.push(overlay.tail.hashes());
        }
        let (view, frozen) = {
            let state = self.shared.state.read();
            let hidden = |hash| shadows.iter().any(|set| set.contains(&hash));
            tail_hits.extend(in_tail(&state.active, &hidden));
            shadows.push(state.active.hashes());
            (Arc::clone(&state.view), state.frozen.clone())
        };
        if let Some(frozen) = frozen {
            let hidden = |hash| shadows.iter().any(|set| set.contains(&hash));
            tail_hits.extend(in_tail(&frozen, &hidden));
            shadows.push(frozen.hashes());
        }
        shadows.retain(|set| !set.is_empty());
        let snapshot =
            Snapshot { view, fields: Arc::clone(&self.shared.fields), tail_hits, shadows };
        snapshot.search(request, statistics, &scoring).map_err(self.shared.error("search"))
    }

    /// Recomputes the checksums of the committed index; answers the names of damaged files.
    pub fn verify(&self) -> Result<Vec<String>, TextError> {
        let damaged = self.shared.index.validate_checksum().map_err(self.shared.error("verify"))?;
        let mut names: Vec<String> =
            damaged.into_iter().map(|path| path.to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// The committed part as tantivy sees it, for measurements and inspection.
    #[must_use]
    pub fn committed(&self) -> tantivy::Searcher {
        self.shared.state.read().view.searcher.clone()
    }

    /// Items in the committed index, without those deleted.
    #[must_use]
    pub fn committed_docs(&self) -> u64 {
        self.shared.state.read().view.searcher.num_docs()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> Result<u64, TextError> {
        if !self.shared.disk.exists(&self.shared.dir)? {
            return Ok(0);
        }
        Ok(self.shared.disk.list(&self.shared.dir)?.iter().map(|entry| entry.len).sum())
    }

    /// Flushes, waits for merges and stops the background thread.
    pub fn close(&self) -> Result<(), TextError> {
        self.flusher.close(&self.shared)
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

fn add_tail(sum: &mut Statistics, tail: &Tail, query: &ParsedQuery) {
    sum.documents += tail.documents();
    for (sum, tokens) in sum.tokens.iter_mut().zip(tail.tokens()) {
        *sum += tokens;
    }
    for (term, frequency) in query.terms.iter().zip(&mut sum.frequencies) {
        *frequency += tail.frequency(term.field, &term.term);
    }
}
