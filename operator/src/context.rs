//! What every reconciliation needs, and how often the ones that fail are tried again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use kube::runtime::reflector::ObjectRef;
use llm_memory_crds::MemoryStore;
use parking_lot::Mutex;

use crate::apply::Applier;
use crate::cluster::Cluster;
use crate::memory_store::build::OperatorIdentity;
use crate::memory_store::events::Told;
use crate::metrics::Metrics;
use crate::probes::Probes;

/// What the operator was told when it was started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Image of servers whose spec names none.
    pub server_image: String,
    /// The operator, as servers know it.
    pub identity: OperatorIdentity,
    /// Domain of the cluster.
    pub cluster_domain: String,
}

/// What every reconciliation needs.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Settings.
    pub settings: Arc<Settings>,
    /// Watched objects.
    pub cluster: Arc<Cluster>,
    /// Writes objects.
    pub applier: Arc<Applier>,
    /// Asks servers.
    pub probes: Arc<Probes>,
    /// What people were told lately.
    pub told: Arc<Told>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Failures in a row of each store.
    pub failures: Arc<Failures>,
    /// Sizes that the cluster refused.
    pub refusals: Arc<Refusals>,
}

/// How long a refused size is not asked for again.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// Sizes that the cluster refused, by the uid of the store, so that each is asked for now and then
/// and not at every look.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, (String, Instant, String)>>);

impl Refusals {
    /// Why `size` was refused lately.
    pub fn remembered(&self, uid: &str, size: &str) -> Option<String> {
        let refusals = self.0.lock();
        let (refused, at, why) = refusals.get(uid)?;
        (refused == size && at.elapsed() < REFUSED_FOR).then(|| why.clone())
    }

    /// Remembers that `size` was refused. Of a store one size is remembered, and of stores that
    /// are gone nothing after a while.
    pub fn remember(&self, uid: &str, size: &str, why: &str) {
        let mut refusals = self.0.lock();
        refusals.retain(|_, (_, at, _)| at.elapsed() < REFUSED_FOR);
        refusals.insert(uid.to_owned(), (size.to_owned(), Instant::now(), why.to_owned()));
    }
}

/// How often a failure that changes its words is told anew.
const TOLD_FOR: Duration = Duration::from_secs(30);

/// Failures in a row, and the time to wait after each.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<ObjectRef<MemoryStore>, Streak>>);

#[derive(Debug, Default)]
struct Streak {
    count: u32,
    told: Option<Instant>,
}

impl Failures {
    /// Whether another failure of the same kind may be told in its own words. What is told is a
    /// change of the store, upon which it is tried again: words that are never the same twice, such
    /// as those with the number of a port, would make that a loop.
    pub fn may_tell(&self, store: &ObjectRef<MemoryStore>) -> bool {
        let mut failures = self.0.lock();
        let streak = failures.entry(store.clone()).or_default();
        if streak.told.is_some_and(|at| at.elapsed() < TOLD_FOR) {
            return false;
        }
        streak.told = Some(Instant::now());
        true
    }

    /// Counts a failure, and says when to try again: a second, doubled with each failure up to two
    /// minutes, a quarter more or less, so that stores that failed together do not return together.
    pub fn failed(&self, store: ObjectRef<MemoryStore>) -> Duration {
        let mut failures = self.0.lock();
        let count = &mut failures.entry(store).or_default().count;
        let seconds = f64::from(1_u32 << (*count).min(7)).min(120.0);
        *count = count.saturating_add(1);
        Duration::from_secs_f64(seconds * rand::random_range(0.75..1.25))
    }

    /// Forgets the failures of a store.
    pub fn succeeded(&self, store: &ObjectRef<MemoryStore>) {
        self.0.lock().remove(store);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refused_size_is_remembered() {
        let refusals = Refusals::default();
        refusals.remember("u", "2Gi", "no");
        assert_eq!(refusals.remembered("u", "2Gi").as_deref(), Some("no"));
        assert_eq!(refusals.remembered("u", "3Gi"), None);
        assert_eq!(refusals.remembered("v", "2Gi"), None);
    }

    #[test]
    fn waits_grow_and_are_bounded_and_end_with_success() {
        let failures = Failures::default();
        let store = || ObjectRef::new("m").within("team");
        let waits: Vec<f64> = (0..20).map(|_| failures.failed(store()).as_secs_f64()).collect();
        assert!(waits[0] < 1.3 && waits[5] > 20.0, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 150.0), "{waits:?}");
        assert!(failures.may_tell(&store()) && !failures.may_tell(&store()));
        failures.succeeded(&store());
        assert!(failures.may_tell(&store()));
        assert!(failures.failed(store()).as_secs_f64() < 1.3);
    }
}
