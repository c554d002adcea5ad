//! The fixtures that the official conformance suite calls, served by the production stack when
//! conformance mode is on. Names, texts and shapes are the suite's.
//!
//! Off by default: the fixtures are not for agents, and some ask the client for things.

mod input;
mod plain;
mod prompts;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, GetPromptRequestParams, GetPromptResponse, Prompt,
    ReadResourceResult, RequestStateCodec, Resource, ResourceContents, ResourceTemplate, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Map, Value, json};

use crate::mcp::changes::Watch;
use crate::mcp::handler::Handler;

/// A red pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAA\
    AABJRU5ErkJggg==";
/// No sound at all.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";

const STATIC_TEXT: &str = "test://static-text";
const STATIC_BINARY: &str = "test://static-binary";
const WATCHED: &str = "test://watched-resource";

type Answer = Result<CallToolResponse, ErrorData>;

/// The fixtures; one for a server.
pub(crate) struct Fixtures {
    /// Seals the state that multi-round tools hand to the client.
    states: RequestStateCodec,
}

impl Fixtures {
    pub(crate) fn new() -> Self {
        // Two ULIDs hold 160 random bits in 52 characters; the state need not outlive the process.
        let key = format!("{}{}", ulid::Ulid::generate(), ulid::Ulid::generate());
        Self { states: RequestStateCodec::new_unchecked(key.into_bytes()) }
    }

    pub(crate) fn tools(&self) -> Vec<Tool> {
        let plain = plain::TOOLS.iter().map(|(name, text, argument)| tool(name, text, *argument));
        let input = input::TOOLS.iter().map(|(name, text)| tool(name, text, None));
        plain.chain(input).collect()
    }

    /// The answer of the fixture tool named in `request`; `None` when there is none.
    pub(crate) async fn call(
        &self,
        handler: &Handler,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Option<Answer> {
        if let Some(answer) = input::call(&self.states, request, context) {
            return Some(answer);
        }
        plain::call(handler, request, context).await
    }

    pub(crate) fn resources(&self) -> Vec<Resource> {
        [
            (STATIC_TEXT, "static-text", "text/plain"),
            (STATIC_BINARY, "static-binary", "image/png"),
            (WATCHED, "watched-resource", "text/plain"),
        ]
        .into_iter()
        .map(|(uri, name, kind)| {
            Resource::new(uri, name)
                .with_description(format!("Conformance fixture {name}."))
                .with_mime_type(kind)
        })
        .collect()
    }

    pub(crate) fn templates(&self) -> Vec<ResourceTemplate> {
        vec![
            ResourceTemplate::new("test://template/{id}/data", "template")
                .with_description("Conformance fixture with a parameter.")
                .with_mime_type("application/json"),
        ]
    }

    pub(crate) fn read(&self, uri: &str) -> Option<ReadResourceResult> {
        let contents = match uri {
            STATIC_TEXT => {
                ResourceContents::text("This is the content of the static text resource.", uri)
            }
            STATIC_BINARY => ResourceContents::blob(PNG, uri).with_mime_type("image/png"),
            WATCHED => ResourceContents::text("Watched resource content", uri),
            _ => {
                let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
                let text = json!({
                    "id": id, "templateTest": true, "data": format!("Data for ID: {id}"),
                });
                ResourceContents::text(text.to_string(), uri).with_mime_type("application/json")
            }
        };
        Some(ReadResourceResult::new(vec![contents]))
    }

    pub(crate) fn watch(&self, uri: &str) -> Option<Watch> {
        (uri == WATCHED).then(|| Watch { tenant: None, project: None, scopes: vec![], id: None })
    }

    pub(crate) fn prompts(&self) -> Vec<Prompt> {
        prompts::list()
    }

    pub(crate) fn prompt(
        &self,
        request: &GetPromptRequestParams,
    ) -> Option<Result<GetPromptResponse, ErrorData>> {
        prompts::get(request)
    }
}

fn tool(name: &'static str, description: &'static str, argument: Option<&str>) -> Tool {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    if let Some(argument) = argument {
        let mut properties = Map::new();
        properties.insert(argument.to_owned(), json!({"type": "string"}));
        schema.insert("properties".to_owned(), Value::Object(properties));
        schema.insert("required".to_owned(), json!([argument]));
    }
    Tool::new(name, description, schema)
}
