//! The top of the command line: which commands there are, the flags they all share, and which
//! module runs them. No behaviour of its own.
//!
//! `serve`, `stdio`, `doctor`, `config` and `token` are run here; every other command comes from
//! [`crate::cli::subcommands`] and goes to [`crate::cli::run`]. A dotted name is the same command
//! as its words: `memory.query --q x` is `memory query --q x`.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::ids::Timestamp;

use crate::answer::{Answer, Failure};
use crate::cli::error::CliError;
use crate::cli::printer::{Printer, tell};
use crate::config::{self, ConfigError, Effective, Sources, settings, value::Kind};
use crate::exit::Exit;
use crate::{auth, cli, doctor, serve, tools};

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

impl Common {
    /// The configuration in force: file, environment and `flags` (by setting key) laid over the
    /// defaults.
    pub fn load(
        &self,
        disk: &dyn Disk,
        flags: Vec<(&'static str, String)>,
    ) -> Result<Effective, ConfigError> {
        config::load(disk, &self.sources(flags))
    }

    /// Everything a configuration is made from.
    pub fn sources(&self, mut flags: Vec<(&'static str, String)>) -> Sources {
        if let Some(folder) = &self.data_dir {
            flags.push(("dataDir", folder.to_string_lossy().into_owned()));
        }
        Sources::of_process(self.config.clone(), flags)
    }
}

/// Flags that every command takes and that have a value; [`spell_out`] must step over the value.
const SHARED_FLAGS: [&str; 3] = ["--data-dir", "--config", "--output"];

/// The whole command tree, for parsing, completions, the man page and the reference pages.
pub fn command() -> Command {
    Command::new("llm-memory")
        // Usage lines name the program, not the path it was started by.
        .bin_name("llm-memory")
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
        .subcommands([
            Command::new("serve")
                .about("Serves a store over MCP, with health and metrics")
                .long_about(
                    "Serves a store over MCP (Streamable HTTP at /mcp and JSON lines, one port), \
                     with health and metrics on ports of their own. SIGTERM and SIGINT finish \
                     running calls, close the store and exit 0; SIGHUP reads the configuration, \
                     tokens and secret patterns again.",
                )
                .arg(
                    Arg::new("test-mode")
                        .long("test-mode")
                        .action(ArgAction::SetTrue)
                        .help("Check everything, open and close the store, exit 0 or 2"),
                )
                .args(setting_flags()),
            Command::new("doctor")
                .about("Checks everything a server needs and says how to mend what is wrong")
                .args(setting_flags()),
            Command::new("stdio")
                .about("Serves a store over MCP on standard input and output")
                .long_about(
                    "Serves a store over MCP on standard input and output, for clients that start \
                     their server themselves. When a server already has the store open, lines are \
                     handed on to it.",
                )
                .args(setting_flags()),
            Command::new("config")
                .about("Shows and checks the configuration")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(
                    Command::new("show")
                        .about("Prints every setting, its value and where it came from")
                        .args(setting_flags()),
                ),
            auth::command::command(),
        ])
        .subcommands(cli::subcommands())
}

/// The heading of [`setting_flags`] in help, which tells them from flags of the same name.
pub(crate) const SETTINGS: &str = "Settings";

/// A flag for every setting, for the commands that start a server or speak about its settings.
/// Values are checked with the other layers, so that all mistakes are reported together.
fn setting_flags() -> impl Iterator<Item = Arg> {
    let others = settings::ALL.iter().filter(|setting| setting.key != "dataDir");
    others.map(|setting| {
        let arg = Arg::new(setting.key)
            .long(setting.flag)
            .help(format!("{} ({})", setting.env.doc.trim(), setting.env.name))
            .help_heading(SETTINGS)
            .hide_short_help(true)
            .action(ArgAction::Set);
        match setting.kind {
            // `--safe-mode` alone means yes.
            Kind::Switch => arg
                .value_name("BOOL")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
            Kind::Number { .. } => arg.value_name("N"),
            Kind::Path => arg.value_name("PATH"),
            Kind::List => arg.value_name("LIST"),
            Kind::Choice { .. } | Kind::Text | Kind::Address => arg.value_name("VALUE"),
        }
    })
}

/// The settings that were given as flags, by key.
fn given_settings(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    settings::ALL
        .iter()
        .filter(|setting| setting.key != "dataDir")
        .filter_map(|setting| {
            let value = matches.try_get_one::<String>(setting.key).ok().flatten()?;
            Some((setting.key, value.clone()))
        })
        .collect()
}

/// Parses `arguments` (the program's name first), runs the command and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let (arguments, dotted) = spell_out(arguments.into_iter().collect());
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    let common = common(&matches, dotted, io::stdout().is_terminal());
    let outcome = match matches.subcommand() {
        Some(("serve", arguments)) => serve(&common, arguments),
        Some(("stdio", arguments)) => common
            .load(&OsDisk, given_settings(arguments))
            .map_err(Failure::usage)
            .and_then(|effective| serve::stdio::run(&effective)),
        Some(("doctor", arguments)) => {
            let disk: Arc<dyn Disk> = Arc::new(OsDisk);
            let loaded = common.load(&*disk, given_settings(arguments));
            Ok(doctor::answer(&doctor::examine(&disk, loaded)))
        }
        Some(("config", arguments)) => show_config(&common, arguments),
        Some(("token", arguments)) => change_tokens(&common, arguments),
        Some((name, arguments)) => return cli::run(&common, name, arguments),
        None => return Exit::Usage,
    };
    conclude(outcome, Printer::new(common.output))
}

/// Prints an outcome. A result that cannot be printed is a failure of the command, whose work may
/// be done: a token that was never shown is of no use.
fn conclude(outcome: Result<Answer, Failure>, printer: Printer) -> Exit {
    let printed = outcome.and_then(|answer| {
        let Answer { document, text, exit } = answer;
        let written = printer.either(&document, || text);
        written.map(|()| exit).map_err(|error| Failure::failed(CliError::Output(error)))
    });
    printed.unwrap_or_else(|failure| {
        tell(format_args!("error: {}", failure.message));
        failure.exit
    })
}

fn serve(common: &Common, arguments: &ArgMatches) -> Result<Answer, Failure> {
    let sources = common.sources(given_settings(arguments));
    let effective = config::load(&OsDisk, &sources).map_err(Failure::usage)?;
    if arguments.get_flag("test-mode") {
        return Ok(serve::test(effective));
    }
    serve::run(effective, sources)
}

fn show_config(common: &Common, arguments: &ArgMatches) -> Result<Answer, Failure> {
    let flags = arguments.subcommand().map(|(_, inner)| given_settings(inner)).unwrap_or_default();
    let effective = common.load(&OsDisk, flags).map_err(Failure::usage)?;
    Ok(Answer::done(config::show::json(&effective), config::show::text(&effective)))
}

fn change_tokens(common: &Common, arguments: &ArgMatches) -> Result<Answer, Failure> {
    let effective = common.load(&OsDisk, Vec::new()).map_err(Failure::usage)?;
    let config = &effective.config;
    let file = &config.auth.tokens_file;
    let outcome = auth::command::run(&OsDisk, file, arguments, Timestamp::now());
    if let Some(entry) = auth::command::audited(arguments, &outcome) {
        let audit = cli::local::audit_beside(config);
        audit.record(&entry);
        audit.close();
    }
    outcome
}

fn common(matches: &ArgMatches, dotted: bool, terminal: bool) -> Common {
    let asked = matches.get_one::<String>("output").map(String::as_str);
    let json = asked.map_or(dotted && !terminal, |format| format == "json");
    let output = if json { Output::Json } else { Output::Text };
    Common {
        data_dir: matches.get_one::<PathBuf>("data-dir").cloned(),
        // `project config set` has a `--config` of its own, whose JSON clap finds here as well.
        config: matches.try_get_one::<PathBuf>("config").ok().flatten().cloned(),
        output,
    }
}

/// Prints what clap has to say. `--help` and `--version` are answers, not mistakes.
fn refuse(error: &clap::Error) -> Exit {
    // Nothing can be done about a closed stdout or stderr.
    drop(error.print());
    drop(io::stdout().flush());
    let answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if answer { Exit::Done } else { Exit::Usage }
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
