//! Proof that one record is in the journal, and the check of it.
//!
//! The check needs the proof, SHA-256, and one thing that the checker trusts: the root, or a
//! checkpoint signed by a key it knows. `FORMAT.md` says the same in words.

use thiserror::Error;

use super::Head;
use super::chain::{climb, leaf, merkle_path};
use super::checkpoint::{Checkpoint, Signed};
use super::entry::parse_line;
use super::error::{JournalError, Result};
use super::reader::JournalReader;
use super::recovery::walk_sound;
use super::scan::LineScanner;
use super::segment_name::SegmentName;
use super::shared::Sealed;
use crate::api::InclusionProof;
use crate::ids::{Digest, Seq};

impl JournalReader {
    /// Builds the proof of the record at `seq`. For a record of the active segment it leads to
    /// the root over what is committed now.
    pub fn prove(&self, seq: Seq) -> Result<InclusionProof> {
        let missing = || JournalError::Misuse(format!("the journal has no record {seq}"));
        let view = self.shared.view.read();
        let sealed: Option<Sealed> = view.holding(seq).cloned();
        let active = view.active.open();
        let active_first = view.active.first;
        let name = sealed
            .as_ref()
            .map_or(SegmentName { first: active_first, generation: 0 }, Sealed::name);
        let hash = view.hash_before(name.first);
        let checkpoint = sealed.as_ref().and_then(|sealed| {
            view.checkpoints.iter().find(|checkpoint| {
                checkpoint.first_seq == sealed.first && checkpoint.root == sealed.root
            })
        });
        let checkpoint = checkpoint.map(Checkpoint::line);
        drop(view);
        let open = match sealed {
            Some(_) => self.shared.open_sealed(name)?,
            None => active.ok_or_else(missing)?,
        };

        let before = Head { seq: Seq(name.first.0.saturating_sub(1)), hash, ..Head::default() };
        let mut scanner = LineScanner::new(open.file, 0, open.len);
        let mut leaves = Vec::new();
        let mut proven = None;
        let walked = walk_sound(&mut scanner, before, |_, parsed| {
            if parsed.record.seq == seq {
                proven = Some((leaves.len(), parsed.head(), parsed.record.clone()));
            }
            leaves.push(leaf(&parsed.head_hash));
        })?;
        if let Some((offset, fault)) = walked.fault {
            return Err(JournalError::Corrupt {
                file: open.label,
                offset,
                expected: fault.expected,
                found: fault.found,
            });
        }
        let (index, head, record) = proven.ok_or_else(missing)?;
        Ok(InclusionProof {
            id: record.id,
            version: record.version,
            seq,
            // `parse_line` has found it to be UTF-8.
            line: String::from_utf8_lossy(&head).into_owned(),
            content_hash: record.hash,
            path: merkle_path(&leaves, index),
            root: walked.tree.root(),
            first_seq: name.first,
            last_seq: walked.head.seq,
            head: walked.head.hash,
            checkpoint,
        })
    }
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The line is not a record, or says something else than the proof around it.
    #[error("the line does not say what the proof says: {0}")]
    Line(String),
    /// The path does not lead from the line to the root.
    #[error("the path leads to {found}, not to the root {expected}")]
    Root {
        /// The root that the proof names.
        expected: Digest,
        /// Where the path leads.
        found: Digest,
    },
    /// The content is not the one that the record names.
    #[error("the content has SHA-256 {found}, the record names {expected}")]
    Content {
        /// The hash in the record.
        expected: Digest,
        /// The hash of the content.
        found: Digest,
    },
    /// The checkpoint is not for this root, or its signature is wrong.
    #[error("the checkpoint does not vouch for the root: {0}")]
    Checkpoint(String),
}

/// Checks a proof: the line is a record with the item, version, position and content hash that
/// the proof names; the path leads from it to the root; the checkpoint, if there is one, names
/// the same root and is not signed wrongly; the content, if given, has the recorded hash.
///
/// Answers what the checkpoint's signature says. The caller compares the root (or the signing
/// key) with the one it trusts: a proof cannot vouch for its own root.
pub fn verify_proof(proof: &InclusionProof, content: Option<&[u8]>) -> Result<Signed, ProofError> {
    let parsed =
        parse_line(proof.line.as_bytes()).map_err(|fault| ProofError::Line(fault.to_string()))?;
    let record = &parsed.record;
    let says = (&record.id, record.version, record.seq, record.hash);
    if says != (&proof.id, proof.version, proof.seq, proof.content_hash)
        || parsed.body.is_some()
        || parsed.continued
    {
        return Err(ProofError::Line(format!(
            "it is record {} of item {} in version {} with content {}",
            record.seq, record.id, record.version, record.hash
        )));
    }
    let found = climb(leaf(&parsed.head_hash), &proof.path);
    if found != proof.root {
        return Err(ProofError::Root { expected: proof.root, found });
    }
    if let Some(content) = content {
        let found = Digest::of(content);
        if found != proof.content_hash {
            return Err(ProofError::Content { expected: proof.content_hash, found });
        }
    }
    let Some(line) = &proof.checkpoint else { return Ok(Signed::No) };
    let checkpoint =
        Checkpoint::parse(line).map_err(|fault| ProofError::Checkpoint(fault.to_string()))?;
    let covers = checkpoint.root == proof.root
        && checkpoint.head == proof.head
        && checkpoint.first_seq == proof.first_seq
        && checkpoint.last_seq == proof.last_seq
        && (checkpoint.first_seq..=checkpoint.last_seq).contains(&proof.seq);
    if !covers {
        return Err(ProofError::Checkpoint("it is for other records".to_owned()));
    }
    match checkpoint.signed() {
        Signed::Wrong => Err(ProofError::Checkpoint("its signature is wrong".to_owned())),
        signed @ (Signed::No | Signed::By(_)) => Ok(signed),
    }
}
