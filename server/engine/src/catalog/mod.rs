//! The catalog: what is known of every item without reading its text, in redb.

mod backend;

pub(crate) use backend::DiskBackend;
