//! Tests across crates and processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, helpers between them included"
)]

mod access;
mod cli;
mod concurrency;
mod conformance;
mod crash;
mod demo;
mod docs;
mod faults;
mod mcp;
mod runtime;
mod sdk;
