//! The command line beyond serving: every tool as a command, and the monitoring commands, against
//! a running server or a data directory.
//!
//! Exit status: [`Exit::Done`] when the work was done, [`Exit::Finding`] when a check found
//! something, [`Exit::Failed`] when it failed, [`Exit::Usage`] when nothing was tried.

mod arguments;
mod command;
pub(crate) mod connect;
pub(crate) mod duration;
pub(crate) mod error;
pub(crate) mod http;
pub(crate) mod local;
pub(crate) mod mcp_client;
pub(crate) mod printer;
pub(crate) mod render;
mod shape;
pub(crate) mod token;
mod tool;

use clap::{ArgMatches, Command};

use self::error::CliError;
use self::printer::{Printer, tell};
use crate::args::Common;
use crate::commands;
use crate::exit::Exit;
use crate::tools;

/// The commands this module adds to the tree.
pub fn subcommands() -> Vec<Command> {
    let tools = command::commands(tools::all()).into_iter();
    let tools = tools.map(|group| {
        let nested = commands::NESTED.iter().filter(|row| row.group == group.get_name());
        let nested: Vec<Command> = nested.map(|row| (row.command)()).collect();
        group.subcommands(nested).args(connect::flags())
    });
    tools.chain(commands::ALL.iter().map(|row| (row.command)())).collect()
}

/// Runs the command `name` with its parsed arguments.
pub fn run(common: &Common, name: &str, arguments: &ArgMatches) -> Exit {
    let printer = Printer::new(common.output);
    let nested = arguments.subcommand().and_then(|(word, below)| {
        let row = commands::NESTED.iter().find(|row| row.group == name && row.name == word)?;
        Some((row, below))
    });
    let done = match (commands::ALL.iter().find(|row| row.name == name), nested) {
        (Some(row), _) => (row.run)(common, printer, arguments),
        (None, Some((row, below))) => (row.run)(common, printer, below),
        (None, None) => tool::run(common, printer, name, arguments),
    };
    match done {
        Ok(exit) => exit,
        // The reader of the result has gone; it had what it wanted.
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Exit::Done
        }
        Err(error) => {
            tell(format_args!("error: {error}"));
            error.exit()
        }
    }
}
