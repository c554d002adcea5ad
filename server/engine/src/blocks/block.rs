//! One block: bodies in, bytes for any container out, and back. Pure; the layout is in
//! `FORMAT.md`.

use std::ops::Range;

use zstd::bulk;
use zstd::zstd_safe::CParameter;

use super::error::{BlockError, Damage, Result};

/// Bytes of a block before its payload.
pub(super) const HEADER_BYTES: usize = 32;

/// Longest content of a block; nothing longer is believed when read.
pub(super) const MAX_CONTENT_BYTES: usize = 256 << 20;

/// Begins every block.
pub(super) const MAGIC: [u8; 4] = *b"LMBK";
const FORMAT: u8 = 1;
const LEVEL: i32 = 9;
/// Windows that zstd knows, as powers of two.
const WINDOW_LOGS: std::ops::RangeInclusive<u32> = 10..=27;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bodies.
    Bodies,
    /// The end of a container.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Plain,
    Zstd,
}

/// The head of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    codec: Codec,
    /// Position among the blocks of the segment.
    pub(super) number: u32,
    content_len: u32,
    payload_len: u32,
    payload_crc: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let kind = match self.kind {
            Kind::Bodies => 0,
            Kind::End => 1,
        };
        let codec = match self.codec {
            Codec::Plain => 0,
            Codec::Zstd => 1,
        };
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[FORMAT, kind, codec, 0]);
        for field in [self.number, self.content_len, self.payload_len, self.payload_crc, 0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        header.iter_mut().zip(out).for_each(|(slot, byte)| *slot = byte);
        header
    }

    /// Reads the head of the block that `bytes` begins with.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let damage = |reason: String| Damage(reason);
        let mut fields = Fields(bytes);
        let magic = fields.bytes::<4>()?;
        let [format, kind, codec, _] = fields.bytes::<4>()?;
        let [number, content_len, payload_len, payload_crc, _zero, crc] = [
            fields.u32()?,
            fields.u32()?,
            fields.u32()?,
            fields.u32()?,
            fields.u32()?,
            fields.u32()?,
        ];
        if magic != MAGIC {
            return Err(damage(format!("a block begins with {MAGIC:02x?}, found {magic:02x?}")));
        }
        let found = crc32c::crc32c(bytes.get(..HEADER_BYTES - 4).unwrap_or_default());
        if found != crc {
            return Err(damage(format!("head has CRC-32C {found:08x}, expected {crc:08x}")));
        }
        if format != FORMAT {
            return Err(damage(format!("block format {format}, this program reads {FORMAT}")));
        }
        let kind = match kind {
            0 => Kind::Bodies,
            1 => Kind::End,
            other => return Err(damage(format!("unknown kind of block {other}"))),
        };
        let codec = match codec {
            0 => Codec::Plain,
            1 => Codec::Zstd,
            other => return Err(damage(format!("unknown codec {other}"))),
        };
        if content_len as usize > MAX_CONTENT_BYTES {
            return Err(damage(format!("content of {content_len} bytes is too long")));
        }
        Ok(Self { kind, codec, number, content_len, payload_len, payload_crc })
    }

    /// Length of the whole block.
    pub(super) fn block_len(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.payload_len)
    }
}

/// Compresses blocks one after another.
pub(super) struct Encoder {
    compressor: bulk::Compressor<'static>,
}

impl Encoder {
    pub(super) fn new() -> Result<Self> {
        let mut compressor = bulk::Compressor::new(LEVEL).map_err(BlockError::Compress)?;
        compressor
            .set_parameter(CParameter::EnableLongDistanceMatching(true))
            .map_err(BlockError::Compress)?;
        // The block has its own checksum, over the compressed bytes.
        compressor.set_parameter(CParameter::ChecksumFlag(false)).map_err(BlockError::Compress)?;
        Ok(Self { compressor })
    }

    /// The bytes of block `number` with `content`.
    pub(super) fn encode(&mut self, kind: Kind, number: u32, content: &[u8]) -> Result<Vec<u8>> {
        let too_long = || BlockError::TooLong { len: content.len(), most: MAX_CONTENT_BYTES };
        if content.len() > MAX_CONTENT_BYTES {
            return Err(too_long());
        }
        // A window as long as the content: a version finds its predecessor wherever it is.
        let window = content.len().max(1).next_power_of_two().ilog2();
        let window = window.clamp(*WINDOW_LOGS.start(), *WINDOW_LOGS.end());
        self.compressor
            .set_parameter(CParameter::WindowLog(window))
            .map_err(BlockError::Compress)?;
        let compressed = self.compressor.compress(content).map_err(BlockError::Compress)?;
        let (codec, payload) = if compressed.len() < content.len() {
            (Codec::Zstd, compressed.as_slice())
        } else {
            (Codec::Plain, content)
        };
        let header = Header {
            kind,
            codec,
            number,
            content_len: u32::try_from(content.len()).map_err(|_| too_long())?,
            payload_len: u32::try_from(payload.len()).map_err(|_| too_long())?,
            payload_crc: crc32c::crc32c(payload),
        };
        let mut block = Vec::with_capacity(HEADER_BYTES + payload.len());
        block.extend_from_slice(&header.encode());
        block.extend_from_slice(payload);
        Ok(block)
    }
}

/// The content of `block`, which must be exactly one block.
pub(super) fn decode(block: &[u8]) -> Result<(Header, Vec<u8>), Damage> {
    let header = Header::decode(block)?;
    let payload = block.get(HEADER_BYTES..).unwrap_or_default();
    if payload.len() != header.payload_len as usize {
        let expected = header.payload_len;
        return Err(Damage(format!("payload of {} bytes, expected {expected}", payload.len())));
    }
    let crc = crc32c::crc32c(payload);
    if crc != header.payload_crc {
        let expected = header.payload_crc;
        return Err(Damage(format!("payload has CRC-32C {crc:08x}, expected {expected:08x}")));
    }
    let content = match header.codec {
        Codec::Plain => payload.to_vec(),
        Codec::Zstd => bulk::decompress(payload, header.content_len as usize)
            .map_err(|error| Damage(format!("payload does not decompress: {error}")))?,
    };
    if content.len() != header.content_len as usize {
        let expected = header.content_len;
        return Err(Damage(format!("content of {} bytes, expected {expected}", content.len())));
    }
    Ok((header, content))
}

/// Bytes that `count` bodies of `bytes` bytes in all take in a block's content.
pub(super) fn packed_len(count: usize, bytes: usize) -> usize {
    4 + 4 * count + bytes
}

/// The content of a block of `bodies`, none of which may be longer than a `u32` tells.
pub(super) fn pack(bodies: &[&[u8]]) -> Result<Vec<u8>> {
    let bytes: usize = bodies.iter().map(|body| body.len()).sum();
    let len = packed_len(bodies.len(), bytes);
    let number = |value: usize| {
        u32::try_from(value).map_err(|_| BlockError::TooLong { len, most: MAX_CONTENT_BYTES })
    };
    let mut content = Vec::with_capacity(len);
    content.extend_from_slice(&number(bodies.len())?.to_le_bytes());
    for body in bodies {
        content.extend_from_slice(&number(body.len())?.to_le_bytes());
    }
    for body in bodies {
        content.extend_from_slice(body);
    }
    Ok(content)
}

/// Where the bodies lie in `content`.
pub(super) fn unpack(content: &[u8]) -> Result<Vec<Range<usize>>, Damage> {
    let mut fields = Fields(content);
    let count = fields.u32()? as usize;
    let mut start = packed_len(count, 0);
    if start > content.len() {
        return Err(Damage(format!("{count} bodies do not fit into {} bytes", content.len())));
    }
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let end = start.saturating_add(fields.u32()? as usize);
        if end > content.len() {
            return Err(Damage(format!("a body ends at {end} of {} bytes", content.len())));
        }
        ranges.push(start..end);
        start = end;
    }
    if start != content.len() {
        return Err(Damage(format!("bodies end at {start} of {} bytes", content.len())));
    }
    Ok(ranges)
}

/// What an end block says was before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) blocks: u32,
    pub(super) bodies: u64,
}

impl End {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut content = Vec::with_capacity(16);
        content.extend_from_slice(&self.blocks.to_le_bytes());
        content.extend_from_slice(&[0; 4]);
        content.extend_from_slice(&self.bodies.to_le_bytes());
        content
    }

    pub(super) fn decode(content: &[u8]) -> Result<Self, Damage> {
        let mut fields = Fields(content);
        let blocks = fields.u32()?;
        fields.u32()?;
        Ok(Self { blocks, bodies: fields.u64()? })
    }
}

/// Takes fixed fields off the front of bytes.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| {
            Damage(format!("ends in the middle of a field of {N} bytes, {} left", self.0.len()))
        })?;
        self.0 = rest;
        Ok(*field)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bodies_come_back_from_a_block(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            number in any::<u32>(),
        ) {
            let slices: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            let content = pack(&slices).unwrap();
            let block = Encoder::new().unwrap().encode(Kind::Bodies, number, &content).unwrap();
            let (header, found) = decode(&block).unwrap();
            prop_assert_eq!((header.number, header.kind), (number, Kind::Bodies));
            prop_assert_eq!(header.block_len(), block.len() as u64);
            let ranges = unpack(&found).unwrap();
            let found: Vec<&[u8]> = ranges.into_iter().map(|range| &found[range]).collect();
            prop_assert_eq!(found, slices);
        }

        #[test]
        fn no_changed_byte_and_no_other_length_goes_unnoticed(
            content in prop::collection::vec(any::<u8>(), 0..300),
            position in any::<prop::sample::Index>(),
            change in 1..=255_u8,
            cut in any::<prop::sample::Index>(),
        ) {
            let block = Encoder::new().unwrap().encode(Kind::End, 7, &content).unwrap();
            let mut damaged = block.clone();
            damaged[position.index(block.len())] ^= change;
            prop_assert!(decode(&damaged).is_err());
            prop_assert!(decode(&block[..cut.index(block.len())]).is_err());
            prop_assert!(decode(&[&block[..], &[0]].concat()).is_err());
        }

        #[test]
        fn hostile_bytes_are_refused_and_nothing_worse(
            bytes in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            prop_assert!(decode(&bytes).is_err());
            let _ = unpack(&bytes);
            let _ = End::decode(&bytes);
        }
    }

    #[test]
    fn what_does_not_compress_is_kept_as_it_is() {
        let content: Vec<u8> = (0_u32..64).flat_map(|i| Digest::of(&i.to_le_bytes()).0).collect();
        let block = Encoder::new().unwrap().encode(Kind::Bodies, 0, &content).unwrap();
        assert_eq!(block.len(), HEADER_BYTES + content.len());
        assert_eq!(decode(&block).unwrap().1, content);
    }

    use crate::ids::Digest;
}
