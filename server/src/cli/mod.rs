//! Every tool as a command, against a running server or a data directory.

use clap::{ArgMatches, Command};

use crate::args::Common;
use crate::exit::Exit;

/// The commands this module adds to the tree.
pub fn subcommands() -> Vec<Command> {
    Vec::new()
}

/// Runs the command `name` with its parsed arguments.
pub fn run(_common: &Common, _name: &str, _arguments: &ArgMatches) -> Exit {
    Exit::Usage
}
