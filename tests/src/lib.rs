//! Cross-crate tests: crash, faults, compatibility, real clients. This library is what they
//! share; the programs in `bin/` are recipes of the justfile.

pub mod bench;
pub mod client;
pub mod clients;
pub mod corpus;
pub mod crash;
pub mod demo;
pub mod random;
pub mod server;
pub mod stop;
