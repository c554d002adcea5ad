//! Writing a segment.
//!
//! Bodies are collected and sorted by item before they are cut into blocks, so that versions of
//! one item lie together and the later ones cost little. Nothing is visible before
//! [`BlockWriter::finish`] returns; a writer that fails or is dropped removes its file.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use llm_memory_disk::{File, OpenMode};

use super::block::{self, Encoder, End, Kind, MAX_CONTENT_BYTES};
use super::container::{self, Container, FILE_HEADER_BYTES};
use super::error::{BlockError, Damage, Result};
use super::index::{self, Entry, Place};
use super::names::Name;
use super::segment::{self, Segment};
use super::store::Shared;
use crate::ids::{Digest, ItemId};

/// Content after which a block is closed.
///
/// Measured on 12,000 passages (25 MB) of READMEs, changelogs and sources of Rust crates, as
/// canonical JSON, zstd level 9 with long-distance matching, in percent of the bodies:
///
/// | content of a block | 64 KiB | 256 KiB | 1 MiB |
/// |---|---|---|---|
/// | distinct passages | 20.6 | 18.4 | 16.2 |
/// | ... with a trained dictionary of 112 KiB, its own size included | 18.7 | 17.5 | 15.9 |
/// | five versions of each, versions together | 7.6 | 6.3 | 5.1 |
/// | five versions of each, in the order of writing | 22.4 | 20.6 | 18.9 |
/// | time to decode one block | 0.06 ms | 0.19 ms | 0.73 ms |
///
/// Hence 256 KiB, since one body costs its whole block to read (later: about 16 frames of a
/// video); level 9, since 12 gains a hundredth at two thirds of the speed and 19 writes 2 MB a
/// second; versions together, which is what matters most; and no dictionary, since its
/// twentieth does not outweigh that damage to it would cost every block of the segment.
const BLOCK_CONTENT_BYTES: usize = 256 << 10;

/// Bodies collected before they are sorted by item and cut into blocks.
const COLLECT_BYTES: usize = 16 << 20;

/// Writes one segment.
pub(crate) struct BlockWriter {
    shared: Arc<Shared>,
    file: SegmentFile,
    /// Everything taken so far, so that nothing is taken twice.
    taken: HashSet<Digest>,
    collected: Vec<Collected>,
    collected_bytes: usize,
}

struct Collected {
    item: ItemId,
    digest: Digest,
    body: Vec<u8>,
}

impl BlockWriter {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self> {
        let file = SegmentFile::create(&shared)?;
        Ok(Self { shared, file, taken: HashSet::new(), collected: Vec::new(), collected_bytes: 0 })
    }

    /// Adds a body of `item`, of which `digest` is the hash, unless this writer has it already.
    /// Whether the store has it is for the caller to ask.
    ///
    /// # Errors
    ///
    /// The disk's; a body whose hash is another is [`BlockError::Corrupt`]. After an error the
    /// writer can only be dropped.
    pub(crate) fn add(&mut self, item: &ItemId, digest: Digest, body: &[u8]) -> Result<()> {
        if self.taken.contains(&digest) {
            return Ok(());
        }
        check_body(digest, body)?;
        self.taken.insert(digest);
        self.collected.push(Collected { item: item.clone(), digest, body: body.to_vec() });
        self.collected_bytes += body.len();
        if self.collected_bytes >= COLLECT_BYTES {
            self.write_collected()?;
        }
        Ok(())
    }

    /// Bytes written or waiting to be; to be asked when to begin another segment.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.offset + self.collected_bytes as u64
    }

    /// Makes the segment durable and readable. There is none when nothing was added.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.write_collected()?;
        if let Some(segment) = self.file.finish()? {
            self.shared.publish(segment);
        }
        Ok(())
    }

    fn write_collected(&mut self) -> Result<()> {
        // Stable: versions of one item stay in the order in which they were written.
        self.collected.sort_by(|a, b| a.item.cmp(&b.item));
        for Collected { digest, body, .. } in std::mem::take(&mut self.collected) {
            self.file.append(digest, body)?;
        }
        self.collected_bytes = 0;
        Ok(())
    }
}

fn check_body(digest: Digest, body: &[u8]) -> Result<()> {
    if block::packed_len(1, body.len()) > MAX_CONTENT_BYTES {
        return Err(BlockError::TooLong { len: body.len(), most: MAX_CONTENT_BYTES });
    }
    let found = Digest::of(body);
    if found == digest {
        Ok(())
    } else {
        Err(BlockError::Corrupt {
            file: format!("body {digest}"),
            reason: format!("hashes to {found}; not stored"),
        })
    }
}

/// The file of a segment that is being written; removed when dropped before it is finished.
pub(super) struct SegmentFile {
    unfinished: Unfinished,
    file: Arc<dyn File>,
    encoder: Encoder,
    offset: u64,
    places: Vec<Place>,
    /// In the order of writing.
    entries: Vec<Entry>,
    /// Bodies of the block to come.
    waiting: Vec<(Digest, Vec<u8>)>,
    waiting_bytes: usize,
}

impl SegmentFile {
    pub(super) fn create(shared: &Arc<Shared>) -> Result<Self> {
        shared.disk.create_dir_all(&shared.dir)?;
        let encoder = Encoder::new()?;
        let unfinished = Unfinished { shared: Arc::clone(shared), number: shared.begin_segment() };
        let path = shared.path(Name::Partial(unfinished.number));
        let file = shared.disk.open(&path, OpenMode::CreateNew)?;
        file.write_all_at(0, &container::file_header())?;
        Ok(Self {
            unfinished,
            file,
            encoder,
            offset: FILE_HEADER_BYTES as u64,
            places: Vec::new(),
            entries: Vec::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
        })
    }

    /// Appends a body to the block to come.
    pub(super) fn append(&mut self, digest: Digest, body: Vec<u8>) -> Result<()> {
        let full = self.waiting_bytes + body.len() > BLOCK_CONTENT_BYTES;
        if full && !self.waiting.is_empty() {
            self.write_block()?;
        }
        self.waiting_bytes += body.len();
        self.waiting.push((digest, body));
        Ok(())
    }

    /// Makes the file a segment: writes the rest, syncs, reads everything back, keeps the index
    /// and renames. Without any body there is no segment.
    pub(super) fn finish(mut self) -> Result<Option<Segment>> {
        if !self.waiting.is_empty() {
            self.write_block()?;
        }
        if self.entries.is_empty() {
            return Ok(None);
        }
        let end = End { blocks: self.next_number()?, bodies: self.entries.len() as u64 };
        let block = self.encoder.encode(Kind::End, end.blocks, &end.encode())?;
        self.file.write_all_at(self.offset, &block)?;
        self.file.sync()?;
        let written = Container::of(Arc::clone(&self.file))?;
        self.read_back(&written, end)
            .and_then(|found| found.map_err(|damage| damage.in_file(self.partial().to_string())))?;
        self.keep_index(written.len())?;
        // From here on the segment exists.
        let Unfinished { shared, number, .. } = &self.unfinished;
        let named = shared
            .disk
            .durable_rename(&shared.path(self.partial()), &shared.path(Name::Container(*number)));
        let opened =
            named.map_err(BlockError::from).and_then(|()| open_as_written(shared, *number));
        // It may have its name all the same, and hold what nobody would look for there.
        opened.map(Some).inspect_err(|_| shared.abandon(*number))
    }

    fn partial(&self) -> Name {
        Name::Partial(self.unfinished.number)
    }

    fn next_number(&self) -> Result<u32> {
        u32::try_from(self.places.len()).map_err(|_| {
            BlockError::Compress(io::Error::other(
                "a segment cannot have more than 4,294,967,295 blocks",
            ))
        })
    }

    fn write_block(&mut self) -> Result<()> {
        let number = self.next_number()?;
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let bodies: Vec<&[u8]> = waiting.iter().map(|(_, body)| body.as_slice()).collect();
        let content = block::pack(&bodies)?;
        let block = self.encoder.encode(Kind::Bodies, number, &content)?;
        self.file.write_all_at(self.offset, &block)?;
        let too_long = || BlockError::TooLong { len: content.len(), most: MAX_CONTENT_BYTES };
        let u32_of = |value: usize| u32::try_from(value).map_err(|_| too_long());
        self.places.push(Place {
            offset: self.offset,
            len: u32_of(block.len())?,
            content_len: u32_of(content.len())?,
        });
        self.offset += block.len() as u64;
        let mut offset = block::packed_len(bodies.len(), 0);
        for (digest, body) in &waiting {
            let (at, len) = (u32_of(offset)?, u32_of(body.len())?);
            self.entries.push(Entry { digest: *digest, block: number, offset: at, len });
            offset += body.len();
        }
        Ok(())
    }

    /// Reads the whole file again and compares every body with its hash and every place with
    /// where it was written.
    fn read_back(&self, written: &Container, end: End) -> Result<Result<(), Damage>> {
        if let Err(damage) = written.check_header()? {
            return Ok(Err(damage));
        }
        let mut expected = self.entries.iter();
        let mut places = self.places.iter();
        let mut ended = false;
        let mut scan = written.scan();
        while let Some(scanned) = scan.next()? {
            let compared = scanned.and_then(|found| {
                if found.header.kind == Kind::End {
                    ended = End::decode(&found.content)? == end;
                    return Ok(());
                }
                let bodies = segment::entries_of(found.header.number, &found.content)?;
                let same = places.next() == Some(&found.place)
                    && bodies.iter().all(|body| expected.next() == Some(body));
                if same { Ok(()) } else { Err(mismatch()) }
            });
            if let Err(damage) = compared {
                return Ok(Err(damage));
            }
        }
        let complete = ended && places.next().is_none() && expected.next().is_none();
        Ok(if complete { Ok(()) } else { Err(mismatch()) })
    }

    fn keep_index(&mut self, container_len: u64) -> Result<()> {
        let Unfinished { shared, number, .. } = &self.unfinished;
        let bytes = index::encode(*number, container_len, &self.places, &mut self.entries);
        shared.disk.durable_write(&shared.path(Name::Index(*number)), &bytes)?;
        Ok(())
    }
}

fn open_as_written(shared: &Shared, number: u64) -> Result<Segment> {
    let mut notes = Vec::new();
    let segment = Segment::open(shared.disk.as_ref(), &shared.dir, number, false, &mut notes)?;
    match notes.pop() {
        None => Ok(segment),
        Some(reason) => Err(BlockError::Corrupt {
            file: Name::Container(number).to_string(),
            reason: format!("not as it was written: {reason}"),
        }),
    }
}

fn mismatch() -> Damage {
    Damage("reads back otherwise than it was written".to_owned())
}

/// The number of a segment that is being written, and its files as long as it is not finished.
struct Unfinished {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Best effort: what stays is recognised by its name. After the rename there is nothing
        // left to remove but an index, and that only if the container is not there.
        let Self { shared, number } = self;
        let removed = shared.disk.remove_file(&shared.path(Name::Partial(*number))).is_ok();
        if removed {
            let _ = shared.disk.remove_file(&shared.path(Name::Index(*number)));
        }
        shared.end_segment(*number);
    }
}
