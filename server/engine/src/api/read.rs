//! Arguments and results of operations that read items. Every one takes `asOf`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};
use crate::ids::{Digest, ItemId, Scope, ScopeSelector, Seq, Timestamp, Version};
use crate::item::{Item, ItemType, Relation, Summary};

/// `memory.get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetRequest {
    /// The item.
    pub id: ItemId,
    /// Scope; looked up in committed, local, global when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The item as it was at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// A particular version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

/// Conditions on items; all that are given must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Filters {
    /// Any of these types.
    #[serde(rename = "type", skip_serializing_if = "Vec::is_empty")]
    #[serde(deserialize_with = "one_or_many")]
    pub types: Vec<ItemType>,
    /// Any of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Any of these files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Any of these symbols.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<String>,
    /// Any of these languages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(deserialize_with = "one_or_many")]
    pub language: Vec<String>,
    /// Pinned or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
    /// Confidence at the time of reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Range>,
    /// Time of the last write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_range: Option<TimeRange>,
    /// Created by any of these subjects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub created_by: Vec<String>,
}

impl Filters {
    /// Refuses ranges that nothing can lie in: an empty answer would look like an empty store.
    ///
    /// # Errors
    /// The range, with what is wrong with it.
    pub fn check(&self) -> Result<()> {
        if let Some(Range { min: Some(min), max: Some(max) }) = self.confidence
            && min > max
        {
            let reason = format!("min {min} is above max {max}: exchange them");
            return Err(EngineError::invalid("filters.confidence", reason));
        }
        if let Some(TimeRange { start: Some(start), end: Some(end) }) = self.time_range
            && start > end
        {
            let reason = format!("start {start} is after end {end}: exchange them");
            return Err(EngineError::invalid("filters.timeRange", reason));
        }
        Ok(())
    }
}

/// A closed range of confidences, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Range {
    /// Smallest value.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest value.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// A closed range of time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeRange {
    /// Not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// Not after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
}

/// `memory.list`: items by time of the last write, newest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ListRequest {
    /// Scope or union of scopes.
    pub scope: ScopeSelector,
    /// Items in one reply: 1 to 1,000, 50 by default; fewer when they are longer than 1,000,000
    /// characters together.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where the last reply stopped (`nextCursor`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Conditions.
    pub filters: Filters,
    /// The list as it was at this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
}

/// Result of `memory.list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListResult {
    /// Items that match, all pages counted.
    pub total: u64,
    /// Whether `total` is exact.
    pub total_relation: TotalRelation,
    /// This page.
    pub items: Vec<Summary>,
    /// Pass it as `cursor` to get the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// What the caller should know about the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
}

/// How much of each hit a query answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Detail {
    /// The whole item.
    #[default]
    Full,
    /// Title, facets, and a passage around the matching words.
    Snippet,
    /// Title and facets.
    Summary,
}

/// `memory.query`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct QueryRequest {
    /// Words to look for; `"a phrase"` in quotes must occur as such, `-word` must not occur.
    /// Empty: the newest items.
    #[schemars(length(max = 4096))]
    pub q: String,
    /// Scope or union of scopes.
    pub scope: ScopeSelector,
    /// Hits in one reply: 1 to 200, 20 by default.
    #[schemars(range(min = 1, max = 200))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
    /// Conditions.
    pub filters: Filters,
    /// How much of each hit to answer.
    #[serde(rename = "return")]
    pub detail: Detail,
    /// Explain every score.
    pub explain: bool,
    /// Count matches by type, tag, language and scope.
    pub facets: bool,
    /// Search the store as it was at this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// Where the last reply stopped (`nextCursor`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Longest reply in characters of all that can be long in an item: its texts, tags, files,
    /// symbols, links and context; 40,000 by default. Texts are cut to it, and the first hit always
    /// comes.
    #[schemars(range(min = 200, max = 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<usize>,
    /// Longest reply in tokens, each of them four of the characters that `maxChars` counts; beats it.
    #[schemars(range(min = 50, max = 250_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_budget: Option<usize>,
}

/// One hit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hit {
    /// Final score; hits are in falling order of it.
    pub score: f64,
    /// The item, whole (`return: full`).
    #[serde(flatten)]
    pub body: HitBody,
    /// Every term of the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
    /// Set when text or code was cut to fit the reply; read the item with `memory.get`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// The item of a hit, in the detail asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HitBody {
    /// `return: full`.
    Full(Box<Item>),
    /// `return: snippet`.
    Snippet {
        /// The summary.
        #[serde(flatten)]
        summary: Box<Summary>,
        /// Passage around the matching words.
        snippet: String,
    },
    /// `return: summary`.
    Summary(Box<Summary>),
}

/// Where a score comes from: `score` is the sum of all `value`s.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// BM25, one entry a matching term and field.
    pub bm25: Vec<TermScore>,
    /// Everything added to it, by name: title, phrase, exactMatch, pinned, recency, scope,
    /// confidence.
    pub boosts: BTreeMap<String, f64>,
    /// Parameters in force: k1, b, field weights, and each `boost.` as a factor: what is configured
    /// over its default, so that 9 for `exactMatch`, whose default is 3, stands here as 3.
    pub parameters: BTreeMap<String, f64>,
}

/// One term of a BM25 sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TermScore {
    /// Field.
    pub field: String,
    /// Term as indexed (folded and stemmed).
    pub term: String,
    /// Occurrences in the field.
    pub term_frequency: u32,
    /// Items that contain it, in the field where most do; left out for callers from whom some items
    /// are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_frequency: Option<u64>,
    /// ln(1 + (N - df + 0.5) / (df + 0.5)); left out likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idf: Option<f64>,
    /// Weight of the field.
    pub weight: f64,
    /// What it adds to the score.
    pub value: f64,
}

/// Whether a total is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TotalRelation {
    /// Exactly so many.
    Eq,
    /// At least so many; counting stopped there.
    Gte,
}

/// Counts of the matches by value, most frequent first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FacetCounts {
    /// By type.
    pub types: BTreeMap<String, u64>,
    /// By tag.
    pub tags: BTreeMap<String, u64>,
    /// By language.
    pub languages: BTreeMap<String, u64>,
    /// By scope.
    pub scopes: BTreeMap<String, u64>,
}

/// Result of `memory.query`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryResult {
    /// Hits, best first.
    pub items: Vec<Hit>,
    /// Items that match.
    pub total: u64,
    /// Whether `total` is exact.
    pub total_relation: TotalRelation,
    /// Scope searched.
    pub scope: ScopeSelector,
    /// The query as understood.
    pub query: String,
    /// Milliseconds spent.
    pub took_ms: f64,
    /// Whether the query cache answered.
    pub cached: bool,
    /// Pass it as `cursor` to get more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Counts, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facets: Option<FacetCounts>,
    /// Says what was cut to fit the reply and how to get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
}

/// Direction of a graph walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// Along links.
    #[default]
    Out,
    /// Against links.
    In,
    /// Both ways.
    Both,
}

/// `memory.graph`: items reachable over links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GraphRequest {
    /// Item to start from.
    pub id: ItemId,
    /// Scope; looked up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Links to follow; all when empty.
    #[serde(default)]
    pub rels: Vec<Relation>,
    /// Direction.
    #[serde(default)]
    pub direction: Direction,
    /// Steps: 1 to 10, 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub depth: Option<u32>,
    /// Items in the reply: 1 to 1,000, 100 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<usize>,
    /// The graph as it was at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
}

/// An item found by a walk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphNode {
    /// The item.
    #[serde(flatten)]
    pub summary: Summary,
    /// Steps from the start.
    pub depth: u32,
}

/// A link followed by a walk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphEdge {
    /// Item that points.
    pub from: ItemId,
    /// What the link means.
    pub rel: Relation,
    /// Item pointed at.
    pub to: ItemId,
}

/// Result of `memory.graph`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphResult {
    /// Items, nearest first.
    pub nodes: Vec<GraphNode>,
    /// Links among them.
    pub edges: Vec<GraphEdge>,
    /// Links to items that do not exist (any more).
    pub dangling: Vec<GraphEdge>,
    /// Whether `limit`, or the 1,000,000 characters that a reply holds, cut the walk.
    pub truncated: bool,
}

/// `memory.history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryRequest {
    /// The item.
    pub id: ItemId,
    /// Scope; looked up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Entries in one reply: 1 to 200, 20 by default, newest first; fewer when they are longer than
    /// 1,000,000 characters together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200))]
    pub limit: Option<usize>,
    /// Where the last reply stopped (`nextCursor`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Only what was known at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// Include each version's content.
    #[serde(default)]
    pub content: bool,
}

/// One change of an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Version it made.
    pub version: Version,
    /// Journal record.
    pub seq: Seq,
    /// When.
    pub ts: Timestamp,
    /// Operation (`upsert`, `patch`, `delete`, ...).
    pub op: String,
    /// Who.
    pub actor: String,
    /// Hash of the content.
    pub hash: Digest,
    /// The item at this version, when asked for and still stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
}

/// Result of `memory.history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryResult {
    /// The item.
    pub id: ItemId,
    /// Scope it lives in.
    pub scope: Scope,
    /// Changes known.
    pub total: u64,
    /// This page, newest first.
    pub entries: Vec<HistoryEntry>,
    /// Pass it as `cursor` to get more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(value) => vec![value],
        OneOrMany::Many(values) => values,
    })
}
