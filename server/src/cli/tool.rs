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
use crate::reports::verdict::worst;
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
    Ok(status(tool, &result))
}

fn find(words: &[&str]) -> Option<&'static Tool> {
    tools::all()
        .iter()
        .find(|tool| tool.dotted.split('.').map(kebab).collect::<Vec<_>>().iter().eq(words.iter()))
}

/// The exit status that goes with a result. Damage is critical wherever a tool reports it; what
/// else a check found, and work that was done in part, is a finding.
fn status(tool: &Tool, result: &Value) -> Exit {
    // Elsewhere the same names are people's own data.
    let checks = ["journal.", "maintenance.", "segments."];
    if checks.iter().any(|group| tool.dotted.starts_with(group)) {
        worst(result)
    } else {
        Exit::Done
    }
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
    fn damage_is_critical_in_whatever_scope_and_depth_it_is_told() {
        let of = |name: &str, result: Value| status(tools::find(name).unwrap(), &result);
        let damaged = json!([{"file": "journal.ndjson"}]);
        for result in [
            json!({"valid": false}),
            json!({"checked": 9, "corruptedItems": damaged}),
            json!({"global": {"valid": true}, "local/a": {"valid": false}}),
            json!({"global": {"items": 1, "details": {"corruptedItems": damaged}}}),
        ] {
            assert_eq!(of("maintenance.replay", result.clone()), Exit::Failed, "{result}");
        }
        let sound = json!({"global": {"corruptedItems": []}, "overall": {"valid": true}});
        assert_eq!(of("journal.verify", sound), Exit::Done);
        assert_eq!(of("journal.verify", json!([1])), Exit::Done);
    }

    #[test]
    fn work_done_in_part_and_views_that_disagree_are_findings() {
        let of = |name: &str, result: Value| status(tools::find(name).unwrap(), &result);
        let partly = json!({"global": {"migrated": 3, "errors": ["record 7: unreadable"]}});
        assert_eq!(of("journal.migrate", partly.clone()), Exit::Finding);
        let compacted = json!({"compacted": {"global": {"details": {"errors": ["segment 1"]}}}});
        assert_eq!(of("maintenance.compactSnapshot", compacted), Exit::Finding);
        assert_eq!(of("maintenance.verify", json!({"ok": false})), Exit::Finding);
        assert_eq!(of("memory.get", partly), Exit::Done, "an item may say what it likes");
    }
}
