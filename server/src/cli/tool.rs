//! Runs a tool from the command line.

use std::io::{self, Read as _};
use std::path::Path;

use clap::ArgMatches;
use llm_memory_disk::{Disk, OsDisk};
use serde_json::Value;

use super::arguments::{self, Source};
use super::command::kebab;
use super::connect::Target;
use super::error::CliError;
use super::printer::Printer;
use super::shape;
use crate::args::Common;
use crate::exit::Exit;
use crate::tools::{self, Tool};

/// Longest text taken from a file or from standard input; longer than any item may be.
const MAX_INPUT: u64 = 64 << 20;

/// Runs the tool that `name` and the subcommands in `matches` spell.
pub(super) fn run(
    common: &Common,
    printer: Printer,
    name: &str,
    matches: &ArgMatches,
) -> Result<Exit, CliError> {
    let mut words = vec![name];
    let mut leaf = matches;
    while let Some((word, below)) = leaf.subcommand() {
        words.push(word);
        leaf = below;
    }
    let tool = find(&words).ok_or_else(|| CliError::Usage {
        message: format!("{} is not a command", words.join(" ")),
    })?;
    let fields = shape::fields(&(tool.input_schema)());
    let arguments = arguments::collect(&fields, leaf, &Inputs)?;
    let backend = Target::new(common, leaf)?.open(!tool.read_only)?;
    let result = backend.call(tool, arguments);
    // What was asked for counts; a store that cannot be closed well is told apart from it.
    let closed = backend.close();
    let result = result?;
    printer.document(&result)?;
    closed?;
    Ok(if found_damage(&result) { Exit::Finding } else { Exit::Done })
}

fn find(words: &[&str]) -> Option<&'static Tool> {
    tools::all()
        .iter()
        .find(|tool| tool.dotted.split('.').map(kebab).collect::<Vec<_>>().iter().eq(words.iter()))
}

/// Whether a verification says that something is wrong, for one scope or any of several.
fn found_damage(result: &Value) -> bool {
    let says = |value: &Value| {
        let no = |key: &str| value.get(key).and_then(Value::as_bool) == Some(false);
        let corrupted = value.get("corruptedItems").and_then(Value::as_array);
        no("valid") || no("ok") || corrupted.is_some_and(|items| !items.is_empty())
    };
    says(result) || result.as_object().is_some_and(|members| members.values().any(says))
}

/// Files and standard input of this process.
struct Inputs;

impl Source for Inputs {
    fn file(&self, path: &str) -> Result<String, String> {
        let bytes = OsDisk.read(Path::new(path)).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8 text"))
    }

    fn stdin(&self) -> Result<String, String> {
        let mut text = String::new();
        io::stdin()
            .lock()
            .take(MAX_INPUT)
            .read_to_string(&mut text)
            .map_err(|error| format!("cannot read standard input: {error}"))?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_tool_is_reached_by_its_words() {
        for tool in tools::all() {
            let words: Vec<String> = tool.dotted.split('.').map(kebab).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(find(&words).map(|found| found.name), Some(tool.name));
        }
        assert!(find(&["memory", "forget-everything"]).is_none());
    }

    #[test]
    fn no_tool_is_hidden_by_a_command_of_the_same_name() {
        let tools: BTreeSet<&str> =
            tools::all().iter().filter_map(|tool| tool.dotted.split('.').next()).collect();
        for row in crate::commands::ALL {
            assert!(!tools.contains(row.name), "{}", row.name);
        }
    }

    #[test]
    fn damage_in_any_scope_is_a_finding() {
        assert!(found_damage(&json!({"valid": false})));
        assert!(found_damage(&json!({"global": {"ok": true}, "local/a": {"ok": false}})));
        assert!(!found_damage(&json!({"valid": true, "overall": {"valid": true}})));
        assert!(found_damage(&json!({"checked": 9, "corruptedItems": [{"id": "a"}]})));
        assert!(!found_damage(&json!({"checked": 9, "corruptedItems": []})));
        assert!(!found_damage(&json!([1])));
    }
}
