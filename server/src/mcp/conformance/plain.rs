//! Fixture tools that answer at once, report on the way, or ask the client over its session.

#![expect(deprecated, reason = "the suite exercises what the older revision has")]

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ContentBlock,
    CreateMessageRequestParams, ElicitRequestParams, LoggingLevel, ProgressNotificationParam,
    ResourceContents,
};
use rmcp::service::{RequestContext, ServiceError};
use rmcp::{ErrorData, RoleServer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Answer, PNG, WATCHED, WAV};
use crate::mcp::changes::Notice;
use crate::mcp::handler::Handler;

/// Name, description, and the one argument of those that have one.
pub(super) const TOOLS: [(&str, &str, Option<&str>); 17] = [
    ("test_simple_text", "Answers a text.", None),
    ("test_image_content", "Answers an image.", None),
    ("test_audio_content", "Answers a sound.", None),
    ("test_embedded_resource", "Answers a resource.", None),
    ("test_multiple_content_types", "Answers a text, an image and a resource.", None),
    ("test_tool_with_logging", "Logs three messages.", None),
    ("test_tool_with_progress", "Reports progress three times.", None),
    ("test_error_handling", "Fails.", None),
    ("test_sampling", "Asks the client's model.", Some("prompt")),
    ("test_elicitation", "Asks the client's user.", Some("message")),
    ("test_elicitation_sep1034_defaults", "Asks with defaults.", None),
    ("test_elicitation_sep1330_enums", "Asks with choices.", None),
    ("test_missing_capability", "Needs the sampling capability.", None),
    ("test_logging_tool", "Logs one message.", None),
    ("test_trigger_tool_change", "Says that the list of tools changed.", None),
    ("test_trigger_prompt_change", "Says that the list of prompts changed.", None),
    ("test_trigger_resource_update", "Says that the watched resource changed.", None),
];

const STEP: Duration = Duration::from_millis(50);

pub(super) async fn call(
    handler: &Handler,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Option<Answer> {
    let text = |name: &str| {
        let arguments = request.arguments.as_ref();
        arguments.and_then(|all| all.get(name)).and_then(Value::as_str).unwrap_or_default()
    };
    let content = match request.name.as_ref() {
        "test_simple_text" => {
            vec![ContentBlock::text("This is a simple text response for testing.")]
        }
        "test_image_content" => vec![ContentBlock::image(PNG, "image/png")],
        "test_audio_content" => vec![ContentBlock::audio(WAV, "audio/wav")],
        "test_embedded_resource" => vec![ContentBlock::resource(ResourceContents::text(
            "This is an embedded resource content.",
            "test://embedded-resource",
        ))],
        "test_multiple_content_types" => vec![
            ContentBlock::text("Multiple content types test:"),
            ContentBlock::image(PNG, "image/png"),
            ContentBlock::resource(
                ResourceContents::text(
                    json!({"test": "data", "value": 123}).to_string(),
                    "test://mixed-content-resource",
                )
                .with_mime_type("application/json"),
            ),
        ],
        "test_tool_with_logging" => {
            for message in
                ["Tool execution started", "Tool processing data", "Tool execution completed"]
            {
                handler.log(context, LoggingLevel::Info, message.into()).await;
                tokio::time::sleep(STEP).await;
            }
            vec![ContentBlock::text("Three messages logged.")]
        }
        "test_logging_tool" => {
            handler.log(context, LoggingLevel::Info, "One message".into()).await;
            vec![ContentBlock::text("Logged, if that was wanted.")]
        }
        "test_tool_with_progress" => {
            progress(context).await;
            vec![ContentBlock::text("Progress reported.")]
        }
        "test_error_handling" => {
            let message = "This tool intentionally returns an error for testing";
            return Some(Ok(CallToolResult::error(vec![ContentBlock::text(message)]).into()));
        }
        "test_sampling" => return Some(sample(context, text("prompt")).await),
        "test_elicitation" => {
            let schema = json!({
                "type": "object",
                "properties": {
                    "username": {"type": "string", "description": "User's response"},
                    "email": {"type": "string", "description": "User's email address"},
                },
                "required": ["username", "email"],
            });
            return Some(elicit(context, text("message"), schema, "User response: ").await);
        }
        "test_elicitation_sep1034_defaults" => {
            let message = "Please confirm the defaults";
            return Some(
                elicit(context, message, defaults_schema(), "Elicitation completed: ").await,
            );
        }
        "test_elicitation_sep1330_enums" => {
            let message = "Please choose";
            return Some(
                elicit(context, message, choices_schema(), "Elicitation completed: ").await,
            );
        }
        "test_missing_capability" => {
            let able = context.client_capabilities().is_some_and(|all| all.sampling.is_some());
            if !able {
                let needed = ClientCapabilities::builder().enable_sampling().build();
                return Some(Err(ErrorData::missing_required_client_capability(needed)));
            }
            vec![ContentBlock::text("The client can sample.")]
        }
        "test_trigger_tool_change" => publish(handler, Notice::Tools),
        "test_trigger_prompt_change" => publish(handler, Notice::Prompts),
        "test_trigger_resource_update" => publish(handler, Notice::Resource(WATCHED.to_owned())),
        _ => return None,
    };
    Some(Ok(CallToolResult::success(content).into()))
}

fn publish(handler: &Handler, notice: Notice) -> Vec<ContentBlock> {
    handler.shared.changes.publish(notice);
    vec![ContentBlock::text("Subscribers have been told.")]
}

async fn progress(context: &RequestContext<RoleServer>) {
    let token = context.meta.get_progress_token();
    for done in [0.0, 50.0, 100.0] {
        if let Some(token) = &token {
            let mut note = ProgressNotificationParam::new(token.clone(), done);
            note.total = Some(100.0);
            let _ = context.peer.notify_progress(note).await;
        }
        tokio::time::sleep(STEP).await;
    }
}

fn made<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(format!("fixture: {error}"), None))
}

fn refused(error: &ServiceError) -> Answer {
    let text = ContentBlock::text(format!("the client did not answer: {error}"));
    Ok(CallToolResult::error(vec![text]).into())
}

async fn sample(context: &RequestContext<RoleServer>, prompt: &str) -> Answer {
    let asked: CreateMessageRequestParams = made(json!({
        "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}],
        "maxTokens": 100,
    }))?;
    match context.peer.create_message(asked).await {
        Ok(answer) => {
            let answer = serde_json::to_value(&answer.message.content).unwrap_or_default();
            let text = answer.get("text").or_else(|| answer.pointer("/0/text"));
            let text = text.and_then(Value::as_str).unwrap_or_default();
            let block = ContentBlock::text(format!("LLM response: {text}"));
            Ok(CallToolResult::success(vec![block]).into())
        }
        Err(error) => refused(&error),
    }
}

async fn elicit(
    context: &RequestContext<RoleServer>,
    message: &str,
    schema: Value,
    prefix: &str,
) -> Answer {
    let asked: ElicitRequestParams =
        made(json!({"mode": "form", "message": message, "requestedSchema": schema}))?;
    match context.peer.create_elicitation(asked).await {
        Ok(answer) => {
            let action = serde_json::to_value(&answer.action).unwrap_or_default();
            let content = serde_json::to_value(&answer.content).unwrap_or_default();
            let text = format!(
                "{prefix}action={}, content={content}",
                action.as_str().unwrap_or_default()
            );
            Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
        }
        Err(error) => refused(&error),
    }
}

fn defaults_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {
                "type": "string",
                "enum": ["active", "inactive", "pending"],
                "default": "active",
            },
            "verified": {"type": "boolean", "default": true},
        },
        "required": [],
    })
}

fn choices_schema() -> Value {
    let titled = |names: [(&str, &str); 3]| -> Value {
        names.into_iter().map(|(value, title)| json!({"const": value, "title": title})).collect()
    };
    let options =
        [("value1", "First Option"), ("value2", "Second Option"), ("value3", "Third Option")];
    let choices =
        [("value1", "First Choice"), ("value2", "Second Choice"), ("value3", "Third Choice")];
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
            "titledSingle": {"type": "string", "oneOf": titled(options)},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {
                "type": "array",
                "items": {"type": "string", "enum": ["option1", "option2", "option3"]},
            },
            "titledMulti": {"type": "array", "items": {"anyOf": titled(choices)}},
        },
        "required": [],
    })
}
