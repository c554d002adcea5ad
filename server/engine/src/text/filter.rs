//! Conditions on items, judged on a document of the tail or on the fast fields of a segment.

use std::ops::RangeInclusive;

use tantivy::query::{BooleanQuery, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, DocSet, Searcher, SegmentReader, TERMINATED, Term};

use crate::ids::Timestamp;
use crate::item::{ItemType, Sensitivity};

use super::document::IndexDoc;
use super::schema::{Fields, sensitivity_code, type_code};
use super::view::Columns;

/// Which items may be found. An empty list does not restrict.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Any of these types.
    pub types: Vec<ItemType>,
    /// Any of these tags.
    pub tags: Vec<String>,
    /// Any of these files.
    pub files: Vec<String>,
    /// Any of these symbols.
    pub symbols: Vec<String>,
    /// Any of these languages.
    pub languages: Vec<String>,
    /// Created by any of these subjects.
    pub created_by: Vec<String>,
    /// Created by this subject, whatever `created_by` says.
    pub owner: Option<String>,
    /// Pinned or not.
    pub pinned: Option<bool>,
    /// Written at or after.
    pub updated_from: Option<Timestamp>,
    /// Written at or before.
    pub updated_to: Option<Timestamp>,
    /// Nothing more secret than this.
    pub clearance: Sensitivity,
    /// Items that have expired by this moment are not found.
    pub now: Timestamp,
}

impl Filter {
    /// Everything that has not expired.
    #[must_use]
    pub const fn everything(now: Timestamp) -> Self {
        Self {
            types: Vec::new(),
            tags: Vec::new(),
            files: Vec::new(),
            symbols: Vec::new(),
            languages: Vec::new(),
            created_by: Vec::new(),
            owner: None,
            pinned: None,
            updated_from: None,
            updated_to: None,
            clearance: Sensitivity::Private,
            now,
        }
    }

    /// Whether `doc` may be found.
    pub(crate) fn matches(&self, doc: &IndexDoc) -> bool {
        let any = |wanted: &[String], has: &[String]| {
            wanted.is_empty() || wanted.iter().any(|one| has.contains(one))
        };
        let one =
            |wanted: &[String], has: &str| wanted.is_empty() || wanted.iter().any(|one| one == has);
        (self.types.is_empty() || self.types.contains(&doc.item_type))
            && any(&self.tags, &doc.tags)
            && any(&self.files, &doc.files)
            && any(&self.symbols, &doc.symbols)
            && (self.languages.is_empty()
                || doc.language.as_ref().is_some_and(|has| self.languages.contains(has)))
            && one(&self.created_by, &doc.created_by)
            && self.owner.as_ref().is_none_or(|owner| *owner == doc.created_by)
            && self.pinned.is_none_or(|pinned| pinned == doc.pinned)
            && self.updated_from.is_none_or(|from| doc.updated_at >= from)
            && self.updated_to.is_none_or(|to| doc.updated_at <= to)
            && sensitivity_code(doc.sensitivity) <= sensitivity_code(self.clearance)
            && doc.expires_at.is_none_or(|expires| expires > self.now)
    }

    /// Lists of terms of which an item must have one, and whether its columns tell that as well.
    fn groups(&self, fields: &Fields) -> Vec<(Vec<Term>, bool)> {
        let words = |field: Field, words: &[String]| -> Vec<Term> {
            words.iter().map(|word| Term::from_field_text(field, word)).collect()
        };
        let types = self.types.iter().map(|kind| type_code(*kind));
        let pinned = self.pinned.filter(|pinned| *pinned).map(u64::from);
        let number = |field: Field| move |value: u64| Term::from_field_u64(field, value);
        [
            (words(fields.tag, &self.tags), false),
            (words(fields.file, &self.files), false),
            (words(fields.symbol, &self.symbols), false),
            (words(fields.language, &self.languages), false),
            (words(fields.created_by, &self.created_by), false),
            (words(fields.created_by, self.owner.as_slice()), false),
            (types.map(number(fields.item_type)).collect(), true),
            (pinned.into_iter().map(number(fields.pinned)).collect(), true),
        ]
        .into_iter()
        .filter(|(terms, _)| !terms.is_empty())
        .collect()
    }

    /// Splits the conditions into those that few items meet, which had better lead the search,
    /// and the others, which are checked item by item.
    pub(crate) fn plan(&self, searcher: &Searcher, fields: &Fields) -> tantivy::Result<Plan> {
        let mut plan = Plan::default();
        let few = (searcher.num_docs() / SELECTIVE_SHARE).max(SELECTIVE_ITEMS);
        for (terms, in_columns) in self.groups(fields) {
            let mut matching = 0;
            for term in &terms {
                matching += searcher.doc_freq(term)?;
            }
            if matching <= few {
                let queries = terms.into_iter().map(|term| {
                    Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as Box<dyn Query>
                });
                plan.leading.push(Box::new(BooleanQuery::union(queries.collect())));
            } else if !in_columns {
                plan.checked.push(terms);
            }
        }
        Ok(plan)
    }
}

/// A condition leads when at most one item in so many meets it: then it is quicker to score those
/// that do than to walk over the best matches until enough of them do.
const SELECTIVE_SHARE: u64 = 2_000;
/// A condition that at most so many items meet leads in any case.
const SELECTIVE_ITEMS: u64 = 200;

/// How the word conditions of a filter are applied.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) leading: Vec<Box<dyn Query>>,
    checked: Vec<Vec<Term>>,
}

/// A filter made ready for one segment.
pub(crate) struct SegmentFilter<'a> {
    columns: &'a Columns,
    types: Option<u64>,
    clearance: Option<u64>,
    pinned: Option<u64>,
    updated: Option<RangeInclusive<i64>>,
    now: Option<i64>,
    words: Vec<DocBits>,
    excluded: Option<DocBits>,
}

impl<'a> SegmentFilter<'a> {
    pub(crate) fn new(
        filter: &Filter,
        plan: &Plan,
        reader: &SegmentReader,
        columns: &'a Columns,
        excluded: Option<DocBits>,
    ) -> tantivy::Result<Self> {
        let types = (!filter.types.is_empty())
            .then(|| filter.types.iter().fold(0, |mask, kind| mask | 1 << type_code(*kind)));
        // A condition that every item of the segment meets costs nothing.
        let clearance = sensitivity_code(filter.clearance);
        let clearance = (columns.sensitivity.max_value() > clearance).then_some(clearance);
        let now = filter.now.as_millis();
        let now = (columns.expires_at.min_value() <= now).then_some(now);
        let updated = (filter.updated_from.is_some() || filter.updated_to.is_some()).then(|| {
            let from = filter.updated_from.map_or(i64::MIN, Timestamp::as_millis);
            from..=filter.updated_to.map_or(i64::MAX, Timestamp::as_millis)
        });
        let words = plan
            .checked
            .iter()
            .map(|terms| DocBits::of_terms(terms, reader))
            .collect::<tantivy::Result<_>>()?;
        let pinned = filter.pinned.map(u64::from);
        Ok(Self { columns, types, clearance, pinned, updated, now, words, excluded })
    }

    /// Whether every item of the segment meets every condition.
    pub(crate) fn is_open(&self) -> bool {
        let Self { columns: _, types, clearance, pinned, updated, now, words, excluded } = self;
        types.is_none()
            && clearance.is_none()
            && pinned.is_none()
            && updated.is_none()
            && now.is_none()
            && words.is_empty()
            && excluded.is_none()
    }

    /// Whether no item of the segment can meet the condition on the time of the last write.
    pub(crate) fn is_shut(&self) -> bool {
        let column = &self.columns.updated_at;
        self.updated.as_ref().is_some_and(|range| {
            column.max_value() < *range.start() || column.min_value() > *range.end()
        })
    }

    pub(crate) fn matches(&self, doc: DocId) -> bool {
        let columns = self.columns;
        self.words.iter().all(|bits| bits.contains(doc))
            && !self.excluded.as_ref().is_some_and(|bits| bits.contains(doc))
            && self.types.is_none_or(|mask| {
                let code = u32::try_from(columns.item_type.get_val(doc)).unwrap_or(u32::MAX);
                1_u64.checked_shl(code).is_some_and(|bit| bit & mask != 0)
            })
            && self.clearance.is_none_or(|most| columns.sensitivity.get_val(doc) <= most)
            && self.pinned.is_none_or(|wanted| columns.pinned.get_val(doc) == wanted)
            && self
                .updated
                .as_ref()
                .is_none_or(|range| range.contains(&columns.updated_at.get_val(doc)))
            && self.now.is_none_or(|now| columns.expires_at.get_val(doc) > now)
    }
}

/// A set of documents of one segment.
pub(crate) struct DocBits(Vec<u64>);

impl DocBits {
    /// The empty set.
    pub(crate) fn none(reader: &SegmentReader) -> Self {
        Self(vec![0; (reader.max_doc() / 64 + 1) as usize])
    }

    fn of_terms(terms: &[Term], reader: &SegmentReader) -> tantivy::Result<Self> {
        let mut bits = Self::none(reader);
        for term in terms {
            let index = reader.inverted_index(term.field())?;
            if let Some(mut postings) = index.read_postings(term, IndexRecordOption::Basic)? {
                bits.add_all(&mut postings);
            }
        }
        Ok(bits)
    }

    /// Adds every document that `docs` has left.
    pub(crate) fn add_all(&mut self, docs: &mut dyn DocSet) {
        let mut doc = docs.doc();
        while doc != TERMINATED {
            if let Some(word) = self.0.get_mut((doc / 64) as usize) {
                *word |= 1 << (doc % 64);
            }
            doc = docs.advance();
        }
    }

    fn contains(&self, doc: DocId) -> bool {
        self.0.get((doc / 64) as usize).is_some_and(|word| word & (1 << (doc % 64)) != 0)
    }
}
