//! `import reference`: takes over what the reference memory server keeps in the folder of one
//! scope. Each item passes redaction, the write guard and the sensitivity gate, as a write does;
//! running it again writes only what changed.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use llm_memory_disk::{DiskError, OsDisk};
use llm_memory_engine::EngineError;
use llm_memory_engine::api::{Caller, Skipped};
use llm_memory_engine::ids::Scope;
use llm_memory_engine::import::{Import, Report};
use serde::Serialize;

use crate::args::Common;
use crate::audit::{Entry, Kind};
use crate::cli::connect::{self, Target};
use crate::cli::error::CliError;
use crate::cli::printer::Printer;
use crate::exit::Exit;

/// Problems that the text shows; the JSON form has all.
const SHOWN: usize = 20;

pub(super) fn command() -> Command {
    Command::new("import")
        .about("Take memories over from another system")
        .subcommand_required(true)
        .subcommand(
            Command::new("reference")
                .about("Import the folder of one scope of the reference memory server")
                .arg(
                    Arg::new("from")
                        .long("from")
                        .value_name("FOLDER")
                        .required(true)
                        .value_parser(value_parser!(PathBuf))
                        .help("Folder with items/ or journal.ndjson; it is only read"),
                )
                .arg(
                    Arg::new("scope")
                        .long("scope")
                        .value_name("SCOPE")
                        .required(true)
                        .value_parser(["global", "local", "committed"])
                        .help("Scope to import into"),
                )
                .arg(
                    Arg::new("dry-run")
                        .long("dry-run")
                        .action(ArgAction::SetTrue)
                        .help("Read everything and say what was found; write nothing"),
                )
                .arg(connect::project_flag()),
        )
}

/// What was taken over.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    dry_run: bool,
    /// Items written; absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<u64>,
    /// Items that were refused, and why; absent in a dry run, which asks no store.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<Vec<Skipped>>,
    /// What was read.
    read: Report,
}

impl Outcome {
    fn exit(&self) -> Exit {
        let refused = self.skipped.as_ref().is_some_and(|skipped| !skipped.is_empty());
        if refused || !self.read.is_complete() { Exit::Finding } else { Exit::Done }
    }

    fn text(&self) -> String {
        let read = &self.read;
        let mut out = format!(
            "read {} items ({} only in the journal), {} had been deleted\n",
            read.items, read.from_journal, read.deleted
        );
        match self.written {
            Some(written) => out.push_str(&format!("written {written}\n")),
            None => out.push_str(
                "dry run: nothing was written, and no item was judged (the import itself redacts, \
                 and refuses what the scope does not take)\n",
            ),
        }
        if let Some(refused) = &self.skipped {
            out.push_str(&format!("refused {}\n", refused.len()));
            for skipped in refused.iter().take(SHOWN) {
                out.push_str(&format!("  {}: {}\n", skipped.id, skipped.reason));
            }
        }
        out.push_str(&format!("unreadable {}\n", read.problems.len()));
        for problem in read.problems.iter().take(SHOWN) {
            out.push_str(&format!("  {}: {}\n", problem.file, problem.reason));
        }
        out.push_str(&format!("values adjusted {}\n", read.adjusted_total));
        for note in read.adjusted.iter().take(SHOWN) {
            out.push_str(&format!("  {note}\n"));
        }
        for (field, count) in &read.unknown_fields {
            out.push_str(&format!("field without a place here: {field} ({count} items)\n"));
        }
        if read.config.is_some() {
            out.push_str(
                "the folder has a configuration; --output json shows it in a form that \
                 project.config.set takes\n",
            );
        }
        out
    }
}

pub(super) fn run(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let Some(("reference", arguments)) = arguments.subcommand() else { return Ok(Exit::Usage) };
    let target = Target::new(common, arguments)?;
    let scope = arguments.get_one::<String>("scope").map_or("global", String::as_str);
    let scope: Scope = scope.parse().map_err(EngineError::from)?;
    let from = arguments.get_one::<PathBuf>("from").cloned().unwrap_or_default();
    let import = Import::open(&OsDisk, &from, scope, "import").map_err(EngineError::from)?;
    let outcome = if arguments.get_flag("dry-run") {
        rehearse(import)?
    } else {
        take_over(&target, scope, import)?
    };
    printer.either(&outcome, || outcome.text())?;
    Ok(outcome.exit())
}

fn rehearse(mut import: Import<'_>) -> Result<Outcome, CliError> {
    for item in import.by_ref() {
        item?;
    }
    Ok(Outcome { dry_run: true, written: None, skipped: None, read: import.into_report() })
}

fn take_over(target: &Target, scope: Scope, mut import: Import<'_>) -> Result<Outcome, CliError> {
    let backend = target.open(true)?;
    let Some(engine) = backend.engine() else {
        return Err(CliError::NotAlone { what: "an import", root: target.root.clone() });
    };
    let caller = Caller::unrestricted("import", target.project.clone());
    // The engine takes plain items; a disk that fails while reading ends them and is told after.
    let mut failure: Option<DiskError> = None;
    let items = std::iter::from_fn(|| match import.next()? {
        Ok(imported) => Some((imported.content, imported.counters)),
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let begun = Instant::now();
    let imported = engine.import(&caller, scope, items);
    let mut entry = match &imported {
        Ok((written, _)) => Entry { items: Some(*written), ..Entry::new(Kind::Call, "ok") },
        Err(error) => Entry::new(Kind::Call, error.code()),
    };
    entry.tool = Some("import.reference".to_owned());
    entry.subject = Some(caller.subject.clone());
    entry.scope = Some(scope.to_string());
    entry.project = target.project.as_ref().map(ToString::to_string);
    entry.write = true;
    backend.record(&entry.took(begun.elapsed()).from_peer("cli", None));
    let closed = backend.close();
    let (written, skipped) = imported?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    closed?;
    let (written, skipped) = (Some(written), Some(skipped));
    Ok(Outcome { dry_run: false, written, skipped, read: import.into_report() })
}
