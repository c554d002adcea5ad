//! What is kept of a test that failed.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::Scratch;

/// Writes objects, events and logs of the namespace, and the operator's log, into a folder, and
/// answers its name. `E2E_EVIDENCE` says where; the system's temporary folder when unset.
pub async fn keep(scratch: &Scratch) -> Result<String> {
    let base = std::env::var_os("E2E_EVIDENCE").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = base.join(&scratch.namespace);
    tokio::fs::create_dir_all(&folder).await.context("evidence")?;
    let kinds = "memorystores,statefulsets,pods,services,persistentvolumeclaims,cronjobs,jobs,\
                 configmaps,networkpolicies,poddisruptionbudgets,serviceaccounts";
    let namespace = scratch.namespace.as_str();
    let commands: [(&str, Vec<&str>); 5] = [
        ("objects.yaml", vec!["get", kinds, "-n", namespace, "-o", "yaml"]),
        ("events.txt", vec!["get", "events", "-n", namespace, "--sort-by=.lastTimestamp"]),
        (
            "server.log",
            vec![
                "logs",
                "-n",
                namespace,
                "-l",
                "app.kubernetes.io/managed-by=llm-memory-operator",
                "--all-containers",
                "--prefix",
                "--tail=-1",
                "--ignore-errors",
            ],
        ),
        (
            "operator.log",
            vec![
                "logs",
                "-n",
                "llm-memory-system",
                "deployment/llm-memory-operator",
                "--tail=2000",
            ],
        ),
        ("describe.txt", vec!["describe", "pods,memorystores", "-n", namespace]),
    ];
    for (file, arguments) in commands {
        let output = Command::new("kubectl").args(arguments).output().await.context("kubectl")?;
        let mut bytes = output.stdout;
        bytes.extend_from_slice(&output.stderr);
        tokio::fs::write(folder.join(file), bytes).await.context(file)?;
    }
    Ok(folder.display().to_string())
}
