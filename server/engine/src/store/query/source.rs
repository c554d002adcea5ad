//! What a query needs of a scope.

use std::time::Duration;

use crate::error::Result;
use crate::ids::{ItemId, Scope, Seq};
use crate::item::{ConfidenceConfig, Counters, Item, Sensitivity};
use crate::ranking::Parameters;
use crate::store::past::Past;
use crate::text::TextIndex;

/// One scope at one moment, with one caller's eyes.
pub(crate) trait ItemSource {
    /// The scope.
    fn scope(&self) -> Scope;

    /// Name of the journal, unlike that of every other scope of every tenant and project.
    fn identity(&self) -> String;

    /// The text index of the present.
    fn index(&self) -> &TextIndex;

    /// Last record whose effects this source shows. Must not name a record before the index and
    /// the catalog have it.
    fn head(&self) -> Seq;

    /// Changes whenever the scope's configuration does.
    fn config_generation(&self) -> u64;

    /// Ranking parameters of the scope.
    fn parameters(&self) -> Parameters;

    /// How confidence is computed.
    fn confidence(&self) -> ConfidenceConfig;

    /// How long a result may be kept; zero switches the query cache off.
    fn result_lifetime(&self) -> Duration;

    /// The item as of this source's moment, unless it does not exist for the caller.
    fn item(&self, id: &ItemId) -> Result<Option<Item>>;

    /// Usage and feedback of an item as of this source's moment.
    fn counters(&self, id: &ItemId) -> Result<Counters>;

    /// Whether the item with this [`id_hash`](crate::text::id_hash) may have been used or voted
    /// on; `false` spares a call of [`Self::counters`].
    fn may_have_counters(&self, id_hash: u64) -> bool;

    /// Whether any item may have been used or voted on.
    fn has_counters(&self) -> bool;

    /// For a moment in the past: every item that has changed since, as it was then. `None` for
    /// the present.
    fn past(&self) -> Result<Option<Past>>;

    /// Items passed over so far because they are damaged.
    fn damaged(&self) -> usize;
}

/// What a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Eyes {
    /// Nothing more secret than this.
    pub(crate) clearance: Sensitivity,
    /// Only what this subject created.
    pub(crate) owner: Option<String>,
}

impl Eyes {
    /// Whether nothing is kept from the caller.
    pub(crate) fn see_all(&self) -> bool {
        self.clearance == Sensitivity::Private && self.owner.is_none()
    }
}
