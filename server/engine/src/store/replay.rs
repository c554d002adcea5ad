//! Brings views up to their journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::Durability;

use super::scope::{ScopeState, Views};
use super::source::index_doc;
use crate::blocks::BlockStore;
use crate::catalog::{Applied, Applier, Blob, Catalog, Tables, failure};
use crate::error::{EngineError, Result};
use crate::ids::{Digest, Seq};
use crate::item::canonical;
use crate::item::similarity::Sketch;
use crate::journal::JournalReader;
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
}

impl Source<'_> {
    /// A body in the blocks; one that is damaged is as good as none.
    fn block(&self, hash: &Digest) -> Result<Option<Vec<u8>>> {
        match self.blocks.read(hash).map_err(EngineError::from) {
            Err(error @ EngineError::Corrupt { .. }) => {
                tracing::error!(%error, %hash, "a content is lost");
                Ok(None)
            }
            body => body,
        }
    }
}

/// Brings the catalog and the index of an open scope up to its journal.
pub(crate) fn replay(state: &ScopeState, views: &Views, progress: &dyn Progress) -> Result<()> {
    let source = Source { journal: &state.journal, blocks: &state.blocks };
    let head = state.journal.head().seq;
    let notes = replay_catalog(views, &source, head, progress)?;
    state.recovered.lock().extend(notes);
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

/// Applies what the catalog lacks up to record `until`; says which contents were not found.
pub(crate) fn replay_catalog(
    views: &Views,
    source: &Source<'_>,
    until: Seq,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
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
                        let body = source.block(&line.record.hash)?;
                        let blob = if body.is_some() { Blob::Block } else { Blob::Missing };
                        (body, Some(blob))
                    }
                    None => (None, None),
                };
                if blob == Some(Blob::Missing) {
                    absent.push(line.record.hash);
                }
                let content = body.as_deref().map(canonical::decode).transpose()?;
                let sketch = content.as_ref().and_then(Sketch::of);
                let content_bytes = body.as_ref().map_or(0, Vec::len);
                applier.apply(&Applied {
                    record: &line.record,
                    head_hash: line.head_hash,
                    content: content.as_ref(),
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

/// Notes how many of the contents that were not found had not been erased either.
fn lost(views: &Views, absent: &[Digest]) -> Result<Vec<String>> {
    if absent.is_empty() {
        return Ok(Vec::new());
    }
    let view = views.catalog.read()?;
    let mut lost = 0_u64;
    for hash in absent {
        lost += u64::from(view.blob(*hash)? == Some(Blob::Missing));
    }
    let note = format!("the content of {lost} versions is lost: journal.verify names them");
    Ok(if lost == 0 { Vec::new() } else { vec![note] })
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
        let body = match view.blob(record.hash())? {
            _ if record.deleted => None,
            Some(Blob::Journal { segment, generation, offset, len }) => {
                let at =
                    crate::journal::Location { segment: Seq(segment), generation, offset, len };
                Some(source.journal.body(at)?)
            }
            Some(Blob::Block) | None => source.block(&record.hash())?,
            Some(Blob::Erased | Blob::Missing) => None,
        };
        batch.push(match body {
            Some(body) => {
                bytes += body.len();
                let content = canonical::decode(&body)?;
                Change::Put { seq, doc: Box::new(index_doc(&content, seq)) }
            }
            // Also where the content is lost: an older one must not be found in its place.
            None => Change::Remove { seq, id },
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
