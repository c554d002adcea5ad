//! Turns the last snapshot into samples, at each scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use llm_memory_engine::api::ScopeStatus;
use llm_memory_engine::ids::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::table::{self, Definition, Kind};
use super::{Labels, help};
use crate::status::{Board, Phase};

/// Scopes with series of their own. Callers name projects as they like, and each series is kept by
/// whoever scrapes.
const MAX_SCOPES: usize = 64;
/// The label of all other scopes together.
const OTHER: &str = "other";

/// One figure of a metric.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    definition: Definition,
    labels: Labels,
    value: f64,
}

/// Reads the board.
#[derive(Debug)]
pub(super) struct State {
    board: Arc<Board>,
}

impl State {
    pub(super) const fn new(board: Arc<Board>) -> Self {
        Self { board }
    }
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let samples = samples(&self.board);
        for definition in table::ALL {
            let mut of_metric =
                samples.iter().filter(|sample| sample.definition == *definition).peekable();
            if of_metric.peek().is_none() {
                continue;
            }
            let counter = definition.kind == Kind::Counter;
            let name = definition.name.strip_suffix("_total").unwrap_or(definition.name);
            let kind = if counter { MetricType::Counter } else { MetricType::Gauge };
            let mut metric = encoder.encode_descriptor(name, help(*definition), None, kind)?;
            for sample in of_metric {
                if sample.labels.is_empty() {
                    encode_value(counter, sample.value, metric)?;
                    // A metric without labels has one sample.
                    break;
                }
                let labelled = metric.encode_family(&sample.labels)?;
                encode_value(counter, sample.value, labelled)?;
            }
        }
        Ok(())
    }
}

fn encode_value(counter: bool, value: f64, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    if counter {
        ConstCounter::new(value).encode(encoder)
    } else {
        ConstGauge::new(value).encode(encoder)
    }
}

/// Every figure that there is data for.
fn samples(board: &Board) -> Vec<Sample> {
    let snapshot = board.snapshot();
    let mut out = Samples(Vec::new());
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    out.add(table::BUILD_INFO, version, 1.0);
    out.plain(table::READY, f64::from(u8::from(board.phase() == Phase::Ready)));
    out.plain(table::PROCESS_START, board.started_at().as_millis() as f64 / 1e3);
    if snapshot.at.is_none() {
        return out.0;
    }
    out.plain(table::LOCKED_OUT, snapshot.locked_out as f64);
    out.plain(table::AUDIT_DROPPED, snapshot.audit_dropped as f64);
    out.plain(table::LOG_DROPPED, snapshot.log_dropped as f64);
    let (listed, others) = snapshot.scopes.split_at(snapshot.scopes.len().min(MAX_SCOPES));
    for scope in listed.iter().chain(&together(others)) {
        of_scope(scope, &mut out);
    }
    for cache in &snapshot.caches {
        let label = vec![("cache", cache.name.to_owned())];
        out.add(table::CACHE_SIZE, label.clone(), cache.bytes as f64);
        if let Some(rate) = cache.hit_rate() {
            out.add(table::CACHE_HIT_RATE, label, rate);
        }
    }
    for (scope, when) in verified(&snapshot.verified, others) {
        let label = vec![("scope", scope.to_owned())];
        out.add(table::VERIFY_SUCCESS, label, when.as_millis() as f64 / 1e3);
    }
    if let Some(jobs) = &snapshot.jobs {
        out.plain(table::JOBS_PENDING, jobs.pending as f64);
        out.plain(table::JOBS_RUNNING, jobs.running as f64);
        for (kind, when) in &jobs.last_success {
            let label = vec![("kind", kind.clone())];
            out.add(table::JOBS_SUCCESS, label, when.as_millis() as f64 / 1e3);
        }
    }
    if let Some(disk) = snapshot.disk {
        out.plain(table::DISK_TOTAL, disk.total as f64);
        out.plain(table::DISK_AVAILABLE, disk.available as f64);
    }
    let process = &snapshot.process;
    for (definition, value) in [
        (table::PROCESS_CPU, process.cpu_seconds),
        (table::PROCESS_RESIDENT, process.resident_bytes.map(|value| value as f64)),
        (table::PROCESS_VIRTUAL, process.virtual_bytes.map(|value| value as f64)),
        (table::PROCESS_THREADS, process.threads.map(|value| value as f64)),
        (table::PROCESS_OPEN_FDS, process.open_fds.map(|value| value as f64)),
        (table::PROCESS_MAX_FDS, process.max_fds.map(|value| value as f64)),
    ] {
        if let Some(value) = value {
            out.plain(definition, value);
        }
    }
    out.0
}

fn of_scope(scope: &ScopeStatus, out: &mut Samples) {
    let label = || vec![("scope", scope.scope.clone())];
    for (definition, value) in [
        (table::ITEMS, scope.items),
        (table::VERSIONS, scope.versions),
        (table::JOURNAL_BYTES, scope.journal_bytes),
        (table::JOURNAL_ENTRIES, scope.journal_entries),
        (table::CONTENT_BYTES, scope.content_bytes),
        (table::READ_ONLY, u64::from(scope.read_only.is_some() || scope.write_failure.is_some())),
    ] {
        out.add(definition, label(), value as f64);
    }
    if scope.block_bytes > 0 {
        let ratio = scope.archived_bytes as f64 / scope.block_bytes as f64;
        out.add(table::COMPRESSION_RATIO, label(), ratio);
    }
    for (view, bytes) in [
        ("catalog", scope.catalog_bytes),
        ("text", scope.index_bytes),
        ("blocks", scope.block_bytes),
    ] {
        let mut labels = label();
        labels.push(("view", view.to_owned()));
        out.add(table::VIEW_BYTES, labels, bytes as f64);
    }
    for (view, watermark) in &scope.watermarks {
        let mut labels = label();
        labels.push(("view", view.clone()));
        out.add(table::VIEW_LAG, labels, scope.head_seq.0.saturating_sub(watermark.0) as f64);
    }
}

/// What `scopes` hold, summed up; positions too, so that their differences are sums of lags.
fn together(scopes: &[ScopeStatus]) -> Option<ScopeStatus> {
    let (first, rest) = scopes.split_first()?;
    let mut sum = ScopeStatus { scope: OTHER.to_owned(), ..first.clone() };
    for scope in rest {
        sum.items += scope.items;
        sum.versions += scope.versions;
        sum.journal_entries += scope.journal_entries;
        sum.journal_bytes += scope.journal_bytes;
        sum.catalog_bytes += scope.catalog_bytes;
        sum.index_bytes += scope.index_bytes;
        sum.block_bytes += scope.block_bytes;
        sum.content_bytes += scope.content_bytes;
        sum.archived_bytes += scope.archived_bytes;
        sum.head_seq.0 += scope.head_seq.0;
        for (view, watermark) in &scope.watermarks {
            sum.watermarks.entry(view.clone()).or_default().0 += watermark.0;
        }
        sum.read_only = sum.read_only.or_else(|| scope.read_only.clone());
        sum.write_failure = sum.write_failure.or_else(|| scope.write_failure.clone());
    }
    Some(sum)
}

/// When each scope was last found sound; of `others` together, the longest ago.
fn verified<'a>(
    times: &'a BTreeMap<String, Timestamp>,
    others: &[ScopeStatus],
) -> BTreeMap<&'a str, Timestamp> {
    let others: BTreeSet<&str> = others.iter().map(|scope| scope.scope.as_str()).collect();
    let mut out = BTreeMap::new();
    for (scope, when) in times {
        let label = if others.contains(scope.as_str()) { OTHER } else { scope.as_str() };
        let oldest = out.entry(label).or_insert(*when);
        *oldest = (*oldest).min(*when);
    }
    out
}

struct Samples(Vec<Sample>);

impl Samples {
    fn add(&mut self, definition: Definition, labels: Labels, value: f64) {
        self.0.push(Sample { definition, labels, value });
    }

    fn plain(&mut self, definition: Definition, value: f64) {
        self.add(definition, Vec::new(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::fixtures;

    fn value(samples: &[Sample], definition: Definition, labels: &[(&str, &str)]) -> Option<f64> {
        let found = samples.iter().find(|sample| {
            sample.definition == definition
                && sample.labels.len() == labels.len()
                && sample.labels.iter().zip(labels).all(|(a, b)| a.0 == b.0 && a.1 == b.1)
        });
        found.map(|sample| sample.value)
    }

    #[test]
    fn figures_are_those_of_the_snapshot() {
        let samples = samples(&fixtures::busy_board());
        let scope = ("scope", "local/web");
        assert_eq!(value(&samples, table::COMPRESSION_RATIO, &[scope]), Some(15.0));
        assert_eq!(value(&samples, table::CACHE_HIT_RATE, &[("cache", "payload")]), Some(0.75));
        assert_eq!(value(&samples, table::VIEW_LAG, &[scope, ("view", "catalog")]), Some(2.0));
        // A view has one name in every metric.
        for metric in [table::VIEW_LAG, table::VIEW_BYTES] {
            assert!(value(&samples, metric, &[scope, ("view", "text")]).is_some());
        }
        assert_eq!(value(&samples, table::VERIFY_SUCCESS, &[scope]), Some(500.0));
        assert_eq!(value(&samples, table::READY, &[]), Some(1.0));
    }

    #[test]
    fn a_scope_whose_writes_fail_counts_as_one_that_refuses_them() {
        let board = fixtures::busy_board();
        let figure =
            |board: &Board| value(&samples(board), table::READ_ONLY, &[("scope", "local/web")]);
        assert_eq!(figure(&board), Some(0.0));
        let mut snapshot = fixtures::busy_snapshot();
        snapshot.scopes[0].write_failure = Some("no space left".to_owned());
        board.post(snapshot);
        assert_eq!(figure(&board), Some(1.0));
    }

    #[test]
    fn scopes_beyond_the_first_are_summed_up() {
        let board = fixtures::busy_board();
        let mut snapshot = fixtures::busy_snapshot();
        let scope = snapshot.scopes[0].clone();
        snapshot.verified.clear();
        snapshot.scopes = (0..MAX_SCOPES + 3)
            .map(|number| ScopeStatus { scope: format!("local/p{number:03}"), ..scope.clone() })
            .collect();
        for (number, when) in [("063", 5_000), ("064", 3_000), ("066", 1_000)] {
            let when = Timestamp::from_millis(when);
            snapshot.verified.insert(format!("local/p{number}"), when);
        }
        board.post(snapshot);
        let samples = samples(&board);
        let items = samples.iter().filter(|sample| sample.definition == table::ITEMS).count();
        assert_eq!(items, MAX_SCOPES + 1);
        let other = ("scope", OTHER);
        assert_eq!(value(&samples, table::ITEMS, &[other]), Some(30.0));
        assert_eq!(value(&samples, table::VIEW_LAG, &[other, ("view", "catalog")]), Some(6.0));
        assert_eq!(value(&samples, table::COMPRESSION_RATIO, &[other]), Some(15.0));
        assert_eq!(value(&samples, table::VERIFY_SUCCESS, &[other]), Some(1.0));
        assert_eq!(value(&samples, table::VERIFY_SUCCESS, &[("scope", "local/p063")]), Some(5.0));
    }
}
