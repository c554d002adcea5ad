//! Reading bodies and walking lines, from any thread, while the writer goes on.

use std::sync::Arc;

use super::entry::LineError;
use super::error::{JournalError, Result};
use super::recovery::{line_of, sound, walk_sound, whole};
use super::scan::LineScanner;
use super::segment_name::{SEALED_DIR, SegmentName};
use super::shared::{OpenSegment, Sealed, Shared, Tally};
use super::{Damage, Head, Line, Location, SegmentInfo};
use crate::api::{JournalSize, JournalStats};
use crate::ids::{Digest, Seq};

/// Reads committed lines. Clones share everything.
#[derive(Debug, Clone)]
pub struct JournalReader {
    pub(super) shared: Arc<Shared>,
}

impl JournalReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The last committed record.
    #[must_use]
    pub fn head(&self) -> Head {
        self.shared.view.read().active.head
    }

    /// Damage in the middle of the active segment.
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        self.shared.view.read().damage.clone()
    }

    /// Reads the bytes at `at`. Their hash is not checked: the caller knows which one to expect.
    ///
    /// Fails with [`JournalError::Retired`] when the generation has been removed since `at` was
    /// looked up.
    pub fn body(&self, at: Location) -> Result<Vec<u8>> {
        let open = self.open_for(at)?;
        let end = at.offset.saturating_add(u64::from(at.len));
        if end > open.len {
            return Err(JournalError::Corrupt {
                file: open.label,
                offset: at.offset,
                expected: format!("a body of {} bytes", at.len),
                found: format!("the end of the file at {}", open.len),
            });
        }
        let mut bytes = vec![0; at.len as usize];
        open.file.read_exact_at(at.offset, &mut bytes)?;
        Ok(bytes)
    }

    fn open_for(&self, at: Location) -> Result<OpenSegment> {
        {
            // One look, so that a seal in between cannot show a file under the wrong name.
            let view = self.shared.view.read();
            if at.generation == 0
                && at.segment == view.active.first
                && let Some(open) = view.active.open()
            {
                return Ok(open);
            }
        }
        self.shared.open_sealed(SegmentName { first: at.segment, generation: at.generation })
    }

    /// Walks the lines from position `from` to what is the head now, checking chain and bodies
    /// on the way. After an error it ends; a damaged body in a sealed segment is none, since
    /// nothing mends it there ([`Line::damaged`]).
    ///
    /// A line is not given when what follows contradicts it: the `prev` of the next record, or
    /// the head of the segment. Nothing vouches for the journal's last record, nor for one before
    /// a line that cannot be read.
    pub fn lines(&self, from: Seq) -> Result<Lines> {
        let stop = self.head().seq;
        let from = Seq(from.0.max(1));
        Ok(Lines {
            shared: Arc::clone(&self.shared),
            from,
            stop,
            last: Seq(from.0 - 1),
            walk: None,
            failed: false,
        })
    }

    /// All segments that hold records, in order.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.view.read().segments()
    }

    /// Lower generations of sealed segments whose files are still there: those that
    /// [`super::Journal::retire_generation`] has not removed, also from before a crash.
    #[must_use]
    pub fn superseded(&self) -> Vec<(Seq, u32)> {
        let view = self.shared.view.read();
        let older = |sealed: &Sealed| {
            let first = sealed.first;
            sealed.older.clone().into_iter().map(move |generation| (first, generation))
        };
        view.sealed.iter().flat_map(older).collect()
    }

    /// Counts records and bytes. Segments are counted by their checkpoints; one whose last
    /// rewrite has none (after a crash) is read once.
    pub fn stats(&self) -> Result<JournalStats> {
        let (sealed, checkpoints, active) = {
            let view = self.shared.view.read();
            (view.sealed.clone(), view.checkpoints.clone(), view.active.clone())
        };
        let (mut full, mut hash_only) = (JournalSize::default(), JournalSize::default());
        let mut add = |tally: Tally| {
            full.entries += tally.bodies;
            full.size_bytes += tally.body_bytes;
            hash_only.entries += tally.lines.saturating_sub(tally.bodies);
            hash_only.size_bytes += tally.bytes.saturating_sub(tally.body_bytes);
        };
        let mut first_ts = None;
        for segment in &sealed {
            let described = checkpoints.iter().rev().find(|checkpoint| {
                checkpoint.first_seq == segment.first && checkpoint.generation == segment.generation
            });
            let tally = match described {
                Some(checkpoint) => Tally {
                    lines: checkpoint.count,
                    bytes: checkpoint.bytes,
                    bodies: checkpoint.bodies,
                    body_bytes: checkpoint.body_bytes,
                    first_ts: checkpoint.first_ts,
                },
                None if segment.present => self.count(segment)?,
                None => continue,
            };
            first_ts.get_or_insert(tally.first_ts);
            add(tally);
        }
        add(active.tally);
        if active.tally.lines > 0 {
            first_ts.get_or_insert(active.tally.first_ts);
        }
        full.exists = full.entries > 0;
        hash_only.exists = hash_only.entries > 0;
        Ok(JournalStats {
            migration_needed: full.exists,
            legacy: full,
            optimized: hash_only,
            segments: sealed.len() as u64,
            head_seq: active.head.seq,
            first_ts,
            last_ts: (active.head.seq.0 > 0).then_some(active.head.ts),
            block_bytes: 0,
            archived_bytes: 0,
        })
    }

    /// Reads a segment to count it, once.
    fn count(&self, segment: &Sealed) -> Result<Tally> {
        if let Some(tally) = self.shared.tallies.lock().get(&segment.name()) {
            return Ok(*tally);
        }
        let open = self.shared.open_sealed(segment.name())?;
        let before = Head {
            seq: Seq(segment.first.0.saturating_sub(1)),
            hash: self.shared.view.read().hash_before(segment.first),
            ..Head::default()
        };
        let mut scanner = LineScanner::new(open.file, 0, open.len);
        let walked = walk_sound(&mut scanner, before, |_, _| {})?;
        let tally = Tally { bytes: open.len, ..walked.tally };
        self.shared.tallies.lock().insert(segment.name(), tally);
        Ok(tally)
    }
}

/// Walks over lines; see [`JournalReader::lines`].
#[derive(Debug)]
pub struct Lines {
    shared: Arc<Shared>,
    /// First record wanted.
    from: Seq,
    /// Last record wanted.
    stop: Seq,
    /// Last record given.
    last: Seq,
    walk: Option<Walk>,
    failed: bool,
}

/// A walk through one segment.
#[derive(Debug)]
struct Walk {
    scanner: LineScanner,
    label: String,
    segment: Seq,
    generation: u32,
    /// Position and hash that the next line must follow.
    last: Seq,
    hash: Digest,
    /// Last record of the segment when it was opened.
    end: Head,
    sealed: bool,
    /// The line to give next and where it begins, while nothing has vouched for it.
    held: Option<(u64, Line)>,
    /// What was found after a line that could still be given.
    fault: Option<JournalError>,
}

impl Iterator for Lines {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        match &next {
            Ok(Some(line)) => self.last = line.record.seq,
            Ok(None) => self.walk = None,
            Err(_) => self.failed = true,
        }
        next.transpose()
    }
}

impl Lines {
    /// Ends the walk after position `last`.
    #[must_use]
    pub fn until(mut self, last: Seq) -> Self {
        self.stop = self.stop.min(last);
        self
    }

    fn advance(&mut self) -> Result<Option<Line>> {
        while self.last < self.stop {
            let mut walk = match self.walk.take() {
                Some(walk) => walk,
                None => self.open_next()?,
            };
            if let Some(line) = walk.next_line(self.from)? {
                self.walk = Some(walk);
                return Ok(Some(line));
            }
            if self.last < walk.last {
                self.last = walk.last; // Everything in it was before `from`.
            }
            if !walk.sealed || walk.last != walk.end.seq {
                return Err(walk.ends_early());
            }
        }
        Ok(None)
    }

    /// Opens the segment that holds the next record.
    fn open_next(&self) -> Result<Walk> {
        let next = self.last.next();
        let view = self.shared.view.read();
        let (name, end, sealed) = match view.holding(next) {
            Some(sealed) => {
                let end = Head { seq: sealed.last, hash: sealed.head, ..Head::default() };
                (sealed.name(), end, true)
            }
            None => {
                let name = SegmentName { first: view.active.first, generation: 0 };
                (name, view.active.head, false)
            }
        };
        let hash = view.hash_before(name.first);
        // The active file is taken in the same look; a seal after it changes nothing in it.
        let active = view.active.open().filter(|_| next >= view.active.first);
        drop(view);
        let open = match (sealed, active) {
            (true, _) => self.shared.open_sealed(name)?,
            (false, Some(active)) => active,
            (false, None) => {
                return Err(JournalError::Corrupt {
                    file: SEALED_DIR.to_owned(),
                    offset: 0,
                    expected: format!("a segment that holds record {next}"),
                    found: "none".to_owned(),
                });
            }
        };
        Ok(Walk {
            scanner: LineScanner::new(open.file, 0, open.len),
            label: open.label,
            segment: name.first,
            generation: name.generation,
            last: Seq(name.first.0.saturating_sub(1)),
            hash,
            end,
            sealed,
            held: None,
            fault: None,
        })
    }
}

impl Walk {
    /// The next line at or after `from`; `None` at the end of the segment.
    fn next_line(&mut self, from: Seq) -> Result<Option<Line>> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        while let Some(raw) = self.scanner.next_line()? {
            let corrupt = |fault| corrupt(&self.label, raw.offset, fault);
            let parsed = if self.sealed { whole(&raw) } else { sound(&raw) };
            let parsed = match parsed {
                Ok(parsed) => parsed,
                // It says nothing about the line before.
                Err(fault) => {
                    let Some((_, line)) = self.held.take() else { return Err(corrupt(fault)) };
                    self.fault = Some(corrupt(fault));
                    return Ok(Some(line));
                }
            };
            // Either may be the changed one, so the line before is not given.
            parsed.check_chain(self.last, &self.hash).map_err(corrupt)?;
            self.last = parsed.record.seq;
            self.hash = parsed.head_hash;
            if parsed.record.seq < from {
                continue;
            }
            let damaged = self.sealed && parsed.check_body().is_err();
            let line = line_of(&raw, parsed, self.segment, self.generation, damaged);
            if let Some((_, vouched)) = self.held.replace((raw.offset, line)) {
                return Ok(Some(vouched));
            }
        }
        let Some((offset, line)) = self.held.take() else { return Ok(None) };
        if line.record.seq == self.end.seq && line.head_hash != self.end.hash {
            let expected = format!("record {} with the head {}", self.end.seq, self.end.hash);
            let found = format!("the head {}", line.head_hash);
            return Err(corrupt(&self.label, offset, LineError { expected, found }));
        }
        Ok(Some(line))
    }

    fn ends_early(&self) -> JournalError {
        let expected = if self.sealed {
            format!("records up to {}", self.end.seq)
        } else {
            "more records".to_owned()
        };
        let found = format!("the end after record {}", self.last);
        corrupt(&self.label, 0, LineError { expected, found })
    }
}

fn corrupt(file: &str, offset: u64, fault: LineError) -> JournalError {
    let LineError { expected, found } = fault;
    JournalError::Corrupt { file: file.to_owned(), offset, expected, found }
}
