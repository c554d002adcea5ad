//! Arguments and results of journal, maintenance and project operations.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{Digest, ItemId, Scope, ScopeSelector, Seq, Timestamp, Version};
use crate::item::Summary;

/// An operation on one scope or a union of scopes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ScopeRequest {
    /// Scope or union of scopes; for operators, every project that their token allows when
    /// `project` is not given.
    pub scope: ScopeSelector,
}

/// An item that verification found damaged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CorruptItem {
    /// The item, when its name could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ItemId>,
    /// The version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The journal record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// File that holds the damage, relative to the scope's folder.
    pub file: String,
    /// What was expected and what was found.
    pub issue: String,
}

/// Said where verification had nothing to look at.
pub const NOTHING_CHECKED: &str = "nothing was there to check";

/// Result of `journal.verify` for one scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournalVerifyResult {
    /// No damage found.
    pub valid: bool,
    /// Everything found damaged.
    pub corrupted_items: Vec<CorruptItem>,
    /// Records that are damaged or lost; `corruptedItems` may name fewer (a lost segment is one
    /// entry, and a long list ends), or more (faults of whole files).
    #[serde(default)]
    pub unsound_count: u64,
    /// Sound records over checked records; null when nothing was there to check.
    pub integrity_score: Option<f64>,
    /// What else is to be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Records checked.
    pub checked_count: u64,
    /// Bodies whose hash was recomputed (in the journal or in blocks).
    pub checked_bodies: u64,
    /// Bodies erased on request; their hashes remain.
    pub erased_bodies: u64,
    /// Position of the last record.
    pub head_seq: Seq,
    /// Hash of the last record.
    pub head: Digest,
    /// Sealed segments whose checkpoint matched.
    pub checkpoints: u64,
    /// Checkpoints with a valid signature; `None` when no key is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_checkpoints: Option<u64>,
}

/// Result of `journal.verify` for several scopes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverallVerify {
    /// No damage in any scope.
    pub valid: bool,
    /// Damaged items in all scopes.
    pub total_corrupted: u64,
    /// Sound over checked, all scopes together; null when nothing was there to check.
    pub avg_integrity_score: Option<f64>,
    /// What else is to be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Size of one journal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournalSize {
    /// Whether there is one.
    pub exists: bool,
    /// Records.
    pub entries: u64,
    /// Bytes on disk.
    pub size_bytes: u64,
}

/// Result of `journal.stats` for one scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournalStats {
    /// Records that still hold their body (full content).
    pub legacy: JournalSize,
    /// Records that hold hashes only.
    pub optimized: JournalSize,
    /// Sealed segments.
    pub segments: u64,
    /// Whether `journal.migrate` would free space.
    pub migration_needed: bool,
    /// Position of the last record.
    pub head_seq: Seq,
    /// Time of the first and last record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_ts: Option<Timestamp>,
    /// Time of the last record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ts: Option<Timestamp>,
    /// Bytes of all block files, where migrated bodies live.
    pub block_bytes: u64,
    /// Bytes that these bodies would take in the journal.
    #[serde(default)]
    pub archived_bytes: u64,
}

/// Bytes before and after.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SizeReduction {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
    /// Saved, percent of `before`; 0 when there was nothing.
    pub percentage: f64,
}

/// Result of `journal.migrate` for one scope: bodies moved from the journal into blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournalMigrateResult {
    /// Records turned into hash-only ones.
    pub migrated: u64,
    /// Records that could not be, and why.
    pub errors: Vec<String>,
    /// Journal bytes plus block bytes.
    pub size_reduction: SizeReduction,
}

/// `journal.prove`: asks for a proof that one item is in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProveRequest {
    /// The item.
    pub id: ItemId,
    /// Scope; looked up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The version; the latest when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

/// Proof that a record is in the journal whose head somebody holds. FORMAT.md says how to check
/// it with nothing but SHA-256.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InclusionProof {
    /// The item.
    pub id: ItemId,
    /// Its version.
    pub version: Version,
    /// The record.
    pub seq: Seq,
    /// The record's line, without body.
    pub line: String,
    /// SHA-256 of the content that the record names.
    pub content_hash: Digest,
    /// Siblings on the way to `root`, lowest first; `left` says on which side each stands.
    pub path: Vec<ProofStep>,
    /// Root of the Merkle tree over the lines `first_seq..=last_seq`.
    pub root: Digest,
    /// First record under `root`.
    pub first_seq: Seq,
    /// Last record under `root`.
    pub last_seq: Seq,
    /// Hash of the last record.
    pub head: Digest,
    /// Checkpoint line that records `root` and `head`; absent while the segment is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// One step of an inclusion proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProofStep {
    /// Whether the sibling stands on the left.
    pub left: bool,
    /// Hash of the sibling.
    pub hash: Digest,
}

/// Work done by one maintenance operation on one scope.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceResult {
    /// Items now in the views.
    pub items: u64,
    /// Items deleted, expired, or bodies dropped, as the operation says.
    pub deleted: u64,
    /// Bytes on disk before.
    pub bytes_before: u64,
    /// Bytes on disk after.
    pub bytes_after: u64,
    /// Milliseconds spent.
    pub duration_ms: f64,
    /// What else is worth knowing, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Value>,
}

/// `maintenance.replay`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ReplayRequest {
    /// Scope or union.
    pub scope: ScopeSelector,
    /// Compact afterwards.
    pub compact: bool,
}

/// `maintenance.prune`, `maintenance.cleanup`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PruneRequest {
    /// Scope or union.
    pub scope: ScopeSelector,
    /// Say what would be done, do nothing.
    pub dry_run: bool,
}

/// Expired items of one scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrunedScope {
    /// Items whose time to live is over.
    pub expired: Vec<ItemId>,
    /// Items kept.
    pub kept: u64,
}

/// Result of `maintenance.prune`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PruneResult {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Expired items in all scopes.
    pub total_expired: u64,
    /// Kept items in all scopes.
    pub total_kept: u64,
    /// By scope.
    pub by_scope: BTreeMap<String, PrunedScope>,
}

/// Result of `maintenance.cleanup` for one scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanupResult {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Files removed (or that would be): temporary, partial, unreferenced.
    pub removed: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

/// Result of `maintenance.verify` for one scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ViewsVerifyResult {
    /// Catalog, text index and blocks agree with the journal.
    pub ok: bool,
    /// SHA-256 over the catalog's logical content.
    pub checksum: Digest,
    /// The same at the last snapshot of the same journal position, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_checksum: Option<Digest>,
    /// Time of the last record that the views hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ts: Option<Timestamp>,
    /// Journal position of each view.
    pub watermarks: BTreeMap<String, Seq>,
    /// Items checked.
    pub checked_items: u64,
    /// What does not agree.
    pub issues: Vec<String>,
}

/// Result of `maintenance.snapshot` for one scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotResult {
    /// Done.
    pub ok: bool,
    /// Journal position of the snapshot.
    pub seq: Seq,
    /// Time of the last record in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ts: Option<Timestamp>,
    /// SHA-256 over the catalog's logical content.
    pub checksum: Digest,
    /// Milliseconds spent.
    pub duration_ms: f64,
}

/// What one scope holds, for health, metrics and reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScopeStatus {
    /// Scope, with project and tenant where it has them.
    pub scope: String,
    /// Live items.
    pub items: u64,
    /// Stored versions.
    pub versions: u64,
    /// Journal records.
    pub journal_entries: u64,
    /// Journal bytes on disk.
    pub journal_bytes: u64,
    /// Catalog bytes on disk.
    pub catalog_bytes: u64,
    /// Index bytes on disk.
    pub index_bytes: u64,
    /// Block bytes on disk.
    pub block_bytes: u64,
    /// Bytes of all stored versions as compact JSON.
    pub content_bytes: u64,
    /// The part of `content_bytes` whose bodies lie in blocks.
    #[serde(default)]
    pub archived_bytes: u64,
    /// Journal position of each view.
    pub watermarks: BTreeMap<String, Seq>,
    /// Position of the journal.
    pub head_seq: Seq,
    /// Why writes are refused, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
    /// Why the disk did not take the last write, if it did not; the next that succeeds clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_failure: Option<String>,
    /// What recovery cut or rebuilt when the scope was opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovered: Vec<String>,
}

/// `project.sync.merge`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SyncMergeRequest {
    /// Local items to copy into the committed scope; all when empty.
    pub ids: Vec<ItemId>,
    /// Overwrite committed items that are newer, and bring back those that were deleted later.
    pub force: bool,
}

/// `project.sync.status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SyncStatusRequest {
    /// Items in each list: 1 to 1,000, 100 by default; fewer when they are longer than 250,000
    /// characters together. All are counted.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Result of `project.sync.status`. Each list begins with what was written last and ends at the
/// limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// Items only in the local scope.
    pub only_local_total: u64,
    /// Items only in the committed scope.
    pub only_committed_total: u64,
    /// Items in both, the local one written later.
    pub local_newer_total: u64,
    /// Items in both, the committed one written later.
    pub committed_newer_total: u64,
    /// Only in the local scope.
    pub only_local: Vec<Summary>,
    /// Only in the committed scope.
    pub only_committed: Vec<Summary>,
    /// In both, the local one written later.
    pub local_newer: Vec<Summary>,
    /// In both, the committed one written later.
    pub committed_newer: Vec<Summary>,
}

/// An item that was left out, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// The item.
    pub id: ItemId,
    /// Why.
    pub reason: String,
}

/// Result of `project.sync.merge`. When all items were asked for, each list ends after 1,000.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncMergeResult {
    /// Items copied.
    pub merged_total: u64,
    /// Items left out.
    pub skipped_total: u64,
    /// Copied.
    pub merged: Vec<ItemId>,
    /// Left out.
    pub skipped: Vec<Skipped>,
}

/// `segments.verify`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SampleRequest {
    /// Scope or union.
    pub scope: ScopeSelector,
    /// Share of the stored bodies to read, more than 0 and at most 1; 0.1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: Option<f64>,
    /// Chooses the bodies: the same seed chooses the same ones. Another each time by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Result of `segments.verify` for one scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SampleResult {
    /// What chose the bodies.
    pub seed: u64,
    /// Bodies stored.
    pub stored: u64,
    /// Bodies read.
    pub checked: u64,
    /// Of these, bodies in blocks.
    pub in_blocks: u64,
    /// Bodies that are not what their hash says.
    pub corrupted_items: Vec<CorruptItem>,
    /// Mean time to read one, milliseconds; absent when none was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_access_ms: Option<f64>,
    /// Longest time to read one, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_access_ms: Option<f64>,
}

/// Result of `maintenance.recover` for one scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoverResult {
    /// Where the damaged file was put, relative to the scope's folder.
    pub set_aside: String,
    /// Last record before the damage.
    pub last_sound: Seq,
    /// Last record that the damaged file or the views showed.
    pub last_seen: Seq,
    /// Records after the damage that were written again.
    pub salvaged: u64,
}
