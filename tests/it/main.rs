//! Tests across crates and processes.

mod cli;
mod concurrency;
mod conformance;
mod crash;
mod docs;
mod faults;
mod mcp;
mod sdk;
