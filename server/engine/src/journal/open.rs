//! Opening a journal: folder, checkpoints, active segment, in this order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::{Disk, OpenMode};

use super::chain::MerkleTree;
use super::checkpoint::{self, Checkpoint, Loaded};
use super::error::Result;
use super::recovery::{look_at_rest, walk_sound};
use super::scan::LineScanner;
use super::segment_name::{ACTIVE, CHECKPOINTS, PARTIAL, SEALED_DIR, SegmentName};
use super::shared::{Active, Sealed, Shared, Tally, View};
use super::writer::{Health, Journal, describe};
use super::{Damage, Head, JournalOptions};
use crate::ids::Seq;

pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: JournalOptions,
) -> Result<(Journal, Vec<String>)> {
    let mut notes = Vec::new();
    if !options.read_only {
        disk.create_dir_all(&dir.join(SEALED_DIR))?;
    }
    let files = list_sealed(disk.as_ref(), dir, &options, &mut notes)?;
    let loaded = checkpoint::load(disk.as_ref(), dir)?;
    let mut opening = Opening { disk, dir, options: &options, notes };
    let (sealed, head, checkpoints) = opening.sealed(&files, loaded)?;
    let (active, tree, damage) = opening.active(head)?;
    let Opening { disk, notes, .. } = opening;

    let trusted = options.signing_key.as_ref().map(|key| key.verifying_key());
    let view = View { sealed, active, checkpoints, damage };
    let shared = Arc::new(Shared::new(disk, dir.to_path_buf(), trusted, view));
    Ok((Journal::assemble(shared, options, tree, Health::Ready), notes))
}

/// Generations of each sealed segment and the length of their files.
type Files = BTreeMap<Seq, BTreeMap<u32, u64>>;

fn list_sealed(
    disk: &dyn Disk,
    dir: &Path,
    options: &JournalOptions,
    notes: &mut Vec<String>,
) -> Result<Files> {
    let mut files = Files::new();
    let folder = dir.join(SEALED_DIR);
    if !disk.exists(&folder)? {
        return Ok(files);
    }
    for entry in disk.list(&folder)? {
        if let Some(name) = SegmentName::parse(&entry.name) {
            files.entry(name.first).or_default().insert(name.generation, entry.len);
        } else if entry.name.ends_with(PARTIAL) && !options.read_only {
            // Whoever wrote it is gone, since the store's lock is ours.
            disk.remove_file(&folder.join(&entry.name))?;
            notes.push(format!("removed {SEALED_DIR}/{}, which was not complete", entry.name));
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
            let segment = match seals.get(&first) {
                Some(seal) => {
                    head = Head { seq: seal.last_seq, hash: seal.head, ts: seal.last_ts };
                    self.known(first, seal, files.get(&first))
                }
                None => {
                    let (segment, checkpoint) = self.derive(first, head, files.get(&first))?;
                    head = Head { seq: segment.last, hash: segment.head, ts: checkpoint.last_ts };
                    derived.push(checkpoint);
                    segment
                }
            };
            sealed.push(segment);
        }
        let checkpoints = self.mend_checkpoints(checkpoints, derived, damage, exists)?;
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
            if let Some(last) = look_at_rest(&mut scanner, *offset, len)?.last
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
        let checkpoint = describe(&sealed, Tally { bytes: len, ..walked.tally }, walked.head.ts);
        Ok((sealed, checkpoint))
    }

    /// Writes derived checkpoints down. A damaged file is set aside, so that verification goes on
    /// reporting it until somebody has looked at it and removed it.
    fn mend_checkpoints(
        &mut self,
        mut checkpoints: Vec<Checkpoint>,
        derived: Vec<Checkpoint>,
        damage: Option<(usize, u64, super::LineError)>,
        exists: bool,
    ) -> Result<Vec<Checkpoint>> {
        // A crash while sealing leaves exactly one segment, the last, without a checkpoint.
        let crash_only = damage.is_none()
            && derived.len() <= 1
            && derived.first().is_none_or(|last| {
                checkpoints.iter().all(|checkpoint| checkpoint.first_seq < last.first_seq)
            });
        if let Some((line, offset, fault)) = &damage {
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
        let mut n = 1;
        let aside = loop {
            let name = format!("{SEALED_DIR}/{DAMAGED_CHECKPOINTS}{n}");
            if !self.disk.exists(&self.dir.join(&name))? {
                break name;
            }
            n += 1;
        };
        let bytes = if exists { self.disk.read(&self.dir.join(CHECKPOINTS))? } else { Vec::new() };
        self.disk.durable_write(&self.dir.join(&aside), &bytes)?;
        self.notes.push(format!(
            "the checkpoint file as it was found is in {aside}; journal.verify reports it until \
             it is removed"
        ));
        Ok(())
    }

    /// Opens the active segment, which follows `before`.
    fn active(&mut self, before: Head) -> Result<(Active, MerkleTree, Option<Damage>)> {
        let path = self.dir.join(ACTIVE);
        let first = before.seq.next();
        let empty = Active { first, file: None, len: 0, head: before, tally: Tally::default() };
        if !self.disk.exists(&path)? {
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
        let walked = walk_sound(&mut scanner, before, |_, _| {})?;
        let mut active = Active {
            first,
            file: Some(Arc::clone(&file)),
            len: walked.len,
            head: walked.head,
            tally: walked.tally,
        };
        let Some((offset, fault)) = walked.fault else {
            // Lines of a process that was killed may not have been synced yet; from here on they
            // count as acknowledged.
            if !self.options.read_only && walked.len > 0 {
                file.sync()?;
            }
            return Ok((active, walked.tree, None));
        };
        let rest = look_at_rest(&mut scanner, offset, end)?;
        if walked.unchained || rest.later_commit {
            self.notes.push(format!(
                "{ACTIVE} is damaged at byte {offset}: {fault}; reads go on, writes are refused \
                 until recover"
            ));
            let damage = Damage {
                file: ACTIVE.to_owned(),
                offset,
                last_sound: walked.head.seq,
                expected: fault.expected,
                found: fault.found,
            };
            active.len = end;
            if let Some(last) = rest.last.filter(|last| last.seq > active.head.seq) {
                active.head = last;
            }
            return Ok((active, walked.tree, Some(damage)));
        }
        let kept = match walked.head.seq {
            Seq(0) => "the beginning".to_owned(),
            seq => format!("record {seq}"),
        };
        if self.options.read_only {
            self.notes.push(format!(
                "{ACTIVE}: {} bytes after {kept} are not a whole record and are ignored ({fault})",
                rest.bytes
            ));
        } else {
            file.set_len(walked.len)?;
            file.sync()?;
            self.notes.push(format!(
                "{ACTIVE}: cut {} bytes after {kept}, which are not a whole record ({fault})",
                rest.bytes
            ));
        }
        Ok((active, walked.tree, None))
    }
}

/// Begins the name of a set-aside checkpoint file in the folder of sealed segments.
pub(crate) const DAMAGED_CHECKPOINTS: &str = "checkpoints.damaged-";
