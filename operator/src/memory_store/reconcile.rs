//! The driver: runs the stages and writes the status.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use llm_memory_crds::conditions::{PROGRESSING, accepted, progressing};
use llm_memory_crds::memory_store::{AuthMode, UpdatePhase};
use llm_memory_crds::{MemoryStore, MemoryStoreStatus};
use serde_json::json;
use thiserror::Error;

use super::build::{self, Input, KeptTemplate, Resources};
use super::conditions::{Now, merge};
use super::dereference::{DereferenceError, Found, dereference};
use super::rollout::{self, Plan, PodState, Replace, Situation, Verification};
use super::tokens::{self, TokensError};
use super::update_status::{self, Observed};
use super::validate::{Store, validate};
use super::{events, pods, quantity};
use crate::apply::{ApplyError, Desired, Outcome};
use crate::context::Context;
use crate::names::{EDITION, FIELD_MANAGER, INPUTS};
use crate::probes::{Answer, Target};
use crate::server_api::JobState;

/// A store that nothing happens to is looked at this often, and a bit.
const IDLE: Duration = Duration::from_secs(300);
/// A step of an update is looked at this often.
const STEP: Duration = Duration::from_secs(2);
/// What is missing is looked for this often.
const MISSING: Duration = Duration::from_secs(15);

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
        }
    }
}

/// Brings the cluster to what `object` asks for, a step further.
pub async fn reconcile(
    object: Arc<DeserializeGuard<MemoryStore>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let object = match &object.0 {
        Ok(object) => object,
        Err(invalid) => {
            // Written past the schema, by another version of it. Nothing can be said on the object
            // itself; the others go on.
            tracing::error!(
                namespace = invalid.metadata.namespace,
                name = invalid.metadata.name,
                error = invalid.error,
                "a MemoryStore cannot be read; apply the definitions of this version"
            );
            context.metrics.failed("malformed");
            return Ok(Action::await_change());
        }
    };
    let started = std::time::Instant::now();
    let reference = reference(object);
    if object.metadata.deletion_timestamp.is_some() {
        context.probes.unwatch(&reference);
        return Ok(Action::await_change());
    }
    let outcome = run(object, &context, &reference).await;
    context.metrics.reconciled(started.elapsed(), outcome.is_ok());
    if outcome.is_ok() {
        context.failures.succeeded(&reference);
    }
    outcome
}

/// When a failed reconciliation is tried again.
pub fn error_policy(
    object: Arc<DeserializeGuard<MemoryStore>>,
    error: &Error,
    context: Arc<Context>,
) -> Action {
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

async fn run(
    object: &MemoryStore,
    context: &Context,
    reference: &ObjectRef<MemoryStore>,
) -> Result<Action, Error> {
    let now = Timestamp::now();
    let before = object.status.clone().unwrap_or_default();
    let store = match validate(object) {
        Ok(store) => store,
        Err(invalid) => {
            let reason = accepted::INVALID_SPEC;
            refuse(object, context, &before, reason, &invalid.to_string(), now).await?;
            return Ok(Action::await_change());
        }
    };
    let found = match dereference(&context.client, &context.cluster, &store).await {
        Ok(found) => found,
        Err(missing @ DereferenceError::Missing { .. }) => {
            let reason = accepted::REFERENCE_NOT_FOUND;
            refuse(object, context, &before, reason, &missing.to_string(), now).await?;
            return Ok(Action::requeue(MISSING));
        }
        Err(error) => return Err(error.into()),
    };
    let (answer, target) = ask(context, reference, &store, &found, &before);
    let mut plan = decide(context, &store, &found, &before, &answer, now);
    if plan.verify {
        begin_verification(context, &store, &mut plan, target.as_ref()).await;
    }
    let mut refused_claim = None;
    let mut failure = None;
    let mut next_token_end = None;
    if !store.spec.paused {
        match apply(object, context, &store, &found, &plan, now).await {
            Ok(applied) => {
                refused_claim = applied.refused_claim;
                next_token_end = applied.next_token_end;
            }
            Err(Error::Apply(foreign @ ApplyError::Foreign { .. })) => {
                let reason = accepted::NAME_CONFLICT;
                refuse(object, context, &before, reason, &foreign.to_string(), now).await?;
                return Ok(Action::requeue(MISSING));
            }
            Err(error) => failure = Some(error),
        }
        if failure.is_none() {
            replace_pod(object, context, &store, &found, &plan, &answer).await?;
        }
    }
    let requested = claim_size(&store, &found);
    let mut status = update_status::status(&Observed {
        store: &store,
        before: &before,
        plan: &plan,
        pod: found.pod.as_deref(),
        claim: found.claim.as_deref(),
        requested: &requested,
        refused_claim: refused_claim.as_deref(),
        answer: &answer,
        encrypted: found.tls.is_some(),
        selector: selector(&store),
        now,
    });
    if let Some(error) = &failure {
        let failed = Now::new(PROGRESSING, false, progressing::APPLY_FAILED, error.to_string());
        let merged = merge(&before.conditions, vec![failed], store.generation, now);
        status.conditions.retain(|condition| condition.type_ != PROGRESSING);
        status.conditions.extend(merged);
    }
    write_status(object, context, &before, &status).await?;
    if let Some(error) = failure {
        return Err(error);
    }
    Ok(Action::requeue(next_look(&store, &plan, next_token_end, now)))
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
    if stepping {
        return STEP;
    }
    let idle = IDLE.mul_f64(rand::random_range(0.8..1.2));
    let rotation = store.spec.mcp.auth.rotate_at.as_ref().map(|time| time.0);
    [rotation, next_token_end]
        .into_iter()
        .flatten()
        .filter(|moment| *moment > now)
        .filter_map(|moment| Duration::try_from(moment.duration_since(now)).ok())
        .map(|wait| wait + Duration::from_secs(1))
        .fold(idle, Duration::min)
}

/// The pod that can be asked is asked; of others, what was said last is known.
fn ask(
    context: &Context,
    reference: &ObjectRef<MemoryStore>,
    store: &Store,
    found: &Found,
    before: &MemoryStoreStatus,
) -> (Answer, Option<Target>) {
    let pod = found.pod.as_deref().filter(|pod| store.spec.replicas == 1 && pods::is_ready(pod));
    let Some(pod) = pod else {
        let last = context.probes.unwatch(reference).unwrap_or_default();
        // Figures stay; that somebody answered does not.
        return (Answer { handshake: None, job: None, ..last }, None);
    };
    let auth = &store.spec.mcp.auth;
    let scheme = if found.tls.is_some() { "https" } else { "http" };
    let job = before
        .update
        .as_ref()
        .filter(|update| update.phase == UpdatePhase::Verifying)
        .and_then(|update| update.verify_job.clone());
    let target = Target {
        base: format!("{scheme}://{}:{}", store.names.host(), store.spec.mcp.port),
        authority: found.authority.clone(),
        audience: (auth.mode != AuthMode::None).then(|| auth.audience.clone()),
        pod: pod.uid().unwrap_or_default(),
        job,
    };
    (context.probes.watch(reference, target.clone()), Some(target))
}

fn decide(
    context: &Context,
    store: &Store,
    found: &Found,
    before: &MemoryStoreStatus,
    answer: &Answer,
    now: Timestamp,
) -> Plan {
    let running = found.stateful_set.as_deref().and_then(pods::image);
    // A newer operator brings a newer default; stores keep the image that they were made with.
    let wanted = store
        .spec
        .image
        .clone()
        .or_else(|| running.clone())
        .or_else(|| before.image.clone())
        .unwrap_or_else(|| context.settings.server_image.clone());
    if store.spec.paused {
        return Plan {
            image: running.unwrap_or(wanted),
            update: before.update.clone(),
            verify: false,
            replace: Replace::Never,
            pending: false,
        };
    }
    let answers = matches!(answer.handshake, Some(Ok(_)));
    rollout::plan(&Situation {
        spec: &store.spec.update,
        wanted: &wanted,
        running: running.as_deref(),
        hibernated: store.spec.replicas == 0,
        restart_requested: restart_is_due(store, found.pod.as_deref()),
        pod: pods::state(found.pod.as_deref(), found.stateful_set.as_deref(), answers),
        update: before.update.as_ref(),
        verification: verification(answer),
        now,
    })
}

fn restart_is_due(store: &Store, pod: Option<&Pod>) -> bool {
    let made = pod.and_then(|pod| pod.metadata.creation_timestamp.as_ref());
    match (store.restart_requested, made) {
        (Some(wish), Some(made)) => made.0 < wish,
        (Some(_), None) | (None, _) => false,
    }
}

fn verification(answer: &Answer) -> Verification {
    match &answer.job {
        None => Verification::None,
        Some(Err(reason)) => Verification::Failed(reason.clone()),
        Some(Ok(job)) => {
            let summary = || job.summary.clone().unwrap_or_else(|| "damage was found".to_owned());
            match job.state {
                JobState::Pending | JobState::Running => Verification::Running,
                JobState::Succeeded => Verification::Intact,
                JobState::Finding => Verification::Damaged(summary()),
                JobState::Failed | JobState::Cancelled => {
                    let error = job.error.as_ref().and_then(|error| error.get("message")?.as_str());
                    Verification::Failed(error.map_or_else(summary, str::to_owned))
                }
            }
        }
    }
}

/// Asks the server to verify itself. When it does not take the job, the next run asks again.
async fn begin_verification(
    context: &Context,
    store: &Store,
    plan: &mut Plan,
    target: Option<&Target>,
) {
    let (Some(update), Some(target)) = (plan.update.as_mut(), target) else { return };
    let wish = store.restart_requested.map(|wish| wish.to_string());
    let attempt = crate::hash::of(&json!([store.uid, store.generation, update.to, wish]));
    let asked = match context.probes.server(target).await {
        Ok(server) => server.verify(&format!("update-{attempt}")).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(job) => update.verify_job = Some(job.id),
        Err(error) => tracing::warn!(
            namespace = store.names.namespace, name = store.names.store, %error,
            "the server did not take the verification before the update"
        ),
    }
}

struct Applied {
    refused_claim: Option<String>,
    next_token_end: Option<Timestamp>,
}

async fn apply(
    object: &MemoryStore,
    context: &Context,
    store: &Store,
    found: &Found,
    plan: &Plan,
    now: Timestamp,
) -> Result<Applied, Error> {
    let existing = found.tokens.as_ref().and_then(|secret| secret.data.as_ref());
    let planned = tokens::plan(&store.spec.mcp.auth, existing, now, rand::random)?;
    let size = claim_size(store, found);
    let mut input = Input {
        store,
        image: &plan.image,
        operator: &context.settings.identity,
        cluster_domain: &context.settings.cluster_domain,
        apis: context.cluster.apis,
        tls: found.tls.clone(),
        tokens: planned.as_ref().map(|planned| planned.data.clone()),
        claim_size: &size,
        keep: None,
    };
    input.keep = kept_template(&input, found);
    let resources = build::build(&input);
    let (refused_claim, changed) =
        apply_all(context, store, &resources, found.claim.is_some()).await?;
    if changed > 0 {
        tracing::info!(
            namespace = store.names.namespace,
            name = store.names.store,
            changed,
            "objects applied"
        );
    }
    if let Some(planned) = planned.as_ref().filter(|planned| !planned.made.is_empty()) {
        let note = format!("made tokens: {}", planned.made.join(", "));
        events::publish(context, object, EventType::Normal, "TokensMade", note, "MakeTokens").await;
    }
    Ok(Applied { refused_claim, next_token_end: planned.and_then(|planned| planned.next_end) })
}

/// The template that runs, when an older operator made it from the same words.
fn kept_template(input: &Input<'_>, found: &Found) -> Option<KeptTemplate> {
    let set = found.stateful_set.as_deref()?;
    let edition = pods::annotation(set, EDITION)?;
    if edition == build::EDITION || pods::annotation(set, INPUTS)? != build::inputs(input) {
        return None;
    }
    Some(KeptTemplate { template: set.spec.as_ref()?.template.clone(), edition })
}

/// Applies everything, the StatefulSet last. Answers why the claim does not grow, when it does not,
/// and how many objects were written.
async fn apply_all(
    context: &Context,
    store: &Store,
    resources: &Resources,
    claim_exists: bool,
) -> Result<(Option<String>, usize), Error> {
    // A new kind of object cannot be forgotten here: this does not compile without it.
    let Resources {
        service_accounts,
        config_map,
        secret,
        services,
        network_policy,
        disruption_budget,
        claim,
        certificate,
        service_monitor,
        prometheus_rule,
        cron_jobs,
        stateful_set,
    } = resources;
    let mut desired = Vec::new();
    for account in service_accounts {
        desired.push(Desired::of(account)?);
    }
    desired.push(Desired::of(config_map)?);
    if let Some(secret) = secret {
        desired.push(Desired::of(secret)?);
    }
    for service in services {
        desired.push(Desired::of(service)?);
    }
    if let Some(policy) = network_policy {
        desired.push(Desired::of(policy)?);
    }
    desired.push(Desired::of(disruption_budget)?);
    for object in [certificate, service_monitor, prometheus_rule].into_iter().flatten() {
        let types = object.types.clone().unwrap_or_default();
        if let Ok(kind) = kube::core::GroupVersionKind::try_from(&types) {
            desired.push(Desired::dynamic(ApiResource::from_gvk(&kind), object)?);
        }
    }
    for cron_job in cron_jobs {
        desired.push(Desired::of(cron_job)?);
    }
    let mut changed = 0;
    let mut refused_claim = None;
    if let Some(claim) = claim {
        match context.applier.apply(&Desired::of(claim)?, &store.uid).await {
            Ok(outcome) => changed += usize::from(outcome != Outcome::Unchanged),
            // The class does not let it grow; the store serves on with what it has.
            Err(ApplyError::Api { source, .. }) if claim_exists && is_refusal(&source) => {
                refused_claim = Some(source.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    desired.push(Desired::of(stateful_set)?);
    for object in &desired {
        let outcome = context.applier.apply(object, &store.uid).await?;
        changed += usize::from(outcome != Outcome::Unchanged);
    }
    changed += remove_unwanted(context, store, resources).await?;
    Ok((refused_claim, changed))
}

fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 || status.code == 422)
}

/// Objects that a spec can do without, and that an earlier spec had.
async fn remove_unwanted(
    context: &Context,
    store: &Store,
    resources: &Resources,
) -> Result<usize, Error> {
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    let names = &store.names;
    let apis = context.cluster.apis;
    let dynamic = |group: &str, kind: &str| {
        ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, "v1", kind))
    };
    let mut unwanted = Vec::new();
    if resources.network_policy.is_none() {
        unwanted.push((ApiResource::erase::<NetworkPolicy>(&()), names.main()));
    }
    if resources.service_monitor.is_none() && apis.service_monitor {
        unwanted.push((dynamic("monitoring.coreos.com", "ServiceMonitor"), names.main()));
    }
    if resources.prometheus_rule.is_none() && apis.prometheus_rule {
        unwanted.push((dynamic("monitoring.coreos.com", "PrometheusRule"), names.main()));
    }
    if resources.certificate.is_none() && apis.certificate {
        unwanted.push((dynamic("cert-manager.io", "Certificate"), names.certificate()));
    }
    let mut removed = 0;
    for (resource, name) in unwanted {
        let gone = context.applier.remove(&resource, &names.namespace, &name, &store.uid).await?;
        removed += usize::from(gone);
    }
    Ok(removed)
}

fn claim_size(store: &Store, found: &Found) -> String {
    let wanted = store.spec.storage.size.0.as_str();
    let has = found.claim.as_deref().and_then(pods::request);
    has.as_deref().map_or(wanted, |has| quantity::larger(wanted, has)).to_owned()
}

fn selector(store: &Store) -> String {
    let labels = store.names.selector();
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

async fn replace_pod(
    object: &MemoryStore,
    context: &Context,
    store: &Store,
    found: &Found,
    plan: &Plan,
    answer: &Answer,
) -> Result<(), Error> {
    let Some(pod) = found.pod.as_deref() else { return Ok(()) };
    let answers = matches!(answer.handshake, Some(Ok(_)));
    let state = pods::state(Some(pod), found.stateful_set.as_deref(), answers);
    let due = match (plan.replace, state) {
        (Replace::Never, _) | (_, PodState::Absent | PodState::Unknown { .. }) => false,
        (Replace::Outdated, PodState::Current { .. }) => false,
        (Replace::Outdated, PodState::Outdated { .. }) => true,
        (Replace::Always, PodState::Current { .. } | PodState::Outdated { .. }) => true,
    };
    if !due {
        return Ok(());
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
            events::publish(context, object, EventType::Normal, "PodReplaced", note, "ReplacePod")
                .await;
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(Error::Replace(Box::new(error))),
    }
}

async fn refuse(
    object: &MemoryStore,
    context: &Context,
    before: &MemoryStoreStatus,
    reason: &'static str,
    message: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let generation = object.metadata.generation.unwrap_or_default();
    let status = update_status::refused(before, generation, reason, message, now);
    write_status(object, context, before, &status).await
}

/// Writes the status when it differs.
async fn write_status(
    object: &MemoryStore,
    context: &Context,
    before: &MemoryStoreStatus,
    status: &MemoryStoreStatus,
) -> Result<(), Error> {
    context.metrics.observed(object, status);
    if before == status {
        return Ok(());
    }
    let api: Api<MemoryStore> =
        Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": <MemoryStore as kube::Resource>::api_version(&()),
        "kind": <MemoryStore as kube::Resource>::kind(&()),
        // Another store of the same name is not the one that was looked at.
        "metadata": {"name": object.name_any(), "uid": object.uid()},
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&object.name_any(), &parameters, &Patch::Apply(&patch)).await {
        Ok(_) => {}
        // It is gone, or another has taken its place; there is nobody left to tell.
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => return Ok(()),
        Err(error) => return Err(Error::Status(Box::new(error))),
    }
    events::conditions_changed(context, object, &before.conditions, &status.conditions).await;
    Ok(())
}
