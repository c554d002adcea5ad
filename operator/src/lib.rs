//! The llm-memory operator. `memory_store` is the reconciler; the rest serves it.

pub mod apply;
pub mod args;
pub mod cluster;
pub mod context;
pub mod discovery;
pub mod guard;
pub mod hash;
pub mod http;
pub mod identity;
pub mod lease;
pub mod memory_store;
pub mod metrics;
pub mod names;
pub mod probe;
pub mod probes;
pub mod run;
pub mod server_api;
pub mod telemetry;
