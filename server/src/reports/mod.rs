//! What the monitoring commands find out, as pure functions over what they read: no clock, no
//! disk, no network. A figure that cannot be computed is absent ("no data"), never guessed.

pub(crate) mod audit_lines;
pub(crate) mod by_scope;
pub(crate) mod damage;
pub(crate) mod finding;
pub(crate) mod ladder;
pub(crate) mod latency;
pub(crate) mod log_lines;
pub(crate) mod monitor;
pub(crate) mod score;
pub(crate) mod verdict;
