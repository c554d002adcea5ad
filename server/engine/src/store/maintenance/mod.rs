//! Long work on a scope. Everything here runs beside reads and writes; the writer's thread is
//! borrowed only for the steps that must see the journal at rest.
//!
//! Each operation is safe to stop at any point: new files are complete and durable before anything
//! points at them, and what an interrupted run leaves behind is removed by the next start or by
//! `maintenance.cleanup`.

mod rebuild;
mod recover;
mod shrink;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::command::{Command, Visibility, Who};
use super::in_flight::InFlight;
use super::read::Reader;
use super::routing::{Access, who};
use super::scope::ScopeStore;
use super::{Engine, contradiction};
use crate::api::{
    Caller, CleanupResult, InclusionProof, JournalMigrateResult, JournalStats, JournalVerifyResult,
    MaintenanceResult, NOTHING_CHECKED, ProveRequest, PruneRequest, PruneResult, PrunedScope,
    ReplayRequest, ScopeRequest, SizeReduction, SnapshotResult, ViewsVerifyResult,
};
use crate::error::{EngineError, Result};
use crate::ids::{Seq, Timestamp};
use crate::journal::{Op, Record};
use crate::progress::Progress;
use shrink::Leaving;
use verify::{checksum, verify_views};

impl Engine {
    /// `journal.verify`: recomputes every hash, by scope.
    pub fn journal_verify(
        &self,
        caller: &Caller,
        request: ScopeRequest,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, JournalVerifyResult>> {
        self.each(caller, request, Access::Read, |scope| {
            let state = &scope.state;
            let view = state.read()?;
            let blocks = state.blocks.afresh();
            let outside = |record: &Record| state.outside(&view, record.hash, &blocks);
            let mut result = state.journal.verify(&outside, progress)?;
            let views = state.views.load_full();
            if let Some(contradiction) = contradiction::find(&views, &state.journal)? {
                result.valid = false;
                result.unsound_count += contradiction.records();
                result.corrupted_items.extend(contradiction.lost(&views)?);
                let score = result.integrity_score.unwrap_or_default();
                let sound = score * result.checked_count as f64;
                result.checked_count += contradiction.records();
                result.integrity_score = Some(sound / result.checked_count as f64);
            }
            if result.integrity_score.is_none() {
                result.note = Some(NOTHING_CHECKED.to_owned());
            }
            Ok(result)
        })
    }

    /// `journal.stats`, by scope.
    pub fn journal_stats(
        &self,
        caller: &Caller,
        request: ScopeRequest,
    ) -> Result<BTreeMap<String, JournalStats>> {
        self.each(caller, request, Access::Read, |scope| {
            let mut stats = scope.state.journal.stats()?;
            stats.block_bytes = scope.state.blocks.bytes();
            stats.archived_bytes = scope.state.blocks.body_bytes();
            Ok(stats)
        })
    }

    /// `journal.prove`: that one version of an item is in the journal.
    pub fn journal_prove(&self, caller: &Caller, request: ProveRequest) -> Result<InclusionProof> {
        let routes = self.readable(caller, request.scope.map(Into::into))?;
        for reader in routes.readers(None)? {
            if request.version.is_none() && reader.find(&request.id)?.is_none() {
                continue;
            }
            if let Some(seq) = provable(&reader, &request)? {
                return Ok(reader.state.journal.prove(seq)?);
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
        self.each(caller, request, Access::Write, |scope| {
            let _alone = scope.alone()?;
            let done = scope.shrink(Leaving::Everything, progress)?;
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
        self.each(caller, request, Access::Write, |scope| {
            let _alone =
                if scope.state.refuses_for_catalog() { scope.turn()? } else { scope.alone()? };
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
        self.each(caller, request, Access::Write, |scope| {
            let _alone = scope.alone()?;
            let begun = Instant::now();
            let mut done = scope.shrink(Leaving::Superseded, progress)?;
            let erased = scope.erase(&who, &mut done.errors, progress)?;
            let details = BTreeMap::from([
                ("segments".to_owned(), json!(done.segments)),
                ("blockSegments".to_owned(), json!(scope.state.blocks.segments())),
                ("erasedBodies".to_owned(), json!(erased)),
                ("damagedBodies".to_owned(), json!(done.damaged)),
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
        self.each(caller, request, Access::Write, |scope| {
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
        self.each(caller, request, Access::Read, |scope| verify_views(&scope.state, progress))
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
        let by_scope = self.each(caller, scopes, Access::Write, |scope| {
            let view = scope.state.read()?;
            let expired = view.expired(Timestamp::now())?.collect::<Result<Vec<_>>>()?;
            let kept = view.totals()?.items.saturating_sub(expired.len() as u64);
            if request.dry_run {
                return Ok(PrunedScope { expired, kept });
            }
            let total = expired.len() as u64;
            let mut pruned = PrunedScope { expired: Vec::with_capacity(expired.len()), kept };
            let mut note = |(id, outcome)| {
                match outcome {
                    Ok(_) => pruned.expired.push(id),
                    // Renewed or deleted since the list was made.
                    Err(EngineError::NotFound { .. }) => pruned.kept += 1,
                    Err(error) => return Err(error),
                }
                progress.report(pruned.expired.len() as u64, Some(total), "items pruned");
                Ok(())
            };
            let mut writes = InFlight::new(&scope.writer);
            for id in expired {
                let who = Who { subject: subject.clone(), visibility: Visibility::all() };
                let (op, if_version, erase) = (Op::Prune, None, false);
                let command = Command::Delete { op, id: id.clone(), if_version, erase, who };
                writes.begin(id, command)?.map_or(Ok(()), &mut note)?;
            }
            std::iter::from_fn(|| writes.end()).try_for_each(&mut note)?;
            Ok(pruned)
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
        self.each(caller, scopes, Access::Write, |scope| {
            let _alone = scope.alone()?;
            scope.cleanup(request.dry_run, progress)
        })
    }

    /// Does `work` on each scope, whether or not it succeeds on the others.
    pub(super) fn each<T>(
        &self,
        caller: &Caller,
        request: ScopeRequest,
        access: Access,
        mut work: impl FnMut(&ScopeStore) -> Result<T>,
    ) -> Result<BTreeMap<String, T>> {
        let mut results = BTreeMap::new();
        let mut failed = Vec::new();
        for (label, scope) in self.administered(caller, request.scope, access)? {
            match scope.and_then(|scope| scope.watch(work(&scope))) {
                Ok(result) => {
                    results.insert(label, result);
                }
                Err(error) => failed.push((label, error)),
            }
        }
        incomplete(failed, results.keys())?;
        Ok(results)
    }
}

/// The record of the version asked for, if that version exists for this reader.
fn provable(reader: &Reader<'_>, request: &ProveRequest) -> Result<Option<Seq>> {
    let Some(latest) = reader.view.item(&request.id)? else { return Ok(None) };
    if !reader.admits_latest(&latest) {
        return Ok(None);
    }
    for entry in reader.view.versions(&request.id, Seq(u64::MAX))? {
        let (seq, version) = entry?;
        if request.version.is_some_and(|wanted| wanted != version.version) {
            continue;
        }
        return Ok(reader.admits_version(&latest, &version)?.then_some(seq));
    }
    Ok(None)
}

impl ScopeStore {
    /// The right to do long work on this scope, for one at a time.
    fn alone(&self) -> Result<parking_lot::MutexGuard<'_, ()>> {
        if let Some(reason) = self.state.refusal() {
            return Err(EngineError::ReadOnly { reason });
        }
        self.turn()
    }

    /// [`ScopeStore::alone`], whether or not writes are refused.
    fn turn(&self) -> Result<parking_lot::MutexGuard<'_, ()>> {
        self.state
            .maintenance
            .try_lock()
            .ok_or(EngineError::Busy { waiting: 1, retry_after_ms: 1000 })
    }
}

/// The error for an operation that failed on some scopes; `done` are the others.
fn incomplete<'a>(
    mut failed: Vec<(String, EngineError)>,
    done: impl Iterator<Item = &'a String>,
) -> Result<()> {
    let done: Vec<&str> = done.map(String::as_str).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let named: Vec<String> =
        failed.iter().map(|(label, error)| format!("{label}: {error}")).collect();
    let (_, first) = failed.swap_remove(0);
    if done.is_empty() && failed.is_empty() {
        return Err(first);
    }
    let done = if done.is_empty() { "no scope".to_owned() } else { done.join(", ") };
    Err(EngineError::Incomplete { failed: named.join("; "), done, code: first.code() })
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
