//! The `project_*` tools: what a project shares, and how.

use llm_memory_engine::api::{SyncMergeRequest, SyncMergeResult, SyncStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Tool, reply, schema};
use crate::access::Role;

const AGENT: &[Role] = &[Role::Agent, Role::Operator];

/// No arguments besides `project`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct NoArguments {}

pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool {
            name: "project_sync_status",
            dotted: "project.sync.status",
            title: "Compare local and committed",
            description: "Which items are only in the project's local scope, only in its \
                committed scope, or newer in one of them.",
            roles: AGENT,
            core: false,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<NoArguments>,
            output_schema: schema::output::<SyncStatus>,
            run: |context, arguments| {
                let NoArguments {} = reply::parse(arguments)?;
                reply::value(context.engine.sync_status(context.caller)?)
            },
        },
        Tool {
            name: "project_sync_merge",
            dotted: "project.sync.merge",
            title: "Share local memories",
            description: "Copy local items into the committed scope, where the team sees them. \
                Items too sensitive for it, and items that are newer there (unless force), are \
                skipped and named with the reason.",
            roles: AGENT,
            core: false,
            read_only: false,
            destructive: true,
            idempotent: true,
            input_schema: schema::input::<SyncMergeRequest>,
            output_schema: schema::output::<SyncMergeResult>,
            run: |context, arguments| {
                let request: SyncMergeRequest = reply::parse(arguments)?;
                reply::value(context.engine.sync_merge(context.caller, request)?)
            },
        },
    ]
}
