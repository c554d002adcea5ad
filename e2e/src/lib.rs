//! What tests on a real cluster share: the cluster that `KUBECONFIG` names, a namespace of its own
//! for each test, waiting, and a folder of evidence for those that fail.
//!
//! `./justw e2e` brings the cluster, the images and the operator; these tests expect them.
//!
//! Two programs, `scale` and `chaos`, measure the operator as a process of this machine instead: in
//! a cluster without an installed one, on nodes that kwok plays. `--help` says how they are called.

pub mod agents;
pub mod audit;
pub mod companions;
pub mod evidence;
pub mod fleet;
pub mod inventory;
pub mod jobs;
pub mod operator;
pub mod plugin;
pub mod pods;
pub mod requests;
pub mod rights;
pub mod scratch;
pub mod script;
pub mod stores;
pub mod wait;

pub use scratch::{Scratch, scratch};
