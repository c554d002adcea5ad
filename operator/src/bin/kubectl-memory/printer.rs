//! Standard output carries data, standard error words for people.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

use crate::error::Failure;

/// Form of the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Writes a command's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    /// Form of the answer.
    pub(crate) format: Format,
}

impl Printer {
    /// Writes an answer: `text` for people, `data` for programs.
    pub(crate) fn answer(
        self,
        data: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let out = match self.format {
            Format::Table => text(),
            Format::Json => serde_json::to_string_pretty(data)
                .map_err(|error| Failure::Encoding(error.to_string()))?,
            Format::Yaml => serde_saphyr::to_string(data)
                .map_err(|error| Failure::Encoding(error.to_string()))?,
        };
        self.data(&out)
    }

    /// One of many answers of a watch. On a terminal each takes the place of the one before;
    /// programs get one JSON line, or one YAML document, each.
    pub(crate) fn again(
        self,
        data: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table if io::stdout().is_terminal() => {
                self.data(&format!("\x1b[H\x1b[2J{}", text()))
            }
            Format::Table => self.data(&format!("{}\n", text())),
            Format::Json => {
                let line = serde_json::to_string(data)
                    .map_err(|error| Failure::Encoding(error.to_string()))?;
                self.data(&line)
            }
            Format::Yaml => {
                self.data("---")?;
                self.answer(data, text)
            }
        }
    }

    /// Writes lines of data as they are, ended by a line break.
    pub(crate) fn data(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        write!(out, "{text}{end}").and_then(|()| out.flush()).map_err(Failure::Output)
    }

    /// Tells people something that is not data.
    pub(crate) fn note(self, text: &str) {
        // Nobody is left to be told when standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Columns set apart by spaces, as kubectl prints them.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(
            row.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.trim_fmt()
}
