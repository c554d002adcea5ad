//! Disk space and fsync speed, memory, file descriptors, clock.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use llm_memory_disk::{Disk, OpenMode};
use llm_memory_engine::ids::Timestamp;

use super::Finding;
use crate::cli::render::bytes_text;
use crate::config::Config;
use crate::health::{MAX_DISK_PERCENT, used_percent};
use crate::process;

/// Below this much free space writes will soon be refused.
const MIN_SPACE: u64 = 128 << 20;
/// Fsyncs measured.
const SYNCS: usize = 16;
/// An fsync slower than this makes every write slow.
const SLOW_SYNC: Duration = Duration::from_millis(20);
/// Memory that the server needs besides its caches.
const BASE_MEMORY: u64 = 256 << 20;
/// Descriptors below which many scopes and clients run into the limit.
const MIN_FILES: u64 = 4096;
/// The first day of the project; a clock before it is wrong.
const FIRST_DAY_MILLIS: i64 = 1_767_225_600_000;

/// Looks at the machine.
pub(super) fn check(disk: &dyn Disk, config: &Config) -> Vec<Finding> {
    let place = existing(disk, &config.data_dir);
    let mut findings = vec![space(disk, &place), memory(disk, config), files(disk)];
    findings.push(if place == config.data_dir {
        sync_speed(disk, &place)
    } else {
        Finding::ok(
            "fsync",
            format!("not measured: {} does not exist yet", config.data_dir.display()),
        )
    });
    findings.push(clock(disk, &config.data_dir, SystemTime::now()));
    findings
}

/// `path`, or the nearest folder above it that exists.
fn existing(disk: &dyn Disk, path: &Path) -> PathBuf {
    path.ancestors()
        .find(|folder| disk.exists(folder).unwrap_or(false))
        .map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

fn space(disk: &dyn Disk, place: &Path) -> Finding {
    const CHECK: &str = "disk space";
    const REMEDY: &str = "enlarge the volume, or free space: prune, compact, remove old backups";
    match disk.space(place) {
        Err(error) => Finding::warning(CHECK, error.to_string(), "mount the volume"),
        Ok(space) => {
            let used = used_percent(space.total, space.available);
            let message = format!(
                "{} free of {}, {used} % used",
                bytes_text(space.available),
                bytes_text(space.total)
            );
            if space.available < MIN_SPACE {
                Finding::critical(CHECK, message, REMEDY)
            } else if used > MAX_DISK_PERCENT {
                Finding::warning(CHECK, message, REMEDY)
            } else {
                Finding::ok(CHECK, message)
            }
        }
    }
}

fn memory(disk: &dyn Disk, config: &Config) -> Finding {
    const CHECK: &str = "memory";
    let options = config.engine_options();
    let caches = options.cache_bytes + options.payload_cache_bytes + options.frame_cache_bytes;
    let needed = caches + BASE_MEMORY;
    match process::memory(disk) {
        None => Finding::warning(CHECK, "cannot be measured here", "check it by hand"),
        Some((total, available)) => {
            let message = format!(
                "{} available of {}; the caches may take {}",
                bytes_text(available),
                bytes_text(total),
                bytes_text(caches)
            );
            if available < needed {
                Finding::warning(
                    CHECK,
                    message,
                    "lower --cache-size-mb, --payload-cache-mb and --frame-cache-mb, or give the \
                     server more memory",
                )
            } else {
                Finding::ok(CHECK, message)
            }
        }
    }
}

fn files(disk: &dyn Disk) -> Finding {
    const CHECK: &str = "file descriptors";
    match process::sample(disk).max_fds {
        Some(max) if max < MIN_FILES => Finding::warning(
            CHECK,
            format!("only {max} may be open"),
            format!("raise the limit to {MIN_FILES} or more (ulimit -n, LimitNOFILE=)"),
        ),
        Some(max) => Finding::ok(CHECK, format!("{max} may be open")),
        None => Finding::ok(CHECK, "no limit known"),
    }
}

fn sync_speed(disk: &dyn Disk, root: &Path) -> Finding {
    const CHECK: &str = "fsync";
    // The ending is that of a temporary file, so that a leftover of a killed doctor is cleaned up.
    let path = root.join("doctor.tmp");
    let measured = (|| {
        let file = disk.open(&path, OpenMode::Create)?;
        let mut times = Vec::with_capacity(SYNCS);
        for index in 0..SYNCS {
            let start = Instant::now();
            file.write_all_at(index as u64 * 4096, &[0x5a; 4096])?;
            file.sync()?;
            times.push(start.elapsed());
        }
        Ok::<_, llm_memory_disk::DiskError>(times)
    })();
    let removed = disk.remove_file(&path);
    let times = match measured.and_then(|times| removed.map(|()| times)) {
        Ok(times) => times,
        Err(error) => {
            return Finding::critical(
                CHECK,
                error.to_string(),
                format!("let this user write {}", root.display()),
            );
        }
    };
    let mut sorted = times;
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let message = format!("median of {SYNCS}: {:.2} ms", median.as_secs_f64() * 1e3);
    if median > SLOW_SYNC {
        Finding::warning(
            CHECK,
            message,
            "every durable write waits for an fsync: use a faster volume (local SSD, or one with a \
             write-back cache that survives power loss)",
        )
    } else {
        Finding::ok(CHECK, message)
    }
}

fn clock(disk: &dyn Disk, root: &Path, now: SystemTime) -> Finding {
    const CHECK: &str = "clock";
    const REMEDY: &str = "set the clock and keep it right (systemd-timesyncd, chrony)";
    let shown = Timestamp::now();
    if shown.as_millis() < FIRST_DAY_MILLIS {
        return Finding::critical(CHECK, format!("it says {shown}"), REMEDY);
    }
    let newest = disk
        .list(root)
        .ok()
        .and_then(|entries| entries.into_iter().map(|entry| entry.modified).max());
    match newest.and_then(|newest| newest.duration_since(now).ok()) {
        Some(ahead) if ahead > Duration::from_secs(300) => Finding::warning(
            CHECK,
            format!("it says {shown}, but files in {} are newer", root.display()),
            REMEDY,
        ),
        _ => Finding::ok(CHECK, format!("it says {shown}")),
    }
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;
    use crate::doctor::Level;

    #[test]
    fn the_speed_test_leaves_nothing_behind_and_names_a_folder_it_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let finding = sync_speed(&OsDisk, folder.path());
        assert!(finding.message.starts_with("median of 16: "), "{finding:?}");
        assert_eq!(OsDisk.list(folder.path()).unwrap(), []);
        let missing = sync_speed(&OsDisk, &folder.path().join("missing"));
        assert_eq!(missing.level, Level::Critical);
    }

    #[test]
    fn a_clock_behind_the_files_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        OsDisk.durable_write(&folder.path().join("x"), b"").unwrap();
        let now = SystemTime::now();
        assert_eq!(clock(&OsDisk, folder.path(), now).level, Level::Ok);
        let earlier = now - Duration::from_secs(3600);
        assert_eq!(clock(&OsDisk, folder.path(), earlier).level, Level::Warning);
    }

    #[test]
    fn the_nearest_folder_that_exists_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(existing(&OsDisk, &folder.path().join("a/b")), folder.path());
    }
}
