//! Reads files of lines, one chunk in memory at a time.

use std::path::{Path, PathBuf};

use llm_memory_disk::{Disk, DiskError, OpenMode};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Longer lines are none of ours; the rest of such a line is skipped.
const LONGEST: usize = 4 << 20;

/// Gives every line of a file, without its newline, to `take`. A last line without newline counts
/// too: the writer may be in the middle of it, and then it does not parse.
pub(super) fn each(
    disk: &dyn Disk,
    path: &Path,
    take: &mut dyn FnMut(&[u8]),
) -> Result<(), DiskError> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = file.len()?;
    let mut splitter = Splitter::default();
    let mut offset = 0_u64;
    while offset < len {
        let left = usize::try_from(len.saturating_sub(offset)).unwrap_or(CHUNK);
        let mut chunk = vec![0; left.min(CHUNK)];
        file.read_exact_at(offset, &mut chunk)?;
        offset = offset.saturating_add(chunk.len() as u64);
        splitter.feed(&chunk, take);
    }
    splitter.finish(take);
    Ok(())
}

/// Cuts bytes that come in pieces into lines.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    line: Vec<u8>,
    skipping: bool,
}

impl Splitter {
    /// Takes a piece.
    pub(super) fn feed(&mut self, bytes: &[u8], take: &mut dyn FnMut(&[u8])) {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.line.len().saturating_add(piece.len()) > LONGEST {
                self.skipping = true;
                self.line.clear();
            } else if !self.skipping {
                self.line.extend_from_slice(piece);
            }
            // Every piece but the last was ended by a newline.
            if pieces.peek().is_some() {
                self.end(take);
            }
        }
    }

    /// Takes what came after the last newline.
    pub(super) fn finish(&mut self, take: &mut dyn FnMut(&[u8])) {
        self.end(take);
    }

    fn end(&mut self, take: &mut dyn FnMut(&[u8])) {
        if !self.skipping && !self.line.is_empty() {
            take(&self.line);
        }
        self.line.clear();
        self.skipping = false;
    }
}

/// The files of a folder whose names begin with `stem` and end with `extension`, by name. A
/// missing folder has none.
pub(super) fn files(
    disk: &dyn Disk,
    folder: &Path,
    stem: &str,
    extension: &str,
) -> Result<Vec<PathBuf>, DiskError> {
    let entries = match disk.list(folder) {
        Ok(entries) => entries,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let suffix = format!(".{extension}");
    Ok(entries
        .into_iter()
        .filter(|entry| {
            !entry.is_dir && entry.name.starts_with(stem) && entry.name.ends_with(&suffix)
        })
        .map(|entry| folder.join(entry.name))
        .collect())
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    #[test]
    fn lines_are_the_same_however_the_bytes_come() {
        let bytes = b"one\n\ntwo\nthree";
        for size in 1..=bytes.len() {
            let mut lines = Vec::new();
            let mut splitter = Splitter::default();
            for piece in bytes.chunks(size) {
                splitter.feed(piece, &mut |line| lines.push(line.to_vec()));
            }
            splitter.finish(&mut |line| lines.push(line.to_vec()));
            assert_eq!(lines, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()], "{size}");
        }
    }

    #[test]
    fn a_line_beyond_all_measure_is_skipped() {
        let mut bytes = vec![b'x'; LONGEST + 1];
        bytes.extend_from_slice(b"\nnext\n");
        let mut lines = Vec::new();
        let mut splitter = Splitter::default();
        for piece in bytes.chunks(CHUNK) {
            splitter.feed(piece, &mut |line| lines.push(line.to_vec()));
        }
        assert_eq!(lines, [b"next".to_vec()]);
    }

    #[test]
    fn only_files_of_the_name_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["server.log", "server-20261121.log", "server.log.tmp", "audit.log"] {
            OsDisk.durable_write(&folder.path().join(name), b"x\n").unwrap();
        }
        let found = files(&OsDisk, folder.path(), "server", "log").unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["server-20261121.log", "server.log"]);
        assert!(files(&OsDisk, &folder.path().join("none"), "x", "y").unwrap().is_empty());
    }
}
