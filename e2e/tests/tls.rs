//! A store that speaks HTTPS with a certificate of the user's own.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test: a wrong index fails it")]

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use llm_memory_e2e::agents::TOKEN;
use llm_memory_e2e::{Scratch, scratch, wait};
use serde_json::{Value, json};

/// A changed Secret reaches a pod within a minute or so.
const PROPAGATION: Duration = Duration::from_secs(180);
const MINUTE: Duration = Duration::from_secs(60);

/// A new certificate for the store `memory`, and its key, as a Secret holds them.
fn certificate(scratch: &Scratch) -> Result<Value> {
    let names = vec![format!("memory.{}.svc", scratch.namespace)];
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok(json!({"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()}))
}

/// The certificate that the store shows to the agent.
async fn shown(scratch: &Scratch) -> Result<String> {
    let host = format!("memory.{}.svc", scratch.namespace);
    let ask = "import ssl, sys; print(ssl.get_server_certificate((sys.argv[1], 3000)))";
    scratch.run("agent", "agent", &["python3", "-c", ask, &host]).await
}

/// The same certificate, whichever way its lines are broken.
fn same(one: &str, other: &Value) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    squeeze(one) == squeeze(other.as_str().unwrap_or_default())
}

async fn visit(scratch: &Scratch, certificate: &Value) -> Result<()> {
    let authority = certificate["tls.crt"].as_str().unwrap_or_default();
    scratch.put("agent", "/tmp/ca.crt", authority).await?;
    let url = scratch.url("https", "memory");
    let answer = scratch.visit("agent", &[&url, TOKEN, "--ca", "/tmp/ca.crt"]).await?;
    ensure!(answer["found"]["total"].as_u64() > Some(0), "{answer}");
    Ok(())
}

async fn verify(scratch: &Scratch, job: &str) -> Result<()> {
    scratch.start_job("memory-verify", job).await?;
    ensure!(scratch.job_ended(job).await?, "{}", scratch.job_log(job).await?);
    Ok(())
}

#[tokio::test]
async fn a_certificate_is_served_and_exchanged_without_a_restart() -> Result<()> {
    scratch("tls", |scratch| async move {
        let first = certificate(&scratch)?;
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "web"}, "type": "kubernetes.io/tls", "stringData": first,
        }))?;
        let secrets = scratch.api::<Secret>();
        secrets.create(&PostParams::default(), &secret).await?;
        let spec = json!({
            "storage": {"size": "1Gi"},
            "tls": {"secretName": "web"},
            "mcp": {"auth": {"serviceAccounts": [{"name": "agent"}]}},
        });
        scratch.create("memory", spec).await?;
        let store = scratch.ready("memory").await?;
        let url = store.status.and_then(|status| status.url);
        ensure!(url == Some(scratch.url("https", "memory")), "{url:?}");
        scratch.start_agent("agent").await?;
        ensure!(same(&shown(&scratch).await?, &first["tls.crt"]), "another certificate");
        visit(&scratch, &first).await?;
        verify(&scratch, "first").await?;
        // From outside, where the certificate's names mean nothing.
        let connected = scratch.connect("memory").await?;
        let answer = connected.ask(&connected.token).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        let before = scratch.incarnation("memory").await?;
        let second = certificate(&scratch)?;
        let start = std::time::Instant::now();
        let patch = Patch::Merge(json!({"stringData": second}));
        secrets.patch("web", &PatchParams::default(), &patch).await?;
        wait::until("the new certificate", PROPAGATION, || async {
            let seen = shown(&scratch).await?;
            Ok(if same(&seen, &second["tls.crt"]) { Ok(()) } else { Err(seen) })
        })
        .await?;
        println!("exchanged after {:.0} s", start.elapsed().as_secs_f64());
        visit(&scratch, &second).await?;
        let former = visit(&scratch, &first).await;
        let words = former.map_or_else(|error| format!("{error:#}"), |()| "believed".to_owned());
        ensure!(words.contains("CERTIFICATE_VERIFY_FAILED"), "the former certificate: {words}");
        verify(&scratch, "second").await?;
        let answer = connected.ask(&connected.token).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        scratch.ready("memory").await?;
        ensure!(scratch.incarnation("memory").await? == before, "the server was restarted");

        // Without the Secret no pod could be made: the one that runs stays, and all that is no
        // matter of pods goes on.
        secrets.delete("web", &DeleteParams::default()).await?;
        let tokens = json!({"mcp": {"auth": {"tokens": [{"name": "late"}]}}});
        scratch.change("memory", tokens).await?;
        scratch.condition("memory", "Accepted", "False", "ReferenceNotFound", MINUTE).await?;
        wait::until("the token", MINUTE, || async {
            let data = secrets.get("memory-tokens").await?.data.unwrap_or_default();
            let names: Vec<String> = data.into_keys().collect();
            Ok(if names.iter().any(|name| name == "late") { Ok(()) } else { Err(names) })
        })
        .await?;
        scratch.ready("memory").await?;
        ensure!(scratch.incarnation("memory").await? == before, "the server was restarted");
        secrets.create(&PostParams::default(), &secret).await?;
        scratch.condition("memory", "Accepted", "True", "Valid", MINUTE).await.map(drop)
    })
    .await
}
