//! Dropping bodies from sealed segments.
//!
//! The next generation of a segment is written beside the one that is read, as `.partial`, synced
//! and read back line by line; only then it gets its name. Heads stay byte for byte, so chain,
//! Merkle root and checkpoint hold for every generation. The old file goes when the caller says
//! that nothing points into it any more. A crash at any point leaves either generation complete.
//!
//! Writing takes long and needs no access to the writer ([`JournalReader::rewrite`]); putting the
//! result in place is short ([`Journal::install`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use llm_memory_disk::{File, OpenMode};

use super::checkpoint;
use super::entry::rewrite_line;
use super::error::{JournalError, Result};
use super::reader::JournalReader;
use super::recovery::walk_past;
use super::scan::LineScanner;
use super::segment_name::{PARTIAL, SEALED_DIR, SegmentName};
use super::shared::{Sealed, Tally};
use super::writer::{Journal, describe};
use super::{Head, Location, Record};
use crate::ids::{Digest, Seq, Timestamp};

/// Bytes written at once.
const CHUNK: usize = 1 << 20;

/// A segment in a new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The generation that is read from now on.
    pub generation: u32,
    /// Bodies that were kept, and where they lie now.
    pub moved: Vec<(Digest, Location)>,
    /// Hashes of the bodies that were dropped.
    pub dropped: Vec<Digest>,
    /// Length of the file before.
    pub before: u64,
    /// Length of the file after.
    pub after: u64,
}

/// A new generation that is complete on disk under its `.partial` name.
#[derive(Debug)]
pub struct Rewrite {
    from: SegmentName,
    to: SegmentName,
    tally: Tally,
    last_ts: Timestamp,
    result: Replaced,
}

impl JournalReader {
    /// Writes the next generation of the sealed segment that begins at `segment`, keeping the
    /// bodies for which `keep_body` answers true. Nothing changes for readers before
    /// [`Journal::install`].
    ///
    /// Fails without a trace when the segment is damaged: a rewrite must not launder damage.
    pub fn rewrite(
        &self,
        segment: Seq,
        keep_body: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Rewrite> {
        self.rewrite_past(segment, &BTreeSet::new(), keep_body)
    }

    /// [`JournalReader::rewrite`] of a segment in which the bodies of the records `damaged` are
    /// known not to be what their hashes say. Those that are kept are carried over as they are.
    pub fn rewrite_past(
        &self,
        segment: Seq,
        damaged: &BTreeSet<Seq>,
        keep_body: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Rewrite> {
        let (sealed, hash) = {
            let view = self.shared.view.read();
            let sealed = view.find(segment).cloned().ok_or_else(|| {
                JournalError::Misuse(format!("no sealed segment begins at record {segment}"))
            })?;
            (sealed, view.hash_before(segment))
        };
        let before = Head { seq: Seq(segment.0.saturating_sub(1)), hash, ..Head::default() };
        let from = sealed.name();
        let to = SegmentName { generation: from.generation.saturating_add(1), ..from };
        let partial = self.shared.dir.join(SEALED_DIR).join(format!("{}{PARTIAL}", to.file_name()));
        let outcome = self.write_generation(&sealed, before, to, &partial, damaged, keep_body);
        if outcome.is_err() {
            // The next open would remove it as well.
            let _ = self.shared.disk.remove_file(&partial);
        }
        outcome
    }

    fn write_generation(
        &self,
        sealed: &Sealed,
        before: Head,
        to: SegmentName,
        partial: &std::path::Path,
        damaged: &BTreeSet<Seq>,
        keep_body: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Rewrite> {
        let source = self.shared.open_sealed(sealed.name())?;
        let file = self.shared.disk.open(partial, OpenMode::Create)?;
        file.set_len(0)?;
        let mut out = Output { file, at: 0, buffer: Vec::with_capacity(CHUNK), failed: None };
        let mut result = Replaced {
            generation: to.generation,
            moved: Vec::new(),
            dropped: Vec::new(),
            before: source.len,
            after: 0,
        };
        let mut tally = Tally::default();
        let mut scanner = LineScanner::new(source.file, 0, source.len);
        let mut carried = BTreeMap::new();
        let walked = walk_past(&mut scanner, before, damaged, |_, parsed| {
            let keep = parsed.body.is_some() && keep_body(&parsed.record);
            let begin = out.position();
            let written = rewrite_line(&mut out.buffer, parsed, keep);
            tally.add(written.len as u64, keep, parsed.record.ts);
            if let (Some(body), true) = (parsed.body, keep && damaged.contains(&parsed.record.seq))
            {
                carried.insert(parsed.record.seq, Digest::of(body));
            }
            match parsed.body {
                Some(body) if keep => result.moved.push((
                    parsed.record.hash,
                    Location {
                        segment: to.first,
                        generation: to.generation,
                        offset: begin + written.body_offset as u64,
                        len: u32::try_from(body.len()).unwrap_or(u32::MAX),
                    },
                )),
                Some(_) => result.dropped.push(parsed.record.hash),
                None => {}
            }
            out.flush_if_full();
        })?;
        out.flush();
        if let Some(error) = out.failed {
            return Err(error);
        }
        if let Some((offset, fault)) = walked.fault {
            return Err(JournalError::Corrupt {
                file: source.label,
                offset,
                expected: fault.expected,
                found: fault.found,
            });
        }
        check_same(sealed, &source.label, walked.head, walked.tree.root())?;
        out.file.sync()?;
        result.after = out.at;
        drop(out.file);

        let reread = self.shared.disk.open(partial, OpenMode::Read)?;
        let len = reread.len()?;
        let mut scanner = LineScanner::new(reread, 0, len);
        let mut found = BTreeMap::new();
        let back = walk_past(&mut scanner, before, damaged, |_, parsed| {
            if let (Some(body), true) = (parsed.body, damaged.contains(&parsed.record.seq)) {
                found.insert(parsed.record.seq, Digest::of(body));
            }
        })?;
        let label = format!("{}{PARTIAL}", to.relative());
        if let Some((offset, fault)) = back.fault {
            return Err(JournalError::Corrupt {
                file: label,
                offset,
                expected: fault.expected,
                found: fault.found,
            });
        }
        check_same(sealed, &label, back.head, back.tree.root())?;
        if found != carried {
            return Err(JournalError::Corrupt {
                file: label,
                offset: 0,
                expected: "damaged bodies as they were".to_owned(),
                found: "others".to_owned(),
            });
        }
        Ok(Rewrite { from: sealed.name(), to, tally, last_ts: back.head.ts, result })
    }
}

fn check_same(sealed: &Sealed, file: &str, head: Head, root: Digest) -> Result<()> {
    if head.seq == sealed.last && head.hash == sealed.head && root == sealed.root {
        return Ok(());
    }
    Err(JournalError::Corrupt {
        file: file.to_owned(),
        offset: 0,
        expected: format!("head {} at record {}, root {}", sealed.head, sealed.last, sealed.root),
        found: format!("head {} at record {}, root {root}", head.hash, head.seq),
    })
}

/// Collects lines and writes them in large pieces; keeps the first error.
struct Output {
    file: Arc<dyn File>,
    at: u64,
    buffer: Vec<u8>,
    failed: Option<JournalError>,
}

impl Output {
    fn position(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    fn flush_if_full(&mut self) {
        if self.buffer.len() >= CHUNK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.file.write_all_at(self.at, &self.buffer)
        {
            self.failed = Some(error.into());
        }
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
    }
}

impl Journal {
    /// Puts a rewritten segment in place: from now on lines are read from it. The generation
    /// before stays readable until [`Journal::retire_generation`].
    pub fn install(&mut self, rewrite: Rewrite) -> Result<Replaced> {
        if self.is_read_only() {
            return Err(JournalError::ReadOnly);
        }
        let Rewrite { from, to, tally, last_ts, result } = rewrite;
        let shared = Arc::clone(self.shared());
        let current = shared.view.read().find(from.first).map(Sealed::name);
        let partial = shared.dir.join(SEALED_DIR).join(format!("{}{PARTIAL}", to.file_name()));
        if current != Some(from) {
            let _ = shared.disk.remove_file(&partial);
            return Err(JournalError::Misuse(format!(
                "segment {} was rewritten meanwhile; start again",
                from.first
            )));
        }
        shared.disk.durable_rename(&partial, &to.path(&shared.dir))?;
        let mut checkpoints = {
            let mut view = shared.view.write();
            if let Some(sealed) = view.find_mut(from.first) {
                sealed.older.push(sealed.generation);
                sealed.generation = to.generation;
                sealed.bytes = result.after;
            }
            view.checkpoints.clone()
        };
        let described = {
            let view = shared.view.read();
            view.find(from.first).map(|sealed| describe(sealed, tally, last_ts))
        };
        if let Some(described) = described {
            let key = self.signing_key();
            checkpoints.push(checkpoint::finish(described, checkpoints.last(), key));
            // The segment is complete without it; only its counts must then be taken by reading.
            match checkpoint::store(shared.disk.as_ref(), &shared.dir, &checkpoints) {
                Ok(()) => shared.view.write().checkpoints = checkpoints,
                Err(error) => {
                    tracing::warn!(segment = %to.relative(), %error, "rewrite not in the checkpoints");
                }
            }
        }
        Ok(result)
    }

    /// [`JournalReader::rewrite`] and [`Journal::install`] in one step, for callers that have
    /// nothing to write meanwhile.
    pub fn replace_segment(
        &mut self,
        segment: Seq,
        keep_body: &mut dyn FnMut(&Record) -> bool,
    ) -> Result<Replaced> {
        if self.is_read_only() {
            return Err(JournalError::ReadOnly);
        }
        let rewrite = self.reader().rewrite(segment, keep_body)?;
        self.install(rewrite)
    }

    /// Removes the file of a generation that is no longer read. Locations in it answer
    /// [`JournalError::Retired`] from now on. A generation that is gone already is fine.
    pub fn retire_generation(&mut self, segment: Seq, generation: u32) -> Result<()> {
        if self.is_read_only() {
            return Err(JournalError::ReadOnly);
        }
        let shared = self.shared();
        let name = SegmentName { first: segment, generation };
        {
            let mut view = shared.view.write();
            let Some(sealed) = view.find_mut(segment) else {
                return Err(JournalError::Misuse(format!(
                    "no sealed segment begins at record {segment}"
                )));
            };
            if sealed.generation == generation {
                return Err(JournalError::Misuse(format!(
                    "generation {generation} of segment {segment} is the one that is read"
                )));
            }
            sealed.older.retain(|older| *older != generation);
        }
        shared.forget_open(name);
        match shared.disk.remove_file(&name.path(&shared.dir)) {
            Ok(()) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => {
                // Still there, so it must be offered again.
                if let Some(sealed) = shared.view.write().find_mut(segment) {
                    sealed.older.push(generation);
                }
                return Err(error.into());
            }
        }
        Ok(shared.disk.sync_dir(&shared.dir.join(SEALED_DIR))?)
    }
}
