//! Writing segments again: to leave bodies out for good, and to make one of many small ones.
//!
//! Segments are immutable, so what stays is written to a new segment, and the old ones are
//! removed when the new one is durable. Bodies that stay keep their order. A crash in between
//! leaves old and new: nothing is lost, but the old segments still hold bodies that were to go,
//! so the call is to be repeated, which is cheap when there is nothing left to do.
//!
//! When it goes wrong: a segment that cannot be read, or of which bodies are missing, stays as it
//! is and is named; the others are done. Files that cannot be removed are no longer read, and
//! removing them is tried again by every later call.

use std::collections::HashSet;
use std::sync::Arc;

use super::BLOCK_SEGMENT_BYTES;
use super::error::{BlockError, Result};
use super::index::Entry;
use super::names::Name;
use super::segment::{Segment, SharedSegment};
use super::store::{BlockStore, Shared, Stale};
use super::writer::SegmentFile;
use crate::ids::Digest;

/// What writing segments again did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// Segments that were replaced.
    pub(crate) segments: u64,
    /// Bodies that were left out and are in no file any more, by hash, each once.
    pub(crate) left_out: Vec<Digest>,
    /// What could not be done, and why; it is tried again with the next call.
    pub(crate) errors: Vec<String>,
}

/// A segment with files smaller than this is small.
const SMALL_BYTES: u64 = 32 << 20;

/// So many small segments are made one. Bounds the segments that a lookup asks and the files
/// that are open, at the price of writing a body about five times before it lies in a large one.
const SMALL_SEGMENTS: usize = 8;

impl BlockStore {
    /// Writes every segment again that holds a body for which `leave_out` says `true`.
    ///
    /// # Errors
    ///
    /// Only those that would meet every other segment as well, as a full disk does. A damaged
    /// body that is to stay stops the rewriting of its segment alone.
    pub(crate) fn rewrite_without(&self, leave_out: &dyn Fn(&Digest) -> bool) -> Result<Rewritten> {
        let _one_at_a_time = self.shared.rewriting.lock();
        let mut done = Rewritten::default();
        for segment in self.shared.segments().iter() {
            if !segment.index.iter().any(|entry| leave_out(&entry.digest)) {
                continue;
            }
            match replace(&self.shared, std::slice::from_ref(segment), leave_out) {
                Ok(()) => done.segments += 1,
                Err(Failed { error, .. }) => done.note(error)?,
            }
        }
        done.errors.extend(self.shared.unopened.iter().map(|(_, reason)| reason.clone()));
        self.shared.remove_stale(&mut done);
        Ok(done)
    }

    /// Makes large segments of the small ones if there are many. To be called now and then, after
    /// segments were written.
    ///
    /// # Errors
    ///
    /// As for [`BlockStore::rewrite_without`].
    pub(crate) fn merge_small(&self) -> Result<Rewritten> {
        self.merge(BLOCK_SEGMENT_BYTES)
    }

    /// Merges small segments into ones of at most `limit` bytes, or of two.
    pub(super) fn merge(&self, limit: u64) -> Result<Rewritten> {
        let _one_at_a_time = self.shared.rewriting.lock();
        let mut done = Rewritten::default();
        let mut small: Vec<_> = self.shared.segments().iter().cloned().collect();
        small.retain(|segment| segment.bytes() < SMALL_BYTES);
        while small.len() >= SMALL_SEGMENTS {
            let mut bytes = 0;
            let fits = |segment: &&SharedSegment| {
                bytes += segment.bytes();
                bytes <= limit
            };
            let count = small.iter().take_while(fits).count().max(2);
            let mut group: Vec<_> = small.drain(..count).collect();
            match replace(&self.shared, &group, &|_| false) {
                Ok(()) => done.segments += count as u64,
                Err(Failed { segment: Some(number), error }) => {
                    done.note(error)?;
                    group.retain(|segment| segment.number != number);
                    small.splice(..0, group);
                }
                Err(Failed { segment: None, error }) => return Err(error),
            }
        }
        self.shared.remove_stale(&mut done);
        Ok(done)
    }
}

impl Rewritten {
    /// Keeps an error for the report, unless going on is vain.
    fn note(&mut self, error: BlockError) -> Result<()> {
        if matches!(&error, BlockError::Disk(error) if error.is_no_space()) {
            return Err(error);
        }
        self.errors.push(error.to_string());
        Ok(())
    }
}

/// Why segments could not be replaced.
struct Failed {
    /// The one that could not be read, if it was that.
    segment: Option<u64>,
    error: BlockError,
}

impl From<BlockError> for Failed {
    fn from(error: BlockError) -> Self {
        Self { segment: None, error }
    }
}

/// Puts one segment in the place of `old`, whose files are stale from then on.
fn replace(
    shared: &Arc<Shared>,
    old: &[SharedSegment],
    leave_out: &dyn Fn(&Digest) -> bool,
) -> Result<(), Failed> {
    let mut file = SegmentFile::create(shared)?;
    let mut taken = HashSet::new();
    let mut stale = Vec::with_capacity(old.len());
    for segment in old {
        let mut left_out = Vec::new();
        copy(segment, &mut file, &mut taken, leave_out, &mut left_out)?;
        stale.push((segment.number, Stale { segment: Some(Arc::clone(segment)), left_out }));
    }
    let new = file.finish()?;
    let numbers: Vec<u64> = stale.iter().map(|(number, _)| *number).collect();
    shared.stale.lock().extend(stale);
    shared.replace(&numbers, new);
    Ok(())
}

/// Appends to `file` what is to stay of `segment` and not there yet.
fn copy(
    segment: &Segment,
    file: &mut SegmentFile,
    taken: &mut HashSet<Digest>,
    leave_out: &dyn Fn(&Digest) -> bool,
    left_out: &mut Vec<Digest>,
) -> Result<(), Failed> {
    let unreadable = |error| Failed { segment: Some(segment.number), error };
    // An index that was derived over damage does not know what was there.
    segment.check_whole().map_err(unreadable)?;
    let mut entries: Vec<_> = segment.index.iter().collect();
    entries.sort_unstable_by_key(|entry| (entry.block, entry.offset));
    for entries in entries.chunk_by(|a, b| a.block == b.block) {
        let (go, mut stay): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().partition(|entry| leave_out(&entry.digest));
        left_out.extend(go.iter().map(|entry| entry.digest));
        stay.retain(|entry| taken.insert(entry.digest));
        let Some(first) = stay.first() else { continue };
        let content = segment.content(first.block).map_err(unreadable)?;
        for entry in stay {
            let body = segment.body(entry, &content).map_err(unreadable)?;
            file.append(entry.digest, body.to_vec())?;
        }
    }
    Ok(())
}

impl Shared {
    /// Removes the files of a segment that has its name but is not to be read. Where that fails, it
    /// is tried again with those of segments that were replaced.
    pub(super) fn abandon(&self, number: u64) {
        let removed = remove(self, number).and_then(|()| Ok(self.disk.sync_dir(&self.dir)?));
        if let Err(error) = removed {
            tracing::warn!(%error, "a segment that was not finished is not removed yet");
            self.stale.lock().insert(number, Stale { segment: None, left_out: Vec::new() });
        }
    }

    /// Removes the files of segments that were replaced.
    pub(super) fn remove_stale(&self, done: &mut Rewritten) {
        let mut stale = self.stale.lock();
        if stale.is_empty() {
            return;
        }
        let mut removed = Vec::new();
        for number in stale.keys() {
            match remove(self, *number) {
                Ok(()) => removed.push(*number),
                Err(error) => done.errors.push(error.to_string()),
            }
        }
        if let Err(error) = self.disk.sync_dir(&self.dir) {
            done.errors.push(error.to_string());
            return;
        }
        let gone = removed.iter().filter_map(|number| stale.remove(number));
        let mut left_out: Vec<Digest> = gone.flat_map(|gone| gone.left_out).collect();
        // Two segments may have held the same body.
        left_out.sort_unstable();
        left_out.dedup();
        left_out.retain(|digest| {
            let holds = |stale: &&mut Stale| {
                let segment = stale.segment.as_ref();
                segment.is_none_or(|segment| !matches!(segment.find(digest), Ok(None)))
            };
            // It is told once that file is gone as well.
            if let Some(holder) = stale.values_mut().find(holds) {
                holder.left_out.push(*digest);
                return false;
            }
            !self.contains(digest).unwrap_or(true)
        });
        done.left_out.append(&mut left_out);
    }
}

fn remove(shared: &Shared, number: u64) -> Result<()> {
    for name in [Name::Container(number), Name::Index(number)] {
        match shared.disk.remove_file(&shared.path(name)) {
            // Removed by an earlier call, or an index that was kept in memory only.
            Err(error) if error.is_not_found() => {}
            result => result?,
        }
    }
    Ok(())
}
