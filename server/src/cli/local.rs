//! What opening the data directory takes, from flags, environment and configuration file: the
//! same configuration that the server would run with.

use std::path::PathBuf;
use std::sync::Arc;

use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::Engine;
use llm_memory_engine::ids::ProjectId;

use super::error::CliError;
use super::printer::tell;
use crate::args::Common;
use crate::audit::Audit;
use crate::config::{self, Config, Sources};
use crate::jobs::{JobQueue, Limits};
use crate::serve::open::{self, OpenError};
use crate::serve::stdio;

/// Where the store is and how it is opened.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    config: Config,
}

impl Settings {
    /// Opens the store in the directory, under its lock.
    pub(crate) fn open_engine(&self) -> Result<Engine, OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        open::open_engine(&disk, &self.config)
    }

    /// The jobs kept in the directory, for whoever holds its lock.
    pub(crate) fn jobs(&self) -> Result<JobQueue, CliError> {
        let limits = Limits { max_pending: self.config.jobs.max_pending };
        let safe_mode = self.config.safe_mode;
        Ok(JobQueue::open(Arc::new(OsDisk), &self.data_dir, limits, safe_mode)?)
    }

    /// Whether another process holds the directory. One that cannot be looked at is tried.
    pub(crate) fn is_locked(&self) -> bool {
        stdio::is_locked(&self.config).unwrap_or(false)
    }

    /// Journal size above which routines compact a scope.
    pub(crate) const fn compact_over(&self) -> u64 {
        self.config.maintenance.auto_compact_mb << 20
    }

    /// The audit log of the directory, for whoever holds its lock.
    pub(crate) fn audit(&self) -> Audit {
        audit(&self.config, self.config.audit.max_mb << 20)
    }

    /// The project of calls that name none.
    pub(crate) fn default_project(&self) -> Option<ProjectId> {
        self.config.default_project()
    }
}

/// The audit log of the data folder for a command that does not hold its lock. A server that does
/// writes on in the newest file by positions it remembers: a limit of one byte begins another.
pub(crate) fn audit_beside(config: &Config) -> Audit {
    let held = stdio::is_locked(config).unwrap_or(true);
    audit(config, if held { 1 } else { config.audit.max_mb << 20 })
}

/// An audit log that swallows everything when it is off, in safe mode, or cannot be opened (the
/// store's own state decides what may be done, not the log's).
fn audit(config: &Config, max_bytes: u64) -> Audit {
    let settings = &config.audit;
    if !settings.enabled || config.safe_mode {
        return Audit::default();
    }
    match Audit::open(Arc::new(OsDisk), &config.data_dir, max_bytes, settings.keep_days) {
        Ok(audit) => audit,
        Err(error) => {
            tell(format_args!("warning: this is not audited: {error}"));
            Audit::default()
        }
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
