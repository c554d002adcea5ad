//! Writing segments again: to leave bodies out for good, and to make one of many small ones.
//!
//! Segments are immutable, so what stays is written to a new segment, and the old ones are
//! removed when the new one is durable. Bodies that stay keep their order. A crash in between
//! leaves old and new: nothing is lost, but the old segments still hold bodies that were to go,
//! so the call is to be repeated, which is cheap when there is nothing left to do.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::Result;
use super::index::Entry;
use super::names::Name;
use super::segment::{Segment, SharedSegment};
use super::store::{BlockStore, Shared};
use super::writer::SegmentFile;
use crate::ids::Digest;

/// What writing segments again did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// Segments that were replaced.
    pub(crate) segments: u64,
    /// Bodies that are gone, by hash.
    pub(crate) left_out: Vec<Digest>,
    /// Bytes on disk of those segments before.
    pub(crate) before: u64,
    /// And after.
    pub(crate) after: u64,
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
    /// A damaged body that is to stay stops the rewriting of its segment, which then stays as it
    /// is; segments done before it are done.
    pub(crate) fn rewrite_without(&self, leave_out: &dyn Fn(&Digest) -> bool) -> Result<Rewritten> {
        let _one_at_a_time = self.shared.rewriting.lock();
        let mut done = Rewritten::default();
        for segment in self.shared.segments().iter() {
            if segment.index.iter().any(|entry| leave_out(&entry.digest)) {
                replace(&self.shared, std::slice::from_ref(segment), leave_out, &mut done)?;
            }
        }
        Ok(done)
    }

    /// Makes one segment of the small ones if there are many. To be called now and then, after
    /// segments were written.
    ///
    /// # Errors
    ///
    /// As for [`BlockStore::rewrite_without`].
    pub(crate) fn merge_small(&self) -> Result<Rewritten> {
        let _one_at_a_time = self.shared.rewriting.lock();
        let mut done = Rewritten::default();
        let segments = self.shared.segments();
        let small: Vec<_> =
            segments.iter().filter(|segment| segment.bytes() < SMALL_BYTES).cloned().collect();
        if small.len() >= SMALL_SEGMENTS {
            replace(&self.shared, &small, &|_| false, &mut done)?;
        }
        Ok(done)
    }
}

/// Puts one segment in the place of `old`.
fn replace(
    shared: &Arc<Shared>,
    old: &[SharedSegment],
    leave_out: &dyn Fn(&Digest) -> bool,
    done: &mut Rewritten,
) -> Result<()> {
    let mut file = SegmentFile::create(shared)?;
    let mut taken = HashSet::new();
    let mut left_out = Vec::new();
    for segment in old {
        copy(segment, &mut file, &mut taken, leave_out, &mut left_out)?;
    }
    let new = file.finish()?;
    done.segments += old.len() as u64;
    done.before += old.iter().map(|segment| segment.bytes()).sum::<u64>();
    done.after += new.as_ref().map_or(0, Segment::bytes);
    let numbers: Vec<u64> = old.iter().map(|segment| segment.number).collect();
    shared.replace(&numbers, new);
    for number in numbers {
        remove(shared, number)?;
    }
    shared.disk.sync_dir(&shared.dir)?;
    done.left_out.append(&mut left_out);
    Ok(())
}

/// Appends to `file` what is to stay of `segment` and not there yet.
fn copy(
    segment: &Segment,
    file: &mut SegmentFile,
    taken: &mut HashSet<Digest>,
    leave_out: &dyn Fn(&Digest) -> bool,
    left_out: &mut Vec<Digest>,
) -> Result<()> {
    let mut entries: Vec<_> = segment.index.iter().collect();
    entries.sort_unstable_by_key(|entry| (entry.block, entry.offset));
    for entries in entries.chunk_by(|a, b| a.block == b.block) {
        let (go, mut stay): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().partition(|entry| leave_out(&entry.digest));
        left_out.extend(go.iter().map(|entry| entry.digest));
        stay.retain(|entry| taken.insert(entry.digest));
        let Some(first) = stay.first() else { continue };
        let content = segment.content(first.block)?;
        for entry in stay {
            file.append(entry.digest, segment.body(entry, &content)?.to_vec())?;
        }
    }
    Ok(())
}

fn remove(shared: &Shared, number: u64) -> Result<()> {
    shared.disk.remove_file(&shared.path(Name::Container(number)))?;
    match shared.disk.remove_file(&shared.path(Name::Index(number))) {
        // It was kept in memory only.
        Err(error) if error.is_not_found() => Ok(()),
        result => Ok(result?),
    }
}
