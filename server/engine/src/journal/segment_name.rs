//! The grammar of file names in a journal's folder, once.
//!
//! `journal.ndjson` is written to; `journal/<first>.<generation>.ndjson` are sealed, with the
//! sequence number of their first record in 20 digits. A name that ends in `.partial` was being
//! written when the process died and means nothing.

use std::path::{Path, PathBuf};

use crate::ids::Seq;

/// The segment that is written to, relative to the scope's folder.
pub(crate) const ACTIVE: &str = "journal.ndjson";
/// The folder of sealed segments.
pub(crate) const SEALED_DIR: &str = "journal";
/// One line for each sealed segment.
pub(crate) const CHECKPOINTS: &str = "checkpoints.ndjson";
/// Ends the name of a file that is not complete.
pub(crate) const PARTIAL: &str = ".partial";
const EXTENSION: &str = ".ndjson";
const DIGITS: usize = 20;

/// Names one generation of one sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentName {
    /// First record.
    pub(crate) first: Seq,
    /// 0 as sealed; one more with every rewrite that drops bodies.
    pub(crate) generation: u32,
}

impl SegmentName {
    /// File name, without folder.
    pub(crate) fn file_name(self) -> String {
        format!("{:0DIGITS$}.{}{EXTENSION}", self.first.0, self.generation)
    }

    /// Path relative to the scope's folder, as messages show it.
    pub(crate) fn relative(self) -> String {
        format!("{SEALED_DIR}/{}", self.file_name())
    }

    /// Path of the file.
    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        dir.join(SEALED_DIR).join(self.file_name())
    }

    /// Reads a file name; `None` for anything that [`Self::file_name`] would not write.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (first, generation) = name.strip_suffix(EXTENSION)?.split_once('.')?;
        if first.len() != DIGITS || !first.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let canonical = generation == "0" || !generation.starts_with(['0', '+']);
        let parsed = Self { first: Seq(first.parse().ok()?), generation: generation.parse().ok()? };
        (canonical && parsed.first.0 > 0).then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let name = SegmentName { first: Seq(42), generation: 3 };
        assert_eq!(name.file_name(), "00000000000000000042.3.ndjson");
        assert_eq!(SegmentName::parse(&name.file_name()), Some(name));
    }

    #[test]
    fn other_files_are_not_segments() {
        for name in [
            "00000000000000000042.3.ndjson.partial",
            "42.0.ndjson",
            "00000000000000000042.03.ndjson",
            "00000000000000000042.+3.ndjson",
            "00000000000000000000.0.ndjson",
            "00000000000000000042.ndjson",
            "99999999999999999999.0.ndjson",
            "00000000000000000042.damaged-1.ndjson",
        ] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
    }
}
