//! What opening the data directory takes, from flags and environment.

use std::path::PathBuf;

use llm_memory_engine::Options;
use llm_memory_engine::ids::ProjectId;

use super::error::CliError;
use crate::args::Common;

/// Where the store is and how it is opened.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The data directory.
    pub(crate) data_dir: PathBuf,
}

impl Settings {
    /// The engine's options.
    pub(crate) fn options(&self) -> Result<Options, CliError> {
        Ok(Options::default())
    }

    /// The project of calls that name none.
    pub(crate) fn default_project(&self) -> Option<ProjectId> {
        ProjectId::new(std::env::var("LLM_MEMORY_PROJECT").ok()?).ok()
    }
}

/// Reads the settings in force.
pub(crate) fn settings(common: &Common) -> Result<Settings, CliError> {
    let given = common.data_dir.clone();
    let data_dir = given.or_else(|| std::env::var_os("LLM_MEMORY_DATA_DIR").map(PathBuf::from));
    let data_dir = data_dir.unwrap_or_else(|| PathBuf::from("/var/lib/llm-memory"));
    Ok(Settings { data_dir })
}

/// Environment variables of the client.
pub(crate) mod env_vars {
    /// One variable.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct EnvVar {
        /// Its name.
        pub(crate) name: &'static str,
    }
    /// Address of a running server.
    pub(crate) const URL: EnvVar = EnvVar { name: "LLM_MEMORY_URL" };
    /// Bearer token for it.
    pub(crate) const TOKEN: EnvVar = EnvVar { name: "LLM_MEMORY_TOKEN" };
    /// Project of calls that name none.
    pub(crate) const PROJECT: EnvVar = EnvVar { name: "LLM_MEMORY_PROJECT" };
}
