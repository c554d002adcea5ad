//! What a command of this crate says when it is done: a document for programs, words for people,
//! and the exit status. Commands return it; [`crate::args`] has it printed.

use serde_json::Value;

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
    /// A stable word for the audit log.
    pub code: &'static str,
}

impl Failure {
    /// The command line or the configuration is wrong.
    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
    pub fn usage(error: impl ToString) -> Self {
        Self { message: error.to_string(), exit: Exit::Usage, code: "invalid_argument" }
    }

    /// The work was tried and failed.
    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
    pub fn failed(error: impl ToString) -> Self {
        Self { message: error.to_string(), exit: Exit::Failed, code: "failed" }
    }

    /// What the command was to work on is not there.
    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
    pub fn missing(error: impl ToString) -> Self {
        Self { message: error.to_string(), exit: Exit::Failed, code: "not_found" }
    }
}
