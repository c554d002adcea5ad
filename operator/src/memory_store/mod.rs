//! The reconciler of MemoryStore: a line of stages, one file each.
//!
//! ```text
//! validate -> dereference -> decide, rollout -> build -> apply -> update_status
//!  (pure)      (client)     (client)  (pure)   (pure)  (client)  (pure, then client)
//! ```
//!
//! A stage that cannot go on ends the line with a status that says why; what runs goes on running.
//! Every stage may be cut off at any moment: the next run begins from what the cluster has.

mod apply;
pub mod build;
pub mod conditions;
mod decide;
pub mod dereference;
pub mod events;
pub mod pods;
pub mod quantity;
mod reconcile;
pub mod rollout;
pub mod schedule;
pub mod tokens;
pub mod update_status;
pub mod validate;

pub use reconcile::{Error, error_policy, reconcile};
