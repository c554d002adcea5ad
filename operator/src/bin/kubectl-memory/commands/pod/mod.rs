//! `pod`: care for the pod of a store.

mod check;
mod optimize;

use jiff::Timestamp;
use serde::Serialize;

use super::restart;
use super::status::Observed;
use super::usage;
use crate::args::Store;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::printer;

/// What to do with the pod.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Look for trouble; exits with 1 for a warning and 2 for something critical
    Check(Store),
    /// Recommend settings from what the cluster measures; exits with 1 when there is something to
    /// change
    Optimize(Store),
    /// Replace the pod, as `kubectl memory restart`
    Restart(restart::Args),
}

/// Runs one of the commands.
pub(crate) async fn run(context: &Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Restart(args) => restart::run(context, args).await,
        Command::Check(store) => {
            let observed = Observed::read(context, &store.name).await?;
            let (findings, exit) = check(&observed);
            context.printer.answer(&findings, || text(&findings))?;
            Ok(exit)
        }
        Command::Optimize(store) => {
            let observed = Observed::read(context, &store.name).await?;
            let usage = usage::read(context, &store.name).await?;
            let findings = optimize::findings(&observed, usage.as_ref());
            context.printer.answer(&findings, || text(&findings))?;
            let anything = findings.iter().any(|it| it.level != Level::Ok);
            Ok(if anything { Exit::Finding } else { Exit::Done })
        }
    }
}

/// What is wrong with the pod of a store, and how a command that found it ends.
pub(crate) fn check(observed: &Observed) -> (Vec<Finding>, Exit) {
    let findings = check::findings(observed, Timestamp::now());
    let exit = match findings.iter().map(|it| it.level).max().unwrap_or(Level::Ok) {
        Level::Ok => Exit::Done,
        Level::Warning => Exit::Finding,
        Level::Critical => Exit::Failed,
    };
    (findings, exit)
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
enum Level {
    Ok,
    Warning,
    Critical,
}

/// What was found, and what to do.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    subject: &'static str,
    level: Level,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(subject: &'static str, message: impl Into<String>) -> Self {
        Self { subject, level: Level::Ok, message: message.into(), remedy: None }
    }

    fn warning(
        subject: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (message, remedy) = (message.into(), Some(remedy.into()));
        Self { subject, level: Level::Warning, message, remedy }
    }

    fn critical(
        subject: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Critical, ..Self::warning(subject, message, remedy) }
    }
}

/// Findings for people.
pub(crate) fn text(findings: &[Finding]) -> String {
    let row = |it: &Finding| {
        let level = match it.level {
            Level::Ok => "ok",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
        };
        vec![
            level.to_owned(),
            it.subject.to_owned(),
            it.message.clone(),
            it.remedy.clone().unwrap_or_default(),
        ]
    };
    printer::table(&["LEVEL", "SUBJECT", "FOUND", "REMEDY"], findings.iter().map(row).collect())
}
