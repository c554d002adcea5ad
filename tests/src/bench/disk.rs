//! What the disk can do, without any store.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::figures::Figures;

/// Appends 512 bytes and waits for the disk, again and again.
pub(super) fn sync_rate(folder: &Path, period: Duration) -> Result<Figures> {
    let file = File::create(folder.join("sync-rate"))?;
    let (mut times, mut offset) = (Vec::new(), 0);
    let began = Instant::now();
    while began.elapsed() < period {
        let one = Instant::now();
        file.write_all_at(&[b'x'; 512], offset)?;
        file.sync_data()?;
        times.push(one.elapsed());
        offset += 512;
    }
    let wall = began.elapsed();
    std::fs::remove_file(folder.join("sync-rate"))?;
    Ok(Figures::new(times, wall))
}
