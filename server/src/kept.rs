//! A small value that a restart must not forget: kept as a document beside the reports, and
//! written down now and then, away from whoever changes it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use llm_memory_disk::{Disk, DiskError};
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::metrics::history;

/// A value of type `T`, and whether it changed since it was written down.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    name: &'static str,
    value: Mutex<T>,
    changed: AtomicBool,
}

impl<T: Clone + Default + DeserializeOwned + Serialize> Kept<T> {
    /// The value that stands for nothing kept yet, for the document `name`.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, value: Mutex::default(), changed: AtomicBool::new(false) }
    }

    /// Reads the document `name` of the data folder `root`. A missing or broken one is as if
    /// nothing had been kept: what is next noted makes it good.
    pub(crate) fn load(disk: &dyn Disk, root: &Path, name: &'static str) -> Self {
        let bytes = disk.read(&file(root, name)).unwrap_or_default();
        let value = serde_json::from_slice(&bytes).unwrap_or_default();
        Self { value: Mutex::new(value), ..Self::new(name) }
    }

    /// The value, as it is now.
    pub(crate) fn get(&self) -> T {
        self.value.lock().clone()
    }

    /// The value, to be looked at or changed; [`Kept::touch`] says that it was.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock()
    }

    /// Has the next [`Kept::save`] write it down.
    pub(crate) fn touch(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// Writes it down if it changed since the last call.
    pub(crate) fn save(&self, disk: &dyn Disk, root: &Path) -> Result<(), DiskError> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let bytes = serde_json::to_vec_pretty(&self.get()).unwrap_or_default();
        let saved = disk
            .create_dir_all(&root.join(history::FOLDER))
            .and_then(|()| disk.durable_write(&file(root, self.name), &bytes));
        if saved.is_err() {
            self.touch();
        }
        saved
    }
}

fn file(root: &Path, name: &str) -> PathBuf {
    root.join(history::FOLDER).join(name)
}
