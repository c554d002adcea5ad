//! Text search: a committed tantivy index, and the writes that are not in it yet.
//!
//! A write is searchable from the moment [`TextIndex::apply`] returns: it goes into an in-memory
//! [tail](tail) first. A background thread moves the tail into tantivy and commits; meanwhile new
//! writes gather in a second tail. Entries of a tail shadow older ones of the same id, and both
//! kinds are scored with the same statistics by the same formula, so that an item does not move
//! in the ranking because it was committed.
//!
//! When it goes wrong: the index is a view of the journal. A commit that fails leaves the tail
//! where it is, searchable, to be tried again; the watermark tells how far the commit on disk
//! goes, and whoever opens the index replays the journal from there. An index that cannot be
//! opened is [`TextError::Damaged`]: delete its folder and replay from the start.

mod bm25;
mod clauses;
mod committed;
mod directory;
mod document;
mod error;
mod facets;
mod filter;
mod flush;
mod index;
mod query;
mod schema;
mod search;
mod statistics;
mod tail;
mod tokenizer;
mod view;

pub use document::{Change, IndexDoc, TextField, id_hash};
pub use error::TextError;
pub use facets::FacetCounter;
pub use filter::Filter;
pub use index::{TextIndex, TextOptions};
pub(crate) use query::is_quote;
pub use query::{MAX_QUERY_CHARS, MAX_QUERY_TERMS, ParsedQuery, WordMatch, parse, word_matches};
pub use search::{Candidate, Candidates, Overlay, SearchRequest};
pub use statistics::Statistics;
pub(crate) use tail::{Prepared, PreparedChange};

#[cfg(test)]
mod tests;
