//! Moving the tail into the committed index, in the background.
//!
//! tantivy's writer is open only while there is something to do: it is kept between flushes that
//! follow each other, so that merges run beside them, and closed after a quiet interval.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tantivy::index::SegmentId;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, NoMergePolicy};
use tantivy::{IndexWriter, Term};

use super::error::TextError;
use super::index::Shared;
use super::tail::Tail;
use super::view::View;
use crate::ids::Seq;

/// Least memory that tantivy's writer accepts.
const LEAST_WRITER_BYTES: usize = 15_000_000;
/// The tail may be so many times larger than it is flushed at before writers wait.
const TAIL_CROWDED: usize = 8;
/// So much fuller than crowded no tail may become while flushes fail.
const TAIL_OVERFULL: usize = 2;
/// Bytes of the tail at which a flush begins, whatever the number of documents.
const TAIL_BYTES: usize = 24 << 20;

const PAYLOAD_PREFIX: &str = "seq:";

/// The watermark that a commit carries; 0 for a new index, `None` for one that is not ours.
pub(super) fn watermark_of(payload: Option<&str>) -> Option<Seq> {
    let Some(payload) = payload else { return Some(Seq(0)) };
    payload.strip_prefix(PAYLOAD_PREFIX)?.parse().ok().map(Seq)
}

#[derive(Debug, Default)]
struct Signals {
    due: bool,
    stop: bool,
    /// Why the last flush failed, when it did; nobody waits for room until one succeeds.
    failing: Option<String>,
}

#[derive(Default)]
struct Control {
    signals: Mutex<Signals>,
    changed: Condvar,
    /// Serialises flushes and holds the open writer.
    writer: Mutex<Option<IndexWriter>>,
}

/// Runs flushes, on request and by itself.
pub(super) struct Flusher {
    control: Arc<Control>,
    thread: Mutex<Option<JoinHandle<()>>>,
    flush_docs: usize,
}

impl Flusher {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, TextError> {
        let control = Arc::new(Control::default());
        let flush_docs = shared.options.flush_docs.max(1);
        let thread = if shared.options.read_only {
            None
        } else {
            let control = Arc::clone(&control);
            let thread = std::thread::Builder::new()
                .name("text-flush".to_owned())
                .spawn(move || background(&shared, &control))
                .map_err(|error| TextError::Internal {
                    context: "start the flush thread",
                    message: error.to_string(),
                })?;
            Some(thread)
        };
        Ok(Self { control, thread: Mutex::new(thread), flush_docs })
    }

    /// Whether the active tail should be flushed.
    pub(super) fn is_due(&self, active: &Tail) -> bool {
        active.len() >= self.flush_docs || active.bytes() >= TAIL_BYTES
    }

    /// Wakes the background thread; waits while the tail is crowded.
    pub(super) fn wake_and_make_room(&self, crowded: impl Fn() -> bool) {
        let mut signals = self.control.signals.lock();
        signals.due = true;
        self.control.changed.notify_all();
        if self.thread.lock().is_none() {
            return;
        }
        while !signals.stop && signals.failing.is_none() && crowded() {
            self.control.changed.wait_for(&mut signals, Duration::from_millis(50));
        }
    }

    pub(super) fn flush(&self, shared: &Shared) -> Result<(), TextError> {
        let target = shared.state.read().active.last_seq();
        let result = flush_to(shared, &self.control, target);
        self.control.finished(&result);
        result
    }

    /// Why the last flush failed, when it did.
    pub(super) fn failing(&self) -> Option<String> {
        self.control.signals.lock().failing.clone()
    }

    /// Flushes, then writes every segment with deleted documents again without them.
    pub(super) fn purge(&self, shared: &Shared) -> Result<(), TextError> {
        self.flush(shared)?;
        let mut slot = self.control.writer.lock();
        // A segment that is being merged cannot be merged by anybody else.
        if let Some(writer) = slot.take() {
            writer.wait_merging_threads().map_err(shared.error("merge"))?;
        }
        purge(shared).map_err(shared.error("purge"))
    }

    pub(super) fn close(&self, shared: &Shared) -> Result<(), TextError> {
        let flushed = if shared.options.read_only { Ok(()) } else { self.flush(shared) };
        self.stop();
        let writer = self.control.writer.lock().take();
        let merged = match writer {
            Some(writer) => writer.wait_merging_threads().map_err(shared.error("merge")),
            None => Ok(()),
        };
        flushed.and(merged)
    }

    fn stop(&self) {
        self.control.signals.lock().stop = true;
        self.control.changed.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the text index's flush thread panicked");
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Control {
    fn finished(&self, result: &Result<(), TextError>) {
        self.signals.lock().failing = result.as_ref().err().map(ToString::to_string);
        self.changed.notify_all();
    }
}

/// Whether so much waits in memory that writers should wait too.
pub(super) fn is_crowded(active: &Tail, flush_docs: usize) -> bool {
    active.len() >= flush_docs.max(1).saturating_mul(TAIL_CROWDED)
        || active.bytes() >= TAIL_BYTES.saturating_mul(TAIL_CROWDED / 2)
}

/// Whether so much waits in memory that no more may be added while it cannot be committed.
pub(super) fn is_overfull(active: &Tail, flush_docs: usize) -> bool {
    let least_docs = flush_docs.max(1).saturating_mul(TAIL_CROWDED * TAIL_OVERFULL);
    active.len() >= least_docs
        || active.bytes() >= TAIL_BYTES.saturating_mul(TAIL_CROWDED / 2 * TAIL_OVERFULL)
}

fn background(shared: &Shared, control: &Control) {
    loop {
        let quiet = {
            let mut signals = control.signals.lock();
            let mut quiet = false;
            while !signals.due && !signals.stop && !quiet {
                let interval = shared.options.flush_interval;
                quiet = control.changed.wait_for(&mut signals, interval).timed_out();
            }
            if signals.stop {
                return;
            }
            signals.due = false;
            quiet
        };
        let (target, waiting) = {
            let state = shared.state.read();
            let waiting = !state.active.is_empty() || state.frozen.is_some();
            (state.active.last_seq(), waiting)
        };
        if waiting {
            let result = flush_to(shared, control, target);
            control.finished(&result);
            if let Err(error) = result {
                tracing::warn!(
                    dir = %shared.dir.display(), %error,
                    "cannot commit the text index; its writes stay in memory and are tried again"
                );
                // Not at once: the disk is full or failing.
                let mut signals = control.signals.lock();
                if !signals.stop {
                    control.changed.wait_for(&mut signals, shared.options.flush_interval);
                }
            }
        } else if quiet {
            // Nothing for an interval: let merges finish and give the writer's memory back. The
            // slot stays locked, since a second writer must not open before this one has closed.
            let mut slot = control.writer.lock();
            if let Some(writer) = slot.take()
                && let Err(error) = writer.wait_merging_threads()
            {
                tracing::warn!(dir = %shared.dir.display(), %error, "a merge of the text index failed");
            }
        }
    }
}

/// Commits until everything up to `target` is in the index on disk.
fn flush_to(shared: &Shared, control: &Control, target: Seq) -> Result<(), TextError> {
    if shared.options.read_only {
        return Err(TextError::ReadOnly);
    }
    let mut writer = control.writer.lock();
    while shared.watermark.load(Ordering::Acquire) < target.0
        || shared.state.read().frozen.is_some()
    {
        let frozen = {
            let mut state = shared.state.write();
            if let Some(frozen) = &state.frozen {
                // Left by a flush that failed.
                Arc::clone(frozen)
            } else {
                let next = Tail::after(state.active.last_seq());
                let frozen = Arc::new(std::mem::replace(&mut state.active, next));
                state.frozen = Some(Arc::clone(&frozen));
                frozen
            }
        };
        let committed = commit(shared, &mut writer, &frozen);
        let view = committed.and_then(|()| reload(shared));
        match view {
            Ok(view) => {
                let mut state = shared.state.write();
                state.view = Arc::new(view);
                state.frozen = None;
                shared.watermark.store(frozen.last_seq().0, Ordering::Release);
            }
            Err(error) => {
                // What the writer has buffered is of no use any more.
                drop(writer.take());
                return Err(shared.error("commit")(error));
            }
        }
    }
    Ok(())
}

/// The index as it is on disk now.
fn reload(shared: &Shared) -> tantivy::Result<View> {
    shared.reader.reload()?;
    View::new(shared.reader.searcher())
}

/// Merges every segment that holds deleted documents with nothing, so that they go, and removes
/// its files. Searches that run keep theirs until the next commit.
fn purge(shared: &Shared) -> tantivy::Result<()> {
    let mut writer = open_writer(shared)?;
    writer.set_merge_policy(Box::new(NoMergePolicy));
    let segments = shared.index.searchable_segment_metas()?.into_iter();
    let with_deleted = segments.filter(|segment| segment.num_deleted_docs() > 0);
    let ids: Vec<SegmentId> = with_deleted.map(|segment| segment.id()).collect();
    for id in ids {
        writer.merge(&[id]).wait()?;
    }
    let view = reload(shared)?;
    shared.state.write().view = Arc::new(view);
    writer.garbage_collect_files().wait()?;
    writer.wait_merging_threads()
}

fn commit(shared: &Shared, slot: &mut Option<IndexWriter>, tail: &Tail) -> tantivy::Result<()> {
    if slot.is_none() {
        *slot = Some(open_writer(shared)?);
    }
    let Some(writer) = slot.as_mut() else { return Ok(()) };
    for (id, doc) in tail.entries() {
        writer.delete_term(Term::from_field_text(shared.fields.id, id.as_str()));
        if let Some(doc) = doc {
            writer.add_document(shared.fields.document(doc))?;
        }
    }
    let mut prepared = writer.prepare_commit()?;
    prepared.set_payload(&format!("{PAYLOAD_PREFIX}{}", tail.last_seq()));
    prepared.commit()?;
    Ok(())
}

fn open_writer(shared: &Shared) -> tantivy::Result<IndexWriter> {
    let options = IndexWriterOptions::builder()
        .num_worker_threads(1)
        .num_merge_threads(1)
        .memory_budget_per_thread(shared.options.writer_memory_bytes.max(LEAST_WRITER_BYTES))
        .build();
    let writer = shared.index.writer_with_options(options)?;
    // The first operation would get the number of the last commit. A merge that begins before the
    // next one takes that operation for part of the commit, for those of its segments that were not
    // changed by it, and forgets it for the others: what it deletes would come back. Doing nothing
    // takes a number, too.
    writer.run(std::iter::empty())?;
    // Few segments make searches fast; half the items overwritten make a segment worth merging.
    let mut policy = LogMergePolicy::default();
    policy.set_min_num_segments(5);
    policy.set_del_docs_ratio_before_merge(0.5);
    writer.set_merge_policy(Box::new(policy));
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llm_memory_disk::{Disk, OsDisk};

    use super::*;
    use crate::text::tests::{doc, put};
    use crate::text::{TextIndex, TextOptions};

    #[test]
    fn the_first_change_after_an_interrupted_merge_deletes_what_it_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let options =
                TextOptions { flush_interval: Duration::from_secs(3600), ..TextOptions::default() };
            TextIndex::open(Arc::new(OsDisk) as Arc<dyn Disk>, dir.path() as &Path, options)
                .unwrap()
        };
        let index = open();
        let mut seq = 0;
        let mut commit_all = |slot: &mut Option<IndexWriter>, ids: &[&str]| {
            let mut tail = Tail::after(Seq(seq));
            for id in ids {
                seq += 1;
                tail.apply(put(doc(id, seq, "word")).into());
            }
            commit(index.shared(), slot, &tail).unwrap();
        };
        // Enough segments to be merged, which nobody has come to: the process was killed.
        let mut slot = Some(open_writer(index.shared()).unwrap());
        slot.as_ref().unwrap().set_merge_policy(Box::new(NoMergePolicy));
        commit_all(&mut slot, &["a", "b", "c", "d"]);
        commit_all(&mut slot, &["e", "f", "g"]);
        commit_all(&mut slot, &["h"]);
        commit_all(&mut slot, &["i"]);
        commit_all(&mut slot, &["j"]);
        // The last commit deletes of the second segment.
        commit_all(&mut slot, &["e"]);
        slot.take().unwrap().wait_merging_threads().unwrap();
        drop(index);

        let index = open();
        index.apply(vec![put(doc("f", seq + 1, "word"))]);
        index.close().unwrap();
        drop(index);
        assert_eq!(open().committed_docs(), 10);
    }
}
