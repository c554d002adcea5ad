//! Checking everything: every head, every link of the chain, every body, every checkpoint.
//!
//! A changed byte breaks the chain between two records, and either may be the changed one. The
//! record whose hash the *next* link still names is sound, so the blame falls on the other: that
//! is why a record counts as confirmed only when its successor (or a checkpoint, or the head in
//! memory) names its hash.
//!
//! Deleted and updated items are sound records like all others; nothing here compares records
//! with the current state of items.

use std::collections::BTreeSet;

use super::chain::MerkleTree;
use super::checkpoint::{self, Checkpoint, Signed};
use super::entry::{Record, parse_line, salvage_id};
use super::error::{JournalError, Result};
use super::open::DAMAGED_CHECKPOINTS;
use super::reader::JournalReader;
use super::scan::{LineScanner, RawLine};
use super::segment_name::{CHECKPOINTS, SEALED_DIR};
use super::shared::{OpenSegment, Sealed, View};
use crate::api::{CorruptItem, JournalVerifyResult};
use crate::ids::{Digest, ItemId, Seq, Version};
use crate::progress::Progress;

/// Faults listed one by one at most; the score counts all.
const MAX_LISTED: usize = 10_000;
/// Records between two calls of the progress listener.
const PROGRESS_EVERY: u64 = 4096;

/// What has become of a body that is not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyState {
    /// It is stored elsewhere; these are its bytes.
    Stored(Vec<u8>),
    /// It was removed on request.
    Erased,
    /// Nobody has it.
    Missing,
    /// It is stored elsewhere, and cannot be read there.
    Damaged {
        /// Where, relative to the scope's folder.
        file: String,
        /// Why not.
        reason: String,
    },
}

impl JournalReader {
    /// Reads the whole journal and recomputes every hash. `outside` fetches bodies that were
    /// compacted away, by the record that names them.
    ///
    /// Damage is in the result; the only errors are those of the disk.
    pub fn verify(
        &self,
        outside: &dyn Fn(&Record) -> BodyState,
        progress: &dyn Progress,
    ) -> Result<JournalVerifyResult> {
        // View before file: what is sealed from here on is not looked at.
        let (sealed, active, known, damage) = {
            let view = self.shared.view.read();
            let View { sealed, active, checkpoints, damage } = &*view;
            (sealed.clone(), active.clone(), checkpoints.clone(), damage.clone())
        };
        let mut check = Check::new(outside, progress, active.head.seq);
        let checkpoints = self.verify_checkpoint_file(&mut check, &known)?;
        for segment in &sealed {
            self.verify_sealed(&mut check, segment, &checkpoints)?;
        }
        if let Some(open) = active.open() {
            check.segment(&open, active.first, None)?;
            check.end_of_segment(active.head.seq, active.head.hash, "the head in memory");
        }
        if let Some(damage) = damage.filter(|_| check.items.is_empty()) {
            // What refuses writes must never look sound here.
            check.flaw(&damage.file, JournalError::from(&damage).to_string());
        }
        progress.report(check.checked, Some(active.head.seq.0), WHAT);

        let signed = self.shared.trusted.map(|key| {
            let ours = |segment: &&Sealed| {
                first_of(&checkpoints, segment.first)
                    .is_some_and(|checkpoint| checkpoint.signed() == Signed::By(key))
            };
            sealed.iter().filter(ours).count() as u64
        });
        let unsound = (check.unsound + check.flaws).min(check.checked);
        let score = match check.checked {
            0 => (check.flaws > 0).then_some(0.0),
            checked => Some((checked - unsound) as f64 / checked as f64),
        };
        Ok(JournalVerifyResult {
            valid: check.items.is_empty(),
            corrupted_items: check.items,
            unsound_count: check.unsound,
            integrity_score: score,
            note: None,
            checked_count: check.checked,
            checked_bodies: check.bodies,
            erased_bodies: check.erased,
            head_seq: active.head.seq,
            head: active.head.hash,
            checkpoints: check.matched,
            signed_checkpoints: signed,
        })
    }

    /// Checks the chain and signatures of the checkpoint file, and that it still holds what it
    /// held when it was read or written last.
    fn verify_checkpoint_file(
        &self,
        check: &mut Check<'_>,
        known: &[Checkpoint],
    ) -> Result<Vec<Checkpoint>> {
        let disk = self.shared.disk.as_ref();
        let loaded = checkpoint::load(disk, &self.shared.dir)?;
        if let Some((line, offset, fault)) = &loaded.damage {
            check.flaw(CHECKPOINTS, format!("line {line} at byte {offset}: {fault}"));
        } else if loaded.checkpoints.get(..known.len()) != Some(known) {
            check.flaw(
                CHECKPOINTS,
                format!(
                    "expected the {} checkpoints that were written, found others or fewer ({})",
                    known.len(),
                    loaded.checkpoints.len()
                ),
            );
        }
        for checkpoint in &loaded.checkpoints {
            if checkpoint.signed() == Signed::Wrong {
                check.flaw(
                    CHECKPOINTS,
                    format!(
                        "the signature of the checkpoint of records {} to {} is wrong",
                        checkpoint.first_seq, checkpoint.last_seq
                    ),
                );
            }
        }
        let folder = self.shared.dir.join(SEALED_DIR);
        if disk.exists(&folder)? {
            for entry in disk.list(&folder)? {
                if entry.name.starts_with(DAMAGED_CHECKPOINTS) {
                    check.flaw(
                        &format!("{SEALED_DIR}/{}", entry.name),
                        "the checkpoints were damaged and have been derived again; compare this \
                         file with a copy or a signed root you hold, then remove it"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(loaded.checkpoints)
    }

    fn verify_sealed(
        &self,
        check: &mut Check<'_>,
        segment: &Sealed,
        checkpoints: &[Checkpoint],
    ) -> Result<()> {
        // The generation that is read now, in case it was replaced since.
        let name = {
            let view = self.shared.view.read();
            view.find(segment.first).map_or_else(|| segment.name(), Sealed::name)
        };
        let open = match self.shared.open_sealed(name) {
            Ok(open) => open,
            Err(JournalError::Corrupt { file, expected, found, .. }) => {
                check.missing_file(segment, &file, &format!("expected {expected}, found {found}"));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let label = open.label.clone();
        let blamed_before = check.items.len();
        let found = check.segment(&open, segment.first, Some(segment.last))?;

        let Some(seal) = first_of(checkpoints, segment.first) else {
            check.end_of_segment(segment.last, segment.head, "its head when it was opened");
            check.flaw(&label, "no checkpoint describes this segment".to_owned());
            return Ok(());
        };
        check.end_of_segment(seal.last_seq, seal.head, "the checkpoint");
        if check.items.len() > blamed_before {
            return Ok(()); // The root differs for a reason that is listed.
        }
        let root = found.tree.root();
        if root != seal.root || found.lines != seal.count {
            check.flaw(
                &label,
                format!(
                    "the checkpoint names root {} over {} records, found {root} over {}",
                    seal.root, seal.count, found.lines
                ),
            );
            return Ok(());
        }
        let of_generation = checkpoints.iter().rev().find(|checkpoint| {
            checkpoint.first_seq == name.first && checkpoint.generation == name.generation
        });
        if let Some(described) = of_generation
            && (described.bodies, described.bytes) != (found.bodies, open.len)
        {
            check.flaw(
                &label,
                format!(
                    "the checkpoint names {} bodies in {} bytes, found {} in {}",
                    described.bodies, described.bytes, found.bodies, open.len
                ),
            );
            return Ok(());
        }
        check.matched += 1;
        Ok(())
    }
}

const WHAT: &str = "journal records";

/// The checkpoint that was written when the segment was sealed.
fn first_of(checkpoints: &[Checkpoint], first: Seq) -> Option<&Checkpoint> {
    checkpoints.iter().find(|checkpoint| checkpoint.first_seq == first)
}

/// Whom to blame.
#[derive(Debug, Clone)]
struct Suspect {
    seq: Seq,
    id: Option<ItemId>,
    version: Option<Version>,
    label: String,
    offset: u64,
}

/// The last record that was read, until something confirms its hash.
#[derive(Debug)]
struct Last {
    who: Suspect,
    hash: Digest,
    /// Its hash is named by something trusted already.
    confirmed: bool,
    /// What its `prev` should have been, when that is not what it names.
    broken: Option<BrokenLink>,
}

#[derive(Debug)]
struct BrokenLink {
    /// The record before; `None` when that one is confirmed.
    before: Option<Suspect>,
    issue: String,
}

/// Unreadable lines that follow each other.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: Seq,
    lines: u64,
}

/// What was found in one segment.
#[derive(Debug, Default)]
struct Found {
    tree: MerkleTree,
    lines: u64,
    bodies: u64,
}

struct Check<'a> {
    outside: &'a dyn Fn(&Record) -> BodyState,
    progress: &'a dyn Progress,
    total: Seq,
    items: Vec<CorruptItem>,
    blamed: BTreeSet<Seq>,
    /// Records looked at, lost ones included.
    checked: u64,
    /// Records that are damaged or lost.
    unsound: u64,
    /// Faults of whole files.
    flaws: u64,
    bodies: u64,
    erased: u64,
    matched: u64,
    /// Position of the next record.
    expected: Seq,
    last: Option<Last>,
    run: Option<Run>,
}

impl<'a> Check<'a> {
    fn new(
        outside: &'a dyn Fn(&Record) -> BodyState,
        progress: &'a dyn Progress,
        total: Seq,
    ) -> Self {
        Self {
            outside,
            progress,
            total,
            items: Vec::new(),
            blamed: BTreeSet::new(),
            checked: 0,
            unsound: 0,
            flaws: 0,
            bodies: 0,
            erased: 0,
            matched: 0,
            expected: Seq(1),
            last: None,
            run: None,
        }
    }

    fn list(&mut self, item: CorruptItem) {
        if self.items.len() < MAX_LISTED {
            self.items.push(item);
        }
    }

    /// A fault of a whole file.
    fn flaw(&mut self, file: &str, issue: String) {
        self.flaws += 1;
        let file = file.to_owned();
        self.list(CorruptItem { id: None, version: None, seq: None, file, issue });
    }

    fn blame(&mut self, who: Suspect, issue: &str) {
        if self.blamed.insert(who.seq) {
            self.unsound += 1;
            self.list(CorruptItem {
                id: who.id,
                version: who.version,
                seq: Some(who.seq),
                file: who.label,
                issue: format!("record {} at byte {}: {issue}", who.seq, who.offset),
            });
        }
    }

    fn lost(&mut self, file: &str, from: Seq, count: u64, why: &str) {
        self.checked += count;
        self.unsound += count;
        let last = from.0.saturating_add(count.saturating_sub(1));
        let issue = format!("records {from} to {last} {why}");
        let file = file.to_owned();
        self.list(CorruptItem { id: None, version: None, seq: Some(from), file, issue });
    }

    fn missing_file(&mut self, segment: &Sealed, file: &str, issue: &str) {
        let count = segment.last.0.saturating_sub(segment.first.0).saturating_add(1);
        self.lost(file, segment.first, count, &format!("are gone: {issue}"));
        self.expected = segment.last.next();
        self.last = Some(Last {
            who: Suspect {
                seq: segment.last,
                id: None,
                version: None,
                label: file.to_owned(),
                offset: 0,
            },
            hash: segment.head,
            confirmed: true,
            broken: None,
        });
    }

    /// Walks one file; `last` is its last record when that is known.
    fn segment(&mut self, open: &OpenSegment, first: Seq, last: Option<Seq>) -> Result<Found> {
        let mut found = Found::default();
        if self.expected < first {
            let count = first.0 - self.expected.0;
            self.lost(&open.label, self.expected, count, "are missing: no segment holds them");
            self.last = None;
        }
        self.expected = first;
        let mut scanner = LineScanner::new(open.file.clone(), 0, open.len);
        while let Some(raw) = scanner.next_line()? {
            self.line(raw, &open.label, &mut found);
            if self.checked.is_multiple_of(PROGRESS_EVERY) {
                self.progress.report(self.checked, Some(self.total.0), WHAT);
            }
        }
        let after = last.map_or_else(
            || Seq(self.run.map_or(self.expected.0, |run| run.start.0 + run.lines)),
            Seq::next,
        );
        self.close_run(after, &open.label);
        if self.expected < after {
            let count = after.0 - self.expected.0;
            self.lost(&open.label, self.expected, count, "are missing at the end");
            self.expected = after;
        }
        Ok(found)
    }

    fn line(&mut self, raw: RawLine<'_>, label: &str, found: &mut Found) {
        let parsed = match parse_line(raw.bytes) {
            Ok(parsed) if raw.ended => parsed,
            other => {
                let issue = match other {
                    Ok(_) => "expected a line feed, found the end of the file".to_owned(),
                    Err(fault) => fault.to_string(),
                };
                let run = self.run.get_or_insert(Run { start: self.expected, lines: 0 });
                let seq = Seq(run.start.0.saturating_add(run.lines));
                run.lines += 1;
                self.list(CorruptItem {
                    id: salvage_id(raw.bytes),
                    version: None,
                    seq: Some(seq),
                    file: label.to_owned(),
                    issue: format!("record {seq} at byte {}: {issue}", raw.offset),
                });
                self.last = None;
                return;
            }
        };
        let record = &parsed.record;
        self.close_run(record.seq, label);
        self.checked += 1;
        found.lines += 1;
        found.tree.push(&parsed.head_hash);
        let mut who = Suspect {
            seq: record.seq,
            id: Some(record.id.clone()),
            version: Some(record.version),
            label: label.to_owned(),
            offset: raw.offset,
        };
        if record.seq != self.expected {
            let before = self.last.as_ref().map(|last| last.hash);
            let linked = match before {
                Some(hash) => record.prev == hash,
                None => self.expected == Seq(1) && record.prev == Digest::ZERO,
            };
            if linked {
                // It stands where it was written; only its number has changed.
                who.seq = self.expected;
                self.blame(who.clone(), &format!("it says that it is record {}", record.seq));
            } else if record.seq > self.expected {
                let count = record.seq.0 - self.expected.0;
                self.lost(label, self.expected, count, "are missing");
                self.last = None;
            } else {
                self.blame(who.clone(), &format!("expected record {} here", self.expected));
                self.last = None;
            }
        }
        self.expected = who.seq.next();

        let broken = self.link(&parsed.record);
        if parsed.body.is_some() {
            found.bodies += 1;
            self.bodies += 1;
            if let Err(fault) = parsed.check_body() {
                self.blame(who.clone(), &fault.to_string());
            }
        } else if record.op.carries_content() {
            self.outside_body(record, &who);
        }
        self.last = Some(Last { who, hash: parsed.head_hash, confirmed: false, broken });
    }

    /// Compares `prev` with the record before, and settles whom an earlier break is due to.
    fn link(&mut self, record: &Record) -> Option<BrokenLink> {
        let last = match self.last.take() {
            Some(last) => last,
            None if record.seq == Seq(1) && record.prev != Digest::ZERO => {
                let issue =
                    format!("expected prev {} as the first, found {}", Digest::ZERO, record.prev);
                return Some(BrokenLink { before: None, issue });
            }
            None => return None, // Nothing to compare with; the fault before it is listed.
        };
        if record.prev == last.hash {
            self.confirm(last);
            return None;
        }
        let issue =
            format!("the record after names {} as its hash, found {}", record.prev, last.hash);
        let before = if last.confirmed {
            None
        } else {
            let who = last.who.clone();
            if let Some(link) = last.broken {
                self.blame(last.who, &link.issue);
            }
            Some(who)
        };
        let issue = match before {
            Some(_) => issue,
            None => format!("expected prev {}, found {}", last.hash, record.prev),
        };
        Some(BrokenLink { before, issue })
    }

    /// `last` is what its successor says: a broken link to the record before it is due to that
    /// one.
    fn confirm(&mut self, last: Last) {
        if let Some(BrokenLink { before, issue }) = last.broken {
            self.blame(before.unwrap_or(last.who), &issue);
        }
    }

    /// The end of a segment whose last record must be `seq` with hash `hash`.
    fn end_of_segment(&mut self, seq: Seq, hash: Digest, source: &str) {
        let Some(mut last) = self.last.take() else { return };
        if last.who.seq != seq {
            // Records are missing at the end, which is listed, or the last one does not belong
            // here.
            if let Some(link) = last.broken {
                self.blame(last.who, &link.issue);
            }
            return;
        }
        if last.hash == hash {
            let who = last.who.clone();
            if let Some(BrokenLink { before, issue }) = last.broken.take() {
                self.blame(before.unwrap_or(last.who), &issue);
            }
            self.last = Some(Last { who, hash, confirmed: true, broken: None });
        } else {
            let issue = format!("{source} names {hash} as its hash, found {}", last.hash);
            self.blame(last.who.clone(), &issue);
            // Compare the next segment with what is trusted, not with what was found.
            self.last = Some(Last { hash, confirmed: true, broken: None, ..last });
        }
    }

    fn outside_body(&mut self, record: &Record, who: &Suspect) {
        match (self.outside)(record) {
            BodyState::Stored(bytes) => {
                self.bodies += 1;
                let found = Digest::of(&bytes);
                if found != record.hash {
                    self.blame(
                        who.clone(),
                        &format!(
                            "expected content with SHA-256 {} outside the journal, found {found}",
                            record.hash
                        ),
                    );
                }
            }
            BodyState::Erased => self.erased += 1,
            BodyState::Damaged { file, reason } => {
                if self.blamed.insert(who.seq) {
                    self.unsound += 1;
                    self.list(CorruptItem {
                        id: who.id.clone(),
                        version: who.version,
                        seq: Some(who.seq),
                        file,
                        issue: format!("the content of record {}: {reason}", who.seq),
                    });
                }
            }
            BodyState::Missing => {
                self.blame(
                    who.clone(),
                    &format!("expected content with SHA-256 {}, found none", record.hash),
                );
            }
        }
    }

    /// Ends a run of unreadable lines before record `next`.
    fn close_run(&mut self, next: Seq, label: &str) {
        let Some(run) = self.run.take() else { return };
        // A changed line feed joins two records to one line, or makes two lines of one record:
        // positions tell how many records there were. None at all: somebody put lines in.
        let records = match next.0.saturating_sub(run.start.0) {
            0 => run.lines,
            records => records,
        };
        self.checked += records;
        self.unsound += records;
        if records > run.lines {
            self.list(CorruptItem {
                id: None,
                version: None,
                seq: Some(run.start),
                file: label.to_owned(),
                issue: format!(
                    "{records} records from {} on are unreadable in {} lines",
                    run.start, run.lines
                ),
            });
        }
        self.expected = next;
    }
}
