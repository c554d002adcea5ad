//! Content-addressed bodies: where the texts of superseded and settled versions go once the
//! journal has dropped them.
//!
//! A *block* is a self-contained run of bytes that holds several bodies, compressed together and
//! checked ([`block`]). A *container* keeps blocks where they can be fetched by place
//! ([`container`]): here a `.blk` file, later the frames of a video as well. An *index* says for
//! each body, by its SHA-256, which block it is in and where ([`index`]). Container and index of
//! one segment are immutable and are known by a number ([`segment`]); a [`BlockStore`] is a
//! folder of segments.
//!
//! What is true when: a segment exists exactly when its `.blk` file does. It is written as
//! `.blk.partial`, synced, read back whole and compared, and renamed after its index is durable.
//! A crash before that leaves a `.partial` file or an index without a container: both are
//! ignored, reported when the store is opened, and removed by [`BlockStore::remove_leftovers`].
//! The index is a view: a missing or damaged one is derived again from the blocks.
//!
//! When it goes wrong: every body is hashed before it is handed out, so a wrong byte is never
//! returned; the error names file, block and what was found. Damage to one block leaves the
//! others readable. A failed write removes what it wrote and changes nothing else.
//!
//! # Format
//!
//! All numbers are little-endian.
//!
//! `segment-<number, 8 digits>.blk`: a file header, then blocks, the last of which is an end
//! block.
//!
//! | file header | bytes |
//! |---|---|
//! | `LMBLOCKS` | 8 |
//! | format, 1 | 4 |
//! | CRC-32C of the 12 bytes before | 4 |
//!
//! | block | bytes |
//! |---|---|
//! | `LMBK` | 4 |
//! | format, 1 | 1 |
//! | kind: 0 bodies, 1 end | 1 |
//! | codec: 0 as it is, 1 zstd | 1 |
//! | zero | 1 |
//! | number of the block in its segment, from 0 | 4 |
//! | length of the content | 4 |
//! | length of the payload | 4 |
//! | CRC-32C of the payload | 4 |
//! | zero | 4 |
//! | CRC-32C of the 28 bytes before | 4 |
//! | payload: the content as the codec leaves it | |
//!
//! The content of a block of bodies is their count (4), the length of each (4 each), and the
//! bodies one after another; of an end block the count of blocks before it (4), zero (4), and
//! the count of bodies (8).
//!
//! `segment-<number>.idx`:
//!
//! | index | bytes |
//! |---|---|
//! | `LMBI` | 4 |
//! | format, 1 | 4 |
//! | number of the segment | 8 |
//! | count of blocks of bodies | 8 |
//! | count of bodies | 8 |
//! | length of the container | 8 |
//! | length of all bodies together | 8 |
//! | zero | 16 |
//! | for each block: offset in the container (8), length there (4), length of its content (4) | 16 |
//! | for each body, by hash: SHA-256 (32), block (4), offset in the block's content (4), length (4) | 44 |
//! | CRC-32C of everything before | 4 |

mod block;
mod container;
mod error;
mod index;
mod names;
mod rewrite;
mod segment;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub(crate) use store::BlockStore;
