//! What the program tells about itself: shell completions, manual pages, reference pages. All are
//! made from the command tree and the tool table.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use llm_memory_disk::{Disk, OsDisk};
use serde_json::json;

use crate::args::{self, Common};
use crate::cli::error::CliError;
use crate::cli::printer::{self, Printer};
use crate::docs;
use crate::exit::Exit;

pub(super) fn completions() -> Command {
    Command::new("completions").about("Print the completion script of a shell").arg(
        Arg::new("shell")
            .value_name("SHELL")
            .required(true)
            .value_parser(value_parser!(Shell))
            .help("Shell to complete for"),
    )
}

pub(super) fn print_completions(
    _: &Common,
    _: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let Some(shell) = arguments.get_one::<Shell>("shell") else { return Ok(Exit::Usage) };
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut args::command(), "llm-memory", &mut script);
    printer::data(&script)?;
    Ok(Exit::Done)
}

pub(super) fn man() -> Command {
    Command::new("man")
        .about("Print a manual page (roff)")
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(0..)
                .help("Command the page is about; the program itself when left out"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("FOLDER")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("command")
                .help("Write the pages of all commands into FOLDER instead"),
        )
}

pub(super) fn print_man(
    _: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let mut root = args::command();
    root.build();
    if let Some(folder) = arguments.get_one::<PathBuf>("dir") {
        OsDisk.create_dir_all(folder)?;
        let mut written = Vec::new();
        write_pages(&root, folder, "", &mut written)?;
        printer
            .document(&json!({"written": written.len(), "folder": folder.display().to_string()}))?;
        return Ok(Exit::Done);
    }
    let mut command = &root;
    for word in arguments.get_many::<String>("command").into_iter().flatten() {
        command = command.find_subcommand(word).ok_or_else(|| CliError::Usage {
            message: format!("{} has no command {word}", command.get_name()),
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    printer::data(&page)?;
    Ok(Exit::Done)
}

fn write_pages(
    command: &Command,
    folder: &Path,
    prefix: &str,
    written: &mut Vec<String>,
) -> Result<(), CliError> {
    let name = format!("{prefix}{}", command.get_name());
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().name(name.clone())).render(&mut page)?;
    let file = format!("{name}.1");
    OsDisk.durable_write(&folder.join(&file), &page)?;
    written.push(file);
    let below = format!("{name}-");
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        write_pages(child, folder, &below, written)?;
    }
    Ok(())
}

pub(super) fn docs() -> Command {
    Command::new("docs").about("Reference pages").subcommand_required(true).subcommand(
        Command::new("generate")
            .about("Write the reference pages that repeat the code")
            .arg(
                Arg::new("dir")
                    .long("dir")
                    .value_name("FOLDER")
                    .value_parser(value_parser!(PathBuf))
                    .default_value("docs")
                    .help("Folder of the pages"),
            )
            .arg(
                Arg::new("check")
                    .long("check")
                    .action(ArgAction::SetTrue)
                    .help("Change nothing; fail when a page differs from what would be written"),
            ),
    )
}

pub(super) fn generate_docs(
    _: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let Some(("generate", arguments)) = arguments.subcommand() else { return Ok(Exit::Usage) };
    let folder = arguments.get_one::<PathBuf>("dir").cloned().unwrap_or_else(|| "docs".into());
    let check = arguments.get_flag("check");
    if !check {
        OsDisk.create_dir_all(&folder)?;
    }
    let (mut changed, mut same) = (Vec::new(), Vec::new());
    for page in docs::PAGES {
        let path = folder.join(page.file);
        let text = (page.text)();
        let present = match OsDisk.read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        if present.as_deref() == Some(text.as_bytes()) {
            same.push(page.file);
            continue;
        }
        changed.push(page.file);
        if !check {
            OsDisk.durable_write(&path, text.as_bytes())?;
        }
    }
    let word = if check { "outdated" } else { "written" };
    printer.document(&json!({word: changed, "unchanged": same}))?;
    Ok(if check && !changed.is_empty() { Exit::Finding } else { Exit::Done })
}
