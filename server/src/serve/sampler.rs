//! Looks at the store every two seconds and hangs what it sees on the board; writes a line of
//! history every minute.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::Engine;
use llm_memory_engine::ids::Timestamp;
use llm_memory_engine::store::CacheReport;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::auth::Authenticator;
use crate::jobs::JobQueue;
use crate::maintained::Maintained;
use crate::metrics::Metrics;
use crate::metrics::history::{History, Line};
use crate::process;
use crate::status::{Board, CacheState, Snapshot};
use crate::telemetry::Telemetry;
use crate::verified::Verified;

/// How often the store is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// Looks between two lines of history.
const LOOKS_PER_LINE: u32 = 30;
/// Looks between two counts of the folder's bytes, which has to be walked for them.
const LOOKS_PER_COUNT: u32 = 15;
/// What a line of history covers.
const LINE_COVERS: Duration = Duration::from_secs(60);

/// Everything a look needs.
#[derive(Debug)]
pub(super) struct Sampler {
    /// The store.
    pub(super) engine: Arc<Engine>,
    /// The disk below it.
    pub(super) disk: Arc<dyn Disk>,
    /// Its folder.
    pub(super) root: PathBuf,
    /// Where the snapshot goes.
    pub(super) board: Arc<Board>,
    /// Where the figures of calls come from.
    pub(super) metrics: Arc<Metrics>,
    /// Who is locked out.
    pub(super) auth: Arc<Authenticator>,
    /// Lines lost.
    pub(super) audit: Audit,
    /// Lines lost.
    pub(super) telemetry: Arc<Telemetry>,
    /// Verifications.
    pub(super) verified: Arc<Verified>,
    /// The last verification and compaction.
    pub(super) maintained: Arc<Maintained>,
    /// Jobs.
    pub(super) jobs: Arc<JobQueue>,
    /// Bytes of the folder when they were last counted.
    pub(super) used: Mutex<Option<u64>>,
    /// The history; none in safe mode, which writes nothing.
    pub(super) history: Option<History>,
}

impl Sampler {
    /// One look; every so often the bytes of the folder are counted too.
    pub(super) fn look(&self, count: bool) {
        let mut problems = Vec::new();
        let mut note = |what: &str, error: &dyn std::fmt::Display| {
            problems.push(format!("{what}: {error}"));
        };
        let scopes = self.engine.status().unwrap_or_else(|error| {
            note("the store does not say what it holds", &error);
            Vec::new()
        });
        for (key, reason) in self.engine.unavailable() {
            note(&format!("the scope {key} cannot be opened"), &reason);
        }
        let caches = cache_states(self.engine.caches());
        let disk = match self.disk.space(&self.root) {
            Ok(space) => Some(space),
            Err(error) => {
                note("the data volume cannot be measured", &error);
                None
            }
        };
        if count {
            match folder_bytes(&*self.disk, &self.root) {
                Ok(bytes) => *self.used.lock() = Some(bytes),
                Err(error) => note("the files of the store cannot be counted", &error),
            }
        }
        if self.history.is_some()
            && let Err(error) = self.verified.save(&*self.disk, &self.root)
        {
            note("the time of the last verification cannot be kept", &error);
        }
        if self.history.is_some()
            && let Err(error) = self.maintained.save(&*self.disk, &self.root)
        {
            note("the last verification and compaction cannot be kept", &error);
        }
        self.board.post(Snapshot {
            at: Some(Timestamp::now()),
            scopes,
            caches,
            disk,
            used: *self.used.lock(),
            process: process::sample(&*self.disk),
            locked_out: self.auth.locked_out(),
            audit_dropped: self.audit.dropped(),
            log_dropped: self.telemetry.dropped(),
            verified: self.verified.times(),
            integrity: self.maintained.last().verification.map(|last| last.verdict),
            jobs: Some(self.jobs.figures()),
            problems,
        });
    }

    /// Writes a line of history.
    fn write_line(&self) {
        if let Some(history) = &self.history {
            let snapshot = self.board.snapshot();
            let calls = self.metrics.lately(LINE_COVERS);
            let uptime = self.board.uptime_seconds();
            history.record(&Line::new(Timestamp::now(), uptime, calls, &snapshot));
        }
    }

    /// Looks again and again until `cancel`.
    pub(super) async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks: u32 = 0;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let count = looks.is_multiple_of(LOOKS_PER_COUNT);
            looks = looks.wrapping_add(1);
            let line_due = looks.is_multiple_of(LOOKS_PER_LINE);
            let sampler = Arc::clone(&self);
            let look = tokio::task::spawn_blocking(move || {
                sampler.look(count);
                if line_due {
                    sampler.write_line();
                }
            });
            if let Err(error) = look.await {
                tracing::error!(%error, "looking at the store failed");
            }
        }
    }
}

/// Bytes of all files in a folder and below; files that come and go meanwhile are no failure.
fn folder_bytes(disk: &dyn Disk, folder: &Path) -> Result<u64, DiskError> {
    let entries = match disk.list(folder) {
        Ok(entries) => entries,
        Err(error) if error.is_not_found() => return Ok(0),
        Err(error) => return Err(error),
    };
    entries.into_iter().try_fold(0_u64, |bytes, entry| {
        let more =
            if entry.is_dir { folder_bytes(disk, &folder.join(&entry.name))? } else { entry.len };
        Ok(bytes.saturating_add(more))
    })
}

fn cache_states(report: CacheReport) -> Vec<CacheState> {
    let of = |name, usage: llm_memory_engine::store::CacheUse| CacheState {
        name,
        hits: usage.hits,
        misses: usage.misses,
        bytes: usage.bytes,
    };
    vec![of("payload", report.payload), of("query", report.query), of("frame", report.frame)]
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    #[test]
    fn the_bytes_of_a_folder_are_those_of_its_files_and_folders() {
        let folder = tempfile::tempdir().unwrap();
        OsDisk.create_dir_all(&folder.path().join("a/b")).unwrap();
        OsDisk.durable_write(&folder.path().join("a/b/c"), b"12345").unwrap();
        OsDisk.durable_write(&folder.path().join("d"), b"123").unwrap();
        assert_eq!(folder_bytes(&OsDisk, folder.path()).unwrap(), 8);
        assert_eq!(folder_bytes(&OsDisk, &folder.path().join("none")).unwrap(), 0);
    }
}
