//! Bytes of files that are compared, written again or put aside.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::{Disk, File};

use super::error::Result;

/// Writes the bytes `range` of `file` durably to `path`.
pub(crate) fn copy_out(
    disk: &dyn Disk,
    file: &Arc<dyn File>,
    range: Range<u64>,
    path: &Path,
) -> Result<()> {
    let len = range.end.saturating_sub(range.start);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    file.read_exact_at(range.start, &mut bytes)?;
    Ok(disk.durable_write(path, &bytes)?)
}

/// The first of `<prefix>1`, `<prefix>2`, ... that names nothing in `dir` yet.
pub(crate) fn unused_name(disk: &dyn Disk, dir: &Path, prefix: &str) -> Result<String> {
    let mut n = 1_u32;
    loop {
        let name = format!("{prefix}{n}");
        if !disk.exists(&dir.join(&name))? {
            return Ok(name);
        }
        n += 1;
    }
}

/// Writes the bytes `from..to` of `file` again as they are. After a sync that failed they may be
/// what the cache shows and not what is on the disk, and count as clean: only what is written
/// again is written at all. Of an acknowledged commit nothing changes, whatever is torn.
pub(crate) fn write_again(file: &Arc<dyn File>, from: u64, to: u64) -> Result<()> {
    const CHUNK: u64 = 1 << 20;
    let mut at = from;
    while at < to {
        let next = to.min(at + CHUNK);
        let mut bytes = vec![0; usize::try_from(next - at).unwrap_or_default()];
        file.read_exact_at(at, &mut bytes)?;
        file.write_all_at(at, &bytes)?;
        at = next;
    }
    Ok(())
}

/// Whether two files hold the same.
pub(crate) fn same_bytes(one: &Arc<dyn File>, other: &Arc<dyn File>) -> Result<bool> {
    const CHUNK: usize = 256 << 10;
    let len = one.len()?;
    if len != other.len()? {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    while at < len {
        let want = usize::try_from(len - at).unwrap_or(CHUNK).min(CHUNK);
        let (left, right) =
            (left.get_mut(..want).unwrap_or_default(), right.get_mut(..want).unwrap_or_default());
        one.read_exact_at(at, left)?;
        other.read_exact_at(at, right)?;
        if left != right {
            return Ok(false);
        }
        at += want as u64;
    }
    Ok(true)
}
