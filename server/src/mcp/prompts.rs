//! The prompt `check-memory`: what is known about a task, as text to begin it with.

use std::sync::Arc;

use llm_memory_engine::ids::ScopeSelector;
use llm_memory_engine::pack::CheckMemory;
use rmcp::model::{
    GetPromptRequestParams, GetPromptResult, Prompt, PromptArgument, PromptMessage,
    Role as MessageRole,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Map, Value, json};

use crate::access::Role;
use crate::mcp::Shared;
use crate::mcp::calls::{self, Control};
use crate::mcp::errors::Failure;
use crate::mcp::origin::Origin;
use crate::tools::{self, Tool, ToolContext, ToolError};

const NAME: &str = "check-memory";

/// The work behind the prompt, run like a tool so that roles, limits and audit apply; it is in no
/// list.
static CHECK_MEMORY: Tool = Tool {
    name: NAME,
    dotted: NAME,
    title: "Check memory",
    description: "What is remembered about a task.",
    roles: &[Role::Agent],
    core: false,
    read_only: true,
    destructive: false,
    idempotent: true,
    input_schema: Map::new,
    output_schema: Map::new,
    run: check_memory,
};

pub(crate) fn list() -> Vec<Prompt> {
    let arguments = vec![
        PromptArgument::new("task")
            .with_description("What you are about to do.")
            .with_required(true),
        PromptArgument::new("files")
            .with_description("Files it touches, separated by commas.")
            .with_required(false),
        PromptArgument::new("context")
            .with_description("Anything else that matters.")
            .with_required(false),
    ];
    vec![
        Prompt::new(NAME, Some(CHECK_MEMORY.description), Some(arguments))
            .with_title(CHECK_MEMORY.title),
    ]
}

pub(crate) async fn get(
    shared: &Arc<Shared>,
    origin: &Origin,
    context: &RequestContext<RoleServer>,
    request: GetPromptRequestParams,
) -> Result<GetPromptResult, ErrorData> {
    if request.name != NAME {
        return Err(ErrorData::invalid_params(
            format!("unknown prompt {:?}: there is {NAME}", request.name),
            None,
        ));
    }
    let asked = request.arguments.unwrap_or_default();
    let control = Control::of(context);
    let found = calls::run(shared, origin, control, &CHECK_MEMORY, NAME, asked)
        .await
        .map_err(Failure::into_error)?;
    let text = found.get("text").and_then(Value::as_str).unwrap_or_default();
    let message = PromptMessage::new_text(MessageRole::User, text);
    let mut result = GetPromptResult::new(vec![message]);
    result.description = Some(CHECK_MEMORY.description.to_owned());
    Ok(result)
}

/// The prompt's arguments, all of them text.
fn request_of(arguments: &Map<String, Value>) -> Result<CheckMemory, ToolError> {
    const KNOWN: [&str; 3] = ["task", "files", "context"];
    if let Some(name) = arguments.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(ToolError::Arguments {
            field: name.chars().take(60).collect(),
            reason: format!("is not an argument; there are {}", KNOWN.join(", ")),
        });
    }
    let text = |name: &str| {
        let value = arguments.get(name).and_then(Value::as_str).unwrap_or_default().trim();
        (!value.is_empty()).then(|| value.to_owned())
    };
    let Some(task) = text("task") else {
        return Err(ToolError::Arguments {
            field: "task".to_owned(),
            reason: "is required: what you are about to do".to_owned(),
        });
    };
    let files = text("files").unwrap_or_default();
    let files = files.split(',').map(str::trim).filter(|file| !file.is_empty());
    Ok(CheckMemory { task, files: files.map(str::to_owned).collect(), context: text("context") })
}

fn check_memory(
    context: &ToolContext<'_>,
    arguments: Map<String, Value>,
) -> Result<Value, ToolError> {
    let request = request_of(&arguments)?;
    let config = tools::governing_config(context, ScopeSelector::Project)?;
    let mut query = request.to_query(&config.check_memory);
    if context.caller.project.is_none() {
        // Without a project there is only what belongs to all of them.
        query.scope = ScopeSelector::Global;
    }
    let items = tools::whole_items(context.engine.query(context.caller, query)?);
    let text = request.markdown(&items, &config.check_memory);
    Ok(json!({"text": text, "items": items.len()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_task_is_needed() {
        for given in [json!({}), json!({"task": " "})] {
            let error = request_of(&arguments(given)).unwrap_err();
            assert!(error.to_string().starts_with("task: "), "{error}");
        }
    }

    #[test]
    fn a_mistyped_argument_is_named() {
        let error = request_of(&arguments(json!({"task": "t", "file": "a"}))).unwrap_err();
        assert_eq!(error.to_string(), "file: is not an argument; there are task, files, context");
    }

    #[test]
    fn files_are_separated_by_commas() {
        let given = json!({"task": "t", "files": "a.rs, src/b.rs,", "context": ""});
        let request = request_of(&arguments(given)).unwrap();
        assert_eq!(request.files, ["a.rs", "src/b.rs"]);
        assert_eq!(request.context, None);
    }
}
