//! The tables: the one place that names them and knows their keys.

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, TableError,
    WriteTransaction,
};

use super::failure;
use super::record::{Blob, CountersRecord, ItemRecord, Totals, VersionRecord, decode, encode};
use crate::error::Result;
use crate::ids::{Digest, ItemId, Seq, Timestamp};
use crate::item::Counters;

type Bytes = &'static [u8];
type Name = &'static str;
type HashKey = &'static [u8; 32];

macro_rules! tables {
    ($($(#[$doc:meta])* $field:ident: $key:ty => $value:ty;)*) => {
        /// All tables inside a write transaction.
        pub(crate) struct Tables<'t> {
            $($(#[$doc])* pub(super) $field: Table<'t, $key, $value>,)*
        }

        impl<'t> Tables<'t> {
            /// Opens (and creates) every table.
            pub(crate) fn open(txn: &'t WriteTransaction) -> Result<Self> {
                Ok(Self {
                    $($field: opened(txn.open_table(
                        TableDefinition::<$key, $value>::new(stringify!($field)),
                    ))?,)*
                })
            }
        }

        /// All tables inside a read transaction.
        pub(crate) struct ReadTables {
            $($(#[$doc])* pub(super) $field: ReadOnlyTable<$key, $value>,)*
        }

        impl ReadTables {
            /// Opens every table.
            pub(crate) fn open(txn: &ReadTransaction) -> Result<Self> {
                Ok(Self {
                    $($field: opened(txn.open_table(
                        TableDefinition::<$key, $value>::new(stringify!($field)),
                    ))?,)*
                })
            }
        }
    };
}

tables! {
    /// `format` and `totals`.
    meta: Name => Bytes;
    /// Item id -> [`ItemRecord`].
    items: Name => Bytes;
    /// (Item id, journal record) -> [`VersionRecord`].
    versions: (Name, u64) => Bytes;
    /// (Item id, journal record) -> [`CountersRecord`].
    counters: (Name, u64) => Bytes;
    /// Journal record that changed content -> (its time, item id).
    changes: u64 => (i64, Name);
    /// (Time of the last write in milliseconds, record of the latest version) -> item id of live
    /// items. A record may say that an item was written long before it, elsewhere.
    live: (i64, u64) => Name;
    /// Content hash -> [`Blob`].
    blobs: HashKey => Bytes;
    /// (Target, relation, source): links of live items, backwards.
    links_in: (Name, u8, Name) => ();
    /// (End of life in milliseconds, item id) of live items.
    expiry: (i64, Name) => ();
    /// (Similarity band, record of the latest version) of live items. Numbers take a third of the
    /// room that ids would, and an item has eight rows.
    bands: (u64, u64) => ();
    /// Item id -> similarity sketch of a live item.
    sketches: Name => Bytes;
}

fn opened<T>(table: Result<T, TableError>) -> Result<T> {
    table.map_err(|error| failure("open a catalog table", error))
}

const FORMAT_KEY: &str = "format";
const TOTALS_KEY: &str = "totals";

impl Tables<'_> {
    pub(super) fn format(&self) -> Result<Option<u8>> {
        let value = self.meta.get(FORMAT_KEY).map_err(|e| failure("read the catalog", e))?;
        Ok(value.and_then(|value| value.value().first().copied()))
    }

    pub(super) fn set_format(&mut self, format: u8) -> Result<()> {
        self.meta
            .insert(FORMAT_KEY, [format].as_slice())
            .map_err(|error| failure("write the catalog", error))?;
        Ok(())
    }

    /// How far the catalog is, inside this transaction.
    pub(crate) fn totals(&self) -> Result<Totals> {
        totals(&self.meta)
    }

    pub(super) fn set_totals(&mut self, totals: &Totals) -> Result<()> {
        self.meta
            .insert(TOTALS_KEY, encode(totals)?.as_slice())
            .map_err(|error| failure("write the catalog", error))?;
        Ok(())
    }

    /// The latest state of an item, deleted ones included.
    pub(crate) fn item(&self, id: &ItemId) -> Result<Option<ItemRecord>> {
        item(&self.items, id)
    }

    /// Where a body lies.
    pub(crate) fn blob(&self, hash: Digest) -> Result<Option<Blob>> {
        blob(&self.blobs, hash)
    }

    /// Notes where a body lies now.
    pub(crate) fn set_blob(&mut self, hash: Digest, blob: Blob) -> Result<()> {
        self.blobs
            .insert(&hash.0, encode(&blob)?.as_slice())
            .map_err(|error| failure("write the catalog", error))?;
        Ok(())
    }
}

pub(super) fn totals(meta: &impl ReadableTable<Name, Bytes>) -> Result<Totals> {
    match meta.get(TOTALS_KEY).map_err(|error| failure("read the catalog", error))? {
        Some(value) => decode("meta", value.value()),
        None => Ok(Totals::default()),
    }
}

pub(super) fn item(
    items: &impl ReadableTable<Name, Bytes>,
    id: &ItemId,
) -> Result<Option<ItemRecord>> {
    items
        .get(id.as_str())
        .map_err(|error| failure("read the catalog", error))?
        .map(|value| decode("items", value.value()))
        .transpose()
}

pub(super) fn blob(
    blobs: &impl ReadableTable<HashKey, Bytes>,
    hash: Digest,
) -> Result<Option<Blob>> {
    blobs
        .get(&hash.0)
        .map_err(|error| failure("read the catalog", error))?
        .map(|value| decode("blobs", value.value()))
        .transpose()
}

/// The last change of `id` at or before `seq`.
pub(super) fn version_at(
    versions: &impl ReadableTable<(Name, u64), Bytes>,
    id: &str,
    seq: Seq,
) -> Result<Option<(Seq, VersionRecord)>> {
    let mut range = versions
        .range((id, 0)..=(id, seq.0))
        .map_err(|error| failure("read the catalog", error))?;
    let Some(entry) = range.next_back() else { return Ok(None) };
    let (key, value) = entry.map_err(|error| failure("read the catalog", error))?;
    Ok(Some((Seq(key.value().1), decode("versions", value.value())?)))
}

/// The counters of `id` as of record `seq`, as far as they were counted at or before `moment`.
pub(super) fn counters_at(
    counters: &impl ReadableTable<(Name, u64), Bytes>,
    id: &str,
    seq: Seq,
    moment: Timestamp,
) -> Result<Counters> {
    let range = counters
        .range((id, 0)..=(id, seq.0))
        .map_err(|error| failure("read the catalog", error))?;
    for entry in range.rev() {
        let (_, value) = entry.map_err(|error| failure("read the catalog", error))?;
        let record: CountersRecord = decode("counters", value.value())?;
        if record.ts <= moment.as_millis() {
            return Ok(record.counters.into());
        }
    }
    Ok(Counters::default())
}
