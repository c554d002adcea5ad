//! What each kind of job does, and how it is told in a sentence.

use serde_json::{Value, json};

use super::call::Calls;
use super::job::{Job, JobKind};
use super::result::Outcome;
use super::routine;
use super::verify::verify;
use crate::reports::by_scope::{count, documents, entries};
use crate::reports::verdict::worst;
use crate::tools::ToolError;

/// The job was told to stop before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interrupted;

/// Does what the job of `calls` is about.
pub(super) fn perform(calls: &Calls<'_>, compact_over: u64) -> Result<Outcome, Interrupted> {
    let outcome = match calls.job.kind {
        JobKind::Compact => plain(calls, "compact", "maintenance.compact"),
        JobKind::Rebuild => plain(calls, "rebuild", "maintenance.rebuild"),
        JobKind::Cleanup => plain(calls, "clean up", "maintenance.cleanup"),
        JobKind::Prune => plain(calls, "prune", "maintenance.prune"),
        JobKind::Verify => verified(calls),
        JobKind::Routine => return routine::perform(calls, compact_over),
    };
    match outcome {
        // It waited for its turn, and waits for the next start instead.
        Err(_) if calls.are_interrupted() => Err(Interrupted),
        Err(error) => Ok(error.into()),
        Ok(outcome) => Ok(outcome),
    }
}

fn plain(calls: &Calls<'_>, step: &str, tool: &'static str) -> Result<Outcome, ToolError> {
    let result = calls.call(step, tool, arguments(calls.job))?;
    let summary = summary(calls.job, &result);
    Ok(Outcome::answered(worst(&result), summary, result))
}

fn verified(calls: &Calls<'_>) -> Result<Outcome, ToolError> {
    let scope = calls.job.arguments.scope.as_str();
    let found = verify(calls, scope, &arguments(calls.job))?;
    let (exit, summary) = (found.exit(), found.summary());
    Ok(Outcome::answered(exit, summary, serde_json::to_value(found).unwrap_or_default()))
}

/// The arguments of the tool that a job calls.
fn arguments(job: &Job) -> Value {
    let scope = job.arguments.scope;
    match job.kind {
        JobKind::Cleanup | JobKind::Prune => {
            json!({ "scope": scope, "dryRun": job.arguments.dry_run })
        }
        JobKind::Compact | JobKind::Verify | JobKind::Rebuild | JobKind::Routine => {
            json!({ "scope": scope })
        }
    }
}

fn summary(job: &Job, result: &Value) -> String {
    let asked = job.arguments.scope.as_str();
    let would = if job.arguments.dry_run { "would be " } else { "" };
    match job.kind {
        JobKind::Prune => format!(
            "{} expired memories {would}deleted, {} kept",
            count(result, "totalExpired"),
            count(result, "totalKept")
        ),
        JobKind::Cleanup => {
            let scopes = documents(result, asked, "removed");
            let files: u64 = scopes.iter().map(|(_, scope)| entries(scope, "removed")).sum();
            let bytes: u64 = scopes.iter().map(|(_, scope)| count(scope, "bytes")).sum();
            format!("{files} leftovers ({bytes} bytes) {would}removed in {} scopes", scopes.len())
        }
        JobKind::Compact | JobKind::Rebuild | JobKind::Verify | JobKind::Routine => {
            let scopes = documents(result, asked, "bytesBefore");
            let sum =
                |key: &str| -> u64 { scopes.iter().map(|(_, scope)| count(scope, key)).sum() };
            let done = if job.kind == JobKind::Compact { "compacted" } else { "rebuilt" };
            format!(
                "{} scopes {done}: {} bytes before, {} after",
                scopes.len(),
                sum("bytesBefore"),
                sum("bytesAfter")
            )
        }
    }
}
