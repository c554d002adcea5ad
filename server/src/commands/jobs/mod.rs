//! `jobs run` and `maintenance run`: submit a job to the server that holds the store, follow it to
//! its end, print its result, and exit with its verdict. Without a server the work is done here.

mod client;
mod follow;
mod here;
mod order;

use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::args::Common;
use crate::cli::connect::Target;
use crate::cli::duration;
use crate::cli::error::CliError;
use crate::cli::printer::{Printer, tell};
use crate::commands::scope_flag;
use crate::exit::Exit;
use crate::jobs::{Job, JobKind, Routine};
use order::Order;

pub(super) fn command() -> Command {
    Command::new("run")
        .about("Submit a job, follow it to its end, and exit with its verdict")
        .long_about(
            "Submits a job to the server that holds the store, follows it to its end across \
             restarts of the server, prints its result, and exits 0 when it is done, 1 when it \
             found something (damage, views that disagree, work done in part), 2 when it failed \
             or did not end in time. Without a server the work is done here.",
        )
        .arg(
            Arg::new("kind")
                .value_name("KIND")
                .required(true)
                .value_parser(PossibleValuesParser::new(JobKind::ALL.map(JobKind::as_str)))
                .help("What the job does"),
        )
        .arg(
            Arg::new("routine")
                .long("routine")
                .value_name("ROUND")
                .value_parser(PossibleValuesParser::new(Routine::ALL.map(Routine::as_str)))
                .help("Which round, for the kind routine"),
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Only name what would be removed (cleanup and prune)"),
        )
        .args(following())
}

pub(super) fn routine_command() -> Command {
    Command::new("run")
        .about("Run a maintenance routine and exit with its verdict")
        .long_about(
            "Runs the daily, weekly, monthly or quarterly routine as a job of the server that \
             holds the store, or here when there is none; the same as `jobs run routine \
             --routine ROUND`. daily: leftovers, journals that have grown, expired memories. \
             weekly: also verifies everything and rebuilds what needs it. monthly: also compacts \
             everything and compares rebuilt views. quarterly: also statistics. The report stays \
             in reports/ in the data folder.",
        )
        .arg(
            Arg::new("round")
                .value_name("ROUND")
                .required(true)
                .value_parser(PossibleValuesParser::new(Routine::ALL.map(Routine::as_str)))
                .help("Which round"),
        )
        .args(following())
}

fn following() -> [Arg; 3] {
    [
        scope_flag(),
        Arg::new("idempotency-key").long("idempotency-key").value_name("KEY").help(
            "Key under which the same job is found again instead of submitting another \
             [default: a new one]",
        ),
        Arg::new("timeout")
            .long("timeout")
            .value_name("SPAN")
            .default_value("1h")
            .help("How long to wait for the end (90s, 15m, 1h); the job goes on after that"),
    ]
}

pub(super) fn run(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let kind = word(arguments, "kind").unwrap_or_default();
    let order = Order {
        kind,
        routine: word(arguments, "routine"),
        dry_run: arguments.get_flag("dry-run"),
        ..Order::of(arguments)
    };
    carry_out(common, printer, arguments, &order)
}

pub(super) fn run_routine(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let order = Order {
        kind: JobKind::Routine.as_str().to_owned(),
        routine: word(arguments, "round"),
        ..Order::of(arguments)
    };
    carry_out(common, printer, arguments, &order)
}

fn word(arguments: &ArgMatches, name: &str) -> Option<String> {
    arguments.get_one::<String>(name).cloned()
}

fn carry_out(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
    order: &Order,
) -> Result<Exit, CliError> {
    let timeout = word(arguments, "timeout").unwrap_or_default();
    let millis = duration::parse_millis(&timeout)
        .map_err(|reason| CliError::Usage { message: format!("--timeout: {reason}") })?;
    // Wrong arguments are wrong usage whoever would be asked.
    order.submission(None)?;
    let target = Target::new(common, arguments)?;
    let job = match target.server() {
        Ok(None) => here::run(&target, order)?,
        // Somebody holds the folder who is not heard of yet: a server that starts.
        Ok(Some(_)) | Err(CliError::Locked { .. }) => {
            let until = Instant::now().checked_add(Duration::from_millis(millis));
            follow::follow(&target, order, until)?
        }
        Err(error) => return Err(error),
    };
    conclude(printer, &job)
}

/// Prints the result, and says on standard error how it went.
fn conclude(printer: Printer, job: &Job) -> Result<Exit, CliError> {
    match &job.result {
        Some(result) => printer.document(result)?,
        None => printer.document(&serde_json::to_value(job).unwrap_or_default())?,
    }
    let said = job.summary.as_deref().map(|summary| format!(": {summary}")).unwrap_or_default();
    tell(format_args!("job {} {}{said}", job.id, job.state.as_str()));
    if let Some(error) = &job.error {
        tell(format_args!("error: {} ({})", error.message, error.code));
    }
    Ok(job.state.exit())
}
