//! Counting matches by what they are.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use tantivy::DocId;
use tantivy::columnar::StrColumn;

use super::document::IndexDoc;
use super::schema::type_code;
use super::view::Columns;
use crate::item::ItemType;

/// Counts of matches by type, tag and language.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FacetCounter {
    /// By type.
    pub types: BTreeMap<String, u64>,
    /// By tag.
    pub tags: BTreeMap<String, u64>,
    /// By language.
    pub languages: BTreeMap<String, u64>,
    /// Matches counted.
    pub matches: u64,
}

impl FacetCounter {
    pub(crate) fn add_doc(&mut self, doc: &IndexDoc) {
        self.matches += 1;
        *self.types.entry(doc.item_type.as_str().to_owned()).or_default() += 1;
        for tag in &doc.tags {
            *self.tags.entry(tag.clone()).or_default() += 1;
        }
        if let Some(language) = &doc.language {
            *self.languages.entry(language.clone()).or_default() += 1;
        }
    }

    pub(crate) fn add_segment(&mut self, counts: &SegmentCounts, columns: &Columns) {
        self.matches += counts.matches;
        for item_type in ItemType::ALL {
            if let Some(count) = counts.types.get(&type_code(item_type)) {
                *self.types.entry(item_type.as_str().to_owned()).or_default() += count;
            }
        }
        add_words(&mut self.tags, &counts.tags, columns.tag.as_ref());
        add_words(&mut self.languages, &counts.languages, columns.language.as_ref());
    }
}

fn add_words(to: &mut BTreeMap<String, u64>, from: &HashMap<u64, u64>, column: Option<&StrColumn>) {
    let Some(column) = column else { return };
    let mut sorted: Vec<(u64, u64)> = from.iter().map(|(ord, count)| (*ord, *count)).collect();
    sorted.sort_unstable();
    let mut word = String::new();
    for (ord, count) in sorted {
        if column.ord_to_str(ord, &mut word).unwrap_or(false) {
            *to.entry(word.clone()).or_default() += count;
        }
    }
}

/// Counts in one segment, by the segment's own numbers for words.
#[derive(Debug, Default)]
pub(crate) struct SegmentCounts {
    matches: u64,
    types: HashMap<u64, u64>,
    tags: HashMap<u64, u64>,
    languages: HashMap<u64, u64>,
}

impl SegmentCounts {
    pub(crate) fn add(&mut self, doc: DocId, columns: &Columns) {
        self.matches += 1;
        *self.types.entry(columns.item_type.get_val(doc)).or_default() += 1;
        for ord in Columns::ords(columns.tag.as_ref(), doc) {
            *self.tags.entry(ord).or_default() += 1;
        }
        for ord in Columns::ords(columns.language.as_ref(), doc) {
            *self.languages.entry(ord).or_default() += 1;
        }
    }
}
