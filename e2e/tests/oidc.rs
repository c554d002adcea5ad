//! People and programs with tokens of an identity provider.

#![allow(clippy::indexing_slicing, reason = "a test: a wrong index fails it")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::PostParams;
use llm_memory_e2e::agents::TOKEN;
use llm_memory_e2e::{Scratch, scratch, wait};
use serde_json::json;

const AUDIENCE: &str = "memory-users";

/// Starts an identity provider in a pod of its own, and answers its address.
async fn issuer(scratch: &Scratch) -> Result<String> {
    scratch.start_agent("issuer").await?;
    let pod = scratch.api::<Pod>().get("issuer").await?;
    let address = pod.status.and_then(|status| status.pod_ip).context("a pod without address")?;
    let made = rcgen::generate_simple_self_signed(vec![address.clone()])?;
    let authority: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": "issuer-ca"}, "data": {"ca.crt": made.cert.pem()},
    }))?;
    scratch.api::<ConfigMap>().create(&PostParams::default(), &authority).await?;
    scratch.put("issuer", "/tmp/tls.crt", &made.cert.pem()).await?;
    scratch.put("issuer", "/tmp/tls.key", &made.signing_key.serialize_pem()).await?;
    scratch.put("issuer", "/tmp/issuer.py", include_str!("../testdata/issuer.py")).await?;
    let url = format!("https://{address}:8443");
    let serve = "nohup python3 /tmp/issuer.py \"$1\" \"$2\" >/tmp/issuer.log 2>&1 &";
    scratch.run("issuer", "agent", &["sh", "-c", serve, "sh", &url, AUDIENCE]).await?;
    wait::until("the issuer", Duration::from_secs(30), || async {
        let log = scratch.run("issuer", "agent", &["cat", "/tmp/issuer.log"]).await?;
        Ok(if log.contains("ready") { Ok(()) } else { Err(log) })
    })
    .await?;
    Ok(url)
}

#[tokio::test]
async fn those_whom_an_issuer_vouches_for_do_what_the_store_lets_them() -> Result<()> {
    scratch("oidc", |scratch| async move {
        let issuer = issuer(&scratch).await?;
        let spec = json!({
            "storage": {"size": "1Gi"},
            // The issuer listens where a store's network policy lets nobody out by itself.
            "network": {"egressTo": [{"ports": [{"port": 8443, "protocol": "TCP"}]}]},
            "mcp": {"auth": {"mode": "OIDC", "oidc": {
                "issuer": issuer, "audience": AUDIENCE, "caConfigMap": "issuer-ca",
                "subjects": [
                    {"subject": "ada"},
                    {"claim": "groups", "value": "engineering", "projects": ["web"],
                     "read": ["local"], "write": []},
                ],
            }}},
        });
        scratch.create("memory", spec).await?;
        scratch.ready("memory").await?;
        let url = scratch.url("http", "memory");
        let visit = async |file: &str| scratch.visit("issuer", &[&url, file]).await;

        let ada = visit("/tmp/ada").await?;
        ensure!(ada["stored"]["id"].is_string() && ada["found"]["total"] == 1, "{ada}");
        let bob = visit("/tmp/bob").await?;
        ensure!(bob["stored"]["refused"].is_string() && bob["found"]["total"] == 1, "{bob}");
        let eve = visit("/tmp/eve").await?;
        let message = eve["message"].as_str().unwrap_or_default();
        ensure!(eve["status"] == 403 && message.contains("\"eve\" of https://"), "{eve}");
        ensure!(message.contains("spec.mcp.auth.oidc.subjects"), "{eve}");
        for (file, status) in [("/tmp/stray", 401), (TOKEN, 403)] {
            let refused = visit(file).await?;
            ensure!(refused["status"] == status, "{file}: {refused}");
        }
        Ok(())
    })
    .await
}
