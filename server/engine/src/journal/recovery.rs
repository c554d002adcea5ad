//! Telling a torn tail from damage.
//!
//! Lines are walked from the head of the last checkpoint. The first one that does not parse, does
//! not chain, or whose body has another hash is the *fault*. A crash can only leave a fault in
//! the last commit, because a commit begins after the one before it was synced. So:
//!
//! - a fault after which no line of a later commit stands (a line without the mark of a continued
//!   commit that is sound in itself) is a **torn tail**: it is cut, and everything after it;
//! - any other fault, and a line that is sound in itself but does not chain, is **damage**: it is
//!   left as it is, and writes are refused until [`Journal::recover`].
//!
//! A commit that lost its end may have lost records of an operation that made several; what is
//! left of that operation is cut as well.
//!
//! What looks like a torn tail can also be damage of the very last commit, and a file cut between
//! two lines shows no fault at all. The journal alone cannot tell; a view whose durable watermark
//! is beyond the journal's head can. The store compares the two and reports with
//! [`Journal::contradict`], which refuses writes as damage does.

use std::path::Path;

use llm_memory_disk::Disk;

use super::chain::MerkleTree;
use super::entry::{LineError, ParsedLine, parse_line};
use super::error::{JournalError, Result};
use super::scan::{LineScanner, RawLine};
use super::segment_name::{ACTIVE, SEALED_DIR};
use super::shared::{Active, Tally};
use super::writer::Journal;
use super::{Damage, Head, Line, Location};
use crate::ids::Seq;

/// The sound lines at the beginning of a file.
#[derive(Debug)]
pub(crate) struct Walked {
    /// Their bytes.
    pub(crate) len: u64,
    /// The last of them.
    pub(crate) head: Head,
    /// The tree over them.
    pub(crate) tree: MerkleTree,
    /// What is in them.
    pub(crate) tally: Tally,
    /// Where the first unsound line begins, and its fault.
    pub(crate) fault: Option<(u64, LineError)>,
    /// Whether that line is sound in itself and only does not chain.
    pub(crate) unchained: bool,
    /// What came before an operation whose last records are missing.
    before_unfinished: Option<Box<Begun>>,
}

/// Where an operation of several records began.
#[derive(Debug)]
struct Begun {
    len: u64,
    head: Head,
    tree: MerkleTree,
    tally: Tally,
}

impl Walked {
    /// Leaves out the records of an operation that is not there to its end. Whether there were
    /// any. For the end of the active segment, where a crash may have cut a commit in two.
    pub(crate) fn drop_unfinished(&mut self) -> bool {
        let Some(begun) = self.before_unfinished.take() else { return false };
        let Begun { len, head, tree, tally } = *begun;
        (self.len, self.head, self.tree, self.tally) = (len, head, tree, tally);
        true
    }
}

/// Walks the sound lines from the scanner's position on, which follow `before`.
pub(crate) fn walk_sound(
    scanner: &mut LineScanner,
    before: Head,
    mut each: impl FnMut(RawLine<'_>, &ParsedLine<'_>),
) -> Result<Walked> {
    let mut walked = Walked {
        len: 0,
        head: before,
        tree: MerkleTree::default(),
        tally: Tally::default(),
        fault: None,
        unchained: false,
        before_unfinished: None,
    };
    while let Some(raw) = scanner.next_line()? {
        let parsed = match sound(&raw) {
            Ok(parsed) => parsed,
            Err(fault) => {
                walked.fault = Some((raw.offset, fault));
                break;
            }
        };
        if let Err(fault) = parsed.check_chain(walked.head.seq, &walked.head.hash) {
            walked.fault = Some((raw.offset, fault));
            walked.unchained = true;
            break;
        }
        each(raw, &parsed);
        if parsed.record.more() == 0 {
            walked.before_unfinished = None;
        } else if walked.before_unfinished.is_none() {
            let (tree, tally) = (walked.tree.clone(), walked.tally);
            let begun = Begun { len: walked.len, head: walked.head, tree, tally };
            walked.before_unfinished = Some(Box::new(begun));
        }
        walked.len = raw.end();
        walked.tree.push(&parsed.head_hash);
        walked.tally.add(raw.end() - raw.offset, parsed.body.is_some(), parsed.record.ts);
        walked.head = Head { seq: parsed.record.seq, hash: parsed.head_hash, ts: parsed.record.ts };
    }
    Ok(walked)
}

/// Parses a line and checks its body: everything that can be said without its neighbours.
pub(crate) fn sound<'a>(raw: &RawLine<'a>) -> Result<ParsedLine<'a>, LineError> {
    if !raw.ended {
        return Err(LineError::new(
            "a line feed at the end of the record",
            format!("the end of the file after {} bytes", raw.bytes.len()),
        ));
    }
    let parsed = parse_line(raw.bytes)?;
    parsed.check_body()?;
    Ok(parsed)
}

/// What follows the fault of a file.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Whether a later commit wrote any of it; then the fault is damage.
    pub(crate) later_commit: bool,
    /// The last line in it that is sound in itself.
    pub(crate) last: Option<Head>,
}

/// Looks at everything after the faulty line, which has been read.
pub(crate) fn look_at_rest(scanner: &mut LineScanner) -> Result<Rest> {
    let mut rest = Rest { later_commit: false, last: None };
    while let Some(raw) = scanner.next_line()? {
        if let Ok(parsed) = sound(&raw) {
            rest.later_commit |= !parsed.continued;
            rest.last =
                Some(Head { seq: parsed.record.seq, hash: parsed.head_hash, ts: parsed.record.ts });
        }
    }
    Ok(rest)
}

/// What [`Journal::recover`] did.
#[derive(Debug)]
pub struct Recovered {
    /// Where the damaged file was put, relative to the scope's folder.
    pub set_aside: String,
    /// The last record that is kept; the next one gets the position after it.
    pub head: Head,
    /// Records after the damage that are sound in themselves, in order. They no longer chain and
    /// are not in the journal any more; writing those that matter again is for the caller.
    pub salvaged: Vec<Line>,
    /// Last position that the damaged file shows; those between `head` and it that are not among
    /// `salvaged` are lost.
    pub last_seen: Seq,
}

impl Journal {
    /// Refuses writes until [`Journal::recover`], as damage does, because a view proves that
    /// records are missing after the head, or are not those it has seen.
    pub fn contradict(&self, expected: String, found: String) {
        let mut view = self.shared().view.write();
        let (offset, last_sound) = (view.active.len, view.active.head.seq);
        view.damage = Some(Damage { file: ACTIVE.to_owned(), offset, last_sound, expected, found });
    }

    /// Ends the refusal of writes after [`Journal::damage`]: puts a copy of the damaged file
    /// aside as `journal/<first>.damaged-<n>`, keeps the lines before the damage, and hands back
    /// what can be read after it. `None` when there is no damage.
    ///
    /// Positions after the damage are given out again, so every view must be rebuilt.
    pub fn recover(&mut self) -> Result<Option<Recovered>> {
        if self.is_read_only() {
            return Err(JournalError::ReadOnly);
        }
        let Some(damage) = self.damage() else { return Ok(None) };
        self.rollback();
        let shared = self.shared();
        let Some(open) = shared.view.read().active.open() else {
            return Err(JournalError::Misuse("the damaged segment has no file".to_owned()));
        };
        let first = shared.view.read().active.first;
        let before = Head {
            seq: Seq(first.0.saturating_sub(1)),
            hash: shared.view.read().hash_before(first),
            ..Head::default()
        };
        let end = open.file.len()?;
        let mut scanner = LineScanner::new(open.file.clone(), 0, end);
        let walked = walk_sound(&mut scanner, before, |_, _| {})?;
        let (mut salvaged, mut last_seen) = (Vec::new(), walked.head.seq);
        // The faulty line itself may be sound and only not chain.
        let mut scanner = LineScanner::new(open.file.clone(), walked.len, end);
        while let Some(raw) = scanner.next_line()? {
            let Ok(parsed) = sound(&raw) else { continue };
            last_seen = last_seen.max(parsed.record.seq);
            salvaged.push(line_of(&raw, parsed, first, 0));
        }

        let prefix = format!("{SEALED_DIR}/{:020}.damaged-", first.0);
        let set_aside = unused_name(shared.disk.as_ref(), &shared.dir, &prefix)?;
        let bytes = shared.disk.read(&shared.dir.join(ACTIVE))?;
        shared.disk.durable_write(&shared.dir.join(&set_aside), &bytes)?;
        drop(bytes);
        let file = self.copy_prefix(&open.file, walked.len)?;
        let head = if walked.tally.lines == 0 { before } else { walked.head };
        tracing::warn!(file = %damage.file, offset = damage.offset, %set_aside, "damage set aside");
        let active = Active { first, file: Some(file), len: walked.len, head, tally: walked.tally };
        self.restart(active, walked.tree);
        Ok(Some(Recovered { set_aside, head, salvaged, last_seen }))
    }
}

/// The first of `<prefix>1`, `<prefix>2`, ... that names nothing in `dir` yet.
pub(crate) fn unused_name(disk: &dyn Disk, dir: &Path, prefix: &str) -> Result<String> {
    let mut n = 1_u32;
    loop {
        let name = format!("{prefix}{n}");
        if !disk.exists(&dir.join(&name))? {
            return Ok(name);
        }
        n += 1;
    }
}

/// The public form of a parsed line.
pub(crate) fn line_of(
    raw: &RawLine<'_>,
    parsed: ParsedLine<'_>,
    segment: Seq,
    generation: u32,
) -> Line {
    let body = parsed.body.map(|body| {
        let location = Location {
            segment,
            generation,
            offset: raw.offset + parsed.body_offset as u64,
            len: u32::try_from(body.len()).unwrap_or(u32::MAX),
        };
        (location, body.to_vec())
    });
    Line { head_hash: parsed.head_hash, body, record: parsed.record }
}
