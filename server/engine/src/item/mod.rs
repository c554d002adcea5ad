//! The memory item: what an agent stores, and the rules over it. Everything in this folder is
//! pure: no clock, no disk, no journal.

pub mod canonical;
pub mod confidence;
pub mod edit;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod gate;
pub mod guardrail;
#[cfg(test)]
mod measurements;
mod present;
pub mod redaction;
pub mod similarity;
pub mod validate;

pub use confidence::ConfidenceConfig;
pub use present::{present, summarize};
pub use redaction::Redactor;
pub use similarity::Sketch;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Digest, ItemId, Scope, Timestamp, Version};

/// What kind of memory an item is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ItemType {
    /// A piece of code.
    Snippet,
    /// A way of doing things that recurs.
    Pattern,
    /// A setting and its value.
    Config,
    /// Something understood.
    Insight,
    /// Steps to follow.
    Runbook,
    /// Something that is so.
    Fact,
    /// Anything else.
    Note,
}

impl ItemType {
    /// All types.
    pub const ALL: [Self; 7] = [
        Self::Snippet,
        Self::Pattern,
        Self::Config,
        Self::Insight,
        Self::Runbook,
        Self::Fact,
        Self::Note,
    ];

    /// The word used in arguments and the index.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snippet => "snippet",
            Self::Pattern => "pattern",
            Self::Config => "config",
            Self::Insight => "insight",
            Self::Runbook => "runbook",
            Self::Fact => "fact",
            Self::Note => "note",
        }
    }

    /// Its number in catalog and index; never reused for another type.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Snippet => 0,
            Self::Pattern => 1,
            Self::Config => 2,
            Self::Insight => 3,
            Self::Runbook => 4,
            Self::Fact => 5,
            Self::Note => 6,
        }
    }

    /// The type that a number stands for.
    #[must_use]
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|item_type| item_type.code() == code)
    }
}

/// Who may see an item, from everybody to its owner.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Sensitivity {
    /// Anybody.
    Public,
    /// The team.
    Team,
    /// The owner.
    Private,
}

impl Sensitivity {
    /// All of them, from the least secret.
    pub const ALL: [Self; 3] = [Self::Public, Self::Team, Self::Private];

    /// Its number in catalog and index: higher is more secret.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Public => 0,
            Self::Team => 1,
            Self::Private => 2,
        }
    }

    /// The sensitivity that a number stands for.
    #[must_use]
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|sensitivity| sensitivity.code() == code)
    }
}

/// How one item points at another.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Relation {
    /// Says more about the target.
    Refines,
    /// Says the same as the target.
    Duplicates,
    /// Needs the target.
    Depends,
    /// Mends what the target describes.
    Fixes,
    /// Has to do with the target.
    Relates,
}

/// A directed link to another item of the same scope.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What the link means.
    pub rel: Relation,
    /// The item it points at.
    pub to: ItemId,
}

/// Words an item is found and filtered by. Sets: sorted, without repetition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Facets {
    /// Free labels.
    pub tags: Vec<String>,
    /// Paths the item is about.
    pub files: Vec<String>,
    /// Names in code the item is about.
    pub symbols: Vec<String>,
}

/// A range of lines in a file, both ends included, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LineRange {
    /// First line.
    pub start: u32,
    /// Last line.
    pub end: u32,
}

/// Where an item came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Context {
    /// Identity of the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo_id: Option<String>,
    /// Branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Tool that produced it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Origin in the caller's words, such as a URL or a conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// File.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Lines in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<LineRange>,
    /// Function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Framework.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework: Option<String>,
}

impl Context {
    /// Every text in it.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let Self {
            repo_id,
            branch,
            commit,
            tool,
            source,
            file,
            range: _,
            function,
            package,
            framework,
        } = self;
        [repo_id, branch, commit, tool, source, file, function, package, framework]
            .into_iter()
            .filter_map(|text| text.as_deref())
    }
}

/// What the write guard noticed in an item. Nothing is refused or taken out because of a flag;
/// readers decide whether to trust a flagged item.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Flag {
    /// Text that tries to give the reading agent orders ("ignore previous instructions").
    Injection,
    /// Text that imitates a tool call, a tool result or a chat role.
    ToolImitation,
    /// Characters that people do not see: zero-width, bidirectional controls, tag characters.
    HiddenText,
}

/// Provenance: who wrote an item, taken from the caller's token and never from an argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// Subject that created the item.
    pub created_by: String,
    /// Subject that wrote this version.
    pub updated_by: String,
}

/// Usage and feedback of one item. They change without making a new version; they are journaled
/// in records of their own and are not part of [`Content`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Counters {
    /// Times used.
    pub reuse_count: u64,
    /// Votes "helpful".
    pub helpful_count: u64,
    /// Votes "not helpful".
    pub not_helpful_count: u64,
    /// Usage that halves every 14 days, as of `decay_updated_at`.
    pub decayed_usage: f64,
    /// When `decayed_usage` was last brought up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_updated_at: Option<Timestamp>,
    /// Last use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// Last vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_feedback_at: Option<Timestamp>,
}

/// Everything about one version of an item that its hash covers. The journal's `body` is the
/// canonical JSON of this (keys sorted, no white space), and `hash` is the SHA-256 of those
/// bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// Name.
    pub id: ItemId,
    /// Kind.
    #[serde(rename = "type")]
    pub item_type: ItemType,
    /// Scope it lives in.
    pub scope: Scope,
    /// One line that says what it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Prose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Code.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Language of the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Tags, files, symbols.
    #[serde(default)]
    pub facets: Facets,
    /// Where it came from.
    #[serde(default)]
    pub context: Context,
    /// Pinned items are always worth considering.
    #[serde(default)]
    pub pinned: bool,
    /// Life time chosen for it, in days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_days: Option<f64>,
    /// When it stops being found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Who may see it.
    pub sensitivity: Sensitivity,
    /// Hashes of the secrets that redaction took out, so that a leak can be recognised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_hash_refs: Vec<Digest>,
    /// What the write guard noticed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// Links to other items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Who wrote it.
    pub provenance: Provenance,
    /// When the first version was written.
    pub created_at: Timestamp,
    /// When this version was written.
    pub updated_at: Timestamp,
    /// Version, from 1.
    pub version: Version,
}

/// Quality of an item as seen at one moment: counters and what follows from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quality {
    /// 0 to 1, evaluated at the time of reading.
    pub confidence: f64,
    /// Pinned.
    pub pinned: bool,
    /// Life time, days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_days: Option<f64>,
    /// End of life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Usage and feedback.
    #[serde(flatten)]
    pub counters: Counters,
}

/// Protection of an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// Who may see it.
    pub sensitivity: Sensitivity,
    /// Hashes of redacted secrets.
    pub secret_hash_refs: Vec<Digest>,
    /// What the write guard noticed; empty for nearly every item.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
}

/// An item as a reader receives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Name.
    pub id: ItemId,
    /// Kind.
    #[serde(rename = "type")]
    pub item_type: ItemType,
    /// Scope.
    pub scope: Scope,
    /// Title.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub title: String,
    /// Prose.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub text: String,
    /// Code.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub code: String,
    /// Language of the code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub language: Option<String>,
    /// Tags, files, symbols.
    pub facets: Facets,
    /// Where it came from.
    pub context: Context,
    /// Confidence, counters, pin, TTL.
    pub quality: Quality,
    /// Sensitivity and redactions.
    pub security: Security,
    /// Links.
    pub links: Vec<Link>,
    /// Who wrote it.
    pub provenance: Provenance,
    /// First version.
    pub created_at: Timestamp,
    /// This version.
    pub updated_at: Timestamp,
    /// Version.
    pub version: Version,
    /// SHA-256 of the canonical content, as the journal records it.
    pub hash: Digest,
}

/// What lists show of an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Name.
    pub id: ItemId,
    /// Kind.
    #[serde(rename = "type")]
    pub item_type: ItemType,
    /// Scope.
    pub scope: Scope,
    /// Title.
    pub title: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Files.
    pub files: Vec<String>,
    /// Symbols.
    pub symbols: Vec<String>,
    /// Confidence, 0 to 1.
    pub confidence: f64,
    /// Pinned.
    pub pinned: bool,
    /// First version.
    pub created_at: Timestamp,
    /// This version.
    pub updated_at: Timestamp,
    /// Version.
    pub version: Version,
}
