//! `/health`, `/livez` and `/readyz`, and `/metrics` on its own port.
//!
//! Everybody who reaches the port is answered, so `/health` counts and names nothing of what the
//! store holds; names and messages are on the status page, for those who show a token.
//!
//! Both are served by a thread of their own with a runtime of its own, from the last snapshot, so
//! that they answer while every other thread is busy.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, get};
use hyper_util::rt::{TokioIo, TokioTimer};
use llm_memory_engine::api::ScopeStatus;
use llm_memory_engine::ids::{Seq, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::connections::Connections;
use crate::maintained::Verdict;
use crate::mcp::api::names;
use crate::metrics::{self, Metrics};
use crate::status::{Board, Phase, Snapshot};

/// Share of the data volume above which the server is degraded.
pub const MAX_DISK_PERCENT: f64 = 85.0;
/// Share of failed calls above which the server is degraded.
pub const MAX_ERROR_RATE: f64 = 0.05;
/// Records a view may be behind its journal: views are made durable in batches, and so many are
/// replayed in moments at the next start.
pub const VIEW_LAG: u64 = 10_000;
/// Calls below which the share of failed ones says nothing.
const MIN_CALLS: u64 = 20;
/// Age of the snapshot beyond which the store is taken to hang.
const MAX_SNAPSHOT_AGE_SECONDS: f64 = 30.0;
/// Connections of each listener served at one time; one more closes an older one.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may take to say what it wants.
const HEAD: Duration = Duration::from_secs(1);
/// How long a connection may take, from its acceptance to the end of the answer.
const CONNECTION: Duration = Duration::from_secs(10);
/// How long answers may take to be read when the server ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the server is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// Everything works.
    Ok,
    /// It answers, but a person should look; the reasons say why.
    Degraded,
    /// It is opening the store.
    Starting,
    /// It is about to end.
    Draining,
}

#[derive(Debug, Clone)]
struct Shared {
    board: Arc<Board>,
    metrics: Arc<Metrics>,
}

/// Starts the thread that serves both listeners until `cancel`, to requests for one of `hosts`; an
/// empty list is any.
pub fn spawn(
    health: TcpListener,
    metrics_listener: TcpListener,
    hosts: Vec<String>,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    health.set_nonblocking(true)?;
    metrics_listener.set_nonblocking(true)?;
    let shared = Shared { board, metrics };
    std::thread::Builder::new().name("health".to_owned()).spawn(move || {
        runtime.block_on(async {
            let hosts = Arc::new(hosts);
            let held = |routes: Router| {
                routes.layer(middleware::from_fn_with_state(Arc::clone(&hosts), known_host))
            };
            let health = serve(health, held(health_routes(shared.clone())), cancel.clone());
            let metrics = serve(metrics_listener, held(metrics_routes(shared)), cancel);
            tokio::join!(health, metrics);
        });
    })
}

/// Serves one request a connection, a bounded number at a time and each within its time: what is
/// open to everybody must not be held by anybody, and the kubelet ends a server whose probes wait.
async fn serve(listener: TcpListener, routes: Router, cancel: CancellationToken) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let connections = Connections::new(MAX_CONNECTIONS);
    let open = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Nobody keeps a place here: there is always one for a newcomer.
                let Some(place) = connections.admit(peer.ip()) else { continue };
                let answering = tokio::time::timeout(CONNECTION, answer(stream, routes.clone()));
                open.spawn(async move {
                    tokio::select! {
                        _ = answering => {}
                        () = place.evicted() => {}
                    }
                });
                // Those who came are heard before more come, however many there are.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                // Out of file descriptors, usually; accepting again at once would spin.
                tracing::warn!(%error, "the health or metrics listener cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    open.close();
    // Somebody who does not read does not keep the process.
    let _ = tokio::time::timeout(FAREWELL, open.wait()).await;
}

async fn answer(stream: TcpStream, routes: Router) {
    let service = hyper::service::service_fn(move |request: http::Request<_>| {
        routes.clone().oneshot(request.map(Body::new))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "health or metrics connection ended");
    }
}

/// Refuses requests under a name that is not served here: pages that resolve their own name to this
/// machine send it. Probes that name nobody are no pages.
async fn known_host(
    State(hosts): State<Arc<Vec<String>>>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    if hosts.is_empty() || host.is_none_or(|host| names::is_listed(host, &hosts)) {
        return next.run(request).await;
    }
    let text = "the Host header names nobody that is served here; listen.allowedHosts adds names\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

fn health_routes(shared: Shared) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shared)
}

fn metrics_routes(shared: Shared) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(shared)
}

async fn scrape(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], shared.metrics.render()).into_response()
}

async fn ready(State(shared): State<Shared>) -> Response {
    match shared.board.phase() {
        Phase::Ready => (StatusCode::OK, "ready\n").into_response(),
        Phase::Starting => {
            (StatusCode::SERVICE_UNAVAILABLE, "starting: opening the store\n").into_response()
        }
        Phase::Draining => {
            (StatusCode::SERVICE_UNAVAILABLE, "draining: about to end\n").into_response()
        }
    }
}

async fn health(State(shared): State<Shared>) -> Response {
    let (status, body) = report(&shared.board, &shared.metrics, Timestamp::now());
    let code = match status {
        Status::Ok | Status::Degraded => StatusCode::OK,
        Status::Starting | Status::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(body)).into_response()
}

/// The document of `/health`.
fn report(board: &Board, metrics: &Metrics, now: Timestamp) -> (Status, Value) {
    let snapshot = board.snapshot();
    let calls = metrics.lately(metrics::window::LENGTH);
    let failing =
        calls.error_rate.filter(|rate| calls.calls >= MIN_CALLS && *rate > MAX_ERROR_RATE);
    let phase = board.phase();
    // Before readiness nobody has looked yet, however long the replay takes.
    let waiting = if phase == Phase::Ready { board.uptime_seconds() } else { 0.0 };
    let mut reasons = reasons(&snapshot, board.safe_mode(), now, waiting);
    reasons.extend(failing.map(|rate| {
        format!("{:.1} % of {} calls failed in the last 5 minutes", rate * 100.0, calls.calls)
    }));
    let status = match phase {
        Phase::Starting => Status::Starting,
        Phase::Draining => Status::Draining,
        Phase::Ready if reasons.is_empty() => Status::Ok,
        Phase::Ready => Status::Degraded,
    };
    let disk = snapshot.disk.map(|disk| {
        json!({
            "totalBytes": disk.total,
            "availableBytes": disk.available,
            "usedPercent": used_percent(disk.total, disk.available),
        })
    });
    let body = json!({
        "status": status,
        "reasons": reasons,
        "version": env!("CARGO_PKG_VERSION"),
        "startedAt": board.started_at(),
        "uptimeSeconds": (board.uptime_seconds() * 10.0).round() / 10.0,
        "safeMode": board.safe_mode(),
        "asOf": snapshot.at,
        "scopes": scopes(&snapshot.scopes),
        "integrity": snapshot.integrity,
        "encoder": { "available": false, "reason": "this store has no video archive" },
        "disk": disk,
        "process": {
            "residentBytes": snapshot.process.resident_bytes,
            "cpuSeconds": snapshot.process.cpu_seconds,
            "threads": snapshot.process.threads,
            "openFiles": snapshot.process.open_fds,
        },
        "caches": snapshot.caches,
        "calls": calls,
        "lockedOut": snapshot.locked_out,
    });
    (status, body)
}

/// What the scopes are together.
fn scopes(scopes: &[ScopeStatus]) -> Value {
    let current = |scope: &&ScopeStatus| {
        let behind = |mark: &Seq| scope.head_seq.0.saturating_sub(mark.0);
        scope.watermarks.values().all(|mark| behind(mark) <= VIEW_LAG)
    };
    json!({
        "open": scopes.len(),
        "items": scopes.iter().map(|scope| scope.items).sum::<u64>(),
        "withCurrentViews": scopes.iter().filter(current).count(),
    })
}

/// Everything in the snapshot that a person should look at; `waiting` is for how many seconds
/// there may have been none.
fn reasons(snapshot: &Snapshot, safe_mode: bool, now: Timestamp, waiting: f64) -> Vec<String> {
    let mut reasons = Vec::new();
    if safe_mode {
        reasons.push(
            "the server is in safe mode and refuses writes: restart it without \
             LLM_MEMORY_SAFE_MODE to write"
                .to_owned(),
        );
    }
    if snapshot.integrity == Some(Verdict::Damaged) {
        reasons.push(
            "the last verification found damage, named by /api/v1/status on the MCP port: mend it \
             (`recover`, or a backup), then verify again"
                .to_owned(),
        );
    }
    let mut count = |number: usize, what: &str| {
        if number > 0 {
            reasons.push(format!("{what}: {number}, named by /api/v1/status on the MCP port"));
        }
    };
    count(snapshot.problems.len(), "parts of the store that could not be looked at");
    let read_only = |scope: &&ScopeStatus| scope.read_only.is_some() && !safe_mode;
    count(snapshot.scopes.iter().filter(read_only).count(), "scopes that refuse writes");
    let failed = |scope: &&ScopeStatus| !read_only(scope) && scope.write_failure.is_some();
    count(snapshot.scopes.iter().filter(failed).count(), "scopes whose last write failed");
    let age = snapshot.at.map_or(waiting, |at| at.days_since(now).abs() * 86_400.0);
    if age > MAX_SNAPSHOT_AGE_SECONDS {
        reasons.push(format!("the store has not answered for {age:.0} s"));
    }
    if let Some(disk) = snapshot.disk {
        let used = used_percent(disk.total, disk.available);
        if used > MAX_DISK_PERCENT {
            reasons.push(format!(
                "the data volume is {used:.1} % full: enlarge it, or prune and compact"
            ));
        }
    }
    reasons
}

/// Share of a volume that is used, percent.
pub fn used_percent(total: u64, available: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    let used = total.saturating_sub(available) as f64 / total as f64 * 100.0;
    (used * 10.0).round() / 10.0
}

/// An address on which the listener of `bound` can be reached from this machine.
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    let mut address = bound;
    if bound.ip().is_unspecified() {
        address.set_ip(match bound {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use http_body_util::BodyExt;
    use llm_memory_disk::Space;

    use super::*;
    use crate::status::fixtures;

    async fn get(board: &Arc<Board>, path: &str) -> (StatusCode, String) {
        let metrics = Arc::new(Metrics::new(Arc::clone(board)));
        let shared = Shared { board: Arc::clone(board), metrics };
        let routes = health_routes(shared.clone()).merge(metrics_routes(shared));
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response = routes.oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_server_is_ready_only_between_start_and_drain() {
        let board = fixtures::fresh_board();
        for (phase, ready, health) in
            [(Phase::Starting, 503, 503), (Phase::Ready, 200, 200), (Phase::Draining, 503, 503)]
        {
            board.set_phase(phase);
            assert_eq!(get(&board, "/readyz").await.0, ready);
            assert_eq!(get(&board, "/health").await.0, health);
            assert_eq!(get(&board, "/livez").await.0, 200);
        }
    }

    /// Starts the thread; the address of its health port.
    fn spawned(cancel: &CancellationToken) -> (SocketAddr, JoinHandle<()>) {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (health, metrics_listener) = (listen(), listen());
        let address = health.local_addr().unwrap();
        let board = fixtures::busy_board();
        let metrics = Arc::new(Metrics::new(Arc::clone(&board)));
        let hosts = vec!["x".to_owned()];
        let thread =
            spawn(health, metrics_listener, hosts, board, metrics, cancel.clone()).unwrap();
        (address, thread)
    }

    fn probe(address: SocketAddr) -> std::io::Result<String> {
        say(address, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    }

    fn say(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
        // Longer than it takes until a connection is tried again that met a full queue.
        let mut stream = std::net::TcpStream::connect_timeout(&address, CONNECTION)?;
        stream.set_read_timeout(Some(CONNECTION))?;
        stream.write_all(request)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn a_probe_gets_through_while_hundreds_are_silent() {
        let cancel = CancellationToken::new();
        let (address, thread) = spawned(&cancel);
        let flood = move || std::net::TcpStream::connect(address);
        let mut silent: std::collections::VecDeque<_> = (0..300).map(|_| flood()).collect();
        let reopening = {
            let cancel = cancel.clone();
            std::thread::spawn(move || {
                while !cancel.is_cancelled() {
                    silent.pop_front();
                    silent.push_back(flood());
                }
            })
        };
        for _ in 0..20 {
            let answer = probe(address).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
        cancel.cancel();
        // Its last connection may come when nobody listens any more.
        let _ = reopening.join();
        thread.join().unwrap();
    }

    #[test]
    fn a_page_that_resolves_its_own_name_to_this_machine_is_refused() {
        let cancel = CancellationToken::new();
        let (address, thread) = spawned(&cancel);
        let status = |request: &str| {
            let answer = say(address, request.as_bytes()).unwrap();
            answer.split(' ').nth(1).unwrap().to_owned()
        };
        for path in ["/health", "/livez", "/readyz"] {
            let answer = status(&format!("GET {path} HTTP/1.1\r\nHost: evil.example:9\r\n\r\n"));
            assert_eq!(answer, "403", "{path}");
        }
        assert_eq!(status("GET /livez HTTP/1.1\r\nHost: X:9\r\n\r\n"), "200");
        assert_eq!(status("GET /livez HTTP/1.0\r\n\r\n"), "200");
        cancel.cancel();
        thread.join().unwrap();
    }

    #[test]
    fn whoever_says_nothing_is_hung_up_on() {
        let cancel = CancellationToken::new();
        let (address, thread) = spawned(&cancel);
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(CONNECTION / 2)).unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
        // Closed, with or without an answer; not left waiting.
        stream.read_to_end(&mut Vec::new()).unwrap();
        cancel.cancel();
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn health_gives_reasons_and_names_nothing_that_the_store_holds() {
        let board = fixtures::busy_board();
        let mut snapshot = fixtures::busy_snapshot();
        snapshot.at = Some(Timestamp::now());
        snapshot.scopes[0].read_only = Some("the disk failed".to_owned());
        snapshot.scopes.push(ScopeStatus {
            scope: "acme:local/merger".to_owned(),
            watermarks: [("text".to_owned(), Seq(20))].into(),
            head_seq: Seq(20 + VIEW_LAG + 1),
            write_failure: Some("no space for merger".to_owned()),
            read_only: None,
            ..snapshot.scopes[0].clone()
        });
        snapshot.problems = vec!["the scope acme:local/merger cannot be opened: no".to_owned()];
        snapshot.verified.insert("acme:local/merger".to_owned(), Timestamp::now());
        snapshot.disk = Some(Space { total: 1000, available: 100 });
        snapshot.integrity = Some(Verdict::Damaged);
        board.post(snapshot);
        let (status, body) = get(&board, "/health").await;
        for name in ["web", "acme", "merger", "the disk failed"] {
            assert!(!body.contains(name), "{name}: {body}");
        }
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200);
        assert_eq!(body["status"], "degraded");
        assert_eq!(
            body["reasons"],
            json!([
                "the last verification found damage, named by /api/v1/status on the MCP port: mend it (`recover`, or a backup), then verify again",
                "parts of the store that could not be looked at: 1, named by /api/v1/status on the MCP port",
                "scopes that refuse writes: 1, named by /api/v1/status on the MCP port",
                "scopes whose last write failed: 1, named by /api/v1/status on the MCP port",
                "the data volume is 90.0 % full: enlarge it, or prune and compact",
            ])
        );
        assert_eq!(body["scopes"], json!({"open": 2, "items": 20, "withCurrentViews": 1}));
        assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(body["integrity"], "damaged");
        assert_eq!(get(&board, "/readyz").await.0, 200, "it answers all the same");
    }

    #[test]
    fn safe_mode_is_the_reason_why_no_scope_takes_writes() {
        let mut snapshot = fixtures::busy_snapshot();
        snapshot.scopes[0].read_only = Some("the server runs in safe mode".to_owned());
        let found = reasons(&snapshot, true, Timestamp::from_millis(1_000), 0.0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("safe mode"), "{found:?}");
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let (status, body) = get(&fixtures::busy_board(), "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.ends_with("# EOF\n"));
    }

    #[test]
    fn a_snapshot_that_is_old_means_that_the_store_hangs() {
        let mut snapshot = fixtures::busy_snapshot();
        snapshot.at = Some(Timestamp::from_millis(0));
        let found = reasons(&snapshot, false, Timestamp::from_millis(60_000), 0.0);
        assert_eq!(found, ["the store has not answered for 60 s"]);
        assert!(reasons(&snapshot, false, Timestamp::from_millis(10_000), 60.0).is_empty());
    }

    #[test]
    fn a_store_that_never_answered_hangs_too() {
        let mut snapshot = fixtures::busy_snapshot();
        snapshot.at = None;
        let found = reasons(&snapshot, false, Timestamp::from_millis(0), 60.0);
        assert_eq!(found, ["the store has not answered for 60 s"]);
        assert!(reasons(&snapshot, false, Timestamp::from_millis(0), 10.0).is_empty());
    }
}
