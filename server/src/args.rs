//! The top of the command line: which commands there are, the flags they all share, and which
//! module runs them. No behaviour of its own.
//!
//! `serve`, `stdio`, `doctor`, `config` and `token` are run here; every other command comes from
//! [`crate::cli::subcommands`] and goes to [`crate::cli::run`]. A dotted name is the same command
//! as its words: `memory.query --q x` is `memory query --q x`.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};

use crate::exit::Exit;
use crate::{cli, tools};

/// Shape of what a command prints on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A short summary for people.
    Text,
    /// One JSON document.
    Json,
}

/// What every command gets besides its own arguments.
#[derive(Debug, Clone)]
pub struct Common {
    /// `--data-dir`, when given.
    pub data_dir: Option<PathBuf>,
    /// `--config`, when given.
    pub config: Option<PathBuf>,
    /// `--output`, or what suits: a dotted command that writes into a pipe or file prints JSON,
    /// because it is usually read by another program; everything else prints text.
    pub output: Output,
}

/// Flags that every command takes and that have a value; [`spell_out`] must step over the value.
const SHARED_FLAGS: [&str; 3] = ["--data-dir", "--config", "--output"];

/// The whole command tree, for parsing, completions, the man page and the reference pages.
pub fn command() -> Command {
    Command::new("llm-memory")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A durable memory server for LLM agents")
        .after_help(
            "Dotted names are the same commands: `llm-memory memory.query --q=words` is \
             `llm-memory memory query --q words`.\n\
             Exit status: 0 done or healthy, 1 warning or finding, 2 critical or failed, \
             64 wrong usage.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .infer_subcommands(false)
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("FOLDER")
                .global(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("Folder of the store (LLM_MEMORY_DATA_DIR)"),
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .global(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("Server configuration file (LLM_MEMORY_CONFIG)"),
        )
        .arg(
            Arg::new("output")
                .long("output")
                .value_name("FORMAT")
                .global(true)
                .value_parser(PossibleValuesParser::new(["text", "json"]))
                .help(
                    "text for people, json for programs; dotted commands default to json in pipes",
                ),
        )
        .subcommands(cli::subcommands())
}

/// Parses `arguments` (the program's name first), runs the command and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let (arguments, dotted) = spell_out(arguments.into_iter().collect());
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    let common = common(&matches, dotted, io::stdout().is_terminal());
    match matches.subcommand() {
        Some((name, arguments)) => cli::run(&common, name, arguments),
        None => Exit::Usage,
    }
}

fn common(matches: &ArgMatches, dotted: bool, terminal: bool) -> Common {
    let output = match matches.get_one::<String>("output").map(String::as_str) {
        Some("json") => Output::Json,
        Some(_) => Output::Text,
        None if dotted && !terminal => Output::Json,
        None => Output::Text,
    };
    Common {
        data_dir: matches.get_one::<PathBuf>("data-dir").cloned(),
        config: matches.get_one::<PathBuf>("config").cloned(),
        output,
    }
}

/// Prints what clap has to say. `--help` and `--version` are answers, not mistakes.
fn refuse(error: &clap::Error) -> Exit {
    // Nothing can be done about a closed stdout or stderr.
    drop(error.print());
    drop(io::stdout().flush());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
        _ => Exit::Usage,
    }
}

/// Replaces a dotted or underscored command name by its words; says whether there was one.
fn spell_out(arguments: Vec<OsString>) -> (Vec<OsString>, bool) {
    let Some(position) = command_position(&arguments) else { return (arguments, false) };
    let mut words = None;
    let mut out = Vec::with_capacity(arguments.len() + 2);
    for (index, argument) in arguments.into_iter().enumerate() {
        match argument.to_str().filter(|_| index == position).and_then(words_of) {
            Some(found) => {
                out.extend(found.iter().map(OsString::from));
                words = Some(found);
            }
            None => out.push(argument),
        }
    }
    (out, words.is_some())
}

/// Where the command's name stands: the first argument that is neither a flag nor its value.
fn command_position(arguments: &[OsString]) -> Option<usize> {
    let mut value_follows = false;
    arguments.iter().enumerate().skip(1).find_map(|(index, argument)| {
        if std::mem::take(&mut value_follows) {
            return None;
        }
        let text = argument.to_string_lossy();
        if text.starts_with('-') {
            value_follows = SHARED_FLAGS.contains(&&*text);
            return None;
        }
        Some(index)
    })
}

fn words_of(name: &str) -> Option<Vec<String>> {
    let dotted = match tools::find(name) {
        Some(tool) => tool.dotted,
        None => name,
    };
    dotted.contains('.').then(|| dotted.split('.').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(arguments: &[&str]) -> (Vec<String>, bool) {
        let (out, dotted) = spell_out(arguments.iter().map(OsString::from).collect());
        (out.into_iter().map(|argument| argument.into_string().unwrap()).collect(), dotted)
    }

    #[test]
    fn dotted_names_become_words_wherever_shared_flags_stand() {
        assert_eq!(
            spelled(&["llm-memory", "--data-dir", "a.b", "memory.query", "--q=x.y", "c.d"]),
            (
                ["llm-memory", "--data-dir", "a.b", "memory", "query", "--q=x.y", "c.d"]
                    .map(String::from)
                    .to_vec(),
                true
            )
        );
        assert_eq!(
            spelled(&["llm-memory", "--output=json", "maintenance.compact.now"]).0,
            ["llm-memory", "--output=json", "maintenance", "compact", "now"]
        );
    }

    #[test]
    fn spaced_names_stay_as_they_are() {
        let (out, dotted) = spelled(&["llm-memory", "memory", "get", "--id", "a.b"]);
        assert_eq!(out, ["llm-memory", "memory", "get", "--id", "a.b"]);
        assert!(!dotted);
    }

    #[test]
    fn the_command_tree_is_consistent() {
        command().debug_assert();
    }
}
