//! The operator's rights: each has a reason, each is used, and there are no others.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test: a wrong index fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use llm_memory_e2e::audit::Right;
use llm_memory_e2e::rights::{OPERATOR, SYSTEM};
use llm_memory_e2e::{Scratch, audit, companions, rights, scratch, wait};
use serde::Deserialize;
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// Rights that every ServiceAccount has: to ask about itself and, by the chart, about a token that
/// it holds.
const EVERYBODY: [&str; 4] = [
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
    "selfsubjectreviews.authentication.k8s.io",
    "tokenreviews.authentication.k8s.io",
];

/// What would make of the operator more than it is: verb, group, resource.
const NEVER: [(&str, &str, &str); 22] = [
    ("list", "", "secrets"),
    ("watch", "", "secrets"),
    ("delete", "", "secrets"),
    ("delete", "", "persistentvolumeclaims"),
    ("deletecollection", "", "persistentvolumeclaims"),
    ("delete", "", "persistentvolumes"),
    ("create", "", "pods"),
    ("create", "", "pods/exec"),
    ("create", "", "pods/eviction"),
    ("create", "", "serviceaccounts/token"),
    ("impersonate", "", "serviceaccounts"),
    ("get", "", "nodes"),
    ("create", "", "namespaces"),
    ("delete", "apps", "statefulsets"),
    ("create", "batch", "jobs"),
    ("update", "llm-memory.dev", "memorystores"),
    ("delete", "llm-memory.dev", "memorystores"),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings"),
    ("create", "rbac.authorization.k8s.io", "rolebindings"),
    ("patch", "rbac.authorization.k8s.io", "clusterroles"),
    ("patch", "apiextensions.k8s.io", "customresourcedefinitions"),
    ("create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    resource: String,
    why: String,
    /// How each verb is proven.
    verbs: BTreeMap<String, String>,
}

/// The rights of testdata/rights.yaml with their proofs.
fn table() -> Result<BTreeMap<Right, String>> {
    let lines: Vec<Line> = serde_saphyr::from_str(include_str!("../testdata/rights.yaml"))?;
    let mut table = BTreeMap::new();
    for line in lines {
        ensure!(line.why.len() > 10, "{} has no reason", line.resource);
        for (verb, proof) in line.verbs {
            ensure!(proof == "audit" || proof.len() > 40, "{verb} {}: no proof", line.resource);
            let former = table.insert((verb, line.resource.clone()), proof);
            ensure!(former.is_none(), "{} is there twice", line.resource);
        }
    }
    Ok(table)
}

#[tokio::test]
async fn each_right_of_the_chart_has_a_reason_and_a_proof() -> Result<()> {
    let reasoned: BTreeSet<Right> = table()?.into_keys().collect();
    for arguments in [&[][..], &["--set", "watchNamespaces={team,other}"]] {
        let chart = rights::of_chart(arguments).await?;
        let unreasoned: Vec<_> = chart.difference(&reasoned).collect();
        ensure!(unreasoned.is_empty(), "rights without a line in rights.yaml: {unreasoned:?}");
        let stale: Vec<_> = reasoned.difference(&chart).collect();
        ensure!(stale.is_empty(), "lines of rights.yaml without a right: {stale:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_installed_operator_has_these_rights_and_no_others() -> Result<()> {
    scratch("rights", |scratch| async move {
        let own = |right: &Right| {
            ["leases.coordination.k8s.io", "serviceaccounts/token"].contains(&right.1.as_str())
        };
        let reasoned: BTreeSet<Right> = table()?.into_keys().collect();
        let everybody: BTreeSet<Right> =
            EVERYBODY.iter().map(|name| ("create".to_owned(), (*name).to_owned())).collect();
        for namespace in [scratch.namespace.as_str(), SYSTEM] {
            let granted = rights::of_user(OPERATOR, namespace).await?;
            let excess: Vec<_> = granted
                .iter()
                .filter(|right| !reasoned.contains(right) && !everybody.contains(right))
                .collect();
            ensure!(excess.is_empty(), "in {namespace} the operator also may: {excess:?}");
            let expected = reasoned.iter().filter(|right| namespace == SYSTEM || !own(right));
            let missing: Vec<_> = expected.filter(|right| !granted.contains(right)).collect();
            ensure!(missing.is_empty(), "in {namespace} the operator may not: {missing:?}");
            if namespace != SYSTEM {
                ensure!(!granted.iter().any(own), "Leases or tokens of other namespaces");
            }
        }
        for right in NEVER {
            for namespace in ["", scratch.namespace.as_str(), "kube-system", SYSTEM] {
                let may = rights::may(&scratch.client, OPERATOR, right, namespace).await?;
                ensure!(!may, "the operator may {right:?} in {namespace:?}");
            }
        }
        // The question is asked rightly: of what it may do, the answer is yes.
        let known = ("get", "", "secrets");
        ensure!(rights::may(&scratch.client, OPERATOR, known, &scratch.namespace).await?);
        Ok(())
    })
    .await
}

/// Has the operator do what only some stores ask for.
async fn exercise(scratch: &Scratch) -> Result<()> {
    companions::install(&scratch.client).await?;
    scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
    scratch.ready("memory").await?;
    let pod = scratch.api::<Pod>().get("memory-0").await?.uid();
    // Changes each kind of object, and replaces the pod.
    let spec = json!({
        "storage": {"size": "2Gi"},
        "settings": {"limits.maxItemKb": "512"},
        "mcp": {"port": 3100, "auth": {"tokens": [{"name": "default"}, {"name": "second"}]}},
        "network": {"ingressFrom": [{"podSelector": {}}]},
        "podTemplate": {"metadata": {"labels": {"team": "harbour"}}},
        "maintenance": {"verify": {"suspend": true}},
    });
    scratch.change("memory", spec).await?;
    wait::until("another pod", MINUTE, || async {
        let now = scratch.api::<Pod>().get_opt("memory-0").await?.and_then(|pod| pod.uid());
        Ok(if now.is_some() && now != pod { Ok(()) } else { Err(now) })
    })
    .await?;
    scratch.ready("memory").await?;
    scratch.change("memory", json!({"network": {"enabled": false}})).await?;
    wait::until("no NetworkPolicy", MINUTE, || async {
        let policy = scratch.api::<NetworkPolicy>().get_opt("memory").await?;
        Ok(policy.map_or(Ok(()), |_| Err("there")))
    })
    .await?;
    // Applied anew because somebody else has changed it.
    for object in ["serviceaccount/memory", "poddisruptionbudget/memory"] {
        let owner = ["label", object, "app.kubernetes.io/name=other", "--overwrite"];
        kubectl(scratch, &owner).await?;
        wait::until(&format!("{object} mended"), MINUTE, || async {
            let path = "jsonpath={.metadata.labels.app\\.kubernetes\\.io/name}";
            let label = kubectl(scratch, &["get", object, "-o", path]).await?;
            Ok(if label == "llm-memory" { Ok(()) } else { Err(label) })
        })
        .await?;
    }
    // What other projects define.
    let monitored =
        [("monitoring.coreos.com", "ServiceMonitor"), ("monitoring.coreos.com", "PrometheusRule")];
    for (group, kind) in monitored {
        scratch.companion(group, kind, "memory").await?;
    }
    let spec = json!({
        "monitoring": {"serviceMonitor": false, "prometheusRule": false},
        "tls": {"certManagerIssuerRef": {"name": "team"}},
    });
    scratch.change("memory", spec).await?;
    for (group, kind) in monitored {
        scratch.no_companion(group, kind, "memory").await?;
    }
    scratch.companion("cert-manager.io", "Certificate", "memory-tls").await?;
    scratch.change("memory", json!({"tls": null})).await?;
    scratch.no_companion("cert-manager.io", "Certificate", "memory-tls").await
}

async fn kubectl(scratch: &Scratch, arguments: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new("kubectl")
        .args(["-n", &scratch.namespace])
        .args(arguments)
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn each_right_is_used() -> Result<()> {
    scratch("used", |scratch| async move {
        exercise(&scratch).await?;
        let wanted: Vec<Right> = table()?
            .into_iter()
            .filter(|(_, proof)| proof == "audit")
            .map(|(right, _)| right)
            .collect();
        // Events are counted, and the log is written, some time after the fact.
        wait::until("every right in the audit log", MINUTE, || async {
            let used = audit::used(OPERATOR).await?;
            let unused: Vec<_> = wanted.iter().filter(|right| !used.contains(right)).collect();
            Ok(if unused.is_empty() { Ok(()) } else { Err(format!("unused: {unused:?}")) })
        })
        .await
    })
    .await
}
