//! A file that is begun anew by size and by day, with old ones removed after some days, or before
//! that when together they take too much space.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llm_memory_disk::{Disk, DiskError, File, OpenMode};
use llm_memory_engine::ids::Timestamp;

use super::names::{self, Day};

/// How the file is named, rotated and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// First part of the names.
    pub stem: &'static str,
    /// Last part of the names, without dot.
    pub extension: &'static str,
    /// True: the file in use carries the day (`audit-20261122.ndjson`). False: it has a fixed name
    /// (`server.log`) and gets the day when it is rotated.
    pub dated: bool,
    /// A file is not written beyond this size, unless one write is larger.
    pub max_bytes: u64,
    /// Days that files are kept.
    pub keep_days: u32,
    /// The oldest files go, however young they are, so that all together stay within this, or
    /// within twice `max_bytes` where that is more: whoever can make the server write lines must
    /// not be able to fill the volume.
    pub max_total_bytes: u64,
}

/// The file in use.
#[derive(Debug)]
pub struct RollingFile {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    policy: Policy,
    file: Arc<dyn File>,
    path: PathBuf,
    len: u64,
    /// Day of the first line in it.
    day: Day,
}

impl RollingFile {
    /// Opens the file to go on with, or begins one. Removes files that are too old.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        policy: Policy,
        now: Timestamp,
    ) -> Result<Self, DiskError> {
        disk.create_dir_all(folder)?;
        let today = names::day_of(now);
        let (path, day) = if policy.dated {
            let number = last_number(&*disk, folder, policy, today)?.unwrap_or(0);
            (folder.join(names::format(policy.stem, today, number, policy.extension)), today)
        } else {
            let name = fixed_name(policy);
            let path = folder.join(&name);
            let day = match modified_on(&*disk, folder, &name)? {
                Some(day) => day,
                None => today,
            };
            (path, day)
        };
        let file = disk.open(&path, OpenMode::Create)?;
        let len = file.len()?;
        let folder = folder.to_path_buf();
        let mut rolling = Self { disk, folder, policy, file, path, len, day };
        rolling.remove_old(now)?;
        if day != today && rolling.len > 0 {
            rolling.rotate(now)?;
        }
        Ok(rolling)
    }

    /// Appends whole lines. Not durable before [`RollingFile::sync`].
    pub fn append(&mut self, lines: &[u8], now: Timestamp) -> Result<(), DiskError> {
        let bytes = lines.len() as u64;
        let full = self.len > 0 && self.len.saturating_add(bytes) > self.policy.max_bytes;
        if full || names::day_of(now) != self.day {
            self.rotate(now)?;
        }
        self.file.write_all_at(self.len, lines)?;
        self.len = self.len.saturating_add(bytes);
        Ok(())
    }

    /// Makes everything appended durable.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.file.sync()
    }

    fn rotate(&mut self, now: Timestamp) -> Result<(), DiskError> {
        self.file.sync()?;
        let today = names::day_of(now);
        let path = if self.policy.dated {
            let number = match last_number(&*self.disk, &self.folder, self.policy, today)? {
                Some(last) => last + 1,
                None => 0,
            };
            self.folder.join(names::format(self.policy.stem, today, number, self.policy.extension))
        } else {
            let current = self.folder.join(fixed_name(self.policy));
            if self.len > 0 {
                let number = last_number(&*self.disk, &self.folder, self.policy, self.day)?
                    .map_or(0, |last| last + 1);
                let name = names::format(self.policy.stem, self.day, number, self.policy.extension);
                self.disk.durable_rename(&current, &self.folder.join(name))?;
            }
            current
        };
        self.file = self.disk.open(&path, OpenMode::Create)?;
        self.len = self.file.len()?;
        self.disk.sync_dir(&self.folder)?;
        self.path = path;
        self.day = today;
        self.remove_old(now)
    }

    fn remove_old(&self, now: Timestamp) -> Result<(), DiskError> {
        let oldest_kept = names::day_of(now.plus_days(-f64::from(self.policy.keep_days)));
        let mut others = Vec::new();
        for entry in self.disk.list(&self.folder)? {
            let path = self.folder.join(&entry.name);
            let age = names::parse(&entry.name, self.policy.stem, self.policy.extension);
            if let Some(age) = age.filter(|_| path != self.path) {
                others.push((age, path, entry.len));
            }
        }
        others.sort_unstable();
        let full = self.policy.max_bytes;
        let most = self.policy.max_total_bytes.max(full.saturating_mul(2));
        // The file in use is counted as it will be, since nobody looks while it grows.
        let mut total = others.iter().fold(full, |sum, (_, _, len)| sum.saturating_add(*len));
        for ((day, _), path, len) in others {
            if day < oldest_kept || total > most {
                self.disk.remove_file(&path)?;
                total = total.saturating_sub(len);
            }
        }
        Ok(())
    }
}

fn fixed_name(policy: Policy) -> String {
    format!("{}.{}", policy.stem, policy.extension)
}

/// The highest number among the files of `day`.
fn last_number(
    disk: &dyn Disk,
    folder: &Path,
    policy: Policy,
    day: Day,
) -> Result<Option<u32>, DiskError> {
    let numbers = disk
        .list(folder)?
        .into_iter()
        .filter_map(|entry| names::parse(&entry.name, policy.stem, policy.extension))
        .filter(|(of, _)| *of == day)
        .map(|(_, number)| number);
    Ok(numbers.max())
}

fn modified_on(disk: &dyn Disk, folder: &Path, name: &str) -> Result<Option<Day>, DiskError> {
    let entry = disk.list(folder)?.into_iter().find(|entry| entry.name == name);
    Ok(entry.map(|entry| {
        let since_epoch =
            entry.modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
        names::day_of(Timestamp::from_millis(i64::try_from(since_epoch).unwrap_or(i64::MAX)))
    }))
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    fn moment(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn names_in(folder: &Path) -> Vec<String> {
        OsDisk.list(folder).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    fn open(folder: &Path, dated: bool, now: Timestamp) -> RollingFile {
        let policy = Policy {
            stem: "audit",
            extension: "ndjson",
            dated,
            max_bytes: 10,
            keep_days: 2,
            max_total_bytes: 35,
        };
        RollingFile::open(Arc::new(OsDisk), folder, policy, now).unwrap()
    }

    #[test]
    fn a_dated_file_is_numbered_by_size_and_renamed_by_day() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = open(folder.path(), true, moment("2026-11-20T10:00:00Z"));
        file.append(b"12345678\n", moment("2026-11-20T10:00:00Z")).unwrap();
        file.append(b"next\n", moment("2026-11-20T10:00:01Z")).unwrap();
        file.append(b"day\n", moment("2026-11-21T00:00:00Z")).unwrap();
        assert_eq!(
            names_in(folder.path()),
            ["audit-20261120.1.ndjson", "audit-20261120.ndjson", "audit-20261121.ndjson"]
        );
    }

    #[test]
    fn reopening_goes_on_with_the_last_file_of_the_day() {
        let folder = tempfile::tempdir().unwrap();
        let now = moment("2026-11-20T10:00:00Z");
        let mut file = open(folder.path(), true, now);
        file.append(b"a\n", now).unwrap();
        drop(file);
        let mut file = open(folder.path(), true, now);
        file.append(b"b\n", now).unwrap();
        assert_eq!(OsDisk.read(&folder.path().join("audit-20261120.ndjson")).unwrap(), b"a\nb\n");
    }

    #[test]
    fn a_file_of_fixed_name_gets_the_day_when_it_is_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let mut file = open(folder.path(), false, now);
        file.append(b"12345678\n", now).unwrap();
        file.append(b"next\n", now).unwrap();
        let rotated = names::format("audit", names::day_of(now), 0, "ndjson");
        assert_eq!(names_in(folder.path()), [rotated, "audit.ndjson".to_owned()]);
        assert_eq!(OsDisk.read(&folder.path().join("audit.ndjson")).unwrap(), b"next\n");
    }

    #[test]
    fn the_oldest_files_make_room_when_all_together_are_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let now = moment("2026-11-20T10:00:00Z");
        let mut file = open(folder.path(), true, now);
        for number in 0..12 {
            file.append(format!("line {number:02}\n").as_bytes(), now).unwrap();
        }
        // Twelve would be 96 bytes: three of 8 and the one in use, which may grow to 10, remain.
        let expected: Vec<String> = [10, 11, 8, 9]
            .map(|number| names::format("audit", 20_261_120, number, "ndjson"))
            .into();
        assert_eq!(names_in(folder.path()), expected);
    }

    #[test]
    fn files_older_than_the_retention_are_removed_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["audit-20261101.ndjson", "audit-20261119.3.ndjson", "notes.txt"] {
            OsDisk.durable_write(&folder.path().join(name), b"x").unwrap();
        }
        drop(open(folder.path(), true, moment("2026-11-20T10:00:00Z")));
        assert_eq!(
            names_in(folder.path()),
            ["audit-20261119.3.ndjson", "audit-20261120.ndjson", "notes.txt"]
        );
    }
}
