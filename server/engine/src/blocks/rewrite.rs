//! Leaving bodies out for good.
//!
//! Segments are immutable, so a segment that holds such a body is written again without it, and
//! the old one is removed when the new one is durable. Bodies that stay keep their order. A crash
//! in between leaves both: nothing is lost, but the old segment still holds the bodies, so the
//! call is to be repeated, which is cheap when there is nothing left to do.

use std::sync::Arc;

use super::error::Result;
use super::index::Entry;
use super::names::Name;
use super::segment::Segment;
use super::store::{BlockStore, Shared};
use super::writer::SegmentFile;
use crate::ids::Digest;

/// What [`BlockStore::rewrite_without`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// Segments written again.
    pub(crate) segments: u64,
    /// Bodies that are gone, by hash.
    pub(crate) left_out: Vec<Digest>,
    /// Bytes on disk of those segments before.
    pub(crate) before: u64,
    /// And after.
    pub(crate) after: u64,
}

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
            if !segment.index.iter().any(|entry| leave_out(&entry.digest)) {
                continue;
            }
            let mut left_out = Vec::new();
            let replacement = write_again(&self.shared, segment, leave_out, &mut left_out)?;
            done.segments += 1;
            done.before += segment.bytes();
            done.after += replacement.as_ref().map_or(0, Segment::bytes);
            self.shared.replace(Some(segment.number), replacement);
            remove(&self.shared, segment.number)?;
            done.left_out.extend(left_out);
        }
        Ok(done)
    }
}

/// A new segment with what stays of `segment`; `None` when nothing does.
fn write_again(
    shared: &Arc<Shared>,
    segment: &Segment,
    leave_out: &dyn Fn(&Digest) -> bool,
    left_out: &mut Vec<Digest>,
) -> Result<Option<Segment>> {
    let mut entries: Vec<_> = segment.index.iter().collect();
    entries.sort_unstable_by_key(|entry| (entry.block, entry.offset));
    let mut file = SegmentFile::create(shared)?;
    for entries in entries.chunk_by(|a, b| a.block == b.block) {
        let (go, stay): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().partition(|entry| leave_out(&entry.digest));
        left_out.extend(go.iter().map(|entry| entry.digest));
        let Some(first) = stay.first() else { continue };
        let content = segment.content(first.block)?;
        for entry in stay {
            file.append(entry.digest, segment.body(entry, &content)?.to_vec())?;
        }
    }
    file.finish()
}

fn remove(shared: &Shared, number: u64) -> Result<()> {
    shared.disk.remove_file(&shared.path(Name::Container(number)))?;
    match shared.disk.remove_file(&shared.path(Name::Index(number))) {
        // It was kept in memory only.
        Err(error) if error.is_not_found() => {}
        result => result?,
    }
    shared.disk.sync_dir(&shared.dir)?;
    Ok(())
}
