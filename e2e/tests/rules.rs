//! Every rule of the schema, at a real API server: it takes what it should, and tells what it does
//! not take by field and remedy.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test: a wrong index fails it")]

use anyhow::{Context as _, Result, ensure};
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Resource as _};
use llm_memory_crds::MemoryStore;
use llm_memory_e2e::{Scratch, scratch};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Example {
    rule: String,
    old: Option<Value>,
    accept: Value,
    reject: Value,
    message: String,
}

async fn send(scratch: &Scratch, name: &str, spec: &Value, old: Option<&Value>) -> Result<()> {
    let resource = ApiResource::erase::<MemoryStore>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(scratch.client.clone(), &scratch.namespace, &resource);
    let object = |spec: &Value| -> Result<DynamicObject> {
        Ok(serde_json::from_value(json!({
            "apiVersion": MemoryStore::api_version(&()), "kind": "MemoryStore",
            "metadata": {"name": name}, "spec": spec,
        }))?)
    };
    match old {
        None => {
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            api.create(&dry, &object(spec)?).await?;
        }
        Some(old) => loop {
            let mut stored = match api.get_opt(name).await? {
                Some(stored) => stored,
                None => {
                    // Paused, so that nothing is made for it.
                    let mut old = old.clone();
                    old["paused"] = json!(true);
                    api.create(&PostParams::default(), &object(&old)?).await?
                }
            };
            stored.data["spec"] = spec.clone();
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            match api.replace(name, &dry, &stored).await {
                // The operator's status came in between.
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                done => {
                    done?;
                    break;
                }
            }
        },
    }
    Ok(())
}

#[tokio::test]
async fn every_rule_accepts_and_rejects_at_the_api_server() -> Result<()> {
    scratch("rules", |scratch| async move {
        let examples: Vec<Example> =
            serde_saphyr::from_str(include_str!("../../crds/testdata/rules.yaml"))?;
        for (number, example) in examples.iter().enumerate() {
            let name = format!("rule-{number}");
            let old = example.old.as_ref();
            send(&scratch, &name, &example.accept, old)
                .await
                .with_context(|| format!("{} must accept {}", example.rule, example.accept))?;
            let refusal = send(&scratch, &name, &example.reject, old).await.err();
            let refusal = refusal
                .with_context(|| format!("{} must reject {}", example.rule, example.reject))?;
            let text = format!("{refusal:#}");
            ensure!(
                text.contains(&example.message)
                    || example.rule == "replicas" && text.contains("replicas"),
                "{}: {text:?} does not say {:?}",
                example.rule,
                example.message
            );
        }
        for name in [&"a".repeat(41), "2024-notes", "notes.2024"] {
            let refusal = send(&scratch, name, &json!({}), None).await.err();
            let text = refusal.map(|error| format!("{error:#}")).unwrap_or_default();
            ensure!(text.contains("Choose another name"), "{name}: {text}");
        }
        let zone = json!({"maintenance": {"daily": {"timeZone": "Mars/Olympus"}}});
        let refusal = send(&scratch, "zone", &zone, None).await.err();
        let text = refusal.map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(text.contains("timeZone"), "{text}");
        Ok(())
    })
    .await
}
