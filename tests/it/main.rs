//! Tests across crates and processes.

mod crash;
