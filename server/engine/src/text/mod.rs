//! Text search: a tantivy index and the writes that are not in it yet.

mod directory;

pub(crate) use directory::DiskDirectory;
