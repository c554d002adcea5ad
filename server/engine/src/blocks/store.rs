//! A folder of segments.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use llm_memory_disk::{Disk, is_temporary_name};
use parking_lot::Mutex;

use super::cache::{FolderCache, FrameCache};
use super::error::Result;
use super::names::Name;
use super::segment::{Segment, SharedSegment};
use super::writer::BlockWriter;
use crate::ids::Digest;

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
    /// Opens the folder `dir`, which need not exist yet; decoded blocks go to `cache`.
    /// Returns what was noticed: damage, indexes that were derived again, leftovers of a crash.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        cache: &Arc<FrameCache>,
    ) -> Result<(Self, Vec<String>)> {
        let mut notes = Vec::new();
        let mut segments = Vec::new();
        let mut next = 1;
        for name in names(disk.as_ref(), dir)? {
            next = next.max(name.number().saturating_add(1));
            if let Name::Container(number) = name {
                segments.push(Arc::new(Segment::open(disk.as_ref(), dir, number, &mut notes)?));
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
        let mut failure = None;
        // The newest first: a body that two segments have was rewritten there.
        for segment in self.shared.segments().iter().rev() {
            match self.shared.read_from(segment, digest) {
                Ok(None) => {}
                Ok(Some(body)) => return Ok(Some(body)),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Whether a segment has the body with hash `digest`.
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
        let Shared { disk, dir, numbers, .. } = &*self.shared;
        if !disk.exists(dir)? {
            return Ok(Vec::new());
        }
        // Under the lock, so that a segment that is just being finished is either busy or whole.
        let numbers = numbers.lock();
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
                !whole.contains(&number) && !numbers.busy.contains(&number)
            }
            Some(Name::Container(_)) => false,
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
            self.shared.disk.remove_file(&self.shared.dir.join(name))?;
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

    fn read_from(&self, segment: &Segment, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(entry) = segment.find(digest)? else { return Ok(None) };
        let content = self
            .cache
            .get_or_decode(segment.number, entry.block, || segment.content(entry.block))?;
        segment.body(&entry, &content).map(|body| Some(body.to_vec()))
    }
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
