//! Refusals on the wire.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::mcp::auth::Denied;
use crate::mcp::errors::Failure;

/// A request that was not done.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// `{code, message, remedy?, field?, retryAfterMs?}`.
    error: Value,
    /// When to come back, in seconds.
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, message: &str, remedy: &str) -> Self {
        let error = json!({ "code": code, "message": message, "remedy": remedy });
        Self { status, error, retry_after: None }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = status(failure.code());
        let asked = failure.retry_after_ms().map(|millis| millis.div_ceil(1000).max(1));
        let away = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        Self { status, error: failure.describe(), retry_after: asked.or(away) }
    }
}

impl From<&Denied> for Refusal {
    fn from(denied: &Denied) -> Self {
        let (code, remedy) = match denied {
            Denied::Missing => ("unauthorized", "send a token: Authorization: Bearer TOKEN"),
            Denied::Invalid { .. } => ("unauthorized", "send a token that is valid now"),
            Denied::Unmapped { .. } => {
                ("forbidden", "add a rule with the roles that they need to the identities file")
            }
            Denied::Unavailable { .. } => ("unavailable", "try again in a moment"),
            Denied::LockedOut { .. } => ("locked_out", "wait, then send a token that is valid"),
        };
        let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let retry_after = denied.retry_after().map(|after| after.as_secs().max(1));
        Self { retry_after, ..Self::new(status, code, &denied.to_string(), remedy) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.error }))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The status that goes with a stable word.
fn status(code: &str) -> StatusCode {
    match code {
        "invalid_argument" => StatusCode::UNPROCESSABLE_ENTITY,
        "not_found" => StatusCode::NOT_FOUND,
        "forbidden" => StatusCode::FORBIDDEN,
        "conflict" | "version_conflict" | "read_only" => StatusCode::CONFLICT,
        "busy" => StatusCode::TOO_MANY_REQUESTS,
        "no_space" => StatusCode::INSUFFICIENT_STORAGE,
        "shutting_down" | "cancelled" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::JobError;
    use crate::tools::ToolError;

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let error = JobError::Busy { pending: 3, retry_after_ms: 5000 };
        let response = Refusal::from(Failure::from(ToolError::from(error))).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "5");
    }

    #[test]
    fn a_missing_role_is_named() {
        let error = ToolError::Role { tool: "jobs_submit", needs: "operator".to_owned() };
        let refusal = Refusal::from(Failure::from(error));
        assert_eq!(refusal.status, StatusCode::FORBIDDEN);
        let message = refusal.error["message"].as_str().unwrap();
        assert!(message.contains("needs the role operator"), "{message}");
    }
}
