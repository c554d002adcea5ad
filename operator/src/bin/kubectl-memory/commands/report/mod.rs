//! `report`: what is needed to understand an incident, in one file that can be handed on.
//!
//! What cannot be read is named in the summary and leaves the rest as it is. Nothing is written
//! to disk before it has gone through `redact`.

mod archive;
mod collect;
mod redact;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::status::{self, Observed};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

/// Flags of `report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the MemoryStore
    name: String,
    /// File to write; it must not exist
    #[arg(long, short, value_name = "OUT.tar.gz")]
    file: PathBuf,
    /// Lines from the end of each log
    #[arg(long, default_value_t = 20_000)]
    tail: u32,
}

/// What a report consists of.
#[derive(Debug, Default)]
struct Kit {
    /// Path in the archive, and content.
    entries: Vec<(String, String)>,
    /// What could not be read.
    problems: Vec<String>,
}

impl Kit {
    fn add(&mut self, path: String, content: String) {
        self.entries.push((path, content));
    }
}

/// Writes the report. One that lacks something is a finding.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let observed = Observed::read(context, &args.name).await?;
    let now = Timestamp::now();
    let mut kit = collect::kit(context, &args.name, &observed, args.tail).await;
    let page = redact::text(&status::page(observed, now));
    let summary = summary(context, &args.name, now, &kit, &page);
    kit.entries.insert(0, ("summary.txt".to_owned(), summary));
    let root = format!("{}-report", args.name);
    let bytes = archive::pack(&root, &kit.entries, now)
        .map_err(|source| Failure::Local { what: "cannot pack the report".to_owned(), source })?;
    write(&args.file, &bytes).await.map_err(|source| Failure::Local {
        what: format!("cannot write {}; choose another --file", args.file.display()),
        source,
    })?;
    let (file, files) = (args.file.display().to_string(), kit.entries.len());
    let data = json!({
        "file": file, "bytes": bytes.len(), "files": files, "problems": kit.problems,
    });
    context.printer.answer(&data, || {
        let missing = match kit.problems.len() {
            0 => String::new(),
            count => format!("; {count} things could not be read, see summary.txt"),
        };
        format!("{file}: {files} files, {} bytes{missing}", bytes.len())
    })?;
    Ok(if kit.problems.is_empty() { Exit::Done } else { Exit::Finding })
}

/// Only the user may read it: logs and names of a cluster are nobody else's.
async fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).await?;
    file.write_all(bytes).await?;
    file.sync_all().await
}

fn summary(context: &Context, name: &str, now: Timestamp, kit: &Kit, page: &str) -> String {
    let mut text = format!(
        "Report on memorystore {}/{name}, made {now:.0} by kubectl-memory {}\n\
         Secrets are left out as far as they can be told apart; look before you hand it on.\n\n{page}\n",
        context.namespace,
        env!("CARGO_PKG_VERSION"),
    );
    text.push_str("Files\n");
    for (path, content) in &kit.entries {
        text.push_str(&format!("  {path} ({} bytes)\n", content.len()));
    }
    if !kit.problems.is_empty() {
        text.push_str("\nNot in the report\n");
        for problem in &kit.problems {
            text.push_str(&format!("  {problem}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[tokio::test]
    async fn a_summary_lists_what_is_there_and_what_is_not() {
        let (context, _server) = fixtures::cluster();
        let mut kit = Kit::default();
        kit.add("logs/mem-0/server.log".to_owned(), "ready\n".to_owned());
        kit.problems.push("not allowed to list secrets".to_owned());
        let text = summary(&context, "mem", fixtures::now(), &kit, "page\n");
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            text,
            format!(
                "Report on memorystore prod/mem, made 2026-03-01T12:00:00Z by kubectl-memory {version}\n\
                 Secrets are left out as far as they can be told apart; look before you hand it on.\n\npage\n\n\
                 Files\n  logs/mem-0/server.log (6 bytes)\n\n\
                 Not in the report\n  not allowed to list secrets\n"
            )
        );
    }

    #[tokio::test]
    async fn a_report_overwrites_nothing_and_is_the_user_s_own() {
        use std::os::unix::fs::PermissionsExt as _;
        let path =
            std::env::temp_dir().join(format!("kubectl-memory-{}.tar.gz", std::process::id()));
        write(&path, b"first").await.unwrap();
        let mode = tokio::fs::metadata(&path).await.unwrap().permissions().mode();
        let again = write(&path, b"second").await;
        let content = tokio::fs::read(&path).await.unwrap();
        tokio::fs::remove_file(&path).await.unwrap();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(content, b"first");
    }
}
