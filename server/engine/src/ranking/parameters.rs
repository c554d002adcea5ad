//! Everything about ranking that a scope's configuration can change.

use crate::config::SearchConfig;
use crate::ids::Scope;
use crate::text::TextField;

/// Parameters in force for one query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// BM25: how much repetition counts. 1.2 takes the index's fast path together with b = 0.75.
    pub k1: f64,
    /// BM25: how much length counts, 0 to 1.
    pub b: f64,
    /// Weight of each field's BM25.
    pub weights: FieldWeights,
    /// Factors on what is added to BM25.
    pub boosts: BoostFactors,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { k1: 1.2, b: 0.75, weights: FieldWeights::default(), boosts: BoostFactors::default() }
    }
}

/// Weight of each field. Title, tags, text and code are the reference system's; it has none for
/// symbols and files, which name exactly what an item is about and so count like tags and text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldWeights {
    /// Title.
    pub title: f64,
    /// Prose.
    pub text: f64,
    /// Code.
    pub code: f64,
    /// Tags.
    pub tags: f64,
    /// Symbols.
    pub symbols: f64,
    /// Files.
    pub files: f64,
}

impl FieldWeights {
    /// The weight of `field`.
    #[must_use]
    pub const fn of(&self, field: TextField) -> f64 {
        match field {
            TextField::Title => self.title,
            TextField::Text => self.text,
            TextField::Code => self.code,
            TextField::Tags => self.tags,
            TextField::Symbols => self.symbols,
            TextField::Files => self.files,
        }
    }
}

impl Default for FieldWeights {
    fn default() -> Self {
        Self { title: 5.0, text: 2.0, code: 1.5, tags: 3.0, symbols: 3.0, files: 2.0 }
    }
}

/// Factors on the reference system's bonuses: 1 leaves a bonus as it is, 0 switches it off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoostFactors {
    /// The title contains the query (3.75).
    pub title: f64,
    /// The title is the query (6).
    pub exact_match: f64,
    /// Text (2.5) or code (1.875) contains the query as a phrase.
    pub phrase: f64,
    /// Pinned (2).
    pub pinned: f64,
    /// Written recently (2, falling by e every 14 days).
    pub recent: f64,
    /// Scope (committed 1.5, local 1, global 0.5).
    pub scope: f64,
    /// Confidence (3).
    pub confidence: f64,
}

impl Default for BoostFactors {
    fn default() -> Self {
        Self {
            title: 1.0,
            exact_match: 1.0,
            phrase: 1.0,
            pinned: 1.0,
            recent: 1.0,
            scope: 1.0,
            confidence: 1.0,
        }
    }
}

impl From<&SearchConfig> for Parameters {
    fn from(config: &SearchConfig) -> Self {
        let (weights, boosts) = (&config.bm25.field_weights, config.bm25.boosts.scales());
        Self {
            k1: config.bm25.k1,
            b: config.bm25.b,
            weights: FieldWeights {
                title: weights.title,
                text: weights.text,
                code: weights.code,
                tags: weights.tags,
                symbols: weights.symbols,
                files: weights.files,
            },
            boosts: BoostFactors {
                title: boosts.title,
                exact_match: boosts.exact_match,
                phrase: boosts.exact_match,
                pinned: boosts.pinned,
                recent: boosts.recent,
                ..BoostFactors::default()
            },
        }
    }
}

impl Parameters {
    pub(super) const fn scope_bonus(scope: Scope) -> f64 {
        match scope {
            Scope::Committed => 1.5,
            Scope::Local => 1.0,
            Scope::Global => 0.5,
        }
    }

    /// Name and value of every parameter, for explanations.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("k1", self.k1),
            ("b", self.b),
            ("weight.title", self.weights.title),
            ("weight.text", self.weights.text),
            ("weight.code", self.weights.code),
            ("weight.tags", self.weights.tags),
            ("weight.symbols", self.weights.symbols),
            ("weight.files", self.weights.files),
            ("boost.title", self.boosts.title),
            ("boost.exactMatch", self.boosts.exact_match),
            ("boost.phrase", self.boosts.phrase),
            ("boost.pinned", self.boosts.pinned),
            ("boost.recent", self.boosts.recent),
            ("boost.scope", self.boosts.scope),
            ("boost.confidence", self.boosts.confidence),
        ]
        .into_iter()
    }
}
