//! How much an item can be relied on, from its feedback, use, age and origin.
//!
//! Confidence is evaluated when an item is *read*: what is stored are the counters and moments it
//! follows from, so that decay needs no writes and `asOf` gives the confidence of that moment.

use super::{Content, Counters};
use crate::ids::Timestamp;

/// Weights and rates of the formula. The defaults are the reference system's; the weights sum
/// to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfidenceConfig {
    /// Weight of the share of helpful votes.
    pub helpfulness_weight: f64,
    /// Weight of decayed usage.
    pub usage_weight: f64,
    /// Weight of the time since the last use.
    pub recency_weight: f64,
    /// Weight of the match between the item's origin and the reader's place.
    pub context_weight: f64,
    /// Weight of the constant prior (which is one half).
    pub base_weight: f64,
    /// Usage at which its term reaches 1 - 1/e.
    pub usage_scale: f64,
    /// Half-life of recency, days.
    pub recency_half_life_days: f64,
    /// Half-life of usage, days.
    pub usage_half_life_days: f64,
    /// Least confidence of a pinned item before the pin's factor.
    pub pin_floor: f64,
    /// Factor of a pin; the result is at most 1.
    pub pin_factor: f64,
}

impl Default for ConfidenceConfig {
    fn default() -> Self {
        Self {
            helpfulness_weight: 0.35,
            usage_weight: 0.25,
            recency_weight: 0.20,
            context_weight: 0.15,
            base_weight: 0.05,
            usage_scale: 5.0,
            recency_half_life_days: 7.0,
            usage_half_life_days: 14.0,
            pin_floor: 0.8,
            pin_factor: 1.05,
        }
    }
}

/// Everything about an item that its confidence depends on besides the counters: small enough to
/// keep beside an index entry, so that ranking needs no item bodies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Basis {
    /// When the first version was written.
    pub created_at: Timestamp,
    /// Pinned.
    pub pinned: bool,
    /// Life time, days.
    pub ttl_days: Option<f64>,
    /// End of life.
    pub expires_at: Option<Timestamp>,
    /// Match of origin and reader, 0 to 1; [`NEUTRAL_CONTEXT`] when nothing is known.
    pub context_match: f64,
}

/// What the context term is when item or reader says nothing of where it stands.
pub const NEUTRAL_CONTEXT: f64 = 0.5;

impl Basis {
    /// The basis of `content` for a reader whose place is not known.
    #[must_use]
    pub fn of(content: &Content) -> Self {
        Self {
            created_at: content.created_at,
            pinned: content.pinned,
            ttl_days: content.ttl_days,
            expires_at: content.expires_at,
            context_match: NEUTRAL_CONTEXT,
        }
    }

    /// Whether the item's life is over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Confidence at `now`, 0 to 1.
    ///
    /// The weighted sum is scaled by the remaining share of the life time; an expired item has 0;
    /// a pin is applied last and so outweighs everything but expiry.
    #[must_use]
    pub fn evaluate(&self, counters: &Counters, now: Timestamp, config: &ConfidenceConfig) -> f64 {
        if self.is_expired(now) {
            return 0.0;
        }
        let helpful = counters.helpful_count as f64;
        let not_helpful = counters.not_helpful_count as f64;
        let helpfulness = (helpful + 1.0) / (helpful + not_helpful + 2.0);

        let usage = decayed_usage(counters, now, config);
        let familiarity = 1.0 - (-usage / config.usage_scale).exp();

        let last_touched = counters.last_used_at.unwrap_or(self.created_at);
        // A moment in the future (a clock that was set back) counts as now.
        let idle_days = now.days_since(last_touched).max(0.0);
        let recency = (-idle_days / config.recency_half_life_days).exp2();

        let mut confidence = config.helpfulness_weight * helpfulness
            + config.usage_weight * familiarity
            + config.recency_weight * recency
            + config.context_weight * self.context_match
            + config.base_weight * 0.5;

        if let (Some(end), Some(ttl_days)) = (self.expires_at, self.ttl_days)
            && ttl_days > 0.0
        {
            confidence *= (end.days_since(now) / ttl_days).clamp(0.0, 1.0);
        }
        if self.pinned {
            confidence = confidence.max(config.pin_floor) * config.pin_factor;
        }
        confidence.clamp(0.0, 1.0)
    }
}

/// Confidence of an item at `now` for a reader whose place is not known.
#[must_use]
pub fn evaluate(
    content: &Content,
    counters: &Counters,
    now: Timestamp,
    config: &ConfidenceConfig,
) -> f64 {
    Basis::of(content).evaluate(counters, now, config)
}

/// Usage at `now`: it halves every 14 days (by default) since it was last brought up to date.
#[must_use]
pub fn decayed_usage(counters: &Counters, now: Timestamp, config: &ConfidenceConfig) -> f64 {
    let since = counters.decay_updated_at.or(counters.last_used_at);
    let days = since.map_or(0.0, |since| now.days_since(since).max(0.0));
    counters.decayed_usage * (-days / config.usage_half_life_days).exp2()
}

impl Counters {
    /// Counts one use at `now`.
    pub fn record_use(&mut self, now: Timestamp) {
        self.decayed_usage = decayed_usage(self, now, &ConfidenceConfig::default()) + 1.0;
        self.decay_updated_at = Some(now);
        self.last_used_at = Some(now);
        self.reuse_count = self.reuse_count.saturating_add(1);
    }

    /// Counts one vote at `now`.
    pub fn record_vote(&mut self, now: Timestamp, helpful: bool) {
        let count = if helpful { &mut self.helpful_count } else { &mut self.not_helpful_count };
        *count = count.saturating_add(1);
        self.last_feedback_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::fixtures;

    const START: i64 = 1_790_000_000_000;

    fn start() -> Timestamp {
        Timestamp::from_millis(START)
    }

    fn fresh() -> Content {
        fixtures::note("n-1", "a note", start())
    }

    #[track_caller]
    fn assert_confidence(content: &Content, counters: &Counters, now: Timestamp, expected: f64) {
        let found = evaluate(content, counters, now, &ConfidenceConfig::default());
        assert!((found - expected).abs() < 5e-5, "expected {expected}, found {found}");
    }

    #[test]
    fn reference_vectors_hold() {
        let content = fresh();
        assert_confidence(&content, &Counters::default(), start(), 0.475);

        let pinned = Content { pinned: true, ..fresh() };
        assert_confidence(&pinned, &Counters::default(), start(), 0.84);

        let mut used = Counters::default();
        used.record_use(start());
        assert_confidence(&content, &used, start(), 0.5203);

        let mut voted = Counters::default();
        voted.record_vote(start(), true);
        assert_confidence(&content, &voted, start(), 0.5333);
    }

    #[test]
    fn usage_halves_every_fourteen_days() {
        let config = ConfidenceConfig::default();
        let mut counters = Counters::default();
        counters.record_use(start());
        let later = start().plus_days(14.0);
        assert!((decayed_usage(&counters, later, &config) - 0.5).abs() < 1e-9);
        counters.record_use(later);
        assert!((counters.decayed_usage - 1.5).abs() < 1e-9);
        assert_eq!(counters.reuse_count, 2);
        assert!((decayed_usage(&counters, later.plus_days(28.0), &config) - 0.375).abs() < 1e-9);
    }

    #[test]
    fn confidence_decays_between_reads_without_a_write() {
        let content = fresh();
        // Recency has halved after 7 days: .475 - .20 / 2.
        assert_confidence(&content, &Counters::default(), start().plus_days(7.0), 0.375);
    }

    #[test]
    fn expired_items_have_no_confidence_even_when_pinned() {
        let end = start().plus_days(10.0);
        let content =
            Content { ttl_days: Some(10.0), expires_at: Some(end), pinned: true, ..fresh() };
        assert_confidence(&content, &Counters::default(), end, 0.0);
        assert_confidence(&content, &Counters::default(), end.plus_days(-1.0), 0.84);
    }

    #[test]
    fn confidence_falls_with_the_remaining_life_time() {
        let content =
            Content { ttl_days: Some(14.0), expires_at: Some(start().plus_days(14.0)), ..fresh() };
        assert_confidence(&content, &Counters::default(), start(), 0.475);
        // Half of the life is left, recency has halved once.
        assert_confidence(&content, &Counters::default(), start().plus_days(7.0), 0.375 / 2.0);
    }

    #[test]
    fn a_clock_set_back_does_not_raise_confidence() {
        let content = fresh();
        assert_confidence(&content, &Counters::default(), start().plus_days(-30.0), 0.475);
    }
}
