//! What matters of all that was observed; pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use llm_memory_crds::conditions;
use llm_memory_crds::memory_store::MemoryStoreStatus;
use serde::Serialize;

use super::observe::{Observed, event_time};

/// Warnings that are shown, the newest first.
const WARNINGS: usize = 10;

/// A store on one page. Its status is the object's own, so that programs find the same fields.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) created: Option<Timestamp>,
    pub(super) paused: bool,
    pub(super) replicas: i32,
    pub(super) generation: Option<i64>,
    pub(super) status: MemoryStoreStatus,
    pub(super) pod: Option<PodView>,
    pub(super) claim: Option<ClaimView>,
    pub(super) routines: Vec<RoutineView>,
    pub(super) warnings: Vec<WarningView>,
    pub(super) unreadable: BTreeMap<&'static str, String>,
}

/// The pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodView {
    pub(super) name: String,
    pub(super) phase: String,
    pub(super) node: Option<String>,
    pub(super) restarts: i32,
    pub(super) last_exit: Option<String>,
    pub(super) image: Option<String>,
}

/// The claim.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClaimView {
    pub(super) name: String,
    pub(super) phase: String,
    pub(super) capacity: Option<String>,
    pub(super) storage_class: Option<String>,
}

/// A CronJob.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RoutineView {
    pub(super) name: String,
    pub(super) schedule: String,
    pub(super) time_zone: Option<String>,
    pub(super) suspended: bool,
    pub(super) last_schedule: Option<Timestamp>,
    pub(super) last_success: Option<Timestamp>,
    pub(super) active: usize,
}

/// A Warning event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WarningView {
    pub(super) last: Option<Timestamp>,
    pub(super) count: i32,
    pub(super) object: String,
    pub(super) reason: String,
    pub(super) message: String,
}

impl View {
    /// Chooses what is shown.
    pub(super) fn new(observed: Observed) -> Self {
        let metadata = observed.store.metadata;
        let mut warnings: Vec<_> = observed.warnings.iter().map(warning).collect();
        warnings.sort_by_key(|it| Reverse(it.last));
        warnings.truncate(WARNINGS);
        Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            created: metadata.creation_timestamp.map(|it| it.0),
            paused: observed.store.spec.paused,
            replicas: observed.store.spec.replicas,
            generation: metadata.generation,
            status: observed.store.status.unwrap_or_default(),
            pod: observed.pod.map(pod),
            claim: observed.claim.map(claim),
            routines: observed.cron_jobs.into_iter().map(routine).collect(),
            warnings,
            unreadable: observed.unreadable,
        }
    }

    /// A condition by its type.
    pub(super) fn condition(&self, type_: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|it| it.type_ == type_)
    }

    /// Whether it serves, or sleeps because it was told to, and nothing is known to be damaged.
    pub(super) fn is_well(&self) -> bool {
        let is =
            |type_: &str, status: &str| self.condition(type_).is_some_and(|it| it.status == status);
        let asleep = self.replicas == 0
            && self
                .condition(conditions::READY)
                .is_some_and(|it| it.reason == conditions::ready::HIBERNATED);
        (is(conditions::READY, "True") || asleep)
            && !is(conditions::ACCEPTED, "False")
            && !is(conditions::STORAGE_HEALTHY, "False")
            && !is(conditions::VERIFIED, "False")
    }
}

fn pod(pod: Pod) -> PodView {
    let status = pod.status.unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let last_exit = containers.iter().find_map(|it| {
        let ended = it.last_state.as_ref()?.terminated.as_ref()?;
        let reason = ended.reason.as_deref().unwrap_or("ended");
        Some(format!("{reason} (exit code {})", ended.exit_code))
    });
    let phase = match pod.metadata.deletion_timestamp {
        Some(_) => "Terminating".to_owned(),
        None => status.phase.unwrap_or_else(|| "Unknown".to_owned()),
    };
    let spec = pod.spec.unwrap_or_default();
    PodView {
        name: pod.metadata.name.unwrap_or_default(),
        phase,
        node: spec.node_name,
        restarts: containers.iter().map(|it| it.restart_count).sum(),
        last_exit,
        image: spec.containers.into_iter().next().and_then(|it| it.image),
    }
}

fn claim(claim: PersistentVolumeClaim) -> ClaimView {
    let status = claim.status.unwrap_or_default();
    ClaimView {
        name: claim.metadata.name.unwrap_or_default(),
        phase: status.phase.unwrap_or_else(|| "Unknown".to_owned()),
        capacity: status.capacity.and_then(|it| it.get("storage").map(|size| size.0.clone())),
        storage_class: claim.spec.and_then(|it| it.storage_class_name),
    }
}

fn routine(cron_job: CronJob) -> RoutineView {
    let spec = cron_job.spec;
    let status = cron_job.status.unwrap_or_default();
    RoutineView {
        name: cron_job.metadata.name.unwrap_or_default(),
        schedule: spec.schedule,
        time_zone: spec.time_zone,
        suspended: spec.suspend.unwrap_or(false),
        last_schedule: status.last_schedule_time.map(|it| it.0),
        last_success: status.last_successful_time.map(|it| it.0),
        active: status.active.map_or(0, |it| it.len()),
    }
}

fn warning(event: &Event) -> WarningView {
    let about = &event.involved_object;
    let kind = about.kind.as_deref().unwrap_or("object").to_lowercase();
    let series = event.series.as_ref().and_then(|it| it.count);
    WarningView {
        last: event_time(event),
        count: series.or(event.count).unwrap_or(1),
        object: format!("{kind}/{}", about.name.as_deref().unwrap_or_default()),
        reason: event.reason.clone().unwrap_or_default(),
        message: event.message.clone().unwrap_or_default().replace('\n', " "),
    }
}
