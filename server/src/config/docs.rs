//! The reference page of the configuration, made from the tables.

use std::fmt::Write as _;

use super::load::{FILE_NAME, SYSTEM_FILE};
use super::settings::{self, Preset, Setting};
use super::value::Kind;
use crate::env_vars;

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut out = format!(
        "# Configuration\n\n\
         <!-- Made from server/src/env_vars.rs and server/src/config/settings.rs; do not edit. -->\n\n\
         Each setting takes the value of the highest layer that names it: defaults, then the\n\
         configuration file, then the environment, then flags. `llm-memory config show` prints the\n\
         values in force and where each came from. An unknown key or `LLM_MEMORY_*` variable is an\n\
         error that names the nearest known one.\n\n\
         The file is JSON, with dots in the keys below as nesting (`listen.mcpPort` is\n\
         `{{\"listen\": {{\"mcpPort\": 3000}}}}`). `--config` or `LLM_MEMORY_CONFIG` names it;\n\
         otherwise `{FILE_NAME}` in the data folder is read, or else `{SYSTEM_FILE}`. Relative\n\
         paths in it are relative to the file.\n\n\
         Settings marked *live* are applied on SIGHUP; the others at the next start. Search, ranking\n\
         and sharing are configured per scope, in the scope's `config.json` (`project.config.set`);\n\
         an edited file is read on SIGHUP.\n\n\
         | key | environment | flag | accepts | default | applied |\n\
         | --- | --- | --- | --- | --- | --- |\n"
    );
    for setting in settings::ALL {
        let applied = if setting.reload { "live" } else { "start" };
        writeln!(
            out,
            "| `{}` | `{}` | `--{}` | {} | {} | {applied} |",
            setting.key,
            setting.env.name,
            setting.flag,
            accepts(setting.kind),
            preset(setting),
        )
        .unwrap_or_default();
    }
    out.push_str("\n## What each means\n\n");
    for variable in env_vars::ALL {
        let key = settings::ALL.iter().find(|setting| setting.env == *variable);
        let name = key.map_or_else(String::new, |setting| format!(" (`{}`)", setting.key));
        writeln!(out, "- `{}`{name}: {}", variable.name, variable.doc.trim()).unwrap_or_default();
    }
    out
}

fn accepts(kind: Kind) -> String {
    match kind {
        Kind::Choice { words, aliases } => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            let aliases: Vec<String> =
                aliases.iter().map(|(alias, word)| format!("; `{alias}` is `{word}`")).collect();
            format!("{}{}", words.join(", "), aliases.concat())
        }
        Kind::Switch
        | Kind::Number { .. }
        | Kind::Path
        | Kind::Text
        | Kind::List
        | Kind::Address => kind.expected(),
    }
}

fn preset(setting: &Setting) -> String {
    match setting.preset {
        Preset::Text("") | Preset::Unset => "none".to_owned(),
        Preset::Text(text) => format!("`{text}`"),
        Preset::InDataDir(name) => format!("`{name}` in the data folder"),
        Preset::UserDataDir => "`$XDG_DATA_HOME/llm-memory`, `~/.local/share/llm-memory`, or \
                                `/var/lib/llm-memory` without a home"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_and_setting_is_on_the_page() {
        let page = markdown();
        for variable in env_vars::ALL {
            assert!(page.contains(&format!("- `{}`", variable.name)), "{}", variable.name);
        }
        for setting in settings::ALL {
            assert!(page.contains(&format!("| `{}` |", setting.key)), "{}", setting.key);
        }
    }
}
