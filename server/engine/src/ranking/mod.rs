//! How items are ordered: parameters, and what is added to BM25. Pure: no clock, no disk.

mod boosts;
mod parameters;
mod prior;
mod unseen;

pub use boosts::{Boost, Signals, score_boosts};
pub use parameters::{BoostFactors, FieldWeights, Parameters};
pub use prior::{Known, Prior};
pub use unseen::Unseen;
