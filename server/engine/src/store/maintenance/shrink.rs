//! Moving bodies out of the journal into blocks, and erasing them for good.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redb::Durability;
use serde_json::{Map, Value};

use crate::catalog::{Blob, Tables, failure};
use crate::error::{EngineError, Result};
use crate::ids::{Digest, Seq};
use crate::journal::Op;
use crate::progress::Progress;
use crate::store::command::{Command, Who};
use crate::store::scope::ScopeStore;

/// A block segment is finished at this size, so that rewriting one stays cheap.
const BLOCK_SEGMENT_BYTES: u64 = 256 << 20;
/// An open segment is sealed for compaction once it holds this much that can go.
const WORTH_SEALING: u64 = 1 << 20;

/// Which bodies leave the journal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Those that are not the latest of a live item.
    Superseded,
    /// All.
    Everything,
}

/// What moving bodies did.
#[derive(Default)]
pub(super) struct Shrunk {
    pub(super) segments: u64,
    pub(super) moved: u64,
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) errors: Vec<String>,
}

impl ScopeStore {
    /// Bytes of journal and blocks.
    pub(super) fn stored_bytes(&self) -> u64 {
        let journal: u64 = self.state.journal.segments().iter().map(|segment| segment.bytes).sum();
        journal + self.state.blocks.bytes()
    }

    /// Moves bodies from sealed segments into blocks.
    pub(super) fn shrink(&self, what: Leaving, progress: &dyn Progress) -> Result<Shrunk> {
        let mut done = Shrunk { before: self.stored_bytes(), ..Shrunk::default() };
        if let Some(open) = self.state.journal.segments().iter().find(|segment| !segment.sealed) {
            let (candidates, bytes) = self.candidates(open.first, open.last, what)?;
            let worth =
                what == Leaving::Everything || bytes >= WORTH_SEALING || bytes * 4 >= open.bytes;
            if !candidates.is_empty() && worth {
                self.writer.run(|journal| Ok(journal.seal()?))?;
            }
        }
        let sealed: Vec<_> =
            self.state.journal.segments().into_iter().filter(|segment| segment.sealed).collect();
        let total = sealed.len() as u64;
        for (index, segment) in sealed.into_iter().enumerate() {
            progress.report(index as u64, Some(total), "segments compacted");
            let (leaving, _) = self.candidates(segment.first, segment.last, what)?;
            if leaving.is_empty() {
                continue;
            }
            match self.shrink_segment(segment.first, segment.last, leaving) {
                Ok(moved) => {
                    done.moved += moved;
                    done.segments += 1;
                }
                Err(error @ (EngineError::NoSpace { .. } | EngineError::Closed)) => {
                    return Err(error);
                }
                Err(error) => done.errors.push(format!("segment {}: {error}", segment.first)),
            }
        }
        self.state.blocks.merge_small()?;
        done.after = self.stored_bytes();
        Ok(done)
    }

    /// Hashes of the bodies in records `first..=last` that may leave the journal, with whether
    /// they are erased, and their bytes.
    fn candidates(
        &self,
        first: Seq,
        last: Seq,
        what: Leaving,
    ) -> Result<(HashMap<Digest, bool>, u64)> {
        let view = self.state.read()?;
        let mut found = HashMap::new();
        let mut bytes = 0;
        for change in view.changes(Seq(first.0.saturating_sub(1)), last)? {
            let (seq, _, id) = change?;
            let Some((at, version)) = view.version_at(&id, seq)? else { continue };
            if at != seq || version.deleted {
                continue;
            }
            let hash = version.hash.into();
            let erased = match view.blob(hash)? {
                Some(Blob::Journal { .. }) => false,
                Some(Blob::Erased) => true,
                Some(Blob::Block | Blob::Missing) | None => continue,
            };
            let live = view.item(&id)?.is_some_and(|item| !item.deleted && item.seq == seq);
            if erased || what == Leaving::Everything || !live {
                found.insert(hash, erased);
                bytes += u64::from(version.content_bytes);
            }
        }
        // An erased body that is gone already is no reason to rewrite the segment again.
        if found.values().any(|erased| *erased) {
            let present = self.bodies(first, last)?;
            found.retain(|hash, _| present.contains(hash));
        }
        Ok((found, bytes))
    }

    fn bodies(&self, first: Seq, last: Seq) -> Result<HashSet<Digest>> {
        let mut present = HashSet::new();
        for line in self.state.journal.lines(first)? {
            let line = line?;
            if line.record.seq > last {
                break;
            }
            if line.body.is_some() {
                present.insert(line.record.hash);
            }
        }
        Ok(present)
    }

    fn shrink_segment(&self, first: Seq, last: Seq, leaving: HashMap<Digest, bool>) -> Result<u64> {
        let mut writer = self.state.blocks.writer()?;
        let mut moved = 0;
        for line in self.state.journal.lines(first)? {
            let line = line?;
            if line.record.seq > last {
                break;
            }
            let Some((_, body)) = line.body else { continue };
            if leaving.get(&line.record.hash) == Some(&false)
                && !self.state.blocks.contains(&line.record.hash)?
            {
                if writer.bytes() >= BLOCK_SEGMENT_BYTES {
                    writer.finish()?;
                    writer = self.state.blocks.writer()?;
                }
                writer.add(&line.record.id, line.record.hash, &body)?;
                moved += 1;
            }
        }
        writer.finish()?;
        let rewrite =
            self.state.journal.rewrite(first, &mut |record| !leaving.contains_key(&record.hash))?;
        let state = Arc::clone(&self.state);
        self.writer.run(move |journal| {
            let replaced = journal.install(rewrite)?;
            let views = state.views.load_full();
            // Durable before the old generation goes: after a crash the catalog must not point
            // into a file that is no longer there.
            let txn = views.catalog.begin_write(Durability::Immediate)?;
            {
                let mut tables = Tables::open(&txn)?;
                for (hash, at) in &replaced.moved {
                    // A body erased since is not brought back.
                    if tables.blob(*hash)? != Some(Blob::Erased) {
                        tables.set_blob(*hash, Blob::from(*at))?;
                    }
                }
                for hash in &replaced.dropped {
                    if tables.blob(*hash)? != Some(Blob::Erased) {
                        tables.set_blob(*hash, Blob::Block)?;
                    }
                }
            }
            txn.commit().map_err(|error| failure("move bodies in the catalog", error))?;
            journal.retire_generation(first, replaced.generation.saturating_sub(1))?;
            Ok(())
        })?;
        Ok(moved)
    }

    /// Removes erased bodies from blocks and writes down that they are gone.
    pub(super) fn erase(&self, who: &Who, progress: &dyn Progress) -> Result<u64> {
        let view = self.state.read()?;
        let mut erased = HashSet::new();
        for digest in self.state.blocks.digests() {
            if view.blob(digest)? == Some(Blob::Erased) {
                erased.insert(digest);
            }
        }
        if erased.is_empty() {
            return Ok(0);
        }
        progress.report(0, Some(erased.len() as u64), "bodies erased");
        self.state.blocks.rewrite_without(&|digest: &Digest| erased.contains(digest))?;
        let mut hashes: Vec<String> = erased.iter().map(|digest| digest.to_hex()).collect();
        hashes.sort_unstable();
        let meta = Map::from_iter([("hashes".to_owned(), Value::from(hashes))]);
        self.writer.write_waiting(Command::Note { op: Op::Erase, meta, who: who.clone() })?;
        Ok(erased.len() as u64)
    }
}
