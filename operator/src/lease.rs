//! Leadership by a Lease: of several operators one acts, and another takes over when it is gone.
//!
//! The holder renews its Lease every few seconds. One that cannot renew stops acting before the
//! others may begin: it gives up when two thirds of the time have passed, they wait for all of it.
//! Writes carry the version that was read, so of two that reach for it one gets it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

/// Time after which a Lease that nobody renews is free.
const DURATION: Duration = Duration::from_secs(15);
/// How often the holder renews, and others look.
const PERIOD: Duration = Duration::from_secs(3);

/// A Lease, and the name under which it is held.
#[derive(Debug, Clone)]
pub struct Leadership {
    api: Api<Lease>,
    name: String,
    identity: String,
}

impl Leadership {
    /// The Lease `name` in `namespace`, for the process `identity`.
    pub fn new(client: Client, namespace: &str, name: String, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), name, identity }
    }

    /// Waits until this process leads. False when `stop` came first.
    pub async fn acquire(&self, stop: &CancellationToken) -> bool {
        loop {
            match self.try_hold().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the Lease could not be asked for"),
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return false,
            }
        }
    }

    /// Renews until leadership is lost or `stop`. True when it was lost.
    pub async fn keep(&self, stop: &CancellationToken) -> bool {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return false,
            }
            let attempt = Instant::now();
            match tokio::time::timeout(PERIOD, self.try_hold()).await {
                Ok(Ok(true)) => renewed = attempt,
                Ok(Ok(false)) => return true,
                Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be renewed"),
                Err(_) => tracing::warn!("the Lease could not be renewed in time"),
            }
            if renewed.elapsed() > DURATION * 2 / 3 {
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
                if !is_free(&spec, &self.identity, now) {
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
}

/// Whether `identity` may take or renew.
fn is_free(spec: &LeaseSpec, identity: &str, now: Timestamp) -> bool {
    match spec.holder_identity.as_deref() {
        None | Some("") => true,
        Some(holder) if holder == identity => true,
        Some(_) => {
            let seconds = i64::from(spec.lease_duration_seconds.unwrap_or_default());
            let renewed = spec.renew_time.as_ref().map(|time| time.0);
            renewed.is_none_or(|at| now.duration_since(at) > SignedDuration::from_secs(seconds))
        }
    }
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

    #[test]
    fn a_lease_is_taken_when_free_or_late_and_kept_otherwise() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let later = |seconds| start.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        let held = hold(LeaseSpec::default(), "a", start);
        assert!(is_free(&LeaseSpec::default(), "b", start));
        assert!(is_free(&held, "a", later(5)));
        assert!(!is_free(&held, "b", later(15)));
        assert!(is_free(&held, "b", later(16)));
        let taken = hold(held.clone(), "b", later(16));
        assert_eq!(taken.lease_transitions, Some(2));
        let renewed = hold(held.clone(), "a", later(3));
        assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(1), held.acquire_time));
    }
}
