//! How long work tells how far it is.

/// Receives the progress of a long operation. Called from the thread that does the work, so it
/// must return quickly.
pub trait Progress: Sync {
    /// `done` of `total` units (`None`: not known yet) of what `what` names.
    fn report(&self, done: u64, total: Option<u64>, what: &str);
}

/// Nobody is listening.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn report(&self, _done: u64, _total: Option<u64>, _what: &str) {}
}
