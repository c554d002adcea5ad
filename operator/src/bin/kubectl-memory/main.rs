//! `kubectl memory`: looks after memory stores from the command line.
//!
//! It is a client of the API server like kubectl itself: it needs no more rights than the user
//! has, and changes a store only through its spec and annotations. The operator does the rest.

mod args;
mod commands;
mod context;
mod error;
mod exit;
#[cfg(test)]
mod fixtures;
mod names;
mod printer;
mod units;
mod wait;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::exit::Exit;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors to clap either; there is nobody to tell when
            // printing fails.
            let _ = error.print();
            return if error.exit_code() == 0 { Exit::Done } else { Exit::Usage }.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, Exit::Failed).into(),
    };
    runtime
        .block_on(commands::run(cli))
        .unwrap_or_else(|failure| {
            if failure.exit() == Exit::Done { Exit::Done } else { fail(&failure, failure.exit()) }
        })
        .into()
}

fn fail(error: &dyn std::fmt::Display, exit: Exit) -> Exit {
    let _ = writeln!(std::io::stderr().lock(), "error: {error}");
    exit
}
