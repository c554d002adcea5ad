//! What happened in the last minutes: calls, errors and percentiles, in buckets of some seconds.
//! Bounded: each bucket keeps a fixed number of durations and counts the rest.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

/// How far back the window goes.
pub const LENGTH: Duration = Duration::from_secs(300);
const BUCKET: Duration = Duration::from_secs(10);
/// Durations kept in one bucket; beyond that every further one replaces a pseudo-random one, which
/// keeps the sample fair.
const SAMPLES: usize = 256;

#[derive(Debug, Clone)]
struct Bucket {
    start: Instant,
    calls: u64,
    errors: u64,
    searches: Samples,
    all: Samples,
}

/// A fair sample of durations, in milliseconds.
#[derive(Debug, Clone, Default)]
struct Samples {
    seen: u64,
    kept: Vec<f64>,
}

impl Samples {
    fn add(&mut self, millis: f64) {
        self.seen += 1;
        if self.kept.len() < SAMPLES {
            self.kept.push(millis);
            return;
        }
        let place = usize::try_from(rand::random_range(0..self.seen)).unwrap_or(usize::MAX);
        if let Some(slot) = self.kept.get_mut(place) {
            *slot = millis;
        }
    }
}

/// Figures over a stretch of time.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Seconds the figures cover; less than asked for just after the start.
    pub seconds: f64,
    /// Calls finished.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Failed over finished; absent without calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    /// Median of all calls, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 95th percentile of all calls, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// Searches finished.
    pub searches: u64,
    /// Mean of searches, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_mean_ms: Option<f64>,
    /// Median of searches, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_p50_ms: Option<f64>,
    /// 95th percentile of searches, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_p95_ms: Option<f64>,
}

/// The last minutes.
#[derive(Debug)]
pub struct Window {
    since: Instant,
    buckets: VecDeque<Bucket>,
}

impl Window {
    /// An empty window that begins at `now`.
    pub const fn new(now: Instant) -> Self {
        Self { since: now, buckets: VecDeque::new() }
    }

    /// Adds a finished call.
    pub fn record(&mut self, now: Instant, duration: Duration, failed: bool, is_search: bool) {
        while self.buckets.front().is_some_and(|first| now - first.start > LENGTH + BUCKET) {
            self.buckets.pop_front();
        }
        if self.buckets.back().is_none_or(|last| now - last.start >= BUCKET) {
            self.buckets.push_back(Bucket {
                start: now,
                calls: 0,
                errors: 0,
                searches: Samples::default(),
                all: Samples::default(),
            });
        }
        let Some(bucket) = self.buckets.back_mut() else { return };
        let millis = duration.as_secs_f64() * 1e3;
        bucket.calls += 1;
        bucket.errors += u64::from(failed);
        bucket.all.add(millis);
        if is_search {
            bucket.searches.add(millis);
        }
    }

    /// Figures of the `length` before `now`.
    pub fn figures(&self, now: Instant, length: Duration) -> Figures {
        let length = length.min(LENGTH);
        let recent =
            || self.buckets.iter().filter(|bucket| now.duration_since(bucket.start) <= length);
        let calls = recent().map(|bucket| bucket.calls).sum();
        let errors = recent().map(|bucket| bucket.errors).sum();
        let all = weighted(recent().map(|bucket| &bucket.all));
        let searches = weighted(recent().map(|bucket| &bucket.searches));
        let seconds = length.min(now.duration_since(self.since)).as_secs_f64();
        Figures {
            seconds: round(seconds),
            calls,
            errors,
            error_rate: (calls > 0).then(|| round(errors as f64 / calls as f64)),
            p50_ms: quantile(&all, 0.5),
            p95_ms: quantile(&all, 0.95),
            searches: recent().map(|bucket| bucket.searches.seen).sum(),
            search_mean_ms: mean(&searches),
            search_p50_ms: quantile(&searches, 0.5),
            search_p95_ms: quantile(&searches, 0.95),
        }
    }
}

/// Durations with the number of calls each stands for, sorted.
fn weighted<'a>(samples: impl Iterator<Item = &'a Samples>) -> Vec<(f64, f64)> {
    let mut all: Vec<(f64, f64)> = samples
        .flat_map(|samples| {
            let weight = samples.seen as f64 / samples.kept.len().max(1) as f64;
            samples.kept.iter().map(move |millis| (*millis, weight))
        })
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

fn quantile(sorted: &[(f64, f64)], share: f64) -> Option<f64> {
    let total: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    let mut passed = 0.0;
    let found = sorted.iter().find(|(_, weight)| {
        passed += weight;
        passed >= share * total
    });
    found.or(sorted.last()).map(|(millis, _)| round(*millis))
}

fn mean(sorted: &[(f64, f64)]) -> Option<f64> {
    let total: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    let sum: f64 = sorted.iter().map(|(millis, weight)| millis * weight).sum();
    (total > 0.0).then(|| round(sum / total))
}

fn round(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_recent_counts() {
        let start = Instant::now();
        let mut window = Window::new(start);
        window.record(start, Duration::from_millis(10), true, false);
        let later = start + Duration::from_secs(100);
        for _ in 0..3 {
            window.record(later, Duration::from_millis(20), false, true);
        }
        let recent = window.figures(later, Duration::from_secs(60));
        assert_eq!((recent.calls, recent.errors, recent.searches), (3, 0, 3));
        assert_eq!(recent.error_rate, Some(0.0));
        assert_eq!(recent.search_p95_ms, Some(20.0));
        let all = window.figures(later, LENGTH);
        assert_eq!((all.calls, all.errors), (4, 1));
        assert_eq!(all.error_rate, Some(0.25));
        assert!((all.seconds - 100.0).abs() < 1e-9);
    }

    #[test]
    fn without_calls_there_are_no_rates() {
        let start = Instant::now();
        let figures = Window::new(start).figures(start, LENGTH);
        assert_eq!(figures.error_rate, None);
        assert_eq!(figures.p95_ms, None);
    }

    #[test]
    fn percentiles_are_those_of_the_calls_and_memory_is_bounded() {
        let start = Instant::now();
        let mut window = Window::new(start);
        for millis in 1..=100 {
            window.record(start, Duration::from_millis(millis), false, false);
        }
        let figures = window.figures(start, LENGTH);
        assert_eq!((figures.p50_ms, figures.p95_ms), (Some(50.0), Some(95.0)));
        for _ in 0..10_000 {
            window.record(start, Duration::from_millis(1), false, true);
        }
        assert!(window.buckets.iter().all(|bucket| bucket.all.kept.len() <= SAMPLES));
        assert_eq!(window.figures(start, LENGTH).calls, 10_100);
    }
}
