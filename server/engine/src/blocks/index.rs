//! The index of a segment: where each body lies, by hash. The layout is in `FORMAT.md`.

use std::fmt;
use std::sync::Arc;

use llm_memory_disk::{File, Map};

use super::block::Fields;
use super::error::{Damage, Result};
use crate::ids::Digest;

const MAGIC: [u8; 4] = *b"LMBI";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 64;
const PLACE_BYTES: usize = 16;
const ENTRY_BYTES: usize = 44;
const CRC_BYTES: usize = 4;

/// How much is read at a time to check a whole index without keeping it in memory.
const CHECK_BYTES: usize = 1 << 20;

/// Where a block lies in its container, and how long its content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) content_len: u32,
}

/// Where a body lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    pub(super) block: u32,
    /// In the content of the block.
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl Entry {
    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Result<Self, Damage> {
        let mut fields = Fields(bytes);
        Ok(Self {
            digest: Digest(fields.bytes()?),
            block: fields.u32()?,
            offset: fields.u32()?,
            len: fields.u32()?,
        })
    }
}

/// The head of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    segment: u64,
    blocks: u64,
    bodies: u64,
    container_len: u64,
    body_bytes: u64,
}

/// An index; its checksum was right when it was opened.
pub(super) struct Index {
    bytes: Bytes,
    header: Header,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("header", &self.header).finish_non_exhaustive()
    }
}

enum Bytes {
    Mapped(Arc<dyn Map>),
    /// Derived just now and not on disk.
    Owned(Vec<u8>),
}

/// Writes an index. Sorts `entries`.
pub(super) fn encode(
    segment: u64,
    container_len: u64,
    places: &[Place],
    entries: &mut [Entry],
) -> Vec<u8> {
    entries.sort_unstable_by_key(|entry| entry.digest);
    let body_bytes: u64 = entries.iter().map(|entry| u64::from(entry.len)).sum();
    let len = HEADER_BYTES + PLACE_BYTES * places.len() + ENTRY_BYTES * entries.len() + CRC_BYTES;
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    let counts = [places.len() as u64, entries.len() as u64];
    for field in [segment, counts[0], counts[1], container_len, body_bytes, 0, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for place in places {
        out.extend_from_slice(&place.offset.to_le_bytes());
        out.extend_from_slice(&place.len.to_le_bytes());
        out.extend_from_slice(&place.content_len.to_le_bytes());
    }
    for entry in entries {
        out.extend_from_slice(&entry.digest.0);
        for field in [entry.block, entry.offset, entry.len] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

/// Reads a whole index file once and compares its checksum, without mapping it: mapped, it would
/// count as memory of this process although lookups touch few of its pages.
pub(super) fn check(file: &dyn File) -> Result<Result<(), Damage>> {
    let len = file.len()?;
    let Some(covered) = len.checked_sub(CRC_BYTES as u64) else {
        return Ok(Err(Damage(format!("{len} bytes are too few for an index"))));
    };
    let mut buffer = vec![0; CHECK_BYTES];
    let (mut offset, mut crc) = (0, 0);
    while offset < covered {
        let wanted = usize::try_from(covered - offset).map_or(CHECK_BYTES, |n| n.min(CHECK_BYTES));
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(offset, part)?;
        crc = crc32c::crc32c_append(crc, part);
        offset += wanted as u64;
    }
    let mut expected = [0; CRC_BYTES];
    file.read_exact_at(covered, &mut expected)?;
    let expected = u32::from_le_bytes(expected);
    Ok(if crc == expected {
        Ok(())
    } else {
        Err(Damage(format!("has CRC-32C {crc:08x}, expected {expected:08x}")))
    })
}

impl Index {
    /// Opens a mapped index whose checksum has been compared ([`check`]).
    pub(super) fn from_map(segment: u64, map: Arc<dyn Map>) -> Result<Self, Damage> {
        let header = read_header(segment, map.bytes())?;
        Ok(Self { bytes: Bytes::Mapped(map), header })
    }

    /// Opens what [`encode`] has just written.
    pub(super) fn from_bytes(segment: u64, bytes: Vec<u8>) -> Result<Self, Damage> {
        let header = read_header(segment, &bytes)?;
        Ok(Self { bytes: Bytes::Owned(bytes), header })
    }

    /// Bodies in the segment.
    pub(super) fn bodies(&self) -> usize {
        self.entries().len()
    }

    /// Blocks of bodies in the segment.
    pub(super) fn blocks(&self) -> usize {
        self.places().len()
    }

    /// Length that the container had.
    pub(super) fn container_len(&self) -> u64 {
        self.header.container_len
    }

    /// Length of all bodies.
    pub(super) fn body_bytes(&self) -> u64 {
        self.header.body_bytes
    }

    /// Length of the index itself.
    pub(super) fn len(&self) -> u64 {
        self.all().len() as u64
    }

    /// The checksum as it is now; [`check`] compares it on disk.
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self.bytes, Bytes::Mapped(_))
    }

    pub(super) fn find(&self, digest: &Digest) -> Result<Option<Entry>, Damage> {
        let entries = self.entries();
        let found = entries.binary_search_by(|entry| {
            entry.first_chunk::<32>().map_or(std::cmp::Ordering::Less, |hash| hash.cmp(&digest.0))
        });
        match found.ok().and_then(|position| entries.get(position)) {
            Some(entry) => Entry::decode(entry).map(Some),
            None => Ok(None),
        }
    }

    /// The entry at a position in the order of hashes.
    pub(super) fn entry(&self, position: usize) -> Option<Entry> {
        Entry::decode(self.entries().get(position)?).ok()
    }

    /// All entries, by hash.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.entries().iter().filter_map(|entry| Entry::decode(entry).ok())
    }

    pub(super) fn place(&self, block: u32) -> Result<Place, Damage> {
        let place = self
            .places()
            .get(block as usize)
            .ok_or_else(|| Damage(format!("names block {block} of {}", self.blocks())))?;
        let mut fields = Fields(place);
        Ok(Place { offset: fields.u64()?, len: fields.u32()?, content_len: fields.u32()? })
    }

    /// Where the blocks of bodies end in the container, if there are any.
    pub(super) fn blocks_end(&self) -> Option<u64> {
        let places = (0_u32..).map_while(|number| self.place(number).ok());
        places.map(|place| place.offset.saturating_add(u64::from(place.len))).max()
    }

    fn all(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map.bytes(),
            Bytes::Owned(bytes) => bytes,
        }
    }

    fn places(&self) -> &[[u8; PLACE_BYTES]] {
        let end = HEADER_BYTES + PLACE_BYTES * to_usize(self.header.blocks);
        self.all().get(HEADER_BYTES..end).unwrap_or_default().as_chunks().0
    }

    fn entries(&self) -> &[[u8; ENTRY_BYTES]] {
        let start = HEADER_BYTES + PLACE_BYTES * to_usize(self.header.blocks);
        let end = start + ENTRY_BYTES * to_usize(self.header.bodies);
        self.all().get(start..end).unwrap_or_default().as_chunks().0
    }
}

/// Reads the head and compares the length, so that everything else lies within bounds.
fn read_header(segment: u64, bytes: &[u8]) -> Result<Header, Damage> {
    let mut fields = Fields(bytes);
    let magic = fields.bytes::<4>()?;
    if magic != MAGIC {
        return Err(Damage(format!("an index begins with {MAGIC:02x?}, found {magic:02x?}")));
    }
    let format = fields.u32()?;
    if format != FORMAT {
        return Err(Damage(format!("index format {format}, this program reads {FORMAT}")));
    }
    let header = Header {
        segment: fields.u64()?,
        blocks: fields.u64()?,
        bodies: fields.u64()?,
        container_len: fields.u64()?,
        body_bytes: fields.u64()?,
    };
    if header.segment != segment {
        return Err(Damage(format!("belongs to segment {}, expected {segment}", header.segment)));
    }
    let expected = header
        .blocks
        .checked_mul(PLACE_BYTES as u64)
        .zip(header.bodies.checked_mul(ENTRY_BYTES as u64))
        .and_then(|(places, entries)| places.checked_add(entries))
        .and_then(|len| len.checked_add((HEADER_BYTES + CRC_BYTES) as u64));
    if expected != Some(bytes.len() as u64) {
        return Err(Damage(format!(
            "{} blocks and {} bodies do not fit {} bytes",
            header.blocks,
            header.bodies,
            bytes.len()
        )));
    }
    Ok(header)
}

/// Counts that [`read_header`] has compared with a length in memory.
fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_body_is_found_and_no_other(
            names in prop::collection::hash_set(any::<u32>(), 0..200),
            other in any::<u64>(),
        ) {
            let places = [Place { offset: 16, len: 100, content_len: 400 }];
            let mut entries: Vec<Entry> = names
                .iter()
                .map(|name| Entry {
                    digest: Digest::of(&name.to_le_bytes()), block: 0, offset: *name, len: 3,
                })
                .collect();
            let expected = entries.clone();
            let index = Index::from_bytes(7, encode(7, 116, &places, &mut entries)).unwrap();
            for entry in expected {
                prop_assert_eq!(index.find(&entry.digest), Ok(Some(entry)));
            }
            prop_assert_eq!(index.find(&Digest::of(&other.to_be_bytes())), Ok(None));
            prop_assert_eq!(index.bodies(), names.len());
            prop_assert_eq!(index.body_bytes(), 3 * names.len() as u64);
            prop_assert_eq!(index.place(0), Ok(places[0]));
            prop_assert!(index.place(1).is_err());
        }

        #[test]
        fn hostile_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Index::from_bytes(7, bytes).is_err());
        }
    }
}
