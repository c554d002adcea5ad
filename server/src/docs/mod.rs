//! The reference pages that repeat the code. They are committed under `docs/` and compared in CI,
//! so that neither moves without the other.

mod command_line;
mod tools;

/// A page made from the code.
pub(crate) struct Page {
    /// Name of the file under `docs/`.
    pub(crate) file: &'static str,
    /// Its content.
    pub(crate) text: fn() -> String,
}

/// All of them.
pub(crate) const PAGES: &[Page] = &[
    Page { file: "tools.md", text: tools::markdown },
    Page { file: "command-line.md", text: command_line::markdown },
    Page { file: "configuration.md", text: crate::config::docs::markdown },
    Page { file: "metrics.md", text: crate::metrics::table::markdown },
];

/// Text that can stand in a cell of a table.
fn cell(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.replace('|', "\\|")
}
