//! Durations summed up: mean, percentiles, extremes.

use serde::{Deserialize, Serialize};

/// Summary of durations, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Mean.
    pub(crate) mean_ms: f64,
    /// Half were faster.
    pub(crate) p50_ms: f64,
    /// 95 of 100 were faster.
    pub(crate) p95_ms: f64,
    /// 99 of 100 were faster.
    pub(crate) p99_ms: f64,
    /// The fastest.
    pub(crate) min_ms: f64,
    /// The slowest.
    pub(crate) max_ms: f64,
}

impl Latency {
    /// The summary of `millis`; `None` when there are none.
    pub(crate) fn of(millis: &[f64]) -> Option<Self> {
        let mut sorted = millis.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (sorted.first()?, sorted.last()?);
        Some(Self {
            mean_ms: round(sorted.iter().sum::<f64>() / sorted.len() as f64),
            p50_ms: round(percentile(&sorted, 50)?),
            p95_ms: round(percentile(&sorted, 95)?),
            p99_ms: round(percentile(&sorted, 99)?),
            min_ms: round(*min),
            max_ms: round(*max),
        })
    }
}

/// The nearest-rank percentile of sorted values: a value that occurred, never an interpolation.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// To the microsecond, which is finer than what is measured here.
pub(crate) fn round(millis: f64) -> f64 {
    (millis * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "the values are exact")]

    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let millis: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let latency = Latency::of(&millis).unwrap();
        assert_eq!(
            (latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.min_ms, latency.max_ms),
            (50.0, 95.0, 99.0, 1.0, 100.0)
        );
        assert_eq!(latency.mean_ms, 50.5);
        let one = Latency::of(&[7.0]).unwrap();
        assert_eq!((one.p50_ms, one.p99_ms), (7.0, 7.0));
    }

    #[test]
    fn nothing_measured_is_no_data() {
        assert_eq!(Latency::of(&[]), None);
    }
}
