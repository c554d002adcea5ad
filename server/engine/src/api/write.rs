//! Arguments and results of operations that change items.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ItemId, Scope, Seq, Timestamp, Version};
use crate::item::{Context, ItemType, Link, Relation, Sensitivity};

/// `memory.upsert`: creates an item or replaces one whole. What is left out is emptied; creation
/// time, links, usage counters and time to live are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpsertRequest {
    /// Name of the item; a ULID is chosen when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ItemId>,
    /// Kind of memory.
    #[serde(rename = "type")]
    pub item_type: ItemType,
    /// Scope to store it in.
    pub scope: Scope,
    /// One line that says what it is. At most 1,000 characters.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub title: String,
    /// Prose.
    #[serde(default)]
    pub text: String,
    /// Code.
    #[serde(default)]
    pub code: String,
    /// Language of the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub language: Option<String>,
    /// Labels. At most 100 of 256 characters.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub tags: Vec<String>,
    /// Paths the item is about. At most 100 of 1,024 characters.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub files: Vec<String>,
    /// Names in code the item is about. At most 100 of 256 characters.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub symbols: Vec<String>,
    /// Accepted for compatibility; confidence is computed from use and feedback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: Option<f64>,
    /// Keep it always worth considering.
    #[serde(default)]
    pub pinned: bool,
    /// Who may see it; `team` in committed scopes and `private` elsewhere when left out. Callers
    /// who may not read that have to give one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<Sensitivity>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// Days until it expires; the stored value is kept when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 36500.0))]
    pub ttl_days: Option<f64>,
    /// Replace the links too; kept when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<Vec<Link>>,
    /// Write only if the stored version is this one (0: only if there is none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<Version>,
}

/// What every change of an item answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriteResult {
    /// The item.
    pub id: ItemId,
    /// Scope it lives in.
    pub scope: Scope,
    /// Its version now.
    pub version: Version,
    /// Journal record that holds the change; durable when this is read.
    pub seq: Seq,
    /// Whether anything changed; false means the stored item already was so.
    pub changed: bool,
    /// Whether the item is new.
    #[serde(default)]
    pub created: bool,
    /// Secrets that were taken out of text or code before storing.
    #[serde(default)]
    pub redactions: usize,
    /// Things the caller should know, such as an ignored argument.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Stored items that say nearly the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near_duplicates: Vec<NearDuplicate>,
    /// End of life, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A stored item whose words are nearly those of the item written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NearDuplicate {
    /// The stored item.
    pub id: ItemId,
    /// Estimated Jaccard similarity of the word shingles, 0 to 1.
    pub similarity: f64,
    /// Its title.
    pub title: String,
}

/// `memory.delete`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteRequest {
    /// The item.
    pub id: ItemId,
    /// Scope; looked up in committed, local, global when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Also remove every stored body of it for good at the next compaction, leaving only the
    /// hashes as proof.
    #[serde(default)]
    pub erase: bool,
    /// Delete only if the stored version is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<Version>,
}

/// Names one item: `memory.pin`, `memory.unpin`, `memory.use`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ItemRequest {
    /// The item.
    pub id: ItemId,
    /// Scope; looked up in committed, local, global when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// `memory.tag`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TagRequest {
    /// The item.
    pub id: ItemId,
    /// Scope; looked up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Tags to add.
    #[serde(default)]
    pub add: Vec<String>,
    /// Tags to remove.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// A text field that `memory.patch` can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PatchField {
    /// The title.
    Title,
    /// The prose.
    Text,
    /// The code.
    Code,
}

/// One replacement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchOperation {
    /// Field to change.
    pub field: PatchField,
    /// Text to find; its first occurrence is replaced.
    #[schemars(length(min = 1))]
    pub old: String,
    /// Text to put there.
    pub new: String,
}

/// `memory.patch`: replaces pieces of text. An operation whose `old` is not found is an error
/// that names it, and nothing is changed, unless `skipUnmatched` is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchRequest {
    /// The item.
    pub id: ItemId,
    /// Scope; looked up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Replacements, in order. 1 to 100.
    #[schemars(length(min = 1, max = 100))]
    pub operations: Vec<PatchOperation>,
    /// Skip operations whose text is not found, as the reference system does.
    #[serde(default)]
    pub skip_unmatched: bool,
    /// Change only if the stored version is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<Version>,
}

/// A field that `memory.append` can lengthen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AppendField {
    /// The prose.
    Text,
    /// The code.
    Code,
}

/// `memory.append`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppendRequest {
    /// The item.
    pub id: ItemId,
    /// Scope; looked up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Field to lengthen.
    pub field: AppendField,
    /// What to add.
    #[schemars(length(min = 1))]
    pub content: String,
    /// What stands between old and new; a blank line by default, nothing if the field was empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
}

/// How `memory.merge` joins texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MergeStrategy {
    /// The distinct lines of all, in order of first appearance.
    #[default]
    Deduplicate,
    /// All of them, separated by blank lines.
    Concat,
    /// The first source that has the field.
    PrioritizeFirst,
    /// The most recently updated source that has the field.
    PrioritizeRecent,
}

/// `memory.merge`: joins items into one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MergeRequest {
    /// Items to join, all in `scope`. 1 to 100.
    #[schemars(length(min = 1, max = 100))]
    pub source_ids: Vec<ItemId>,
    /// Scope of the sources and of the result.
    pub scope: Scope,
    /// Item to write; the first source when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<ItemId>,
    /// How to join texts.
    #[serde(default)]
    pub strategy: MergeStrategy,
    /// Delete the sources (except the target) in the same step.
    #[serde(default)]
    pub delete_source: bool,
}

/// `memory.link`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkRequest {
    /// Item that points.
    pub from: ItemId,
    /// Item pointed at, in the same scope.
    pub to: ItemId,
    /// What the link means.
    pub rel: Relation,
    /// Scope; looked up from `from` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Remove the link instead.
    #[serde(default)]
    pub remove: bool,
}

/// `memory.renew`: starts the time to live again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewRequest {
    /// The item.
    pub id: ItemId,
    /// Scope; looked up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Days from now; the item's own, or 30, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 36500.0))]
    pub ttl_days: Option<f64>,
}

/// `memory.feedback`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FeedbackRequest {
    /// The item.
    pub id: ItemId,
    /// Scope; looked up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whether it helped.
    pub helpful: bool,
}
