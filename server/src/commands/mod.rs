//! Commands that are more than one tool call: health, reports, recovery, and what the program
//! tells about itself. One file a command.

mod about;
mod bench;
mod recover;
mod storage_health;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};

use crate::args::Common;
use crate::cli::error::CliError;
use crate::cli::printer::Printer;
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
    Row { name: "storage-health", command: storage_health::command, run: storage_health::run },
    Row { name: "bench", command: bench::command, run: bench::run },
    Row { name: "recover", command: recover::command, run: recover::run },
    Row { name: "completions", command: about::completions, run: about::print_completions },
    Row { name: "man", command: about::man, run: about::print_man },
    Row { name: "docs", command: about::docs, run: about::generate_docs },
];

/// The `--scope` flag of commands that look at whole scopes.
fn scope_flag(default: &'static str) -> Arg {
    Arg::new("scope")
        .long("scope")
        .value_name("SCOPE")
        .value_parser(PossibleValuesParser::new(["global", "local", "committed", "project", "all"]))
        .default_value(default)
        .help("Scope or union of scopes")
}

/// Its value.
fn scope(arguments: &ArgMatches) -> String {
    arguments.get_one::<String>("scope").cloned().unwrap_or_else(|| "all".to_owned())
}
