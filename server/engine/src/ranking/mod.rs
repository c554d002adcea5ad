//! How items are ordered: parameters, and what is added to BM25. Pure: no clock, no disk.

mod boosts;
mod parameters;
mod prior;

pub use boosts::{Boost, MayBe, Signals, score_boosts};
pub use parameters::{BoostFactors, FieldWeights, Parameters};
pub use prior::{Known, Prior};
