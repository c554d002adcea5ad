//! One line a minute of figures, kept for two months: what reports and forecasts are made from.
//! `reports/metrics-YYYYMMDD.ndjson` in the data folder.

use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::Timestamp;
use serde::Serialize;

use super::window::Figures;
use crate::sink::LineSink;
use crate::sink::rolling::Policy;
use crate::status::Snapshot;

/// Folder of the history in the data folder.
pub const FOLDER: &str = "reports";
/// First part of the names of history files.
pub const STEM: &str = "metrics";
/// Last part of the names of history files.
pub const EXTENSION: &str = "ndjson";

/// Two months, so that a monthly report has a month to compare with.
const KEEP_DAYS: u32 = 62;
/// Far above a day's worth, whatever the number of scopes.
const MAX_BYTES: u64 = 64 << 20;
/// Two months of the longest lines and more.
const MAX_TOTAL_BYTES: u64 = 2 << 30;
/// Scopes listed one by one in a line; the rest is in the totals.
const MAX_SCOPES: usize = 64;

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// When.
    pub ts: Timestamp,
    /// Seconds since the server started.
    pub uptime_seconds: f64,
    /// Calls of the minute before.
    pub calls: Figures,
    /// Resident memory, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// CPU time since the start, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Size of the data volume, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_total_bytes: Option<u64>,
    /// Free on the data volume, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_available_bytes: Option<u64>,
    /// Hit rates since the start, by cache.
    pub cache_hit_rate: std::collections::BTreeMap<&'static str, f64>,
    /// Live items, all scopes.
    pub items: u64,
    /// Bytes of all journals.
    pub journal_bytes: u64,
    /// Bytes of everything that scopes keep on disk.
    pub store_bytes: u64,
    /// Scope by scope, the first ones by name.
    pub scopes: Vec<ScopeLine>,
}

/// One scope in a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopeLine {
    /// Which.
    pub scope: String,
    /// Live items.
    pub items: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Bytes of journal, views and blocks.
    pub store_bytes: u64,
    /// Bytes of all stored versions as compact JSON.
    pub content_bytes: u64,
}

impl Line {
    /// A line of the figures at hand.
    pub fn new(ts: Timestamp, uptime_seconds: f64, calls: Figures, snapshot: &Snapshot) -> Self {
        let mut scopes: Vec<ScopeLine> = snapshot
            .scopes
            .iter()
            .map(|scope| ScopeLine {
                scope: scope.scope.clone(),
                items: scope.items,
                journal_bytes: scope.journal_bytes,
                store_bytes: scope
                    .journal_bytes
                    .saturating_add(scope.catalog_bytes)
                    .saturating_add(scope.index_bytes)
                    .saturating_add(scope.block_bytes),
                content_bytes: scope.content_bytes,
            })
            .collect();
        let total = |of: fn(&ScopeLine) -> u64| scopes.iter().map(of).sum();
        let (items, journal_bytes, store_bytes) = (
            total(|scope| scope.items),
            total(|scope| scope.journal_bytes),
            total(|scope| scope.store_bytes),
        );
        scopes.sort_by(|a, b| a.scope.cmp(&b.scope));
        scopes.truncate(MAX_SCOPES);
        Self {
            ts,
            uptime_seconds: uptime_seconds.round(),
            calls,
            resident_bytes: snapshot.process.resident_bytes,
            cpu_seconds: snapshot.process.cpu_seconds,
            disk_total_bytes: snapshot.disk.map(|disk| disk.total),
            disk_available_bytes: snapshot.disk.map(|disk| disk.available),
            cache_hit_rate: snapshot
                .caches
                .iter()
                .filter_map(|cache| cache.hit_rate().map(|rate| (cache.name, rate)))
                .collect(),
            items,
            journal_bytes,
            store_bytes,
            scopes,
        }
    }
}

/// The open history.
#[derive(Debug)]
pub struct History {
    sink: LineSink,
}

impl History {
    /// Opens the history in the data folder `root`.
    pub fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, DiskError> {
        let policy = Policy {
            stem: STEM,
            extension: EXTENSION,
            dated: true,
            max_bytes: MAX_BYTES,
            keep_days: KEEP_DAYS,
            max_total_bytes: MAX_TOTAL_BYTES,
        };
        LineSink::start(disk, &root.join(FOLDER), policy, "history").map(|sink| Self { sink })
    }

    /// Queues a line.
    pub fn record(&self, line: &Line) {
        if let Ok(bytes) = serde_json::to_vec(line) {
            self.sink.write(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::fixtures;

    #[test]
    fn a_line_adds_up_what_the_scopes_keep() {
        let snapshot = fixtures::busy_snapshot();
        let line = Line::new(Timestamp::from_millis(0), 60.4, Figures::default(), &snapshot);
        assert_eq!(line.items, 10);
        assert_eq!(line.store_bytes, 4000 + 1000 + 500 + 100);
        assert_eq!(line.scopes.len(), 1);
        assert_eq!(line.cache_hit_rate.get("payload"), Some(&0.75));
    }
}
