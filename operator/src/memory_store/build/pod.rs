//! The pod template of the server.

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge as _;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapProjection, ConfigMapVolumeSource, Container, ContainerPort,
    DownwardAPIProjection, DownwardAPIVolumeFile, EmptyDirVolumeSource, EnvVar, HTTPGetAction,
    KeyToPath, LocalObjectReference, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm,
    ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec,
    PodTemplateSpec, PreferredSchedulingTerm, Probe, ProjectedVolumeSource, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, ServiceAccountTokenProjection, Toleration,
    Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use llm_memory_crds::memory_store::{AuthMode, GpuMode, GpuSpec, McpSpec, VideoEncoder};

use super::{Input, config_map, text};
use crate::hash;
use crate::memory_store::validate::Store;
use crate::names::{CONTAINER, HEALTH_PORT, MCP_PORT, METRICS_PORT, USER};

const DATA: &str = "/data";
const CONFIG: &str = "/etc/llm-memory";
const TOKENS: &str = "/etc/llm-memory-tokens";
const TLS: &str = "/etc/llm-memory-tls";
/// Volume of the certificate.
pub const TLS_VOLUME: &str = "tls";
/// Variables of the server by which a pod that runs shows how it is reached.
pub const TLS_VARIABLE: &str = "LLM_MEMORY_TLS_CERT_FILE";
/// It is there when callers show tokens: the audience of those.
pub const AUDIENCE_VARIABLE: &str = "LLM_MEMORY_KUBERNETES_AUDIENCE";
/// The path of MCP, where that is not the usual one.
pub const PATH_VARIABLE: &str = "LLM_MEMORY_MCP_PATH";
const ISSUER: &str = "/etc/llm-memory-issuer";
/// Key of the issuer's authority in its ConfigMap.
pub const ISSUER_AUTHORITY: &str = "ca.crt";
/// Where clients of the API server expect their account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) fn template(input: &Input<'_>) -> PodTemplateSpec {
    let store = input.store;
    let spec = &store.spec;
    let mut labels = store.names.labels("server");
    labels.extend(store.names.selector());
    let (volumes, mounts) = volumes(input);
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(
                // Settings are read at the start; identities and tokens while it runs.
                [(text("llm-memory.dev/settings"), hash::of(&config_map::server(input)))].into(),
            ),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(store.names.main()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(60),
            image_pull_secrets: pull_secrets(store),
            priority_class_name: spec.priority_class_name.clone(),
            runtime_class_name: spec.gpu.runtime_class_name.clone(),
            security_context: Some(restricted_pod(spec.security_context.clone())),
            node_selector: node_selector(store),
            affinity: affinity(store),
            tolerations: tolerations(store),
            topology_spread_constraints: (!spec.topology_spread_constraints.is_empty())
                .then(|| spec.topology_spread_constraints.clone()),
            containers: vec![server(input, mounts)],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
    };
    if let Some(overlay) = &store.pod_template {
        template.merge_from(overlay.clone());
    }
    template
}

fn server(input: &Input<'_>, mounts: Vec<VolumeMount>) -> Container {
    let spec = &input.store.spec;
    let port = |name: &str, number| ContainerPort {
        name: Some(text(name)),
        container_port: number,
        protocol: Some(text("TCP")),
        ..ContainerPort::default()
    };
    Container {
        name: text(CONTAINER),
        image: Some(text(input.image)),
        image_pull_policy: Some(text(spec.image_pull_policy.as_str())),
        args: Some(vec![text("serve")]),
        env: Some(environment(input)),
        ports: Some(vec![
            port("mcp", MCP_PORT),
            port("health", HEALTH_PORT),
            port("metrics", METRICS_PORT),
        ]),
        // A store that replays a long journal is alive; it is given an hour to become ready.
        startup_probe: Some(probe("/livez", 2, 1800)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        resources: Some(resources(&spec.resources, &spec.gpu)),
        security_context: Some(restricted_container()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(text(path)),
            port: IntOrString::String(text("health")),
            scheme: Some(text("HTTP")),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// The variables that the spec stands for; names that the server documents.
fn environment(input: &Input<'_>) -> Vec<EnvVar> {
    let spec = &input.store.spec;
    let auth = &spec.mcp.auth;
    let names = &input.store.names;
    let mut variables: Vec<(&str, String)> = vec![
        ("LLM_MEMORY_DATA_DIR", text(DATA)),
        ("LLM_MEMORY_CONFIG", format!("{CONFIG}/{}", config_map::SERVER)),
        ("LLM_MEMORY_BIND_ADDRESS", text("0.0.0.0")),
        ("LLM_MEMORY_MCP_PORT", MCP_PORT.to_string()),
        ("LLM_MEMORY_HEALTH_PORT", HEALTH_PORT.to_string()),
        ("LLM_MEMORY_METRICS_PORT", METRICS_PORT.to_string()),
        ("LLM_MEMORY_LOG_DESTINATION", text("stderr")),
    ];
    // Not rendered where it says nothing new: pods are replaced when their template changes.
    if spec.mcp.path != McpSpec::default().path {
        variables.push((PATH_VARIABLE, spec.mcp.path.clone()));
    }
    if let Some(url) = &spec.mcp.public_url {
        variables.push(("LLM_MEMORY_PUBLIC_URL", url.clone()));
    }
    if !spec.mcp.allowed_origins.is_empty() {
        variables.push(("LLM_MEMORY_ALLOWED_ORIGINS", spec.mcp.allowed_origins.join(",")));
    }
    if !spec.mcp.allowed_hosts.is_empty() || auth.mode == AuthMode::None {
        // Without tokens the server answers only to names that it knows.
        let mut hosts = vec![
            names.main(),
            format!("{}.{}", names.store, names.namespace),
            names.host(),
            format!("{}.{}", names.host(), input.cluster_domain),
        ];
        hosts.extend(spec.mcp.allowed_hosts.iter().cloned());
        variables.push(("LLM_MEMORY_ALLOWED_HOSTS", hosts.join(",")));
    }
    if auth.mode == AuthMode::None {
        variables.push(("LLM_MEMORY_ALLOW_ANONYMOUS", text("true")));
    } else {
        variables.extend([
            ("LLM_MEMORY_TOKENS_FILE", format!("{TOKENS}/tokens.json")),
            ("LLM_MEMORY_IDENTITIES_FILE", format!("{CONFIG}/{}", config_map::IDENTITIES)),
            (AUDIENCE_VARIABLE, auth.audience.clone()),
        ]);
    }
    if let Some(oidc) = &auth.oidc {
        variables.push(("LLM_MEMORY_OIDC_ISSUER", oidc.issuer.clone()));
        variables.push(("LLM_MEMORY_OIDC_AUDIENCE", oidc.audience.clone()));
        if let Some(url) = &oidc.jwks_url {
            variables.push(("LLM_MEMORY_OIDC_JWKS_URL", url.clone()));
        }
        if oidc.ca_config_map.is_some() {
            variables.push(("LLM_MEMORY_OIDC_CA_FILE", format!("{ISSUER}/{ISSUER_AUTHORITY}")));
        }
    }
    if input.tls.is_some() {
        variables.push((TLS_VARIABLE, format!("{TLS}/tls.crt")));
        variables.push(("LLM_MEMORY_TLS_KEY_FILE", format!("{TLS}/tls.key")));
    }
    variables.extend(video(input.store));
    if spec.gpu.mode != GpuMode::Disabled && spec.gpu.resource_name.starts_with("nvidia.com/") {
        // What NVIDIA's container runtime brings along by default cannot encode.
        variables.push(("NVIDIA_DRIVER_CAPABILITIES", text("compute,utility,video")));
    }
    variables
        .into_iter()
        .map(|(name, value)| EnvVar { name: text(name), value: Some(value), value_from: None })
        .collect()
}

fn video(store: &Store) -> Vec<(&'static str, String)> {
    let video = &store.spec.video;
    let encoder = video.encoder.unwrap_or(match store.spec.gpu.mode {
        GpuMode::Disabled => VideoEncoder::Software,
        GpuMode::Preferred => VideoEncoder::Auto,
        GpuMode::Required => VideoEncoder::Hardware,
    });
    let mut variables = vec![("LLM_MEMORY_VIDEO_ENCODER", text(encoder.as_str()))];
    let mut set = |name, value: Option<String>| {
        if let Some(value) = value {
            variables.push((name, value));
        }
    };
    set("LLM_MEMORY_VIDEO_HWACCEL", video.hwaccel.map(|word| text(word.as_str())));
    set("LLM_MEMORY_VIDEO_CODEC", video.codec.map(|word| text(word.as_str())));
    set("LLM_MEMORY_VIDEO_CRF", video.crf.map(|number| number.to_string()));
    set("LLM_MEMORY_VIDEO_PRESET", video.preset.map(|word| text(word.as_str())));
    set(
        "LLM_MEMORY_QR_ERROR_CORRECTION",
        video.qr_error_correction.map(|word| text(word.as_str())),
    );
    variables
}

fn volumes(input: &Input<'_>) -> (Vec<Volume>, Vec<VolumeMount>) {
    let (names, spec) = (&input.store.names, &input.store.spec);
    let auth = &spec.mcp.auth;
    let mut volumes = vec![
        Volume {
            name: text("data"),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: spec.storage.existing_claim.clone().unwrap_or_else(|| names.claim()),
                read_only: None,
            }),
            ..Volume::default()
        },
        Volume {
            name: text("tmp"),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
        Volume {
            name: text("config"),
            config_map: Some(ConfigMapVolumeSource {
                name: names.config(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: text(name),
        mount_path: text(path),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount("data", DATA, false),
        mount("tmp", "/tmp", false),
        mount("config", CONFIG, true),
    ];
    if auth.mode != AuthMode::None {
        // Only the hashes: the server needs no secrets of its callers.
        volumes.push(Volume {
            name: text("tokens"),
            secret: Some(SecretVolumeSource {
                secret_name: Some(auth.secret_name.clone().unwrap_or_else(|| names.tokens())),
                items: Some(vec![KeyToPath {
                    key: text("tokens.json"),
                    path: text("tokens.json"),
                    mode: None,
                }]),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
        mounts.push(mount("tokens", TOKENS, true));
        volumes.push(account());
        mounts.push(mount("account", ACCOUNT, true));
    }
    if let Some(tls) = &input.tls {
        volumes.push(Volume {
            name: text(TLS_VOLUME),
            secret: Some(SecretVolumeSource {
                secret_name: Some(tls.secret_name.clone()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
        mounts.push(mount(TLS_VOLUME, TLS, true));
    }
    if let Some(name) = auth.oidc.as_ref().and_then(|oidc| oidc.ca_config_map.clone()) {
        volumes.push(Volume {
            name: text("issuer"),
            config_map: Some(ConfigMapVolumeSource { name, ..ConfigMapVolumeSource::default() }),
            ..Volume::default()
        });
        mounts.push(mount("issuer", ISSUER, true));
    }
    (volumes, mounts)
}

/// The server's own token, the authority of the API server, and the namespace: what the kubelet
/// would mount by itself, for this container alone.
fn account() -> Volume {
    let projections = vec![
        VolumeProjection {
            service_account_token: Some(ServiceAccountTokenProjection {
                audience: None,
                expiration_seconds: Some(3607),
                path: text("token"),
            }),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: text("kube-root-ca.crt"),
                items: Some(vec![KeyToPath {
                    key: text("ca.crt"),
                    path: text("ca.crt"),
                    mode: None,
                }]),
                optional: None,
            }),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: text("namespace"),
                    field_ref: Some(ObjectFieldSelector {
                        api_version: Some(text("v1")),
                        field_path: text("metadata.namespace"),
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
            }),
            ..VolumeProjection::default()
        },
    ];
    Volume {
        name: text("account"),
        projected: Some(ProjectedVolumeSource { default_mode: None, sources: Some(projections) }),
        ..Volume::default()
    }
}

pub(super) fn pull_secrets(store: &Store) -> Option<Vec<LocalObjectReference>> {
    let secrets = &store.spec.image_pull_secrets;
    (!secrets.is_empty()).then(|| secrets.clone())
}

/// What the restricted Pod Security Standard asks of a pod, with what people want otherwise.
pub(super) fn restricted_pod(wanted: Option<PodSecurityContext>) -> PodSecurityContext {
    let mut context = PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A volume of a million files is not walked at every start.
        fs_group_change_policy: Some(text("OnRootMismatch")),
        seccomp_profile: Some(SeccompProfile {
            type_: text("RuntimeDefault"),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    };
    if let Some(wanted) = wanted {
        context.merge_from(wanted);
    }
    context
}

pub(super) fn restricted_container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { add: None, drop: Some(vec![text("ALL")]) }),
        ..SecurityContext::default()
    }
}

fn resources(wanted: &ResourceRequirements, gpu: &GpuSpec) -> ResourceRequirements {
    let mut resources = wanted.clone();
    if gpu.mode == GpuMode::Required {
        // Extended resources are requested by limiting them.
        let count = Quantity(gpu.count.to_string());
        resources.limits.get_or_insert_default().insert(gpu.resource_name.clone(), count.clone());
        resources.requests.get_or_insert_default().insert(gpu.resource_name.clone(), count);
    }
    resources
}

fn node_selector(store: &Store) -> Option<BTreeMap<String, String>> {
    let mut selector = store.spec.node_selector.clone();
    if store.spec.gpu.mode == GpuMode::Required {
        selector.extend(store.spec.gpu.node_selector.clone());
    }
    (!selector.is_empty()).then_some(selector)
}

fn affinity(store: &Store) -> Option<Affinity> {
    let gpu = &store.spec.gpu;
    let mut affinity = store.spec.affinity.clone();
    if gpu.mode == GpuMode::Preferred {
        let labels = if gpu.node_selector.is_empty() {
            [(format!("{}.present", gpu.resource_name), text("true"))].into()
        } else {
            gpu.node_selector.clone()
        };
        let expressions = labels
            .into_iter()
            .map(|(key, value)| NodeSelectorRequirement {
                key,
                operator: text("In"),
                values: Some(vec![value]),
            })
            .collect();
        affinity
            .get_or_insert_with(Affinity::default)
            .node_affinity
            .get_or_insert_with(NodeAffinity::default)
            .preferred_during_scheduling_ignored_during_execution
            .get_or_insert_default()
            .push(PreferredSchedulingTerm {
                weight: 100,
                preference: NodeSelectorTerm {
                    match_expressions: Some(expressions),
                    match_fields: None,
                },
            });
    }
    affinity
}

fn tolerations(store: &Store) -> Option<Vec<Toleration>> {
    let gpu = &store.spec.gpu;
    let mut tolerations = store.spec.tolerations.clone();
    match gpu.mode {
        GpuMode::Disabled => {}
        GpuMode::Preferred | GpuMode::Required if gpu.tolerations.is_empty() => {
            tolerations.push(Toleration {
                key: Some(gpu.resource_name.clone()),
                operator: Some(text("Exists")),
                ..Toleration::default()
            });
        }
        GpuMode::Preferred | GpuMode::Required => {
            tolerations.extend(gpu.tolerations.iter().cloned());
        }
    }
    (!tolerations.is_empty()).then_some(tolerations)
}
