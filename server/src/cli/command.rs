//! Tools as commands: `memory.query` becomes `memory query`, with a flag for every argument of
//! its schema. Nothing here knows a particular tool.

use std::collections::BTreeMap;

use clap::builder::{BoolishValueParser, PossibleValuesParser};
use clap::{Arg, ArgAction, Command, value_parser};

use super::shape::{Field, Shape, fields};
use crate::tools::Tool;

/// Arguments that every tool command takes from the common flags instead of one of its own.
const COMMON: [&str; 1] = ["project"];

/// What a group of commands is about, in the order in which help shows them.
const GROUPS: [(&str, &str); 9] = [
    ("memory", "Store, find and change memories"),
    ("project", "The project's identity, configuration and shared memories"),
    ("journal", "Check, measure and shrink the journal"),
    ("maintenance", "Rebuild, compact, snapshot and clean"),
    ("jobs", "Maintenance in the background"),
    ("vectors", "Embeddings given by clients"),
    ("migration", "Move memories between scopes and storage backends"),
    ("segments", "Immutable segments"),
    ("sync", "Local and committed memories"),
];

/// A tree of command names; a node may be a tool and a group at once (`maintenance.compact` and
/// `maintenance.compact.now`).
#[derive(Default)]
struct Node {
    tool: Option<&'static Tool>,
    children: BTreeMap<String, Node>,
}

/// The commands of `tools`, one for each first word of their names.
pub(crate) fn commands(tools: &'static [Tool]) -> Vec<Command> {
    let mut root = Node::default();
    for tool in tools {
        let mut node = &mut root;
        for word in tool.dotted.split('.') {
            node = node.children.entry(word.to_owned()).or_default();
        }
        node.tool = Some(tool);
    }
    root.children.iter().map(|(name, node)| node_command(name, node, true)).collect()
}

/// The name a command line shows: `compactSnapshot` is `compact-snapshot`.
pub(crate) fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len().saturating_add(4));
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            if !out.is_empty() && !out.ends_with(['.', '-']) {
                out.push('-');
            }
            out.push(letter.to_ascii_lowercase());
        } else {
            out.push(letter);
        }
    }
    out
}

fn node_command(name: &str, node: &Node, top: bool) -> Command {
    let shown = kebab(name);
    let mut command = Command::new(shown.clone());
    if shown != name {
        command = command.alias(name.to_owned());
    }
    if let Some(tool) = node.tool {
        command = with_tool(command, tool);
    } else {
        command = command.subcommand_required(true).arg_required_else_help(true);
        if let Some((_, about)) = GROUPS.iter().find(|(group, _)| top && *group == name) {
            command = command.about(*about);
        } else {
            command = command.about(format!("Commands of {name}"));
        }
    }
    for (child, below) in &node.children {
        command = command.subcommand(node_command(child, below, false));
    }
    if node.tool.is_some() && !node.children.is_empty() {
        command = command.args_conflicts_with_subcommands(true);
    }
    command
}

/// Adds what a tool is and takes to its command.
fn with_tool(command: Command, tool: &'static Tool) -> Command {
    let schema = (tool.input_schema)();
    let mut command = command.about(tool.title).long_about(tool.description).after_help(note(tool));
    for field in fields(&schema) {
        if COMMON.contains(&field.name.as_str()) {
            continue;
        }
        for arg in args(&field, "", true) {
            command = command.arg(arg.help_heading("Arguments"));
        }
    }
    command
}

fn note(tool: &Tool) -> String {
    let effect = if tool.destructive {
        "This may destroy data."
    } else if tool.read_only {
        "This changes nothing."
    } else {
        "This changes the store."
    };
    format!("The same as `llm-memory {}` and the MCP tool {}. {effect}", tool.dotted, tool.name)
}

/// The flags of one argument; `prefix` is the path of the object it is a member of.
pub(super) fn args(field: &Field, prefix: &str, top: bool) -> Vec<Arg> {
    let path = format!("{prefix}{}", field.name);
    let shown = kebab(&path);
    let mut arg = Arg::new(path.clone()).long(shown.clone()).help(field.help.clone());
    if shown != path {
        arg = arg.alias(path.clone());
    }
    // A required object may also be given member by member, so the tool itself checks it.
    if top && field.required && !matches!(field.shape, Shape::Object(_)) {
        arg = arg.required(true);
    }
    let mut members = Vec::new();
    arg = match &field.shape {
        Shape::Text => arg.value_name("TEXT").value_parser(value_parser!(String)),
        Shape::Choice(words) => {
            arg.value_name("WORD").value_parser(PossibleValuesParser::new(words.clone()))
        }
        Shape::Integer => {
            arg.value_name("N").value_parser(value_parser!(i64)).allow_negative_numbers(true)
        }
        Shape::Number => {
            arg.value_name("NUMBER").value_parser(value_parser!(f64)).allow_negative_numbers(true)
        }
        Shape::Flag => arg
            .value_name("BOOL")
            .num_args(0..=1)
            .default_missing_value("true")
            .value_parser(BoolishValueParser::new()),
        Shape::List(_) => arg
            .value_name("VALUE,...")
            .action(ArgAction::Append)
            .value_parser(value_parser!(String)),
        Shape::Object(below) => {
            let prefix = format!("{path}.");
            members = below.iter().flat_map(|member| args(member, &prefix, false)).collect();
            arg.value_name("JSON").value_parser(value_parser!(String))
        }
        Shape::Json => arg.value_name("JSON").value_parser(value_parser!(String)),
    };
    std::iter::once(arg).chain(members).collect()
}
