//! What a command of this crate says when it is done: a document for programs, words for people,
//! and the exit status. Commands return it; only this file prints.

use std::io::{self, Write};

use serde_json::Value;

use crate::args::Output;
use crate::exit::Exit;

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// For `--output json`.
    pub document: Value,
    /// For people.
    pub text: String,
    /// How it went.
    pub exit: Exit,
}

impl Answer {
    /// A command that did what it should.
    pub fn done(document: Value, text: impl Into<String>) -> Self {
        Self { document, text: text.into(), exit: Exit::Done }
    }
}

/// A command that could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong and what to do, for people.
    pub message: String,
    /// How it went.
    pub exit: Exit,
}

impl Failure {
    /// The command line or the configuration is wrong.
    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
    pub fn usage(error: impl ToString) -> Self {
        Self { message: error.to_string(), exit: Exit::Usage }
    }

    /// The work was tried and failed.
    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
    pub fn failed(error: impl ToString) -> Self {
        Self { message: error.to_string(), exit: Exit::Failed }
    }
}

/// Prints the outcome, data on stdout and errors on stderr, and hands on the exit status.
pub fn print(outcome: Result<Answer, Failure>, output: Output) -> Exit {
    match outcome {
        Ok(answer) => {
            let mut text = match output {
                // A `Value` always has a JSON form.
                Output::Json => serde_json::to_string_pretty(&answer.document).unwrap_or_default(),
                Output::Text => answer.text,
            };
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            // A reader that went away (`| head`) is no failure of the command.
            drop(io::stdout().lock().write_all(text.as_bytes()));
            answer.exit
        }
        Err(failure) => {
            drop(writeln!(io::stderr().lock(), "error: {}", failure.message));
            failure.exit
        }
    }
}
