//! Scheduled care. The pods do not mount the volume: they ask the server for the work, follow it
//! to its end and exit with its verdict, so that a claim is never needed twice and the work runs
//! where the hardware is.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    CronJob, CronJobSpec, JobSpec, JobTemplateSpec, PodFailurePolicy,
    PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Affinity, Container, EnvVar, EnvVarSource, KeyToPath, ObjectFieldSelector, PodSpec,
    PodTemplateSpec, ProjectedVolumeSource, ResourceRequirements, SecretProjection,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use llm_memory_crds::memory_store::{Routine, RoutineKind};

use super::{Input, metadata, pod, text};
use crate::memory_store::schedule::default_schedule;

const COMPONENT: &str = "maintenance";
const TOKEN_FOLDER: &str = "/var/run/secrets/llm-memory";

pub(super) fn cron_jobs(input: &Input<'_>) -> Vec<CronJob> {
    input
        .store
        .spec
        .maintenance
        .routines()
        .into_iter()
        .map(|(kind, routine)| cron_job(input, kind, routine))
        .collect()
}

/// A run that has missed its time by more is left out: when a store wakes, or the control plane
/// comes back, the runs of months would all begin at once.
const STARTING_DEADLINE_SECONDS: i64 = 3600;

/// Labels by which the pods of all routines are selected.
pub(super) fn pod_labels(input: &Input<'_>) -> BTreeMap<String, String> {
    input.store.names.labels(COMPONENT)
}

fn cron_job(input: &Input<'_>, kind: RoutineKind, routine: &Routine) -> CronJob {
    let names = &input.store.names;
    let hibernated = input.store.spec.replicas == 0;
    let schedule = routine.schedule.clone().unwrap_or_else(|| default_schedule(names, kind));
    CronJob {
        metadata: metadata(input, names.routine(kind), COMPONENT),
        spec: CronJobSpec {
            schedule,
            time_zone: Some(routine.time_zone.clone().unwrap_or_else(|| text("Etc/UTC"))),
            suspend: Some(routine.suspend || hibernated),
            concurrency_policy: Some(text("Forbid")),
            starting_deadline_seconds: Some(
                routine.starting_deadline_seconds.unwrap_or(STARTING_DEADLINE_SECONDS),
            ),
            successful_jobs_history_limit: Some(routine.successful_jobs_history_limit),
            failed_jobs_history_limit: Some(routine.failed_jobs_history_limit),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels(input)),
                    ..ObjectMeta::default()
                }),
                spec: Some(job(input, kind, routine)),
            },
        },
        status: None,
    }
}

fn job(input: &Input<'_>, kind: RoutineKind, routine: &Routine) -> JobSpec {
    JobSpec {
        active_deadline_seconds: Some(routine.active_deadline_seconds),
        // A pod that a drained node takes along is no verdict; an exit code of the client is.
        backoff_limit: Some(3),
        pod_failure_policy: Some(PodFailurePolicy {
            rules: vec![
                PodFailurePolicyRule {
                    action: text("Ignore"),
                    on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                        type_: text("DisruptionTarget"),
                        status: Some(text("True")),
                    }]),
                    ..PodFailurePolicyRule::default()
                },
                PodFailurePolicyRule {
                    action: text("FailJob"),
                    on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                        container_name: Some(text(COMPONENT)),
                        operator: text("In"),
                        values: vec![1, 2, 64],
                    }),
                    ..PodFailurePolicyRule::default()
                },
            ],
        }),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(pod_labels(input)), ..ObjectMeta::default() }),
            spec: Some(pod_spec(input, kind, routine)),
        },
        ..JobSpec::default()
    }
}

fn pod_spec(input: &Input<'_>, kind: RoutineKind, routine: &Routine) -> PodSpec {
    let store = input.store;
    let spec = &store.spec;
    let mut mounts = Vec::new();
    let volume = token_volume(input);
    if volume.is_some() {
        mounts.push(VolumeMount {
            name: text("access"),
            mount_path: text(TOKEN_FOLDER),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    PodSpec {
        service_account_name: Some(store.names.jobs()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some(text("Never")),
        image_pull_secrets: pod::pull_secrets(store),
        // Where the server may run and as whom; not where there is hardware, which it does without.
        priority_class_name: spec.priority_class_name.clone(),
        security_context: Some(pod::restricted_pod(spec.security_context.clone())),
        node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
        affinity: node_affinity(spec.affinity.as_ref()),
        tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
        containers: vec![Container {
            name: text(COMPONENT),
            image: Some(text(input.image)),
            image_pull_policy: Some(text(store.spec.image_pull_policy.as_str())),
            args: Some(arguments(kind)),
            env: Some(environment(input, routine)),
            resources: Some(routine.resources.clone().unwrap_or_else(default_resources)),
            security_context: Some(pod::restricted_container()),
            volume_mounts: (!mounts.is_empty()).then_some(mounts),
            ..Container::default()
        }],
        volumes: volume.map(|volume| vec![volume]),
        ..PodSpec::default()
    }
}

/// What keeps servers apart from each other would keep a routine from every node of theirs.
fn node_affinity(affinity: Option<&Affinity>) -> Option<Affinity> {
    let of_nodes = affinity?.node_affinity.clone()?;
    Some(Affinity { node_affinity: Some(of_nodes), ..Affinity::default() })
}

fn arguments(kind: RoutineKind) -> Vec<String> {
    let words: &[&str] = match kind {
        RoutineKind::Compaction => &["jobs", "run", "compact"],
        RoutineKind::Verify => &["jobs", "run", "verify"],
        RoutineKind::Daily => &["jobs", "run", "routine", "--routine", "daily"],
        RoutineKind::Weekly => &["jobs", "run", "routine", "--routine", "weekly"],
        RoutineKind::Monthly => &["jobs", "run", "routine", "--routine", "monthly"],
        RoutineKind::Quarterly => &["jobs", "run", "routine", "--routine", "quarterly"],
    };
    let mut words: Vec<String> = words.iter().map(|word| text(word)).collect();
    // A pod that replaces another of the same Job follows the work that is under way.
    words.extend([
        text("--idempotency-key"),
        text("$(JOB_NAME)"),
        text("--timeout"),
        text("$(TIMEOUT)"),
    ]);
    words
}

fn environment(input: &Input<'_>, routine: &Routine) -> Vec<EnvVar> {
    let store = input.store;
    let scheme = if input.reached.tls.is_some() { "https" } else { "http" };
    let value = |name: &str, value: String| EnvVar {
        name: text(name),
        value: Some(value),
        value_from: None,
    };
    let mut variables = vec![
        EnvVar {
            name: text("JOB_NAME"),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some(text("v1")),
                    field_path: text("metadata.labels['batch.kubernetes.io/job-name']"),
                }),
                ..EnvVarSource::default()
            }),
        },
        value("TIMEOUT", format!("{}s", routine.active_deadline_seconds)),
        value(
            "LLM_MEMORY_URL",
            format!("{scheme}://{}:{}", store.names.host(), store.spec.mcp.port),
        ),
    ];
    if input.reached.audience.is_some() {
        variables.push(value("LLM_MEMORY_TOKEN_FILE", format!("{TOKEN_FOLDER}/token")));
    }
    if input.reached.tls.is_some() {
        variables.push(value("LLM_MEMORY_CA_FILE", format!("{TOKEN_FOLDER}/ca.crt")));
    }
    variables
}

/// A token that only this store takes and that ends by itself; and the authority of its
/// certificate.
fn token_volume(input: &Input<'_>) -> Option<Volume> {
    let mut sources = Vec::new();
    if let Some(audience) = &input.reached.audience {
        sources.push(VolumeProjection {
            service_account_token: Some(ServiceAccountTokenProjection {
                audience: Some(audience.clone()),
                expiration_seconds: Some(600),
                path: text("token"),
            }),
            ..VolumeProjection::default()
        });
    }
    if let Some(tls) = &input.reached.tls {
        sources.push(VolumeProjection {
            secret: Some(SecretProjection {
                name: tls.secret_name.clone(),
                items: Some(vec![KeyToPath {
                    key: text(tls.authority_key),
                    path: text("ca.crt"),
                    mode: None,
                }]),
                optional: None,
            }),
            ..VolumeProjection::default()
        });
    }
    (!sources.is_empty()).then(|| Volume {
        name: text("access"),
        projected: Some(ProjectedVolumeSource { default_mode: None, sources: Some(sources) }),
        ..Volume::default()
    })
}

fn default_resources() -> ResourceRequirements {
    let quantity = |name: &str, value: &str| (text(name), Quantity(text(value)));
    ResourceRequirements {
        requests: Some([quantity("cpu", "10m"), quantity("memory", "32Mi")].into()),
        limits: Some([quantity("memory", "128Mi")].into()),
        claims: None,
    }
}
