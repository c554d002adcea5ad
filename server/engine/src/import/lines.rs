//! Lines of a file, one at a time.

use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::{Disk, File, OpenMode, Result};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Longest line that is kept; a longer one is reported by its place alone.
pub(super) const MAX_LINE: usize = 64 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Of its first byte.
    pub(super) offset: u64,
    /// Without the line end; `None` when longer than [`MAX_LINE`].
    pub(super) bytes: Option<Vec<u8>>,
}

/// Reads a file line by line, holding one line in memory.
#[derive(Debug)]
pub(super) struct Lines {
    file: Arc<dyn File>,
    length: u64,
    /// Where the next chunk begins.
    read: u64,
    buffer: Vec<u8>,
    /// Where `buffer` begins in the file.
    buffered: u64,
    /// Bytes of `buffer` known to hold no line end.
    searched: usize,
    number: u64,
}

impl Lines {
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = disk.open(path, OpenMode::Read)?;
        let length = file.len()?;
        Ok(Self { file, length, read: 0, buffer: Vec::new(), buffered: 0, searched: 0, number: 0 })
    }

    /// The next line; `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> Result<Option<Line>> {
        let mut too_long_from = None;
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let end = self.searched + at;
                return Ok(Some(self.finish_line(end, end + 1, too_long_from)));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                // Keep nothing of a line that is too long but where it began.
                too_long_from.get_or_insert(self.buffered);
                self.buffered += self.buffer.len() as u64;
                self.buffer.clear();
                self.searched = 0;
            }
            let left = self.length.saturating_sub(self.read);
            if left == 0 {
                if self.buffer.is_empty() && too_long_from.is_none() {
                    return Ok(None);
                }
                let end = self.buffer.len();
                return Ok(Some(self.finish_line(end, end, too_long_from)));
            }
            let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let filled = self.buffer.len();
            self.buffer.resize(filled + size, 0);
            let chunk = self.buffer.get_mut(filled..).unwrap_or_default();
            self.file.read_exact_at(self.read, chunk)?;
            self.read += size as u64;
        }
    }

    fn finish_line(&mut self, end: usize, consumed: usize, too_long: Option<u64>) -> Line {
        self.number += 1;
        let line = Line {
            number: self.number,
            offset: too_long.unwrap_or(self.buffered),
            bytes: match too_long {
                Some(_) => None,
                None => self.buffer.get(..end).map(<[u8]>::to_vec),
            },
        };
        self.buffer.drain(..consumed);
        self.buffered += consumed as u64;
        self.searched = 0;
        line
    }
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn lines_are_those_of_the_file_with_their_places(
            lengths in proptest::collection::vec(0..100_000_usize, 0..6),
            ended: bool,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("f");
            let texts: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
            let mut whole = texts.join("\n");
            if ended && !whole.is_empty() {
                whole.push('\n');
            }
            OsDisk.durable_write(&path, whole.as_bytes()).unwrap();
            let mut lines = Lines::open(&OsDisk, &path).unwrap();
            let mut found = Vec::new();
            while let Some(line) = lines.next_line().unwrap() {
                let bytes = line.bytes.unwrap();
                let from = usize::try_from(line.offset).unwrap();
                prop_assert_eq!(&whole.as_bytes()[from..from + bytes.len()], &bytes[..]);
                found.push(String::from_utf8(bytes).unwrap());
            }
            let expected: Vec<&str> = whole.lines().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
