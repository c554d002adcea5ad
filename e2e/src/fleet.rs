//! Ground for many stores that cost nothing: nodes that kwok plays, volumes that nobody mounts,
//! and an identity for an operator that runs outside the cluster with the rights of the chart.
//! Pods on such nodes run and become ready, and answer nothing: no store becomes Ready.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Namespace of the operator.
pub const SYSTEM: &str = "llm-memory-system";
/// Its account.
const ACCOUNT: &str = "llm-memory-operator";
/// StorageClass of volumes that nobody mounts.
const CLASS: &str = "llm-memory-fake";
/// Label of everything made here, and its value for what has no other.
const LABEL: &str = "llm-memory.dev/e2e";
/// Requests under way at the same time.
pub const AT_ONCE: usize = 16;
/// Pods that a fake node takes.
const PODS_PER_NODE: usize = 250;

/// The identity of an operator outside the cluster.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name in the audit log.
    pub user: String,
    /// With its token.
    pub kubeconfig: PathBuf,
}

/// Applies definitions and rights from the folder `charts`, and writes a kubeconfig into `folder`.
pub async fn identity(client: &Client, charts: &Path, folder: &Path) -> Result<Identity> {
    let deployments: Api<Deployment> = Api::all(client.clone());
    let label = format!("app.kubernetes.io/name={ACCOUNT}");
    let running = deployments.list(&ListParams::default().labels(&label)).await?;
    ensure!(
        running.items.is_empty(),
        "an operator is installed in this cluster: use another cluster (`./justw cluster --name`), \
         or `helm uninstall` it"
    );
    let chart = |name: &str| charts.join(name).display().to_string();
    run("helm", &["upgrade", "--install", "llm-memory-crds", &chart("llm-memory-crds")], "")
        .await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}});
    run("kubectl", &["apply", "-f", "-"], &namespace.to_string()).await?;
    let operator = chart("llm-memory-operator");
    let mut template = vec!["template", ACCOUNT, operator.as_str(), "--namespace", SYSTEM];
    template.extend(["-s", "templates/rbac.yaml", "-s", "templates/serviceaccount.yaml"]);
    let rights = run("helm", &template, "").await?;
    run("kubectl", &["apply", "--namespace", SYSTEM, "-f", "-"], &rights).await?;
    let ask = ["create", "token", ACCOUNT, "--namespace", SYSTEM, "--duration", "24h"];
    let token = run("kubectl", &ask, "").await?;
    let config = run("kubectl", &["config", "view", "--raw", "--minify", "-o", "json"], "").await?;
    let mut config: Value = serde_json::from_str(&config)?;
    let user = config.pointer_mut("/users/0/user").context("the kubeconfig names no user")?;
    *user = json!({ "token": token.trim() });
    let kubeconfig = folder.join("operator.kubeconfig");
    // It holds a token: it is for nobody else, and goes with the run.
    let mut options = tokio::fs::OpenOptions::new();
    let mut file =
        options.create(true).write(true).truncate(true).mode(0o600).open(&kubeconfig).await?;
    file.write_all(config.to_string().as_bytes()).await.context("kubeconfig")?;
    file.flush().await.context("kubeconfig")?;
    Ok(Identity { user: format!("system:serviceaccount:{SYSTEM}:{ACCOUNT}"), kubeconfig })
}

/// Makes room for `pods` pods and `claims` claims, and the namespaces. `run` tells runs apart.
pub async fn room(
    client: &Client,
    run: &str,
    namespaces: &[String],
    pods: usize,
    claims: usize,
) -> Result<()> {
    let class = json!({
        "metadata": {"name": CLASS, "labels": {LABEL: "fleet"}},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "Immediate",
    });
    let classes: Api<StorageClass> = Api::all(client.clone());
    make(&classes, class).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    for number in 0..pods.div_ceil(PODS_PER_NODE) {
        let size = json!({"cpu": "1000", "memory": "4Ti", "pods": PODS_PER_NODE.to_string()});
        let name = format!("{run}-{number}");
        let node = json!({
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"kubernetes.io/hostname": name, "type": "kwok", LABEL: run},
            },
            "spec": {"taints": [{"key": LABEL, "effect": "NoSchedule"}]},
            "status": {"capacity": size, "allocatable": size},
        });
        make(&nodes, node).await?;
    }
    let all: Api<Namespace> = Api::all(client.clone());
    for name in namespaces {
        make(&all, json!({"metadata": {"name": name, "labels": {LABEL: run}}})).await?;
    }
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    stream::iter(0..claims)
        .map(|number| {
            let volume = json!({
                "metadata": {"name": format!("{run}-{number}"), "labels": {LABEL: run}},
                "spec": {
                    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                    "storageClassName": CLASS, "hostPath": {"path": "/nonexistent"},
                },
            });
            make(&volumes, volume)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

/// The part of a store's spec that puts it on the nodes of `run`.
pub fn spec(run: &str) -> Value {
    json!({
        "storage": {"size": "1Gi", "storageClassName": CLASS},
        "nodeSelector": {LABEL: run},
        "tolerations": [{"key": LABEL, "operator": "Exists"}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    })
}

/// Removes what [`room`] made. Namespaces go on ending by themselves.
pub async fn clear(client: &Client, run: &str) -> Result<()> {
    let (of_run, how) =
        (ListParams::default().labels(&format!("{LABEL}={run}")), DeleteParams::background());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for namespace in namespaces.list_metadata(&of_run).await? {
        let name = namespace.metadata.name.unwrap_or_default();
        namespaces.delete(&name, &how).await?;
    }
    Api::<PersistentVolume>::all(client.clone()).delete_collection(&how, &of_run).await?;
    Api::<Node>::all(client.clone()).delete_collection(&how, &of_run).await?;
    Ok(())
}

/// Makes an object, unless it is there.
async fn make<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    match api.create(&PostParams::default(), &serde_json::from_value(object)?).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Runs a program with `input`, and answers its output.
async fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} does not start; run this with ./justw e2e"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
