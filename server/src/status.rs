//! The state of the server, looked at every two seconds by one task and read by everybody else:
//! `/health`, `/metrics` and the history never ask the store themselves, so that they answer at
//! once however busy it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use llm_memory_disk::Space;
use llm_memory_engine::api::ScopeStatus;
use llm_memory_engine::ids::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use crate::jobs::figures::JobFigures;
use crate::maintained::Verdict;
use crate::process::ProcessStats;

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Opening the store, replaying journals.
    Starting,
    /// Answering calls.
    Ready,
    /// Finishing calls before it ends.
    Draining,
}

/// Use of a cache since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheState {
    /// Which one: `payload`, `frame`, `query`.
    pub name: &'static str,
    /// Look-ups answered.
    pub hits: u64,
    /// Look-ups not answered.
    pub misses: u64,
    /// Bytes held.
    pub bytes: u64,
}

impl CacheState {
    /// Hits over look-ups; `None` before the first one.
    pub fn hit_rate(&self) -> Option<f64> {
        let lookups = self.hits.saturating_add(self.misses);
        (lookups > 0).then(|| self.hits as f64 / lookups as f64)
    }
}

/// What was seen at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// When; `None` before the first look.
    pub at: Option<Timestamp>,
    /// Every open scope.
    pub scopes: Vec<ScopeStatus>,
    /// Every cache.
    pub caches: Vec<CacheState>,
    /// The data volume.
    pub disk: Option<Space>,
    /// Bytes of all files of the store; `None` before they were first counted.
    pub used: Option<u64>,
    /// This process.
    pub process: ProcessStats,
    /// Addresses and tokens locked out.
    pub locked_out: usize,
    /// Audit lines lost.
    pub audit_dropped: u64,
    /// Log lines lost.
    pub log_dropped: u64,
    /// When each scope was last found sound by `journal.verify`.
    pub verified: BTreeMap<String, Timestamp>,
    /// What `journal.verify` last found in the whole store; `None` before the first one.
    pub integrity: Option<Verdict>,
    /// Jobs; `None` before the first look.
    pub jobs: Option<JobFigures>,
    /// What could not be looked at, and why.
    pub problems: Vec<String>,
}

/// Where the last snapshot hangs.
#[derive(Debug)]
pub struct Board {
    started: Instant,
    started_at: Timestamp,
    safe_mode: bool,
    phase: AtomicU8,
    snapshot: ArcSwap<Snapshot>,
    /// What is wrong with files that were read, by what they are.
    files: Mutex<BTreeMap<&'static str, Vec<String>>>,
}

impl Board {
    /// The board of a server that starts now.
    pub fn new(safe_mode: bool) -> Self {
        Self {
            started: Instant::now(),
            started_at: Timestamp::now(),
            safe_mode,
            phase: AtomicU8::new(0),
            snapshot: ArcSwap::default(),
            files: Mutex::default(),
        }
    }

    /// When the server started.
    pub const fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Seconds since the server started.
    pub fn uptime_seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Whether the server is in safe mode.
    pub const fn safe_mode(&self) -> bool {
        self.safe_mode
    }

    /// Where the server is in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Moves on in life.
    pub fn set_phase(&self, phase: Phase) {
        let number = match phase {
            Phase::Starting => 0,
            Phase::Ready => 1,
            Phase::Draining => 2,
        };
        self.phase.store(number, Ordering::Release);
    }

    /// The last snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Notes what is wrong with the file `what`, instead of what was.
    pub fn note_file(&self, what: &'static str, problems: Vec<String>) {
        self.files.lock().insert(what, problems);
    }

    /// What is wrong with files, a line each.
    pub fn file_problems(&self) -> Vec<String> {
        let files = self.files.lock();
        let lines = files.iter().flat_map(|(what, problems)| {
            problems.iter().map(move |problem| format!("{what}: {problem}"))
        });
        lines.collect()
    }

    /// Hangs up a new snapshot.
    pub fn post(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }
}

/// Boards for tests.
#[cfg(test)]
pub(crate) mod fixtures {
    use llm_memory_engine::ids::Seq;

    use super::*;

    /// Nothing has been looked at yet.
    pub(crate) fn fresh_board() -> Arc<Board> {
        Arc::new(Board::new(false))
    }

    /// One scope with data everywhere.
    pub(crate) fn busy_snapshot() -> Snapshot {
        Snapshot {
            at: Some(Timestamp::from_millis(1_000)),
            scopes: vec![ScopeStatus {
                scope: "local/web".to_owned(),
                items: 10,
                versions: 12,
                journal_entries: 20,
                journal_bytes: 4000,
                catalog_bytes: 1000,
                index_bytes: 500,
                block_bytes: 100,
                content_bytes: 2000,
                archived_bytes: 1500,
                watermarks: BTreeMap::from([
                    ("catalog".to_owned(), Seq(18)),
                    ("text".to_owned(), Seq(20)),
                ]),
                head_seq: Seq(20),
                read_only: None,
                write_failure: None,
                recovered: Vec::new(),
            }],
            caches: vec![CacheState { name: "payload", hits: 3, misses: 1, bytes: 64 }],
            disk: Some(Space { total: 1000, available: 400 }),
            used: Some(5600),
            process: ProcessStats {
                cpu_seconds: Some(1.5),
                resident_bytes: Some(1 << 20),
                virtual_bytes: Some(1 << 21),
                threads: Some(9),
                open_fds: Some(20),
                max_fds: Some(1024),
            },
            locked_out: 0,
            audit_dropped: 0,
            log_dropped: 0,
            verified: BTreeMap::from([("local/web".to_owned(), Timestamp::from_millis(500_000))]),
            integrity: Some(Verdict::Sound),
            jobs: Some(JobFigures {
                pending: 2,
                last_success: BTreeMap::from([(
                    "verify".to_owned(),
                    Timestamp::from_millis(400_000),
                )]),
                ..JobFigures::default()
            }),
            problems: Vec::new(),
        }
    }

    /// A ready server with [`busy_snapshot`].
    pub(crate) fn busy_board() -> Arc<Board> {
        let board = fresh_board();
        board.set_phase(Phase::Ready);
        board.post(busy_snapshot());
        board
    }
}
