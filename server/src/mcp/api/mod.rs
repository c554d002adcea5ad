//! Jobs and status as plain HTTP, for controllers and scheduled clients that speak no MCP.
//!
//! | request | does | roles |
//! | --- | --- | --- |
//! | `POST /api/v1/jobs` | `jobs.submit`; 202, or 200 when the key is known | operator |
//! | `GET /api/v1/jobs{?state,kind,limit}` | `jobs.list` | operator, monitor |
//! | `GET /api/v1/jobs/{id}{?waitSeconds,revision}` | `jobs.get`, once something has changed | operator, monitor |
//! | `DELETE /api/v1/jobs/{id}` | `jobs.cancel` | operator |
//! | `GET /api/v1/status` | the status page | operator, monitor |
//!
//! Requests are let in as those at `/mcp` are, and run as calls of the tools: the same roles, the
//! same bounds, the same record. Refusals are `{"error": {"code", "message", "remedy"}}`.

mod door;
mod error;
mod jobs;
pub(crate) mod names;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;

use crate::mcp::Shared;

/// The routes, with their own door.
pub(crate) fn routes(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/api/v1/jobs/{id}", get(jobs::get).delete(jobs::cancel))
        .route("/api/v1/status", get(status::page))
        .layer(DefaultBodyLimit::max(shared.options.max_body_bytes))
        .layer(middleware::from_fn_with_state(Arc::clone(shared), door::let_in))
        .with_state(Arc::clone(shared))
}
