//! Memory for reading the past: what a search or a graph of an earlier moment lays over the
//! present grows with what has changed since. All readers together hold no more than a budget;
//! whoever finds it used up is refused and comes back later.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{EngineError, Result};
use crate::text::Overlay;

/// Bytes that one reader may hold for one scope.
pub(crate) const MAX_PAST_BYTES: usize = 64 << 20;
/// Bytes that all readers may hold together: one that is alone can read every scope of a caller.
const TOGETHER: usize = 3 * MAX_PAST_BYTES;
/// What a reader that finds no room is told to wait.
const RETRY_AFTER_MS: u64 = 250;

/// What the readers of the past hold, of all scopes of an engine.
#[derive(Debug, Default)]
pub(crate) struct PastMemory(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    readers: usize,
}

impl PastMemory {
    /// A share for one reader of one scope, empty at first.
    pub(crate) fn share(self: &Arc<Self>) -> PastShare {
        self.0.lock().readers += 1;
        PastShare { memory: Arc::clone(self), bytes: 0 }
    }
}

/// Memory of one reader; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct PastShare {
    memory: Arc<PastMemory>,
    bytes: usize,
}

impl PastShare {
    /// Makes it a share of `bytes`.
    ///
    /// # Errors
    /// [`EngineError::Busy`] when the others leave less; the share is then what it was.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<()> {
        let mut held = self.memory.0.lock();
        let others = held.bytes.saturating_sub(self.bytes);
        if bytes > self.bytes && others.saturating_add(bytes) > TOGETHER {
            let waiting = held.readers.saturating_sub(1);
            return Err(EngineError::Busy { waiting, retry_after_ms: RETRY_AFTER_MS });
        }
        held.bytes = others.saturating_add(bytes);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for PastShare {
    fn drop(&mut self) {
        let mut held = self.memory.0.lock();
        held.bytes = held.bytes.saturating_sub(self.bytes);
        held.readers = held.readers.saturating_sub(1);
    }
}

/// What a search of an earlier moment lays over the index of a scope.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) overlay: Overlay,
    /// Kept for as long as the overlay is.
    _share: PastShare,
}

impl Past {
    pub(crate) fn new(overlay: Overlay, share: PastShare) -> Self {
        Self { overlay, _share: share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_one_budget_and_give_back_what_they_took() {
        let memory = Arc::<PastMemory>::default();
        let (mut one, mut other) = (memory.share(), memory.share());
        one.hold(TOGETHER - 10).unwrap();
        other.hold(10).unwrap();
        let refused = other.hold(11).unwrap_err();
        assert!(matches!(refused, EngineError::Busy { waiting: 1, .. }), "{refused}");
        one.hold(TOGETHER - 11).unwrap();
        other.hold(11).unwrap();
        drop(one);
        other.hold(TOGETHER).unwrap();
        drop(other);
        assert_eq!(memory.0.lock().bytes, 0);
        assert_eq!(memory.0.lock().readers, 0);
    }
}
