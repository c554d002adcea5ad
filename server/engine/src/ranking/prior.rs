//! Bonuses that depend on an item alone and not on the words of the query: recency, pin, scope and
//! confidence. A search adds them while it looks at matches, so that what it keeps are the best by
//! the final score and not by BM25, and nothing has to be looked at twice.

use super::Parameters;
use super::boosts::{CONFIDENCE, PINNED, RECENT, RECENT_DAYS};
use crate::ids::{Scope, Timestamp};
use crate::item::Counters;
use crate::item::confidence::{Basis, ConfidenceConfig, NEUTRAL_CONTEXT};

/// What an index knows of an item besides its words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// [`crate::text::id_hash`] of the id.
    pub id_hash: u64,
    /// Time of the last write.
    pub updated_at: Timestamp,
    /// Time of the first version.
    pub created_at: Timestamp,
    /// Pinned.
    pub pinned: bool,
    /// Life time, days.
    pub ttl_days: Option<f64>,
    /// End of life.
    pub expires_at: Option<Timestamp>,
}

impl Known {
    /// What confidence depends on besides counters.
    #[must_use]
    pub const fn basis(&self) -> Basis {
        Basis {
            created_at: self.created_at,
            pinned: self.pinned,
            ttl_days: self.ttl_days,
            expires_at: self.expires_at,
            context_match: NEUTRAL_CONTEXT,
        }
    }
}

/// The bonuses of one scope at one moment.
#[derive(Clone, Copy)]
pub struct Prior<'a> {
    /// Factors.
    parameters: &'a Parameters,
    /// The scope.
    scope: Scope,
    /// The moment.
    now: Timestamp,
    /// How confidence is computed.
    confidence: &'a ConfidenceConfig,
    /// Whether the item with an id hash may have been used or voted on, which the index does not
    /// know.
    counted: &'a (dyn Fn(u64) -> bool + 'a),
    /// The most that the confidence of an item that is not pinned can add.
    most_confidence: f64,
}

impl std::fmt::Debug for Prior<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prior").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<'a> Prior<'a> {
    /// The bonuses of items of `scope` at `now`. `counted` tells by id hash which items may have
    /// counters; `any_counted` whether there are any at all.
    pub fn new(
        parameters: &'a Parameters,
        scope: Scope,
        now: Timestamp,
        confidence: &'a ConfidenceConfig,
        counted: &'a (dyn Fn(u64) -> bool + 'a),
        any_counted: bool,
    ) -> Self {
        // Without counters confidence only falls with time.
        let fresh = Basis {
            created_at: now,
            pinned: false,
            ttl_days: None,
            expires_at: None,
            context_match: NEUTRAL_CONTEXT,
        };
        let most =
            if any_counted { 1.0 } else { fresh.evaluate(&Counters::default(), now, confidence) };
        let most_confidence = (parameters.boosts.confidence * CONFIDENCE * most).max(0.0);
        Self { parameters, scope, now, confidence, counted, most_confidence }
    }

    /// The most that these bonuses are for an item; exactly what they are when it has no counters.
    #[must_use]
    pub fn most(&self, known: &Known) -> f64 {
        let factors = &self.parameters.boosts;
        let confidence = if (self.counted)(known.id_hash) {
            // Votes and uses may push it up to 1, or down.
            f64::from(u8::from(factors.confidence > 0.0))
        } else {
            known.basis().evaluate(&Counters::default(), self.now, self.confidence)
        };
        factors.scope * Parameters::scope_bonus(self.scope)
            + self.recency(known.updated_at)
            + if known.pinned { factors.pinned * PINNED } else { 0.0 }
            + factors.confidence * CONFIDENCE * confidence
    }

    /// The most that these bonuses can be for an item that is not pinned and was written at or
    /// before `newest`.
    #[must_use]
    pub fn bound(&self, newest: Timestamp) -> f64 {
        let factors = &self.parameters.boosts;
        factors.scope * Parameters::scope_bonus(self.scope)
            + self.recency(newest).max(0.0)
            + self.most_confidence
    }

    fn recency(&self, updated_at: Timestamp) -> f64 {
        let age_days = self.now.days_since(updated_at).max(0.0);
        self.parameters.boosts.recent * RECENT * (-age_days / RECENT_DAYS).exp()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ranking::{Signals, score_boosts};

    proptest! {
        #[test]
        fn the_prior_is_what_the_bonuses_add_without_the_query(
            age in 0.0..400.0_f64,
            older in 0.0..400.0_f64,
            pinned in any::<bool>(),
            ttl in proptest::option::of(1.0..100.0_f64),
        ) {
            let now = Timestamp::from_millis(1_700_000_000_000);
            let parameters = Parameters::default();
            let config = ConfidenceConfig::default();
            let known = Known {
                id_hash: 7,
                updated_at: now.plus_days(-age),
                created_at: now.plus_days(-age - older),
                pinned,
                ttl_days: ttl,
                expires_at: ttl.map(|days| now.plus_days(days / 2.0)),
            };
            let prior = Prior::new(&parameters, Scope::Local, now, &config, &|_| false, false);
            let signals = Signals {
                scope: Scope::Local,
                updated_at: known.updated_at,
                pinned,
                confidence: known.basis().evaluate(&Counters::default(), now, &config),
                title_equals: false,
                title_contains: false,
                text_contains: false,
                code_contains: false,
            };
            let sum: f64 = score_boosts(&parameters, &signals, now).map(|(_, value)| value).sum();
            prop_assert!((prior.most(&known) - sum).abs() < 1e-9);
            prop_assert!(pinned || prior.most(&known) <= prior.bound(known.updated_at) + 1e-9);
            let counted = Prior::new(&parameters, Scope::Local, now, &config, &|_| true, true);
            prop_assert!(counted.most(&known) + 1e-9 >= prior.most(&known));
            prop_assert!(pinned || counted.most(&known) <= counted.bound(known.updated_at) + 1e-9);
        }
    }
}
