//! The calls that a job makes: the same tools that MCP and the command line call, on the authority
//! of whoever submitted the job, on record like every other call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use llm_memory_engine::progress::Progress;
use llm_memory_engine::{Engine, EngineError};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::job::{Job, JobProgress};
use super::queue::JobQueue;
use crate::access::Principal;
use crate::mcp::auth::TransportKind;
use crate::mcp::observe::{Asked, CallRecord, Observe};
use crate::tools::{self, Call, Tool, ToolError};

/// Progress is noted at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// How often a call is repeated that finds its scope busy: other maintenance is at work there,
/// which nobody is served by failing for.
const MAX_BUSY: u32 = 120;

/// The calls of one job.
pub(super) struct Calls<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) queue: &'a Arc<JobQueue>,
    pub(super) observer: &'a dyn Observe,
    pub(super) watcher: &'a dyn Progress,
    pub(super) principal: &'a Principal,
    pub(super) job: &'a Job,
    /// Whether a call gave up its turn because the server stops.
    pub(super) interrupted: AtomicBool,
}

impl Calls<'_> {
    /// Whether the job is to go on after the next start: a call waited for its turn when the
    /// server was told to stop.
    pub(super) fn are_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Calls the tool `name`; `step` is what the job is doing, for its progress.
    pub(super) fn call(
        &self,
        step: &str,
        name: &'static str,
        arguments: Value,
    ) -> Result<Value, ToolError> {
        let tool = tools::find(name).ok_or_else(|| EngineError::Internal {
            context: "run a job",
            message: format!("there is no tool {name}"),
        })?;
        let arguments = match arguments {
            Value::Object(members) => members,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        };
        let reporter = Reporter::new(self, step);
        reporter.begin();
        let mut busy = 0;
        loop {
            match self.once(tool, arguments.clone(), &reporter) {
                // Nothing was done. Where some scopes were busy and the others are done, doing
                // these again would help nobody: the step says which were not.
                Err(error @ ToolError::Engine(EngineError::Busy { .. })) if busy < MAX_BUSY => {
                    if self.queue.is_stopping() {
                        self.interrupted.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                    busy += 1;
                    std::thread::sleep(Duration::from_secs(1));
                }
                other => return other,
            }
        }
    }

    fn once(
        &self,
        tool: &'static Tool,
        arguments: Map<String, Value>,
        progress: &dyn Progress,
    ) -> Result<Value, ToolError> {
        let begun = Instant::now();
        let project = self.job.project.clone();
        let asked = Asked::of(&arguments, project.as_ref());
        let call = Call { tool, principal: self.principal, default_project: project, arguments };
        let result = tools::call(self.engine, self.queue, call, progress);
        let message = result.as_ref().err().map(ToString::to_string);
        self.observer.call_finished(&CallRecord {
            tool,
            name: tool.dotted,
            principal: self.principal,
            asked: &asked,
            result: result.as_ref().ok(),
            error: result.as_ref().err().map(ToolError::code),
            message: message.as_deref(),
            field: None,
            duration: begun.elapsed(),
            transport: TransportKind::Job,
            peer: None,
            redactor: &self.engine.redactor(),
        });
        result
    }
}

/// Notes progress in the queue, seldom enough not to slow the work down.
struct Reporter<'a> {
    calls: &'a Calls<'a>,
    step: &'a str,
    last: Mutex<Instant>,
}

impl<'a> Reporter<'a> {
    fn new(calls: &'a Calls<'a>, step: &'a str) -> Self {
        Self { calls, step, last: Mutex::new(Instant::now()) }
    }

    fn begin(&self) {
        self.note(0, None, "");
    }

    fn note(&self, done: u64, total: Option<u64>, what: &str) {
        let progress =
            JobProgress { step: self.step.to_owned(), done, total, what: what.to_owned() };
        self.calls.queue.progress(&self.calls.job.id, progress);
    }
}

impl Progress for Reporter<'_> {
    fn report(&self, done: u64, total: Option<u64>, what: &str) {
        self.calls.watcher.report(done, total, what);
        let mut last = self.last.lock();
        let now = Instant::now();
        if now.duration_since(*last) >= PROGRESS_INTERVAL {
            *last = now;
            drop(last);
            self.note(done, total, what);
        }
    }
}
