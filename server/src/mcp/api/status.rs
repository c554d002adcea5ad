//! `/api/v1/status`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::Value;

use super::error::Refusal;
use crate::access::Role;
use crate::mcp::Shared;
use crate::mcp::errors::Failure;
use crate::mcp::gate::Guest;
use crate::mcp::observe::{Asked, CallRecord};
use crate::mcp::origin::Origin;
use crate::tools::{self, ToolError};

/// Whose record it goes on: the page is the wider form of what this tool answers.
const TOOL: &str = "jobs.status";
/// How it is called there.
const NAME: &str = "api://v1/status";

/// Answers the status page.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    Extension(origin): Extension<Origin>,
) -> Result<Response, Refusal> {
    // Whoever asks may go away; that they asked is on record all the same.
    let answered = tokio::spawn(async move { record(&shared, &origin).await }).await;
    let answer = answered.map_err(|error| Failure::Lost(error.to_string()))?;
    Ok(Json(answer?).into_response())
}

async fn record(shared: &Arc<Shared>, origin: &Origin) -> Result<Value, Failure> {
    let begun = Instant::now();
    let answer = document(shared, origin).await;
    if let Some(tool) = tools::find(TOOL) {
        shared.observer.call_finished(&CallRecord {
            tool,
            name: NAME,
            principal: &origin.principal,
            asked: &Asked::default(),
            result: answer.as_ref().ok(),
            error: answer.as_ref().err().map(Failure::code),
            message: None,
            field: None,
            duration: begun.elapsed(),
            transport: origin.transport,
            peer: origin.peer,
            redactor: &shared.engine.redactor(),
        });
    }
    answer
}

async fn document(shared: &Arc<Shared>, origin: &Origin) -> Result<Value, Failure> {
    if !origin.principal.has_any(&[Role::Operator, Role::Monitor]) {
        let needs = "operator or monitor".to_owned();
        return Err(ToolError::Role { tool: NAME, needs }.into());
    }
    let permit = shared.gate.enter(Guest::of(origin)).await.map_err(Failure::Busy)?;
    let (page, principal) = (shared.backstage.status.clone(), Arc::clone(&origin.principal));
    let made = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        page.map(|page| page.document(&principal))
    });
    let made = made.await.map_err(|error| Failure::Lost(error.to_string()))?;
    made.ok_or_else(|| Failure::Lost("this process serves no status page".to_owned()))
}
