//! One segment: a container and its index.

use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::{Disk, OpenMode};

use super::block::{self, HEADER_BYTES, Kind};
use super::container::{Container, FILE_HEADER_BYTES, Scan};
use super::error::{Damage, Result};
use super::index::{self, Entry, Index, Place};
use super::names::Name;
use crate::ids::Digest;

/// An open segment; it does not change any more.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) container: Container,
    pub(super) index: Index,
    /// Whether the index had to be derived and the disk did not give all blocks: there may be more
    /// bodies than it knows.
    pub(super) unread: bool,
}

impl Segment {
    /// Opens segment `number`. An index that is missing, damaged or cannot be read is derived
    /// again from the blocks, and kept unless `read_only`; what was done is added to `notes`.
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        read_only: bool,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let name = Name::Container(number);
        let container = Container::open(disk, &dir.join(name.to_string()))?;
        match container.check_header() {
            Ok(Ok(())) => {}
            Ok(Err(damage)) => notes.push(format!("{name}: {}", damage.0)),
            Err(error) => notes.push(format!("{name}: {error}")),
        }
        let index = open_index(disk, dir, number);
        let (index, unread) = match index.unwrap_or_else(|error| Err(Damage(error.to_string()))) {
            Ok(index) => (index, false),
            Err(damage) => {
                notes.push(format!("{}: {}; derived again", Name::Index(number), damage.0));
                derive_index(disk, dir, number, &container, read_only, notes)?
            }
        };
        if index.container_len() != container.len() {
            notes.push(format!(
                "{name}: {} bytes, its index says {}",
                container.len(),
                index.container_len()
            ));
        }
        Ok(Self { number, container, index, unread })
    }

    /// Where the body with hash `digest` lies, if here.
    pub(super) fn find(&self, digest: &Digest) -> Result<Option<Entry>> {
        self.index
            .find(digest)
            .map_err(|damage| damage.in_file(Name::Index(self.number).to_string()))
    }

    /// The decoded content of a block.
    pub(super) fn content(&self, number: u32) -> Result<Vec<u8>> {
        let decoded = match self.index.place(number) {
            Ok(place) => match self.container.read(place)? {
                Ok(bytes) => block::decode(&bytes),
                Err(damage) => Err(damage),
            },
            Err(damage) => Err(damage),
        };
        decoded
            .and_then(|(header, content)| {
                if header.kind == Kind::Bodies && header.number == number {
                    Ok(content)
                } else {
                    Err(Damage(format!("found block {} ({:?})", header.number, header.kind)))
                }
            })
            .map_err(|damage| damage.in_file(self.block_name(number)))
    }

    /// The body of `entry` in the `content` of its block, compared with its hash.
    pub(super) fn body<'a>(&self, entry: &Entry, content: &'a [u8]) -> Result<&'a [u8]> {
        let start = entry.offset as usize;
        content
            .get(start..start.saturating_add(entry.len as usize))
            .ok_or_else(|| Damage(format!("body {} is beyond the end", entry.digest)))
            .and_then(|body| {
                let found = Digest::of(body);
                if found == entry.digest {
                    Ok(body)
                } else {
                    Err(Damage(format!("body hashes to {found}, expected {}", entry.digest)))
                }
            })
            .map_err(|damage| damage.in_file(self.block_name(entry.block)))
    }

    /// Checks that the index knows all blocks and bodies that the end of the container counts.
    pub(super) fn check_whole(&self) -> Result<()> {
        let name = || Name::Container(self.number).to_string();
        let end = self.index.blocks_end().unwrap_or(FILE_HEADER_BYTES as u64);
        let end = self.container.end_at(end)?.map_err(|damage| damage.in_file(name()))?;
        let known = (self.index.blocks() as u64, self.index.bodies() as u64);
        if known == (u64::from(end.blocks), end.bodies) {
            return Ok(());
        }
        let (blocks, bodies) = known;
        let damage = format!(
            "only {blocks} blocks with {bodies} bodies can be read, its end counts {} with {}",
            end.blocks, end.bodies
        );
        Err(Damage(damage).in_file(name()))
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.container.len() + self.index.len()
    }

    /// How people find a block.
    fn block_name(&self, number: u32) -> String {
        format!("{} block {number}", Name::Container(self.number))
    }
}

fn open_index(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Result<Index, Damage>> {
    let path = dir.join(Name::Index(number).to_string());
    if !disk.exists(&path)? {
        return Ok(Err(Damage("is missing".to_owned())));
    }
    if let Err(damage) = index::check(disk.open(&path, OpenMode::Read)?.as_ref())? {
        return Ok(Err(damage));
    }
    Ok(Index::from_map(number, disk.map(&path)?))
}

/// Derives the index of a container from its blocks and tries to keep it.
fn derive_index(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    container: &Container,
    read_only: bool,
    notes: &mut Vec<String>,
) -> Result<(Index, bool)> {
    let mut places = Vec::new();
    let mut entries = Vec::new();
    let mut scan = container.scan();
    while let Some(found) = next_bodies(&mut scan) {
        let found = found.and_then(|(number, place, content)| {
            // Bounded by the file, so that a wrong number cannot ask for any amount of memory.
            let possible = places.len() as u64..container.len() / HEADER_BYTES as u64;
            if !possible.contains(&u64::from(number)) {
                return Err(Damage(format!("block {number} cannot be at {}", place.offset)));
            }
            Ok((number, place, entries_of(number, &content)?))
        });
        match found {
            Ok((number, place, found)) => {
                // Blocks that were lost to damage leave a gap that nothing points to.
                places.resize(number as usize, Place { offset: 0, len: 0, content_len: 0 });
                places.push(place);
                entries.extend(found);
            }
            Err(damage) => notes.push(format!("{}: {}", Name::Container(number), damage.0)),
        }
    }
    let bytes = index::encode(number, container.len(), &places, &mut entries);
    let name = Name::Index(number);
    let path = dir.join(name.to_string());
    // The next time more of it may be readable.
    let index = if read_only || scan.unread {
        Index::from_bytes(number, bytes)
    } else {
        match disk.durable_write(&path, &bytes).and_then(|()| disk.map(&path)) {
            Ok(map) => Index::from_map(number, map),
            Err(error) => {
                notes.push(format!("{name}: kept in memory only: {error}"));
                Index::from_bytes(number, bytes)
            }
        }
    };
    let index = index.map_err(|damage| damage.in_file(name.to_string()))?;
    Ok((index, scan.unread))
}

/// Number, place and content of the next block of bodies.
type Bodies = (u32, Place, Vec<u8>);

fn next_bodies(scan: &mut Scan<'_>) -> Option<Result<Bodies, Damage>> {
    loop {
        match scan.next() {
            Ok(None) => return None,
            Ok(Some(Err(damage))) => return Some(Err(damage)),
            // What cannot be read costs its block, as damage does.
            Err(error) => return Some(Err(Damage(error.to_string()))),
            Ok(Some(Ok(found))) if found.header.kind == Kind::Bodies => {
                return Some(Ok((found.header.number, found.place, found.content)));
            }
            Ok(Some(Ok(_))) => {}
        }
    }
}

/// The entries of the bodies in a block's content, in the order in which they lie there.
pub(super) fn entries_of(number: u32, content: &[u8]) -> Result<Vec<Entry>, Damage> {
    let ranges = block::unpack(content)?;
    let too_long = |_| Damage("content is too long".to_owned());
    let mut entries = Vec::with_capacity(ranges.len());
    for range in ranges {
        let offset = u32::try_from(range.start).map_err(too_long)?;
        let len = u32::try_from(range.len()).map_err(too_long)?;
        let digest = Digest::of(content.get(range).unwrap_or_default());
        entries.push(Entry { digest, block: number, offset, len });
    }
    Ok(entries)
}

/// The segment as others share it.
pub(super) type SharedSegment = Arc<Segment>;
