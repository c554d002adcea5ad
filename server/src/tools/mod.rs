//! Every operation that agents, operators and the command line can call, in one table: MCP, the
//! CLI and the reference pages are derived from it.
//!
//! [`call`] is the one way in: it checks the caller's role, takes the `project` argument out,
//! checks the rest against the tool's schema, and runs the tool.

/// A tool that works on each scope by itself, with a summary beside several where there is one.
macro_rules! each_scope {
    (
        $name:literal, $dotted:literal, $title:literal, $roles:expr,
        [read_only: $read_only:literal, destructive: $destructive:literal],
        $request:ty => $result:ty, |$context:ident, $asked:ident| $work:expr,
        $description:expr
        $(, $key:literal: $summary:ty = $summarize:path)?
    ) => {
        Tool {
            name: $name,
            dotted: $dotted,
            title: $title,
            description: $description,
            roles: $roles,
            core: false,
            read_only: $read_only,
            destructive: $destructive,
            idempotent: true,
            input_schema: schema::input::<$request>,
            output_schema: || {
                schema::by_scope::<$result>(&[$(($key, schema::output::<$summary>()))?])
            },
            run: |$context, arguments| {
                let $asked: $request = reply::parse(arguments)?;
                let scope = $asked.scope;
                let results: BTreeMap<String, $result> = $work?;
                let extra = vec![$(($key, reply::value($summarize(&results))?))?];
                reply::by_scope(scope, results, extra)
            },
        }
    };
}

mod check;
mod jobs;
mod journal;
mod maintenance;
mod memory;
mod project;
mod reply;
pub mod schema;
mod segments;

use std::fmt;
use std::sync::{Arc, LazyLock};

use llm_memory_engine::api::Caller;
use llm_memory_engine::ids::ProjectId;
use llm_memory_engine::progress::Progress;
use llm_memory_engine::{Engine, EngineError};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::access::{Principal, Role};
use crate::jobs::{JobError, JobQueue};
pub(crate) use memory::governing_config;
pub(crate) use reply::whole_items;

/// What a tool gets besides its arguments.
pub struct ToolContext<'a> {
    /// The store.
    pub engine: &'a Arc<Engine>,
    /// Its jobs.
    pub jobs: &'a Arc<JobQueue>,
    /// Who calls.
    pub principal: &'a Principal,
    /// The engine's view of them, project included.
    pub caller: &'a Caller,
    /// Where long work reports how far it is.
    pub progress: &'a dyn Progress,
}

/// A tool that failed.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The engine said no.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The job queue said no.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The arguments do not have the tool's form.
    #[error("{field}: {reason}")]
    Arguments {
        /// Path of the argument.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The caller lacks a role.
    #[error("not allowed: {tool} needs the role {needs}")]
    Role {
        /// The tool.
        tool: &'static str,
        /// Roles of which one is needed.
        needs: String,
    },
}

impl ToolError {
    /// A stable word for logs, metrics and the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.code(),
            Self::Job(error) => error.code(),
            Self::Arguments { .. } => "invalid_argument",
            Self::Role { .. } => "forbidden",
        }
    }
}

/// One operation.
#[expect(clippy::struct_excessive_bools, reason = "each is one hint of the protocol")]
pub struct Tool {
    /// Name as advertised: `memory_query`.
    pub name: &'static str,
    /// Name as the reference system has it, also accepted: `memory.query`.
    pub dotted: &'static str,
    /// Title for people.
    pub title: &'static str,
    /// What it does, for agents.
    pub description: &'static str,
    /// Roles of which one is needed.
    pub roles: &'static [Role],
    /// In the small set that every agent sees.
    pub core: bool,
    /// Changes nothing.
    pub read_only: bool,
    /// May destroy something.
    pub destructive: bool,
    /// The same call twice has the effect of one.
    pub idempotent: bool,
    /// JSON Schema of the arguments, `project` included.
    pub input_schema: fn() -> Map<String, Value>,
    /// JSON Schema of the result.
    pub output_schema: fn() -> Map<String, Value>,
    /// Does the work; blocks. The arguments have been checked and hold no `project`.
    pub run: fn(&ToolContext<'_>, Map<String, Value>) -> Result<Value, ToolError>,
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.name).finish_non_exhaustive()
    }
}

static TABLE: LazyLock<Vec<Tool>> = LazyLock::new(|| {
    let mut table = memory::tools();
    table.extend(project::tools());
    table.extend(journal::tools());
    table.extend(maintenance::tools());
    table.extend(segments::tools());
    table.extend(jobs::tools());
    table
});

/// The table, in the order in which it is shown.
pub fn all() -> &'static [Tool] {
    &TABLE
}

/// Finds a tool by either spelling.
pub fn find(name: &str) -> Option<&'static Tool> {
    all().iter().find(|tool| tool.name == name || tool.dotted == name)
}

/// A call before it runs.
#[derive(Debug)]
pub struct Call<'a> {
    /// The tool.
    pub tool: &'static Tool,
    /// Who calls.
    pub principal: &'a Principal,
    /// The project when the arguments name none.
    pub default_project: Option<ProjectId>,
    /// Arguments, `project` included.
    pub arguments: Map<String, Value>,
}

/// Whether `principal` has a role that `tool` needs.
pub fn authorize(tool: &Tool, principal: &Principal) -> Result<(), ToolError> {
    if principal.has_any(tool.roles) {
        return Ok(());
    }
    let needs = tool.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or ");
    Err(ToolError::Role { tool: tool.name, needs })
}

/// Runs one call; blocks.
pub fn call(
    engine: &Arc<Engine>,
    jobs: &Arc<JobQueue>,
    call: Call<'_>,
    progress: &dyn Progress,
) -> Result<Value, ToolError> {
    let Call { tool, principal, default_project, mut arguments } = call;
    authorize(tool, principal)?;
    check::arguments(schema::of(tool), &arguments)?;
    check::settle_numbers(&mut arguments);
    let project = take_project(&mut arguments)?.or(default_project);
    let caller = principal.caller(project).map_err(|reason| EngineError::Forbidden { reason })?;
    let context = ToolContext { engine, jobs, principal, caller: &caller, progress };
    (tool.run)(&context, arguments)
}

fn take_project(arguments: &mut Map<String, Value>) -> Result<Option<ProjectId>, ToolError> {
    match arguments.remove("project") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => ProjectId::new(name).map(Some).map_err(|error| {
            ToolError::Arguments { field: "project".to_owned(), reason: error.reason }
        }),
        Some(_) => Err(ToolError::Arguments {
            field: "project".to_owned(),
            reason: "must be a string".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
