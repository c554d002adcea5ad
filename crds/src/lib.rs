//! The resources that people and the operator agree on: group `llm-memory.dev`, version
//! `v1alpha1`.
//!
//! Types here are the schema: `kubectl explain` prints their doc comments, the API server enforces
//! the CEL rules written on them, and the manifests in `charts/llm-memory-crds` are made from them
//! (`./justw crds`). They know nothing of the operator.

#![allow(
    unreachable_pub,
    reason = "the derive of schemas makes a public copy of each type inside a private scope"
)]

pub mod conditions;
pub mod manifest;
pub mod memory_store;

pub use memory_store::{MemoryStore, MemoryStoreSpec, MemoryStoreStatus};

/// API group of all resources.
pub const GROUP: &str = "llm-memory.dev";
/// Version of all resources.
pub const VERSION: &str = "v1alpha1";
