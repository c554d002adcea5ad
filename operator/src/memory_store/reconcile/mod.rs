//! The driver: runs the stages and writes the status.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use llm_memory_crds::conditions::{
    ACCEPTED, PROGRESSING, READY, STORAGE_HEALTHY, accepted, progressing, ready, storage,
};
use llm_memory_crds::memory_store::UpdatePhase;
use llm_memory_crds::{MemoryStore, MemoryStoreStatus};
use serde_json::json;
use thiserror::Error;

use super::apply::{apply, claim_size};
use super::conditions::Now;
use super::decide::{ask, begin_verification, decide};
use super::dereference::{DereferenceError, Found, authority, dereference};
use super::rollout::{Plan, PodState, Replace};
use super::tokens::TokensError;
use super::update_status::{self, Observed};
use super::validate::{Store, validate};
use super::{events, pods};
use crate::apply::ApplyError;
use crate::context::Context;
use crate::guard::Guarded;
use crate::names::{FIELD_MANAGER, Names, labels_of_claims};
use crate::probes::Answer;

/// A store that nothing happens to is looked at this often, and a bit.
const IDLE: Duration = Duration::from_secs(300);
/// A step of an update is looked at this often.
const STEP: Duration = Duration::from_secs(2);
/// A store that changed while it was looked at is looked at again after this.
const AGAIN: Duration = Duration::from_millis(300);
/// A store that waits for its pod is looked at this often: after [`update_status::SLOW_POD`] there
/// is something to say.
const POD: Duration = Duration::from_secs(31);
/// What is missing is looked for this often.
const MISSING: Duration = Duration::from_secs(15);
/// The longest that looking things up may take, or applying all objects; what was applied until
/// then is not applied again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest look. An API server that takes requests and answers none must not hold one of the
/// few places for ever.
const LONGEST: Duration = Duration::from_secs(90);

/// Why a reconciliation is tried again.
#[derive(Debug, Error)]
pub enum Error {
    /// Something could not be looked up.
    #[error(transparent)]
    Dereference(#[from] DereferenceError),
    /// The tokens cannot be carried on from.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// An object could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The pod could not be replaced.
    #[error("the pod could not be replaced: {0}")]
    Replace(#[source] Box<kube::Error>),
    /// The status could not be written.
    #[error("the status could not be written: {0}")]
    Status(#[source] Box<kube::Error>),
    /// It took too long.
    #[error("the API server did not answer within {} s", PATIENCE.as_secs())]
    TimedOut,
}

impl Error {
    /// The label of the metric.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Dereference(_) => "dereference",
            Self::Tokens(_) => "tokens",
            Self::Apply(_) => "apply",
            Self::Replace(_) => "replace",
            Self::Status(_) => "status",
            Self::TimedOut => "timeout",
        }
    }
}

/// Brings the cluster to what `object` asks for, a step further.
pub async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let object = match &object.0 {
        Ok(object) => object,
        Err(invalid) => {
            // Written past the schema, by another version of it, or too large. Nothing can be said
            // on the object itself; the others go on.
            tracing::error!(
                namespace = invalid.metadata.namespace,
                name = invalid.metadata.name,
                error = invalid.error,
                "a MemoryStore cannot be read; where its size is not the reason, apply the definitions of this version"
            );
            context.metrics.failed("malformed");
            return Ok(Action::await_change());
        }
    };
    let started = std::time::Instant::now();
    let reference = reference(object);
    if object.metadata.deletion_timestamp.is_some() {
        context.probes.forget(&reference);
        return Ok(Action::await_change());
    }
    let outcome =
        tokio::time::timeout(LONGEST, run(object, &context)).await.unwrap_or(Err(Error::TimedOut));
    context.metrics.reconciled(started.elapsed(), outcome.is_ok());
    if outcome.is_ok() {
        context.failures.succeeded(&reference);
    }
    outcome
}

/// When a failed reconciliation is tried again.
pub fn error_policy(object: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.failed(error.label());
    let reference =
        ObjectRef::new(&object.name_any()).within(&object.namespace().unwrap_or_default());
    let wait = context.failures.failed(reference);
    tracing::warn!(
        namespace = object.namespace(), name = object.name_any(), %error,
        retry_in_seconds = wait.as_secs_f64(), "reconciling failed"
    );
    Action::requeue(wait)
}

fn reference(object: &MemoryStore) -> ObjectRef<MemoryStore> {
    ObjectRef::new(&object.name_any()).within(&object.namespace().unwrap_or_default())
}

async fn run(object: &MemoryStore, context: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    let mut before = object.status.clone().unwrap_or_default();
    let mut version = object.resource_version();
    let store = match validate(object) {
        Ok(store) => store,
        Err(invalid) => {
            let reason = accepted::INVALID_SPEC;
            refuse(object, context, &before, reason, &invalid.to_string(), now).await?;
            return Ok(Action::await_change());
        }
    };
    let looked = in_time(async {
        dereference(&context.client, &context.cluster, &store).await.map_err(Error::from)
    });
    let found = match looked.await {
        Ok(found) => found,
        Err(Error::Dereference(missing @ DereferenceError::Missing { .. })) => {
            let reason = accepted::REFERENCE_NOT_FOUND;
            refuse(object, context, &before, reason, &missing.to_string(), now).await?;
            return Ok(Action::requeue(MISSING));
        }
        Err(error) => {
            let failed = apply_failed(object, context, &before, &error);
            let told = hold_up(object, context, &before, failed, now).await;
            if let Err(untold) = told {
                tracing::warn!(name = object.name_any(), error = %untold, "nor can it be told");
            }
            return Err(error);
        }
    };
    let (answer, target) =
        ask(context, object, found.pod.as_deref(), found.authority.as_deref(), &before);
    if let Some(trouble) = claim_trouble(context, &store, &found, &before).await? {
        hold_up(object, context, &before, trouble, now).await?;
        return Ok(Action::requeue(MISSING));
    }
    let mut plan = decide(context, &store, &found, &before, &answer, now);
    if plan.verify {
        begin_verification(context, &store, &mut plan, target.as_ref()).await;
    }
    if let Some(early) = step(&before, &plan) {
        // Remembered before anything is changed: whoever is cut off here goes on from this step,
        // and takes an image back that does not start.
        match write_status(object, context, &before, &early, version).await? {
            Written::As(newer) => version = newer,
            Written::Stale => return Ok(Action::requeue(AGAIN)),
        }
        before = early;
    }
    let mut refused_claim = None;
    let mut failure = None;
    let mut next_token_end = None;
    // An image that was not tried yet has its time from when it is.
    let mut untried = false;
    let mut outdated = is_outdated(&found);
    if !store.spec.paused {
        match in_time(apply(object, context, &store, &found, &plan, now)).await {
            Ok(applied) => {
                refused_claim = applied.refused_claim;
                next_token_end = applied.next_token_end;
                outdated |= applied.held;
                failure = applied.failure;
                if applied.new_template {
                    outdated = true;
                } else {
                    let replaced = replace_pod(object, context, &store, &found, &plan, &answer);
                    match in_time(replaced).await {
                        Ok(replaced) => untried = replaced,
                        Err(error) => failure = Some(error),
                    }
                }
            }
            Err(Error::Apply(foreign @ ApplyError::Foreign { .. })) => {
                let reason = accepted::NAME_CONFLICT;
                refuse(object, context, &before, reason, &foreign.to_string(), now).await?;
                return Ok(Action::requeue(MISSING));
            }
            Err(error) => {
                failure = Some(error);
                untried = true;
            }
        }
    }
    if untried
        && let Some(update) = &mut plan.update
        && update.phase == UpdatePhase::RollingOut
    {
        update.since = update.since.as_ref().map(|_| Time(now));
    }
    let requested = claim_size(&store, &found);
    let mut status = update_status::status(&Observed {
        store: &store,
        before: &before,
        plan: &plan,
        pod: found.pod.as_deref(),
        outdated,
        claim: found.claim.as_deref(),
        requested: &requested,
        refused_claim: refused_claim.as_deref(),
        missing: found.missing.as_deref(),
        answer: &answer,
        encrypted: found.pod.as_deref().map_or(found.tls.is_some(), pods::is_encrypted),
        selector: selector(&store),
        now,
    });
    if let Some(error) = &failure {
        let failed = vec![apply_failed(object, context, &before, error)];
        update_status::replace(&mut status, &before, failed, store.generation, now);
    }
    let written = write_status(object, context, &before, &status, version).await;
    if let Some(error) = failure {
        if let Err(untold) = written {
            tracing::warn!(name = object.name_any(), error = %untold, "nor can it be told");
        }
        return Err(error);
    }
    let written = written?;
    Ok(Action::requeue(match written {
        Written::As(_) if found.missing.is_some() => MISSING,
        Written::As(_) => {
            let look = next_look(&store, &plan, next_token_end, now);
            let awaits_pod = store.spec.replicas > 0 && !store.spec.paused && found.pod.is_none();
            if awaits_pod { look.min(POD) } else { look }
        }
        Written::Stale => AGAIN,
    }))
}

/// A stage that ends in time.
async fn in_time<T>(stage: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(PATIENCE, stage).await.unwrap_or(Err(Error::TimedOut))
}

/// The status that remembers a step of an update which is about to change objects, when `before`
/// does not.
fn step(before: &MemoryStoreStatus, plan: &Plan) -> Option<MemoryStoreStatus> {
    let update = plan.update.as_ref()?;
    let changes = matches!(update.phase, UpdatePhase::RollingOut | UpdatePhase::RollingBack);
    let known = before.update.as_ref().is_some_and(|known| {
        (known.phase, &known.to, &known.from) == (update.phase, &update.to, &update.from)
    });
    (changes && !known).then(|| MemoryStoreStatus {
        update: Some(update_status::remembered(update)),
        ..before.clone()
    })
}

/// When to look again, if nothing happens before.
fn next_look(
    store: &Store,
    plan: &Plan,
    next_token_end: Option<Timestamp>,
    now: Timestamp,
) -> Duration {
    let stepping = plan.update.as_ref().is_some_and(|update| {
        matches!(
            update.phase,
            UpdatePhase::Verifying | UpdatePhase::RollingOut | UpdatePhase::RollingBack
        )
    });
    if stepping && !store.spec.paused && store.spec.replicas > 0 {
        return STEP;
    }
    let idle = IDLE.mul_f64(rand::random_range(0.8..1.2));
    let rotation = store.spec.mcp.auth.rotate_at.as_ref().map(|time| time.0);
    [rotation, next_token_end, store.restart_requested]
        .into_iter()
        .flatten()
        .filter(|moment| *moment > now)
        .filter_map(|moment| Duration::try_from(moment.duration_since(now)).ok())
        .map(|wait| wait + Duration::from_secs(1))
        .fold(idle, Duration::min)
}

fn selector(store: &Store) -> String {
    let labels = store.names.selector();
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// Why nothing may be done to a store that had a claim. Without it a pod that is made anew would
/// begin with an empty volume, and nobody would notice that everything is gone.
async fn claim_trouble(
    context: &Context,
    store: &Store,
    found: &Found,
    before: &MemoryStoreStatus,
) -> Result<Option<Now>, Error> {
    let now = |reason, message| Some(Now::new(STORAGE_HEALTHY, false, reason, message));
    if let Some(claim) = &found.claim {
        let name = claim.name_any();
        return Ok(claim.metadata.deletion_timestamp.as_ref().and_then(|_| {
            let message = format!(
                "the claim {name} was deleted, and goes with its data when the pod ends: nothing is \
                 changed that would end it. Copy the data to another store while this one serves"
            );
            now(storage::DELETING, message)
        }));
    }
    let had_one = before.storage.as_ref().is_some_and(|storage| storage.actual.is_some());
    if !had_one {
        return Ok(None);
    }
    let name = store.names.claim();
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &store.names.namespace);
    let looked = in_time(async {
        let found = api.get_opt(&name).await;
        found.map_err(|source| {
            let source = Box::new(source);
            DereferenceError::Api { what: format!("PersistentVolumeClaim {name}"), source }.into()
        })
    });
    if looked.await?.is_some() {
        // The cache has not seen it yet.
        return Ok(None);
    }
    let message = format!(
        "the claim {name} is gone, and no empty one takes its place. Where its volume is still \
         there (reclaim policy Retain), make a claim of this name for it, with the labels {}; \
         otherwise delete the MemoryStore and make it again",
        labels_of_claims(&store.names.store)
    );
    Ok(now(storage::LOST, message))
}

/// Whether the pod is of another template than today's, or the controller has not said yet.
fn is_outdated(found: &Found) -> bool {
    let state = pods::state(found.pod.as_deref(), found.stateful_set.as_deref(), true);
    matches!(state, PodState::Outdated { .. } | PodState::Unknown { .. })
}

/// Replaces the pod when that is due; whether it was.
async fn replace_pod(
    object: &MemoryStore,
    context: &Context,
    store: &Store,
    found: &Found,
    plan: &Plan,
    answer: &Answer,
) -> Result<bool, Error> {
    let Some(pod) = found.pod.as_deref() else { return Ok(false) };
    let answers = matches!(answer.handshake, Some(Ok(_)));
    let state = pods::state(Some(pod), found.stateful_set.as_deref(), answers);
    let due = match (plan.replace, state) {
        (Replace::Outdated | Replace::Always, PodState::Outdated { .. })
        | (Replace::Always, PodState::Current { .. }) => true,
        (Replace::Never | Replace::Outdated, _)
        | (Replace::Always, PodState::Absent | PodState::Ending | PodState::Unknown { .. }) => {
            false
        }
    };
    if !due {
        return Ok(false);
    }
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &store.names.namespace);
    let parameters = DeleteParams {
        // The pod that was looked at, and not the one that has taken its place since.
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(&pod.name_any(), &parameters).await {
        Ok(_) => {
            let why = if plan.replace == Replace::Always {
                "a restart was asked for"
            } else {
                "its template changed"
            };
            let note = format!("pod {} is replaced: {why}", pod.name_any());
            events::publish(context, object, events::NORMAL, "PodReplaced", note, "ReplacePod")
                .await;
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(false),
        Err(error) => Err(Error::Replace(Box::new(error))),
    }
}

/// Says that the spec cannot be acted on.
async fn refuse(
    object: &MemoryStore,
    context: &Context,
    before: &MemoryStoreStatus,
    reason: &'static str,
    message: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let refused = Now::new(ACCEPTED, false, reason, message);
    hold_up(object, context, before, refused, now).await
}

fn apply_failed(
    object: &MemoryStore,
    context: &Context,
    before: &MemoryStoreStatus,
    error: &Error,
) -> Now {
    let message = error.to_string();
    let former = before.conditions.iter().find(|it| {
        (it.type_.as_str(), it.reason.as_str()) == (PROGRESSING, progressing::APPLY_FAILED)
            && it.observed_generation == object.metadata.generation
            && it.message != message
    });
    let message = match former {
        Some(former) if !context.failures.may_tell(&reference(object)) => former.message.clone(),
        _ => message,
    };
    Now::new(PROGRESSING, false, progressing::APPLY_FAILED, message)
}

/// Says that nothing is done for a store, and why.
async fn hold_up(
    object: &MemoryStore,
    context: &Context,
    before: &MemoryStoreStatus,
    obstacle: Now,
    now: Timestamp,
) -> Result<(), Error> {
    let generation = object.metadata.generation.unwrap_or_default();
    let names = Names::new(object.namespace().unwrap_or_default(), object.name_any());
    let pod = context.cluster.pods.get(&ObjectRef::new(&names.pod()).within(&names.namespace));
    // Whoever has just begun to lead has not asked it yet, and what is said below is for long.
    let answer = ask_anyway(object, context, pod.as_deref(), &names, before).await;
    let serving = match pod {
        Some(pod) => update_status::serving(&pod, Some(&answer), &before.conditions),
        None if obstacle.kind == ACCEPTED => {
            Now::new(READY, false, ready::NOT_ACCEPTED, "nothing runs: see the condition Accepted")
        }
        None => {
            let replicas = object.spec.replicas;
            update_status::unserved(&names.store, replicas, &before.conditions, now)
        }
    };
    let status = update_status::held_up(before, generation, obstacle, serving, now);
    // What is stale is looked at again when the newer version arrives.
    write_status(object, context, before, &status, object.resource_version()).await.map(drop)
}

/// Asks the pod of a store that nothing is done for.
async fn ask_anyway(
    object: &MemoryStore,
    context: &Context,
    pod: Option<&Pod>,
    names: &Names,
    before: &MemoryStoreStatus,
) -> Answer {
    let mut known = None;
    if let Some(pod) = pod.filter(|pod| pods::is_ready(pod)) {
        let looked = in_time(async {
            authority(&context.client, &names.namespace, pod).await.map_err(Error::from)
        });
        known = match looked.await {
            Ok(known) => known,
            // Asked without it, a server would seem to have no certificate: what this pod said last
            // is good.
            Err(_) => {
                let last = context.probes.last(&reference(object));
                return last
                    .filter(|last| pod.uid().is_some_and(|uid| uid == last.pod))
                    .unwrap_or_default();
            }
        };
    }
    ask(context, object, pod, known.as_deref(), before).0
}

/// What became of a write of the status.
enum Written {
    /// It stands, in this version of the object.
    As(Option<String>),
    /// The object has changed since it was looked at, or is another one; nothing was written.
    Stale,
}

/// Writes the status when it differs, of the object in the version `version`.
async fn write_status(
    object: &MemoryStore,
    context: &Context,
    before: &MemoryStoreStatus,
    status: &MemoryStoreStatus,
    version: Option<String>,
) -> Result<Written, Error> {
    context.metrics.observed(object, status);
    if before == status {
        return Ok(Written::As(version));
    }
    let api: Api<MemoryStore> =
        Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": <MemoryStore as kube::Resource>::api_version(&()),
        "kind": <MemoryStore as kube::Resource>::kind(&()),
        // Another store of the same name is not the one that was looked at, and a step that was
        // remembered since is not to be forgotten.
        "metadata": {
            "name": object.name_any(), "uid": object.uid(), "resourceVersion": version,
        },
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&object.name_any(), &parameters, &Patch::Apply(&patch)).await {
        Ok(written) => {
            events::conditions_changed(context, object, &before.conditions, &status.conditions)
                .await;
            Ok(Written::As(written.resource_version()))
        }
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {
            Ok(Written::Stale)
        }
        Err(error) => Err(Error::Status(Box::new(error))),
    }
}

#[cfg(test)]
mod tests;
