//! Per-scope configuration (`config.json` in a scope's folder): how its items are searched,
//! shared, packed and maintained.
//!
//! A file says only what differs from the defaults. Unknown keys, wrong types and values out of
//! range are errors that name the key by its path; nothing of a bad file takes effect. Keys are
//! camelCase; the snake_case of older configuration files is accepted for every key.

mod parse;
mod settings;

use serde_json::Value;

pub use parse::{ConfigError, Problem};
pub use settings::{Kind, SETTINGS, Setting};

use crate::error::EngineError;
use crate::item::{ConfidenceConfig, ItemType, Sensitivity};

/// Configuration of one scope, complete: what a file leaves out has its default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScopeConfig {
    /// How items are found and ranked.
    pub search: SearchConfig,
    /// What may be shared.
    pub sharing: SharingConfig,
    /// How long items live.
    pub ttl: TtlConfig,
    /// Near-duplicate detection when writing.
    pub duplicates: DuplicatesConfig,
    /// Context packs.
    pub pack: PackConfig,
    /// The prompt `check-memory`.
    pub check_memory: CheckMemoryConfig,
    /// Background work.
    pub maintenance: MaintenanceConfig,
    /// Weights of the confidence formula. Not configurable in the file: confidences of several
    /// scopes are compared with each other.
    pub confidence: ConfidenceConfig,
}

/// How items are found and ranked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SearchConfig {
    /// Word search.
    pub bm25: Bm25Config,
    /// Search by meaning.
    pub vector: VectorConfig,
    /// Query cache.
    pub cache: CacheConfig,
}

/// Parameters of BM25 and of what is added to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bm25Config {
    /// How fast repeated occurrences of a word stop counting. The default 1.2, together with the
    /// default `b`, is the fastest.
    pub k1: f64,
    /// How much long items are held back, 0 to 1.
    pub b: f64,
    /// Strength of the bonuses.
    pub boosts: Boosts,
    /// Weight of each field.
    pub field_weights: FieldWeights,
}

impl Default for Bm25Config {
    fn default() -> Self {
        Self { k1: 1.2, b: 0.75, boosts: Boosts::default(), field_weights: FieldWeights::default() }
    }
}

/// Strength of the bonuses that ranking adds to a BM25 score.
///
/// The values are read as multiples of their defaults: at the default a bonus has the size that
/// the ranking formula gives it, at twice the default twice that size, at 0 it is off. Use
/// [`Boosts::scales`] for the factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boosts {
    /// Query words in the title (phrase in the title).
    pub title: f64,
    /// Pinned items.
    pub pinned: f64,
    /// Recently written items.
    pub recent: f64,
    /// The query is the title, or stands in text or code as it is.
    pub exact_match: f64,
}

impl Default for Boosts {
    fn default() -> Self {
        Self { title: 2.5, pinned: 2.0, recent: 1.3, exact_match: 3.0 }
    }
}

impl Boosts {
    /// Each boost over its default: the factor of the corresponding bonus.
    #[must_use]
    pub fn scales(&self) -> Self {
        let default = Self::default();
        Self {
            title: self.title / default.title,
            pinned: self.pinned / default.pinned,
            recent: self.recent / default.recent,
            exact_match: self.exact_match / default.exact_match,
        }
    }
}

/// Weight of a match in each field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldWeights {
    /// Title.
    pub title: f64,
    /// Tags.
    pub tags: f64,
    /// Names in code.
    pub symbols: f64,
    /// Paths.
    pub files: f64,
    /// Prose.
    pub text: f64,
    /// Code.
    pub code: f64,
}

impl Default for FieldWeights {
    fn default() -> Self {
        Self { title: 5.0, tags: 3.0, symbols: 3.0, files: 2.0, text: 2.0, code: 1.5 }
    }
}

/// Search by meaning.
///
/// These settings are accepted and checked, so that configuration files can be shared between
/// versions; this version has no vector index yet and searches by words only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VectorConfig {
    /// Whether vectors take part.
    pub enabled: bool,
    /// Share of the vector score, 0 to 1.
    pub weight: f64,
    /// Least cosine similarity of a hit, 0 to 1.
    pub threshold: f64,
}

impl Default for VectorConfig {
    fn default() -> Self {
        Self { enabled: false, weight: 0.3, threshold: 0.0 }
    }
}

/// Query cache of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// 0 turns the cache off for the scope; other values leave it on. One cache, bounded in bytes,
    /// serves all scopes.
    pub query_cache_size: u64,
    /// Longest time that a result is kept, seconds. A write ends its life at once.
    pub result_cache_ttl: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { query_cache_size: 1000, result_cache_ttl: 300 }
    }
}

/// What may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharingConfig {
    /// The most sensitive items that a committed scope accepts.
    pub sensitivity: Sensitivity,
}

impl Default for SharingConfig {
    fn default() -> Self {
        Self { sensitivity: Sensitivity::Team }
    }
}

/// How long items live. `None`: for ever.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TtlConfig {
    /// New items that name no `ttlDays`.
    pub default_days: Option<f64>,
    /// The same by type, in the order of [`ItemType::ALL`]; beats `default_days`.
    pub by_type: [Option<f64>; ItemType::ALL.len()],
    /// What `memory.renew` uses when neither the call nor the item says.
    pub renew_days: f64,
}

impl Default for TtlConfig {
    fn default() -> Self {
        Self { default_days: None, by_type: [None; ItemType::ALL.len()], renew_days: 30.0 }
    }
}

impl TtlConfig {
    /// Life time of a new item of type `item_type` that names none, in days.
    #[must_use]
    pub fn for_new(&self, item_type: ItemType) -> Option<f64> {
        let own = ItemType::ALL
            .into_iter()
            .zip(self.by_type)
            .find_map(|(candidate, days)| days.filter(|_| candidate == item_type));
        own.or(self.default_days)
    }
}

/// Near-duplicate detection when writing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DuplicatesConfig {
    /// Whether writes look for near duplicates.
    pub enabled: bool,
    /// Least similarity that is reported, 0.5 to 1.
    pub threshold: f64,
}

impl Default for DuplicatesConfig {
    fn default() -> Self {
        Self { enabled: true, threshold: 0.8 }
    }
}

/// A part of a context pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackSection {
    /// Code.
    Snippets,
    /// Facts, insights, notes, runbooks.
    Facts,
    /// Patterns.
    Patterns,
    /// Settings.
    Configs,
}

impl PackSection {
    /// All sections in their default order.
    pub const ALL: [Self; 4] = [Self::Snippets, Self::Facts, Self::Patterns, Self::Configs];

    /// The word used in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snippets => "snippets",
            Self::Facts => "facts",
            Self::Patterns => "patterns",
            Self::Configs => "configs",
        }
    }
}

/// Context packs: how many entries of each section, and which section takes from the budget
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackConfig {
    /// Most snippets.
    pub snippets: u64,
    /// Most facts.
    pub facts: u64,
    /// Most patterns.
    pub patterns: u64,
    /// Most configs.
    pub configs: u64,
    /// Order in which sections are filled; each section once.
    pub order: [PackSection; 4],
}

impl Default for PackConfig {
    fn default() -> Self {
        Self { snippets: 12, facts: 8, patterns: 6, configs: 6, order: PackSection::ALL }
    }
}

impl PackConfig {
    /// Most entries of `section`.
    #[must_use]
    pub fn cap(&self, section: PackSection) -> usize {
        let cap = match section {
            PackSection::Snippets => self.snippets,
            PackSection::Facts => self.facts,
            PackSection::Patterns => self.patterns,
            PackSection::Configs => self.configs,
        };
        usize::try_from(cap).unwrap_or(usize::MAX)
    }
}

/// The prompt `check-memory`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckMemoryConfig {
    /// Least confidence of a shown item. A new item has 0.475 and one that is never used falls
    /// towards 0.275, so that the default holds back only what was voted down or soon expires.
    pub min_confidence: f64,
    /// Most items shown.
    pub limit: u64,
}

impl Default for CheckMemoryConfig {
    fn default() -> Self {
        Self { min_confidence: 0.25, limit: 10 }
    }
}

/// Background work of a scope. Kept for what comes; nothing reads it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaintenanceConfig {
    /// Writes after which the scope is compacted; 0: never by count.
    pub compact_every: u64,
    /// Time after which a changed scope is compacted, milliseconds; 0: never by time.
    pub compact_interval_ms: u64,
    /// Time after which a changed scope takes a snapshot, milliseconds; 0: never.
    pub snapshot_interval_ms: u64,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self { compact_every: 500, compact_interval_ms: DAY_MS, snapshot_interval_ms: DAY_MS }
    }
}

impl ScopeConfig {
    /// Reads a configuration file: a JSON object with any of the [`SETTINGS`].
    ///
    /// # Errors
    /// Everything that is wrong with it, each with the path of the key.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        parse::parse_text(text)
    }

    /// Reads a configuration that is already JSON.
    ///
    /// # Errors
    /// As [`ScopeConfig::parse`].
    pub fn from_json(value: &Value) -> Result<Self, ConfigError> {
        parse::parse_value(value)
    }

    /// The effective configuration with every setting, in canonical spelling.
    #[must_use]
    pub fn to_json(&self) -> Value {
        parse::to_json(self)
    }

    /// JSON Schema of a configuration file.
    #[must_use]
    pub fn json_schema() -> Value {
        parse::json_schema()
    }
}

impl From<ConfigError> for EngineError {
    fn from(error: ConfigError) -> Self {
        Self::invalid("config", error.to_string())
    }
}
