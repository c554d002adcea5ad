//! Checkpoints: one line for every segment that was sealed or rewritten.
//!
//! Each names the SHA-256 of the line before it, so that the file is a chain of its own, and may
//! be signed with Ed25519. The whole file is replaced in one durable step, since it is short and
//! changes once in 64 MiB of journal; so it has no torn state.

use std::path::Path;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use llm_memory_disk::Disk;
use serde::{Deserialize, Serialize};

use super::entry::LineError;
use super::error::Result;
use super::segment_name::CHECKPOINTS;
use crate::ids::{Digest, Seq, Timestamp};

/// What a sealed segment held when the checkpoint was written. The order of the fields is the
/// order of the keys in the line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    /// First record.
    pub first_seq: Seq,
    /// Last record.
    pub last_seq: Seq,
    /// Records.
    pub count: u64,
    /// 0 when sealed; one more with each rewrite.
    pub generation: u32,
    /// SHA-256 of the head of the last record.
    pub head: Digest,
    /// Merkle root over the heads of all records.
    pub root: Digest,
    /// Length of the file in this generation.
    pub bytes: u64,
    /// Records that have a body in this generation.
    pub bodies: u64,
    /// Length of the lines of those records.
    pub body_bytes: u64,
    /// Time of the first record.
    pub first_ts: Timestamp,
    /// Time of the last record.
    pub last_ts: Timestamp,
    /// SHA-256 of the checkpoint line before; [`Digest::ZERO`] for the first.
    pub prev_checkpoint: Digest,
    /// When this checkpoint was written.
    pub ts: Timestamp,
    /// Public key of the signer, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Signature over the line without `,"signature":"..."`, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// What became of a checkpoint's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// There is none.
    No,
    /// It is right for the key that the checkpoint names.
    By(VerifyingKey),
    /// It does not belong to this line and key.
    Wrong,
}

impl Checkpoint {
    /// The line, without line feed.
    #[must_use]
    pub fn line(&self) -> String {
        // A struct of numbers and strings always has a JSON spelling.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a line; only what [`Self::line`] would write is accepted.
    pub fn parse(line: &str) -> Result<Self, LineError> {
        let checkpoint: Self = serde_json::from_str(line)
            .map_err(|error| LineError::new("a checkpoint", error.to_string()))?;
        if checkpoint.line() != line {
            return Err(LineError::new("a checkpoint in canonical form", line));
        }
        Ok(checkpoint)
    }

    /// SHA-256 of the line.
    pub(crate) fn hash(&self) -> Digest {
        Digest::of(self.line().as_bytes())
    }

    /// Checks that the line may follow those in `before`, the last of which has hash `prev`.
    fn check_place(&self, before: &[Self], prev: &Digest) -> Result<(), LineError> {
        if self.prev_checkpoint != *prev {
            return Err(LineError::new(
                format!("prevCheckpoint {prev}"),
                self.prev_checkpoint.to_hex(),
            ));
        }
        if self.last_seq.next().0.checked_sub(self.first_seq.0) != Some(self.count) {
            return Err(LineError::new(
                format!("{} records from {} on", self.count, self.first_seq),
                format!("the last one at {}", self.last_seq),
            ));
        }
        let same = before.iter().find(|earlier| earlier.first_seq == self.first_seq);
        let fits = match same {
            // A rewrite changes no head.
            Some(sealed) => {
                (sealed.last_seq, sealed.head, sealed.root) == (self.last_seq, self.head, self.root)
            }
            None => before.iter().all(|earlier| earlier.last_seq < self.first_seq),
        };
        if fits {
            return Ok(());
        }
        Err(LineError::new(
            "the next segment, or a rewrite of an earlier one",
            format!("records {} to {}", self.first_seq, self.last_seq),
        ))
    }

    fn signed_bytes(&self) -> Vec<u8> {
        Self { signature: None, ..self.clone() }.line().into_bytes()
    }

    pub(crate) fn sign(&mut self, key: &SigningKey) {
        self.key = Some(to_hex(key.verifying_key().as_bytes()));
        self.signature = Some(to_hex(&key.sign(&self.signed_bytes()).to_bytes()));
    }

    /// Checks the signature against the key that the checkpoint names. Whether that key is to be
    /// trusted is for the caller to say.
    #[must_use]
    pub fn signed(&self) -> Signed {
        let (Some(key), Some(signature)) = (&self.key, &self.signature) else {
            return if self.key.is_none() && self.signature.is_none() {
                Signed::No
            } else {
                Signed::Wrong
            };
        };
        let checked = from_hex::<32>(key)
            .and_then(|key| VerifyingKey::from_bytes(&key).ok())
            .zip(from_hex::<64>(signature).map(|bytes| Signature::from_bytes(&bytes)));
        match checked {
            Some((key, signature))
                if key.verify_strict(&self.signed_bytes(), &signature).is_ok() =>
            {
                Signed::By(key)
            }
            _ => Signed::Wrong,
        }
    }
}

/// What the checkpoint file holds.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The lines before the first damage that a sound line, or the end of the file, vouches for.
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// Number (from 1), offset and fault of the first damaged line.
    pub(crate) damage: Option<(usize, u64, LineError)>,
    /// Whether there is a file.
    pub(crate) exists: bool,
}

pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Loaded> {
    let path = dir.join(CHECKPOINTS);
    if !disk.exists(&path)? {
        return Ok(Loaded::default());
    }
    Ok(parse_all(&disk.read(&path)?))
}

fn parse_all(bytes: &[u8]) -> Loaded {
    let mut loaded = Loaded { exists: true, ..Loaded::default() };
    let (mut offset, mut prev) = (0, Digest::ZERO);
    for (n, raw) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let parsed = raw
            .strip_suffix(b"\n")
            .ok_or_else(|| LineError::new("a line feed", "the end of the file"))
            .and_then(|line| {
                std::str::from_utf8(line).map_err(|_| LineError::new("UTF-8", "other bytes"))
            })
            .and_then(Checkpoint::parse)
            .and_then(|checkpoint| {
                checkpoint.check_place(&loaded.checkpoints, &prev).map(|()| checkpoint)
            });
        match parsed {
            Ok(checkpoint) => {
                prev = checkpoint.hash();
                loaded.checkpoints.push(checkpoint);
            }
            Err(error) => {
                loaded.damage = Some((n + 1, offset, error));
                // Only this line vouched for the one before; either may be the changed one.
                loaded.checkpoints.pop();
                break;
            }
        }
        offset += raw.len() as u64;
    }
    loaded
}

/// Replaces the file with `checkpoints` in one durable step.
pub(crate) fn store(disk: &dyn Disk, dir: &Path, checkpoints: &[Checkpoint]) -> Result<()> {
    let mut bytes = Vec::with_capacity(checkpoints.len() * 700);
    for checkpoint in checkpoints {
        bytes.extend_from_slice(checkpoint.line().as_bytes());
        bytes.push(b'\n');
    }
    Ok(disk.durable_write(&dir.join(CHECKPOINTS), &bytes)?)
}

/// Chains `checkpoint` onto `before` and signs it if there is a key.
pub(crate) fn finish(
    mut checkpoint: Checkpoint,
    before: Option<&Checkpoint>,
    key: Option<&SigningKey>,
) -> Checkpoint {
    checkpoint.prev_checkpoint = before.map_or(Digest::ZERO, Checkpoint::hash);
    checkpoint.ts = Timestamp::now();
    (checkpoint.key, checkpoint.signature) = (None, None);
    if let Some(key) = key {
        checkpoint.sign(key);
    }
    checkpoint
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn from_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    let canonical = hex.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if hex.len() != 2 * N || !canonical {
        return None;
    }
    for (slot, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(first: u64) -> Checkpoint {
        Checkpoint {
            first_seq: Seq(first),
            last_seq: Seq(first + 9),
            count: 10,
            generation: 0,
            head: Digest::of(b"head"),
            root: Digest::of(b"root"),
            bytes: 1000,
            bodies: 9,
            body_bytes: 900,
            first_ts: Timestamp::from_millis(1),
            last_ts: Timestamp::from_millis(2),
            prev_checkpoint: Digest::ZERO,
            ts: Timestamp::from_millis(3),
            key: None,
            signature: None,
        }
    }

    #[test]
    fn a_signature_covers_every_other_field() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut signed = checkpoint(1);
        assert_eq!(signed.signed(), Signed::No);
        signed.sign(&key);
        assert_eq!(signed.signed(), Signed::By(key.verifying_key()));
        assert_eq!(Checkpoint::parse(&signed.line()), Ok(signed.clone()));

        let forged = Checkpoint { root: Digest::of(b"other"), ..signed.clone() };
        assert_eq!(forged.signed(), Signed::Wrong);
        let stripped = Checkpoint { signature: None, ..signed.clone() };
        assert_eq!(stripped.signed(), Signed::Wrong);
        let other = SigningKey::from_bytes(&[8; 32]);
        let claimed = Checkpoint { key: Some(to_hex(other.verifying_key().as_bytes())), ..signed };
        assert_eq!(claimed.signed(), Signed::Wrong);
    }

    #[test]
    fn lines_after_a_changed_one_no_longer_chain() {
        let first = finish(checkpoint(1), None, None);
        let second = finish(checkpoint(11), Some(&first), None);
        let text = format!("{}\n{}\n", first.line(), second.line());
        let loaded = parse_all(text.as_bytes());
        assert_eq!(loaded.checkpoints, [first, second]);
        assert!(loaded.damage.is_none());

        let changed = text.replacen("\"bodies\":9", "\"bodies\":8", 1);
        let loaded = parse_all(changed.as_bytes());
        assert_eq!(loaded.checkpoints, []);
        assert_eq!(loaded.damage.map(|(line, ..)| line), Some(2));
    }

    #[test]
    fn white_space_and_unknown_keys_are_refused() {
        let line = checkpoint(1).line();
        assert!(Checkpoint::parse(&line.replace(",\"head\"", ", \"head\"")).is_err());
        assert!(Checkpoint::parse(&line.replace("\"count\"", "\"more\":1,\"count\"")).is_err());
    }
}
