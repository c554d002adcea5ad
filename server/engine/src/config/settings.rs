//! The table of settings: path, meaning, range, and where each lies in [`ScopeConfig`]. Parsing,
//! printing, the JSON Schema and the reference page all follow from it.

use serde_json::{Value, json};

use super::{PackSection, ScopeConfig};
use crate::item::Sensitivity;

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A number between two bounds, both allowed.
    Number {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// As [`Kind::Number`], or `null` for none.
    OptionalNumber {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// A whole number between two bounds, both allowed.
    Integer {
        /// Least.
        min: u64,
        /// Greatest.
        max: u64,
    },
    /// `true` or `false`.
    Bool,
    /// One of some words.
    Word(&'static [&'static str]),
    /// All of some words, in any order.
    Order(&'static [&'static str]),
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Keys from the top, joined by dots, in canonical spelling.
    pub path: &'static str,
    /// What it means, one sentence.
    pub doc: &'static str,
    /// Allowed values.
    pub kind: Kind,
    pub(super) get: fn(&ScopeConfig) -> Value,
    /// Called only with a value that `kind` admits.
    pub(super) set: fn(&mut ScopeConfig, &Value),
}

impl Setting {
    /// Its default.
    #[must_use]
    pub fn default_value(&self) -> Value {
        (self.get)(&ScopeConfig::default())
    }
}

macro_rules! number {
    ($path:literal, $min:expr, $max:expr, $($field:ident).+, $doc:literal) => {
        Setting {
            path: $path,
            doc: $doc,
            kind: Kind::Number { min: $min, max: $max },
            get: |config| json!(config.$($field).+),
            set: |config, value| {
                if let Some(number) = value.as_f64() {
                    config.$($field).+ = number;
                }
            },
        }
    };
}

macro_rules! integer {
    ($path:literal, $min:expr, $max:expr, $($field:ident).+, $doc:literal) => {
        Setting {
            path: $path,
            doc: $doc,
            kind: Kind::Integer { min: $min, max: $max },
            get: |config| json!(config.$($field).+),
            set: |config, value| {
                if let Some(number) = value.as_u64() {
                    config.$($field).+ = number;
                }
            },
        }
    };
}

macro_rules! switch {
    ($path:literal, $($field:ident).+, $doc:literal) => {
        Setting {
            path: $path,
            doc: $doc,
            kind: Kind::Bool,
            get: |config| json!(config.$($field).+),
            set: |config, value| {
                if let Some(on) = value.as_bool() {
                    config.$($field).+ = on;
                }
            },
        }
    };
}

/// Shortest and longest life time, days; as in the arguments of the tools.
const TTL: Kind = Kind::OptionalNumber { min: 0.001, max: 36_500.0 };

macro_rules! ttl_of_type {
    ($path:literal, $index:literal, $doc:literal) => {
        Setting {
            path: $path,
            doc: $doc,
            kind: TTL,
            get: |config| json!(config.ttl.by_type.get($index).copied().flatten()),
            set: |config, value| {
                if let Some(slot) = config.ttl.by_type.get_mut($index) {
                    *slot = value.as_f64();
                }
            },
        }
    };
}

const SENSITIVITIES: &[&str] = &["public", "team", "private"];
const SECTIONS: &[&str] = &["snippets", "facts", "patterns", "configs"];
const YEAR_MS: u64 = 366 * 24 * 60 * 60 * 1000;

/// Groups and settings that there were, or that the reference server has, and that say nothing
/// here: accepted in a file and passed over.
pub(super) const RETIRED: &[&str] = &["maintenance.indexFlush"];

/// Every setting, in the order in which they are printed.
pub const SETTINGS: &[Setting] = &[
    number!(
        "search.bm25.k1",
        0.0,
        10.0,
        search.bm25.k1,
        "How fast repeated occurrences of a word stop counting; 1.2 is the fastest to compute."
    ),
    number!(
        "search.bm25.b",
        0.0,
        1.0,
        search.bm25.b,
        "How much long items are held back; 0.75 is the fastest to compute."
    ),
    number!(
        "search.bm25.boosts.title",
        0.0,
        100.0,
        search.bm25.boosts.title,
        "Bonus for query words in the title, relative to its default."
    ),
    number!(
        "search.bm25.boosts.pinned",
        0.0,
        100.0,
        search.bm25.boosts.pinned,
        "Bonus for pinned items, relative to its default."
    ),
    number!(
        "search.bm25.boosts.recent",
        0.0,
        100.0,
        search.bm25.boosts.recent,
        "Bonus for recently written items, relative to its default."
    ),
    number!(
        "search.bm25.boosts.exactMatch",
        0.0,
        100.0,
        search.bm25.boosts.exact_match,
        "Bonus for the query as a whole in title, text or code, relative to its default."
    ),
    number!(
        "search.bm25.fieldWeights.title",
        0.0,
        100.0,
        search.bm25.field_weights.title,
        "Weight of a match in the title."
    ),
    number!(
        "search.bm25.fieldWeights.tags",
        0.0,
        100.0,
        search.bm25.field_weights.tags,
        "Weight of a match in the tags."
    ),
    number!(
        "search.bm25.fieldWeights.symbols",
        0.0,
        100.0,
        search.bm25.field_weights.symbols,
        "Weight of a match in the symbols."
    ),
    number!(
        "search.bm25.fieldWeights.files",
        0.0,
        100.0,
        search.bm25.field_weights.files,
        "Weight of a match in the file paths."
    ),
    number!(
        "search.bm25.fieldWeights.text",
        0.0,
        100.0,
        search.bm25.field_weights.text,
        "Weight of a match in the text."
    ),
    number!(
        "search.bm25.fieldWeights.code",
        0.0,
        100.0,
        search.bm25.field_weights.code,
        "Weight of a match in the code."
    ),
    switch!(
        "search.vector.enabled",
        search.vector.enabled,
        "Whether search by meaning takes part. Accepted but without effect in this version, \
         which has no vector index."
    ),
    number!(
        "search.vector.weight",
        0.0,
        1.0,
        search.vector.weight,
        "Share of the vector score. Accepted but without effect in this version."
    ),
    number!(
        "search.vector.threshold",
        0.0,
        1.0,
        search.vector.threshold,
        "Least cosine similarity of a hit. Accepted but without effect in this version."
    ),
    integer!(
        "search.cache.queryCacheSize",
        0,
        1_000_000,
        search.cache.query_cache_size,
        "0 turns the query cache off for the scope; other values leave it on. One cache, bounded in \
         bytes, serves all scopes."
    ),
    integer!(
        "search.cache.resultCacheTtl",
        0,
        86_400,
        search.cache.result_cache_ttl,
        "Longest time that a query result is kept, seconds; a write ends its life at once."
    ),
    Setting {
        path: "sharing.sensitivity",
        doc: "The most sensitive items that a committed scope accepts.",
        kind: Kind::Word(SENSITIVITIES),
        get: |config| json!(config.sharing.sensitivity),
        set: |config, value| {
            config.sharing.sensitivity = match value.as_str() {
                Some("public") => Sensitivity::Public,
                Some("private") => Sensitivity::Private,
                _ => Sensitivity::Team,
            };
        },
    },
    Setting {
        path: "ttl.defaultDays",
        doc: "Life time of new items that name none, days; null: for ever.",
        kind: TTL,
        get: |config| json!(config.ttl.default_days),
        set: |config, value| config.ttl.default_days = value.as_f64(),
    },
    ttl_of_type!("ttl.byType.snippet", 0, "Life time of new snippets that name none, days."),
    ttl_of_type!("ttl.byType.pattern", 1, "Life time of new patterns that name none, days."),
    ttl_of_type!("ttl.byType.config", 2, "Life time of new configs that name none, days."),
    ttl_of_type!("ttl.byType.insight", 3, "Life time of new insights that name none, days."),
    ttl_of_type!("ttl.byType.runbook", 4, "Life time of new runbooks that name none, days."),
    ttl_of_type!("ttl.byType.fact", 5, "Life time of new facts that name none, days."),
    ttl_of_type!("ttl.byType.note", 6, "Life time of new notes that name none, days."),
    number!(
        "ttl.renewDays",
        0.001,
        36_500.0,
        ttl.renew_days,
        "Life time that memory.renew gives when neither the call nor the item says, days."
    ),
    switch!(
        "duplicates.enabled",
        duplicates.enabled,
        "Whether writes look for stored items that say nearly the same."
    ),
    number!(
        "duplicates.threshold",
        0.5,
        1.0,
        duplicates.threshold,
        "Least estimated similarity at which a stored item is reported as near duplicate."
    ),
    integer!("pack.caps.snippets", 0, 200, pack.snippets, "Most snippets in a context pack."),
    integer!("pack.caps.facts", 0, 200, pack.facts, "Most facts in a context pack."),
    integer!("pack.caps.patterns", 0, 200, pack.patterns, "Most patterns in a context pack."),
    integer!("pack.caps.configs", 0, 200, pack.configs, "Most configs in a context pack."),
    Setting {
        path: "pack.order",
        doc: "Order in which the sections of a context pack take from its budget.",
        kind: Kind::Order(SECTIONS),
        get: |config| json!(config.pack.order.map(PackSection::as_str)),
        set: |config, value| {
            let words = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            for (slot, word) in config.pack.order.iter_mut().zip(words) {
                if let Some(section) =
                    PackSection::ALL.into_iter().find(|section| section.as_str() == word)
                {
                    *slot = section;
                }
            }
        },
    },
    number!(
        "checkMemory.minConfidence",
        0.0,
        1.0,
        check_memory.min_confidence,
        "Least confidence of an item that the prompt check-memory shows; new items have 0.475, \
         never used ones fall towards 0.275."
    ),
    integer!(
        "checkMemory.limit",
        1,
        50,
        check_memory.limit,
        "Most items that the prompt check-memory shows."
    ),
    integer!(
        "maintenance.compactEvery",
        0,
        1_000_000_000,
        maintenance.compact_every,
        "Writes after which the scope is compacted; 0: never by count. Accepted but without effect \
         in this version: the server compacts by size (maintenance.autoCompactMb)."
    ),
    integer!(
        "maintenance.compactIntervalMs",
        0,
        YEAR_MS,
        maintenance.compact_interval_ms,
        "Time after which a changed scope is compacted, milliseconds; 0: never by time. Accepted \
         but without effect in this version: the routines of jobs compact."
    ),
    integer!(
        "maintenance.snapshotIntervalMs",
        0,
        YEAR_MS,
        maintenance.snapshot_interval_ms,
        "Time after which a changed scope takes a snapshot, milliseconds; 0: never. Accepted but \
         without effect in this version: maintenance.snapshot takes one."
    ),
];
