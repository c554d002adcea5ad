//! Items, journal, catalog, search and maintenance of llm-memory.
//!
//! The journal is the truth; every other structure is a view with a watermark. This crate is
//! synchronous and knows nothing of MCP, HTTP or Kubernetes.

pub mod api;
mod blocks;
mod catalog;
pub mod config;
pub mod error;
pub mod ids;
pub mod import;
pub mod item;
pub mod journal;
mod lookups;
pub mod pack;
pub mod progress;
pub mod project;
pub mod ranking;
pub mod store;
pub mod text;

pub use error::{EngineError, Result};
pub use store::{Engine, Options};
