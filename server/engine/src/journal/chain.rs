//! Hashes over lines: the chain from each to the one before, and the Merkle tree over a segment.
//!
//! The tree is that of RFC 6962: over `n` leaves, the left subtree takes the largest power of two
//! below `n`. A leaf is `SHA-256(0x00 || head hash of the line)`, a node
//! `SHA-256(0x01 || left || right)`, so that neither can pass for the other.

use sha2::{Digest as _, Sha256};

use crate::api::ProofStep;
use crate::ids::Digest;

const LEAF: u8 = 0;
const NODE: u8 = 1;

/// The leaf for a line whose head has hash `head`.
pub(crate) fn leaf(head: &Digest) -> Digest {
    Digest(Sha256::new().chain_update([LEAF]).chain_update(head.0).finalize().into())
}

/// The node above two others.
pub(crate) fn node(left: &Digest, right: &Digest) -> Digest {
    let hash = Sha256::new().chain_update([NODE]).chain_update(left.0).chain_update(right.0);
    Digest(hash.finalize().into())
}

/// A tree that grows to the right and keeps only the roots of its perfect subtrees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MerkleTree {
    /// Height and root of each perfect subtree, from the left; heights fall strictly.
    peaks: Vec<(u32, Digest)>,
}

impl MerkleTree {
    /// Adds the leaf for a line whose head has hash `head`.
    pub(crate) fn push(&mut self, head: &Digest) {
        let (mut height, mut hash) = (0, leaf(head));
        while let Some((_, left)) = self.peaks.pop_if(|(peak, _)| *peak == height) {
            hash = node(&left, &hash);
            height += 1;
        }
        self.peaks.push((height, hash));
    }

    /// The root; [`Digest::ZERO`] for no leaves.
    pub(crate) fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev().map(|(_, hash)| *hash);
        let Some(last) = peaks.next() else { return Digest::ZERO };
        peaks.fold(last, |right, left| node(&left, &right))
    }
}

/// Siblings on the way from leaf `index` to the root over `leaves`, lowest first; empty when
/// there is no such leaf or only one.
pub(crate) fn merkle_path(leaves: &[Digest], index: usize) -> Vec<ProofStep> {
    let mut path = Vec::new();
    let (mut range, mut index) = (leaves, index);
    // From the root down: at each step the sibling is the half that does not hold the leaf.
    while range.len() > 1 && index < range.len() {
        let (left, right) = range.split_at(split(range.len()));
        if index < left.len() {
            path.push(ProofStep { left: false, hash: root_of(right) });
            range = left;
        } else {
            path.push(ProofStep { left: true, hash: root_of(left) });
            index -= left.len();
            range = right;
        }
    }
    path.reverse();
    path
}

/// What climbing `path` from `leaf` arrives at.
pub(crate) fn climb(leaf: Digest, path: &[ProofStep]) -> Digest {
    path.iter().fold(leaf, |below, step| {
        if step.left { node(&step.hash, &below) } else { node(&below, &step.hash) }
    })
}

/// Root over leaves that are given (not head hashes).
fn root_of(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::ZERO,
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root_of(left), &root_of(right))
        }
    }
}

/// The largest power of two below `len`, which is at least 2.
fn split(len: usize) -> usize {
    len.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heads(count: usize) -> Vec<Digest> {
        (0..count).map(|n| Digest::of(&n.to_le_bytes())).collect()
    }

    #[test]
    fn leaf_and_node_are_told_apart() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_ne!(leaf(&a), Digest::of(&a.0));
        assert_ne!(node(&a, &b), Digest::of(&[a.0, b.0].concat()));
        assert_ne!(node(&a, &b), node(&b, &a));
    }

    proptest! {
        #[test]
        fn every_leaf_has_a_path_to_the_grown_root(count in 1_usize..200, pick in any::<usize>()) {
            let heads = heads(count);
            let mut tree = MerkleTree::default();
            for head in &heads {
                tree.push(head);
            }
            let leaves: Vec<_> = heads.iter().map(leaf).collect();
            prop_assert_eq!(tree.root(), root_of(&leaves));

            let index = pick % count;
            let path = merkle_path(&leaves, index);
            prop_assert_eq!(climb(leaves[index], &path), tree.root());
            let other = (index + 1) % count;
            if other != index {
                prop_assert_ne!(climb(leaves[other], &path), tree.root());
            }
        }
    }
}
