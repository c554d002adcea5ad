//! Long maintenance as jobs: submitted by a call, run one after another in the background, kept in
//! the data folder (`jobs/`, one document a job), so that whoever waits for a job need not hold a
//! connection and a restart loses none.
//!
//! ```text
//! submit -> pending -> running -> succeeded | finding | failed
//!              \-> cancelled        (every kind may be run twice: a restart runs it again)
//! ```
//!
//! When things go wrong: a job is acknowledged once its document is durable. One that was running
//! when the server ended runs again, three times at most. An outcome that cannot
//! be written stands in memory, and the job runs again after a restart. A document that cannot be
//! read is left where it is and named in the log. In safe mode nothing is written.

mod authority;
mod call;
mod error;
pub(crate) mod figures;
mod folder;
mod job;
mod operation;
mod queue;
mod request;
mod restart;
pub(crate) mod result;
mod retention;
mod routine;
mod verify;
mod worker;

#[cfg(test)]
mod tests;

pub use authority::Authority;
pub use error::JobError;
pub use job::{Job, JobArguments, JobFailure, JobId, JobKind, JobProgress, JobState, Routine};
pub use queue::JobQueue;
pub use request::{Limits, ListFilter, Submission};
pub use worker::{Runner, run};
