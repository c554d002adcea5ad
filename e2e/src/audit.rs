//! The audit log of the cluster: which rights somebody has used.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A verb on a resource, such as `patch` and `memorystores/status.llm-memory.dev`.
pub type Right = (String, String);

/// Where the log is: `E2E_AUDIT_LOG`, or beside the KUBECONFIG of the test cluster.
pub fn log() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("E2E_AUDIT_LOG") {
        return Ok(path.into());
    }
    let kubeconfig = std::env::var_os("KUBECONFIG").context("KUBECONFIG is not set")?;
    let folder = PathBuf::from(kubeconfig);
    Ok(folder.parent().context("KUBECONFIG names no file")?.join("log/audit.log"))
}

/// What `user` has done, successfully, since the cluster was started.
pub async fn used(user: &str) -> Result<BTreeSet<Right>> {
    let path = log()?;
    let bytes = tokio::fs::read(&path)
        .await
        .with_context(|| format!("no audit log at {}: set E2E_AUDIT_LOG", path.display()))?;
    let mut rights = BTreeSet::new();
    for line in String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(user)) {
        // The last line may be half written.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        rights.extend(rights_of(&event, user));
    }
    Ok(rights)
}

fn rights_of(event: &Value, user: &str) -> Vec<Right> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let code = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
    let resource = text("/objectRef/resource");
    if text("/user/username") != user || !(200..300).contains(&code) || resource.is_empty() {
        return Vec::new();
    }
    let resource = name(text("/objectRef/apiGroup"), resource, text("/objectRef/subresource"));
    let mut rights = vec![(text("/verb").to_owned(), resource.clone())];
    // An object that server-side apply makes is a patch that needs the right to create, too.
    if text("/verb") == "patch" && code == 201 {
        rights.push(("create".to_owned(), resource));
    }
    rights
}

/// How a resource is written here and in rules: `memorystores/status.llm-memory.dev`.
pub fn name(group: &str, resource: &str, subresource: &str) -> String {
    let mut name = resource.to_owned();
    for (sign, part) in [("/", subresource), (".", group)] {
        if !part.is_empty() {
            name.push_str(sign);
            name.push_str(part);
        }
    }
    name
}
