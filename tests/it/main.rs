//! Tests across crates and processes.

mod cli;
mod crash;
mod docs;
