//! A folder of segments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use llm_memory_disk::{Disk, is_temporary_name};
use parking_lot::Mutex;

use super::cache::{FolderCache, FrameCache};
use super::error::{BlockError, Result};
use super::names::Name;
use super::segment::{Segment, SharedSegment};
use super::writer::BlockWriter;
use crate::ids::Digest;

/// Decoded blocks that a reader past the cache holds.
const AFRESH_BYTES: u64 = 16 << 20;

/// An open folder of segments. Shared between threads; reading never waits for writing.
#[derive(Debug)]
pub(crate) struct BlockStore {
    pub(super) shared: Arc<Shared>,
}

/// A file that is not part of any segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// Name in the folder of blocks.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) len: u64,
}

/// What the store and its writers share.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    /// By number.
    segments: ArcSwap<Vec<SharedSegment>>,
    cache: FolderCache,
    numbers: Mutex<Numbers>,
    /// Held while segments are replaced by others, so that nobody replaces them twice.
    pub(super) rewriting: Mutex<()>,
    /// Segments that were replaced and whose files are to be removed, by number.
    pub(super) stale: Mutex<BTreeMap<u64, Stale>>,
    /// Segments whose container could not be opened, and why.
    pub(super) unopened: Vec<(u64, String)>,
}

/// A segment that was replaced, or that nobody reads because it was not finished.
#[derive(Debug)]
pub(super) struct Stale {
    /// `None` for one that was not finished.
    pub(super) segment: Option<SharedSegment>,
    /// Bodies of which it is told that they are gone once its files are.
    pub(super) left_out: Vec<Digest>,
}

#[derive(Debug, Default)]
struct Numbers {
    next: u64,
    /// Segments being written now.
    busy: BTreeSet<u64>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("dir", &self.dir)
            .field("segments", &self.segments.load().len())
            .finish_non_exhaustive()
    }
}

impl BlockStore {
    /// Opens the folder `dir`, which need not exist yet; decoded blocks go to `cache`. Changes
    /// nothing if `read_only`.
    /// Returns what was noticed: damage, indexes that were derived again, leftovers of a crash.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        cache: &Arc<FrameCache>,
        read_only: bool,
    ) -> Result<(Self, Vec<String>)> {
        let mut notes = Vec::new();
        let (mut segments, mut unopened) = (Vec::new(), Vec::new());
        let mut next = 1;
        for name in names(disk.as_ref(), dir)? {
            next = next.max(name.number().saturating_add(1));
            let Name::Container(number) = name else { continue };
            match Segment::open(disk.as_ref(), dir, number, read_only, &mut notes) {
                Ok(segment) => segments.push(Arc::new(segment)),
                Err(error) => {
                    let reason = format!("{name} cannot be opened: {error}");
                    notes.push(reason.clone());
                    unopened.push((number, reason));
                }
            }
        }
        segments.sort_unstable_by_key(|segment| segment.number);
        let store = Self {
            shared: Arc::new(Shared {
                disk,
                dir: dir.to_path_buf(),
                segments: ArcSwap::from_pointee(segments),
                cache: FolderCache::new(Arc::clone(cache)),
                numbers: Mutex::new(Numbers { next, busy: BTreeSet::new() }),
                rewriting: Mutex::new(()),
                stale: Mutex::default(),
                unopened,
            }),
        };
        for Leftover { name, len } in store.leftovers()? {
            notes.push(format!(
                "{name}: {len} bytes of an interrupted write, not used; maintenance.cleanup removes them"
            ));
        }
        Ok((store, notes))
    }

    /// Begins a segment. Several may be written at the same time.
    pub(crate) fn writer(&self) -> Result<BlockWriter> {
        BlockWriter::new(Arc::clone(&self.shared))
    }

    /// The body with hash `digest`; `None` when no segment has it. What is returned has been
    /// hashed.
    pub(crate) fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.shared.read(digest, &self.shared.cache)
    }

    /// Reads bodies from disk, past the cache that readers share, and leaves that as it is.
    pub(crate) fn afresh(&self) -> Afresh<'_> {
        let cache = FolderCache::new(Arc::new(FrameCache::new(AFRESH_BYTES)));
        Afresh { shared: &self.shared, cache }
    }

    /// Whether the body with hash `digest` can be read from disk now, past the cache: to be asked
    /// before another copy goes.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.shared.segments().iter().rev().any(|segment| {
            let Ok(Some(entry)) = segment.find(digest) else { return false };
            segment.content(entry.block).is_ok_and(|content| segment.body(&entry, &content).is_ok())
        })
    }

    /// Whether the index of a segment knows the body with hash `digest`.
    #[cfg(test)]
    pub(crate) fn contains(&self, digest: &Digest) -> Result<bool> {
        self.shared.contains(digest)
    }

    /// The hashes of all bodies; one that two segments have comes twice.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> + use<> {
        let segments = self.shared.segments();
        (0..segments.len()).flat_map(move |position| {
            let segment = segments.get(position).cloned();
            let bodies = segment.as_ref().map_or(0, |segment| segment.index.bodies());
            (0..bodies).filter_map(move |body| Some(segment.as_ref()?.index.entry(body)?.digest))
        })
    }

    /// Bytes of all segments on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.segments().iter().map(|segment| segment.bytes()).sum()
    }

    /// Bytes of all bodies before compression; one that two segments have counts twice.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.shared.segments().iter().map(|segment| segment.index.body_bytes()).sum()
    }

    /// Number of segments.
    pub(crate) fn segments(&self) -> usize {
        self.shared.segments().len()
    }

    /// Files that an interrupted write or removal left behind, by name.
    pub(crate) fn leftovers(&self) -> Result<Vec<Leftover>> {
        let Shared { disk, dir, numbers, stale, .. } = &*self.shared;
        if !disk.exists(dir)? {
            return Ok(Vec::new());
        }
        // Under the lock, so that a segment that is just being finished is either busy or whole.
        let numbers = numbers.lock();
        let stale = stale.lock();
        let entries = disk.list(dir)?;
        let whole: BTreeSet<u64> = entries
            .iter()
            .filter_map(|entry| match Name::parse(&entry.name) {
                Some(Name::Container(number)) => Some(number),
                _ => None,
            })
            .collect();
        let unused = |name: &str| match Name::parse(name) {
            Some(Name::Partial(number)) => !numbers.busy.contains(&number),
            Some(Name::Index(number)) => {
                let whole = whole.contains(&number) || numbers.busy.contains(&number);
                !whole || stale.contains_key(&number)
            }
            Some(Name::Container(number)) => stale.contains_key(&number),
            None => is_temporary_name(name) && numbers.busy.is_empty(),
        };
        Ok(entries
            .into_iter()
            .filter(|entry| !entry.is_dir && unused(&entry.name))
            .map(|entry| Leftover { name: entry.name, len: entry.len })
            .collect())
    }

    /// Removes the leftovers and returns them.
    pub(crate) fn remove_leftovers(&self) -> Result<Vec<Leftover>> {
        let leftovers = self.leftovers()?;
        for Leftover { name, .. } in &leftovers {
            match self.shared.disk.remove_file(&self.shared.dir.join(name)) {
                Err(error) if error.is_not_found() => {}
                result => result?,
            }
        }
        if !leftovers.is_empty() {
            self.shared.disk.sync_dir(&self.shared.dir)?;
        }
        Ok(leftovers)
    }
}

impl Shared {
    pub(super) fn path(&self, name: Name) -> PathBuf {
        self.dir.join(name.to_string())
    }

    pub(super) fn segments(&self) -> Arc<Vec<SharedSegment>> {
        self.segments.load_full()
    }

    pub(super) fn contains(&self, digest: &Digest) -> Result<bool> {
        for segment in self.segments().iter().rev() {
            if segment.find(digest)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Why bodies may be there that no index knows.
    fn unasked(&self) -> Option<BlockError> {
        let segments = self.segments();
        let unread = segments.iter().find(|segment| segment.unread);
        let unread = unread.map(|segment| {
            (segment.number, "could not be read whole when it was opened".to_owned())
        });
        let (number, reason) = unread.or_else(|| self.unopened.first().cloned())?;
        let file = Name::Container(number).to_string();
        Some(BlockError::Corrupt { file, reason })
    }

    /// A number for a new segment, busy until [`Shared::end_segment`].
    pub(super) fn begin_segment(&self) -> u64 {
        let mut numbers = self.numbers.lock();
        let number = numbers.next;
        numbers.next = number.saturating_add(1);
        numbers.busy.insert(number);
        number
    }

    pub(super) fn end_segment(&self, number: u64) {
        self.numbers.lock().busy.remove(&number);
    }

    /// Makes a finished segment readable.
    pub(super) fn publish(&self, segment: Segment) {
        self.replace(&[], Some(segment));
    }

    /// Makes `new` readable and the segments `old` not, in one step.
    pub(super) fn replace(&self, old: &[u64], new: Option<Segment>) {
        let new = new.map(Arc::new);
        self.segments.rcu(|segments| {
            let kept = segments.iter().filter(|segment| !old.contains(&segment.number)).cloned();
            let mut segments: Vec<_> = kept.chain(new.clone()).collect();
            segments.sort_unstable_by_key(|segment| segment.number);
            segments
        });
        if !old.is_empty() {
            self.cache.forget(|segment| old.contains(&segment));
        }
    }

    fn read(&self, digest: &Digest, cache: &FolderCache) -> Result<Option<Vec<u8>>> {
        let mut failure = None;
        // The newest first: a body that two segments have was rewritten there.
        for segment in self.segments().iter().rev() {
            match read_from(segment, digest, cache) {
                Ok(None) => {}
                Ok(Some(body)) => return Ok(Some(body)),
                Err(error) => failure = Some(error),
            }
        }
        // It may be there: that nobody has it can only be said when all could be asked.
        failure.or_else(|| self.unasked()).map_or(Ok(None), Err)
    }
}

/// Reads a store's bodies as they are on disk now. A block is decoded once for many of its bodies,
/// as far as a small cache of its own goes.
#[derive(Debug)]
pub(crate) struct Afresh<'a> {
    shared: &'a Shared,
    cache: FolderCache,
}

impl Afresh<'_> {
    /// [`BlockStore::read`], from disk.
    pub(crate) fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.shared.read(digest, &self.cache)
    }
}

fn read_from(segment: &Segment, digest: &Digest, cache: &FolderCache) -> Result<Option<Vec<u8>>> {
    let Some(entry) = segment.find(digest)? else { return Ok(None) };
    let content =
        cache.get_or_decode(segment.number, entry.block, || segment.content(entry.block))?;
    segment.body(&entry, &content).map(|body| Some(body.to_vec()))
}

/// What the files in the folder are, by name; those that are not ours are left out.
fn names(disk: &dyn Disk, dir: &Path) -> Result<Vec<Name>> {
    if !disk.exists(dir)? {
        return Ok(Vec::new());
    }
    let entries = disk.list(dir)?;
    Ok(entries
        .iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| Name::parse(&entry.name))
        .collect())
}
