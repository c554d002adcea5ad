//! `docs/command-line.md`: every command with its flags, from the command tree.

use clap::{Arg, ArgAction, Command};

use super::cell;
use crate::args;
use crate::cli::connect;

const INTRODUCTION: &str = "# Command line

<!-- Made by `llm-memory docs generate`; do not edit. -->

Every [tool](tools.md) is a command, in two spellings:

```sh
llm-memory memory.query --scope=all --q='connection pool' --k=20
llm-memory memory query --scope all --q 'connection pool' --k 20
```

- Flags are the tool's arguments; `--maxChars` and `--max-chars` are the same flag.
- Lists: repeat the flag, separate with commas, or give a JSON array.
- Objects: JSON, or one flag a member (`--filters.tags a --filters.pinned true`).
- Whole texts (`--text`, `--code`, `--content`) and JSON: `@file` reads a file, `-` reads standard
  input, `@@x` stands for `@x`.
- `--output json` prints one JSON document. Dotted commands do so by themselves when standard
  output is not a terminal.
- Standard output is data; messages and progress go to standard error.
- Exit status: 0 done or healthy, 1 warning or finding, 2 critical or failed, 64 wrong usage.
  Damaged records are critical whichever command finds them; views that disagree with the journal,
  and work that was done in part, are findings. Where there is no log, a report about logs is one.

A command talks to the server named with `--server`; otherwise to the server that holds the data
folder's lock; otherwise it opens the folder itself.

";

/// The page.
pub(super) fn markdown() -> String {
    let mut root = args::command();
    root.build();
    let mut out = String::from(INTRODUCTION);
    out.push_str("Every command takes these flags:\n\n");
    flags(root.get_arguments().filter(|arg| shown(arg)), &mut out);
    out.push_str("\nCommands that talk to a store also take:\n\n");
    flags(connect::flags().iter(), &mut out);
    for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
        section(command, "llm-memory", &mut out);
    }
    out
}

fn section(command: &Command, prefix: &str, out: &mut String) {
    let name = format!("{prefix} {}", command.get_name());
    let leaf = !command.is_subcommand_required_set();
    if leaf {
        out.push_str(&format!("\n## {name}\n\n"));
        if let Some(about) = command.get_about() {
            out.push_str(&format!("{}.\n", about.to_string().trim_end_matches('.')));
        }
        // Global flags stand at the top of the page.
        let (settings, own): (Vec<&Arg>, Vec<&Arg>) = command
            .get_arguments()
            .filter(|arg| shown(arg) && !arg.is_global_set())
            .partition(|arg| is_setting(arg));
        if !own.is_empty() {
            out.push('\n');
            flags(own.into_iter(), out);
        }
        if settings.len() > 1 {
            out.push_str(
                "\nEvery setting is a flag too, see [configuration.md](configuration.md).\n",
            );
        }
    }
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        section(child, &name, out);
    }
}

/// Whether a flag is a setting, which the page of the configuration describes.
fn is_setting(arg: &Arg) -> bool {
    arg.get_help_heading() == Some(args::SETTINGS)
}

fn shown(arg: &Arg) -> bool {
    // Some commands have a version of their own, that of an item.
    let of_every_command = matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    );
    !arg.is_hide_set() && !of_every_command
}

fn flags<'a>(args: impl Iterator<Item = &'a Arg>, out: &mut String) {
    out.push_str("| flag | meaning |\n| --- | --- |\n");
    for arg in args {
        let value =
            arg.get_value_names().filter(|_| arg.get_action().takes_values()).map(|names| {
                names.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" ")
            });
        let spelling = match (arg.get_long(), value) {
            (Some(long), Some(value)) => format!("--{long} {value}"),
            (Some(long), None) => format!("--{long}"),
            (None, Some(value)) => value,
            (None, None) => arg.get_id().to_string(),
        };
        let mut meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if arg.is_required_set() {
            meaning = format!("**Required.** {meaning}");
        }
        let words: Vec<String> = arg
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if arg.get_action().takes_values() && words.len() > 1 && words.len() < 20 {
            meaning = format!("{meaning} ({})", words.join(", "));
        }
        let defaults: Vec<String> = arg
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        if !defaults.is_empty() && arg.get_action().takes_values() {
            meaning = format!("{meaning} [default {}]", defaults.join(", "));
        }
        out.push_str(&format!("| `{spelling}` | {} |\n", cell(&meaning)));
    }
}
