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

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use llm_memory_disk::File;

use super::chain::MerkleTree;
use super::copies::{copy_out, unused_name};
use super::entry::{Draft, LineError, MORE_META, ParsedLine, Record, parse_line, write_line};
use super::error::{JournalError, Result};
use super::scan::{LineScanner, RawLine};
use super::segment_name::{ACTIVE, SEALED_DIR};
use super::shared::{Active, Tally};
use super::writer::Journal;
use super::{Damage, Head, Line, Location};
use crate::ids::{Digest, Seq};

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
    /// Where the last commit among them begins.
    pub(crate) last_commit: u64,
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
    last_commit: u64,
}

impl Walked {
    /// Leaves out the records of an operation that is not there to its end. Whether there were
    /// any. For the end of the active segment, where a crash may have cut a commit in two.
    pub(crate) fn drop_unfinished(&mut self) -> bool {
        let Some(begun) = self.before_unfinished.take() else { return false };
        let Begun { len, head, tree, tally, last_commit } = *begun;
        (self.len, self.head, self.tree, self.tally) = (len, head, tree, tally);
        self.last_commit = last_commit;
        true
    }
}

/// Walks the sound lines from the scanner's position on, which follow `before`.
pub(crate) fn walk_sound(
    scanner: &mut LineScanner,
    before: Head,
    each: impl FnMut(RawLine<'_>, &ParsedLine<'_>),
) -> Result<Walked> {
    walk_past(scanner, before, &BTreeSet::new(), each)
}

/// [`walk_sound`], whatever the bodies of the records `damaged` are.
pub(crate) fn walk_past(
    scanner: &mut LineScanner,
    before: Head,
    damaged: &BTreeSet<Seq>,
    mut each: impl FnMut(RawLine<'_>, &ParsedLine<'_>),
) -> Result<Walked> {
    let mut walked = Walked {
        len: 0,
        head: before,
        tree: MerkleTree::default(),
        tally: Tally::default(),
        fault: None,
        unchained: false,
        last_commit: 0,
        before_unfinished: None,
    };
    while let Some(raw) = scanner.next_line()? {
        let parsed = whole(&raw).and_then(|parsed| {
            if !damaged.contains(&parsed.record.seq) {
                parsed.check_body()?;
            }
            Ok(parsed)
        });
        let parsed = match parsed {
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
            let Walked { len, head, last_commit, .. } = walked;
            let begun = Begun { len, head, tree, tally, last_commit };
            walked.before_unfinished = Some(Box::new(begun));
        }
        if !parsed.continued {
            walked.last_commit = raw.offset;
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
    let parsed = whole(raw)?;
    parsed.check_body()?;
    Ok(parsed)
}

/// Parses a line; its body is not looked at.
pub(crate) fn whole<'a>(raw: &RawLine<'a>) -> Result<ParsedLine<'a>, LineError> {
    if !raw.ended {
        return Err(LineError::new(
            "a line feed at the end of the record",
            format!("the end of the file after {} bytes", raw.bytes.len()),
        ));
    }
    parse_line(raw.bytes)
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
    /// The last record before the damage.
    pub last_sound: Seq,
    /// Records after the damage that were sound in themselves; they follow those before it now.
    pub salvaged: u64,
    /// Last position that the damaged file shows. Of those after `last_sound` all but `salvaged`
    /// records are lost.
    pub last_seen: Seq,
}

/// A line that is sound in itself, in a file that is to be recovered.
#[derive(Debug)]
struct Found {
    offset: u64,
    len: usize,
    seq: Seq,
    more: u64,
}

/// Whether the first of `found` is followed by all records of its operation.
fn is_whole(found: &[Found]) -> bool {
    let Some((first, rest)) = found.split_first() else { return false };
    let mut rest = rest.iter();
    (1..=first.more).all(|n| {
        rest.next().is_some_and(|next| {
            next.seq.0 == first.seq.0.saturating_add(n) && next.more == first.more - n
        })
    })
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
    /// aside as `journal/<first>.damaged-<n>`, and in its place one that holds the lines before
    /// the damage and, chained anew, the records after it that are sound in themselves. `None`
    /// when there is no damage.
    ///
    /// The file is exchanged in one step: a crash leaves the damaged one or the whole new one.
    /// Positions after the damage are given out again, so every view must be rebuilt.
    pub fn recover(&mut self) -> Result<Option<Recovered>> {
        if self.is_read_only() {
            return Err(JournalError::ReadOnly);
        }
        let Some(damage) = self.damage() else { return Ok(None) };
        self.rollback();
        let shared = Arc::clone(self.shared());
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
        let mut heads = Vec::new();
        let mut scanner = LineScanner::new(Arc::clone(&open.file), 0, end);
        let mut walked =
            walk_sound(&mut scanner, before, |_, parsed| heads.push(parsed.head_hash))?;
        let (fault, last_sound) = (walked.len, walked.head.seq);
        // What is left of an operation is kept, but no longer as a part of one.
        walked.drop_unfinished();
        heads.truncate(usize::try_from(walked.tally.lines).unwrap_or(usize::MAX));
        let found = self.salvageable(&open.file, walked.len, end, heads)?;
        let salvaged = chain_anew(&open.file, &found, walked.head)?;

        let prefix = format!("{SEALED_DIR}/{:020}.damaged-", first.0);
        let set_aside = unused_name(shared.disk.as_ref(), &shared.dir, &prefix)?;
        copy_out(shared.disk.as_ref(), &open.file, 0..end, &shared.dir.join(&set_aside))?;
        let (file, walked) = self.copy_prefix(&open.file, walked.len, &salvaged)?;
        let head = if walked.tally.lines == 0 { before } else { walked.head };
        tracing::warn!(file = %damage.file, offset = damage.offset, %set_aside, "damage set aside");
        let active = Active { first, file: Some(file), len: walked.len, head, tally: walked.tally };
        self.restart(active, walked.tree);
        let last_seen = found.iter().map(|line| line.seq).fold(last_sound, Seq::max);
        let salvaged = found.iter().filter(|line| line.offset >= fault).count() as u64;
        Ok(Some(Recovered { set_aside, last_sound, salvaged, last_seen }))
    }

    /// The lines from byte `from` on that are sound in themselves and are not there already:
    /// neither among those with `heads` nor in a sealed segment.
    fn salvageable(
        &self,
        file: &Arc<dyn File>,
        from: u64,
        end: u64,
        heads: Vec<Digest>,
    ) -> Result<Vec<Found>> {
        let mut known: HashSet<Digest> = heads.into_iter().collect();
        let mut found = Vec::new();
        let mut scanner = LineScanner::new(Arc::clone(file), from, end);
        while let Some(raw) = scanner.next_line()? {
            let Ok(parsed) = sound(&raw) else { continue };
            let (seq, more) = (parsed.record.seq, parsed.record.more());
            let line = Found { offset: raw.offset, len: raw.bytes.len(), seq, more };
            found.push((parsed.head_hash, line));
        }
        let first = self.shared().view.read().active.first;
        if let Some(lowest) =
            found.iter().map(|(_, line)| line.seq).min().filter(|seq| *seq < first)
        {
            // Damage there is for verification to report.
            let sealed = self.reader().lines(lowest)?.map_while(Result::ok);
            let sealed = sealed.take_while(|line| line.record.seq < first);
            known.extend(sealed.map(|line| line.head_hash));
        }
        found.retain(|(head, _)| known.insert(*head));
        Ok(found.into_iter().map(|(_, line)| line).collect())
    }
}

/// The records of `found` as lines that follow `tip`.
fn chain_anew(file: &Arc<dyn File>, found: &[Found], mut tip: Head) -> Result<Vec<u8>> {
    let (mut out, mut bytes) = (Vec::new(), Vec::new());
    for (at, line) in found.iter().enumerate() {
        bytes.resize(line.len, 0);
        file.read_exact_at(line.offset, &mut bytes)?;
        let parsed = parse_line(&bytes).map_err(|fault| JournalError::Corrupt {
            file: ACTIVE.to_owned(),
            offset: line.offset,
            expected: fault.expected,
            found: fault.found,
        })?;
        let Record { ts, op, id, version, hash, actor, mut meta, .. } = parsed.record;
        if !is_whole(found.get(at..).unwrap_or_default()) {
            meta.remove(MORE_META);
        }
        let (id, actor) = (&id, actor.as_str());
        let draft = Draft { ts, op, id, version, hash, actor, meta, body: parsed.body };
        let seq = tip.seq.next();
        let written = write_line(&mut out, &draft, seq, &tip.hash, false);
        tip = Head { seq, hash: written.head_hash, ts };
    }
    Ok(out)
}

/// The public form of a parsed line, with its body unless that is `damaged`.
pub(crate) fn line_of(
    raw: &RawLine<'_>,
    parsed: ParsedLine<'_>,
    segment: Seq,
    generation: u32,
    damaged: bool,
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
    let (body, damaged) = match body {
        Some((location, _)) if damaged => (None, Some(location)),
        body => (body, None),
    };
    Line { head_hash: parsed.head_hash, body, damaged, record: parsed.record }
}
