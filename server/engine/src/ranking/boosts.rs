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

pub(super) const TITLE_EQUALS: f64 = 6.0;
pub(super) const TITLE_CONTAINS: f64 = 3.75;
pub(super) const TEXT_CONTAINS: f64 = 2.5;
pub(super) const CODE_CONTAINS: f64 = 1.875;
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

#[cfg(test)]
mod tests {
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
}
