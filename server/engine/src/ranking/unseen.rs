//! How high an item can rise that a search has left out.

use super::Parameters;
use super::boosts::{CODE_CONTAINS, TEXT_CONTAINS, TITLE_CONTAINS, TITLE_EQUALS};

/// What the items that a search has left out reach at most by BM25 and [`super::Prior`], before
/// bonuses for the words of the query: each kind apart, because items of a kind were looked for on
/// their own. `None`: none of that kind is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unseen {
    /// Any of them that is not pinned.
    pub plain: f64,
    /// Those that are pinned.
    pub pinned: Option<f64>,
    /// Those whose title is the query.
    pub titled: Option<f64>,
    /// Those whose title contains it.
    pub in_title: Option<f64>,
    /// Those whose text contains it.
    pub in_text: Option<f64>,
    /// Those whose code contains it.
    pub in_code: Option<f64>,
}

impl Unseen {
    /// Of items that nothing else is known of.
    #[must_use]
    pub const fn plain(most: f64) -> Self {
        Self {
            plain: most,
            pinned: None,
            titled: None,
            in_title: None,
            in_text: None,
            in_code: None,
        }
    }

    /// Also of items up to `most` that may contain the query anywhere, but are neither pinned nor
    /// titled as it.
    #[must_use]
    pub fn or_phrased(self, most: f64) -> Self {
        let raised = |one: Option<f64>| Some(one.map_or(most, |one| one.max(most)));
        Self {
            plain: self.plain.max(most),
            in_title: raised(self.in_title),
            in_text: raised(self.in_text),
            in_code: raised(self.in_code),
            ..self
        }
    }

    /// The most that bonuses for the words of the query can add to any of them.
    #[must_use]
    pub fn bonus(&self, parameters: &Parameters) -> f64 {
        let factors = &parameters.boosts;
        let bonus = |left_out: Option<f64>, value: f64| {
            if left_out.is_some() { value.max(0.0) } else { 0.0 }
        };
        // An item of one kind may be of every other kind of which some are left out.
        let title = bonus(self.in_title, factors.title * TITLE_CONTAINS)
            .max(bonus(self.titled, factors.exact_match * TITLE_EQUALS));
        title
            + bonus(self.in_text, factors.phrase * TEXT_CONTAINS)
            + bonus(self.in_code, factors.phrase * CODE_CONTAINS)
    }

    /// The highest final score that any of them can have.
    #[must_use]
    pub fn most(&self, parameters: &Parameters) -> f64 {
        let all = self.bonus(parameters);
        let with_words = [self.titled, self.in_title, self.in_text, self.in_code];
        let with_words = with_words.into_iter().flatten().map(|most| most.min(self.plain));
        with_words.chain(self.pinned).map(|most| most + all).fold(self.plain, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kinds_of_which_some_are_left_out_raise_the_bound() {
        let bound = |unseen: Unseen| unseen.most(&Parameters::default());
        let same = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let plain = Unseen::plain(10.0);
        assert!(same(bound(plain), 10.0));
        let low = Unseen { in_text: Some(3.0), ..plain };
        assert!(same(bound(low), 10.0), "with its bonus it stays below the others");
        let high = Unseen { in_text: Some(9.0), ..plain };
        assert!(same(bound(high), 11.5));
        assert!(same(bound(plain.or_phrased(12.0)), 12.0 + 3.75 + 2.5 + 1.875));
        let titled = Unseen { titled: Some(9.0), in_title: Some(2.0), ..plain };
        assert!(same(bound(titled), 15.0));
        let pinned = Unseen { pinned: Some(13.0), in_code: Some(1.0), ..plain };
        assert!(same(bound(pinned), 14.875));
    }
}
