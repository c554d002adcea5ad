//! A container of blocks that is a file. Knows where blocks lie, not what is in them; another
//! container (a video) would answer the same calls.

use std::sync::Arc;

use llm_memory_disk::{Disk, File, OpenMode};
use std::path::Path;

use super::block::{self, End, HEADER_BYTES, Header, Kind};
use super::error::{Damage, Result};
use super::index::Place;

/// Bytes of a container before its first block.
pub(super) const FILE_HEADER_BYTES: usize = 16;

const MAGIC: [u8; 8] = *b"LMBLOCKS";
const FORMAT: u32 = 1;

/// How much is read at a time when looking for the next block after damage.
const SEARCH_BYTES: usize = 64 << 10;

/// An open container.
#[derive(Debug)]
pub(super) struct Container {
    file: Arc<dyn File>,
    len: u64,
}

/// Bytes that begin every container.
pub(super) fn file_header() -> Vec<u8> {
    let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    header
}

impl Container {
    /// Opens the finished container at `path`. Its head is not looked at ([`check_header`]).
    ///
    /// [`check_header`]: Self::check_header
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        Self::of(disk.open(path, OpenMode::Read)?)
    }

    /// The container in `file`.
    pub(super) fn of(file: Arc<dyn File>) -> Result<Self> {
        let len = file.len()?;
        Ok(Self { file, len })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the head is that of a container of this format.
    pub(super) fn check_header(&self) -> Result<Result<(), Damage>> {
        if self.len < FILE_HEADER_BYTES as u64 {
            return Ok(Err(Damage(format!("{} bytes are too few for a container", self.len))));
        }
        let mut found = [0; FILE_HEADER_BYTES];
        self.file.read_exact_at(0, &mut found)?;
        let expected = file_header();
        Ok(if found.as_slice() == expected {
            Ok(())
        } else {
            Err(Damage(format!("begins with {found:02x?}, expected {expected:02x?}")))
        })
    }

    /// The block at `place`.
    pub(super) fn read(&self, place: Place) -> Result<Result<Vec<u8>, Damage>> {
        let end = place.offset.checked_add(u64::from(place.len));
        if end.is_none_or(|end| end > self.len) {
            return Ok(Err(Damage(format!(
                "block of {} bytes at {} is beyond the end at {}: the file was cut off",
                place.len, place.offset, self.len
            ))));
        }
        let mut block = vec![0; place.len as usize];
        self.file.read_exact_at(place.offset, &mut block)?;
        Ok(Ok(block))
    }

    /// Walks all blocks without an index, over damaged ones as well.
    pub(super) fn scan(&self) -> Scan<'_> {
        Scan { container: self, offset: FILE_HEADER_BYTES as u64, ended: false, unread: false }
    }

    /// The place of the block at `offset`, by its head.
    fn block_at(&self, offset: u64) -> Result<Result<Place, Damage>> {
        let mut head = [0; HEADER_BYTES];
        if offset.saturating_add(HEADER_BYTES as u64) > self.len {
            let left = self.len.saturating_sub(offset);
            return Ok(Err(Damage(format!("{left} bytes are too few for a block"))));
        }
        self.file.read_exact_at(offset, &mut head)?;
        Ok(Header::decode(&head).and_then(|header| {
            let len = u32::try_from(header.block_len())
                .map_err(|_| Damage("block is too long".to_owned()))?;
            Ok(Place { offset, len, content_len: 0 })
        }))
    }

    /// What the end block at `offset` says.
    pub(super) fn end_at(&self, offset: u64) -> Result<Result<End, Damage>> {
        let read = match self.block_at(offset)? {
            Ok(place) => self.read(place)?,
            Err(damage) => Err(damage),
        };
        Ok(read.and_then(|bytes| block::decode(&bytes)).and_then(|(header, content)| {
            if header.kind == Kind::End {
                End::decode(&content)
            } else {
                Err(Damage(format!("found block {} in place of the end", header.number)))
            }
        }))
    }

    /// The next offset from `start` on at which a sound head of a block lies. What cannot be read
    /// is passed over, and `unread` set.
    fn next_block(&self, start: u64, unread: &mut bool) -> Option<u64> {
        let mut window = Vec::new();
        let mut offset = start;
        while offset.saturating_add(HEADER_BYTES as u64) <= self.len {
            let wanted = (self.len - offset).min(SEARCH_BYTES as u64);
            window.resize(usize::try_from(wanted).unwrap_or(SEARCH_BYTES), 0);
            if self.file.read_exact_at(offset, &mut window).is_ok() {
                let sound = |at: &usize| {
                    let head = window.get(*at..*at + HEADER_BYTES);
                    head.is_some_and(|head| Header::decode(head).is_ok())
                };
                let found = memchr::memmem::find_iter(&window, &block::MAGIC).find(sound);
                if let Some(position) = found {
                    return Some(offset + position as u64);
                }
            } else {
                *unread = true;
            }
            // Heads that lie across the border of two windows are seen in the second one.
            offset += (window.len() - HEADER_BYTES + 1) as u64;
        }
        None
    }
}

/// A block met by a [`Scan`].
pub(super) struct Scanned {
    pub(super) place: Place,
    pub(super) header: Header,
    pub(super) content: Vec<u8>,
}

/// Walks the blocks of a container.
pub(super) struct Scan<'a> {
    container: &'a Container,
    offset: u64,
    ended: bool,
    /// Whether the disk refused to give bytes, so that a later walk may find more.
    pub(super) unread: bool,
}

impl Scan<'_> {
    /// The next block, or what is wrong at the place where it should be; `None` after the last.
    /// Damage is passed by looking for the next sound head; after an error of the disk the walk
    /// can go on as well.
    pub(super) fn next(&mut self) -> Result<Option<Result<Scanned, Damage>>> {
        if self.offset >= self.container.len {
            return Ok(if std::mem::replace(&mut self.ended, true) {
                None
            } else {
                Some(Err(Damage("the end block is missing: the file was cut off".to_owned())))
            });
        }
        let at = self.offset;
        let damage = |damage: Damage| Damage(format!("block at {at}: {}", damage.0));
        let mut place = match self.container.block_at(at) {
            Ok(Ok(place)) => place,
            failed => {
                self.unread |= failed.is_err();
                let next = self.container.next_block(at + 1, &mut self.unread);
                self.offset = next.unwrap_or(self.container.len);
                return failed.map(|found| found.err().map(|found| Err(damage(found))));
            }
        };
        self.offset = at + u64::from(place.len);
        let read = self.container.read(place);
        self.unread |= read.is_err();
        Ok(Some(match read?.and_then(|bytes| block::decode(&bytes)) {
            Ok((header, content)) => {
                self.ended |= header.kind == Kind::End;
                place.content_len = u32::try_from(content.len()).unwrap_or(u32::MAX);
                Ok(Scanned { place, header, content })
            }
            Err(found) => Err(damage(found)),
        }))
    }
}
