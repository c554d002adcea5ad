//! The reference system's bonuses, added to BM25. Each is bounded, so that a search knows how far
//! an item it has not looked at could still rise.

use super::Parameters;
use crate::ids::{Scope, Timestamp};

/// What is known of one item besides its BM25.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent observations, not states")]
pub struct Signals {
    /// Scope it lives in.
    pub scope: Scope,
    /// Time of the last write.
    pub updated_at: Timestamp,
    /// Pinned.
    pub pinned: bool,
    /// 0 to 1, at the time of the query.
    pub confidence: f64,
    /// The title is the query, apart from case, accents and punctuation.
    pub title_equals: bool,
    /// The title contains the query as a phrase.
    pub title_contains: bool,
    /// The text contains it.
    pub text_contains: bool,
    /// The code contains it.
    pub code_contains: bool,
}

/// A named bonus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Boost {
    /// The title contains the query.
    Title,
    /// The title is the query.
    ExactMatch,
    /// Text or code contains the query.
    Phrase,
    /// Pinned.
    Pinned,
    /// Written recently.
    Recency,
    /// Scope.
    Scope,
    /// Confidence.
    Confidence,
}

impl Boost {
    /// Name in explanations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::ExactMatch => "exactMatch",
            Self::Phrase => "phrase",
            Self::Pinned => "pinned",
            Self::Recency => "recency",
            Self::Scope => "scope",
            Self::Confidence => "confidence",
        }
    }
}

const TITLE_EQUALS: f64 = 6.0;
const TITLE_CONTAINS: f64 = 3.75;
const TEXT_CONTAINS: f64 = 2.5;
const CODE_CONTAINS: f64 = 1.875;
pub(super) const PINNED: f64 = 2.0;
pub(super) const RECENT: f64 = 2.0;
pub(super) const RECENT_DAYS: f64 = 14.0;
pub(super) const CONFIDENCE: f64 = 3.0;

/// Every bonus of an item at `now`; those that are 0 are left out.
pub fn score_boosts(
    parameters: &Parameters,
    signals: &Signals,
    now: Timestamp,
) -> impl Iterator<Item = (Boost, f64)> {
    let factors = &parameters.boosts;
    let when = |holds: bool, value: f64| if holds { value } else { 0.0 };
    let age_days = now.days_since(signals.updated_at).max(0.0);
    [
        (Boost::ExactMatch, factors.exact_match * when(signals.title_equals, TITLE_EQUALS)),
        (
            Boost::Title,
            factors.title * when(signals.title_contains && !signals.title_equals, TITLE_CONTAINS),
        ),
        (
            Boost::Phrase,
            factors.phrase
                * (when(signals.text_contains, TEXT_CONTAINS)
                    + when(signals.code_contains, CODE_CONTAINS)),
        ),
        (Boost::Pinned, factors.pinned * when(signals.pinned, PINNED)),
        (Boost::Recency, factors.recent * RECENT * (-age_days / RECENT_DAYS).exp()),
        (Boost::Scope, factors.scope * Parameters::scope_bonus(signals.scope)),
        (Boost::Confidence, factors.confidence * CONFIDENCE * signals.confidence.clamp(0.0, 1.0)),
    ]
    .into_iter()
    .filter(|(_, value)| *value != 0.0)
}

/// What an item that nobody has looked at may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MayBe {
    /// Its title may be the query.
    pub titled: bool,
    /// It may contain the query as a phrase.
    pub phrased: bool,
    /// It may be pinned.
    pub pinned: bool,
}

impl Parameters {
    /// The most that bonuses for the words of the query can add to an item; what an item has by
    /// itself is in [`super::Prior`].
    #[must_use]
    pub fn query_bound(&self, may_be: MayBe) -> f64 {
        let factors = &self.boosts;
        let when = |may: bool, most: f64| if may { most.max(0.0) } else { 0.0 };
        let title = when(may_be.phrased, factors.title * TITLE_CONTAINS)
            .max(when(may_be.titled, factors.exact_match * TITLE_EQUALS));
        title + when(may_be.phrased, factors.phrase * (TEXT_CONTAINS + CODE_CONTAINS))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(now: Timestamp) -> Signals {
        Signals {
            scope: Scope::Committed,
            updated_at: now,
            pinned: false,
            confidence: 0.475,
            title_equals: false,
            title_contains: false,
            text_contains: false,
            code_contains: false,
        }
    }

    fn sum(signals: &Signals, now: Timestamp) -> f64 {
        score_boosts(&Parameters::default(), signals, now).map(|(_, value)| value).sum()
    }

    #[test]
    fn bonuses_are_those_of_the_reference_system() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let fresh = plain(now);
        assert!((sum(&fresh, now) - (1.5 + 2.0 + 3.0 * 0.475)).abs() < 1e-12);
        let aged = Signals { updated_at: now.plus_days(-14.0), ..fresh };
        assert!((sum(&aged, now) - (1.5 + 2.0 / std::f64::consts::E + 1.425)).abs() < 1e-12);
        let pinned = Signals { pinned: true, confidence: 0.84, ..fresh };
        assert!((sum(&pinned, now) - (1.5 + 2.0 + 2.0 + 2.52)).abs() < 1e-12);
        let titled = Signals { title_equals: true, title_contains: true, ..fresh };
        assert!((sum(&titled, now) - sum(&fresh, now) - 6.0).abs() < 1e-12);
        let both = Signals { text_contains: true, code_contains: true, ..fresh };
        assert!((sum(&both, now) - sum(&fresh, now) - 4.375).abs() < 1e-12);
        let from_the_future = Signals { updated_at: now.plus_days(30.0), ..fresh };
        assert!((sum(&from_the_future, now) - sum(&fresh, now)).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn no_item_rises_above_the_bound(
            age in 0.0..1e4_f64,
            confidence in 0.0..=1.0_f64,
            phrase in any::<[bool; 4]>(),
        ) {
            let now = Timestamp::from_millis(1_700_000_000_000);
            let without = Signals { updated_at: now.plus_days(-age), confidence, ..plain(now) };
            let signals = Signals {
                title_contains: phrase[0],
                text_contains: phrase[1],
                code_contains: phrase[2],
                title_equals: phrase[3],
                ..without
            };
            let may_be = MayBe {
                titled: phrase[3],
                phrased: phrase[..3].contains(&true),
                pinned: false,
            };
            let bound = Parameters::default().query_bound(may_be);
            prop_assert!(sum(&signals, now) <= sum(&without, now) + bound + 1e-12);
        }
    }
}
