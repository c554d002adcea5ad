//! One committed state of the index, opened for searching.

use std::sync::Arc;

use tantivy::columnar::{ColumnValues, StrColumn};
use tantivy::{DocAddress, DocId, Searcher, SegmentReader};

use super::schema::{NEVER, NO_TTL, column};
use crate::ids::Timestamp;
use crate::ranking::Known;

/// A searcher, with the columns that every search reads opened once.
pub(crate) struct View {
    pub(crate) searcher: Searcher,
    segments: Vec<Columns>,
    /// Numbers of the segments, the one with the latest write first.
    newest_first: Vec<u32>,
}

/// Fast fields of one segment.
pub(crate) struct Columns {
    pub(crate) id: Option<StrColumn>,
    pub(crate) id_hash: Arc<dyn ColumnValues<u64>>,
    pub(crate) title_key: Arc<dyn ColumnValues<u64>>,
    pub(crate) item_type: Arc<dyn ColumnValues<u64>>,
    pub(crate) sensitivity: Arc<dyn ColumnValues<u64>>,
    pub(crate) pinned: Arc<dyn ColumnValues<u64>>,
    pub(crate) ttl_days: Arc<dyn ColumnValues<f64>>,
    pub(crate) expires_at: Arc<dyn ColumnValues<i64>>,
    pub(crate) created_at: Arc<dyn ColumnValues<i64>>,
    pub(crate) updated_at: Arc<dyn ColumnValues<i64>>,
    pub(crate) seq: Arc<dyn ColumnValues<u64>>,
    pub(crate) tag: Option<StrColumn>,
    pub(crate) language: Option<StrColumn>,
}

impl View {
    pub(crate) fn new(searcher: Searcher) -> tantivy::Result<Self> {
        let segments: Vec<Columns> =
            searcher.segment_readers().iter().map(Columns::open).collect::<tantivy::Result<_>>()?;
        let mut latest: Vec<(u32, i64)> =
            (0..).zip(segments.iter().map(|columns| columns.updated_at.max_value())).collect();
        latest.sort_by_key(|&(_, at)| std::cmp::Reverse(at));
        let newest_first = latest.into_iter().map(|(ord, _)| ord).collect();
        Ok(Self { searcher, segments, newest_first })
    }

    /// Segments in the order of [`DocAddress::segment_ord`].
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u32, &SegmentReader, &Columns)> {
        let readers = self.searcher.segment_readers().iter();
        (0..)
            .zip(readers)
            .zip(&self.segments)
            .map(|((ord, reader), columns)| (ord, reader, columns))
    }

    /// The same, the one with the latest write first: what later ones hold is then often known
    /// not to be wanted.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (u32, &SegmentReader, &Columns)> {
        self.newest_first.iter().filter_map(|&ord| {
            let reader = self.searcher.segment_readers().get(ord as usize)?;
            Some((ord, reader, self.columns(ord)?))
        })
    }

    pub(crate) fn columns(&self, segment: u32) -> Option<&Columns> {
        self.segments.get(segment as usize)
    }

    /// The id of an item, as stored.
    pub(crate) fn id(&self, address: DocAddress) -> std::io::Result<Option<String>> {
        let Some(column) = self.columns(address.segment_ord).and_then(|c| c.id.as_ref()) else {
            return Ok(None);
        };
        let Some(ord) = column.term_ords(address.doc_id).next() else { return Ok(None) };
        let mut id = String::new();
        Ok(column.ord_to_str(ord, &mut id)?.then_some(id))
    }
}

impl Columns {
    /// What the index knows of an item besides its words.
    pub(crate) fn known(&self, doc: DocId) -> Known {
        let ttl_days = self.ttl_days.get_val(doc);
        let expires_at = self.expires_at.get_val(doc);
        Known {
            id_hash: self.id_hash.get_val(doc),
            updated_at: Timestamp::from_millis(self.updated_at.get_val(doc)),
            created_at: Timestamp::from_millis(self.created_at.get_val(doc)),
            pinned: self.pinned.get_val(doc) != 0,
            ttl_days: (ttl_days > NO_TTL).then_some(ttl_days),
            expires_at: (expires_at != NEVER).then(|| Timestamp::from_millis(expires_at)),
        }
    }

    fn open(reader: &SegmentReader) -> tantivy::Result<Self> {
        let fast = reader.fast_fields();
        let number = |name| Ok::<_, tantivy::TantivyError>(fast.u64(name)?.first_or_default_col(0));
        let moment = |name| Ok::<_, tantivy::TantivyError>(fast.i64(name)?.first_or_default_col(0));
        Ok(Self {
            id: fast.str(column::ID)?,
            id_hash: number(column::ID_HASH)?,
            title_key: number(column::TITLE_KEY)?,
            item_type: number(column::TYPE)?,
            sensitivity: number(column::SENSITIVITY)?,
            pinned: number(column::PINNED)?,
            ttl_days: fast.f64(column::TTL_DAYS)?.first_or_default_col(0.0),
            expires_at: moment(column::EXPIRES_AT)?,
            created_at: moment(column::CREATED_AT)?,
            updated_at: moment(column::UPDATED_AT)?,
            seq: number(column::SEQ)?,
            tag: fast.str(column::TAG)?,
            language: fast.str(column::LANGUAGE)?,
        })
    }

    /// Words of a multi-valued column, by their numbers.
    pub(crate) fn ords(column: Option<&StrColumn>, doc: DocId) -> impl Iterator<Item = u64> + '_ {
        column.into_iter().flat_map(move |column| column.term_ords(doc))
    }
}
