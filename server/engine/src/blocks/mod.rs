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
//! others readable. A failed write removes what it wrote and changes nothing else. A container
//! that cannot be opened keeps nothing but its own bodies from being read.
//!
//! Every byte is described in `FORMAT.md`, section Blocks.

mod block;
mod cache;
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

/// A segment is finished at this size, so that writing one again stays cheap.
pub(crate) const BLOCK_SEGMENT_BYTES: u64 = 256 << 20;

pub(crate) use cache::FrameCache;
pub(crate) use store::{Afresh, BlockStore};
