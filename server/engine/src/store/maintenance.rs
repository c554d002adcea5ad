//! Long work on a scope. Everything here runs beside reads and writes; the writer's thread is
//! borrowed only for the steps that must see the journal at rest.
//!
//! Each operation is safe to stop at any point: new files are complete and durable before anything
//! points at them, and what an interrupted run leaves behind is removed by the next start or by
//! `maintenance.cleanup`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use redb::Durability;
use serde_json::{Map, Value, json};

use super::Engine;
use super::command::{Command, Visibility, Who};
use super::open::{Source, derive, generations, remove_others, replay};
use super::routing::who;
use super::scope::{ScopeState, ScopeStore};
use crate::api::{
    Caller, CleanupResult, InclusionProof, JournalMigrateResult, JournalStats, JournalVerifyResult,
    MaintenanceResult, ProveRequest, PruneRequest, PruneResult, PrunedScope, ReplayRequest,
    ScopeRequest, SizeReduction, SnapshotResult, ViewsVerifyResult,
};
use crate::catalog::{Blob, ReadView, Tables, failure};
use crate::error::{EngineError, Result};
use crate::ids::{Digest, Seq, Timestamp};
use crate::journal::{BodyState, Op};
use crate::progress::{NoProgress, Progress};

/// An open segment is sealed for compaction once it holds this much that can go.
const WORTH_SEALING: u64 = 1 << 20;

impl Engine {
    /// `journal.verify`: recomputes every hash, by scope.
    pub fn journal_verify(
        &self,
        caller: &Caller,
        request: ScopeRequest,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, JournalVerifyResult>> {
        self.each(caller, request, |scope| {
            let state = &scope.state;
            let view = state.read()?;
            let outside = |record: &crate::journal::Record| match state.blocks.read(&record.hash) {
                Ok(Some(bytes)) => BodyState::Stored(bytes),
                Ok(None) => match view.blob(record.hash) {
                    Ok(Some(Blob::Erased)) => BodyState::Erased,
                    _ => BodyState::Missing,
                },
                Err(error) => {
                    tracing::warn!(%error, "a block could not be read");
                    BodyState::Missing
                }
            };
            Ok(state.journal.verify(&outside, progress)?)
        })
    }

    /// `journal.stats`, by scope.
    pub fn journal_stats(
        &self,
        caller: &Caller,
        request: ScopeRequest,
    ) -> Result<BTreeMap<String, JournalStats>> {
        self.each(caller, request, |scope| {
            let mut stats = scope.state.journal.stats()?;
            stats.block_bytes = scope.state.blocks.bytes();
            Ok(stats)
        })
    }

    /// `journal.prove`: that one version of an item is in the journal.
    pub fn journal_prove(&self, caller: &Caller, request: ProveRequest) -> Result<InclusionProof> {
        let routes = self.readable(caller, request.scope.map(Into::into))?;
        for reader in routes.readers(None)? {
            if reader.find(&request.id)?.is_none() && request.version.is_none() {
                continue;
            }
            for entry in reader.view.versions(&request.id, Seq(u64::MAX))? {
                let (seq, version) = entry?;
                if request.version.is_none_or(|wanted| wanted == version.version) {
                    return Ok(reader.state.journal.prove(seq)?);
                }
            }
        }
        Err(EngineError::NotFound { id: request.id, scope: routes.names() })
    }

    /// `journal.migrate`: moves every body of the journal into blocks, by scope.
    pub fn journal_migrate(
        &self,
        caller: &Caller,
        request: ScopeRequest,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, JournalMigrateResult>> {
        self.each(caller, request, |scope| {
            let _alone = scope.alone()?;
            let done = scope.shrink(Drop::Everything, progress)?;
            let saved = done.before.saturating_sub(done.after) as f64;
            let percentage =
                if done.before == 0 { 0.0 } else { 100.0 * saved / done.before as f64 };
            Ok(JournalMigrateResult {
                migrated: done.moved,
                errors: done.errors,
                size_reduction: SizeReduction {
                    before: done.before,
                    after: done.after,
                    percentage,
                },
            })
        })
    }

    /// `maintenance.rebuild`: derives every view again, by scope.
    pub fn rebuild(
        &self,
        caller: &Caller,
        request: ScopeRequest,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, MaintenanceResult>> {
        self.each(caller, request, |scope| {
            let _alone = scope.alone()?;
            scope.rebuild(progress)
        })
    }

    /// `maintenance.replay`: checks the whole journal, derives the views from it, and compacts
    /// when asked, by scope.
    pub fn replay(
        &self,
        caller: &Caller,
        request: ReplayRequest,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, MaintenanceResult>> {
        let scopes = ScopeRequest { scope: request.scope };
        let verified = self.journal_verify(caller, scopes.clone(), progress)?;
        let mut results = self.rebuild(caller, scopes.clone(), progress)?;
        if request.compact {
            for (label, compacted) in self.compact(caller, scopes, progress)? {
                if let Some(result) = results.get_mut(&label) {
                    result.deleted = compacted.deleted;
                    result.bytes_after = compacted.bytes_after;
                    result.duration_ms += compacted.duration_ms;
                }
            }
        }
        for (label, report) in verified {
            if let Some(result) = results.get_mut(&label) {
                result.details.insert("checkedCount".to_owned(), json!(report.checked_count));
                result.details.insert("corruptedItems".to_owned(), json!(report.corrupted_items));
            }
        }
        Ok(results)
    }

    /// `maintenance.compact`: moves superseded bodies out of the journal into compressed blocks
    /// and removes erased ones for good, by scope.
    pub fn compact(
        &self,
        caller: &Caller,
        request: ScopeRequest,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, MaintenanceResult>> {
        let who = who(caller);
        self.each(caller, request, |scope| {
            let _alone = scope.alone()?;
            let begun = Instant::now();
            let done = scope.shrink(Drop::Superseded, progress)?;
            let erased = scope.erase(&who, progress)?;
            let details = BTreeMap::from([
                ("segments".to_owned(), json!(done.segments)),
                ("erasedBodies".to_owned(), json!(erased)),
                ("errors".to_owned(), json!(done.errors)),
            ]);
            Ok(MaintenanceResult {
                items: scope.state.read()?.totals()?.items,
                deleted: done.moved + erased,
                bytes_before: done.before,
                bytes_after: scope.stored_bytes(),
                duration_ms: millis(begun),
                details,
            })
        })
    }

    /// `maintenance.snapshot`: makes the views durable and records their checksum, by scope.
    pub fn snapshot(
        &self,
        caller: &Caller,
        request: ScopeRequest,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, SnapshotResult>> {
        self.each(caller, request, |scope| {
            let begun = Instant::now();
            let state = Arc::clone(&scope.state);
            let view = scope.writer.run(move |_| {
                let views = state.views.load_full();
                views.catalog.make_durable()?;
                views.catalog.read()
            })?;
            scope.state.views.load().text.flush()?;
            let totals = view.totals()?;
            let result = SnapshotResult {
                ok: true,
                seq: Seq(totals.seq),
                last_ts: (totals.seq > 0).then(|| Timestamp::from_millis(totals.ts)),
                checksum: checksum(&view, progress)?,
                duration_ms: millis(begun),
            };
            let bytes = serde_json::to_vec(&result).map_err(|error| EngineError::Internal {
                context: "write snapshot.json",
                message: error.to_string(),
            })?;
            scope.state.disk.durable_write(&scope.state.dir.join("snapshot.json"), &bytes)?;
            Ok(result)
        })
    }

    /// `maintenance.verify`: compares the views with the journal, by scope.
    pub fn verify_views(
        &self,
        caller: &Caller,
        request: ScopeRequest,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, ViewsVerifyResult>> {
        self.each(caller, request, |scope| verify_views(&scope.state, progress))
    }

    /// `maintenance.prune`: deletes items whose time to live is over.
    pub fn prune(
        &self,
        caller: &Caller,
        request: PruneRequest,
        progress: &dyn Progress,
    ) -> Result<PruneResult> {
        let subject = caller.subject.clone();
        let scopes = ScopeRequest { scope: request.scope };
        let by_scope = self.each(caller, scopes, |scope| {
            let view = scope.state.read()?;
            let expired = view.expired(Timestamp::now())?;
            let mut kept = view.totals()?.items.saturating_sub(expired.len() as u64);
            let mut gone = Vec::with_capacity(expired.len());
            let total = expired.len() as u64;
            for id in expired {
                progress.report(gone.len() as u64, Some(total), "items pruned");
                if !request.dry_run {
                    let who = Who { subject: subject.clone(), visibility: Visibility::all() };
                    let (op, if_version, erase) = (Op::Prune, None, false);
                    let command = Command::Delete { op, id: id.clone(), if_version, erase, who };
                    match scope.writer.write_waiting(command) {
                        Ok(_) => {}
                        // Renewed or deleted since the list was made.
                        Err(EngineError::NotFound { .. }) => {
                            kept += 1;
                            continue;
                        }
                        Err(error) => return Err(error),
                    }
                }
                gone.push(id);
            }
            Ok(PrunedScope { expired: gone, kept })
        })?;
        Ok(PruneResult {
            dry_run: request.dry_run,
            total_expired: by_scope.values().map(|scope| scope.expired.len() as u64).sum(),
            total_kept: by_scope.values().map(|scope| scope.kept).sum(),
            by_scope,
        })
    }

    /// `maintenance.cleanup`: removes temporary, partial and unreferenced files, by scope. Never
    /// anything that is referenced.
    pub fn cleanup(
        &self,
        caller: &Caller,
        request: PruneRequest,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, CleanupResult>> {
        let scopes = ScopeRequest { scope: request.scope };
        self.each(caller, scopes, |scope| {
            let _alone = scope.alone()?;
            scope.cleanup(request.dry_run, progress)
        })
    }

    fn each<T>(
        &self,
        caller: &Caller,
        request: ScopeRequest,
        mut work: impl FnMut(&ScopeStore) -> Result<T>,
    ) -> Result<BTreeMap<String, T>> {
        let mut results = BTreeMap::new();
        for (label, scope) in self.administered(caller, request.scope)? {
            results.insert(label, work(&scope)?);
        }
        Ok(results)
    }
}

/// Which bodies leave the journal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drop {
    /// Those that are not the latest of a live item.
    Superseded,
    /// All.
    Everything,
}

/// What moving bodies did.
#[derive(Default)]
struct Shrunk {
    segments: u64,
    moved: u64,
    before: u64,
    after: u64,
    errors: Vec<String>,
}

impl ScopeStore {
    /// The right to do long work on this scope, for one at a time.
    fn alone(&self) -> Result<parking_lot::MutexGuard<'_, ()>> {
        if let Some(reason) = self.state.read_only.lock().clone() {
            return Err(EngineError::ReadOnly { reason });
        }
        self.state
            .maintenance
            .try_lock()
            .ok_or(EngineError::Busy { waiting: 1, retry_after_ms: 1000 })
    }

    /// Bytes of journal and blocks.
    fn stored_bytes(&self) -> u64 {
        let journal: u64 = self.state.journal.segments().iter().map(|segment| segment.bytes).sum();
        journal + self.state.blocks.bytes()
    }

    fn rebuild(&self, progress: &dyn Progress) -> Result<MaintenanceResult> {
        let begun = Instant::now();
        let state = &self.state;
        let root = state.dir.join("views");
        let found = generations(&state.disk, &root)?;
        let next = found.last().map_or(1, |(generation, _)| generation + 1);
        let bytes_before = super::status::folder_bytes(&*state.disk, &root)?;
        let source = Source { journal: &state.journal, blocks: &state.blocks };
        let head = state.journal.head().seq;
        let views = Arc::new(derive(
            &state.disk,
            &root,
            next,
            state.cache_bytes,
            &state.options,
            &source,
            head,
            progress,
        )?);
        let shared = Arc::clone(state);
        let fresh = Arc::clone(&views);
        let old = self.writer.run(move |_| {
            // What was written while the views were derived; the writer is waiting.
            replay(&shared, &fresh, &NoProgress)?;
            Ok(shared.views.swap(fresh))
        })?;
        if let Err(error) = old.text.close() {
            tracing::warn!(%error, "the old text index could not be closed");
        }
        drop(old);
        remove_others(&state.disk, &root, &found, next);
        Ok(MaintenanceResult {
            items: views.catalog.read()?.totals()?.items,
            deleted: 0,
            bytes_before,
            bytes_after: super::status::folder_bytes(&*state.disk, &root)?,
            duration_ms: millis(begun),
            details: BTreeMap::from([("generation".to_owned(), json!(next))]),
        })
    }

    /// Moves bodies from sealed segments into blocks.
    fn shrink(&self, what: Drop, progress: &dyn Progress) -> Result<Shrunk> {
        let mut done = Shrunk { before: self.stored_bytes(), ..Shrunk::default() };
        if let Some(open) = self.state.journal.segments().iter().find(|segment| !segment.sealed) {
            let (candidates, bytes) = self.candidates(open.first, open.last, what)?;
            let worth =
                what == Drop::Everything || bytes >= WORTH_SEALING || bytes * 4 >= open.bytes;
            if !candidates.is_empty() && worth {
                self.writer.run(|journal| Ok(journal.seal()?))?;
            }
        }
        let sealed: Vec<_> =
            self.state.journal.segments().into_iter().filter(|segment| segment.sealed).collect();
        let total = sealed.len() as u64;
        for (index, segment) in sealed.into_iter().enumerate() {
            progress.report(index as u64, Some(total), "segments compacted");
            let (leaving, _) = self.candidates(segment.first, segment.last, what)?;
            if leaving.is_empty() {
                continue;
            }
            match self.shrink_segment(segment.first, segment.last, leaving) {
                Ok(moved) => {
                    done.moved += moved;
                    done.segments += 1;
                }
                Err(error @ (EngineError::NoSpace { .. } | EngineError::Closed)) => {
                    return Err(error);
                }
                Err(error) => done.errors.push(format!("segment {}: {error}", segment.first)),
            }
        }
        done.after = self.stored_bytes();
        Ok(done)
    }

    /// Hashes of the bodies in records `first..=last` that may leave the journal, with whether
    /// they are erased, and their bytes.
    fn candidates(
        &self,
        first: Seq,
        last: Seq,
        what: Drop,
    ) -> Result<(HashMap<Digest, bool>, u64)> {
        let view = self.state.read()?;
        let mut found = HashMap::new();
        let mut bytes = 0;
        for change in view.changes(Seq(first.0.saturating_sub(1)), last)? {
            let (seq, _, id) = change?;
            let Some((at, version)) = view.version_at(&id, seq)? else { continue };
            if at != seq || version.deleted {
                continue;
            }
            let hash = version.hash.into();
            let erased = match view.blob(hash)? {
                Some(Blob::Journal { .. }) => false,
                Some(Blob::Erased) => true,
                Some(Blob::Block | Blob::Missing) | None => continue,
            };
            let live = view.item(&id)?.is_some_and(|item| !item.deleted && item.seq == seq);
            if erased || what == Drop::Everything || !live {
                found.insert(hash, erased);
                bytes += u64::from(version.content_bytes);
            }
        }
        // An erased body that is gone already is no reason to rewrite the segment again.
        if found.values().any(|erased| *erased) {
            let present = self.bodies(first, last)?;
            found.retain(|hash, _| present.contains(hash));
        }
        Ok((found, bytes))
    }

    fn bodies(&self, first: Seq, last: Seq) -> Result<HashSet<Digest>> {
        let mut present = HashSet::new();
        for line in self.state.journal.lines(first)? {
            let line = line?;
            if line.record.seq > last {
                break;
            }
            if line.body.is_some() {
                present.insert(line.record.hash);
            }
        }
        Ok(present)
    }

    fn shrink_segment(&self, first: Seq, last: Seq, leaving: HashMap<Digest, bool>) -> Result<u64> {
        let mut writer = self.state.blocks.writer()?;
        let mut moved = 0;
        for line in self.state.journal.lines(first)? {
            let line = line?;
            if line.record.seq > last {
                break;
            }
            let Some((_, body)) = line.body else { continue };
            if leaving.get(&line.record.hash) == Some(&false)
                && !self.state.blocks.contains(&line.record.hash)?
            {
                writer.add(&line.record.id, line.record.hash, &body)?;
                moved += 1;
            }
        }
        writer.finish()?;
        let rewrite =
            self.state.journal.rewrite(first, &mut |record| !leaving.contains_key(&record.hash))?;
        let state = Arc::clone(&self.state);
        self.writer.run(move |journal| {
            let replaced = journal.install(rewrite)?;
            let views = state.views.load_full();
            // Durable before the old generation goes: after a crash the catalog must not point
            // into a file that is no longer there.
            let txn = views.catalog.begin_write(Durability::Immediate)?;
            {
                let mut tables = Tables::open(&txn)?;
                for (hash, at) in &replaced.moved {
                    // A body erased since is not brought back.
                    if tables.blob(*hash)? != Some(Blob::Erased) {
                        tables.set_blob(*hash, Blob::from(*at))?;
                    }
                }
                for hash in &replaced.dropped {
                    if tables.blob(*hash)? != Some(Blob::Erased) {
                        tables.set_blob(*hash, Blob::Block)?;
                    }
                }
            }
            txn.commit().map_err(|error| failure("move bodies in the catalog", error))?;
            journal.retire_generation(first, replaced.generation.saturating_sub(1))?;
            Ok(())
        })?;
        Ok(moved)
    }

    /// Removes erased bodies from blocks and writes down that they are gone.
    fn erase(&self, who: &Who, progress: &dyn Progress) -> Result<u64> {
        let view = self.state.read()?;
        let mut erased = HashSet::new();
        for digest in self.state.blocks.digests() {
            if view.blob(digest)? == Some(Blob::Erased) {
                erased.insert(digest);
            }
        }
        if erased.is_empty() {
            return Ok(0);
        }
        progress.report(0, Some(erased.len() as u64), "bodies erased");
        self.state.blocks.rewrite_without(&|digest: &Digest| erased.contains(digest))?;
        let mut hashes: Vec<String> = erased.iter().map(|digest| digest.to_hex()).collect();
        hashes.sort_unstable();
        let meta = Map::from_iter([("hashes".to_owned(), Value::from(hashes))]);
        self.writer.write_waiting(Command::Note { op: Op::Erase, meta, who: who.clone() })?;
        Ok(erased.len() as u64)
    }

    fn cleanup(&self, dry_run: bool, progress: &dyn Progress) -> Result<CleanupResult> {
        let state = &self.state;
        let mut result = CleanupResult { dry_run, removed: Vec::new(), bytes: 0 };
        let folders = [state.dir.clone(), state.dir.join("journal"), state.dir.join("blocks")];
        for folder in &folders {
            if !state.disk.exists(folder)? {
                continue;
            }
            for entry in state.disk.list(folder)? {
                let leftover = entry.name.ends_with(".tmp") || entry.name.ends_with(".partial");
                if entry.is_dir || !leftover {
                    continue;
                }
                let path = folder.join(&entry.name);
                result.removed.push(relative(&state.dir, &path));
                result.bytes += entry.len;
                if !dry_run {
                    state.disk.remove_file(&path)?;
                }
            }
        }
        let root = state.dir.join("views");
        let current = state.views.load().generation;
        for (generation, _) in generations(&state.disk, &root)? {
            if generation != current {
                let path = root.join(generation.to_string());
                result.bytes += super::status::folder_bytes(&*state.disk, &path)?;
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
        for digest in &unreferenced {
            result.removed.push(format!("blocks:{digest}"));
        }
        if !dry_run && !unreferenced.is_empty() {
            let before = state.blocks.bytes();
            state.blocks.rewrite_without(&|digest: &Digest| unreferenced.contains(digest))?;
            result.bytes += before.saturating_sub(state.blocks.bytes());
        }
        result.removed.sort();
        Ok(result)
    }
}

/// SHA-256 over every item's id, version, hash, state and counters, by id.
fn checksum(view: &ReadView, progress: &dyn Progress) -> Result<Digest> {
    use sha2::{Digest as _, Sha256};
    let mut hasher = Sha256::new();
    let total = view.item_rows()?;
    for (done, entry) in view.items()?.enumerate() {
        let (id, item) = entry?;
        hasher.update((id.as_str().len() as u64).to_le_bytes());
        hasher.update(id.as_str());
        hasher.update(item.version.0.to_le_bytes());
        hasher.update(item.hash().0);
        hasher.update([u8::from(item.deleted)]);
        let counters = item.counters();
        hasher.update(counters.reuse_count.to_le_bytes());
        hasher.update(counters.helpful_count.to_le_bytes());
        hasher.update(counters.not_helpful_count.to_le_bytes());
        hasher.update(counters.decayed_usage.to_le_bytes());
        if done % 10_000 == 0 {
            progress.report(done as u64, Some(total), "items summed");
        }
    }
    Ok(Digest(hasher.finalize().into()))
}

fn verify_views(state: &ScopeState, progress: &dyn Progress) -> Result<ViewsVerifyResult> {
    let views = state.views.load_full();
    let view = views.catalog.read()?;
    let totals = view.totals()?;
    let mut issues = Vec::new();
    let mut live = 0_u64;
    let total = view.item_rows()?;
    for (done, entry) in view.items()?.enumerate() {
        let (id, item) = entry?;
        if done % 1000 == 0 {
            progress.report(done as u64, Some(total), "items checked");
        }
        if item.deleted {
            continue;
        }
        live += 1;
        match state.body(&view, item.hash()) {
            Ok(Some(_)) => {}
            Ok(None) => issues.push(format!("item {id}: its content was erased but it is listed")),
            Err(error) => issues.push(format!("item {id}: {error}")),
        }
    }
    if live != totals.items {
        issues.push(format!("catalog: counts {} items but lists {live}", totals.items));
    }
    views.text.flush()?;
    issues.extend(views.text.verify()?);
    let indexed = views.text.committed_docs();
    // Writes go on while this runs; only a view at rest can be compared by count.
    if state.visible() == Seq(totals.seq) && indexed != live {
        issues.push(format!("text index: holds {indexed} items, the catalog {live}"));
    }
    let path = state.dir.join("snapshot.json");
    let snapshot: Option<SnapshotResult> = if state.disk.exists(&path)? {
        serde_json::from_slice(&state.disk.read(&path)?).ok()
    } else {
        None
    };
    let checksum = checksum(&view, progress)?;
    let snapshot_checksum =
        snapshot.filter(|snapshot| snapshot.seq.0 == totals.seq).map(|snapshot| snapshot.checksum);
    if snapshot_checksum.is_some_and(|expected| expected != checksum) {
        issues.push("catalog: differs from the snapshot of the same journal position".to_owned());
    }
    Ok(ViewsVerifyResult {
        ok: issues.is_empty(),
        checksum,
        snapshot_checksum,
        last_ts: (totals.seq > 0).then(|| Timestamp::from_millis(totals.ts)),
        watermarks: super::status::watermarks(state, &view)?,
        checked_items: live,
        issues,
    })
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
