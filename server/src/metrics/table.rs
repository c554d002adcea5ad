//! Every metric, named once. The registry and the reference page are made from this table.

/// What a metric counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// Name as scraped; counters end in `_total`.
    pub name: &'static str,
    /// What it counts as.
    pub kind: Kind,
    /// Labels.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $constant:ident = $kind:ident $name:literal $labels:expr;)+) => {
        $(
            $(#[doc = $doc])+
            pub const $constant: Definition = Definition {
                name: $name,
                kind: Kind::$kind,
                labels: &$labels,
                help: concat!($($doc),+),
            };
        )+

        /// The whole table, in the order of the reference page.
        pub const ALL: &[Definition] = &[$($constant),+];
    };
}

metrics! {
    /// 1, with the version of the server as label.
    BUILD_INFO = Gauge "llm_memory_build_info" ["version"];
    /// 1 when the server is ready, 0 while it starts or stops.
    READY = Gauge "llm_memory_ready" [];
    /// Time from a `memory.query` to its answer, waiting included, in seconds.
    SEARCH_DURATION = Histogram "llm_memory_search_duration_seconds" [];
    /// Time from any call to its answer, waiting included, in seconds.
    OPERATION_DURATION = Histogram "llm_memory_operation_duration_seconds" ["operation"];
    /// Calls finished; `status` is `ok` or the stable word of the failure.
    OPERATIONS = Counter "llm_memory_operations_total" ["operation", "status"];
    /// Callers not let in, by reason (`missing`, `invalid`, `unmapped`, `locked_out`,
    /// `unavailable`).
    AUTH_FAILURES = Counter "llm_memory_auth_failures_total" ["reason"];
    /// Kubernetes tokens looked at, by how (`authenticated`, `refused`, `unavailable`; `cached`
    /// when the last review still counted).
    TOKEN_REVIEWS = Counter "llm_memory_token_reviews_total" ["result"];
    /// Addresses and tokens locked out now.
    LOCKED_OUT = Gauge "llm_memory_locked_out" [];
    /// Open connections.
    CONNECTIONS = Gauge "llm_memory_connections" ["transport"];
    /// Hits over look-ups since the start; absent until there was a look-up.
    CACHE_HIT_RATE = Gauge "llm_memory_cache_hit_rate" ["cache"];
    /// Bytes held by a cache.
    CACHE_SIZE = Gauge "llm_memory_cache_size_bytes" ["cache"];
    /// Bytes, as compact JSON, of the versions whose bodies lie in blocks, over the bytes on disk
    /// of the blocks; absent while there are none.
    COMPRESSION_RATIO = Gauge "llm_memory_compression_ratio" ["scope"];
    /// Live items; here and in all metrics by scope, those beyond the first 64 together are `other`.
    ITEMS = Gauge "llm_memory_items" ["scope"];
    /// Stored versions.
    VERSIONS = Gauge "llm_memory_versions" ["scope"];
    /// Bytes of the journal on disk.
    JOURNAL_BYTES = Gauge "llm_memory_journal_bytes" ["scope"];
    /// Records in the journal.
    JOURNAL_ENTRIES = Gauge "llm_memory_journal_entries" ["scope"];
    /// Bytes of all stored versions as compact JSON.
    CONTENT_BYTES = Gauge "llm_memory_content_bytes" ["scope"];
    /// Bytes of a view on disk (`catalog`, `text`, `blocks`).
    VIEW_BYTES = Gauge "llm_memory_view_bytes" ["scope", "view"];
    /// Journal records that a view has not made durable yet; they are replayed after a crash.
    VIEW_LAG = Gauge "llm_memory_view_lag_entries" ["scope", "view"];
    /// 1 when a scope refuses writes, or the last one failed.
    READ_ONLY = Gauge "llm_memory_scope_read_only" ["scope"];
    /// Time of one fsync, in seconds.
    FSYNC_DURATION = Histogram "llm_memory_fsync_duration_seconds" [];
    /// When `journal.verify` last found a scope sound, in seconds since 1970; absent until then.
    VERIFY_SUCCESS = Gauge "llm_memory_verify_last_success_timestamp_seconds" ["scope"];
    /// Jobs ended since the start; `kind` names the round of a routine too (`routine-daily`).
    JOBS = Counter "llm_memory_jobs_total" ["kind", "state"];
    /// Jobs that wait for their turn.
    JOBS_PENDING = Gauge "llm_memory_jobs_pending" [];
    /// Jobs at work.
    JOBS_RUNNING = Gauge "llm_memory_jobs_running" [];
    /// When a job of this kind last succeeded, in seconds since 1970; absent until then.
    JOBS_SUCCESS = Gauge "llm_memory_jobs_last_success_timestamp_seconds" ["kind"];
    /// Audit lines lost to a full queue or a failing disk.
    AUDIT_DROPPED = Counter "llm_memory_audit_dropped_total" [];
    /// Log lines lost to a full queue, a failing disk, or a stderr that nobody reads.
    LOG_DROPPED = Counter "llm_memory_log_dropped_total" [];
    /// Size of the data volume in bytes.
    DISK_TOTAL = Gauge "llm_memory_disk_total_bytes" [];
    /// Bytes of the data volume that the server may still use.
    DISK_AVAILABLE = Gauge "llm_memory_disk_available_bytes" [];
    /// CPU time of the process, user and system, in seconds.
    PROCESS_CPU = Counter "process_cpu_seconds_total" [];
    /// Resident memory of the process in bytes.
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" [];
    /// Virtual memory of the process in bytes.
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" [];
    /// Threads of the process.
    PROCESS_THREADS = Gauge "process_threads" [];
    /// Open file descriptors of the process.
    PROCESS_OPEN_FDS = Gauge "process_open_fds" [];
    /// File descriptors that the process may open.
    PROCESS_MAX_FDS = Gauge "process_max_fds" [];
    /// When the process started, in seconds since 1970.
    PROCESS_START = Gauge "process_start_time_seconds" [];
}

/// `docs/metrics.md`.
pub fn markdown() -> String {
    use std::fmt::Write as _;

    let mut out = "# Metrics\n\n\
        <!-- Made from server/src/metrics/table.rs; do not edit. -->\n\n\
        `GET :9090/metrics` answers in the OpenMetrics text format, from figures that are collected\n\
        every two seconds; a scrape never waits for the store. A metric without data is absent.\n\n\
        | name | type | labels | what it says |\n\
        | --- | --- | --- | --- |\n"
        .to_owned();
    for metric in ALL {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            labels.join(", "),
            metric.help.trim()
        )
        .unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_counters_end_in_total() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert_eq!(
                metric.kind == Kind::Counter,
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
            assert!(metric.help.trim().ends_with('.'), "{}", metric.name);
        }
    }
}
