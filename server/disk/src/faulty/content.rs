//! Bytes of one file, as seen now and as they would be found after power loss.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::random::Random;

/// The unit in which unsynced bytes reach the medium or do not.
pub(super) const SECTOR: usize = 512;

#[derive(Clone)]
pub(super) struct Content {
    /// What reads return.
    live: Vec<u8>,
    /// What survives a crash for certain.
    durable: Vec<u8>,
    /// Sectors of `live` that the next sync makes durable. A failed sync empties it, so `live`
    /// and `durable` may differ in sectors that are not listed.
    dirty: BTreeSet<usize>,
    /// Whether the next sync makes the length of `live` durable.
    dirty_len: bool,
    /// Sectors that take space: those ever written and not cut off since.
    allocated: BTreeSet<usize>,
    pub(super) mode: u32,
    pub(super) modified: SystemTime,
}

impl Content {
    pub(super) fn new(mode: u32) -> Self {
        Self {
            live: Vec::new(),
            durable: Vec::new(),
            dirty: BTreeSet::new(),
            dirty_len: false,
            allocated: BTreeSet::new(),
            mode,
            modified: SystemTime::now(),
        }
    }

    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    /// Bytes of the volume that it takes.
    pub(super) fn allocated_bytes(&self) -> u64 {
        (self.allocated.len() * SECTOR) as u64
    }

    /// How many of `len` bytes at `offset` can be written if `available` more bytes may be
    /// allocated.
    pub(super) fn writable(&self, offset: usize, len: usize, available: u64) -> usize {
        let mut left = available / SECTOR as u64;
        for sector in sectors(offset, offset + len) {
            if !self.allocated.contains(&sector) {
                if left == 0 {
                    return (sector * SECTOR).saturating_sub(offset).min(len);
                }
                left -= 1;
            }
        }
        len
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if end > self.live.len() {
            self.set_len(end);
        }
        if let Some(target) = self.live.get_mut(offset..end) {
            target.copy_from_slice(bytes);
        }
        self.dirty.extend(sectors(offset, end));
        // Bytes beyond the durable end are worth nothing without the length that shows them.
        self.dirty_len |= end > self.durable.len();
        self.allocated.extend(sectors(offset, end));
        self.modified = SystemTime::now();
    }

    pub(super) fn set_len(&mut self, len: usize) {
        let before = self.live.len();
        self.live.resize(len, 0);
        // The zeros of a grown file replace what may lie there durably from before a cut.
        self.dirty.extend(sectors(before, len));
        self.allocated.split_off(&len.div_ceil(SECTOR));
        self.dirty_len = true;
        self.modified = SystemTime::now();
    }

    pub(super) fn sync(&mut self) {
        if std::mem::take(&mut self.dirty_len) {
            self.durable.resize(self.live.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            copy_sector(&self.live, &mut self.durable, sector);
        }
    }

    /// A sync that failed: the unsynced bytes stay in view (or, with `drop_pages`, do not), and
    /// no later sync knows about them.
    pub(super) fn fail_sync(&mut self, drop_pages: bool) {
        let dirty = std::mem::take(&mut self.dirty);
        if drop_pages {
            if self.dirty_len {
                self.live.resize(self.durable.len(), 0);
            }
            for sector in dirty {
                copy_sector(&self.durable, &mut self.live, sector);
            }
        }
        self.dirty_len = false;
    }

    /// What is found after power loss: the durable bytes, and of the unsynced sectors and the
    /// unsynced length those that chance wrote out in time.
    pub(super) fn after_crash(&self, chance: Option<&mut Random>) -> Self {
        let mut found = self.durable.clone();
        if let Some(chance) = chance {
            if self.dirty_len && chance.coin() {
                found.resize(self.live.len(), 0);
            }
            for sector in &self.dirty {
                if chance.coin() {
                    copy_sector(&self.live, &mut found, *sector);
                }
            }
        }
        Self {
            allocated: sectors(0, found.len()).collect(),
            live: found.clone(),
            durable: found,
            dirty: BTreeSet::new(),
            dirty_len: false,
            mode: self.mode,
            modified: self.modified,
        }
    }
}

/// The sectors that bytes `start..end` touch.
fn sectors(start: usize, end: usize) -> std::ops::Range<usize> {
    if start < end { start / SECTOR..end.div_ceil(SECTOR) } else { 0..0 }
}

/// Copies as much of a sector as both have.
fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR;
    let end = (start + SECTOR).min(from.len()).min(to.len());
    if let (Some(source), Some(target)) = (from.get(start..end), to.get_mut(start..end)) {
        target.copy_from_slice(source);
    }
}
