//! The `journal_*` tools: proof and size of what was written.

use std::collections::BTreeMap;

use llm_memory_engine::api::{
    InclusionProof, JournalMigrateResult, JournalStats, JournalVerifyResult, OverallVerify,
    ProveRequest, ScopeRequest, SizeReduction,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Tool, ToolError, reply, schema};
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
    /// Bytes that `journal.migrate` has saved so far, percent of what both forms would take.
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
        Tool {
            name: "journal_stats",
            dotted: "journal.stats",
            title: "Journal statistics",
            description: "Records, bytes and segments of the journal of each scope, and whether \
                journal_migrate would free space.",
            roles: READERS,
            core: false,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<ScopeRequest>,
            output_schema: || {
                schema::by_scope::<JournalStats>(&[("summary", schema::output::<StatsSummary>())])
            },
            run: |context, arguments| {
                let request: ScopeRequest = reply::parse(arguments)?;
                let asked = request.scope;
                let results = context.engine.journal_stats(context.caller, request)?;
                reply::by_scope(asked, results, stats_summary)
            },
        },
        Tool {
            name: "journal_verify",
            dotted: "journal.verify",
            title: "Verify the journal",
            description: "Recompute every hash of the journal and of every stored body, and name \
                each item that is not what it was when written.",
            roles: READERS,
            core: false,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<ScopeRequest>,
            output_schema: || {
                schema::by_scope::<JournalVerifyResult>(&[(
                    "overall",
                    schema::output::<OverallVerify>(),
                )])
            },
            run: |context, arguments| {
                let request: ScopeRequest = reply::parse(arguments)?;
                let asked = request.scope;
                let results =
                    context.engine.journal_verify(context.caller, request, context.progress)?;
                reply::by_scope(asked, results, verify_overall)
            },
        },
        Tool {
            name: "journal_migrate",
            dotted: "journal.migrate",
            title: "Migrate the journal",
            description: "Move bodies out of the journal into compressed blocks, leaving records \
                that hold hashes only. Nothing is lost; the chain stays valid.",
            roles: OPERATOR,
            core: false,
            read_only: false,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<ScopeRequest>,
            output_schema: || {
                schema::by_scope::<JournalMigrateResult>(&[(
                    "summary",
                    schema::output::<MigrateSummary>(),
                )])
            },
            run: |context, arguments| {
                let request: ScopeRequest = reply::parse(arguments)?;
                let asked = request.scope;
                let results =
                    context.engine.journal_migrate(context.caller, request, context.progress)?;
                reply::by_scope(asked, results, migrate_summary)
            },
        },
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

fn stats_summary(
    results: &BTreeMap<String, JournalStats>,
) -> Result<Vec<(&'static str, Value)>, ToolError> {
    let total_legacy_size = results.values().map(|stats| stats.legacy.size_bytes).sum();
    let total_optimized_size = results.values().map(|stats| stats.optimized.size_bytes).sum();
    // Bodies that were moved out live in blocks now: what the journal would be without that is
    // not recorded, so the saving is the share of records that no longer carry a body.
    let entries: u64 =
        results.values().map(|stats| stats.legacy.entries + stats.optimized.entries).sum();
    let light: u64 = results.values().map(|stats| stats.optimized.entries).sum();
    let summary = StatsSummary {
        total_legacy_size,
        total_optimized_size,
        total_reduction: percent(light, entries),
        migrations_needed: count(results.values().filter(|stats| stats.migration_needed).count()),
    };
    Ok(vec![("summary", reply::value(summary)?)])
}

fn verify_overall(
    results: &BTreeMap<String, JournalVerifyResult>,
) -> Result<Vec<(&'static str, Value)>, ToolError> {
    let checked: u64 = results.values().map(|result| result.checked_count).sum();
    let sound: f64 =
        results.values().map(|result| result.integrity_score * result.checked_count as f64).sum();
    let overall = OverallVerify {
        valid: results.values().all(|result| result.valid),
        total_corrupted: results.values().map(|result| count(result.corrupted_items.len())).sum(),
        avg_integrity_score: if checked == 0 { 1.0 } else { sound / checked as f64 },
    };
    Ok(vec![("overall", reply::value(overall)?)])
}

fn migrate_summary(
    results: &BTreeMap<String, JournalMigrateResult>,
) -> Result<Vec<(&'static str, Value)>, ToolError> {
    let before = results.values().map(|result| result.size_reduction.before).sum();
    let after = results.values().map(|result| result.size_reduction.after).sum();
    let summary = MigrateSummary {
        total_migrated: results.values().map(|result| result.migrated).sum(),
        total_errors: results.values().map(|result| count(result.errors.len())).sum(),
        total_reduction: SizeReduction {
            before,
            after,
            percentage: percent(u64::saturating_sub(before, after), before),
        },
    };
    Ok(vec![("summary", reply::value(summary)?)])
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
