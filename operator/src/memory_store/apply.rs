//! Stage 5, needs a client: builds, and applies every object; removes what a former spec wanted.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use llm_memory_crds::MemoryStore;

use super::build::{self, Input, KeptTemplate, Resources};
use super::dereference::Found;
use super::reconcile::Error;
use super::rollout::Plan;
use super::validate::Store;
use super::{events, pods, quantity, tokens};
use crate::apply::{ApplyError, Desired, Outcome};
use crate::cluster::Seen;
use crate::context::Context;
use crate::names::{EDITION, INPUTS};

/// What applying came to.
pub(super) struct Applied {
    /// Why the claim does not grow, when it does not.
    pub(super) refused_claim: Option<String>,
    /// When a former token ends next.
    pub(super) next_token_end: Option<Timestamp>,
    /// The StatefulSet was written, so that what is known of its pod is of before.
    pub(super) new_template: bool,
    /// The template stays that of other words, because something is missing.
    pub(super) held: bool,
    /// What could not be applied and the server does not need.
    pub(super) failure: Option<Error>,
}

/// Brings all objects of `store` to what they should be.
pub(super) async fn apply(
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
        reached: found.reached.clone(),
        tokens: planned.as_ref().map(|planned| planned.data.clone()),
        claim_size: &size,
        keep: None,
    };
    let keep = match found.missing {
        None => kept_template(&input, found),
        Some(_) => held_template(context, &input, found).await?,
    };
    let held = keep.as_ref().is_some_and(|kept| kept.inputs != build::inputs(&input));
    input.keep = keep;
    let resources = build::build(&input);
    let Counted { refused_claim, changed, new_template, failure } =
        apply_all(context, store, &resources, found).await?;
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
        events::publish(context, object, events::NORMAL, "TokensMade", note, "MakeTokens").await;
    }
    let next_token_end = planned.and_then(|planned| planned.next_end);
    Ok(Applied { refused_claim, next_token_end, new_template, held, failure })
}

/// The template that runs, when an older operator made it from the same words.
fn kept_template(input: &Input<'_>, found: &Found) -> Option<KeptTemplate> {
    let set = found.stateful_set.as_deref()?;
    let edition = pods::annotation(set, EDITION)?;
    let inputs = build::inputs(input);
    if edition == build::EDITION || pods::annotation(set, INPUTS)? != inputs {
        return None;
    }
    Some(KeptTemplate { template: set.spec.as_ref()?.template.clone(), edition, inputs })
}

/// The template that is there, while that of other words names what is missing: a pod that is made
/// anew, by a drain or after a fault, would wait for that. Read from the API server, because the
/// caches do not keep it.
async fn held_template(
    context: &Context,
    input: &Input<'_>,
    found: &Found,
) -> Result<Option<KeptTemplate>, Error> {
    let before = found.stateful_set.as_deref().and_then(|set| pods::annotation(set, INPUTS));
    if before.is_none_or(|before| before == build::inputs(input)) {
        return Ok(kept_template(input, found));
    }
    let names = &input.store.names;
    let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), &names.namespace);
    let live = api.get_opt(&names.main()).await.map_err(|source| ApplyError::Api {
        kind: "StatefulSet".to_owned(),
        name: names.main(),
        source: Box::new(source),
    })?;
    Ok(live.and_then(|set| {
        let edition = pods::annotation(&set, EDITION)?;
        let inputs = pods::annotation(&set, INPUTS)?;
        Some(KeptTemplate { template: set.spec?.template, edition, inputs })
    }))
}

/// What applying all objects came to.
struct Counted {
    refused_claim: Option<String>,
    /// Objects that were written.
    changed: usize,
    new_template: bool,
    failure: Option<Error>,
}

/// Applies everything: the StatefulSet after what its pod needs, and after it what a server does
/// without, whose failure holds up no other.
async fn apply_all(
    context: &Context,
    store: &Store,
    resources: &Resources,
    found: &Found,
) -> Result<Counted, Error> {
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
        // Secrets are not watched, and this one was read a moment ago.
        let known = found.tokens.as_ref().map_or(Seen::Absent, Seen::of);
        desired.push(Desired::of(secret)?.known(known));
    }
    for service in services {
        desired.push(Desired::of(service)?);
    }
    if let Some(policy) = network_policy {
        desired.push(Desired::of(policy)?);
    }
    let mut changed = 0;
    let mut refused_claim = None;
    if let Some(claim) = claim {
        let (refused, outcome) = apply_claim(context, store, claim, found.claim.as_deref()).await?;
        refused_claim = refused;
        changed += usize::from(outcome != Outcome::Unchanged);
    }
    for object in &desired {
        let outcome = context.applier.apply(object, &store.uid).await?;
        changed += usize::from(outcome != Outcome::Unchanged);
    }
    let outcome = context.applier.apply(&Desired::of(stateful_set)?, &store.uid).await?;
    let new_template = outcome != Outcome::Unchanged;
    changed += usize::from(new_template);

    let mut others = vec![Desired::of(disruption_budget)?];
    for object in [certificate, service_monitor, prometheus_rule].into_iter().flatten() {
        others.extend(optional(object)?);
    }
    for cron_job in cron_jobs {
        others.push(Desired::of(cron_job)?);
    }
    let mut failure = None;
    for object in &others {
        match context.applier.apply(object, &store.uid).await {
            Ok(outcome) => changed += usize::from(outcome != Outcome::Unchanged),
            Err(error) => failure = failure.or(Some(Error::Apply(error))),
        }
    }
    match remove_unwanted(context, store, resources).await {
        Ok(removed) => changed += removed,
        Err(error) => failure = failure.or(Some(error)),
    }
    Ok(Counted { refused_claim, changed, new_template, failure })
}

/// An object whose API not every cluster has.
fn optional(object: &DynamicObject) -> Result<Option<Desired>, ApplyError> {
    let types = object.types.clone().unwrap_or_default();
    let kind = GroupVersionKind::try_from(&types).ok();
    kind.map(|kind| Desired::dynamic(ApiResource::from_gvk(&kind), object)).transpose()
}

/// Applies the claim. Where it may not grow it keeps its size, and everything else of it is what
/// the spec says: a claim that is to be retained must be, whatever its size.
async fn apply_claim(
    context: &Context,
    store: &Store,
    claim: &PersistentVolumeClaim,
    existing: Option<&PersistentVolumeClaim>,
) -> Result<(Option<String>, Outcome), Error> {
    let wanted = pods::request(claim).unwrap_or_default();
    let has = existing.and_then(pods::request).filter(|has| *has != wanted);
    let Some(has) = has else {
        return Ok((None, context.applier.apply(&Desired::of(claim)?, &store.uid).await?));
    };
    let refusal = match context.refusals.remembered(&store.uid, &wanted) {
        Some(refusal) => refusal,
        None => match context.applier.apply(&Desired::of(claim)?, &store.uid).await {
            Ok(outcome) => return Ok((None, outcome)),
            Err(ApplyError::Api { source, .. }) if is_refusal(&source) => {
                let refusal = format!(
                    "the claim stays at {has}, because the cluster does not let it grow to \
                     {wanted}: {source}. Allow expansion in its storage class"
                );
                context.refusals.remember(&store.uid, &wanted, &refusal);
                refusal
            }
            Err(error) => return Err(error.into()),
        },
    };
    let mut kept = claim.clone();
    let requests = kept
        .spec
        .as_mut()
        .and_then(|spec| spec.resources.as_mut())
        .and_then(|resources| resources.requests.as_mut());
    if let Some(requests) = requests {
        requests.insert("storage".to_owned(), Quantity(has));
    }
    let outcome = context.applier.apply(&Desired::of(&kept)?, &store.uid).await?;
    Ok((Some(refusal), outcome))
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
    let dynamic =
        |group: &str, kind: &str| ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
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

/// The size asked for, or the larger one that a kept claim has.
pub(super) fn claim_size(store: &Store, found: &Found) -> String {
    let wanted = store.spec.storage.size.0.as_str();
    let has = found.claim.as_deref().and_then(pods::request);
    if let (Some(_), Some(has)) = (&store.spec.storage.existing_claim, &has) {
        // It has the size that whoever made it gave it.
        return has.clone();
    }
    has.as_deref().map_or(wanted, |has| quantity::larger(wanted, has)).to_owned()
}
