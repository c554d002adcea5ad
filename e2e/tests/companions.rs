//! What the operator makes of other projects' resources, where the cluster knows them.

#![allow(clippy::indexing_slicing, reason = "a test: a wrong index fails it")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{ListParams, PostParams};
use llm_memory_e2e::agents::TOKEN;
use llm_memory_e2e::{companions, scratch, wait};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
const MONITORING: &str = "monitoring.coreos.com";
const CERTIFICATES: &str = "cert-manager.io";

#[tokio::test]
async fn a_store_is_monitored_once_the_cluster_knows_how() -> Result<()> {
    scratch("monitored", |scratch| async move {
        let spec = json!({
            "storage": {"size": "1Gi"}, "monitoring": {"labels": {"release": "prometheus"}},
        });
        scratch.create("memory", spec).await?;
        scratch.ready("memory").await?;
        let before = scratch.incarnation("memory").await?;
        companions::install(&scratch.client).await?;
        let monitor = scratch.companion(MONITORING, "ServiceMonitor", "memory").await?;
        let rule = scratch.companion(MONITORING, "PrometheusRule", "memory").await?;
        for object in [&monitor, &rule] {
            let labels = object.metadata.labels.clone().unwrap_or_default();
            ensure!(labels.get("release").map(String::as_str) == Some("prometheus"), "{labels:?}");
            let owners = object.metadata.owner_references.clone().unwrap_or_default();
            ensure!(owners.iter().any(|owner| owner.kind == "MemoryStore"), "{owners:?}");
        }
        // What Prometheus would do with it: find the Service by its labels, and the port by name.
        let wanted = &monitor.data["spec"]["selector"]["matchLabels"];
        let services = scratch.api::<Service>().list(&ListParams::default()).await?;
        let port = &monitor.data["spec"]["endpoints"][0]["port"];
        let found = services.items.iter().filter(|service| {
            let labels = service.metadata.labels.clone().unwrap_or_default();
            let fits = wanted.as_object().is_some_and(|wanted| {
                wanted.iter().all(|(name, value)| labels.get(name).is_some_and(|it| value == it))
            });
            let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
            fits && ports.into_iter().flatten().any(|it| it.name.as_deref() == port.as_str())
        });
        ensure!(found.count() == 1, "the ServiceMonitor finds not one Service: {monitor:?}");
        let alerts = rule.data["spec"]["groups"][0]["rules"].as_array().context("no rules")?;
        ensure!(alerts.iter().any(|alert| alert["alert"].is_string()), "{alerts:?}");

        let off = json!({"monitoring": {"serviceMonitor": false, "prometheusRule": false}});
        scratch.change("memory", off).await?;
        scratch.no_companion(MONITORING, "ServiceMonitor", "memory").await?;
        scratch.no_companion(MONITORING, "PrometheusRule", "memory").await?;
        ensure!(scratch.incarnation("memory").await? == before, "the server was restarted");
        Ok(())
    })
    .await
}

/// A Secret as cert-manager makes it for a Certificate, issued by an authority of its own.
fn issued(certificate: &Value) -> Result<(Secret, String)> {
    let names: Vec<String> = serde_json::from_value(certificate["dnsNames"].clone())?;
    let made = rcgen::generate_simple_self_signed(names)?;
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let secret = serde_json::from_value(json!({
        "metadata": {"name": certificate["secretName"]}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pem, "tls.key": key, "ca.crt": pem},
    }))?;
    Ok((secret, pem))
}

#[tokio::test]
async fn an_issuer_s_certificate_is_asked_for_awaited_and_served() -> Result<()> {
    scratch("issued", |scratch| async move {
        companions::install(&scratch.client).await?;
        let spec = json!({
            "storage": {"size": "1Gi"},
            "tls": {"certManagerIssuerRef": {"name": "team"}},
            "mcp": {"auth": {"serviceAccounts": [{"name": "agent"}]}},
        });
        scratch.create("memory", spec).await?;
        let asked = scratch.companion(CERTIFICATES, "Certificate", "memory-tls").await?;
        let certificate = &asked.data["spec"];
        ensure!(certificate["issuerRef"]["name"] == "team", "{certificate}");
        let (secret, authority) = issued(certificate)?;
        scratch.api::<Secret>().create(&PostParams::default(), &secret).await?;
        let store = scratch.ready("memory").await?;
        let url = store.status.and_then(|status| status.url);
        ensure!(url == Some(scratch.url("https", "memory")), "{url:?}");
        scratch.start_agent("agent").await?;
        scratch.put("agent", "/tmp/ca.crt", &authority).await?;
        let url = scratch.url("https", "memory");
        let answer = scratch.visit("agent", &[&url, TOKEN, "--ca", "/tmp/ca.crt"]).await?;
        ensure!(answer["found"]["total"].as_u64() > Some(0), "{answer}");

        // Without the issuer nothing asks for certificates any more.
        scratch.change("memory", json!({"tls": null})).await?;
        scratch.no_companion(CERTIFICATES, "Certificate", "memory-tls").await?;
        wait::until("plain HTTP", MINUTE, || async {
            let store = scratch.api::<llm_memory_crds::MemoryStore>().get("memory").await?;
            let url = store.status.and_then(|status| status.url).unwrap_or_default();
            Ok(if url.starts_with("http://") { Ok(()) } else { Err(url) })
        })
        .await?;
        scratch.ready("memory").await.map(drop)
    })
    .await
}
