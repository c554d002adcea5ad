//! Applies journal records to the catalog. The writer, start-up replay and rebuild all go through
//! here, so a view cannot depend on which of them made it.

use redb::ReadableTable as _;

use super::failure;
use super::record::{
    Blob, CountersRecord, Digest32, ItemRecord, Totals, VersionRecord, decode, encode,
};
use super::tables::Tables;
use crate::error::{EngineError, Result};
use crate::ids::{Digest, ItemId, Seq};
use crate::item::similarity::Sketch;
use crate::item::{Content, Counters};
use crate::journal::{Op, Record};

/// Key in a record's `meta` that holds counters after the record.
pub(crate) const COUNTERS_META: &str = "counters";
/// Key in a delete record's `meta` that asks for the erasure of every body.
pub(crate) const ERASE_META: &str = "erase";

/// One journal record with what its effect on the catalog depends on.
pub(crate) struct Applied<'a> {
    /// The record.
    pub(crate) record: &'a Record,
    /// Hash of its head.
    pub(crate) head_hash: Digest,
    /// The content it stores, for records that store one.
    pub(crate) content: Option<&'a Content>,
    /// What views of before knew of a content that cannot be read.
    pub(crate) known: Option<&'a ItemRecord>,
    /// Bytes of the canonical content.
    pub(crate) content_bytes: usize,
    /// Where the body lies.
    pub(crate) blob: Option<Blob>,
    /// Similarity sketch of the content.
    pub(crate) sketch: Option<&'a Sketch>,
}

/// Applies records to the tables of one transaction and keeps the totals.
pub(crate) struct Applier<'a, 't> {
    tables: &'a mut Tables<'t>,
    totals: Totals,
}

impl<'a, 't> Applier<'a, 't> {
    pub(crate) fn new(tables: &'a mut Tables<'t>) -> Result<Self> {
        let totals = tables.totals()?;
        Ok(Self { tables, totals })
    }

    pub(crate) fn tables(&mut self) -> &mut Tables<'t> {
        self.tables
    }

    /// Writes the totals back; nothing counts before.
    pub(crate) fn finish(self) -> Result<Totals> {
        self.tables.set_totals(&self.totals)?;
        Ok(self.totals)
    }

    /// Applies one record. Records must come in order, without gaps.
    pub(crate) fn apply(&mut self, applied: &Applied<'_>) -> Result<()> {
        let record = applied.record;
        if record.seq != Seq(self.totals.seq).next() {
            return Err(EngineError::Corrupt {
                what: "catalog".to_owned(),
                reason: format!(
                    "is at record {} but was given record {}: run maintenance.rebuild",
                    self.totals.seq, record.seq
                ),
            });
        }
        match record.op {
            Op::Use | Op::Feedback => self.counters(record)?,
            Op::Delete | Op::Prune => self.delete(record)?,
            Op::Erase | Op::Config | Op::Maintenance => {}
            _ => self.put(applied)?,
        }
        self.totals.seq = record.seq.0;
        self.totals.head = applied.head_hash.0;
        self.totals.ts = record.ts.as_millis();
        Ok(())
    }

    /// A version. Without a body, which is nowhere, only its place among the versions is known, and
    /// what views of before knew; whether that was asked for, a later delete record says.
    fn put(&mut self, applied: &Applied<'_>) -> Result<()> {
        let record = applied.record;
        let id = record.id.as_str();
        let previous = self.tables.item(&record.id)?;
        let mut counters = previous.as_ref().map(ItemRecord::counters).unwrap_or_default();
        if let Some(previous) = &previous {
            self.unlist(&record.id, previous)?;
            if previous.deleted {
                // A new item under an old name starts afresh, for readers of the past as well.
                counters = Counters::default();
                self.log_counters(record, counters)?;
            }
        }
        if let Some(given) = counters_of(record) {
            counters = given;
            self.log_counters(record, counters)?;
        }
        let item = match (applied.content, applied.known) {
            (Some(content), _) => {
                ItemRecord::of(content, record.seq, record.hash, applied.content_bytes, counters)
            }
            (None, Some(known)) => ItemRecord {
                seq: record.seq,
                deleted: false,
                counters: counters.into(),
                ..known.clone()
            },
            (None, None) => ItemRecord::bodiless(record, previous.as_ref(), counters),
        };
        self.list(&record.id, &item)?;
        self.note_version(record, applied.content_bytes, false)?;
        if let Some(blob) = applied.blob {
            self.tables.set_blob(record.hash, blob)?;
        }
        if let Some(sketch) = applied.sketch {
            for band in sketch.bands() {
                insert(self.tables.bands.insert((band, record.seq.0), ()))?;
            }
            insert(self.tables.sketches.insert(id, sketch.to_bytes().as_slice()))?;
        }
        Ok(())
    }

    fn delete(&mut self, record: &Record) -> Result<()> {
        let erased = record.meta.get(ERASE_META).and_then(serde_json::Value::as_bool) == Some(true);
        if let Some(mut item) = self.tables.item(&record.id)? {
            self.unlist(&record.id, &item)?;
            if erased {
                item = ItemRecord::bodiless(record, Some(&item), item.counters());
            }
            item.deleted = true;
            item.version = record.version;
            item.seq = record.seq;
            item.links.clear();
            insert(self.tables.items.insert(record.id.as_str(), encode(&item)?.as_slice()))?;
        }
        self.note_version(record, 0, true)?;
        if erased {
            for hash in self.hashes_of(&record.id)? {
                self.tables.set_blob(hash, Blob::Erased)?;
            }
        }
        Ok(())
    }

    fn counters(&mut self, record: &Record) -> Result<()> {
        let Some(counters) = counters_of(record) else {
            return Err(EngineError::Corrupt {
                what: format!("journal record {}", record.seq),
                reason: format!("is a {} without counters", record.op.as_str()),
            });
        };
        if let Some(mut item) = self.tables.item(&record.id)? {
            item.counters = counters.into();
            insert(self.tables.items.insert(record.id.as_str(), encode(&item)?.as_slice()))?;
        }
        self.log_counters(record, counters)
    }

    fn log_counters(&mut self, record: &Record, counters: Counters) -> Result<()> {
        let counters = CountersRecord { ts: record.ts.as_millis(), counters: counters.into() };
        let key = (record.id.as_str(), record.seq.0);
        insert(self.tables.counters.insert(key, encode(&counters)?.as_slice()))
    }

    fn note_version(&mut self, record: &Record, bytes: usize, deleted: bool) -> Result<()> {
        let version = VersionRecord {
            version: record.version,
            hash: Digest32::from(record.hash),
            ts: record.ts.as_millis(),
            op: record.op.as_str().to_owned(),
            actor: record.actor.clone(),
            deleted,
            content_bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        };
        let id = record.id.as_str();
        insert(self.tables.versions.insert((id, record.seq.0), encode(&version)?.as_slice()))?;
        insert(self.tables.changes.insert(record.seq.0, (record.ts.as_millis(), id)))?;
        self.totals.versions += u64::from(!deleted);
        self.totals.content_bytes += bytes as u64;
        Ok(())
    }

    /// Hashes of every stored version of an item.
    pub(crate) fn hashes_of(&self, id: &ItemId) -> Result<Vec<Digest>> {
        let range = self
            .tables
            .versions
            .range((id.as_str(), 0)..=(id.as_str(), u64::MAX))
            .map_err(|error| failure("read the catalog", error))?;
        let mut hashes = Vec::new();
        for entry in range {
            let (_, value) = entry.map_err(|error| failure("read the catalog", error))?;
            let version: VersionRecord = decode("versions", value.value())?;
            if !version.deleted {
                hashes.push(version.hash.into());
            }
        }
        Ok(hashes)
    }

    fn list(&mut self, id: &ItemId, item: &ItemRecord) -> Result<()> {
        let id = id.as_str();
        insert(self.tables.items.insert(id, encode(item)?.as_slice()))?;
        insert(self.tables.live.insert((item.updated_at, item.seq.0), id))?;
        if let Some(end) = item.expires_at {
            insert(self.tables.expiry.insert((end, id), ()))?;
        }
        for (relation, to) in &item.links {
            insert(self.tables.links_in.insert((to.as_str(), *relation, id), ()))?;
        }
        self.totals.items += 1;
        Ok(())
    }

    fn unlist(&mut self, id: &ItemId, item: &ItemRecord) -> Result<()> {
        if item.deleted {
            return Ok(());
        }
        let name = id.as_str();
        remove(self.tables.live.remove((item.updated_at, item.seq.0)))?;
        if let Some(end) = item.expires_at {
            remove(self.tables.expiry.remove((end, name)))?;
        }
        for (relation, to) in &item.links {
            remove(self.tables.links_in.remove((to.as_str(), *relation, name)))?;
        }
        let sketch = match self.tables.sketches.remove(name) {
            Ok(value) => value.and_then(|value| Sketch::from_bytes(value.value())),
            Err(error) => return Err(failure("write the catalog", error)),
        };
        for band in sketch.iter().flat_map(Sketch::bands) {
            remove(self.tables.bands.remove((band, item.seq.0)))?;
        }
        self.totals.items = self.totals.items.saturating_sub(1);
        Ok(())
    }
}

/// The counters that a record carries.
pub(crate) fn counters_of(record: &Record) -> Option<Counters> {
    serde_json::from_value(record.meta.get(COUNTERS_META)?.clone()).ok()
}

fn insert<T>(result: Result<T, redb::StorageError>) -> Result<()> {
    result.map(drop).map_err(|error| failure("write the catalog", error))
}

fn remove<T>(result: Result<T, redb::StorageError>) -> Result<()> {
    insert(result)
}
