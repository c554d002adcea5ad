//! The `journal_*` tools: proof and size of what was written.

use std::collections::BTreeMap;

use llm_memory_engine::api::{
    InclusionProof, JournalMigrateResult, JournalStats, JournalVerifyResult, NOTHING_CHECKED,
    OverallVerify, ProveRequest, ScopeRequest, SizeReduction,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Tool, reply, schema};
use crate::access::Role;

const READERS: &[Role] = &[Role::Operator, Role::Monitor];
const OPERATOR: &[Role] = &[Role::Operator];

/// Sizes of several journals together.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StatsSummary {
    /// Bytes of journals whose records hold their bodies.
    total_legacy_size: u64,
    /// Bytes of journals whose records hold hashes only.
    total_optimized_size: u64,
    /// Saved by moving bodies into blocks so far, percent of what journals and blocks would take
    /// with every body in the journal; below 0 while the blocks are larger than what they hold.
    total_reduction: f64,
    /// Scopes for which `journal.migrate` would free space.
    migrations_needed: u64,
}

/// Migrations of several journals together.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MigrateSummary {
    /// Records migrated.
    total_migrated: u64,
    /// Records that could not be.
    total_errors: u64,
    /// Bytes of all scopes.
    total_reduction: SizeReduction,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![
        each_scope!(
            "journal_stats", "journal.stats", "Journal statistics", READERS,
            [read_only: true, destructive: false],
            ScopeRequest => JournalStats,
            |context, asked| context.engine.journal_stats(context.caller, asked),
            "Records, bytes and segments of the journal of each scope, and whether journal_migrate \
             would free space.",
            "summary": StatsSummary = stats_summary
        ),
        each_scope!(
            "journal_verify", "journal.verify", "Verify the journal", READERS,
            [read_only: true, destructive: false],
            ScopeRequest => JournalVerifyResult,
            |context, asked| {
                context.engine.journal_verify(context.caller, asked, context.progress)
            },
            "Recompute every hash of the journal and of every stored body, and name each item that \
             is not what it was when written.",
            "overall": OverallVerify = verify_overall
        ),
        each_scope!(
            "journal_migrate", "journal.migrate", "Migrate the journal", OPERATOR,
            [read_only: false, destructive: false],
            ScopeRequest => JournalMigrateResult,
            |context, asked| {
                context.engine.journal_migrate(context.caller, asked, context.progress)
            },
            "Move bodies out of the journal into compressed blocks, leaving records that hold \
             hashes only. Nothing is lost; the chain stays valid.",
            "summary": MigrateSummary = migrate_summary
        ),
        Tool {
            name: "journal_prove",
            dotted: "journal.prove",
            title: "Prove a memory",
            description: "A proof that one version of an item is in the journal, which can be \
                checked with nothing but SHA-256 and a journal head kept elsewhere.",
            roles: &[Role::Operator, Role::Monitor, Role::Agent],
            core: false,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<ProveRequest>,
            output_schema: schema::output::<InclusionProof>,
            run: |context, arguments| {
                let request: ProveRequest = reply::parse(arguments)?;
                reply::value(context.engine.journal_prove(context.caller, request)?)
            },
        },
    ]
}

fn stats_summary(results: &BTreeMap<String, JournalStats>) -> StatsSummary {
    let total = |of: fn(&JournalStats) -> u64| results.values().map(of).sum::<u64>();
    let total_legacy_size = total(|stats| stats.legacy.size_bytes);
    let total_optimized_size = total(|stats| stats.optimized.size_bytes);
    let (blocks, archived) =
        (total(|stats| stats.block_bytes), total(|stats| stats.archived_bytes));
    let unmoved = total_legacy_size + total_optimized_size + archived;
    let saved = archived as f64 - blocks as f64;
    StatsSummary {
        total_legacy_size,
        total_optimized_size,
        total_reduction: if unmoved == 0 { 0.0 } else { 100.0 * saved / unmoved as f64 },
        migrations_needed: count(results.values().filter(|stats| stats.migration_needed).count()),
    }
}

fn verify_overall(results: &BTreeMap<String, JournalVerifyResult>) -> OverallVerify {
    let checked: u64 = results.values().map(|result| result.checked_count).sum();
    let score = |result: &JournalVerifyResult| result.integrity_score.unwrap_or_default();
    let sound: f64 =
        results.values().map(|result| score(result) * result.checked_count as f64).sum();
    OverallVerify {
        valid: results.values().all(|result| result.valid),
        total_corrupted: results.values().map(|result| count(result.corrupted_items.len())).sum(),
        avg_integrity_score: (checked > 0).then(|| sound / checked as f64),
        note: (checked == 0).then(|| NOTHING_CHECKED.to_owned()),
    }
}

fn migrate_summary(results: &BTreeMap<String, JournalMigrateResult>) -> MigrateSummary {
    let before: u64 = results.values().map(|result| result.size_reduction.before).sum();
    let after = results.values().map(|result| result.size_reduction.after).sum();
    let saved = before.saturating_sub(after) as f64;
    let percentage = if before == 0 { 0.0 } else { 100.0 * saved / before as f64 };
    MigrateSummary {
        total_migrated: results.values().map(|result| result.migrated).sum(),
        total_errors: results.values().map(|result| count(result.errors.len())).sum(),
        total_reduction: SizeReduction { before, after, percentage },
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use llm_memory_engine::api::JournalSize;
    use llm_memory_engine::ids::Seq;

    use super::*;

    fn stats(
        journal: u64,
        archived_bytes: u64,
        block_bytes: u64,
    ) -> BTreeMap<String, JournalStats> {
        let size = |size_bytes| JournalSize { exists: true, entries: 1, size_bytes };
        let stats = JournalStats {
            legacy: size(journal),
            optimized: size(0),
            segments: 0,
            migration_needed: false,
            head_seq: Seq(1),
            first_ts: None,
            last_ts: None,
            block_bytes,
            archived_bytes,
        };
        BTreeMap::from([("global".to_owned(), stats)])
    }

    #[test]
    fn where_nothing_was_checked_there_is_no_score() {
        let overall = verify_overall(&BTreeMap::new());
        assert_eq!((overall.valid, overall.avg_integrity_score), (true, None));
        assert_eq!(overall.note.as_deref(), Some(NOTHING_CHECKED));
    }

    #[test]
    fn the_reduction_is_what_blocks_save_of_what_the_journal_would_be() {
        for (results, expected) in
            [(stats(0, 0, 0), 0.0), (stats(1000, 0, 0), 0.0), (stats(200, 800, 300), 50.0)]
        {
            let reduction = stats_summary(&results).total_reduction;
            assert!((reduction - expected).abs() < 1e-9, "{reduction}");
        }
    }
}
