//! Which items have been used or voted on. The text index does not know, and asking the catalog for
//! every candidate of a search would take longer than the search.

use hashbrown::HashSet;
use parking_lot::RwLock;

use crate::catalog::ReadView;
use crate::error::Result;
use crate::ids::ItemId;
use crate::text::id_hash;

/// Hashes of the ids of items that may have counters; others have none.
#[derive(Debug, Default)]
pub(crate) struct Counted(RwLock<HashSet<u64>>);

impl Counted {
    /// Those that the catalog has counters of.
    pub(crate) fn of(view: &ReadView) -> Result<Self> {
        let counted = Self::default();
        view.each_counted(|id| counted.insert(id))?;
        Ok(counted)
    }

    /// Remembers an item, before its counters can be seen.
    pub(crate) fn insert(&self, id: &ItemId) {
        self.0.write().insert(id_hash(id));
    }

    /// Whether the item with this [`id_hash`] may have counters.
    pub(crate) fn contains(&self, id_hash: u64) -> bool {
        self.0.read().contains(&id_hash)
    }

    /// Whether no item has any.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }
}
