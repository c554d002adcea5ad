//! `kubectl memory completion`: a completion script for a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::Failure;
use crate::exit::Exit;
use crate::printer::{Format, Printer};

/// Flags of `completion`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shell to complete for
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kubectl-memory", &mut script);
    Printer { format: Format::Table }.data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
