use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use llm_memory_disk::OsDisk;
use llm_memory_engine::Engine;
use llm_memory_engine::store::Options;
use parking_lot::Mutex;
use rmcp::model::{EmptyResult, ServerResult};
use tokio::io::{DuplexStream, ReadHalf, WriteHalf};

use super::*;
use crate::connections::Connections;
use crate::jobs::{JobQueue, Limits};
use crate::mcp::Backstage;
use crate::mcp::auth::{Authenticate, Verdict};
use crate::mcp::observe::NoObserver;
use crate::mcp::{McpOptions, McpService};

/// Lets the one token in that it holds at the time, once it has looked up as often as it must.
struct Door(Mutex<Option<&'static str>>, AtomicU32);

impl Authenticate for Door {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Verdict<'a> {
        let verdict = match (credentials.token, *self.0.lock()) {
            (None, _) => Err(Denied::Missing),
            (Some(shown), Some(good)) if shown == good => Ok(Principal::local_owner()),
            _ => Err(Denied::Invalid { reason: "unknown".to_owned(), who: None }),
        };
        let mut left = self.1.swap(0, Ordering::Relaxed);
        Box::pin(std::future::poll_fn(move |context| {
            left = left.saturating_sub(1);
            if left > 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(verdict.clone())
        }))
    }
}

type Transported = Lines<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;

struct Rig {
    lines: Transported,
    client: DuplexStream,
    door: Arc<Door>,
    _folder: tempfile::TempDir,
}

async fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(Arc::new(OsDisk), folder.path(), Options::default()).unwrap();
    let door = Arc::new(Door(Mutex::new(Some("good")), AtomicU32::new(0)));
    let limits = Limits { max_pending: 1 };
    let jobs = JobQueue::open(Arc::new(OsDisk), folder.path(), limits, false).unwrap();
    let service = McpService::new(
        Arc::new(engine),
        Backstage::of(Arc::new(jobs)),
        Arc::clone(&door) as _,
        Arc::new(NoObserver),
        McpOptions::default(),
    );
    let (client, server) = tokio::io::duplex(1 << 20);
    let (reader, writer) = tokio::io::split(server);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let place = Connections::new(1).admit(peer.ip()).unwrap();
    let source = Source::Tcp { peer, place: Arc::new(place) };
    let ending = Ending { cancel: CancellationToken::new(), streams: CancellationToken::new() };
    let mut lines = Lines::new(service.shared, reader, writer, source, ending);
    lines.knock().await;
    Rig { lines, client, door, _folder: folder }
}

impl Rig {
    async fn write(&mut self, line: &str) {
        self.client.write_all(line.as_bytes()).await.unwrap();
        self.client.write_all(b"\n").await.unwrap();
    }

    async fn authenticated() -> Self {
        let mut rig = rig().await;
        rig.write(
            r#"{"jsonrpc":"2.0","method":"auth","params":{"token":"good","project":"home"}}"#,
        )
        .await;
        rig
    }

    /// What the server has written, once it has closed.
    async fn answers(mut self) -> Vec<serde_json::Value> {
        self.lines.close().await.unwrap();
        drop(self.lines);
        let mut text = String::new();
        self.client.read_to_string(&mut text).await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn list(id: i64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#)
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn answer(id: i64) -> ServerJsonRpcMessage {
    let result = ServerResult::EmptyResult(EmptyResult {});
    ServerJsonRpcMessage::response(result, RequestId::Number(id))
}

#[tokio::test]
async fn a_connection_keeps_its_place_once_a_good_token_was_shown() {
    let kept = |rig: &Rig| match &rig.lines.source {
        Source::Tcp { place, .. } => place.is_kept(),
        Source::Stdio { .. } => false,
    };
    let mut stranger = rig().await;
    stranger.write(r#"{"jsonrpc":"2.0","method":"auth","params":{"token":"bad"}}"#).await;
    assert!(stranger.lines.receive().await.is_none());
    assert!(!kept(&stranger));
    let mut known = Rig::authenticated().await;
    known.write(&list(1)).await;
    assert!(known.lines.receive().await.is_some());
    assert!(kept(&known));
}

#[tokio::test]
async fn a_cancelled_request_gives_its_place_back() {
    let mut rig = Rig::authenticated().await;
    for id in 0..70 {
        rig.write(&list(id)).await;
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": id}});
        rig.write(&cancel.to_string()).await;
        assert!(matches!(
            rig.lines.receive().await,
            Some(ClientJsonRpcMessage::Request(request)) if request.id == RequestId::Number(id)
        ));
        let note = rig.lines.receive().await;
        assert!(matches!(note, Some(ClientJsonRpcMessage::Notification(_))));
    }
}

#[tokio::test]
async fn an_id_in_use_is_refused_and_the_connection_goes_on() {
    let mut rig = Rig::authenticated().await;
    for id in [1, 1, 2] {
        rig.write(&list(id)).await;
    }
    for id in [1, 2] {
        assert!(matches!(
            rig.lines.receive().await,
            Some(ClientJsonRpcMessage::Request(request)) if request.id == RequestId::Number(id)
        ));
    }
    let answers = rig.answers().await;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0]["id"], 1);
    assert!(answers[0]["error"]["message"].as_str().unwrap().contains("in use"));
}

#[tokio::test]
async fn a_revoked_token_ends_the_connection_with_the_next_message() {
    let mut rig = Rig::authenticated().await;
    rig.write(&list(1)).await;
    assert!(rig.lines.receive().await.is_some());
    rig.lines.send(answer(1)).await.unwrap();
    *rig.door.0.lock() = None;
    rig.write(&list(2)).await;
    assert!(rig.lines.receive().await.is_none());
    let answers = rig.answers().await;
    assert_eq!(answers[1]["error"]["data"]["status"], 401);
}

#[tokio::test]
async fn a_refusal_is_written_though_rmcp_stops_waiting_for_it() {
    let mut rig = Rig::authenticated().await;
    rig.write(&list(1)).await;
    assert!(rig.lines.receive().await.is_some());
    rig.lines.send(answer(1)).await.unwrap();
    *rig.door.0.lock() = None;
    rig.write(&list(2)).await;
    assert!(poll_once(rig.lines.receive()).is_pending());
    assert!(rig.lines.receive().await.is_none());
    let answers = rig.answers().await;
    assert_eq!(answers[1]["error"]["data"]["status"], 401);
}

#[tokio::test]
async fn a_request_is_kept_though_rmcp_stops_waiting_for_the_look_at_its_token() {
    let mut rig = Rig::authenticated().await;
    rig.write(&list(1)).await;
    assert!(rig.lines.receive().await.is_some());
    rig.door.1.store(2, Ordering::Relaxed);
    rig.write(&list(2)).await;
    assert!(poll_once(rig.lines.receive()).is_pending());
    let received = tokio::time::timeout(Duration::from_secs(10), rig.lines.receive()).await;
    assert!(matches!(
        received.expect("the request, though it was being looked at"),
        Some(ClientJsonRpcMessage::Request(request)) if request.id == RequestId::Number(2)
    ));
}

#[tokio::test]
async fn the_project_of_the_auth_message_is_that_of_the_messages_after_it() {
    let mut rig = Rig::authenticated().await;
    rig.write(&list(1)).await;
    let Some(ClientJsonRpcMessage::Request(request)) = rig.lines.receive().await else { panic!() };
    let origin = Origin::of(request.request.extensions()).unwrap();
    assert_eq!(origin.project.as_ref().map(ProjectId::as_str), Some("home"));
}

#[tokio::test]
async fn the_end_of_the_input_waits_for_answers_under_way() {
    let mut rig = Rig::authenticated().await;
    rig.write(&list(1)).await;
    rig.client.shutdown().await.unwrap();
    assert!(rig.lines.receive().await.is_some());
    assert!(poll_once(rig.lines.receive()).is_pending());
    rig.lines.send(answer(1)).await.unwrap();
    assert!(rig.lines.receive().await.is_none());
    assert_eq!(rig.answers().await[0]["id"], 1);
}

#[tokio::test]
async fn a_stop_waits_for_answers_under_way() {
    let mut rig = Rig::authenticated().await;
    rig.write(&list(1)).await;
    assert!(rig.lines.receive().await.is_some());
    rig.lines.ending.cancel.cancel();
    assert!(poll_once(rig.lines.receive()).is_pending());
    rig.lines.send(answer(1)).await.unwrap();
    assert!(rig.lines.receive().await.is_none());
}

#[tokio::test]
async fn a_stranger_gets_short_lines_only() {
    let mut rig = rig().await;
    let long = format!(r#"{{"pad":"{}"}}"#, "x".repeat(STRANGERS_LINE));
    rig.write(&long).await;
    rig.client.shutdown().await.unwrap();
    assert!(rig.lines.receive().await.is_none());
    let answers = rig.answers().await;
    let reason = answers[0]["error"]["message"].as_str().unwrap();
    assert!(reason.contains("before a token was shown"), "{reason}");
    let mut known = Rig::authenticated().await;
    known.write(&list(1)).await;
    assert!(known.lines.receive().await.is_some());
    assert_eq!(known.lines.splitter.max(), McpOptions::default().max_line_bytes);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_does_not_end_is_given_up() {
    let mut rig = Rig::authenticated().await;
    rig.client.write_all(b"{\"jsonrpc\"").await.unwrap();
    let begun = Instant::now();
    assert!(rig.lines.receive().await.is_none());
    assert!(begun.elapsed() >= rig.lines.shared.long.whole_within());
    assert_eq!(rig.lines.splitter.held(), 0);
    let answers = rig.answers().await;
    let message = answers.last().unwrap()["error"]["message"].as_str().unwrap();
    assert!(message.contains("did not end in time"), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_line_needs_a_place_until_it_is_answered() {
    let mut rig = Rig::authenticated().await;
    let shared = Arc::clone(&rig.lines.shared);
    let long = |id: i64| {
        let padding = "x".repeat(2 * SHORT);
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{"cursor":"{padding}"}}}}"#
        )
    };
    let mut taken = Vec::new();
    while let Poll::Ready(Some(place)) = poll_once(shared.long.place()) {
        taken.push(place);
    }
    taken.pop();
    rig.write(&list(1)).await;
    assert!(rig.lines.receive().await.is_some());
    rig.write(&long(2)).await;
    assert!(rig.lines.receive().await.is_some(), "the last place was its own");
    assert!(poll_once(shared.long.place()).is_pending());
    rig.lines.send(answer(2)).await.unwrap();
    let last = poll_once(shared.long.place());
    assert!(last.is_ready());
    rig.lines.send(answer(1)).await.unwrap();
    rig.write(&long(3)).await;
    let begun = Instant::now();
    assert!(rig.lines.receive().await.is_none());
    assert!(begun.elapsed() >= PATIENCE);
    let answers = rig.answers().await;
    let error = &answers.last().unwrap()["error"];
    assert!(error["message"].as_str().unwrap().starts_with("busy: "), "{answers:?}");
    assert_eq!(error["data"]["retryAfterMs"], 10_000);
    drop((taken, last));
}
