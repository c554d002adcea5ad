//! Runs tools on the engine's side of the async boundary: bounded, observed, cancellable while
//! they wait, with progress for whoever asked for it.
//!
//! A call that has begun runs to its end even if the caller went away: a write is either
//! acknowledged or not, never torn. Its place among the running calls is given back when the
//! work ends, not when the caller stops waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use llm_memory_engine::ids::ProjectId;
use llm_memory_engine::progress::{NoProgress, Progress};
use parking_lot::Mutex;
use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::mcp::Shared;
use crate::mcp::errors::Failure;
use crate::mcp::gate::Guest;
use crate::mcp::observe::{Asked, CallRecord};
use crate::mcp::origin::Origin;
use crate::tools::{self, Call, Tool};

/// Progress is reported at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// How a call ends early and whom it tells about its progress.
pub(crate) struct Control {
    cancelled: CancellationToken,
    progress: Option<(Peer<RoleServer>, ProgressToken)>,
}

impl Control {
    /// For calls that nobody cancels and whose progress nobody follows.
    pub(crate) fn none() -> Self {
        Self { cancelled: CancellationToken::new(), progress: None }
    }

    pub(crate) fn of(context: &RequestContext<RoleServer>) -> Self {
        Self {
            cancelled: context.ct.clone(),
            progress: context.meta.get_progress_token().map(|token| (context.peer.clone(), token)),
        }
    }
}

/// Runs `tool` for `origin`; `name` is what was asked for, for the record. Whoever waits for it may
/// go away: what has begun is on record all the same.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    origin: &Origin,
    mut control: Control,
    tool: &'static Tool,
    name: &str,
    arguments: Map<String, Value>,
) -> Result<Value, Failure> {
    // What has not begun does not begin for somebody who is gone.
    control.cancelled = control.cancelled.child_token();
    let _waiting = control.cancelled.clone().drop_guard();
    let (shared, origin, name) = (Arc::clone(shared), origin.clone(), name.to_owned());
    let work = async move { record(&shared, &origin, control, tool, &name, arguments).await };
    tokio::spawn(work).await.map_err(|error| Failure::Lost(error.to_string()))?
}

async fn record(
    shared: &Arc<Shared>,
    origin: &Origin,
    control: Control,
    tool: &'static Tool,
    name: &str,
    arguments: Map<String, Value>,
) -> Result<Value, Failure> {
    let began = Instant::now();
    let default_project = origin.working_project(shared.options.default_project.as_ref());
    let asked = Asked::of(&arguments, default_project.as_ref());
    let outcome = attempt(shared, origin, control, tool, default_project, arguments).await;
    let message = outcome.as_ref().err().map(ToString::to_string);
    shared.observer.call_finished(&CallRecord {
        tool,
        name,
        principal: &origin.principal,
        asked: &asked,
        result: outcome.as_ref().ok(),
        error: outcome.as_ref().err().map(Failure::code),
        message: message.as_deref(),
        field: outcome.as_ref().err().and_then(Failure::field),
        duration: began.elapsed(),
        transport: origin.transport,
        peer: origin.peer,
        redactor: &shared.engine.redactor(),
    });
    outcome
}

async fn attempt(
    shared: &Arc<Shared>,
    origin: &Origin,
    control: Control,
    tool: &'static Tool,
    default_project: Option<ProjectId>,
    arguments: Map<String, Value>,
) -> Result<Value, Failure> {
    // Whoever may not do it learns that at once, and takes no place from those who may.
    tools::authorize(tool, &origin.principal)?;
    let permit = tokio::select! {
        entered = shared.gate.enter(Guest::of(origin)) => entered.map_err(Failure::Busy)?,
        () = control.cancelled.cancelled() => return Err(Failure::Cancelled),
    };
    let engine = Arc::clone(&shared.engine);
    let jobs = Arc::clone(&shared.backstage.jobs);
    let principal = Arc::clone(&origin.principal);
    let (sender, forwarder) = match control.progress {
        Some((peer, token)) => {
            let (sender, receiver) = mpsc::channel(16);
            (Some(sender), Some(tokio::spawn(forward(peer, token, receiver))))
        }
        None => (None, None),
    };
    let work = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let call = Call { tool, principal: &principal, default_project, arguments };
        match sender {
            Some(sender) => tools::call(&engine, &jobs, call, &Throttled::new(sender)),
            None => tools::call(&engine, &jobs, call, &NoProgress),
        }
    });
    let result = work.await.map_err(|error| Failure::Lost(error.to_string()))?;
    if let Some(forwarder) = forwarder {
        // Progress must not arrive after the result.
        let _ = forwarder.await;
    }
    Ok(result?)
}

struct Step {
    done: u64,
    total: Option<u64>,
    what: String,
}

/// Hands progress to the async side, seldom enough not to slow the work down.
struct Throttled {
    sender: mpsc::Sender<Step>,
    last: Mutex<Option<Instant>>,
}

impl Throttled {
    fn new(sender: mpsc::Sender<Step>) -> Self {
        Self { sender, last: Mutex::new(None) }
    }
}

impl Progress for Throttled {
    fn report(&self, done: u64, total: Option<u64>, what: &str) {
        let now = Instant::now();
        let mut last = self.last.lock();
        let finished = total == Some(done);
        let due = last.is_none_or(|last| now.duration_since(last) >= PROGRESS_INTERVAL);
        if finished || due {
            *last = Some(now);
            // A client that does not read loses steps, never the result.
            let _ = self.sender.try_send(Step { done, total, what: what.to_owned() });
        }
    }
}

async fn forward(peer: Peer<RoleServer>, token: ProgressToken, mut receiver: mpsc::Receiver<Step>) {
    let mut highest = None;
    while let Some(step) = receiver.recv().await {
        // The protocol wants progress to increase; phases of one tool each begin at zero.
        let progress = step.done as f64;
        if highest.is_some_and(|highest| progress <= highest) {
            continue;
        }
        highest = Some(progress);
        let mut note = ProgressNotificationParam::new(token.clone(), progress);
        note.total = step.total.map(|total| total as f64);
        note.message = Some(step.what);
        if peer.notify_progress(note).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use llm_memory_disk::OsDisk;
    use llm_memory_engine::{Engine, Options};
    use serde_json::json;

    use super::*;
    use crate::access::{Principal, Role};
    use crate::jobs::{JobQueue, Limits};
    use crate::mcp::auth::{Open, TransportKind};
    use crate::mcp::observe::Observe;
    use crate::mcp::origin::Token;
    use crate::mcp::{Backstage, McpOptions, McpService};

    /// Counts calls that went well.
    struct Counter(Mutex<usize>);

    impl Observe for Counter {
        fn call_finished(&self, record: &CallRecord<'_>) {
            *self.0.lock() += usize::from(record.error.is_none());
        }
    }

    fn agent(roles: &[Role], token: Option<&str>) -> Origin {
        Origin {
            principal: Arc::new(Principal {
                roles: roles.iter().copied().collect(),
                ..Principal::local_owner()
            }),
            transport: TransportKind::Http,
            peer: None,
            project: None,
            token: token.map(Token::from),
        }
    }

    #[test]
    fn who_shows_no_token_or_is_an_administrator_has_no_share() {
        let of = |roles: &[Role], token| Guest::of(&agent(roles, token));
        assert_eq!(of(&[Role::Agent], None), of(&Role::ALL, Some("t")));
        assert_ne!(of(&[Role::Agent], Some("t")), of(&[Role::Agent], None));
        assert_ne!(of(&[Role::Agent, Role::Monitor], Some("t")), of(&[Role::Monitor], Some("t")));
    }

    #[tokio::test]
    async fn a_call_is_on_record_though_its_caller_went_away() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(Arc::new(OsDisk), folder.path(), Options::default()).unwrap();
        let limits = Limits { max_pending: 1 };
        let jobs = JobQueue::open(Arc::new(OsDisk), folder.path(), limits, false).unwrap();
        let counter = Arc::new(Counter(Mutex::new(0)));
        let service = McpService::new(
            Arc::new(engine),
            Backstage::of(Arc::new(jobs)),
            Arc::new(Open),
            Arc::clone(&counter) as _,
            McpOptions { max_running_calls: 1, max_waiting_calls: 0, ..McpOptions::default() },
        );
        let origin = agent(&Role::ALL, None);
        // Whoever lacks the role is told so, however full it is.
        let full = service.shared.gate.enter(Guest::default()).await.unwrap();
        let (stranger, verify) =
            (agent(&[Role::Agent], None), tools::find("journal_verify").unwrap());
        let nothing = Map::new();
        let refused =
            run(&service.shared, &stranger, Control::none(), verify, verify.name, nothing).await;
        assert_eq!(refused.unwrap_err().code(), "forbidden");
        drop(full);
        let tool = tools::find("memory_list").unwrap();
        let arguments = json!({"scope": "global"}).as_object().unwrap().clone();
        {
            let call = run(&service.shared, &origin, Control::none(), tool, tool.name, arguments);
            let mut call = pin!(call);
            let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            // It begins, and cannot end before this goes on.
            tokio::task::yield_now().await;
        }
        tokio::time::timeout(Duration::from_secs(10), async {
            while *counter.0.lock() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
    }
}
