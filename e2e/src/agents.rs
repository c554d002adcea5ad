//! Pods with an agent on the official Python SDK (`e2e/images/agent`).

use std::time::Duration;

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::{Scratch, wait};

/// File in an agent's pod with a token of its account, made for stores.
pub const TOKEN: &str = "/var/run/secrets/memory/token";
/// File with a token of the same account that is made for somebody else.
pub const TOKEN_FOR_ANOTHER: &str = "/var/run/secrets/memory/another";
/// Time that a new pod's network has.
const NETWORK: Duration = Duration::from_secs(30);
/// Time that a pod has to start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// The image of agents.
pub fn image() -> String {
    std::env::var("E2E_AGENT_IMAGE")
        .unwrap_or_else(|_| "localhost/llm-memory-e2e-agent:1".to_owned())
}

impl Scratch {
    /// Starts the pod `name`, an agent with a ServiceAccount of the same name.
    pub async fn start_agent(&self, name: &str) -> Result<()> {
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        self.api::<ServiceAccount>().create(&PostParams::default(), &account).await?;
        let token = |audience: &str, path: &str| {
            json!({"serviceAccountToken": {
                "audience": audience, "expirationSeconds": 600, "path": path,
            }})
        };
        let image = image();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "serviceAccountName": name,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "agent",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "memory", "mountPath": "/var/run/secrets/memory", "readOnly": true},
                        {"name": "tmp", "mountPath": "/tmp"},
                    ],
                }],
                "volumes": [
                    {"name": "memory", "projected": {"sources": [
                        token("llm-memory", "token"), token("another", "another"),
                    ]}},
                    {"name": "tmp", "emptyDir": {}},
                ],
            },
        }))?;
        self.api::<Pod>().create(&PostParams::default(), &pod).await?;
        wait::until(&format!("the agent {name}"), STARTS_WITHIN, || async {
            let status = self.api::<Pod>().get(name).await?.status.unwrap_or_default();
            let running = status.phase.as_deref() == Some("Running");
            Ok(if running { Ok(()) } else { Err(status) })
        })
        .await
    }

    /// Has the agent `name` visit a store, with these arguments of its program, and answers what
    /// it printed: `stored` and `found`, or the `status` and `message` of a refusal.
    ///
    /// What enforces network policies may not have heard of the agent's pod yet; until then it
    /// reaches nobody, and tries again.
    pub async fn visit(&self, name: &str, arguments: &[&str]) -> Result<Value> {
        let mut command = vec!["python3", "/opt/agent/agent.py"];
        command.extend_from_slice(arguments);
        wait::until(&format!("{name} with {arguments:?}"), NETWORK, || async {
            let text = self.exec(name, "agent", &command).await?.text;
            match text.lines().find(|line| line.starts_with('{')) {
                Some(answer) => Ok(Ok(Ok(serde_json::from_str::<Value>(answer)?))),
                None if text.contains("All connection attempts failed") => Ok(Err(text)),
                None => Ok(Ok(Err(text))),
            }
        })
        .await?
        .map_err(|text| anyhow!("{name} with {arguments:?}: {text}"))
    }

    /// Puts a file into the agent's pod.
    pub async fn put(&self, name: &str, path: &str, content: &str) -> Result<()> {
        let write = "printf %s \"$1\" >\"$2\"";
        self.run(name, "agent", &["sh", "-c", write, "sh", content, path]).await?;
        Ok(())
    }

    /// The pod of the store `name`, as its uid and how often its containers started anew.
    pub async fn incarnation(&self, name: &str) -> Result<(String, i32)> {
        let pod = self.api::<Pod>().get(&format!("{name}-0")).await?;
        let uid = pod.uid().unwrap_or_default();
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        Ok((uid, statuses.iter().map(|container| container.restart_count).sum()))
    }

    /// Where agents reach the store `name`.
    pub fn url(&self, scheme: &str, name: &str) -> String {
        format!("{scheme}://{name}.{}.svc:3000/mcp", self.namespace)
    }
}
