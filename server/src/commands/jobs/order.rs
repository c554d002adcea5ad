//! What the command line asks for.

use clap::ArgMatches;
use llm_memory_engine::ids::ProjectId;
use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::commands::scope;
use crate::jobs::{JobArguments, JobId, Submission};

/// A job to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Order {
    pub(super) kind: String,
    pub(super) routine: Option<String>,
    pub(super) dry_run: bool,
    pub(super) scope: String,
    pub(super) key: String,
}

impl Order {
    /// With the flags that every such command takes.
    pub(super) fn of(arguments: &ArgMatches) -> Self {
        let key = arguments.get_one::<String>("idempotency-key").cloned();
        // A key of one's own lets the job be submitted again when nobody knows whether it was.
        let key = key.unwrap_or_else(|| format!("cli-{}", JobId::generate()));
        Self { scope: scope(arguments), key, ..Self::default() }
    }

    /// The request that submits it.
    pub(super) fn request(&self) -> Value {
        json!({
            "kind": self.kind,
            "arguments": self.arguments(),
            "idempotencyKey": self.key,
        })
    }

    fn arguments(&self) -> Value {
        let mut arguments = json!({ "scope": self.scope });
        if let Some(members) = arguments.as_object_mut() {
            members.extend(self.routine.clone().map(|word| ("routine".to_owned(), word.into())));
            if self.dry_run {
                members.insert("dryRun".to_owned(), true.into());
            }
        }
        arguments
    }

    /// The same for the queue of this process, checked.
    pub(super) fn submission(&self, project: Option<ProjectId>) -> Result<Submission, CliError> {
        let usage = |error: serde_json::Error| CliError::Usage { message: error.to_string() };
        let kind = serde_json::from_value(Value::String(self.kind.clone())).map_err(usage)?;
        let arguments: JobArguments = serde_json::from_value(self.arguments()).map_err(usage)?;
        arguments.check(kind).map_err(|(field, reason)| CliError::Usage {
            message: format!("{}: {reason}", flag(field)),
        })?;
        Ok(Submission { kind, arguments, project, idempotency_key: Some(self.key.clone()) })
    }
}

/// The flag of an argument.
fn flag(field: &str) -> &str {
    match field {
        "arguments.routine" => "--routine",
        "arguments.dryRun" => "--dry-run",
        other => other,
    }
}
