//! The `maintenance_*` tools.

use std::collections::BTreeMap;

use llm_memory_engine::api::{
    CleanupResult, MaintenanceResult, PruneRequest, PruneResult, RecoverResult, ReplayRequest,
    ScopeRequest, SnapshotResult, ViewsVerifyResult,
};
use llm_memory_engine::ids::ScopeSelector;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Tool, ToolContext, ToolError, reply, schema};
use crate::access::Role;

const OPERATOR: &[Role] = &[Role::Operator];

/// Snapshots of several scopes.
#[derive(Debug, Serialize, JsonSchema)]
struct Snapshots {
    /// All were taken.
    ok: bool,
    /// By scope.
    scopes: BTreeMap<String, SnapshotResult>,
}

/// A compaction followed by a snapshot.
#[derive(Debug, Serialize, JsonSchema)]
struct CompactSnapshot {
    /// What compaction did, by scope.
    compacted: BTreeMap<String, MaintenanceResult>,
    /// A snapshot of every scope was taken afterwards.
    snapshotted: bool,
    /// The snapshots, by scope.
    snapshots: BTreeMap<String, SnapshotResult>,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![
        each_scope!(
            "maintenance_rebuild", "maintenance.rebuild", "Rebuild the views", OPERATOR,
            [read_only: false, destructive: false],
            ScopeRequest => MaintenanceResult,
            |context, asked| context.engine.rebuild(context.caller, asked, context.progress),
            "Drop the catalog and the index of each scope and derive them again from the journal. \
             Searches of the scope may be incomplete until it is done."
        ),
        each_scope!(
            "maintenance_replay", "maintenance.replay", "Replay the journal", OPERATOR,
            [read_only: false, destructive: false],
            ReplayRequest => MaintenanceResult,
            |context, asked| context.engine.replay(context.caller, asked, context.progress),
            "Bring the views up to the journal's head, then compact if asked."
        ),
        each_scope!(
            "maintenance_compact", "maintenance.compact", "Compact", OPERATOR,
            [read_only: false, destructive: false],
            ScopeRequest => MaintenanceResult,
            |context, asked| context.engine.compact(context.caller, asked, context.progress),
            "Move superseded bodies out of sealed journal segments into compressed blocks and \
             remove the bodies of erased items for good."
        ),
        each_scope!(
            "maintenance_compact_now", "maintenance.compact.now", "Compact now", OPERATOR,
            [read_only: false, destructive: false],
            ScopeRequest => MaintenanceResult,
            |context, asked| context.engine.compact(context.caller, asked, context.progress),
            "The same as maintenance_compact, under the name that the reference system gives to \
             a compaction outside its schedule."
        ),
        each_scope!(
            "maintenance_verify", "maintenance.verify", "Verify the views", OPERATOR,
            [read_only: true, destructive: false],
            ScopeRequest => ViewsVerifyResult,
            |context, asked| context.engine.verify_views(context.caller, asked, context.progress),
            "Check that the catalog, the index and the blocks agree with the journal."
        ),
        each_scope!(
            "maintenance_recover", "maintenance.recover", "Go on after damage", OPERATOR,
            [read_only: false, destructive: true],
            ScopeRequest => RecoverResult,
            |context, asked| context.engine.recover(context.caller, asked, context.progress),
            "Set a damaged open journal segment aside, keep what comes before the damage, derive \
             the views again and write once more what can be read after it. Scopes in order are \
             left alone. What was damaged stays lost unless it is restored from a backup."
        ),
        each_scope!(
            "maintenance_cleanup", "maintenance.cleanup", "Remove leftovers", OPERATOR,
            [read_only: false, destructive: true],
            PruneRequest => CleanupResult,
            |context, asked| context.engine.cleanup(context.caller, asked, context.progress),
            "Remove temporary and partial files and blocks that nothing refers to; with dryRun \
             only name them."
        ),
        Tool {
            name: "maintenance_prune",
            dotted: "maintenance.prune",
            title: "Prune expired memories",
            description: "Delete items whose time to live is over; with dryRun only name them.",
            roles: OPERATOR,
            core: false,
            read_only: false,
            destructive: true,
            idempotent: true,
            input_schema: schema::input::<PruneRequest>,
            output_schema: schema::output::<PruneResult>,
            run: |context, arguments| {
                let request: PruneRequest = reply::parse(arguments)?;
                reply::value(context.engine.prune(context.caller, request, context.progress)?)
            },
        },
        Tool {
            name: "maintenance_snapshot",
            dotted: "maintenance.snapshot",
            title: "Take a snapshot",
            description: "Make every view durable and record the journal position and checksum \
                that they have.",
            roles: OPERATOR,
            core: false,
            read_only: false,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<ScopeRequest>,
            output_schema: snapshot_schema,
            run: snapshot,
        },
        Tool {
            name: "maintenance_compact_snapshot",
            dotted: "maintenance.compactSnapshot",
            title: "Compact, then take a snapshot",
            description: "maintenance_compact followed by maintenance_snapshot.",
            roles: OPERATOR,
            core: false,
            read_only: false,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<ScopeRequest>,
            output_schema: schema::output::<CompactSnapshot>,
            run: compact_snapshot,
        },
    ]
}

fn snapshot_schema() -> Map<String, Value> {
    let forms = [schema::output::<SnapshotResult>(), schema::output::<Snapshots>()];
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("anyOf".to_owned(), forms.into_iter().map(Value::Object).collect());
    schema
}

fn snapshot(context: &ToolContext<'_>, arguments: Map<String, Value>) -> Result<Value, ToolError> {
    let request: ScopeRequest = reply::parse(arguments)?;
    let asked = request.scope;
    let scopes = context.engine.snapshot(context.caller, request, context.progress)?;
    if reply::is_bare(asked, &scopes) {
        return scopes.into_values().next().map_or(Ok(Value::Null), reply::value);
    }
    reply::value(Snapshots { ok: scopes.values().all(|result| result.ok), scopes })
}

fn compact_snapshot(
    context: &ToolContext<'_>,
    arguments: Map<String, Value>,
) -> Result<Value, ToolError> {
    let ScopeRequest { scope } = reply::parse(arguments)?;
    let each = |scope: ScopeSelector| ScopeRequest { scope };
    let compacted = context.engine.compact(context.caller, each(scope), context.progress)?;
    let snapshots = context.engine.snapshot(context.caller, each(scope), context.progress)?;
    let snapshotted = snapshots.values().all(|result| result.ok);
    reply::value(CompactSnapshot { compacted, snapshotted, snapshots })
}
