//! Opening a journal: folder, checkpoints, active segment, in this order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::{Disk, File, OpenMode};

use super::chain::MerkleTree;
use super::checkpoint::{self, Checkpoint, Loaded};
use super::copies::{copy_out, same_bytes, unused_name, write_again};
use super::error::Result;
use super::leftovers::remove_unfinished;
use super::recovery::{Walked, look_at_rest, sound, walk_sound};
use super::scan::LineScanner;
use super::segment_name::{ACTIVE, CHECKPOINTS, SEALED_DIR, SegmentName};
use super::shared::{Active, Sealed, Shared, Tally, View};
use super::writer::{Health, Journal, describe};
use super::{Damage, Head, JournalOptions, LineError};
use crate::ids::{Digest, Seq};

pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: JournalOptions,
) -> Result<(Journal, Vec<String>)> {
    let mut notes = Vec::new();
    if !options.read_only {
        disk.create_dir_all(&dir.join(SEALED_DIR))?;
        remove_unfinished(disk.as_ref(), dir, &mut notes)?;
        // A name that can be seen may never have been synced by the process that made it.
        disk.sync_dir(&dir.join(SEALED_DIR))?;
        disk.sync_dir(dir)?;
    }
    let files = list_sealed(disk.as_ref(), dir)?;
    let loaded = checkpoint::load(disk.as_ref(), dir)?;
    let mut opening = Opening { disk, dir, options: &options, notes };
    let loaded = opening.distrust(loaded)?;
    let (sealed, head, checkpoints) = opening.sealed(&files, loaded)?;
    let (active, tree, damage) = opening.active(head, &sealed)?;
    let Opening { disk, notes, .. } = opening;

    let trusted = options.signing_key.as_ref().map(|key| key.verifying_key());
    let view = View { sealed, active, checkpoints, damage };
    let shared = Arc::new(Shared::new(disk, dir.to_path_buf(), trusted, view));
    Ok((Journal::assemble(shared, options, tree, Health::Ready), notes))
}

/// Generations of each sealed segment and the length of their files.
type Files = BTreeMap<Seq, BTreeMap<u32, u64>>;

fn list_sealed(disk: &dyn Disk, dir: &Path) -> Result<Files> {
    let mut files = Files::new();
    let folder = dir.join(SEALED_DIR);
    if disk.exists(&folder)? {
        for entry in disk.list(&folder)? {
            if let Some(name) = SegmentName::parse(&entry.name) {
                files.entry(name.first).or_default().insert(name.generation, entry.len);
            }
        }
    }
    Ok(files)
}

struct Opening<'a> {
    disk: Arc<dyn Disk>,
    dir: &'a Path,
    options: &'a JournalOptions,
    notes: Vec<String>,
}

impl Opening<'_> {
    /// The last checkpoint is the only one that no other line vouches for. The first record of
    /// the active segment does: where it does not follow the checkpoint but does follow what the
    /// sealed segment really holds, the checkpoint is the damaged one.
    fn distrust(&mut self, mut loaded: Loaded) -> Result<Loaded> {
        let checkpoints = &loaded.checkpoints;
        let Some(last) = checkpoints.iter().map(|checkpoint| checkpoint.first_seq).max() else {
            return Ok(loaded);
        };
        let at = checkpoints.iter().position(|checkpoint| checkpoint.first_seq == last);
        let Some((at, seal)) = at.and_then(|at| Some((at, checkpoints.get(at)?))) else {
            return Ok(loaded);
        };
        let Some((seq, prev)) = self.first_of_active()? else { return Ok(loaded) };
        if (seq, prev) == (seal.last_seq.next(), seal.head) {
            return Ok(loaded);
        }
        let name = SegmentName { first: seal.first_seq, generation: seal.generation };
        let path = name.path(self.dir);
        if !self.disk.exists(&path)? {
            return Ok(loaded);
        }
        let before = checkpoints
            .iter()
            .filter(|checkpoint| checkpoint.first_seq < last)
            .max_by_key(|checkpoint| checkpoint.first_seq)
            .map_or(Head::default(), |checkpoint| Head {
                seq: checkpoint.last_seq,
                hash: checkpoint.head,
                ts: checkpoint.last_ts,
            });
        let file = self.disk.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        let walked = walk_sound(&mut LineScanner::new(file, 0, len), before, |_, _| {})?;
        if walked.fault.is_none() && (seq, prev) == (walked.head.seq.next(), walked.head.hash) {
            let offset = checkpoints.iter().take(at).map(|line| line.line().len() as u64 + 1).sum();
            let fault = LineError::new(
                format!("head {} at record {}", walked.head.hash, walked.head.seq),
                format!("head {} at record {}", seal.head, seal.last_seq),
            );
            loaded.checkpoints.truncate(at);
            loaded.damage = Some((at + 1, offset, fault));
        }
        Ok(loaded)
    }

    /// Position and `prev` of the first record of the active segment, if it can be read.
    fn first_of_active(&self) -> Result<Option<(Seq, Digest)>> {
        let path = self.dir.join(ACTIVE);
        if !self.disk.exists(&path)? {
            return Ok(None);
        }
        let file = self.disk.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        let mut scanner = LineScanner::new(file, 0, len);
        let Some(raw) = scanner.next_line()? else { return Ok(None) };
        Ok(sound(&raw).ok().map(|parsed| (parsed.record.seq, parsed.record.prev)))
    }

    /// Puts files and checkpoints together. Also returns the head of the last sealed segment.
    fn sealed(
        &mut self,
        files: &Files,
        loaded: Loaded,
    ) -> Result<(Vec<Sealed>, Head, Vec<Checkpoint>)> {
        let Loaded { checkpoints, damage, exists } = loaded;
        let mut seals: BTreeMap<Seq, &Checkpoint> = BTreeMap::new();
        for checkpoint in &checkpoints {
            seals.entry(checkpoint.first_seq).or_insert(checkpoint);
        }
        let mut firsts: Vec<Seq> = files.keys().chain(seals.keys()).copied().collect();
        firsts.sort_unstable();
        firsts.dedup();

        let (mut sealed, mut derived) = (Vec::new(), Vec::new());
        let mut head = Head::default();
        for first in firsts {
            if first != head.seq.next() {
                self.notes.push(format!(
                    "records {} to {} are missing: no segment holds them",
                    head.seq.next(),
                    first.0.saturating_sub(1)
                ));
            }
            let segment = if let Some(seal) = seals.get(&first) {
                head = Head { seq: seal.last_seq, hash: seal.head, ts: seal.last_ts };
                self.known(first, seal, files.get(&first))
            } else {
                let (segment, checkpoint) = self.derive(first, head, files.get(&first))?;
                head = Head { seq: segment.last, hash: segment.head, ts: checkpoint.last_ts };
                derived.push(checkpoint);
                segment
            };
            sealed.push(segment);
        }
        let checkpoints = self.mend_checkpoints(checkpoints, derived, damage.as_ref(), exists)?;
        Ok((sealed, head, checkpoints))
    }

    /// A segment that has a checkpoint.
    fn known(
        &mut self,
        first: Seq,
        seal: &Checkpoint,
        generations: Option<&BTreeMap<u32, u64>>,
    ) -> Sealed {
        let current = generations.and_then(BTreeMap::last_key_value);
        let (generation, bytes) = current.map_or((0, 0), |(generation, len)| (*generation, *len));
        if current.is_none() {
            self.notes.push(format!(
                "{} is missing; its checkpoint remains",
                SegmentName { first, generation }.relative()
            ));
        }
        Sealed {
            first,
            last: seal.last_seq,
            generation,
            older: self.older(first, generation, generations),
            bytes,
            head: seal.head,
            root: seal.root,
            present: current.is_some(),
        }
    }

    /// Every generation of a name without `.partial` was synced and read back before it got that
    /// name, and all hold the same heads. The highest is read; lower ones stay for whoever still
    /// points into them until they are retired.
    fn older(
        &mut self,
        first: Seq,
        current: u32,
        generations: Option<&BTreeMap<u32, u64>>,
    ) -> Vec<u32> {
        let older: Vec<u32> = generations
            .into_iter()
            .flat_map(|generations| generations.keys().copied())
            .filter(|generation| *generation != current)
            .collect();
        if !older.is_empty() {
            self.notes.push(format!(
                "segment {first} is read in generation {current}; older generations {older:?} are \
                 kept until they are retired"
            ));
        }
        older
    }

    /// A segment without a checkpoint: reads it. The process died between renaming it and
    /// writing the checkpoint, or the checkpoints are damaged.
    fn derive(
        &mut self,
        first: Seq,
        before: Head,
        generations: Option<&BTreeMap<u32, u64>>,
    ) -> Result<(Sealed, Checkpoint)> {
        let (generation, len) = generations
            .and_then(BTreeMap::last_key_value)
            .map_or((0, 0), |(generation, len)| (*generation, *len));
        let name = SegmentName { first, generation };
        let file = self.disk.open(&name.path(self.dir), OpenMode::Read)?;
        let before = Head { seq: Seq(first.0.saturating_sub(1)), ..before };
        let mut scanner = LineScanner::new(file, 0, len);
        let mut walked = walk_sound(&mut scanner, before, |_, _| {})?;
        if let Some((offset, fault)) = &walked.fault {
            self.notes.push(format!("{} is damaged at byte {offset}: {fault}", name.relative()));
            // The segments behind it are found by their names; this tells where its own end is.
            if let Some(last) = look_at_rest(&mut scanner)?.last
                && last.seq > walked.head.seq
            {
                walked.head = last;
            }
        }
        let sealed = Sealed {
            first,
            last: walked.head.seq,
            generation,
            older: self.older(first, generation, generations),
            bytes: len,
            head: walked.head.hash,
            root: walked.tree.root(),
            present: true,
        };
        // Of a damaged segment the records that should be there are counted, so that the line
        // fits between its neighbours; verification finds the root to be another.
        let lines = sealed.last.next().0.saturating_sub(first.0);
        let tally = Tally { bytes: len, lines, ..walked.tally };
        let checkpoint = describe(&sealed, tally, walked.head.ts);
        Ok((sealed, checkpoint))
    }

    /// Writes derived checkpoints down. A damaged file is set aside, so that verification goes on
    /// reporting it until somebody has looked at it and removed it.
    fn mend_checkpoints(
        &mut self,
        mut checkpoints: Vec<Checkpoint>,
        derived: Vec<Checkpoint>,
        damage: Option<&(usize, u64, LineError)>,
        exists: bool,
    ) -> Result<Vec<Checkpoint>> {
        // A crash while sealing leaves exactly one segment, the last, without a checkpoint.
        let crash_only = damage.is_none()
            && derived.len() <= 1
            && derived.first().is_none_or(|last| {
                checkpoints.iter().all(|checkpoint| checkpoint.first_seq < last.first_seq)
            });
        if let Some((line, offset, fault)) = damage {
            self.notes
                .push(format!("{CHECKPOINTS} is damaged in line {line} at byte {offset}: {fault}"));
        }
        if derived.is_empty() && damage.is_none() {
            return Ok(checkpoints);
        }
        for checkpoint in &derived {
            self.notes.push(format!(
                "the checkpoint of records {} to {} was missing and has been derived again from \
                 the segment",
                checkpoint.first_seq, checkpoint.last_seq
            ));
        }
        let key = self.options.signing_key.as_deref();
        for checkpoint in derived {
            // A checkpoint made from a file that nobody vouches for is not signed, unless only
            // the crash of our own seal came between.
            let key = key.filter(|_| crash_only);
            let chained = checkpoint::finish(checkpoint, checkpoints.last(), key);
            checkpoints.push(chained);
        }
        if self.options.read_only {
            return Ok(checkpoints);
        }
        if !crash_only {
            self.set_checkpoints_aside(exists)?;
        }
        checkpoint::store(self.disk.as_ref(), self.dir, &checkpoints)?;
        Ok(checkpoints)
    }

    fn set_checkpoints_aside(&mut self, exists: bool) -> Result<()> {
        let prefix = format!("{SEALED_DIR}/{DAMAGED_CHECKPOINTS}");
        let aside = unused_name(self.disk.as_ref(), self.dir, &prefix)?;
        let bytes = if exists { self.disk.read(&self.dir.join(CHECKPOINTS))? } else { Vec::new() };
        self.disk.durable_write(&self.dir.join(&aside), &bytes)?;
        self.notes.push(format!(
            "the checkpoint file as it was found is in {aside}; journal.verify reports it until \
             it is removed"
        ));
        Ok(())
    }

    /// A crash in the middle of a rename may leave the file under both names, which is one file
    /// with two names: the old name goes, the bytes must not be touched. Whether the active file
    /// was such a name.
    fn forget_old_name(&mut self, last: Option<&Sealed>) -> Result<bool> {
        let path = self.dir.join(ACTIVE);
        let Some(last) = last.filter(|last| last.present && last.generation == 0) else {
            return Ok(false);
        };
        if !self.disk.exists(&path)? {
            return Ok(false);
        }
        let active = self.disk.open(&path, OpenMode::Read)?;
        let sealed = self.disk.open(&last.name().path(self.dir), OpenMode::Read)?;
        if active.is_empty()? || !same_bytes(&active, &sealed)? {
            return Ok(false);
        }
        drop(active);
        if !self.options.read_only {
            self.disk.remove_file(&path)?;
            self.disk.sync_dir(self.dir)?;
        }
        self.notes.push(format!("{ACTIVE} was another name of {}", last.name().relative()));
        Ok(true)
    }

    /// Opens the active segment, which follows `before`.
    fn active(
        &mut self,
        before: Head,
        sealed: &[Sealed],
    ) -> Result<(Active, MerkleTree, Option<Damage>)> {
        let path = self.dir.join(ACTIVE);
        let forgotten = self.forget_old_name(sealed.last())?;
        let first = before.seq.next();
        let empty = Active { first, file: None, len: 0, head: before, tally: Tally::default() };
        if forgotten || !self.disk.exists(&path)? {
            if self.options.read_only {
                return Ok((empty, MerkleTree::default(), None));
            }
            let file = self.disk.open(&path, OpenMode::CreateNew)?;
            self.disk.sync_dir(self.dir)?;
            return Ok((Active { file: Some(file), ..empty }, MerkleTree::default(), None));
        }
        let mode = if self.options.read_only { OpenMode::Read } else { OpenMode::ReadWrite };
        let file = self.disk.open(&path, mode)?;
        let end = file.len()?;
        let mut scanner = LineScanner::new(Arc::clone(&file), 0, end);
        let mut walked = walk_sound(&mut scanner, before, |_, _| {})?;
        let active = |walked: &Walked| Active {
            first,
            file: Some(Arc::clone(&file)),
            len: walked.len,
            head: walked.head,
            tally: walked.tally,
        };
        let rest = walked.fault.as_ref().map(|_| look_at_rest(&mut scanner)).transpose()?;
        if let (Some(rest), Some((offset, fault))) = (&rest, &walked.fault)
            && (walked.unchained || rest.later_commit)
        {
            self.notes.push(format!(
                "{ACTIVE} is damaged at byte {offset}: {fault}; reads go on, writes are refused \
                 until recover"
            ));
            // The head of the line before may be what was changed: it is not given either.
            let contradicted = u64::from(walked.unchained && walked.tally.lines > 0);
            let damage = Damage {
                file: ACTIVE.to_owned(),
                offset: *offset,
                last_sound: Seq(walked.head.seq.0.saturating_sub(contradicted)),
                expected: fault.expected.clone(),
                found: fault.found.clone(),
            };
            let mut active = active(&walked);
            active.len = end;
            if let Some(last) = rest.last.filter(|last| last.seq > active.head.seq) {
                active.head = last;
            }
            return Ok((active, walked.tree, Some(damage)));
        }
        let unfinished = walked.drop_unfinished();
        if !self.options.read_only {
            write_again(&file, walked.last_commit, walked.len)?;
        }
        if walked.len < end {
            let readable = unfinished || rest.is_some_and(|rest| rest.last.is_some());
            self.cut(&file, &walked, end, readable)?;
        }
        if !self.options.read_only && end > 0 {
            file.sync()?;
        }
        Ok((active(&walked), walked.tree, None))
    }

    /// Cuts off what follows the sound lines of the active segment, or only says so. What is
    /// `readable` in it goes to a file of its own first: damage of the last commit looks the same.
    fn cut(
        &mut self,
        file: &Arc<dyn File>,
        walked: &Walked,
        end: u64,
        readable: bool,
    ) -> Result<()> {
        let cut = end.saturating_sub(walked.len);
        let kept = match walked.head.seq {
            Seq(0) => "the beginning".to_owned(),
            seq => format!("record {seq}"),
        };
        let why = match &walked.fault {
            Some((_, fault)) => format!("which are not a whole record ({fault})"),
            None => "the beginning of an operation that was not finished".to_owned(),
        };
        if self.options.read_only {
            self.notes.push(format!("{ACTIVE}: {cut} bytes after {kept} are ignored, {why}"));
            return Ok(());
        }
        let mut copied = String::new();
        if readable {
            let first = walked.head.seq.0.saturating_sub(walked.tally.lines).saturating_add(1);
            let prefix = format!("{SEALED_DIR}/{first:020}.cut-");
            let copy = unused_name(self.disk.as_ref(), self.dir, &prefix)?;
            copy_out(self.disk.as_ref(), file, walked.len..end, &self.dir.join(&copy))?;
            copied = format!("; they are kept in {copy}");
        }
        file.set_len(walked.len)?;
        self.notes.push(format!("{ACTIVE}: cut {cut} bytes after {kept}, {why}{copied}"));
        Ok(())
    }
}

/// Begins the name of a set-aside checkpoint file in the folder of sealed segments.
pub(crate) const DAMAGED_CHECKPOINTS: &str = "checkpoints.damaged-";
