//! The catalog: what is known of every item without reading its text, in redb.
//!
//! A view of the journal. Its transactions are not durable one by one; every so often one is
//! ([`Catalog::make_durable`]). After a crash the catalog comes back as of the last durable one,
//! says so through [`Totals::seq`], and the store replays the journal from there. A catalog that
//! cannot be opened or read is dropped and derived again.

mod apply;
mod backend;
mod read;
mod record;
mod tables;

use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::{Disk, OpenMode};
use redb::{Database, Durability, ReadableDatabase};

pub(crate) use apply::{Applied, Applier, COUNTERS_META, ERASE_META};
pub(crate) use backend::DiskBackend;
pub(crate) use read::ReadView;
use record::CATALOG_FORMAT;
pub(crate) use record::{Blob, ItemRecord, VersionRecord, relation_of};
pub(crate) use tables::Tables;

use crate::error::{EngineError, Result};

/// An open catalog.
#[derive(Debug)]
pub(crate) struct Catalog {
    database: Database,
}

impl Catalog {
    /// Opens (or creates) the catalog at `path` with a page cache of `cache_bytes`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Corrupt`] when the file is not a catalog of this format: the caller drops it
    /// and rebuilds.
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path, cache_bytes: usize) -> Result<Self> {
        let file = disk.open(path, OpenMode::Create)?;
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(DiskBackend::new(file))
            .map_err(|error| failure("open the catalog", error))?;
        let catalog = Self { database };
        catalog.initialise()?;
        Ok(catalog)
    }

    fn initialise(&self) -> Result<()> {
        let txn = self.begin_write(Durability::Immediate)?;
        {
            let mut tables = Tables::open(&txn)?;
            match tables.format()? {
                None => tables.set_format(CATALOG_FORMAT)?,
                Some(CATALOG_FORMAT) => {}
                Some(found) => {
                    return Err(EngineError::Corrupt {
                        what: "catalog".to_owned(),
                        reason: format!("has format {found}, this program writes {CATALOG_FORMAT}"),
                    });
                }
            }
        }
        txn.commit().map_err(|error| failure("initialise the catalog", error))
    }

    /// A consistent view as of now.
    pub(crate) fn read(&self) -> Result<ReadView> {
        let txn = self.database.begin_read().map_err(|error| failure("read the catalog", error))?;
        ReadView::new(&txn)
    }

    /// Begins the only write transaction there can be.
    pub(crate) fn begin_write(&self, durability: Durability) -> Result<redb::WriteTransaction> {
        let mut txn =
            self.database.begin_write().map_err(|error| failure("write the catalog", error))?;
        txn.set_durability(durability).map_err(|error| failure("write the catalog", error))?;
        // Without it, opening after kill -9 walks the whole file.
        txn.set_quick_repair(matches!(durability, Durability::Immediate));
        Ok(txn)
    }

    /// Makes everything committed so far survive a crash.
    pub(crate) fn make_durable(&self) -> Result<()> {
        let txn = self.begin_write(Durability::Immediate)?;
        txn.commit().map_err(|error| failure("make the catalog durable", error))
    }
}

/// Sorts a redb error: a full or failing disk, damage, or something unexpected.
pub(crate) fn failure(context: &'static str, error: impl Into<redb::Error>) -> EngineError {
    match error.into() {
        // What is there is not a redb file.
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
            EngineError::Corrupt { what: "catalog".to_owned(), reason: source.to_string() }
        }
        redb::Error::Io(source) => {
            llm_memory_disk::DiskError::new(context, "catalog.redb", source).into()
        }
        redb::Error::Corrupted(reason) => {
            EngineError::Corrupt { what: "catalog".to_owned(), reason }
        }
        // redb may add kinds of failure; what is not known to be damage or the disk is unexpected.
        other => EngineError::Internal { context, message: other.to_string() },
    }
}
