//! What opening the data directory takes, from flags, environment and configuration file: the
//! same configuration that the server would run with.

use std::path::PathBuf;
use std::sync::Arc;

use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::Engine;
use llm_memory_engine::ids::ProjectId;
use llm_memory_engine::item::redaction::{PatternFile, Redactor};

use super::error::CliError;
use super::printer::tell;
use crate::args::Common;
use crate::audit::Audit;
use crate::config::{self, Config, Sources};
use crate::serve::signing_key;

/// Where the store is and how it is opened.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    config: Config,
}

impl Settings {
    /// Opens the store in the directory, under its lock.
    pub(crate) fn open_engine(&self) -> Result<Engine, CliError> {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let mut options = self.config.engine_options();
        if let Some(path) = &self.config.journal.signing_key_file {
            let key = signing_key::read(&*disk, path);
            options.signing_key = Some(key.map_err(|message| CliError::Usage { message })?);
        }
        let redactor = self.redactor(&*disk)?;
        let engine = Engine::open(disk, &self.data_dir, options)?;
        if let Some(redactor) = redactor {
            engine.set_redactor(redactor);
        }
        Ok(engine)
    }

    /// The configured secret patterns: what a server keeps out of memories, the command line must
    /// not let in. `None`: the built-in ones.
    fn redactor(&self, disk: &dyn Disk) -> Result<Option<Redactor>, CliError> {
        let Some(path) = &self.config.redaction.patterns_file else { return Ok(None) };
        let unusable =
            |reason: String| CliError::Usage { message: format!("{}: {reason}", path.display()) };
        let text = String::from_utf8(disk.read(path)?)
            .map_err(|_| unusable("not UTF-8 text".to_owned()))?;
        let file = PatternFile::parse(&text).map_err(|error| unusable(error.to_string()))?;
        Redactor::new(&file).map(Some).map_err(|error| unusable(error.to_string()))
    }

    /// The audit log of the directory; one that swallows everything when it is off, in safe mode,
    /// or cannot be opened (the store's own state decides what may be done, not the log's).
    pub(crate) fn audit(&self) -> Audit {
        let settings = &self.config.audit;
        if !settings.enabled || self.config.safe_mode {
            return Audit::default();
        }
        let max_bytes = settings.max_mb << 20;
        match Audit::open(Arc::new(OsDisk), &self.data_dir, max_bytes, settings.keep_days) {
            Ok(audit) => audit,
            Err(error) => {
                tell(format_args!("warning: this is not audited: {error}"));
                Audit::default()
            }
        }
    }

    /// The project of calls that name none.
    pub(crate) fn default_project(&self) -> Option<ProjectId> {
        self.config.default_project()
    }
}

/// Reads the settings in force.
pub(crate) fn settings(common: &Common) -> Result<Settings, CliError> {
    let flags = common
        .data_dir
        .iter()
        .map(|folder| ("dataDir", folder.to_string_lossy().into_owned()))
        .collect();
    let sources = Sources::of_process(common.config.clone(), flags);
    let config = config::load(&OsDisk, &sources)?.config;
    Ok(Settings { data_dir: config.data_dir.clone(), config })
}
