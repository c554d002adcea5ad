//! Metrics of the server. Counters and histograms are fed as calls end; everything that describes
//! a state comes from the last [`Snapshot`](crate::status::Snapshot), so that a scrape costs the
//! store nothing.

mod collector;
pub mod history;
pub mod table;
pub mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::status::Board;
use table::Definition;
use window::{Figures, Window};

/// The type of what [`Metrics::render`] answers.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type HistogramFamily = Family<Labels, Histogram, fn() -> Histogram>;

/// From half a millisecond to half a minute, each bound about twice the one before.
const CALL_SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];
/// From the fsync of a battery-backed cache to that of a dying disk.
const FSYNC_SECONDS: [f64; 12] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];

/// The metrics of one process.
pub struct Metrics {
    registry: Registry,
    search: Histogram,
    operation_duration: HistogramFamily,
    operations: Family<Labels, Counter>,
    auth_failures: Family<Labels, Counter>,
    token_reviews: Family<Labels, Counter>,
    connections: Family<Labels, Gauge>,
    fsync: Histogram,
    jobs: Family<Labels, Counter>,
    /// What happened lately, for `/health` and the history.
    window: Mutex<Window>,
}

impl Metrics {
    /// Registers every metric of the table; figures of state are taken from `board`.
    pub fn new(board: Arc<Board>) -> Self {
        let mut registry = Registry::default();
        let search = Histogram::new(CALL_SECONDS);
        let call_histogram: fn() -> Histogram = || Histogram::new(CALL_SECONDS);
        let operation_duration = HistogramFamily::new_with_constructor(call_histogram);
        let operations = Family::<Labels, Counter>::default();
        let auth_failures = Family::<Labels, Counter>::default();
        let token_reviews = Family::<Labels, Counter>::default();
        let connections = Family::<Labels, Gauge>::default();
        let fsync = Histogram::new(FSYNC_SECONDS);
        let jobs = Family::<Labels, Counter>::default();
        register(&mut registry, table::SEARCH_DURATION, search.clone());
        register(&mut registry, table::OPERATION_DURATION, operation_duration.clone());
        register(&mut registry, table::OPERATIONS, operations.clone());
        register(&mut registry, table::AUTH_FAILURES, auth_failures.clone());
        register(&mut registry, table::TOKEN_REVIEWS, token_reviews.clone());
        register(&mut registry, table::CONNECTIONS, connections.clone());
        register(&mut registry, table::FSYNC_DURATION, fsync.clone());
        register(&mut registry, table::JOBS, jobs.clone());
        registry.register_collector(Box::new(collector::State::new(board)));
        Self {
            registry,
            search,
            operation_duration,
            operations,
            auth_failures,
            token_reviews,
            connections,
            fsync,
            jobs,
            window: Mutex::new(Window::new(Instant::now())),
        }
    }

    /// Counts a finished call. `operation` is the name of a known tool, or one word for all that
    /// is not a tool: never a text the caller chose, or labels would grow without bound. `failed`
    /// says whether it counts as an error of the server in [`Metrics::lately`].
    pub fn call_finished(
        &self,
        operation: &str,
        error: Option<&'static str>,
        duration: Duration,
        failed: bool,
        is_search: bool,
    ) {
        let seconds = duration.as_secs_f64();
        let operation = operation.to_owned();
        let status = error.unwrap_or("ok").to_owned();
        let labels = vec![("operation", operation.clone()), ("status", status)];
        self.operations.get_or_create(&labels).inc();
        self.operation_duration.get_or_create(&vec![("operation", operation)]).observe(seconds);
        if is_search {
            self.search.observe(seconds);
        }
        self.window.lock().record(Instant::now(), duration, failed, is_search);
    }

    /// Counts a caller who was not let in.
    pub fn denied(&self, reason: &'static str) {
        self.auth_failures.get_or_create(&vec![("reason", reason.to_owned())]).inc();
    }

    /// Counts a Kubernetes token that was looked at; `result` is one of a few words.
    pub fn token_reviewed(&self, result: &'static str) {
        self.token_reviews.get_or_create(&vec![("result", result.to_owned())]).inc();
    }

    /// Notes the number of open connections.
    pub fn connections(&self, transport: &'static str, open: usize) {
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        self.connections.get_or_create(&vec![("transport", transport.to_owned())]).set(open);
    }

    /// Counts one fsync.
    pub fn synced(&self, duration: Duration) {
        self.fsync.observe(duration.as_secs_f64());
    }

    /// Counts a job that ended.
    pub fn job_ended(&self, kind: &'static str, state: &'static str) {
        let labels = vec![("kind", kind.to_owned()), ("state", state.to_owned())];
        self.jobs.get_or_create(&labels).inc();
    }

    /// Figures of the last `length` (at most [`window::LENGTH`]).
    pub fn lately(&self, length: Duration) -> Figures {
        self.window.lock().figures(Instant::now(), length)
    }

    /// The answer to a scrape.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn register(registry: &mut Registry, definition: Definition, metric: impl Metric) {
    // The registry adds `_total` to counters and a full stop to the help by itself.
    let name = definition.name.strip_suffix("_total").unwrap_or(definition.name);
    registry.register(name, help(definition), metric);
}

fn help(definition: Definition) -> &'static str {
    definition.help.trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::status::fixtures;

    /// `# TYPE name type` of every metric in a scrape.
    fn types(scrape: &str) -> BTreeSet<(String, String)> {
        scrape
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|rest| rest.split_once(' '))
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect()
    }

    #[test]
    fn a_scrape_of_a_busy_server_has_exactly_the_metrics_of_the_table() {
        let metrics = Metrics::new(fixtures::busy_board());
        metrics.call_finished("memory.query", None, Duration::from_millis(3), false, true);
        metrics.denied("invalid");
        metrics.token_reviewed("cached");
        metrics.connections("http", 2);
        metrics.synced(Duration::from_millis(1));
        metrics.job_ended("verify", "succeeded");
        let expected: BTreeSet<(String, String)> = table::ALL
            .iter()
            .map(|metric| {
                let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
                (name.to_owned(), metric.kind.as_str().to_owned())
            })
            .collect();
        assert_eq!(types(&metrics.render()), expected);
    }

    #[test]
    fn figures_without_data_are_absent() {
        let scrape = Metrics::new(fixtures::fresh_board()).render();
        for absent in
            [table::COMPRESSION_RATIO, table::CACHE_HIT_RATE, table::VERIFY_SUCCESS, table::ITEMS]
        {
            assert!(!scrape.contains(absent.name), "{} in\n{scrape}", absent.name);
        }
    }

    #[test]
    fn calls_are_counted_by_operation_and_outcome() {
        let metrics = Metrics::new(fixtures::fresh_board());
        metrics.call_finished("memory.query", None, Duration::from_millis(3), false, true);
        metrics.call_finished(
            "memory.get",
            Some("not_found"),
            Duration::from_millis(1),
            true,
            false,
        );
        let scrape = metrics.render();
        for line in [
            "llm_memory_operations_total{operation=\"memory.query\",status=\"ok\"} 1",
            "llm_memory_operations_total{operation=\"memory.get\",status=\"not_found\"} 1",
            "llm_memory_search_duration_seconds_count 1",
            "llm_memory_search_duration_seconds_bucket{le=\"0.005\"} 1",
            "llm_memory_search_duration_seconds_bucket{le=\"0.002\"} 0",
        ] {
            assert!(scrape.contains(line), "{line} not in\n{scrape}");
        }
        let lately = metrics.lately(Duration::from_secs(60));
        assert_eq!((lately.calls, lately.errors), (2, 1));
    }
}
