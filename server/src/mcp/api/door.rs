//! Lets requests in: the token decides who it is, the names in its headers whether it may come at
//! all.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::error::Refusal;
use super::names::{self, Foreign};
use crate::config::settings;
use crate::mcp::Shared;
use crate::mcp::auth::Denied;
use crate::mcp::http::{Entry, connection, enter, metadata_url};
use crate::mcp::long::Unread;

/// Authenticates a request and attaches its origin.
pub(super) async fn let_in(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let options = &shared.options;
    let headers = request.headers();
    if let Err(foreign) = names::check(headers, &options.allowed_hosts, &options.allowed_origins) {
        return foreign_name(foreign).into_response();
    }
    match enter(&shared, headers, connection(&request)).await {
        Entry::Allowed(origin) => {
            request.extensions_mut().insert(*origin);
            match shared.long.whole(request).await {
                Ok((request, _long)) => next.run(request).await,
                Err(unread) => not_read(unread).into_response(),
            }
        }
        Entry::Denied(denied) => refuse(&shared, headers, &denied),
        Entry::BadProject(reason) => Refusal::new(
            StatusCode::BAD_REQUEST,
            "invalid_argument",
            &reason,
            "correct the header, or leave it out",
        )
        .into_response(),
    }
}

fn not_read(unread: Unread) -> Refusal {
    let (code, remedy) = match unread {
        Unread::Busy => ("busy", "wait and call again; nothing was changed"),
        Unread::Late | Unread::TooLong | Unread::Broken => {
            ("invalid_argument", "send a shorter one, and all of it at once")
        }
    };
    let retry_after = unread.retry_after().map(|after| after.as_secs());
    let mut refusal = Refusal::new(unread.status(), code, &unread.to_string(), remedy);
    refusal.retry_after = retry_after;
    refusal
}

fn foreign_name(foreign: Foreign) -> Refusal {
    let (header, key) = match foreign {
        Foreign::Host => ("Host", "listen.allowedHosts"),
        Foreign::Origin => ("Origin", "listen.allowedOrigins"),
    };
    let remedy = settings::by_key(key).map_or_else(String::new, |setting| {
        format!("to allow it, name it in {key} (--{}, {})", setting.flag, setting.env.name)
    });
    let message = format!("the {header} header names nobody that is served here");
    Refusal::new(StatusCode::FORBIDDEN, "forbidden", &message, &remedy)
}

fn refuse(shared: &Shared, headers: &HeaderMap, denied: &Denied) -> Response {
    let mut response = Refusal::from(denied).into_response();
    let scopes = shared.authenticator.protected_resource().scopes.join(" ");
    let challenge =
        denied.www_authenticate(&metadata_url(shared, headers, &shared.options.mcp_path), &scopes);
    if let Some(value) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}
