//! Files about callers are read entry by entry: one that cannot be used admits nobody, and keeps
//! none of the others from counting. Were the whole file refused, whoever was taken out of it
//! would stay in.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use thiserror::Error;

/// An entry that does not count, or not as it looks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// It admits nobody.
    #[error("{entry} admits nobody: {reason}")]
    Unusable {
        /// Which one.
        entry: String,
        /// The field, what is wrong with it, and what would be right.
        reason: String,
    },
    /// It says nothing that an earlier one has not said.
    #[error("{entry} has no effect: {reason}")]
    Superfluous {
        /// Which one.
        entry: String,
        /// The earlier one, and what to do.
        reason: String,
    },
}

/// A file that is not the JSON it must be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct NotAList {
    /// Line, from 1.
    line: usize,
    /// Column, from 1.
    column: usize,
    /// What was expected.
    reason: String,
}

/// The entries of a file, none of them looked at yet.
pub fn list(bytes: &[u8]) -> Result<Vec<&RawValue>, NotAList> {
    serde_json::from_slice(bytes).map_err(|error| NotAList {
        line: error.line(),
        column: error.column(),
        reason: error.to_string(),
    })
}

/// One of them; else the field that cannot be read, and why. Read from the text, not from a parsed
/// value, which would keep the last of two fields of one name.
pub fn read<T: DeserializeOwned>(entry: &RawValue) -> Result<T, String> {
    let mut text = serde_json::Deserializer::from_str(entry.get());
    serde_path_to_error::deserialize(&mut text).map_err(|error| {
        let field = error.path().to_string();
        let reason = error.into_inner().to_string();
        // The place is one in the entry, and would be looked for in the file.
        let reason = reason.rfind(" at line ").and_then(|end| reason.get(..end)).unwrap_or(&reason);
        let whole = field == "." || field == "?" || reason.contains(&format!("`{field}`"));
        if whole { reason.to_owned() } else { format!("{field}: {reason}") }
    })
}
