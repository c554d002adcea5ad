//! Reads a file line by line, in large pieces.

use std::sync::Arc;

use llm_memory_disk::File;

use super::error::Result;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// One line of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawLine<'a> {
    /// Where it begins.
    pub(crate) offset: u64,
    /// Its bytes, without the line feed.
    pub(crate) bytes: &'a [u8],
    /// Whether a line feed ends it; only the last line may lack one.
    pub(crate) ended: bool,
}

impl RawLine<'_> {
    /// Offset after the line and its line feed.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64 + u64::from(self.ended)
    }
}

/// Walks over the lines of `file` up to byte `end`.
#[derive(Debug)]
pub(crate) struct LineScanner {
    file: Arc<dyn File>,
    /// Offset in the file of `buffer[0]`.
    base: u64,
    end: u64,
    buffer: Vec<u8>,
    /// Where the next line begins in `buffer`.
    next: usize,
}

impl LineScanner {
    /// Starts at byte `from`, which must be the beginning of a line.
    pub(crate) fn new(file: Arc<dyn File>, from: u64, end: u64) -> Self {
        Self { file, base: from, end, buffer: Vec::new(), next: 0 }
    }

    /// The next line; `None` at the end.
    pub(crate) fn next_line(&mut self) -> Result<Option<RawLine<'_>>> {
        let mut searched = self.next;
        let len = loop {
            let fresh = self.buffer.get(searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', fresh) {
                break Some(searched + at - self.next);
            }
            searched = self.buffer.len() - self.next;
            if !self.fill()? {
                break None;
            }
        };
        let offset = self.base + self.next as u64;
        let begin = self.next;
        let (stop, ended) = match len {
            Some(len) => (begin + len, true),
            None if begin < self.buffer.len() => (self.buffer.len(), false),
            None => return Ok(None),
        };
        self.next = stop + usize::from(ended);
        let bytes = self.buffer.get(begin..stop).unwrap_or_default();
        Ok(Some(RawLine { offset, bytes, ended }))
    }

    /// Moves what is left to the front and reads on; `false` at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.drain(..self.next);
        self.base += self.next as u64;
        self.next = 0;
        let have = self.buffer.len();
        let at = self.base + have as u64;
        let want = usize::try_from(self.end.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
        if want == 0 {
            return Ok(false);
        }
        self.buffer.resize(have + want, 0);
        let target = self.buffer.get_mut(have..).unwrap_or_default();
        if let Err(error) = self.file.read_exact_at(at, target) {
            self.buffer.truncate(have);
            return Err(error.into());
        }
        Ok(true)
    }
}
