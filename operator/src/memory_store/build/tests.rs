//! Golden objects: what ten stores become.

use serde_json::{Value, json};

use super::*;
use crate::hash;
use crate::memory_store::{tokens, validate::validate};

/// Everything that is built for `spec`, as one YAML document.
fn golden(spec: Value) -> String {
    golden_with(spec, Apis::default(), None)
}

fn golden_with(spec: Value, apis: Apis, tls: Option<TlsFacts>) -> String {
    written(resources(spec, apis, tls))
}

fn resources(spec: Value, apis: Apis, tls: Option<TlsFacts>) -> Resources {
    resources_beside(spec, apis, tls, None)
}

/// What is built while a pod is reached as `running` says.
fn resources_beside(
    spec: Value,
    apis: Apis,
    tls: Option<TlsFacts>,
    running: Option<Reached>,
) -> Resources {
    let mut object = MemoryStore::new("notes", serde_json::from_value(spec).unwrap());
    object.metadata.namespace = Some("team".to_owned());
    object.metadata.uid = Some("11111111-2222-3333-4444-555555555555".to_owned());
    let store = validate(&object).unwrap();
    let operator = OperatorIdentity {
        namespace: "llm-memory-system".to_owned(),
        service_account: "llm-memory-operator".to_owned(),
        pod_labels: [("app.kubernetes.io/name".to_owned(), "llm-memory-operator".to_owned())]
            .into(),
        api_server_ports: vec![443, 6443],
    };
    let moment = "2026-01-01T00:00:00Z".parse().unwrap();
    let planned = tokens::plan(&store.spec.mcp.auth, None, moment, || [7; 38]).unwrap();
    let size = store.spec.storage.size.0.clone();
    let input = Input {
        store: &store,
        image: store.spec.image.as_deref().unwrap_or("llm-memory:1"),
        operator: &operator,
        cluster_domain: "cluster.local",
        apis,
        reached: running.unwrap_or_else(|| Reached::asked_for(&store, tls.as_ref())),
        tls,
        tokens: planned.map(|planned| planned.data),
        claim_size: &size,
        keep: None,
    };
    build(&input)
}

fn written(resources: Resources) -> String {
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
    let documents = json!({
        "serviceAccounts": service_accounts,
        "configMap": config_map,
        "secret": secret,
        "services": services,
        "networkPolicy": network_policy,
        "disruptionBudget": disruption_budget,
        "claim": claim,
        "certificate": certificate,
        "serviceMonitor": service_monitor,
        "prometheusRule": prometheus_rule.is_some(),
        "cronJobs": cron_jobs,
        "statefulSet": stateful_set,
    });
    serde_saphyr::to_string(&documents).unwrap()
}

#[test]
fn minimal() {
    insta::assert_snapshot!(golden(json!({})));
}

#[test]
fn gpu_preferred() {
    insta::assert_snapshot!(golden(json!({"gpu": {"mode": "Preferred"}})));
}

#[test]
fn gpu_required() {
    insta::assert_snapshot!(golden(json!({
        "gpu": {
            "mode": "Required", "resourceName": "amd.com/gpu", "count": 2,
            "nodeSelector": {"pool": "gpu"}, "runtimeClassName": "amd",
            "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "gpu"}],
        },
        "video": {"codec": "h265", "crf": 18, "preset": "slow", "hwaccel": "vaapi", "qrErrorCorrection": "M"},
    })));
}

#[test]
fn agents() {
    insta::assert_snapshot!(golden(json!({"mcp": {"auth": {
        "serviceAccounts": [
            {"namespace": "agents", "name": "planner", "projects": ["web"], "write": ["local"]},
            {"name": "reader", "read": ["global"], "roles": ["agent", "monitor"]},
            {"namespace": "ci", "name": "*", "tenant": "ci"},
            {"namespace": "ci", "name": "*"},
        ],
        "tokens": [{"name": "laptop"}, {"name": "dashboard", "roles": ["monitor"]}],
    }}})));
}

#[test]
fn oidc() {
    insta::assert_snapshot!(golden(json!({"mcp": {
        "path": "/teams/web/memory", "publicUrl": "https://memory.example.org", "allowedHosts": ["memory.example.org"],
        "allowedOrigins": ["https://console.example.org"],
        "auth": {"mode": "OIDC", "oidc": {
            "issuer": "https://id.example.org", "audience": "memory", "caConfigMap": "corporate-ca",
            "subjects": [{"subject": "ada", "roles": ["admin"]}, {"claim": "groups", "value": "team-a"}],
        }},
    }})));
}

#[test]
fn encrypted_and_monitored() {
    let apis = Apis { service_monitor: true, prometheus_rule: true, certificate: true };
    let tls = TlsFacts { secret_name: "notes-tls".to_owned(), authority_key: "ca.crt" };
    let spec = json!({
        "tls": {"certManagerIssuerRef": {"name": "ours", "kind": "ClusterIssuer"}},
        "monitoring": {"labels": {"release": "prometheus"}},
    });
    insta::assert_snapshot!(golden_with(spec, apis, Some(tls)));
}

#[test]
fn hibernated_and_deletable() {
    insta::assert_snapshot!(golden(json!({
        "replicas": 0, "reclaimPolicy": "Delete",
        "storage": {"size": "1Ti", "storageClassName": "fast", "accessModes": ["ReadWriteOncePod"]},
    })));
}

#[test]
fn existing_claim_and_settings() {
    insta::assert_snapshot!(golden(json!({
        "image": "registry.example.org/llm-memory:2", "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "pull"}],
        "storage": {"existingClaim": "mine"},
        "settings": {"limits.maxItemKb": "2048", "log.level": "debug", "maintenance.autoCompact": "true"},
        "mcp": {"auth": {"secretName": "own-tokens"}},
    })));
}

#[test]
fn anonymous_within_the_network() {
    insta::assert_snapshot!(golden(json!({
        "mcp": {"port": 80, "auth": {"mode": "None"}},
        "network": {
            "ingressFrom": [{"podSelector": {"matchLabels": {"role": "agent"}}}],
            "metricsFrom": [],
            "egressTo": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        },
        "monitoring": {"serviceMonitor": false},
    })));
}

#[test]
fn placed_and_overlaid() {
    insta::assert_snapshot!(golden(json!({
        "nodeSelector": {"disk": "ssd"},
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}]}},
        "tolerations": [{"key": "memory", "operator": "Exists"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "priorityClassName": "high", "securityContext": {"runAsUser": 1234, "fsGroup": 1234},
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
        "podTemplate": {
            "metadata": {"annotations": {"mesh": "off"}},
            "spec": {"containers": [
                {"name": "server", "env": [{"name": "RUST_LOG", "value": "debug"}]},
                {"name": "sidecar", "image": "sidecar:1"},
            ]},
        },
        "maintenance": {
            "compaction": {"schedule": "*/5 * * * *", "timeZone": "Europe/Berlin", "activeDeadlineSeconds": 600},
            "quarterly": {"suspend": true},
        },
    })));
}

#[test]
fn another_template_is_another_edition() {
    let specs = [
        json!({}),
        json!({"gpu": {"mode": "Required"}}),
        json!({"mcp": {"auth": {"mode": "None"}}, "network": {"ingressFrom": [{"podSelector": {}}]}}),
        json!({"settings": {"log.level": "warn"}, "video": {"crf": 1}}),
    ];
    let tls = TlsFacts { secret_name: "s".to_owned(), authority_key: "ca.crt" };
    let template = |spec| {
        let set = resources(spec, Apis::default(), Some(tls.clone())).stateful_set;
        json!(set.spec.unwrap().template)
    };
    let templates: Vec<Value> = specs.map(template).into();
    // When this fails because the code makes other templates, raise EDITION: otherwise stores are
    // restarted by the next operator. When only the hash is stale after that, write it down here.
    assert_eq!((EDITION, hash::of(&templates).as_str()), ("2", "21f00c3d7a9a15991c39"));
}

#[test]
fn fields_that_a_newer_definition_adds_do_not_make_an_old_spec_another_one() {
    let annotation = |spec| {
        let set = resources(spec, Apis::default(), None).stateful_set;
        set.metadata.annotations.unwrap()[crate::names::INPUTS].clone()
    };
    let minimal = annotation(json!({}));
    // Stores in clusters carry this; another value would restart all of them.
    assert_eq!(minimal, "6a20ac8dc599d23d3ab9");
    let spelled = json!({"update": {"strategy": "Automatic"}, "gpu": {"mode": "Disabled"}});
    assert_eq!(annotation(spelled), minimal);
    assert_ne!(annotation(json!({"settings": {"log.level": "warn"}})), minimal);
}

#[test]
fn a_newer_operator_keeps_the_template_of_an_unchanged_spec() {
    let mut object =
        MemoryStore::new("notes", serde_json::from_value(serde_json::json!({})).unwrap());
    object.metadata.namespace = Some("team".to_owned());
    object.metadata.uid = Some("u".to_owned());
    let store = validate(&object).unwrap();
    let operator = OperatorIdentity {
        namespace: "system".to_owned(),
        service_account: "operator".to_owned(),
        pod_labels: BTreeMap::new(),
        api_server_ports: vec![443, 6443],
    };
    let mut kept = PodTemplateSpec::default();
    kept.metadata.get_or_insert_default().name = Some("former".to_owned());
    let input = Input {
        store: &store,
        image: "llm-memory:1",
        operator: &operator,
        cluster_domain: "cluster.local",
        apis: Apis::default(),
        tls: None,
        reached: Reached::default(),
        tokens: None,
        claim_size: "10Gi",
        keep: Some(KeptTemplate {
            template: kept.clone(),
            edition: "0".to_owned(),
            inputs: "i".to_owned(),
        }),
    };
    let set = build(&input).stateful_set;
    assert_eq!(set.spec.unwrap().template, kept);
    let annotations = set.metadata.annotations.unwrap();
    assert_eq!(annotations[crate::names::EDITION], "0");
    assert_eq!(annotations[crate::names::INPUTS], "i");
}

#[test]
fn those_who_connect_do_as_the_pod_that_runs_was_made() {
    let apis = Apis::default();
    let anonymous = json!({"mcp": {"auth": {"mode": "None"}}});
    let tls = TlsFacts { secret_name: "web".to_owned(), authority_key: "tls.crt" };
    let kept = Reached { tls: Some(tls.clone()), audience: Some("former".to_owned()) };
    let built = json!(written_parts(&resources_beside(anonymous, apis, None, Some(kept))));
    for part in ["https://notes", "LLM_MEMORY_CA_FILE", "\"audience\":\"former\"", "\"port\":6443"]
    {
        assert!(built.to_string().contains(part), "{part}: {built}");
    }
    let plain = Some(Reached::default());
    let built = json!(written_parts(&resources_beside(json!({}), apis, Some(tls), plain)));
    for part in ["https", "LLM_MEMORY_CA_FILE", "LLM_MEMORY_TOKEN_FILE"] {
        assert!(!built.to_string().contains(part), "{part}: {built}");
    }
    assert!(built.to_string().contains("\"port\":6443"), "for the pod to come: {built}");
}

fn written_parts(resources: &Resources) -> Value {
    json!([resources.services, resources.network_policy, resources.cron_jobs])
}
