//! Moving bodies out of the journal into blocks, and erasing them for good.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use redb::Durability;
use serde_json::{Map, Value};

use crate::blocks::BLOCK_SEGMENT_BYTES;
use crate::catalog::{Blob, Tables, failure};
use crate::error::{EngineError, Result};
use crate::ids::{Digest, Seq};
use crate::journal::Op;
use crate::progress::Progress;
use crate::store::command::{Command, Who};
use crate::store::generations::reconcile;
use crate::store::replay::Source;
use crate::store::scope::ScopeStore;

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

/// Bodies that may leave a segment of the journal.
#[derive(Default)]
struct Candidates {
    /// By hash, with whether they are erased.
    leaving: HashMap<Digest, bool>,
    bytes: u64,
}

impl Candidates {
    fn any_erased(&self) -> bool {
        self.leaving.values().any(|erased| *erased)
    }

    /// Whether at least a quarter of `bytes` leaves.
    fn is_much_of(&self, bytes: u64) -> bool {
        self.bytes.saturating_mul(4) >= bytes
    }
}

/// What moving bodies did.
#[derive(Default)]
pub(super) struct Shrunk {
    pub(super) segments: u64,
    pub(super) moved: u64,
    pub(super) before: u64,
    pub(super) after: u64,
    /// Damaged bodies that no other copy replaces. They stay in the journal as they are.
    pub(super) damaged: u64,
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
        // What an earlier run could not remove holds erased bodies, and nothing else looks for
        // them there.
        let state = Arc::clone(&self.state);
        let kept = self.writer.run(move |journal| {
            let source = Source { journal: &state.journal, blocks: &state.blocks, before: None };
            Ok(reconcile(&state.views.load(), &source, journal, &state.options))
        })?;
        done.errors.extend(kept.iter().map(ToString::to_string));
        if let Some(open) = self.state.journal.segments().iter().find(|segment| !segment.sealed) {
            let found = self.candidates(open.first, open.last, what).unwrap_or_else(|error| {
                done.errors.push(format!("segment {}: {error}", open.first));
                Candidates::default()
            });
            let worth = what == Leaving::Everything
                || found.any_erased()
                || found.bytes >= WORTH_SEALING
                || found.is_much_of(open.bytes);
            if !found.leaving.is_empty() && worth {
                self.writer.run(|journal| Ok(journal.seal()?))?;
            }
        }
        let sealed: Vec<_> =
            self.state.journal.segments().into_iter().filter(|segment| segment.sealed).collect();
        let total = sealed.len() as u64;
        let mut purged = false;
        for (index, segment) in sealed.into_iter().enumerate() {
            progress.report(index as u64, Some(total), "segments compacted");
            let found = match self.candidates(segment.first, segment.last, what) {
                Ok(found) => found,
                Err(error) => {
                    done.errors.push(format!("segment {}: {error}", segment.first));
                    continue;
                }
            };
            // One superseded body is no reason to write a whole segment again.
            let worth = what == Leaving::Everything
                || found.any_erased()
                || found.is_much_of(segment.bytes);
            if found.leaving.is_empty() || !worth {
                continue;
            }
            if found.any_erased() && !purged {
                purged = true;
                self.purge_words(&mut done.errors);
            }
            match self.shrink_segment(segment.first, segment.last, found.leaving) {
                Ok((moved, damaged)) => {
                    done.moved += moved;
                    done.damaged += damaged;
                    done.segments += 1;
                    if damaged > 0 {
                        done.errors.push(format!(
                            "segment {}: {damaged} bodies are damaged and stay as they are: \
                             journal.verify names them",
                            segment.first
                        ));
                    }
                }
                Err(error @ (EngineError::NoSpace { .. } | EngineError::Closed)) => {
                    return Err(error);
                }
                Err(error) => done.errors.push(format!("segment {}: {error}", segment.first)),
            }
        }
        match self.state.blocks.merge_small().map_err(EngineError::from) {
            Ok(merged) => done.errors.extend(merged.errors),
            Err(error @ EngineError::NoSpace { .. }) => return Err(error),
            Err(error) => done.errors.push(error.to_string()),
        }
        done.after = self.stored_bytes();
        Ok(done)
    }

    /// Takes the words of what was erased from the text index. Before the bodies go: as long as they
    /// are there, the next run comes here again.
    fn purge_words(&self, errors: &mut Vec<String>) {
        if let Err(error) = self.state.views.load().text.purge() {
            errors.push(format!(
                "the words of what was erased may still be in the text index: {error}; \
                 maintenance.rebuild makes one without them"
            ));
        }
    }

    /// The bodies in records `first..=last` that may leave the journal.
    fn candidates(&self, first: Seq, last: Seq, what: Leaving) -> Result<Candidates> {
        let view = self.state.read()?;
        let mut found = HashMap::new();
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
                found.insert(hash, (erased, u64::from(version.content_bytes)));
            }
        }
        // An erased body that is gone already is no reason to rewrite the segment again.
        if found.values().any(|(erased, _)| *erased) {
            let present = self.bodies(first, last)?;
            found.retain(|hash, _| present.contains(hash));
        }
        let bytes = found.values().map(|(_, bytes)| bytes).sum();
        let leaving = found.into_iter().map(|(hash, (erased, _))| (hash, erased)).collect();
        Ok(Candidates { leaving, bytes })
    }

    fn bodies(&self, first: Seq, last: Seq) -> Result<HashSet<Digest>> {
        let mut present = HashSet::new();
        for line in self.state.journal.lines(first)?.until(last) {
            let line = line?;
            if line.body.is_some() || line.damaged.is_some() {
                present.insert(line.record.hash);
            }
        }
        Ok(present)
    }

    /// Answers how many bodies were moved, and how many damaged ones stay for want of a sound copy.
    fn shrink_segment(
        &self,
        first: Seq,
        last: Seq,
        mut leaving: HashMap<Digest, bool>,
    ) -> Result<(u64, u64)> {
        let mut writer = self.state.blocks.writer()?;
        let mut moved = 0;
        let mut damaged = BTreeMap::new();
        for line in self.state.journal.lines(first)?.until(last) {
            let line = line?;
            if line.damaged.is_some() {
                damaged.insert(line.record.seq, line.record.hash);
                if self.state.blocks.holds(&line.record.hash) {
                    // Carried over it would count as the copy that is read.
                    leaving.entry(line.record.hash).or_insert(false);
                }
            }
            let Some((_, body)) = line.body else { continue };
            // What an index says is not enough: this may be the last copy.
            if leaving.get(&line.record.hash) == Some(&false)
                && !self.state.blocks.holds(&line.record.hash)
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
        let mut stay: HashSet<Digest> = damaged.values().copied().collect();
        stay.retain(|hash| leaving.get(hash) != Some(&true) && !self.state.blocks.holds(hash));
        // The damaged bytes are all that there is of it.
        leaving.retain(|hash, _| !stay.contains(hash));
        if leaving.is_empty() {
            return Ok((moved, stay.len() as u64));
        }
        let rewrite = self.state.journal.rewrite_past(
            first,
            &damaged.into_keys().collect(),
            &mut |record| !leaving.contains_key(&record.hash),
        )?;
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
        Ok((moved, stay.len() as u64))
    }

    /// Removes erased bodies from blocks and writes down that they are gone. What could not be
    /// removed is added to `errors`.
    pub(super) fn erase(
        &self,
        who: &Who,
        errors: &mut Vec<String>,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let view = self.state.read()?;
        let mut erased = HashSet::new();
        for digest in self.state.blocks.digests() {
            if view.blob(digest)? == Some(Blob::Erased) {
                erased.insert(digest);
            }
        }
        progress.report(0, Some(erased.len() as u64), "bodies erased");
        if !erased.is_empty() {
            self.purge_words(errors);
        }
        // Also without any, for files that an earlier run could not remove.
        let done = self.state.blocks.rewrite_without(&|digest: &Digest| erased.contains(digest))?;
        errors.extend(done.errors);
        let gone: BTreeSet<String> = done.left_out.iter().map(|digest| digest.to_hex()).collect();
        let count = gone.len() as u64;
        if count > 0 {
            let hashes = Value::from_iter(gone);
            let meta = Map::from_iter([("hashes".to_owned(), hashes)]);
            self.writer.write_waiting(Command::Note { op: Op::Erase, meta, who: who.clone() })?;
        }
        Ok(count)
    }
}
