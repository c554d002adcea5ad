//! Brings views up to their journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::Durability;

use super::scope::{ScopeState, Views};
use super::source::index_doc;
use crate::blocks::BlockStore;
use crate::catalog::{Applied, Applier, Blob, Catalog, ItemRecord, ReadView, Tables, failure};
use crate::error::{EngineError, Result};
use crate::ids::{Digest, Scope, Seq};
use crate::item::canonical;
use crate::item::similarity::Sketch;
use crate::journal::{JournalError, JournalReader, Location, Record};
use crate::progress::{NoProgress, Progress};
use crate::text::{Change, TextError};

/// Records applied in one catalog transaction while replaying.
const REPLAY_BATCH: usize = 2000;
/// Content bytes after which such a transaction ends all the same.
const REPLAY_BYTES: usize = 4 << 20;

/// Where contents come from while views are derived.
pub(crate) struct Source<'a> {
    pub(crate) journal: &'a JournalReader,
    pub(crate) blocks: &'a BlockStore,
    /// The catalog of before, which knows titles of contents that cannot be read any more.
    pub(crate) before: Option<&'a ReadView>,
}

impl Source<'_> {
    /// A body in the blocks, and where it lies; one that is damaged is as good as none, but keeps
    /// its place. `damaged` is where the journal has it, damaged.
    fn outside(&self, hash: Digest, damaged: Option<Location>) -> Result<(Option<Vec<u8>>, Blob)> {
        match self.blocks.read(&hash).map_err(EngineError::from) {
            Ok(Some(body)) => Ok((Some(body), Blob::Block)),
            Ok(None) => Ok((None, damaged.map_or(Blob::Missing, Blob::from))),
            Err(error @ EngineError::Corrupt { .. }) => {
                tracing::error!(%error, %hash, "a content is lost");
                Ok((None, damaged.map_or(Blob::Block, Blob::from)))
            }
            Err(error) => Err(error),
        }
    }

    /// A body that the catalog has in the journal; one that is damaged is as good as none.
    fn inside(&self, hash: Digest, at: Location) -> Result<Option<Vec<u8>>> {
        match self.journal.body(at) {
            Ok(body) if Digest::of(&body) == hash => Ok(Some(body)),
            Ok(_) | Err(JournalError::Corrupt { .. }) => Ok(self.outside(hash, Some(at))?.0),
            Err(error) => Err(error.into()),
        }
    }

    /// What the catalog of before knows of a content that was not erased.
    fn known(&self, record: &Record) -> Option<ItemRecord> {
        let before = self.before?;
        if before.blob(record.hash).ok()? == Some(Blob::Erased) {
            return None;
        }
        before.item(&record.id).ok()?.filter(|item| item.hash() == record.hash)
    }
}

/// Brings the catalog and the index of an open scope up to its journal.
pub(crate) fn replay(state: &ScopeState, views: &Views, progress: &dyn Progress) -> Result<()> {
    let source = Source { journal: &state.journal, blocks: &state.blocks, before: None };
    let head = state.journal.head().seq;
    let lost = replay_catalog(views, &source, head, progress)?;
    state.recovered.lock().extend(lost_note(lost));
    follow_text(views, &source, progress)?;
    state.visible.store(head.0, Ordering::Release);
    Ok(())
}

/// Opens the catalog of an open scope again, after it has failed, and brings it up to the journal
/// before anybody reads it.
pub(crate) fn reopen(state: &ScopeState) -> Result<()> {
    let old = state.views.load_full();
    let path = state.views_dir(old.generation).join("catalog.redb");
    // The old one is still open for readers. That is safe: having failed, it neither writes to
    // the file nor reads from it any more.
    let catalog = Catalog::open(&state.disk, &path, state.cache_bytes)?;
    let views = Views { generation: old.generation, catalog, text: Arc::clone(&old.text) };
    replay(state, &views, &NoProgress)?;
    state.views.store(Arc::new(views));
    Ok(())
}

/// Applies what the catalog lacks up to record `until`; says how many contents cannot be read and
/// were not erased.
pub(crate) fn replay_catalog(
    views: &Views,
    source: &Source<'_>,
    until: Seq,
    progress: &dyn Progress,
) -> Result<u64> {
    let mut done = Seq(views.catalog.read()?.totals()?.seq);
    let mut lines = source.journal.lines(done.next())?;
    let mut absent = Vec::new();
    while done < until {
        let txn = views.catalog.begin_write(Durability::None)?;
        {
            let mut tables = Tables::open(&txn)?;
            let mut applier = Applier::new(&mut tables)?;
            let (mut records, mut bytes) = (0, 0);
            while done < until && records < REPLAY_BATCH && bytes < REPLAY_BYTES {
                let Some(line) = lines.next() else {
                    return Err(EngineError::Corrupt {
                        what: "journal".to_owned(),
                        reason: format!("record {} of {until} is not there", done.next()),
                    });
                };
                let line = line?;
                let (body, blob) = match line.body {
                    Some((at, body)) => (Some(body), Some(Blob::from(at))),
                    None if line.record.op.carries_content() => {
                        let (body, blob) = source.outside(line.record.hash, line.damaged)?;
                        (body, Some(blob))
                    }
                    None => (None, None),
                };
                let mut known = None;
                if body.is_none() && blob.is_some() {
                    absent.push(line.record.hash);
                    known = source.known(&line.record);
                }
                let content = body.as_deref().map(canonical::decode).transpose()?;
                let sketch = content.as_ref().and_then(Sketch::of);
                let content_bytes = match (&body, &known) {
                    (Some(body), _) => body.len(),
                    (None, known) => known.as_ref().map_or(0, |item| item.content_bytes as usize),
                };
                applier.apply(&Applied {
                    record: &line.record,
                    head_hash: line.head_hash,
                    content: content.as_ref(),
                    known: known.as_ref(),
                    content_bytes,
                    blob,
                    sketch: sketch.as_ref(),
                })?;
                done = line.record.seq;
                records += 1;
                bytes += content_bytes;
            }
            applier.finish()?;
        }
        txn.commit().map_err(|error| failure("replay the journal", error))?;
        progress.report(done.0, Some(until.0), "records replayed");
    }
    lost(views, &absent)
}

/// How many of the contents that cannot be read have not been erased either.
fn lost(views: &Views, absent: &[Digest]) -> Result<u64> {
    if absent.is_empty() {
        return Ok(0);
    }
    let view = views.catalog.read()?;
    let mut lost = 0_u64;
    for hash in absent {
        lost += u64::from(view.blob(*hash)? != Some(Blob::Erased));
    }
    Ok(lost)
}

/// Tells of contents that are lost.
pub(crate) fn lost_note(lost: u64) -> Option<String> {
    let note = format!("the content of {lost} versions is lost: journal.verify names them");
    (lost > 0).then_some(note)
}

/// Puts into the index what changed since its watermark: the latest state of each item, once.
pub(crate) fn follow_text(
    views: &Views,
    source: &Source<'_>,
    progress: &dyn Progress,
) -> Result<()> {
    let view = views.catalog.read()?;
    let until = Seq(view.totals()?.seq);
    let from = views.text.watermark();
    if from > until {
        return Err(EngineError::Corrupt {
            what: "text index".to_owned(),
            reason: format!("is at record {from}, beyond the catalog's {until}"),
        });
    }
    if from == until {
        return Ok(());
    }
    let mut batch = Vec::new();
    let (mut done, mut bytes) = (0_u64, 0);
    // In order of the journal, so that a watermark never runs ahead of what is indexed.
    for change in view.changes(from, until)? {
        let (seq, _, id) = change?;
        let Some(record) = view.item(&id)?.filter(|record| record.seq == seq) else { continue };
        let hash = record.hash();
        let blob = view.blob(hash)?;
        let body = match blob {
            _ if record.deleted => None,
            Some(Blob::Journal { segment, generation, offset, len }) => {
                source.inside(hash, Location { segment: Seq(segment), generation, offset, len })?
            }
            Some(Blob::Block) | None => source.outside(hash, None)?.0,
            Some(Blob::Erased | Blob::Missing) => None,
        };
        batch.push(match body {
            Some(body) => {
                bytes += body.len();
                let content = canonical::decode(&body)?;
                Change::Put { seq, doc: Box::new(index_doc(&content, seq)) }
            }
            None if record.deleted || blob == Some(Blob::Erased) => Change::Remove { seq, id },
            // Found by what the catalog knows, and then told to be damaged; never an older content
            // in its place. The index holds no scope.
            None => {
                let content = record.skeleton(&id, Scope::Local);
                Change::Put { seq, doc: Box::new(index_doc(&content, seq)) }
            }
        });
        if batch.len() >= REPLAY_BATCH || bytes >= REPLAY_BYTES {
            done += batch.len() as u64;
            bytes = 0;
            views.text.apply(std::mem::take(&mut batch));
            // Without it a rebuild of a large store would hold the whole store in memory. In safe
            // mode it must.
            match views.text.flush() {
                Ok(()) | Err(TextError::ReadOnly) => {}
                Err(error) => return Err(error.into()),
            }
            progress.report(done, None, "items indexed");
        }
    }
    batch.push(Change::Advance { seq: until });
    views.text.apply(batch);
    Ok(())
}
