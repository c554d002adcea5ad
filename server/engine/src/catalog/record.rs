//! What the catalog's tables hold. Every value is postcard with one leading format byte; since
//! the catalog is a view, a change of format means a rebuild and never a migration.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};
use crate::ids::{Digest, ItemId, Scope, Seq, Timestamp, Version};
use crate::item::{Content, Context, Counters, Facets, ItemType, Link, Sensitivity};
use crate::journal::{Location, Record};

/// Changes whenever the meaning of any table changes.
pub(crate) const CATALOG_FORMAT: u8 = 2;

/// The latest state of an item, without its texts.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, stored in one byte each")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ItemRecord {
    pub(crate) version: Version,
    pub(crate) hash: Digest32,
    /// Record that made this version (or the deletion).
    pub(crate) seq: Seq,
    pub(crate) deleted: bool,
    pub(crate) item_type: u8,
    pub(crate) title: String,
    pub(crate) language: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) files: Vec<String>,
    pub(crate) symbols: Vec<String>,
    pub(crate) pinned: bool,
    pub(crate) ttl_days: Option<f64>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) sensitivity: u8,
    pub(crate) has_repo: bool,
    pub(crate) has_file: bool,
    pub(crate) has_tool: bool,
    pub(crate) created_by: String,
    pub(crate) updated_by: String,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    /// Bytes of the canonical content.
    pub(crate) content_bytes: u32,
    pub(crate) counters: StoredCounters,
    pub(crate) links: Vec<(u8, String)>,
}

/// [`Digest`] as 32 raw bytes rather than 64 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest32(pub(crate) [u8; 32]);

impl From<Digest> for Digest32 {
    fn from(digest: Digest) -> Self {
        Self(digest.0)
    }
}

impl From<Digest32> for Digest {
    fn from(digest: Digest32) -> Self {
        Self(digest.0)
    }
}

/// Counters as of one journal record, with its time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountersRecord {
    pub(crate) ts: i64,
    pub(crate) counters: StoredCounters,
}

/// [`Counters`] in a form that does not skip fields, as postcard needs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct StoredCounters {
    reuse: u64,
    helpful: u64,
    not_helpful: u64,
    decayed_usage: f64,
    decay_updated_at: Option<i64>,
    last_used_at: Option<i64>,
    last_feedback_at: Option<i64>,
}

impl From<Counters> for StoredCounters {
    fn from(counters: Counters) -> Self {
        Self {
            reuse: counters.reuse_count,
            helpful: counters.helpful_count,
            not_helpful: counters.not_helpful_count,
            decayed_usage: counters.decayed_usage,
            decay_updated_at: counters.decay_updated_at.map(Timestamp::as_millis),
            last_used_at: counters.last_used_at.map(Timestamp::as_millis),
            last_feedback_at: counters.last_feedback_at.map(Timestamp::as_millis),
        }
    }
}

impl From<StoredCounters> for Counters {
    fn from(stored: StoredCounters) -> Self {
        Self {
            reuse_count: stored.reuse,
            helpful_count: stored.helpful,
            not_helpful_count: stored.not_helpful,
            decayed_usage: stored.decayed_usage,
            decay_updated_at: stored.decay_updated_at.map(Timestamp::from_millis),
            last_used_at: stored.last_used_at.map(Timestamp::from_millis),
            last_feedback_at: stored.last_feedback_at.map(Timestamp::from_millis),
        }
    }
}

impl ItemRecord {
    /// The record of `content`, written by journal record `seq`.
    pub(crate) fn of(
        content: &Content,
        seq: Seq,
        hash: Digest,
        content_bytes: usize,
        counters: Counters,
    ) -> Self {
        Self {
            version: content.version,
            hash: hash.into(),
            seq,
            deleted: false,
            item_type: content.item_type.code(),
            title: content.title.clone(),
            language: content.language.clone(),
            tags: content.facets.tags.clone(),
            files: content.facets.files.clone(),
            symbols: content.facets.symbols.clone(),
            pinned: content.pinned,
            ttl_days: content.ttl_days,
            expires_at: content.expires_at.map(Timestamp::as_millis),
            sensitivity: content.sensitivity.code(),
            has_repo: content.context.repo_id.is_some(),
            has_file: content.context.file.is_some(),
            has_tool: content.context.tool.is_some(),
            created_by: content.provenance.created_by.clone(),
            updated_by: content.provenance.updated_by.clone(),
            created_at: content.created_at.as_millis(),
            updated_at: content.updated_at.as_millis(),
            content_bytes: u32::try_from(content_bytes).unwrap_or(u32::MAX),
            counters: counters.into(),
            links: content
                .links
                .iter()
                .map(|link| (relation_code(link), link.to.as_str().to_owned()))
                .collect(),
        }
    }

    /// The record of a version whose content is nowhere: what its journal record says, and nobody
    /// sees who may not see everything.
    pub(crate) fn bodiless(record: &Record, previous: Option<&Self>, counters: Counters) -> Self {
        let ts = record.ts.as_millis();
        let live = previous.filter(|item| !item.deleted);
        Self {
            version: record.version,
            hash: record.hash.into(),
            seq: record.seq,
            deleted: false,
            item_type: ItemType::Note.code(),
            title: String::new(),
            language: None,
            tags: Vec::new(),
            files: Vec::new(),
            symbols: Vec::new(),
            pinned: false,
            ttl_days: None,
            expires_at: None,
            sensitivity: Sensitivity::Private.code(),
            has_repo: false,
            has_file: false,
            has_tool: false,
            created_by: live.map_or(&record.actor, |item| &item.created_by).clone(),
            updated_by: record.actor.clone(),
            created_at: live.map_or(ts, |item| item.created_at),
            updated_at: ts,
            content_bytes: 0,
            counters: counters.into(),
            links: Vec::new(),
        }
    }

    /// A content without texts: enough for summaries, filters and confidence.
    pub(crate) fn skeleton(&self, id: &ItemId, scope: Scope) -> Content {
        Content {
            id: id.clone(),
            item_type: ItemType::of_code(self.item_type).unwrap_or(ItemType::Note),
            scope,
            title: self.title.clone(),
            text: String::new(),
            code: String::new(),
            language: self.language.clone(),
            facets: Facets {
                tags: self.tags.clone(),
                files: self.files.clone(),
                symbols: self.symbols.clone(),
            },
            context: Context {
                repo_id: self.has_repo.then(String::new),
                file: self.has_file.then(String::new),
                tool: self.has_tool.then(String::new),
                ..Context::default()
            },
            pinned: self.pinned,
            ttl_days: self.ttl_days,
            expires_at: self.expires_at.map(Timestamp::from_millis),
            sensitivity: self.sensitivity(),
            secret_hash_refs: Vec::new(),
            flags: Vec::new(),
            links: Vec::new(),
            provenance: crate::item::Provenance {
                created_by: self.created_by.clone(),
                updated_by: self.updated_by.clone(),
            },
            created_at: Timestamp::from_millis(self.created_at),
            updated_at: Timestamp::from_millis(self.updated_at),
            version: self.version,
        }
    }

    pub(crate) fn hash(&self) -> Digest {
        self.hash.into()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters.into()
    }

    pub(crate) fn sensitivity(&self) -> Sensitivity {
        Sensitivity::of_code(self.sensitivity).unwrap_or(Sensitivity::Private)
    }

    pub(crate) fn expired_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now.as_millis())
    }
}

/// One change of an item's content, or its deletion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub(crate) version: Version,
    pub(crate) hash: Digest32,
    pub(crate) ts: i64,
    pub(crate) op: String,
    pub(crate) actor: String,
    pub(crate) deleted: bool,
    pub(crate) content_bytes: u32,
}

/// Where a body lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Blob {
    /// In a journal segment.
    Journal { segment: u64, generation: u32, offset: u64, len: u32 },
    /// In the block store, found there by its hash.
    Block,
    /// Removed for good on request.
    Erased,
    /// Neither journal nor blocks held it when the catalog was derived, not even damaged. A loss,
    /// unless a later record asks for the erasure.
    Missing,
}

impl From<Location> for Blob {
    fn from(at: Location) -> Self {
        Self::Journal {
            segment: at.segment.0,
            generation: at.generation,
            offset: at.offset,
            len: at.len,
        }
    }
}

/// How far the catalog is, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Last record applied.
    pub(crate) seq: u64,
    /// Hash of that record's head.
    pub(crate) head: [u8; 32],
    /// Time of that record.
    pub(crate) ts: i64,
    /// Live items.
    pub(crate) items: u64,
    /// Stored versions.
    pub(crate) versions: u64,
    /// Bytes of all stored versions as canonical JSON.
    pub(crate) content_bytes: u64,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(|error| EngineError::Internal {
        context: "encode a catalog record",
        message: error.to_string(),
    })
}

pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|error| EngineError::Corrupt {
        what: format!("catalog table {what}"),
        reason: format!("{error}: run maintenance.rebuild"),
    })
}

/// Order of [`crate::item::Relation`] in keys.
pub(crate) fn relation_code(link: &Link) -> u8 {
    use crate::item::Relation;
    match link.rel {
        Relation::Refines => 0,
        Relation::Duplicates => 1,
        Relation::Depends => 2,
        Relation::Fixes => 3,
        Relation::Relates => 4,
    }
}

/// The relation a key names.
pub(crate) fn relation_of(code: u8) -> crate::item::Relation {
    use crate::item::Relation;
    match code {
        0 => Relation::Refines,
        1 => Relation::Duplicates,
        2 => Relation::Depends,
        3 => Relation::Fixes,
        _ => Relation::Relates,
    }
}
