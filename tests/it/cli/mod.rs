//! Whole answers of the real program: exit status, standard output, standard error.

mod errors;
mod jobs;
mod reports;
mod server;
mod tools;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use llm_memory_tests::server::server_binary;
use serde_json::Value;
use tempfile::TempDir;

/// A data folder of its own, and the program run on it.
pub(super) struct Cli {
    folder: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Cli {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// The data folder; it is created by the first write.
    pub(super) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for files that are no part of the store.
    pub(super) fn scratch(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn command<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(server_binary().unwrap());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LLM_MEMORY_") {
                command.env_remove(name);
            }
        }
        command
            .env("LLM_MEMORY_DATA_DIR", self.data())
            // A width of its own, so that help wraps the same everywhere.
            .env("COLUMNS", "100")
            .env("TZ", "Pacific/Auckland")
            .current_dir(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command line, split at spaces.
    pub(super) fn run(&self, line: &str) -> Answer {
        finish(self.command(line.split_whitespace()))
    }

    pub(super) fn run_args(&self, arguments: &[&str]) -> Answer {
        finish(self.command(arguments))
    }

    pub(super) fn run_with_input(&self, arguments: &[&str], input: &str) -> Answer {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        answer(&child.wait_with_output().unwrap())
    }

    /// Runs a command that must succeed, and answers its JSON.
    pub(super) fn json(&self, line: &str) -> Value {
        self.run(line).json()
    }

    /// Stores a memory that must be accepted.
    pub(super) fn store(&self, id: &str, title: &str, text: &str) -> Value {
        self.run_args(&[
            "memory.upsert",
            "--type=fact",
            "--scope=global",
            "--id",
            id,
            "--title",
            title,
            "--text",
            text,
        ])
        .json()
    }
}

fn finish(mut command: Command) -> Answer {
    answer(&command.output().unwrap())
}

fn answer(output: &std::process::Output) -> Answer {
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout.clone()).unwrap(),
        stderr: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}

/// The entries of the audit log, by time.
pub(super) fn audited(cli: &Cli) -> Vec<Value> {
    let folder = std::fs::read_dir(cli.data().join("audit")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    let text: String = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let mut entries: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    entries.sort_by_key(|entry| entry["ts"].as_str().unwrap().to_owned());
    entries
}

impl Answer {
    /// The JSON of a command that succeeded.
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.json_whatever_the_code()
    }

    pub(super) fn json_whatever_the_code(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The whole answer as one text, what changes from run to run taken out.
    pub(super) fn shown(&self, cli: &Cli) -> String {
        let mut text = format!("exit {}\n", self.code);
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                text.push_str(&format!("----- {name}\n{stream}"));
            }
        }
        text.replace(cli.folder.path().to_str().unwrap(), "[folder]")
    }
}

/// Compares a whole answer with what is written in the test.
macro_rules! assert_answer {
    ($cli:expr, $answer:expr, @$expected:literal) => {{
        let mut settings = insta::Settings::clone_current();
        for (pattern, with) in [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "[time]"),
            (r"\b[0-9a-f]{64}\b", "[sha256]"),
            (r"\b[0-9A-HJKMNP-TV-Z]{26}\b", "[ulid]"),
            (r"127\.0\.0\.1:\d+", "[address]"),
            (r"\d+\.\d+ ms", "[duration]"),
            (r"(took|duration) ms( +)[0-9.]+", "$1 ms$2[duration]"),
        ] {
            settings.add_filter(pattern, with);
        }
        let shown = $answer.shown(&$cli);
        settings.bind(|| insta::assert_snapshot!(shown, @$expected));
    }};
}
pub(super) use assert_answer;
