//! The `project_*` tools: what a project is, what it shares, and how its scopes are configured.

use llm_memory_engine::api::{
    ScopeRequest, SyncMergeRequest, SyncMergeResult, SyncStatus, SyncStatusRequest,
};
use llm_memory_engine::config::ScopeConfig;
use llm_memory_engine::ids::{ProjectId, Scope};
use llm_memory_engine::{EngineError, project};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Tool, ToolContext, ToolError, reply, schema};
use crate::access::Role;

/// What holds no item, and operators need too.
const AGENT: &[Role] = &[Role::Agent, Role::Operator];
/// What reads or copies items.
const ITEMS: &[Role] = &[Role::Agent];
const OPERATOR: &[Role] = &[Role::Operator];

/// No arguments besides `project`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct NoArguments {}

/// What is known about a project.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProjectReply {
    /// Identity of the project, as the `project` argument takes it.
    repo_id: ProjectId,
    /// Top folder of the checkout, when the server runs in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    /// Branch checked out there.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    /// URL of its remote, without credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    /// Whether the project has a committed memory.
    has_committed_memory: bool,
}

/// Result of `project.initCommitted`.
#[derive(Debug, Serialize, JsonSchema)]
struct InitReply {
    /// The project.
    project: ProjectId,
    /// The scope that is there now.
    scope: Scope,
    /// Whether it was made by this call.
    created: bool,
}

/// Names a scope whose configuration is meant.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConfigRequest {
    /// The scope; `committed` when left out.
    #[serde(default = "committed")]
    scope: Scope,
}

const fn committed() -> Scope {
    Scope::Committed
}

/// `project.config.set`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConfigSetRequest {
    /// The scope.
    scope: Scope,
    /// The whole configuration; settings left out get their defaults.
    config: Map<String, Value>,
}

/// The configuration of one scope.
#[derive(Debug, Serialize, JsonSchema)]
struct ConfigReply {
    /// The scope.
    scope: Scope,
    /// Every setting in force, defaults included.
    config: Map<String, Value>,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool {
            name: "project_info",
            dotted: "project.info",
            title: "About the project",
            description: "Which project this connection works in, and whether its team has a \
                committed memory.",
            roles: AGENT,
            core: true,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<NoArguments>,
            output_schema: schema::output::<ProjectReply>,
            run: info,
        },
        Tool {
            name: "project_init_committed",
            dotted: "project.initCommitted",
            title: "Begin a committed memory",
            description: "Make the committed scope of the project, where memories shared by its \
                team live. Does nothing when it is there.",
            roles: AGENT,
            core: false,
            read_only: false,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<NoArguments>,
            output_schema: schema::output::<InitReply>,
            run: init_committed,
        },
        Tool {
            name: "project_config_get",
            dotted: "project.config.get",
            title: "Read a scope's configuration",
            description: "Ranking, caches, sharing, expiry and maintenance settings in force for \
                one scope.",
            roles: AGENT,
            core: false,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<ConfigRequest>,
            output_schema: schema::output::<ConfigReply>,
            run: |context, arguments| {
                let ConfigRequest { scope } = reply::parse(arguments)?;
                let config = context.engine.scope_config(context.caller, scope)?;
                reply::value(ConfigReply { scope, config: members(config.to_json()) })
            },
        },
        Tool {
            name: "project_config_set",
            dotted: "project.config.set",
            title: "Replace a scope's configuration",
            description: "Replace the configuration of one scope whole; it is in force for every \
                call that begins later. Read it first with project_config_get.",
            roles: OPERATOR,
            core: false,
            read_only: false,
            destructive: true,
            idempotent: true,
            input_schema: schema::input::<ConfigSetRequest>,
            output_schema: schema::output::<ConfigReply>,
            run: config_set,
        },
        Tool {
            name: "project_sync_status",
            dotted: "project.sync.status",
            title: "Compare local and committed",
            description: "Which items are only in the project's local scope, only in its \
                committed scope, or newer in one of them: how many, and the first of each.",
            roles: ITEMS,
            core: false,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<SyncStatusRequest>,
            output_schema: schema::output::<SyncStatus>,
            run: |context, arguments| {
                let request: SyncStatusRequest = reply::parse(arguments)?;
                reply::value(context.engine.sync_status(context.caller, request)?)
            },
        },
        Tool {
            name: "project_sync_merge",
            dotted: "project.sync.merge",
            title: "Share local memories",
            description: "Copy local items into the committed scope, where the team sees them. \
                Items too sensitive for it, and items that are newer there (unless force), are \
                skipped and named with the reason. All items are counted; without ids, the first \
                1,000 of each kind are named.",
            roles: ITEMS,
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

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn project_of(context: &ToolContext<'_>) -> Result<ProjectId, ToolError> {
    context.caller.project.clone().ok_or_else(|| ToolError::Arguments {
        field: "project".to_owned(),
        reason: "is required: this connection works in no project of its own".to_owned(),
    })
}

fn has_committed(context: &ToolContext<'_>) -> Result<bool, ToolError> {
    if !context.caller.read.contains(Scope::Committed) {
        return Ok(false);
    }
    let asked = ScopeRequest { scope: Scope::Committed.into() };
    let found = context.engine.journal_stats(context.caller, asked)?;
    Ok(found.values().any(|stats| stats.legacy.exists || stats.optimized.exists))
}

fn info(context: &ToolContext<'_>, arguments: Map<String, Value>) -> Result<Value, ToolError> {
    let NoArguments {} = reply::parse(arguments)?;
    let repo_id = project_of(context)?;
    // A server that runs in the project's own checkout can say more about it; what lies around a
    // server that serves others is nobody's business.
    let here = std::env::current_dir()
        .ok()
        .and_then(|folder| project::identify(context.engine.disk().as_ref(), &folder).ok())
        .filter(|found| found.repo_id == repo_id);
    let (root, branch, remote) = match here {
        Some(found) => (Some(found.root), found.branch, found.remote),
        None => (None, None, None),
    };
    let has_committed_memory = has_committed(context)?;
    reply::value(ProjectReply { repo_id, root, branch, remote, has_committed_memory })
}

fn init_committed(
    context: &ToolContext<'_>,
    arguments: Map<String, Value>,
) -> Result<Value, ToolError> {
    let NoArguments {} = reply::parse(arguments)?;
    let project = project_of(context)?;
    let scope = Scope::Committed;
    let created = !has_committed(context)?;
    if created {
        let config = context.engine.scope_config(context.caller, scope)?;
        context.engine.set_scope_config(context.caller, scope, &config)?;
    }
    reply::value(InitReply { project, scope, created })
}

fn config_set(
    context: &ToolContext<'_>,
    arguments: Map<String, Value>,
) -> Result<Value, ToolError> {
    let ConfigSetRequest { scope, config } = reply::parse(arguments)?;
    let config = ScopeConfig::from_json(&Value::Object(config)).map_err(EngineError::from)?;
    context.engine.set_scope_config(context.caller, scope, &config)?;
    reply::value(ConfigReply { scope, config: members(config.to_json()) })
}
