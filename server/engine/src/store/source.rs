//! What search needs of a scope.

use std::time::Duration;

use super::past::Past;
use super::query::ItemSource;
use super::read::Reader;
use crate::error::Result;
use crate::ids::{ItemId, Scope, Seq};
use crate::item::{ConfidenceConfig, Content, Counters, Item};
use crate::ranking::Parameters;
use crate::text::{Change, IndexDoc, Overlay, TextIndex};

/// `content` as the text index sees it.
pub(crate) fn index_doc(content: &Content, seq: Seq) -> IndexDoc {
    IndexDoc {
        id: content.id.clone(),
        item_type: content.item_type,
        title: content.title.clone(),
        text: content.text.clone(),
        code: content.code.clone(),
        language: content.language.clone(),
        tags: content.facets.tags.clone(),
        files: content.facets.files.clone(),
        symbols: content.facets.symbols.clone(),
        sensitivity: content.sensitivity,
        created_by: content.provenance.created_by.clone(),
        pinned: content.pinned,
        ttl_days: content.ttl_days,
        expires_at: content.expires_at,
        created_at: content.created_at,
        updated_at: content.updated_at,
        seq,
    }
}

/// Gives a document made of the same words what was decided since.
pub(crate) fn settle(doc: &mut IndexDoc, content: &Content, seq: Seq) {
    doc.sensitivity = content.sensitivity;
    doc.created_by.clone_from(&content.provenance.created_by);
    doc.pinned = content.pinned;
    doc.ttl_days = content.ttl_days;
    doc.expires_at = content.expires_at;
    doc.created_at = content.created_at;
    doc.updated_at = content.updated_at;
    doc.seq = seq;
}

impl ItemSource for Reader<'_> {
    fn scope(&self) -> Scope {
        self.state.key.scope
    }

    fn identity(&self) -> String {
        self.state.key.to_string()
    }

    fn index(&self) -> &TextIndex {
        &self.views.text
    }

    fn head(&self) -> Seq {
        self.head
    }

    fn config_generation(&self) -> u64 {
        self.config_generation
    }

    fn parameters(&self) -> Parameters {
        Parameters::from(&self.config.search)
    }

    fn confidence(&self) -> ConfidenceConfig {
        self.config.confidence
    }

    fn result_lifetime(&self) -> Duration {
        let cache = &self.config.search.cache;
        let wanted = cache.query_cache_size > 0;
        Duration::from_secs(if wanted { cache.result_cache_ttl } else { 0 })
    }

    fn item(&self, id: &ItemId) -> Result<Option<Item>> {
        self.find(id)?.map(|seen| Reader::item(self, &seen)).transpose()
    }

    fn counters(&self, id: &ItemId) -> Result<Counters> {
        match self.at {
            Some(at) => self.view.counters_at(id, at, self.now),
            None => Ok(self.view.item(id)?.map(|item| item.counters()).unwrap_or_default()),
        }
    }

    fn may_have_counters(&self, id_hash: u64) -> bool {
        self.state.counted.contains(id_hash)
    }

    fn has_counters(&self) -> bool {
        !self.state.counted.is_empty()
    }

    fn damaged(&self) -> usize {
        self.damaged.get()
    }

    fn past(&self) -> Result<Option<Past>> {
        let Some(at) = self.at else { return Ok(None) };
        let mut overlay = Overlay::default();
        let share = self.each_changed_since(at, "a search", |id, seen| {
            overlay.add(match seen {
                None => Change::Remove { seq: at, id },
                // Of the past the skeleton is the whole content.
                Some(seen) => {
                    let doc = index_doc(&seen.skeleton, seen.seq);
                    Change::Put { seq: seen.seq, doc: Box::new(doc) }
                }
            });
            overlay.bytes()
        })?;
        Ok(Some(Past::new(overlay, share)))
    }
}
