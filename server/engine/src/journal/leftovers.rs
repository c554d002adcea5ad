//! Files that the journal begins under another name, when they were not finished.

use std::path::{Path, PathBuf};

use llm_memory_disk::{Disk, Entry, is_temporary_name, remove_leftovers};

use super::error::Result;
use super::segment_name::{ACTIVE, CHECKPOINTS, PARTIAL, SEALED_DIR, SegmentName};
use super::writer::Journal;

/// Removes what a dead process did not finish. Nobody else writes here: the store's lock is ours.
pub(super) fn remove_unfinished(
    disk: &dyn Disk,
    dir: &Path,
    notes: &mut Vec<String>,
) -> Result<()> {
    for folder in ["", SEALED_DIR] {
        let folder = Path::new(folder);
        let mut removed = remove_leftovers(disk, &dir.join(folder))?;
        for entry in disk.list(&dir.join(folder))? {
            if !entry.is_dir && is_partial(folder, &entry.name) {
                disk.remove_file(&dir.join(folder).join(&entry.name))?;
                removed.push(entry.name);
            }
        }
        notes.extend(removed.into_iter().map(|name| {
            format!("removed {}, which was not complete", folder.join(name).display())
        }));
    }
    Ok(())
}

/// Whether `name` in `folder`, relative to the scope's, is that of a file the journal writes
/// before it gets its real name.
fn is_partial(folder: &Path, name: &str) -> bool {
    name.strip_suffix(PARTIAL).is_some_and(|name| {
        if folder == Path::new(SEALED_DIR) {
            SegmentName::parse(name).is_some()
        } else {
            name == ACTIVE
        }
    })
}

impl Journal {
    /// Files that an interrupted write of the journal left behind, relative to the scope's folder,
    /// and their length; removes them if asked to. Nothing that is being written is among them,
    /// except for a [`Rewrite`](super::Rewrite) that is not installed yet.
    pub fn leftovers(&mut self, remove: bool) -> Result<Vec<(PathBuf, u64)>> {
        let shared = self.shared();
        let mut found = Vec::new();
        for folder in ["", SEALED_DIR] {
            let folder = Path::new(folder);
            let path = shared.dir.join(folder);
            let before = found.len();
            for Entry { name, is_dir, len, .. } in shared.disk.list(&path)? {
                let ours = folder == Path::new(SEALED_DIR) || name.contains(CHECKPOINTS);
                let temporary = ours && is_temporary_name(&name);
                if is_dir || !(temporary || is_partial(folder, &name)) {
                    continue;
                }
                if remove {
                    shared.disk.remove_file(&path.join(&name))?;
                }
                found.push((folder.join(name), len));
            }
            if remove && found.len() > before {
                shared.disk.sync_dir(&path)?;
            }
        }
        Ok(found)
    }
}
