//! `/api/v1/jobs`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};
use hyper::body::Bytes;
use llm_memory_engine::EngineError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use crate::access::Role;
use crate::mcp::Shared;
use crate::mcp::calls::{self, Control};
use crate::mcp::errors::Failure;
use crate::mcp::origin::Origin;
use crate::tools::{self, ToolError};

/// Longest wait for a change.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Which jobs are listed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    state: Option<String>,
    kind: Option<String>,
    limit: Option<u64>,
}

/// How long to wait, and from which revision on something is a change.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Wait {
    wait_seconds: Option<u64>,
    revision: Option<u64>,
}

/// Submits a job.
pub(super) async fn submit(
    State(shared): State<Arc<Shared>>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let arguments = arguments(&headers, body)?;
    let mut answer = call(&shared, &origin, "jobs.submit", arguments).await?;
    let created = answer.get("created").and_then(Value::as_bool) == Some(true);
    let job = answer.get_mut("job").map(Value::take).unwrap_or_default();
    let id = job.get("id").and_then(Value::as_str).unwrap_or_default();
    let location = format!("/api/v1/jobs/{id}");
    let status = if created { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, [(LOCATION, location)], Json(job)).into_response())
}

/// Lists jobs.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(origin): Extension<Origin>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(filter) = filter.map_err(|error| bad_query(&error))?;
    let given = [
        ("state", filter.state.map(Value::from)),
        ("kind", filter.kind.map(Value::from)),
        ("limit", filter.limit.map(Value::from)),
    ];
    let arguments: Map<String, Value> =
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let listed = call(&shared, &origin, "jobs.list", arguments).await?;
    Ok(Json(listed).into_response())
}

/// Answers a job, once it has changed if the caller wants to wait for that.
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(origin): Extension<Origin>,
    Path(id): Path<String>,
    wait: Result<Query<Wait>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(wait) = wait.map_err(|error| bad_query(&error))?;
    // Whoever may not look is told so by the call, at once.
    let may_look = origin.principal.has_any(&[Role::Operator, Role::Monitor]);
    if let Some(seconds) = wait.wait_seconds.filter(|seconds| *seconds > 0 && may_look) {
        let limit = Duration::from_secs(seconds).min(MAX_WAIT);
        let waited = shared.backstage.jobs.wait(&origin.principal, &id, wait.revision, limit);
        // That there is no such job is for the call to say, which is on record.
        drop(waited.await);
        // Whoever cannot be asked about the token is away for a moment: no reason to throw it away.
        let holds = origin.again(&*shared.authenticator).await;
        if !holds.map_err(|denied| Refusal::from(&denied))? {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the token does not say the same of its holder any more",
                "send a token that is valid now",
            ));
        }
    }
    let arguments = Map::from_iter([("id".to_owned(), id.into())]);
    let job = call(&shared, &origin, "jobs.get", arguments).await?;
    Ok(Json(job).into_response())
}

/// Cancels a pending job.
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Extension(origin): Extension<Origin>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let arguments = Map::from_iter([("id".to_owned(), id.into())]);
    let job = call(&shared, &origin, "jobs.cancel", arguments).await?;
    Ok(Json(job).into_response())
}

/// Calls the tool of that name as an MCP request would.
async fn call(
    shared: &Arc<Shared>,
    origin: &Origin,
    name: &'static str,
    arguments: Map<String, Value>,
) -> Result<Value, Refusal> {
    let tool = tools::find(name).ok_or_else(|| {
        Failure::Tool(ToolError::Engine(EngineError::Internal {
            context: "answer a request",
            message: format!("there is no tool {name}"),
        }))
    })?;
    Ok(calls::run(shared, origin, Control::none(), tool, name, arguments).await?)
}

/// The JSON object that a request carries. Its type has to say so: a page in a browser can send
/// anything else without being asked by the server first.
fn arguments(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Map<String, Value>, Refusal> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_argument",
            "the request is not of the type application/json",
            "send Content-Type: application/json",
        ));
    }
    let body = body.map_err(|error| {
        Refusal::new(error.status(), "invalid_argument", &error.body_text(), "send a shorter one")
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        let message = format!("the request is not a JSON object: {error}");
        let example = json!({ "kind": "verify" });
        let remedy = format!("send one, such as {example}");
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_argument", &message, &remedy)
    })
}

fn bad_query(error: &QueryRejection) -> Refusal {
    let remedy = "correct the parameters after the question mark";
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Refusal::new(status, "invalid_argument", &error.body_text(), remedy)
}
