//! redb's storage on our disk.
//!
//! When it goes wrong: redb refuses every further transaction of an open database after one
//! failed read, write or sync, so the catalog must be opened again; the failed operation is then
//! undone or repeated from the journal. redb's own file locks are left out: the store's
//! exclusive lock covers the whole data directory, and redb accepts a backend without them for a
//! single writer.

use std::io;
use std::sync::Arc;

use llm_memory_disk::File;
use redb::StorageBackend;

/// One file of our disk as redb's storage.
#[derive(Debug)]
pub(crate) struct DiskBackend {
    file: Arc<dyn File>,
}

impl DiskBackend {
    /// Storage in `file`, which must be open for writing.
    pub(crate) fn new(file: Arc<dyn File>) -> Self {
        Self { file }
    }
}

impl StorageBackend for DiskBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.len()?)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        Ok(self.file.read_exact_at(offset, out)?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(self.file.set_len(len)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(self.file.sync()?)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Ok(self.file.write_all_at(offset, data)?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llm_memory_disk::faulty::{Failure, Fault, FaultyDisk, Operation};
    use llm_memory_disk::{Disk, OpenMode, OsDisk};
    use redb::{Database, Durability, ReadableDatabase, ReadableTableMetadata, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("table");

    fn open(disk: &dyn Disk, folder: &Path) -> Database {
        let file = disk.open(&folder.join("catalog.redb"), OpenMode::Create).unwrap();
        disk.sync_dir(folder).unwrap();
        Database::builder()
            .set_cache_size(1 << 20)
            .create_with_backend(DiskBackend::new(file))
            .unwrap()
    }

    fn insert(database: &Database, key: u64, durability: Durability) -> Result<(), redb::Error> {
        let mut txn = database.begin_write()?;
        txn.set_durability(durability)?;
        txn.open_table(TABLE)?.insert(key, &[7; 100][..])?;
        txn.commit()?;
        Ok(())
    }

    fn rows(database: &Database) -> u64 {
        database.begin_read().unwrap().open_table(TABLE).unwrap().len().unwrap()
    }

    fn survives_reopening(disk: &dyn Disk, folder: &Path) {
        let database = open(disk, folder);
        for key in 0..100 {
            insert(&database, key, Durability::Immediate).unwrap();
        }
        drop(database);
        assert_eq!(rows(&open(disk, folder)), 100);
    }

    #[test]
    fn a_database_survives_reopening_on_a_real_disk() {
        let folder = tempfile::tempdir().unwrap();
        survives_reopening(&OsDisk, folder.path());
    }

    #[test]
    fn a_database_survives_reopening_on_a_faulty_disk() {
        survives_reopening(&FaultyDisk::new(), Path::new("/"));
    }

    #[test]
    fn durable_transactions_survive_a_crash_at_any_sync() {
        for sync in 1.. {
            let disk = FaultyDisk::new();
            let database = open(&disk, Path::new("/"));
            insert(&database, 0, Durability::Immediate).unwrap();
            disk.plan(Fault::new(Operation::Sync, Failure::Freeze).nth(sync));
            let mut durable = 1;
            for key in 1..10 {
                let durability =
                    if key % 3 == 0 { Durability::Immediate } else { Durability::None };
                match insert(&database, key, durability) {
                    Ok(()) if key % 3 == 0 => durable = key + 1,
                    Ok(()) => {}
                    Err(_) => break,
                }
            }
            let done = !disk.is_frozen();
            let found = disk.crash_at_random(sync);
            drop(database);
            let rows = rows(&open(&found, Path::new("/")));
            assert!((durable..=10).contains(&rows), "sync {sync}: {rows} rows, {durable} durable");
            if done {
                assert!(sync > 3, "the loop met too few syncs");
                break;
            }
        }
    }

    #[test]
    fn a_full_disk_is_reported_as_such_and_loses_nothing() {
        let disk = FaultyDisk::new();
        let database = open(&disk, Path::new("/"));
        insert(&database, 0, Durability::Immediate).unwrap();
        disk.plan(Fault::new(Operation::Write, Failure::NoSpace).lasting());
        let error = insert(&database, 1, Durability::Immediate).unwrap_err();
        let redb::Error::Io(source) = error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        drop(database);
        disk.heal();
        assert_eq!(rows(&open(&disk, Path::new("/"))), 1);
    }
}
