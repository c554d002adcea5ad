//! Deriving the views again beside the ones in use, and removing what is left over.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::millis;
use crate::api::{CleanupResult, MaintenanceResult};
use crate::error::Result;
use crate::ids::{Digest, Scope, ScopeKey};
use crate::progress::{NoProgress, Progress};
use crate::store::open::{derive, generations, mark_complete, remove_failed, remove_others};
use crate::store::replay::{Source, lost_note, replay};
use crate::store::scope::ScopeStore;
use crate::store::status::folder_bytes;

impl ScopeStore {
    pub(super) fn rebuild(&self, progress: &dyn Progress) -> Result<MaintenanceResult> {
        let begun = Instant::now();
        let state = &self.state;
        let root = state.dir.join("views");
        let found = generations(&state.disk, &root)?;
        let next = found.last().map_or(1, |(generation, _)| generation + 1);
        let bytes_before = folder_bytes(&*state.disk, &root)?;
        // A catalog that fails now is no help, and no reason not to derive another.
        let before = state.read().ok();
        let (journal, blocks) = (&state.journal, &*state.blocks);
        let source = Source { journal, blocks, before: before.as_ref() };
        let head = state.journal.head().seq;
        let (views, lost) = derive(
            &state.disk,
            &root,
            next,
            state.cache_bytes,
            &state.options,
            &source,
            head,
            progress,
        )?;
        drop(before);
        if let Some(note) = lost_note(lost) {
            let mut recovered = state.recovered.lock();
            if !recovered.contains(&note) {
                recovered.push(note);
            }
        }
        let views = Arc::new(views);
        let shared = Arc::clone(state);
        let fresh = Arc::clone(&views);
        let below = root.clone();
        let swapped = self.writer.run(move |_| {
            // What was written while the views were derived; the writer is waiting.
            replay(&shared, &fresh, &NoProgress)?;
            // Not earlier: the next start takes the highest complete generation, also where this
            // one did not come into use, and compactions since are noted in the other one alone.
            mark_complete(&shared.disk, &below, next, &shared.options)?;
            shared.catalog_is_well();
            Ok(shared.views.swap(fresh))
        });
        let old = match swapped {
            Ok(old) => old,
            Err(error) => {
                drop(views);
                remove_failed(&state.disk, &root, next);
                return Err(error);
            }
        };
        if let Err(error) = old.text.close() {
            tracing::warn!(%error, "the old text index could not be closed");
        }
        drop(old);
        remove_others(&state.disk, &root, &found, next);
        let mut details = BTreeMap::from([("generation".to_owned(), json!(next))]);
        if lost > 0 {
            let told = format!(
                "{lost} bodies cannot be read, and no view brings them back: what the views knew \
                 of them is kept, journal.verify names them, a backup has them"
            );
            details.insert("unreadableBodies".to_owned(), json!(lost));
            details.insert("errors".to_owned(), json!([told]));
        }
        Ok(MaintenanceResult {
            items: views.catalog.read()?.totals()?.items,
            deleted: 0,
            bytes_before,
            bytes_after: folder_bytes(&*state.disk, &root)?,
            duration_ms: millis(begun),
            details,
        })
    }

    pub(super) fn cleanup(&self, dry_run: bool, progress: &dyn Progress) -> Result<CleanupResult> {
        let state = &self.state;
        let mut result = CleanupResult { dry_run, removed: Vec::new(), bytes: 0 };
        // On the writer's thread, so that no file is taken from under it.
        let unfinished = self.writer.run(move |journal| Ok(journal.leftovers(!dry_run)?))?;
        for (path, len) in unfinished {
            result.removed.push(path.display().to_string());
            result.bytes += len;
        }
        // What belongs to no scope goes with the global one.
        if let Some(root) = state.dir.parent().filter(|_| is_store_wide(&state.key)) {
            for folder in STORE_FOLDERS {
                self.remove_temporary(&root.join(folder), root, &mut result)?;
            }
        }
        let leftovers =
            if dry_run { state.blocks.leftovers()? } else { state.blocks.remove_leftovers()? };
        for leftover in leftovers {
            result.removed.push(format!("blocks/{}", leftover.name));
            result.bytes += leftover.len;
        }
        let root = state.dir.join("views");
        let current = state.views.load().generation;
        for (generation, _) in generations(&state.disk, &root)? {
            if generation != current {
                let path = root.join(generation.to_string());
                result.bytes += folder_bytes(&*state.disk, &path)?;
                result.removed.push(relative(&state.dir, &path));
                if !dry_run {
                    state.disk.remove_dir_all(&path)?;
                }
            }
        }
        let view = state.read()?;
        let mut known = HashSet::new();
        for entry in view.all_versions()? {
            known.insert(Digest::from(entry?.2.hash));
        }
        let unreferenced: HashSet<Digest> =
            state.blocks.digests().filter(|digest| !known.contains(digest)).collect();
        progress.report(0, Some(unreferenced.len() as u64), "unreferenced bodies");
        let named = |digest: &Digest| format!("blocks:{digest}");
        if dry_run {
            result.removed.extend(unreferenced.iter().map(named));
        } else if !unreferenced.is_empty() {
            let before = state.blocks.bytes();
            let done = state.blocks.rewrite_without(&|digest| unreferenced.contains(digest))?;
            for error in &done.errors {
                tracing::warn!(scope = %state.key, error, "unreferenced bodies stay");
            }
            result.removed.extend(done.left_out.iter().map(named));
            result.bytes += before.saturating_sub(state.blocks.bytes());
        }
        result.removed.sort();
        Ok(result)
    }

    /// Removes the temporary files of one folder that nobody can be writing any more; names them
    /// below `root`.
    fn remove_temporary(
        &self,
        folder: &Path,
        root: &Path,
        result: &mut CleanupResult,
    ) -> Result<()> {
        let disk = &self.state.disk;
        if !disk.exists(folder)? {
            return Ok(());
        }
        for entry in disk.list(folder)? {
            let leftover = [".tmp", ".partial"].iter().any(|end| entry.name.ends_with(end));
            let old = entry.modified.elapsed().is_ok_and(|age| age > STILL_IN_USE);
            if entry.is_dir || !leftover || !old {
                continue;
            }
            let path = folder.join(&entry.name);
            result.removed.push(relative(root, &path));
            result.bytes += entry.len;
            if !result.dry_run {
                disk.remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Folders of the store that no scope cleans: its own, and those of its server.
const STORE_FOLDERS: [&str; 5] = ["", "run", "reports", "logs", "audit"];
/// Files there are written beside maintenance, and are temporary for moments.
const STILL_IN_USE: Duration = Duration::from_hours(1);

/// Whether this is the scope that is there once a store.
fn is_store_wide(key: &ScopeKey) -> bool {
    key.scope == Scope::Global && key.tenant.is_none()
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
