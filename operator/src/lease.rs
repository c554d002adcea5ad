//! Leadership by a Lease: of several operators one acts, and another takes over when it is gone.
//!
//! The holder renews its Lease every few seconds. One that cannot renew stops acting before the
//! others may begin: it gives up when two thirds of the time have passed since it last could, they
//! wait for all of it. Nobody's clock is compared with another's: those who wait measure for how
//! long they have seen the same Lease. Writes carry the version that was read, so of two that reach
//! for it one gets it.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time after which a Lease that nobody renews is free.
const DURATION: Duration = Duration::from_secs(15);
/// Time after which a holder that cannot renew gives up.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How often the holder renews, and others look; also how long a request may take.
const PERIOD: Duration = Duration::from_secs(3);

/// A Lease, and the name under which it is held.
#[derive(Debug)]
pub struct Leadership {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// Somebody else's Lease, and since when it has been seen like this.
    seen: Mutex<Option<(LeaseSpec, Instant)>>,
}

impl Leadership {
    /// The Lease `name` in `namespace`, for the process `identity`.
    pub fn new(client: Client, namespace: &str, name: String, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), name, identity, seen: Mutex::default() }
    }

    /// Waits until this process leads, and answers since when; `None` when `stop` came first.
    pub async fn acquire(&self, stop: &CancellationToken) -> Option<Instant> {
        loop {
            let attempt = Instant::now();
            match in_time(attempt + PERIOD, self.try_hold()).await {
                Some(Ok(true)) => return Some(attempt),
                Some(Ok(false)) => {}
                Some(Err(error)) => tracing::warn!(%error, "the Lease could not be asked for"),
                None => tracing::warn!("the Lease could not be asked for in time"),
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return None,
            }
        }
    }

    /// Renews until leadership, held since `renewed`, is lost, or `stop`. True when it was lost.
    pub async fn keep(&self, mut renewed: Instant, stop: &CancellationToken) -> bool {
        loop {
            let end = renewed + GIVE_UP;
            tokio::select! {
                () = tokio::time::sleep_until(end.min(Instant::now() + PERIOD)) => {}
                () = stop.cancelled() => return false,
            }
            let attempt = Instant::now();
            match in_time(end.min(attempt + PERIOD), self.try_hold()).await {
                Some(Ok(true)) => renewed = attempt,
                Some(Ok(false)) => return true,
                Some(Err(error)) => tracing::warn!(%error, "the Lease could not be renewed"),
                None => tracing::warn!("the Lease could not be renewed in time"),
            }
            if renewed.elapsed() >= GIVE_UP {
                return true;
            }
        }
    }

    /// Frees the Lease, so that another need not wait.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else { return };
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return;
        }
        spec.holder_identity = None;
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::debug!(%error, "the Lease ends by itself");
        }
    }

    async fn try_hold(&self) -> Result<bool, kube::Error> {
        let now = Timestamp::now();
        let found = self.api.get_opt(&self.name).await?;
        let written = match found {
            None => {
                let lease = Lease {
                    metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                    spec: Some(hold(LeaseSpec::default(), &self.identity, now)),
                };
                self.api.create(&PostParams::default(), &lease).await
            }
            Some(mut lease) => {
                let spec = lease.spec.take().unwrap_or_default();
                if !self.may_take(&spec) {
                    return Ok(false);
                }
                lease.spec = Some(hold(spec, &self.identity, now));
                self.api.replace(&self.name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the Lease is ours or free, or has been seen unrenewed for all of its time.
    fn may_take(&self, spec: &LeaseSpec) -> bool {
        if is_free(spec, &self.identity) {
            return true;
        }
        let mut seen = self.seen.lock();
        match &*seen {
            Some((known, since)) if known == spec => {
                let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default());
                since.elapsed() > Duration::from_secs(seconds.unwrap_or_default())
            }
            _ => {
                *seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }
}

/// What comes of `work` until `end`.
async fn in_time<T>(end: Instant, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(end, work).await.ok()
}

/// Whether nobody but `identity` holds it.
fn is_free(spec: &LeaseSpec, identity: &str) -> bool {
    spec.holder_identity.as_deref().is_none_or(|holder| holder.is_empty() || holder == identity)
}

/// The Lease as `identity` holds it.
fn hold(spec: LeaseSpec, identity: &str, now: Timestamp) -> LeaseSpec {
    let same = spec.holder_identity.as_deref() == Some(identity);
    let transitions = spec.lease_transitions.unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if same { spec.acquire_time } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if same { transitions } else { transitions.saturating_add(1) }),
        ..spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leadership() -> Leadership {
        let (service, _handle) = tower_test::mock::pair::<
            http::Request<kube::client::Body>,
            http::Response<kube::client::Body>,
        >();
        let client = Client::new(service, "system");
        Leadership::new(client, "system", "lease".to_owned(), "b".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_when_it_was_seen_unrenewed_for_all_of_its_time() {
        // The holder's clock is of no interest: this one is a day behind.
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-01-01T00:00:03Z".parse().unwrap();
        let held = hold(LeaseSpec::default(), "a", start);
        let waiting = leadership();
        assert!(waiting.may_take(&LeaseSpec::default()));
        assert!(waiting.may_take(&hold(LeaseSpec::default(), "b", start)));
        assert!(!waiting.may_take(&held), "seen for the first time");
        tokio::time::advance(DURATION).await;
        assert!(!waiting.may_take(&held));
        let renewed = hold(held.clone(), "a", later);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!waiting.may_take(&renewed), "it was renewed");
        tokio::time::advance(DURATION + Duration::from_secs(1)).await;
        assert!(waiting.may_take(&renewed));
        let taken = hold(renewed.clone(), "b", later);
        assert_eq!(taken.lease_transitions, Some(2));
        assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(1), held.acquire_time));
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_nobody_answers_gives_up_before_others_begin() {
        let holder = leadership();
        let start = Instant::now();
        assert!(holder.keep(start, &CancellationToken::new()).await);
        assert!(start.elapsed() < DURATION, "{:?}", start.elapsed());
    }
}
