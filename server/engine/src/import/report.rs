//! What an import did, what it could not read and why.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Adjustments that are listed one by one; more are only counted.
const MAX_ADJUSTED: usize = 1000;

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// File, relative to the imported folder.
    pub file: String,
    /// Line, from 1, in a journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Item, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Why.
    pub reason: String,
}

/// A file that the import has no use for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ignored {
    /// File or folder, relative to the imported folder.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Outcome of an import.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Items read.
    pub items: u64,
    /// Those of them that were found only in the legacy journal.
    pub from_journal: u64,
    /// Items that the journals say were deleted, and so were not read.
    pub deleted: u64,
    /// Journal lines read.
    pub journal_lines: u64,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// Values that could not be kept as they were, with what was done: `ID: FIELD ...`. At most
    /// 1,000.
    pub adjusted: Vec<String>,
    /// All such values.
    pub adjusted_total: u64,
    /// Fields that this format does not have, with the number of items that had them. Their
    /// values were not imported.
    pub unknown_fields: BTreeMap<String, u64>,
    /// Files without use.
    pub ignored: Vec<Ignored>,
    /// The folder's configuration as one of ours; absent when it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// Keys of the configuration that were not taken over, and why.
    pub config_problems: Vec<String>,
}

impl Report {
    /// Whether everything was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn adjust(&mut self, id: &str, notes: Vec<String>) {
        for note in notes {
            self.adjusted_total += 1;
            if self.adjusted.len() < MAX_ADJUSTED {
                self.adjusted.push(format!("{id}: {note}"));
            }
        }
    }
}
