//! Streamable HTTP at `/mcp`, and the RFC 9728 document that tells a client where tokens come
//! from. Everything about the protocol's HTTP binding is rmcp's; this file adds who may come in.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONNECTION, HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use llm_memory_engine::ids::ProjectId;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::config::settings;
use crate::connections::Place;
use crate::mcp::Shared;
use crate::mcp::api;
use crate::mcp::auth::{Credentials, Denied, TransportKind, bearer_token};
use crate::mcp::handler::Handler;
use crate::mcp::long::Unread;
use crate::mcp::malformed;
use crate::mcp::origin::{Origin, PROJECT_HEADER, Token};
use crate::mcp::sessions::Sessions;

/// Where MCP always is.
pub(crate) const MCP_PATH: &str = "/mcp";
const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";
const SESSION_HEADER: &str = "mcp-session-id";
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest text of a refusal by rmcp.
const REFUSAL_BYTES: usize = 4096;

/// The HTTP side of the port.
#[derive(Clone)]
pub(crate) struct Http {
    router: Router,
}

#[derive(Clone)]
struct Door {
    shared: Arc<Shared>,
    sessions: Arc<Sessions>,
}

/// The connection that a request came on, attached to each.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    peer: SocketAddr,
    /// Requests may outlive their connection, and must not hold its place.
    place: Weak<Place>,
}

impl Http {
    /// `streams` ends sessions and open event streams.
    pub(crate) fn new(shared: &Arc<Shared>, streams: &CancellationToken) -> Self {
        let options = &shared.options;
        let sessions = Arc::new(Sessions::new(options.max_sessions, options.session_idle));
        let config = StreamableHttpServerConfig::default()
            .with_allowed_hosts(&options.allowed_hosts)
            .with_allowed_origins(&options.allowed_origins)
            .enforce_origin_validation()
            .with_max_request_body_bytes(options.max_body_bytes)
            .with_json_response(true)
            .with_cancellation_token(streams.clone());
        let handler = Arc::clone(shared);
        let protocol = StreamableHttpService::new(
            move || Ok(Handler::new(Arc::clone(&handler))),
            Arc::clone(&sessions),
            config,
        );
        let door = Door { shared: Arc::clone(shared), sessions };
        // The usual path stays, so that those who know only the host and the port find it.
        let own = Some(options.mcp_path.as_str()).filter(|path| *path != MCP_PATH);
        let paths: Vec<&str> = std::iter::once(MCP_PATH).chain(own).collect();
        let mut router = Router::new();
        for path in &paths {
            router = router.route_service(path, protocol.clone());
        }
        router = router
            .layer(middleware::from_fn_with_state(door.clone(), let_in))
            .route(METADATA_PATH, get(metadata));
        for path in paths {
            router = router.route(&format!("{METADATA_PATH}{path}"), get(metadata));
        }
        let router = router.fallback(not_here).with_state(door).merge(api::routes(shared));
        Self { router }
    }

    /// Serves one connection to its end; on `cancel` the request in work is the last.
    pub(crate) async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: SocketAddr,
        place: &Arc<Place>,
        cancel: &CancellationToken,
    ) {
        let place = Arc::clone(place);
        let client = Connection { peer, place: Arc::downgrade(&place) };
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |request: http::Request<_>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(client.clone());
            let answer = router.clone().oneshot(request);
            let place = Arc::clone(&place);
            async move { answer.await.map(|response| part(response, &place)) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // Clients that go away in the middle of a reply, mostly.
            tracing::debug!(%error, %peer, "http connection ended");
        }
    }
}

/// Has `response` be the last of its connection, unless whoever asks is let in: a stranger who asks
/// again and again would hold a place for ever.
fn part(mut response: Response, place: &Place) -> Response {
    let refused = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if refused || !place.is_kept() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Authenticates a request and attaches its origin.
async fn let_in(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let origin = match enter(&door.shared, headers, connection(&request)).await {
        Entry::Allowed(origin) => origin,
        Entry::Denied(denied) => {
            return refuse(&door.shared, headers, request.uri().path(), &denied);
        }
        Entry::BadProject(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let theirs = |id| door.sessions.may_use(id, &origin.principal);
    if header(headers, SESSION_HEADER).is_some_and(|id| !theirs(id)) {
        // To anybody but its owner a session does not exist.
        return (StatusCode::NOT_FOUND, "Not Found: Session not found").into_response();
    }
    request.extensions_mut().insert(*origin);
    let (request, _long) = match door.shared.long.whole(request).await {
        Ok(whole) => whole,
        Err(unread) => return not_read(unread),
    };
    let response = next.run(request).await;
    // rmcp's only refusal with this status.
    if response.status() == StatusCode::FORBIDDEN {
        return with_remedy(response).await;
    }
    if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        return without_message(response).await;
    }
    response
}

fn not_read(unread: Unread) -> Response {
    let mut response = (unread.status(), format!("{unread}\n")).into_response();
    if let Some(retry_after) = unread.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, retry_after.as_secs().into());
    }
    response
}

/// Says in the words of JSON-RPC that a body is no message; what else rmcp refuses with this status
/// stays as it is.
async fn without_message(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let Ok(reason) = axum::body::to_bytes(body, REFUSAL_BYTES).await else {
        return parts.status.into_response();
    };
    match malformed::body(&String::from_utf8_lossy(&reason)) {
        Some(error) => (StatusCode::BAD_REQUEST, axum::Json(error)).into_response(),
        None => Response::from_parts(parts, Body::from(reason)),
    }
}

/// Whether a request may come in.
pub(crate) enum Entry {
    Allowed(Box<Origin>),
    Denied(Denied),
    /// The project header names none.
    BadProject(String),
}

/// The connection of a request.
pub(crate) fn connection(request: &Request) -> Option<&Connection> {
    request.extensions().get()
}

/// Authenticates the request with these headers; whoever is let in keeps the connection.
pub(crate) async fn enter(
    shared: &Shared,
    headers: &HeaderMap,
    connection: Option<&Connection>,
) -> Entry {
    let peer = connection.map(|connection| connection.peer);
    let token = header(headers, AUTHORIZATION.as_str());
    let token = token.and_then(bearer_token).map(Token::from);
    let credentials = Credentials {
        token: token.as_ref().map(Token::as_str),
        peer,
        transport: TransportKind::Http,
    };
    let principal = match shared.authenticator.authenticate(credentials).await {
        Ok(principal) => principal,
        Err(denied) => {
            shared.observer.denied(&denied, TransportKind::Http, peer);
            return Entry::Denied(denied);
        }
    };
    if let Some(place) = connection.and_then(|connection| connection.place.upgrade()) {
        place.keep();
    }
    let project = match project(headers) {
        Ok(project) => project,
        Err(reason) => return Entry::BadProject(format!("{PROJECT_HEADER} header: {reason}")),
    };
    Entry::Allowed(Box::new(Origin {
        principal: Arc::new(principal),
        transport: TransportKind::Http,
        peer,
        project,
        token,
    }))
}

/// The project that the request works in.
fn project(headers: &HeaderMap) -> Result<Option<ProjectId>, String> {
    let Some(value) = headers.get(PROJECT_HEADER) else { return Ok(None) };
    let name = value.to_str().map_err(|_error| "must be printable ASCII".to_owned())?;
    ProjectId::from_str(name).map(Some).map_err(|error| error.reason)
}

/// Says what would let a request in that rmcp refused for its `Host` or `Origin` header.
async fn with_remedy(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let Ok(reason) = axum::body::to_bytes(body, REFUSAL_BYTES).await else {
        return parts.status.into_response();
    };
    let reason = String::from_utf8_lossy(&reason);
    let key = if reason.contains("Host") { "listen.allowedHosts" } else { "listen.allowedOrigins" };
    let how = settings::by_key(key).map_or_else(String::new, |setting| {
        format!(": to allow it, name it in {key} (--{}, {})", setting.flag, setting.env.name)
    });
    (parts.status, format!("{reason}{how}\n")).into_response()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn base_url(shared: &Shared, headers: &HeaderMap) -> String {
    match &shared.options.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let scheme = if shared.options.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", header(headers, HOST.as_str()).unwrap_or("localhost"))
        }
    }
}

/// Address of the document that says what protects MCP at `path`.
pub(crate) fn metadata_url(shared: &Shared, headers: &HeaderMap, path: &str) -> String {
    format!("{}{METADATA_PATH}{path}", base_url(shared, headers))
}

fn refuse(shared: &Shared, headers: &HeaderMap, path: &str, denied: &Denied) -> Response {
    let metadata = metadata_url(shared, headers, path);
    let scopes = shared.authenticator.protected_resource().scopes.join(" ");
    let error = match denied {
        Denied::Missing | Denied::Invalid { .. } => "invalid_token",
        Denied::Unmapped { .. } => "insufficient_scope",
        Denied::LockedOut { .. } | Denied::Unavailable { .. } => "temporarily_unavailable",
    };
    let body = json!({"error": error, "error_description": denied.to_string()});
    let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut response = (status, axum::Json(body)).into_response();
    let challenge = denied
        .www_authenticate(&metadata, &scopes)
        .and_then(|challenge| HeaderValue::from_str(&challenge).ok());
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    if let Some(retry_after) = denied.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, retry_after.as_secs().max(1).into());
    }
    response
}

/// RFC 9728: what protects this resource.
async fn metadata(State(door): State<Door>, headers: HeaderMap, uri: Uri) -> Response {
    std::future::ready(()).await;
    let resource = door.shared.authenticator.protected_resource();
    // A client compares the resource with the address that it used.
    let asked = uri.path().strip_prefix(METADATA_PATH).filter(|path| !path.is_empty());
    let path = asked.unwrap_or(&door.shared.options.mcp_path);
    let mut body = json!({
        "resource": format!("{}{path}", base_url(&door.shared, &headers)),
        "resource_name": "llm-memory",
        "bearer_methods_supported": ["header"],
        "scopes_supported": resource.scopes,
    });
    if let Some(body) = body.as_object_mut()
        && !resource.authorization_servers.is_empty()
    {
        body.insert("authorization_servers".to_owned(), resource.authorization_servers.into());
    }
    ([(CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}

async fn not_here(State(door): State<Door>) -> Response {
    std::future::ready(()).await;
    let path = &door.shared.options.mcp_path;
    let text =
        format!("Not Found: the Model Context Protocol is served at {path}, jobs at /api/v1\n");
    (StatusCode::NOT_FOUND, text).into_response()
}
