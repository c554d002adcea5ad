//! Standard output is data, standard error is words. A reader that goes away (`| head`) is no
//! failure.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use llm_memory_engine::progress::Progress;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use super::render::{render, visible};
use crate::args::Output;

/// Columns of a terminal that does not say how wide it is.
const DEFAULT_WIDTH: usize = 100;
/// Columns when the reader is a file or another program: nothing is cut for lack of room.
const UNLIMITED: usize = 10_000;

/// Prints the result of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    output: Output,
}

impl Printer {
    /// A printer for the format asked for.
    pub(crate) fn new(output: Output) -> Self {
        Self { output }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(self) -> bool {
        self.output == Output::Json
    }

    /// Prints a result: the document itself, or a rendering of it.
    pub(crate) fn document(self, value: &Value) -> io::Result<()> {
        self.either(value, || render(value, width()))
    }

    /// Prints `value` as JSON, or the text made for people.
    pub(crate) fn either(
        self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        let mut out = match self.output {
            Output::Json => serde_json::to_string_pretty(value)?,
            Output::Text => visible(&text()).into_owned(),
        };
        // A text of nothing is no line: standard output may belong to a protocol.
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        write(&mut io::stdout().lock(), &out)
    }
}

/// Writes data to standard output as it is.
pub(crate) fn data(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    quiet_when_gone(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Tells a person something on standard error.
pub(crate) fn tell(words: impl Display) {
    // Nobody is left to hear of a closed standard error.
    drop(writeln!(io::stderr().lock(), "{}", visible(&words.to_string())));
}

fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    quiet_when_gone(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn quiet_when_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Columns to fill.
pub(crate) fn width() -> usize {
    if !io::stdout().is_terminal() {
        return UNLIMITED;
    }
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0)
        .unwrap_or(DEFAULT_WIDTH)
}

/// Shows progress on one line of standard error, when a person is looking.
pub(crate) struct TerminalProgress {
    terminal: bool,
    /// Percent last shown, so that a line is written only when it changes.
    shown: Mutex<Option<u64>>,
}

impl TerminalProgress {
    /// Shows nothing unless standard error is a terminal.
    pub(crate) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: Mutex::new(None) }
    }

    /// Wipes the line.
    pub(crate) fn clear(&self) {
        if self.terminal && self.shown.lock().take().is_some() {
            drop(write!(io::stderr().lock(), "\r\x1b[2K"));
        }
    }
}

impl Progress for TerminalProgress {
    fn report(&self, done: u64, total: Option<u64>, what: &str) {
        if !self.terminal {
            return;
        }
        let step = match total {
            Some(total) if total > 0 => done.saturating_mul(100) / total,
            Some(_) | None => done / 1000,
        };
        if self.shown.lock().replace(step) == Some(step) {
            return;
        }
        let line = match total {
            Some(total) => format!("{what}: {done} of {total} ({step} %)"),
            None => format!("{what}: {done}"),
        };
        drop(write!(io::stderr().lock(), "\r\x1b[2K{line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone(ErrorKind);

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        assert!(write(&mut Gone(ErrorKind::BrokenPipe), "x").is_ok());
        assert!(write(&mut Gone(ErrorKind::StorageFull), "x").is_err());
    }
}
