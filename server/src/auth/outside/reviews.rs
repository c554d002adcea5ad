//! What has been found out about tokens lately, so that one that is shown with every request is
//! not reviewed with every request.
//!
//! A finding is kept under the hash of its token, for a minute at most and never beyond the end
//! of the token; a refusal, and that nobody could be asked, for seconds. Whoever shows a token
//! while it is being reviewed waits for that review. The table is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use llm_memory_engine::ids::Digest;
use quick_cache::sync::Cache;
use tokio::sync::{Mutex, Semaphore};

use super::identity::{Identity, Refusal};
use crate::auth::lockout::Culprit;

/// How long somebody whose token was deleted may go on.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// How long a refused token is not reviewed again.
const BAD_FOR: Duration = Duration::from_secs(5);
/// How long nobody asks an API server that does not answer about the same token.
const SILENT_FOR: Duration = Duration::from_secs(1);
/// Tokens remembered.
const CAPACITY: usize = 4096;
/// Reviews at one time, so that a flood of tokens does not become a flood of reviews.
const AT_ONCE: usize = 16;
/// How often an unknown token is reviewed of one address that is locked out.
const BETWEEN: Duration = Duration::from_secs(1);
/// How long a review may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a review ended; the label of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewResult {
    /// The API server knows the token.
    Authenticated,
    /// It does not.
    Refused,
    /// It could not be asked.
    Unavailable,
    /// There was no need to ask.
    Cached,
}

impl ReviewResult {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authenticated => "authenticated",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Cached => "cached",
        }
    }
}

/// Told how each review ended.
pub type OnReview = Box<dyn Fn(ReviewResult) + Send + Sync>;

type Finding = Result<Identity, Refusal>;

#[derive(Default)]
struct Slot {
    /// The last finding, and until when it counts. Held locked while a review is under way.
    last: Mutex<Option<(Finding, Instant)>>,
    /// Whether the token was good when it was last reviewed.
    known: AtomicBool,
}

/// The table.
pub struct Reviews {
    slots: Cache<Digest, Arc<Slot>>,
    places: Semaphore,
    /// When an unknown token of who is locked out is reviewed again.
    turns: parking_lot::Mutex<BTreeMap<Culprit, Instant>>,
    on_review: OnReview,
}

impl Reviews {
    /// An empty table.
    pub fn new(on_review: OnReview) -> Self {
        Self {
            slots: Cache::new(CAPACITY),
            places: Semaphore::new(AT_ONCE),
            turns: parking_lot::Mutex::default(),
            on_review,
        }
    }

    /// What is known about `token`, which says that it ends after `left`; else what `review`
    /// finds. Of whoever is `locked_out` a token is reviewed at once if it was good before, and of
    /// the others one a second: whoever guesses must not keep the API server busy, nor keep those
    /// out for long who come from the same address with a good token.
    pub async fn finding<F: Future<Output = Finding>>(
        &self,
        token: &str,
        left: Option<Duration>,
        locked_out: Option<&Culprit>,
        now: Instant,
        review: impl FnOnce() -> F,
    ) -> Finding {
        let digest = Digest::of(token.as_bytes());
        let found = self.slots.get(&digest);
        let is_new = found.is_none();
        let slot = match found {
            Some(slot) => slot,
            // Nor do guesses push out of the table what was found out about others.
            None if !self.has_turn(locked_out, now) => return Err(Refusal::LockedOut),
            None => {
                let slot = Arc::<Slot>::default();
                // Of two who come at the same time, both use what the first put there.
                let made = self.slots.get_or_insert_with(&digest, || {
                    Ok::<_, std::convert::Infallible>(Arc::clone(&slot))
                });
                made.unwrap_or(slot)
            }
        };
        let mut last = slot.last.lock().await;
        if let Some((finding, until)) = &*last
            && now < *until
        {
            (self.on_review)(ReviewResult::Cached);
            return finding.clone();
        }
        let known = is_new || slot.known.load(Ordering::Relaxed);
        if !known && !self.has_turn(locked_out, now) {
            return Err(Refusal::LockedOut);
        }
        let finding = match tokio::time::timeout(PATIENCE, self.places.acquire()).await {
            Ok(_place) => review().await,
            Err(_elapsed) => {
                Err(Refusal::Unavailable("too many tokens wait for review".to_owned()))
            }
        };
        let (result, keep) = match &finding {
            Ok(_) => (ReviewResult::Authenticated, left.unwrap_or(GOOD_FOR).min(GOOD_FOR)),
            Err(Refusal::Invalid(_) | Refusal::LockedOut) => (ReviewResult::Refused, BAD_FOR),
            Err(Refusal::Unavailable(_)) => (ReviewResult::Unavailable, SILENT_FOR),
        };
        match result {
            ReviewResult::Authenticated => slot.known.store(true, Ordering::Relaxed),
            ReviewResult::Refused => slot.known.store(false, Ordering::Relaxed),
            ReviewResult::Unavailable | ReviewResult::Cached => {}
        }
        (self.on_review)(result);
        // Counted from when the question was put: what has changed since then may be missing.
        *last = Some((finding.clone(), now + keep));
        finding
    }

    /// Whether an unknown token is reviewed now; of who is locked out only if none was lately.
    fn has_turn(&self, locked_out: Option<&Culprit>, now: Instant) -> bool {
        let Some(culprit) = locked_out else { return true };
        let mut turns = self.turns.lock();
        if turns.get(culprit).is_some_and(|next| now < *next) {
            return false;
        }
        if turns.len() >= CAPACITY {
            turns.retain(|_, next| now < *next);
        }
        if turns.len() >= CAPACITY {
            return false;
        }
        turns.insert(culprit.clone(), now + BETWEEN);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Bench {
        reviews: Reviews,
        asked: AtomicUsize,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let reviews = Reviews::new(Box::new(|_| {}));
            Self { reviews, asked: AtomicUsize::new(0), start: Instant::now() }
        }

        async fn show(&self, after: u64, left: Option<u64>, locked: bool, say: Finding) -> Finding {
            self.show_as("token", after, left, locked, say).await
        }

        async fn show_as(
            &self,
            token: &str,
            after: u64,
            left: Option<u64>,
            locked: bool,
            say: Finding,
        ) -> Finding {
            let address = Culprit::of_address([10, 0, 0, 1].into());
            let locked = locked.then_some(&address);
            let now = self.start + Duration::from_secs(after);
            let left = left.map(Duration::from_secs);
            let review = || async {
                self.asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                say
            };
            self.reviews.finding(token, left, locked, now, review).await
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    fn planner() -> Finding {
        Ok(Identity::of_username("system:serviceaccount:agents:planner", Vec::new()))
    }

    fn no() -> Finding {
        Err(Refusal::Invalid("no".to_owned()))
    }

    #[tokio::test]
    async fn a_finding_is_kept_for_a_minute_and_never_beyond_the_end_of_the_token() {
        let bench = Bench::new();
        assert_eq!(bench.show(0, Some(3600), false, planner()).await, planner());
        assert_eq!(bench.show(59, Some(3541), false, no()).await, planner());
        assert_eq!(bench.show(60, Some(10), false, planner()).await, planner());
        assert_eq!(bench.show(69, Some(1), false, no()).await, planner());
        assert_eq!(bench.show(70, Some(0), false, no()).await, no());
        assert_eq!(bench.asked(), 3);
    }

    #[tokio::test]
    async fn refusals_and_silence_are_kept_for_seconds() {
        let bench = Bench::new();
        let silent = || Err(Refusal::Unavailable("down".to_owned()));
        assert_eq!(bench.show(0, None, false, silent()).await, silent());
        assert_eq!(bench.show(0, None, false, planner()).await, silent());
        assert_eq!(bench.show(1, None, false, no()).await, no());
        assert_eq!(bench.show(5, None, false, planner()).await, no());
        assert_eq!(bench.show(6, None, false, planner()).await, planner());
        assert_eq!(bench.asked(), 3);
    }

    #[tokio::test]
    async fn whoever_comes_during_a_review_waits_for_it() {
        let bench = Bench::new();
        let both = futures_util::future::join(
            bench.show(0, None, false, planner()),
            bench.show(0, None, false, no()),
        );
        assert_eq!(both.await, (planner(), planner()));
        assert_eq!(bench.asked(), 1);
    }

    #[tokio::test]
    async fn from_an_address_that_is_locked_out_unknown_tokens_are_reviewed_one_a_second() {
        let bench = Bench::new();
        let locked = Err(Refusal::LockedOut);
        assert_eq!(bench.show_as("guess", 0, None, true, no()).await, no());
        assert_eq!(bench.show(0, None, true, planner()).await, locked);
        assert_eq!(bench.show(1, None, true, planner()).await, planner());
        assert_eq!(bench.show_as("guess", 1, None, true, planner()).await, no(), "it is known");
        assert_eq!(bench.show_as("guess", 100, None, true, no()).await, no());
        assert_eq!(bench.show_as("other", 100, None, true, planner()).await, locked);
        assert_eq!(bench.show(100, None, true, planner()).await, planner(), "it was good before");
        assert_eq!(bench.show(200, None, true, no()).await, no());
        assert_eq!(bench.show_as("other", 200, None, true, planner()).await, planner());
        assert_eq!(bench.show(206, None, true, planner()).await, planner());
        assert_eq!(bench.asked(), 7);
    }
}
