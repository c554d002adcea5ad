//! Every operation that agents, operators and the command line can call, in one table: MCP, the
//! CLI and the reference pages are derived from it.

use std::sync::Arc;

use llm_memory_engine::api::Caller;
use llm_memory_engine::progress::Progress;
use llm_memory_engine::{Engine, EngineError};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::access::{Principal, Role};

/// What a tool gets besides its arguments.
pub struct ToolContext<'a> {
    /// The store.
    pub engine: &'a Arc<Engine>,
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

/// One operation.
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
    /// Changes nothing.
    pub read_only: bool,
    /// May destroy something.
    pub destructive: bool,
    /// The same call twice has the effect of one.
    pub idempotent: bool,
    /// JSON Schema of the arguments.
    pub input_schema: fn() -> Map<String, Value>,
    /// JSON Schema of the result.
    pub output_schema: fn() -> Map<String, Value>,
    /// Does the work; blocks.
    pub run: fn(&ToolContext<'_>, Map<String, Value>) -> Result<Value, ToolError>,
}

/// The table.
pub fn all() -> &'static [Tool] {
    &[]
}

/// Finds a tool by either spelling.
pub fn find(name: &str) -> Option<&'static Tool> {
    all().iter().find(|tool| tool.name == name || tool.dotted == name)
}
