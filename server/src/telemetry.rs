//! Logs: structured events through tracing, as JSON in `logs/server.log` and as JSON or text on
//! stderr. Nothing ever goes to stdout, which belongs to the protocol when serving stdio.
//!
//! When things go wrong: a log file that cannot be opened is an error at start; later the threads
//! that write to the file and to stderr drop and count what they cannot write, and nobody waits:
//! not for the disk, and not for a client that started its server and never reads its stderr.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use llm_memory_disk::{Disk, DiskError};
use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::Log;
use crate::sink::LineSink;
use crate::sink::rolling::Policy;
use crate::sink::stderr::Stderr;

/// Folder of the log in the data folder.
pub const FOLDER: &str = "logs";
/// First part of the names of log files.
pub const STEM: &str = "server";
/// Last part of the names of log files.
pub const EXTENSION: &str = "log";

/// Space for all log files together.
const MAX_TOTAL_BYTES: u64 = 256 << 20;
/// How long the end of the process waits for the file's last lines.
const FILE_PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits for whoever reads stderr.
const STDERR_PATIENCE: Duration = Duration::from_secs(1);

/// Logs that cannot be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The thread that writes to stderr cannot be started.
    #[error(transparent)]
    Stderr(DiskError),
    /// The log file cannot be opened.
    #[error(
        "cannot open the server log: {source}; mend the folder or set --log-destination=stderr"
    )]
    File {
        /// What the disk said.
        #[source]
        source: DiskError,
    },
    /// The process already has a subscriber.
    #[error("the log is already set up in this process")]
    Twice,
}

/// The logs of the process, set up.
#[derive(Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    file: Option<Arc<LineSink>>,
    stderr: Option<Arc<LineSink>>,
}

impl Telemetry {
    /// Sets up the logs of this process. `root` is the data folder.
    pub fn init(disk: Arc<dyn Disk>, root: &Path, log: &Log) -> Result<Self, TelemetryError> {
        let file = match log.destination.as_str() {
            "stderr" => None,
            _ => Some(open(disk, root, log).map_err(|source| TelemetryError::File { source })?),
        };
        let (filter, handle) = reload::Layer::new(filter(&log.level));
        let stderr = match log.destination.as_str() {
            "file" => None,
            _ => Some(LineSink::over(Stderr, "stderr").map_err(TelemetryError::Stderr)?),
        };
        let stderr = stderr.map(Arc::new);
        let to_stderr =
            stderr.as_ref().map(|sink| stderr_layer(&log.format, ToSink(Arc::clone(sink))));
        let to_file = file.as_ref().map(|sink| json_layer(ToSink(Arc::clone(sink))));
        let subscriber = Registry::default().with(filter).with(to_stderr).with(to_file);
        tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)?;
        Ok(Self { filter: handle, file, stderr })
    }

    /// Changes the level from now on.
    pub fn set_level(&self, level: &str) {
        // Fails only when the subscriber is gone, and then there is nothing to filter.
        drop(self.filter.reload(filter(level)));
    }

    /// Lines lost so far.
    pub fn dropped(&self) -> u64 {
        self.file.iter().chain(&self.stderr).map(|sink| sink.dropped()).sum()
    }

    /// Writes what is queued.
    pub fn flush(&self) {
        if let Some(file) = &self.file {
            file.flush(FILE_PATIENCE);
        }
        if let Some(stderr) = &self.stderr {
            stderr.flush(STDERR_PATIENCE);
        }
    }
}

fn open(disk: Arc<dyn Disk>, root: &Path, log: &Log) -> Result<Arc<LineSink>, DiskError> {
    let policy = Policy {
        stem: STEM,
        extension: EXTENSION,
        dated: false,
        max_bytes: log.max_mb << 20,
        keep_days: log.keep_days,
        max_total_bytes: MAX_TOTAL_BYTES,
    };
    LineSink::start(disk, &root.join(FOLDER), policy, "log").map(Arc::new)
}

/// `level` for our own events; libraries underneath speak up only when something is wrong, unless
/// everything is asked for.
fn filter(level: &str) -> EnvFilter {
    let quiet = matches!(level, "info" | "debug");
    let directives = if quiet {
        format!("warn,llm_memory={level},llm_memory_engine={level},llm_memory_disk={level}")
    } else {
        level.to_owned()
    };
    EnvFilter::new(directives)
}

fn stderr_layer<S>(format: &str, writer: ToSink) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if format == "text" {
        Box::new(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Text(writer)))
    } else {
        json_layer(writer)
    }
}

/// One JSON object a line, the fields of the event beside `timestamp`, `level` and `message`.
fn json_layer<S, W>(writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    Box::new(
        tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(writer),
    )
}

/// `text` with what would begin another line, or move a terminal's cursor, written as an escape.
pub fn one_line(text: &str) -> Cow<'_, str> {
    let odd = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if odd(letter) {
            line.extend(letter.escape_debug());
        } else {
            line.push(letter);
        }
    }
    Cow::Owned(line)
}

/// Hands each event as text on, a line each whatever words of callers are in it.
#[derive(Debug, Clone)]
struct Text(ToSink);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(bytes));
        self.0.write_all(one_line(&line).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<'a> MakeWriter<'a> for Text {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Hands each event, which the layer writes in one piece, to the sink.
#[derive(Debug, Clone)]
struct ToSink(Arc<LineSink>);

impl Write for ToSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        self.0.write(line.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for ToSink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;
    use serde_json::Value;

    use super::*;

    fn log() -> Log {
        Log {
            level: "info".to_owned(),
            format: "json".to_owned(),
            destination: "file".to_owned(),
            max_mb: 1,
            keep_days: 1,
            slow_call_ms: 0,
        }
    }

    #[test]
    fn an_event_as_text_is_one_line_whatever_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let sink = open(Arc::new(OsDisk), folder.path(), &log()).unwrap();
        let layer = stderr_layer("text", ToSink(Arc::clone(&sink)));
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            let reason = "a\n1970-01-01T00:00:00Z ERROR forged\u{2028}b\r";
            tracing::warn!(%reason, "denied: {reason}");
            tracing::warn!("and more");
        });
        sink.flush(FILE_PATIENCE);
        let bytes = OsDisk.read(&folder.path().join("logs/server.log")).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains(r"denied: a\n1970-01-01T00:00:00Z ERROR forged\u{2028}b\r"));
        assert!(!text.contains(['\u{2028}', '\r']), "{text}");
        assert!(lines[1].ends_with("and more"));
    }

    #[test]
    fn events_are_json_lines_with_their_fields_at_the_top() {
        let folder = tempfile::tempdir().unwrap();
        let sink = open(Arc::new(OsDisk), folder.path(), &log()).unwrap();
        let (filter, handle) = reload::Layer::new(filter("info"));
        let subscriber =
            Registry::default().with(filter).with(json_layer(ToSink(Arc::clone(&sink))));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(tool = "memory.query", duration_ms = 1.5, "Tool called: memory.query");
            tracing::debug!("not yet");
            let telemetry = Telemetry { filter: handle, file: None, stderr: None };
            telemetry.set_level("debug");
            tracing::debug!("now");
            tracing::info!(target: "tantivy", "noise");
        });
        sink.flush(FILE_PATIENCE);
        let bytes = OsDisk.read(&folder.path().join("logs/server.log")).unwrap();
        let lines: Vec<Value> = String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0]["message"], "Tool called: memory.query");
        assert_eq!(lines[0]["tool"], "memory.query");
        assert_eq!(lines[0]["level"], "INFO");
        assert!(lines[0]["timestamp"].is_string());
        assert_eq!(lines[1]["message"], "now");
    }
}
