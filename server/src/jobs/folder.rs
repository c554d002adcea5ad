//! The documents of jobs: `jobs/ID.json` in the data folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llm_memory_disk::{Disk, DiskError, remove_leftovers};
use serde::{Deserialize, Serialize};

use super::authority::Authority;
use super::job::{Job, JobId};

/// Folder of the jobs in the data folder.
pub(super) const FOLDER: &str = "jobs";
const FORMAT: u32 = 1;
const EXTENSION: &str = ".json";

/// A job and what its callers do not see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    pub(super) job: Job,
    pub(super) authority: Authority,
}

impl Record {
    pub(super) const fn new(job: Job, authority: Authority) -> Self {
        Self { format: FORMAT, job, authority }
    }
}

/// The folder.
#[derive(Debug)]
pub(super) struct JobFolder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Whether nothing may be written.
    read_only: bool,
}

impl JobFolder {
    /// That of the data folder `root`. One that is `read_only` forgets what it is given.
    pub(super) fn new(disk: Arc<dyn Disk>, root: &Path, read_only: bool) -> Self {
        Self { disk, path: root.join(FOLDER), read_only }
    }

    /// Every document that can be read.
    pub(super) fn load(&self) -> Result<Vec<Record>, DiskError> {
        if !self.disk.exists(&self.path)? {
            return Ok(Vec::new());
        }
        let mut records = Vec::new();
        for entry in self.disk.list(&self.path)? {
            let named = entry.name.strip_suffix(EXTENSION).and_then(|id| id.parse::<JobId>().ok());
            let Some(id) = named.filter(|_| !entry.is_dir) else { continue };
            let bytes = self.disk.read(&self.path.join(&entry.name))?;
            match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) if record.job.id == id && record.format == FORMAT => {
                    records.push(record);
                }
                Ok(_) => tracing::warn!(
                    file = entry.name,
                    "a job's document is left alone: it \
                     belongs to another job or another version"
                ),
                Err(error) => {
                    tracing::warn!(file = entry.name, %error, "a job's document is left alone");
                }
            }
        }
        Ok(records)
    }

    /// Removes what an interrupted write left behind.
    pub(super) fn remove_leftovers(&self) -> Result<(), DiskError> {
        if self.read_only || !self.disk.exists(&self.path)? {
            return Ok(());
        }
        remove_leftovers(&*self.disk, &self.path).map(drop)
    }

    /// Makes a document durable.
    pub(super) fn save(&self, record: &Record) -> Result<(), DiskError> {
        if self.read_only {
            return Ok(());
        }
        let path = self.file(&record.job.id);
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|error| DiskError::new("spell the document of", &path, error.into()))?;
        self.disk.create_dir_all(&self.path)?;
        self.disk.durable_write(&path, &bytes)
    }

    /// Removes the documents of `ids`.
    pub(super) fn remove(&self, ids: &[JobId]) -> Result<(), DiskError> {
        if self.read_only || ids.is_empty() {
            return Ok(());
        }
        for id in ids {
            match self.disk.remove_file(&self.file(id)) {
                Err(error) if !error.is_not_found() => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.disk.sync_dir(&self.path)
    }

    fn file(&self, id: &JobId) -> PathBuf {
        self.path.join(format!("{id}{EXTENSION}"))
    }
}
