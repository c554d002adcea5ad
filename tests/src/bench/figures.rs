//! A set of timings, summed up.

use std::time::Duration;

use serde_json::{Value, json};

/// Timings of one kind of operation.
#[derive(Debug, Clone)]
pub struct Figures {
    sorted: Vec<Duration>,
    wall: Duration,
}

impl Figures {
    /// Of `times`, which together took `wall` on the clock.
    pub fn new(mut times: Vec<Duration>, wall: Duration) -> Self {
        times.sort_unstable();
        Self { sorted: times, wall }
    }

    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.sorted.len() as f64 / self.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The time that `percent` of the operations did not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let index = (self.sorted.len() * percent).div_ceil(100).saturating_sub(1);
        self.sorted.get(index).copied().unwrap_or_default()
    }

    /// One line of the table.
    pub fn print(&self, what: &str) {
        println!(
            "  {what:<36} {:>9.0} a second   p50 {:>8.3} ms   p95 {:>8.3} ms   p99 {:>8.3} ms",
            self.rate(),
            millis(self.percentile(50)),
            millis(self.percentile(95)),
            millis(self.percentile(99)),
        );
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        json!({
            "count": self.sorted.len(),
            "perSecond": self.rate(),
            "p50Ms": millis(self.percentile(50)),
            "p95Ms": millis(self.percentile(95)),
            "p99Ms": millis(self.percentile(99)),
        })
    }
}

/// In milliseconds.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let times = (1..=100).rev().map(Duration::from_millis).collect();
        let figures = Figures::new(times, Duration::from_secs(2));
        let found = [1, 50, 95, 99, 100].map(|percent| figures.percentile(percent).as_millis());
        assert_eq!(found, [1, 50, 95, 99, 100]);
        assert!((figures.rate() - 50.0).abs() < 1e-9);
        assert_eq!(Figures::new(Vec::new(), Duration::ZERO).percentile(99), Duration::ZERO);
    }
}
