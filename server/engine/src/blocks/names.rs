//! The grammar of file names in a folder of blocks, for writing and for reading.

/// Ending of a file that is still being written.
const PARTIAL: &str = ".partial";

/// What a file in the folder is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// Blocks of a segment.
    Container(u64),
    /// Index of a segment.
    Index(u64),
    /// Blocks of a segment that was not finished.
    Partial(u64),
}

impl Name {
    /// Parses a name; `None` for anything that would not be written so.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (stem, partial) = match name.strip_suffix(PARTIAL) {
            Some(stem) => (stem, true),
            None => (name, false),
        };
        let (digits, ending) = stem.strip_prefix("segment-")?.split_once('.')?;
        let number = digits.parse().ok()?;
        let parsed = match (ending, partial) {
            ("blk", false) => Self::Container(number),
            ("blk", true) => Self::Partial(number),
            ("idx", false) => Self::Index(number),
            _ => return None,
        };
        // Two spellings of one number would be one segment twice.
        (parsed.to_string() == name).then_some(parsed)
    }

    /// The segment.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Container(number) | Self::Index(number) | Self::Partial(number) => number,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Container(number) => write!(f, "segment-{number:08}.blk"),
            Self::Index(number) => write!(f, "segment-{number:08}.idx"),
            Self::Partial(number) => write!(f, "segment-{number:08}.blk{PARTIAL}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for number in [0, 1, 99_999_999, u64::MAX] {
            for name in [Name::Container(number), Name::Index(number), Name::Partial(number)] {
                assert_eq!(Name::parse(&name.to_string()), Some(name));
            }
        }
        for other in [
            "segment-1.blk",
            "segment-00000001.idx.partial",
            "segment-000000001.blk",
            "segment-+0000001.blk",
            "notes.txt",
            "segment-.blk",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
