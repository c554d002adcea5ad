//! Waiting for objects of the cluster.
//!
//! A watch that breaks is taken up again; only what waiting cannot mend (missing rights, an
//! unknown resource) ends it early. Each change of what is seen is told, so that nobody waits
//! without knowing for what.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watch_object};
use llm_memory_crds::MemoryStore;
use llm_memory_crds::conditions::{ACCEPTED, accepted};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::{Failure, Object};
use crate::units;

/// What is seen in an object.
pub(crate) enum Seen<T> {
    /// Not there yet; in words.
    Pending(String),
    /// What was waited for.
    Reached(T),
    /// It will not come.
    Hopeless(Failure),
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// The object that is looked at.
    pub(crate) object: Object<'a>,
    /// What should happen, as in "waiting for ...".
    pub(crate) what: &'a str,
    /// What to do when it does not happen, as a sentence.
    pub(crate) remedy: &'a str,
    /// How long to wait.
    pub(crate) timeout: Duration,
}

/// Waits until `look` has seen in the object what it wants. It is called with None while the
/// object is not there.
pub(crate) async fn until<K, T>(
    context: &Context,
    wish: Wish<'_>,
    mut look: impl FnMut(Option<&K>) -> Seen<T>,
) -> Result<T, Failure>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let mut seen = "nothing yet".to_owned();
    let waiting = async {
        let watch = watch_object(context.api::<K>(), wish.object.name).default_backoff();
        let mut watch = pin!(watch);
        loop {
            let now = match watch.next().await {
                Some(Ok(object)) => match look(object.as_ref()) {
                    Seen::Pending(words) => words,
                    Seen::Reached(reached) => return Ok(reached),
                    Seen::Hopeless(failure) => return Err(failure),
                },
                Some(Err(error)) => match fatal(error) {
                    Ok(error) => return Err(wish.object.failed("watch", error)),
                    Err(words) => words,
                },
                None => "the watch ended".to_owned(),
            };
            if now != seen {
                context.printer.note(&format!("waiting for {}: {now}", wish.what));
                seen = now;
            }
        }
    };
    match tokio::time::timeout(wish.timeout, waiting).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Timeout {
            waited: units::spelled(wish.timeout),
            what: wish.what.to_owned(),
            seen,
            remedy: wish.remedy.to_owned(),
        }),
    }
}

/// The error as it is when waiting cannot mend it, and in words when it can.
fn fatal(error: watcher::Error) -> Result<kube::Error, String> {
    let words = error.to_string();
    let inner = match error {
        watcher::Error::InitialListFailed(inner)
        | watcher::Error::WatchStartFailed(inner)
        | watcher::Error::WatchFailed(inner) => inner,
        watcher::Error::WatchError(status) => kube::Error::Api(status),
        watcher::Error::NoResourceVersion => return Err(words),
    };
    match &inner {
        kube::Error::Api(status) if [401, 403, 404].contains(&status.code) => Ok(inner),
        _ => Err(words),
    }
}

/// Reasons for which the operator does nothing for a spec, and that do not pass by themselves. What
/// is missing may come.
pub(crate) const HOPELESS: [&str; 2] = [accepted::INVALID_SPEC, accepted::NAME_CONFLICT];

/// Why the operator does nothing for the spec of a store, when it has seen `generation` of it and
/// the reason is one of `reasons`.
pub(crate) fn refused(
    store: &MemoryStore,
    name: &str,
    generation: Option<i64>,
    reasons: &[&str],
) -> Option<Failure> {
    let status = store.status.as_ref()?;
    if status.observed_generation < generation {
        return None;
    }
    let accepted = status.conditions.iter().find(|it| it.type_ == ACCEPTED)?;
    let refused = accepted.status == "False" && reasons.contains(&accepted.reason.as_str());
    refused.then(|| Failure::Refused {
        object: format!("memorystore {name}"),
        reason: format!(
            "the operator refuses the spec ({}): {}",
            accepted.reason, accepted.message
        ),
    })
}
