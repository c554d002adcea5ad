//! What opening the data directory takes, from flags, environment and configuration file: the
//! same configuration that the server would run with.

use std::path::PathBuf;

use llm_memory_disk::OsDisk;
use llm_memory_engine::Options;
use llm_memory_engine::ids::ProjectId;

use super::error::CliError;
use crate::args::Common;
use crate::config::{self, Config, Sources};

/// Where the store is and how it is opened.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    config: Config,
}

impl Settings {
    /// The engine's options.
    pub(crate) fn options(&self) -> Result<Options, CliError> {
        Ok(self.config.engine_options())
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
