//! Reading the catalog as of one moment of its life.

use std::collections::BTreeSet;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::failure;
use super::record::{Blob, ItemRecord, Totals, VersionRecord, decode};
use super::tables::{ReadTables, blob, counters_at, item, totals, version_at};
use crate::error::Result;
use crate::ids::{Digest, ItemId, Seq, Timestamp};
use crate::item::Counters;
use crate::item::similarity::Sketch;

/// A consistent view of the catalog; later writes do not show.
pub(crate) struct ReadView {
    tables: ReadTables,
}

impl ReadView {
    pub(super) fn new(txn: &ReadTransaction) -> Result<Self> {
        Ok(Self { tables: ReadTables::open(txn)? })
    }

    /// How far the catalog is.
    pub(crate) fn totals(&self) -> Result<Totals> {
        totals(&self.tables.meta)
    }

    /// The latest state of an item, deleted ones included.
    pub(crate) fn item(&self, id: &ItemId) -> Result<Option<ItemRecord>> {
        item(&self.tables.items, id)
    }

    /// Where a body lies.
    pub(crate) fn blob(&self, hash: Digest) -> Result<Option<Blob>> {
        blob(&self.tables.blobs, hash)
    }

    /// The last change of an item at or before `seq`.
    pub(crate) fn version_at(&self, id: &ItemId, seq: Seq) -> Result<Option<(Seq, VersionRecord)>> {
        version_at(&self.tables.versions, id.as_str(), seq)
    }

    /// Usage and feedback of an item as of `seq`, as far as it was noted at or before `moment`.
    pub(crate) fn counters_at(&self, id: &ItemId, seq: Seq, moment: Timestamp) -> Result<Counters> {
        counters_at(&self.tables.counters, id.as_str(), seq, moment)
    }

    /// Every item that has been used or voted on, or was taken over with counters, once.
    pub(crate) fn each_counted(&self, mut each: impl FnMut(&ItemId)) -> Result<()> {
        let mut after: Option<ItemId> = None;
        loop {
            // An item may have a row for every use: from the last of one to the first of the next.
            let from = after.as_ref().map_or(("", 0), |id| (id.as_str(), u64::MAX));
            let mut range = self
                .tables
                .counters
                .range(from..)
                .map_err(|error| failure("read the catalog", error))?;
            let Some(entry) = range.next() else { return Ok(()) };
            let (key, _) = entry.map_err(|error| failure("read the catalog", error))?;
            let id = ItemId::new(key.value().0)?;
            each(&id);
            after = Some(id);
        }
    }

    /// Changes of an item at or before `until`, newest first.
    pub(crate) fn versions(
        &self,
        id: &ItemId,
        until: Seq,
    ) -> Result<impl Iterator<Item = Result<(Seq, VersionRecord)>> + '_> {
        let range = self
            .tables
            .versions
            .range((id.as_str(), 0)..=(id.as_str(), until.0))
            .map_err(|error| failure("read the catalog", error))?;
        Ok(range.rev().map(|entry| {
            let (key, value) = entry.map_err(|error| failure("read the catalog", error))?;
            Ok((Seq(key.value().1), decode("versions", value.value())?))
        }))
    }

    /// Live items by last write, newest first, from the time and record `from` on.
    pub(crate) fn live(
        &self,
        (moment, seq): (Timestamp, Seq),
    ) -> Result<impl Iterator<Item = Result<(Timestamp, Seq, ItemId)>> + '_> {
        let range = self
            .tables
            .live
            .range(..=(moment.as_millis(), seq.0))
            .map_err(|error| failure("read the catalog", error))?;
        Ok(range.rev().map(|entry| {
            let (key, value) = entry.map_err(|error| failure("read the catalog", error))?;
            let (moment, seq) = key.value();
            Ok((Timestamp::from_millis(moment), Seq(seq), ItemId::new(value.value())?))
        }))
    }

    /// Changes of content after `after` up to `until`, in order: record, time, item.
    pub(crate) fn changes(
        &self,
        after: Seq,
        until: Seq,
    ) -> Result<impl DoubleEndedIterator<Item = Result<(Seq, Timestamp, ItemId)>> + '_> {
        let range = self
            .tables
            .changes
            .range(after.next().0..=until.0.max(after.0))
            .map_err(|error| failure("read the catalog", error))?;
        Ok(range.map(|entry| {
            let (key, value) = entry.map_err(|error| failure("read the catalog", error))?;
            let (ts, id) = value.value();
            Ok((Seq(key.value()), Timestamp::from_millis(ts), ItemId::new(id)?))
        }))
    }

    /// The last content change at or before `moment`; `Seq(0)` when there was none. Record times
    /// never run backwards, so this is a binary search.
    pub(crate) fn seq_at(&self, moment: Timestamp) -> Result<Seq> {
        let (mut low, mut high) = (0_u64, self.totals()?.seq);
        // Invariant: every change at or before `low` is not later than `moment`, and every change
        // after `high` is later.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let mut range = self
                .tables
                .changes
                .range(low + 1..=middle)
                .map_err(|error| failure("read the catalog", error))?;
            let Some(entry) = range.next_back() else {
                low = middle;
                continue;
            };
            let (key, value) = entry.map_err(|error| failure("read the catalog", error))?;
            if value.value().0 <= moment.as_millis() {
                low = middle;
            } else {
                high = key.value().saturating_sub(1).max(low);
            }
        }
        Ok(Seq(low))
    }

    /// Items that link to `id`: (relation, source).
    pub(crate) fn links_in(&self, id: &ItemId) -> Result<Vec<(u8, ItemId)>> {
        let mut found = Vec::new();
        let range = self
            .tables
            .links_in
            .range((id.as_str(), 0, "")..)
            .map_err(|error| failure("read the catalog", error))?;
        for entry in range {
            let (key, _) = entry.map_err(|error| failure("read the catalog", error))?;
            let (to, relation, from) = key.value();
            if to != id.as_str() {
                break;
            }
            found.push((relation, ItemId::new(from)?));
        }
        Ok(found)
    }

    /// Live items whose life ends at or before `moment`.
    pub(crate) fn expired(
        &self,
        moment: Timestamp,
    ) -> Result<impl Iterator<Item = Result<ItemId>> + '_> {
        let range = self
            .tables
            .expiry
            .range(..(moment.as_millis().saturating_add(1), ""))
            .map_err(|error| failure("read the catalog", error))?;
        Ok(range.map(|entry| {
            let (key, _) = entry.map_err(|error| failure("read the catalog", error))?;
            Ok(ItemId::new(key.value().1)?)
        }))
    }

    /// Live items that share a similarity band with `sketch`, at most `limit` a band.
    pub(crate) fn similar(&self, sketch: &Sketch, limit: usize) -> Result<Vec<(ItemId, Sketch)>> {
        let mut records = BTreeSet::new();
        for band in sketch.bands() {
            let range = self
                .tables
                .bands
                .range((band, 0)..=(band, u64::MAX))
                .map_err(|error| failure("read the catalog", error))?;
            for entry in range.take(limit) {
                let (key, _) = entry.map_err(|error| failure("read the catalog", error))?;
                records.insert(key.value().1);
            }
        }
        let failed = |error| failure("read the catalog", error);
        let mut found = Vec::with_capacity(records.len());
        for record in records {
            let Some(change) = self.tables.changes.get(record).map_err(failed)? else { continue };
            let id = ItemId::new(change.value().1)?;
            let value = self.tables.sketches.get(id.as_str()).map_err(failed)?;
            if let Some(sketch) = value.and_then(|value| Sketch::from_bytes(value.value())) {
                found.push((id, sketch));
            }
        }
        Ok(found)
    }

    /// Every item with its latest state, by id, deleted ones included.
    pub(crate) fn items(&self) -> Result<impl Iterator<Item = Result<(ItemId, ItemRecord)>> + '_> {
        let range = self.tables.items.iter().map_err(|error| failure("read the catalog", error))?;
        Ok(range.map(|entry| {
            let (key, value) = entry.map_err(|error| failure("read the catalog", error))?;
            Ok((ItemId::new(key.value())?, decode("items", value.value())?))
        }))
    }

    /// Every version of every item: item, record, version.
    pub(crate) fn all_versions(
        &self,
    ) -> Result<impl Iterator<Item = Result<(ItemId, Seq, VersionRecord)>> + '_> {
        let range =
            self.tables.versions.iter().map_err(|error| failure("read the catalog", error))?;
        Ok(range.map(|entry| {
            let (key, value) = entry.map_err(|error| failure("read the catalog", error))?;
            let (id, seq) = key.value();
            Ok((ItemId::new(id)?, Seq(seq), decode("versions", value.value())?))
        }))
    }

    /// Number of rows in the item table, deleted items included.
    pub(crate) fn item_rows(&self) -> Result<u64> {
        self.tables.items.len().map_err(|error| failure("read the catalog", error))
    }
}
