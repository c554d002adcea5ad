//! Staging, committing and sealing.
//!
//! A commit is one write and one sync for everything staged. The writer distinguishes how much it
//! knows about the file (`Health`); each state other than `Ready` names the repair that the next
//! commit makes first, and every repair can be repeated after it failed half-way.

use std::path::PathBuf;
use std::sync::Arc;

use llm_memory_disk::{Disk, File, OpenMode};

use super::chain::MerkleTree;
use super::checkpoint::{self, Checkpoint};
use super::entry::{Draft, write_line};
use super::error::{JournalError, Result};
use super::reader::JournalReader;
use super::recovery::{Walked, walk_sound};
use super::scan::LineScanner;
use super::segment_name::{ACTIVE, PARTIAL, SEALED_DIR, SegmentName};
use super::shared::{Active, Sealed, Shared, Tally};
use super::{Damage, Head, JournalOptions, Location, SegmentInfo, Staged};
use crate::ids::{Digest, Seq, Timestamp};

/// Longest line. Recovery must be able to hold one in memory.
pub(crate) const MAX_LINE_BYTES: usize = 256 << 20;
/// Bytes copied at once.
const COPY_CHUNK: usize = 1 << 20;

/// How much is known about the active file.
#[derive(Debug)]
pub(crate) enum Health {
    /// It ends where the last commit ended.
    Ready,
    /// Bytes of a failed commit may follow; nothing of them was synced.
    Cut,
    /// A sync failed: what lies on the disk is not known.
    Suspect,
    /// It was renamed, but the checkpoint or the next file is missing.
    Sealing(Box<PendingSeal>),
}

/// A seal that has begun.
#[derive(Debug)]
pub(crate) struct PendingSeal {
    pub(crate) name: SegmentName,
    /// Still to be chained, signed and written; `None` once it is.
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// Lines that wait for the next commit.
#[derive(Debug, Default)]
struct Stage {
    bytes: Vec<u8>,
    heads: Vec<Digest>,
    tip: Head,
    tally: Tally,
    /// Why a draft could not be staged; fails the commit.
    refusal: Option<(Seq, String)>,
}

/// The journal of one scope, held by the one thread that writes it.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: JournalOptions,
    /// What readers see of the active segment is a copy of this.
    active: Active,
    /// Tree over the heads of the active segment.
    tree: MerkleTree,
    health: Health,
    stage: Stage,
}

impl Journal {
    pub(super) fn assemble(
        shared: Arc<Shared>,
        options: JournalOptions,
        tree: MerkleTree,
        health: Health,
    ) -> Self {
        let active = shared.view.read().active.clone();
        let (disk, dir) = (Arc::clone(&shared.disk), shared.dir.clone());
        let mut journal =
            Self { shared, disk, dir, options, active, tree, health, stage: Stage::default() };
        journal.rollback();
        journal
    }

    /// Adds a record to the next commit and says where it will be.
    ///
    /// A draft that cannot be stored (a body with a line feed, or with another hash than the
    /// draft names) fails the commit, and everything staged with it.
    pub fn stage(&mut self, draft: &Draft<'_>) -> Staged {
        if self.stage.heads.is_empty() && self.active.len >= self.options.segment_bytes {
            // Not being able to seal now is no reason to refuse the record: the segment grows,
            // or the commit below meets the same fault and reports it.
            if let Err(error) = self.seal() {
                tracing::warn!(dir = %self.dir.display(), %error, "segment not sealed yet");
            }
        }
        let seq = self.stage.tip.seq.next();
        if let Some(reason) = unstorable(draft) {
            self.stage.refusal.get_or_insert((seq, reason));
        }
        let offset = self.active.len + self.stage.bytes.len() as u64;
        let continued = !self.stage.heads.is_empty();
        let written =
            write_line(&mut self.stage.bytes, draft, seq, &self.stage.tip.hash, continued);
        self.stage.heads.push(written.head_hash);
        self.stage.tally.add(written.len as u64, draft.body.is_some(), draft.ts);
        self.stage.tip = Head { seq, hash: written.head_hash, ts: draft.ts };
        let body = draft.body.map(|body| Location {
            segment: self.active.first,
            generation: 0,
            offset: offset + written.body_offset as u64,
            len: u32::try_from(body.len()).unwrap_or(u32::MAX),
        });
        Staged { seq, head_hash: written.head_hash, body }
    }

    /// Records staged and not committed.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.stage.heads.len()
    }

    /// Makes everything staged durable, or nothing of it. After an error nothing is staged any
    /// more.
    pub fn commit(&mut self) -> Result<()> {
        let result = self.try_commit();
        // On success this only clears the buffer.
        self.rollback();
        result
    }

    fn try_commit(&mut self) -> Result<()> {
        if self.stage.heads.is_empty() {
            return Ok(());
        }
        self.writable()?;
        if let Some((seq, reason)) = self.stage.refusal.take() {
            return Err(JournalError::Unstorable { seq, reason });
        }
        self.make_ready()?;
        let file = self.active_file()?;
        if let Err(error) = file.write_all_at(self.active.len, &self.stage.bytes) {
            self.health = Health::Cut;
            // At once, so that a crash does not bring back what is reported as failed. If it
            // fails too, the next commit tries again.
            if let Err(again) = self.make_ready() {
                tracing::warn!(dir = %self.dir.display(), error = %again, "failed write not cut yet");
            }
            return Err(error.into());
        }
        if let Err(error) = file.sync() {
            self.health = Health::Suspect;
            // At once as well: whoever opens the file after this process has ended sees bytes
            // that look synced and are not.
            if let Err(again) = self.make_ready() {
                tracing::warn!(dir = %self.dir.display(), error = %again, "no fresh file yet");
            }
            return Err(error.into());
        }
        for head in &self.stage.heads {
            self.tree.push(head);
        }
        self.active.len += self.stage.bytes.len() as u64;
        self.active.head = self.stage.tip;
        self.active.tally = merged(self.active.tally, self.stage.tally);
        self.publish();
        Ok(())
    }

    /// Forgets everything staged.
    pub fn rollback(&mut self) {
        self.stage.bytes.clear();
        // One huge batch must not keep its memory for good.
        self.stage.bytes.shrink_to(1 << 20);
        self.stage.heads.clear();
        self.stage.tip = self.active.head;
        self.stage.tally = Tally::default();
        self.stage.refusal = None;
    }

    /// The last committed record.
    #[must_use]
    pub fn head(&self) -> Head {
        self.active.head
    }

    /// Damage because of which writes are refused.
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        self.shared.view.read().damage.clone()
    }

    /// A handle for reading, for any thread. It sees committed lines only.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        JournalReader::new(Arc::clone(&self.shared))
    }

    /// Seals the active segment; `None` when it is empty. Nothing may be staged.
    pub fn seal(&mut self) -> Result<Option<SegmentInfo>> {
        self.writable()?;
        if !self.stage.heads.is_empty() {
            return Err(JournalError::Misuse(
                "commit or roll back what is staged before sealing".to_owned(),
            ));
        }
        self.make_ready()?;
        if self.active.tally.lines == 0 {
            return Ok(None);
        }
        let name = SegmentName { first: self.active.first, generation: 0 };
        let active_path = self.dir.join(ACTIVE);
        if let Err(error) = self.disk.durable_rename(&active_path, &name.path(&self.dir)) {
            if matches!(self.disk.exists(&active_path), Ok(true)) {
                return Err(error.into()); // Nothing happened; the segment goes on.
            }
            tracing::warn!(dir = %self.dir.display(), %error, "rename of the segment not durable yet");
            self.begin_next_segment(name);
            self.make_ready()?;
        } else {
            self.begin_next_segment(name);
            self.finish_seal(false)?;
        }
        let view = self.shared.view.read();
        Ok(view.segments().into_iter().find(|segment| segment.first == name.first))
    }

    /// From here on the segment counts as sealed, and records go to the next one.
    fn begin_next_segment(&mut self, name: SegmentName) {
        let Active { first, file, len, head, tally } = self.active.clone();
        let sealed = Sealed {
            first,
            last: head.seq,
            generation: 0,
            older: Vec::new(),
            bytes: len,
            head: head.hash,
            root: self.tree.root(),
            present: true,
        };
        let checkpoint = describe(&sealed, tally, head.ts);
        if let Some(file) = file {
            self.shared.keep_open(name, file);
        }
        self.active =
            Active { first: head.seq.next(), file: None, len: 0, head, tally: Tally::default() };
        {
            let mut view = self.shared.view.write();
            view.sealed.push(sealed);
            view.active = self.active.clone();
        }
        self.tree = MerkleTree::default();
        self.stage.tip = head;
        self.health = Health::Sealing(Box::new(PendingSeal { name, checkpoint: Some(checkpoint) }));
    }

    /// Does what is left of a seal: the rename made durable, the checkpoint, the next file.
    fn finish_seal(&mut self, retry: bool) -> Result<()> {
        let Health::Sealing(pending) = &mut self.health else { return Ok(()) };
        if retry {
            let sealed = pending.name.path(&self.dir);
            if self.disk.exists(&sealed)? {
                self.disk.sync_dir(&self.dir.join(SEALED_DIR))?;
                self.disk.sync_dir(&self.dir)?;
            } else {
                self.disk.durable_rename(&self.dir.join(ACTIVE), &sealed)?;
            }
        }
        if let Some(checkpoint) = &pending.checkpoint {
            let mut checkpoints = self.shared.view.read().checkpoints.clone();
            let key = self.options.signing_key.as_deref();
            checkpoints.push(checkpoint::finish(checkpoint.clone(), checkpoints.last(), key));
            checkpoint::store(self.disk.as_ref(), &self.dir, &checkpoints)?;
            self.shared.view.write().checkpoints = checkpoints;
            pending.checkpoint = None;
        }
        let path = self.dir.join(ACTIVE);
        let file = self.disk.open(&path, OpenMode::Create)?;
        if !file.is_empty()? {
            return Err(JournalError::Corrupt {
                file: ACTIVE.to_owned(),
                offset: 0,
                expected: "an empty file after sealing".to_owned(),
                found: format!("{} bytes", file.len()?),
            });
        }
        self.disk.sync_dir(&self.dir)?;
        self.active.file = Some(file);
        self.health = Health::Ready;
        self.publish();
        Ok(())
    }

    fn writable(&self) -> Result<()> {
        if self.options.read_only {
            return Err(JournalError::ReadOnly);
        }
        match &self.shared.view.read().damage {
            None => Ok(()),
            Some(damage) => Err(JournalError::Poisoned {
                reason: format!("{}; run recover", JournalError::from(damage)),
                source: None,
            }),
        }
    }

    /// Repairs whatever an earlier failure left behind.
    fn make_ready(&mut self) -> Result<()> {
        if matches!(self.health, Health::Cut) {
            let file = self.active_file()?;
            match file.set_len(self.active.len).and_then(|()| file.sync()) {
                Ok(()) => self.health = Health::Ready,
                Err(error) => {
                    tracing::warn!(dir = %self.dir.display(), %error, "failed write not cut");
                    self.health = Health::Suspect;
                }
            }
        }
        match self.health {
            Health::Ready | Health::Cut => Ok(()),
            Health::Suspect => self.move_to_fresh_file().map_err(|error| {
                refused("after a failed sync the journal needs a fresh file", error)
            }),
            Health::Sealing(_) => self
                .finish_seal(true)
                .map_err(|error| refused("a segment could not be sealed to the end", error)),
        }
    }

    /// Copies the acknowledged lines to a new file, reads them back, and puts it in place of the
    /// one whose sync failed. Positions stay as they are.
    fn move_to_fresh_file(&mut self) -> Result<()> {
        let old = self.active_file()?;
        let (file, _) = self.copy_prefix(&old, self.active.len, &[])?;
        self.active.file = Some(file);
        self.health = Health::Ready;
        self.publish();
        Ok(())
    }

    /// Puts a durable copy of the first `len` bytes of `old` and the lines `more` after them,
    /// checked line by line, in place of the active file.
    pub(super) fn copy_prefix(
        &self,
        old: &Arc<dyn File>,
        len: u64,
        more: &[u8],
    ) -> Result<(Arc<dyn File>, Walked)> {
        let partial = self.dir.join(format!("{ACTIVE}{PARTIAL}"));
        let fresh = self.disk.open(&partial, OpenMode::Create)?;
        fresh.set_len(0)?;
        let mut at = 0;
        let mut chunk = vec![0; COPY_CHUNK];
        while at < len {
            let want = usize::try_from(len - at).unwrap_or(COPY_CHUNK).min(COPY_CHUNK);
            let part = chunk.get_mut(..want).unwrap_or_default();
            old.read_exact_at(at, part)?;
            fresh.write_all_at(at, part)?;
            at += want as u64;
        }
        fresh.write_all_at(len, more)?;
        fresh.sync()?;
        drop(fresh);
        let len = len + more.len() as u64;

        let reread = self.disk.open(&partial, OpenMode::Read)?;
        let before = Head {
            seq: Seq(self.active.first.0.saturating_sub(1)),
            hash: self.shared.view.read().hash_before(self.active.first),
            ts: Timestamp::default(),
        };
        let mut scanner = LineScanner::new(Arc::clone(&reread), 0, reread.len()?);
        let walked = walk_sound(&mut scanner, before, |_, _| {})?;
        if let Some((offset, fault)) = &walked.fault {
            return Err(JournalError::Corrupt {
                file: ACTIVE.to_owned(),
                offset: *offset,
                expected: fault.expected.clone(),
                found: fault.found.clone(),
            });
        }
        if walked.len != len {
            return Err(JournalError::Corrupt {
                file: ACTIVE.to_owned(),
                offset: walked.len,
                expected: format!("{len} bytes read back"),
                found: format!("{}", walked.len),
            });
        }
        let path = self.dir.join(ACTIVE);
        self.disk.durable_rename(&partial, &path)?;
        Ok((self.disk.open(&path, OpenMode::ReadWrite)?, walked))
    }

    fn active_file(&self) -> Result<Arc<dyn File>> {
        self.active.file.clone().ok_or_else(|| JournalError::Poisoned {
            reason: "the active segment has no file".to_owned(),
            source: None,
        })
    }

    fn publish(&self) {
        self.shared.view.write().active = self.active.clone();
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn signing_key(&self) -> Option<&ed25519_dalek::SigningKey> {
        self.options.signing_key.as_deref()
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    /// Starts over from an active file that has just been put in place.
    pub(super) fn restart(&mut self, active: Active, tree: MerkleTree) {
        self.active = active;
        self.tree = tree;
        self.health = Health::Ready;
        {
            let mut view = self.shared.view.write();
            view.active = self.active.clone();
            view.damage = None;
        }
        self.rollback();
    }
}

/// A checkpoint without chain, time and signature.
pub(crate) fn describe(sealed: &Sealed, tally: Tally, last_ts: Timestamp) -> Checkpoint {
    Checkpoint {
        first_seq: sealed.first,
        last_seq: sealed.last,
        count: tally.lines,
        generation: sealed.generation,
        head: sealed.head,
        root: sealed.root,
        bytes: tally.bytes,
        bodies: tally.bodies,
        body_bytes: tally.body_bytes,
        first_ts: tally.first_ts,
        last_ts,
        prev_checkpoint: Digest::ZERO,
        ts: Timestamp::default(),
        key: None,
        signature: None,
    }
}

fn merged(before: Tally, more: Tally) -> Tally {
    Tally {
        lines: before.lines + more.lines,
        bytes: before.bytes + more.bytes,
        bodies: before.bodies + more.bodies,
        body_bytes: before.body_bytes + more.body_bytes,
        first_ts: if before.lines == 0 { more.first_ts } else { before.first_ts },
    }
}

fn refused(what: &str, error: JournalError) -> JournalError {
    if let JournalError::NoSpace(source) | JournalError::Disk(source) = error {
        let reason = format!("{what} ({source}); it is tried again with each write");
        JournalError::Poisoned { reason, source: Some(source) }
    } else {
        JournalError::Poisoned { reason: format!("{what}: {error}"), source: None }
    }
}

fn unstorable(draft: &Draft<'_>) -> Option<String> {
    let body = draft.body?;
    if body.len() > MAX_LINE_BYTES {
        return Some(format!("its body has {} bytes of at most {MAX_LINE_BYTES}", body.len()));
    }
    if memchr::memchr(b'\n', body).is_some()
        || body.first() != Some(&b'{')
        || body.last() != Some(&b'}')
    {
        return Some("its body is not a JSON object on one line".to_owned());
    }
    let found = Digest::of(body);
    (found != draft.hash)
        .then(|| format!("its body has SHA-256 {found}, the record names {}", draft.hash))
}
