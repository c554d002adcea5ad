//! Opening the store as the configuration says, for every command that does.

use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::Disk;
use llm_memory_engine::ids::Digest;
use llm_memory_engine::item::redaction::{PatternFile, Redactor};
use llm_memory_engine::{Engine, EngineError};
use thiserror::Error;

use super::{run_files, signing_key};
use crate::answer::Failure;
use crate::config::Config;

/// Why the store could not be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// A file that the configuration names cannot be used; the store was not touched.
    #[error("{0}")]
    Setting(String),
    /// The store itself.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl OpenError {
    /// For the commands that serve the store of `config`.
    pub(super) fn into_failure(self, config: &Config) -> Failure {
        match self {
            Self::Setting(message) => Failure::usage(message),
            Self::Engine(EngineError::Disk(error)) if error.is_locked() => {
                Failure::failed(super::in_use(&config.data_dir))
            }
            Self::Engine(error) => Failure::failed(format!(
                "cannot open the store in {}: {error}",
                config.data_dir.display()
            )),
        }
    }
}

/// Opens the store of `config` and puts its secret patterns in force: what a server keeps out of
/// memories, the command line must not let in.
pub(crate) fn open_engine(disk: &Arc<dyn Disk>, config: &Config) -> Result<Engine, OpenError> {
    open_with_patterns(disk, config).map(|(engine, _)| engine)
}

/// The same, with the hash of the pattern file that is in force.
pub(super) fn open_with_patterns(
    disk: &Arc<dyn Disk>,
    config: &Config,
) -> Result<(Engine, Option<Digest>), OpenError> {
    let mut options = config.engine_options();
    if let Some(path) = &config.journal.signing_key_file {
        let key = signing_key::read(&**disk, path).map_err(OpenError::Setting)?;
        options.signing_key = Some(key);
    }
    let patterns = match &config.redaction.patterns_file {
        Some(path) => Some(read_patterns(&**disk, path).map_err(OpenError::Setting)?),
        None => None,
    };
    let engine = Engine::open(Arc::clone(disk), &config.data_dir, options)?;
    // Whoever wrote them did not hold the folder any more.
    run_files::remove(&**disk, &config.data_dir);
    let digest = patterns.map(|patterns| {
        engine.set_redactor(patterns.redactor);
        patterns.digest
    });
    Ok((engine, digest))
}

/// A pattern file that was read.
pub(crate) struct Patterns {
    /// What it says.
    pub(crate) file: PatternFile,
    /// Its patterns, ready for use.
    pub(super) redactor: Redactor,
    /// Hash of its content.
    pub(super) digest: Digest,
}

/// The pattern file at `path`, and its patterns ready for use. The error names the file.
pub(crate) fn read_patterns(disk: &dyn Disk, path: &Path) -> Result<Patterns, String> {
    let bytes = disk.read(path).map_err(|error| error.to_string())?;
    parse_patterns(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// The same from the file's content.
pub(super) fn parse_patterns(bytes: &[u8]) -> Result<Patterns, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let file = PatternFile::parse(text).map_err(|error| error.to_string())?;
    let redactor = Redactor::new(&file).map_err(|error| error.to_string())?;
    Ok(Patterns { file, redactor, digest: Digest::of(bytes) })
}
