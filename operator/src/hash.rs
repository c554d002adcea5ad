//! Hashes by which changes are noticed.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// SHA-256 of `bytes` in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

/// A hash of some words that is only compared: it is kept of many things, and takes little room.
pub type Print = [u8; 16];

/// The print of `words`, one after the other.
pub fn print(words: &[&str]) -> Print {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word.as_bytes());
        hash.update([0]);
    }
    let mut print = Print::default();
    print.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    print
}

/// A short hash of the JSON of `value`. Keys of objects are sorted, so equal values have equal
/// hashes.
pub fn of(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    let mut text = hex(json.to_string().as_bytes());
    text.truncate(20);
    text
}
