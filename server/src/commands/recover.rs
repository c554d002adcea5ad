//! `recover`: looks at the damage, says what is to be done, and does the part that needs no
//! backup.

use std::io::{self, BufRead as _, IsTerminal as _};

use clap::{Arg, ArgAction, ArgMatches, Command};
use llm_memory_engine::api::ScopeStatus;
use llm_memory_engine::ids::ProjectId;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Common;
use crate::cli::connect::{self, Backend, Target};
use crate::cli::error::CliError;
use crate::cli::printer::{Printer, tell, width};
use crate::cli::render::{float_text, render};
use crate::exit::Exit;
use crate::reports::by_scope::{arguments, count, documents, entries, unsound};
use crate::reports::ladder::{Action, Level, Plan, ScopeState};

pub(super) fn command() -> Command {
    Command::new("recover")
        .about("Assess corruption and mend what can be mended without a backup")
        .arg(
            Arg::new("auto")
                .long("auto")
                .action(ArgAction::SetTrue)
                .conflicts_with("plan")
                .help("Do what the plan says without asking"),
        )
        .arg(
            Arg::new("plan")
                .long("plan")
                .action(ArgAction::SetTrue)
                .help("Only print the plan; nothing is changed"),
        )
        .arg(
            Arg::new("salvage")
                .long("salvage")
                .action(ArgAction::SetTrue)
                .help("Go on with what is sound even where a restore from backup would be better"),
        )
        .args(connect::flags())
}

/// What was found and done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// The state before.
    plan: Plan,
    /// Whether the plan's automatic steps were taken.
    acted: bool,
    /// What each step answered, by scope.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    results: serde_json::Map<String, Value>,
    /// The state after, when something was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Plan>,
}

pub(super) fn run(
    common: &Common,
    printer: Printer,
    matches: &ArgMatches,
) -> Result<Exit, CliError> {
    let target = Target::new(common, matches)?;
    let backend = target.open(false)?;
    let outcome = respond(&target, &backend, printer, matches);
    let closed = backend.close();
    let outcome = outcome?;
    closed?;
    printer.either(&outcome, || outcome.text())?;
    Ok(outcome.exit())
}

fn respond(
    target: &Target,
    backend: &Backend,
    printer: Printer,
    matches: &ArgMatches,
) -> Result<Outcome, CliError> {
    let salvage = matches.get_flag("salvage");
    let plan = assess(target, backend, salvage)?;
    let mut outcome = Outcome { plan, acted: false, results: serde_json::Map::new(), after: None };
    if matches.get_flag("plan") || outcome.plan.automatic().next().is_none() {
        return Ok(outcome);
    }
    if !matches.get_flag("auto") && !confirmed(&outcome.plan, printer)? {
        return Ok(outcome);
    }
    for step in outcome.plan.automatic() {
        let tool = match step.action {
            Action::Rebuild => "maintenance.rebuild",
            Action::Salvage => "maintenance.recover",
            // The whole store is assessed again at the end; a restore is never automatic.
            Action::Verify | Action::Restore => continue,
        };
        tell(format_args!("{tool} {}", step.scope));
        let result = backend.call_named(tool, arguments(&step.scope))?;
        // A step that found nothing to do answers nothing.
        if result.as_object().is_some_and(|members| !members.is_empty()) {
            outcome.results.insert(step.scope.clone(), result);
        }
    }
    if outcome.results.is_empty() {
        tell("nothing was done: the damage is not where these steps could mend it");
        return Ok(outcome);
    }
    outcome.acted = true;
    outcome.after = Some(assess(target, backend, salvage)?);
    Ok(outcome)
}

/// Verifies everything and makes the plan.
fn assess(target: &Target, backend: &Backend, salvage: bool) -> Result<Plan, CliError> {
    let all = json!({"scope": "all"});
    let journal = backend.call_named("journal.verify", all.clone())?;
    let views = backend.call_named("maintenance.verify", all)?;
    let views = documents(&views, "global", "watermarks");
    let refusals = refusals(&backend.scopes()?);
    let project = target.project.as_ref().map(ProjectId::as_str);
    let scopes: Vec<ScopeState> = documents(&journal, "global", "checkedCount")
        .into_iter()
        .map(|(scope, document)| {
            let view = views.iter().find(|(name, _)| *name == scope).map(|(_, view)| *view);
            let agrees = view.and_then(|view| view.get("ok")).and_then(Value::as_bool);
            ScopeState {
                corrupted: unsound(document),
                integrity: document.get("integrityScore").and_then(Value::as_f64).unwrap_or(1.0),
                checked: count(document, "checkedCount"),
                view_issues: match agrees {
                    Some(false) => view.map_or(0, |view| entries(view, "issues")).max(1),
                    Some(true) | None => 0,
                },
                refuses: refusals.iter().any(|refusing| is_same(refusing, &scope, project)),
                scope,
            }
        })
        .collect();
    Ok(Plan::of(&scopes, salvage))
}

/// The scopes that refuse writes until they are recovered. Others refuse them for reasons that a
/// salvage does not end, such as safe mode.
fn refusals(scopes: &[ScopeStatus]) -> Vec<String> {
    let damaged = |scope: &&ScopeStatus| {
        scope.read_only.as_ref().is_some_and(|reason| reason.contains("run recover"))
    };
    scopes.iter().filter(damaged).map(|scope| scope.scope.clone()).collect()
}

/// Whether a status (`local/app`) is that of the scope of a result, which is named without its
/// project where the call named one.
fn is_same(status: &str, label: &str, project: Option<&str>) -> bool {
    if status == label {
        return true;
    }
    let of_project = status.strip_prefix(label).and_then(|rest| rest.strip_prefix('/'));
    of_project.is_some_and(|name| project.is_none_or(|project| project == name))
}

/// Shows the plan and asks.
fn confirmed(plan: &Plan, printer: Printer) -> Result<bool, CliError> {
    if printer.is_json() || !io::stdin().is_terminal() {
        return Err(CliError::Usage {
            message: "nobody can be asked here: give --auto to act or --plan to look".to_owned(),
        });
    }
    tell(text(plan));
    tell("Take the automatic steps? [y/N]");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

impl Outcome {
    fn text(&self) -> String {
        match &self.after {
            None => text(&self.plan),
            Some(after) => {
                let done = render(&Value::Object(self.results.clone()), width());
                format!("{}\ndone\n{done}\nafterwards\n{}", text(&self.plan), text(after))
            }
        }
    }

    fn exit(&self) -> Exit {
        // After a salvage the store is sound, but what was damaged is gone: somebody should know.
        let salvaged = self.acted && self.plan.corrupted > 0;
        match self.after.as_ref().unwrap_or(&self.plan).level {
            Level::None if salvaged => Exit::Finding,
            Level::None => Exit::Done,
            Level::Minor | Level::Moderate => Exit::Finding,
            Level::Severe => Exit::Failed,
        }
    }
}

fn text(plan: &Plan) -> String {
    let level = match plan.level {
        Level::None => "nothing is damaged",
        Level::Minor => "minor damage",
        Level::Moderate => "moderate damage",
        Level::Severe => "severe damage: a restore from backup is needed",
    };
    let integrity = plan.integrity.map_or_else(|| "no data".to_owned(), float_text);
    let mut out = format!("{level} ({} damaged records, integrity {integrity})\n", plan.corrupted);
    for (number, step) in plan.steps.iter().enumerate() {
        let action = match step.action {
            Action::Rebuild => "rebuild",
            Action::Salvage => "salvage",
            Action::Verify => "verify",
            Action::Restore => "restore",
        };
        let who = if step.automatic { "" } else { " [by hand]" };
        out.push_str(&format!(
            "{}. {action} {}{who}: {}\n",
            number.saturating_add(1),
            step.scope,
            step.reason
        ));
    }
    if plan.manual().next().is_some() {
        out.push_str("Steps marked [by hand] are not taken by this command.\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_known_with_and_without_its_project() {
        assert!(is_same("global", "global", None));
        assert!(is_same("local/app", "local/app", None));
        assert!(is_same("local/app", "local", Some("app")));
        assert!(!is_same("local/app", "local", Some("web")));
        assert!(is_same("local/app", "local", None), "the server has a project of its own");
        assert!(!is_same("local/app", "committed", None));
    }
}
