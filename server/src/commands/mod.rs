//! Commands that are more than one tool call: health, reports, recovery, and what the program
//! tells about itself. One file a command.

mod about;
mod bench;
mod health;
mod import;
mod jobs;
mod lines;
mod logs;
mod recover;
mod security;
mod storage_health;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use llm_memory_engine::ids::Timestamp;

use crate::args::Common;
use crate::cli::connect::Target;
use crate::cli::duration;
use crate::cli::error::CliError;
use crate::cli::printer::Printer;
use crate::env_vars;
use crate::exit::Exit;

/// A command at the top of the tree.
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its flags and subcommands.
    pub(crate) command: fn() -> Command,
    /// What it does.
    pub(crate) run: fn(&Common, Printer, &ArgMatches) -> Result<Exit, CliError>,
}

/// All of them.
pub(crate) const ALL: &[Row] = &[
    Row { name: "health", command: health::command, run: health::run },
    Row { name: "storage-health", command: storage_health::command, run: storage_health::run },
    Row { name: "bench", command: bench::command, run: bench::run },
    Row { name: "logs", command: logs::command, run: logs::run },
    Row { name: "security", command: security::command, run: security::run },
    Row { name: "recover", command: recover::command, run: recover::run },
    Row { name: "import", command: import::command, run: import::run },
    Row { name: "completions", command: about::completions, run: about::print_completions },
    Row { name: "man", command: about::man, run: about::print_man },
    Row { name: "docs", command: about::docs, run: about::generate_docs },
];

/// A command below a group of tools.
pub(crate) struct NestedRow {
    /// The group.
    pub(crate) group: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// Its flags.
    pub(crate) command: fn() -> Command,
    /// What it does.
    pub(crate) run: fn(&Common, Printer, &ArgMatches) -> Result<Exit, CliError>,
}

/// All of them.
pub(crate) const NESTED: &[NestedRow] = &[
    NestedRow { group: "jobs", name: "run", command: jobs::command, run: jobs::run },
    NestedRow {
        group: "maintenance",
        name: "run",
        command: jobs::routine_command,
        run: jobs::run_routine,
    },
];

/// The `--scope` flag of commands that look at whole scopes.
fn scope_flag() -> Arg {
    Arg::new("scope")
        .long("scope")
        .value_name("SCOPE")
        .value_parser(PossibleValuesParser::new(["global", "local", "committed", "project", "all"]))
        .help("Scope or union of scopes")
}

/// Its value.
fn scope(arguments: &ArgMatches) -> String {
    arguments.get_one::<String>("scope").cloned().unwrap_or_else(|| "all".to_owned())
}

/// A threshold: NaN would be over every one of them, or under.
fn figure(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        Ok(_) | Err(_) => Err("must be a number of 0 or more".to_owned()),
    }
}

/// A share that a threshold is given as.
fn share(text: &str) -> Result<f64, String> {
    figure(text)
        .ok()
        .filter(|share| *share <= 1.0)
        .ok_or_else(|| "must be a share from 0 to 1 (0.05 is 5 %)".to_owned())
}

/// Where commands look that read the files of a data folder. A server named in the environment
/// would have files of its own.
fn local_files(common: &Common, arguments: &ArgMatches) -> Result<Target, CliError> {
    let target = Target::new(common, arguments)?;
    match &target.server {
        None => Ok(target),
        Some(url) => Err(CliError::Usage {
            message: format!(
                "this reads the files of a data folder and cannot ask the server at {url} \
                 ({}): run it where the server runs, and name its folder with --data-dir",
                env_vars::URL.name
            ),
        }),
    }
}

/// The `--since` flag of commands that look back; `--timeframe` is the platform manual's word.
fn since_flag() -> Arg {
    Arg::new("since")
        .long("since")
        .visible_alias("timeframe")
        .value_name("SPAN")
        .default_value("24h")
        .help("How far to look back (90s, 15m, 24h, 7d, 2w), or a moment (RFC 3339)")
}

/// Its moment.
fn since(arguments: &ArgMatches) -> Result<Timestamp, CliError> {
    let text = arguments.get_one::<String>("since").map_or("24h", String::as_str);
    duration::since(text, Timestamp::now())
        .map_err(|reason| CliError::Usage { message: format!("--since: {reason}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_that_nothing_can_be_compared_with_is_refused() {
        for text in ["NaN", "inf", "-inf", "-1", "-0.5", "much", ""] {
            assert!(figure(text).is_err(), "{text}");
        }
        assert_eq!((figure("0"), figure("0.05"), figure("1e3")), (Ok(0.0), Ok(0.05), Ok(1000.0)));
    }
}
