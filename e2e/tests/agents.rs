//! Agents in pods of their own, with the official Python SDK: whom a store lets in, what they may
//! do there, and what they are told otherwise.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test: a wrong index fails it")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use llm_memory_crds::MemoryStore;
use llm_memory_e2e::agents::{TOKEN, TOKEN_FOR_ANOTHER};
use llm_memory_e2e::rights::SYSTEM;
use llm_memory_e2e::{Scratch, scratch, wait};
use serde_json::{Value, json};

/// A changed ConfigMap or Secret reaches a pod within a minute or so, and what the API server said
/// of a token counts for another.
const PROPAGATION: Duration = Duration::from_secs(240);

/// A store that lets these accounts in. Failed attempts lock nobody out: agents here knock until
/// they are let in. A spec has no field for that, so it goes by way of the pod.
async fn store(scratch: &Scratch, accounts: Value) -> Result<String> {
    let spec = json!({
        "storage": {"size": "1Gi"},
        "podTemplate": {"spec": {"containers": [{"name": "server", "env": [
            {"name": "LLM_MEMORY_LOCKOUT_FAILURES", "value": "1000"},
        ]}]}},
        "mcp": {"auth": {"serviceAccounts": accounts}},
    });
    scratch.create("memory", spec).await?;
    scratch.ready("memory").await?;
    Ok(scratch.url("http", "memory"))
}

/// The agent stored a memory, and what it found is that one.
fn stored_and_found(answer: &Value) -> Result<()> {
    let id = answer["stored"]["id"].as_str().with_context(|| answer.to_string())?;
    let found = answer["found"]["items"].as_array().with_context(|| answer.to_string())?;
    ensure!(found.iter().any(|item| item["id"] == id), "{answer}");
    Ok(())
}

/// Found nothing, or was told that it may not look.
fn sees_nothing(answer: &Value) -> bool {
    answer["found"]["refused"].is_string() || answer["found"]["total"] == 0
}

/// Has the agent visit until it is answered with this status of HTTP; 200 when it is let in.
async fn until_status(
    scratch: &Scratch,
    agent: &str,
    arguments: &[&str],
    status: u64,
) -> Result<Value> {
    wait::until(&format!("{agent} answered {status}"), PROPAGATION, || async {
        let answer = scratch.visit(agent, arguments).await?;
        let seen = answer["status"].as_u64().unwrap_or(200);
        Ok(if seen == status { Ok(answer) } else { Err(answer) })
    })
    .await
}

#[tokio::test]
async fn a_mapped_account_stores_and_finds_and_others_hear_why_not() -> Result<()> {
    scratch("agents", |scratch| async move {
        let url = store(&scratch, json!([{"name": "planner"}])).await?;
        let url = url.as_str();
        scratch.start_agent("planner").await?;
        scratch.start_agent("stranger").await?;
        stored_and_found(&scratch.visit("planner", &[url, TOKEN]).await?)?;

        let refused = scratch.visit("stranger", &[url, TOKEN]).await?;
        let message = refused["message"].as_str().unwrap_or_default();
        let who = format!(
            "service account {}/stranger is not mapped in this store: add it",
            scratch.namespace
        );
        ensure!(refused["status"] == 403 && message.contains(&who), "{refused}");
        ensure!(message.contains("spec.mcp.auth.serviceAccounts"), "{refused}");

        let none = scratch.visit("planner", &[url]).await?;
        let message = none["message"].as_str().unwrap_or_default();
        ensure!(none["status"] == 401 && message.contains("a bearer token is needed"), "{none}");
        let another = scratch.visit("planner", &[url, TOKEN_FOR_ANOTHER]).await?;
        let message = another["message"].as_str().unwrap_or_default();
        ensure!(another["status"] == 401 && message.contains("audience"), "{another}");
        println!("403: {refused}\n401: {none}\n401: {another}");
        // That an agent was refused is not held against it.
        stored_and_found(&scratch.visit("planner", &[url, TOKEN]).await?)
    })
    .await
}

#[tokio::test]
async fn accounts_keep_to_their_projects_and_scopes() -> Result<()> {
    scratch("apart", |scratch| async move {
        let accounts = json!([
            {"name": "planner", "projects": ["web"], "read": ["local"], "write": ["local"]},
            {"name": "critic", "projects": ["home"]},
            {"name": "guest", "tenant": "guests"},
        ]);
        let url = store(&scratch, accounts).await?;
        let url = url.as_str();
        for agent in ["planner", "critic", "guest"] {
            scratch.start_agent(agent).await?;
        }
        let text = "the harbour is closed";
        // A project that the planner may not enter, and a scope that it may not in its own project.
        for (project, scope, entered) in [("home", "local", "home"), ("home", "global", "web")] {
            let at = |project| ["--project", project, "--scope", scope];
            let store = [&[url, TOKEN, "--text", text], &at(project)[..]].concat();
            stored_and_found(&scratch.visit("critic", &store).await?)?;
            let look = [&[url, TOKEN, "--find", text], &at(project)[..]].concat();
            ensure!(!sees_nothing(&scratch.visit("critic", &look).await?));
            let look = [&[url, TOKEN, "--find", text], &at(entered)[..]].concat();
            let store = [&[url, TOKEN, "--text", text], &at(entered)[..]].concat();
            for agent in ["planner", "guest"] {
                let answer = scratch.visit(agent, &look).await?;
                ensure!(sees_nothing(&answer), "{agent} reads {scope} in {entered}: {answer}");
            }
            let answer = scratch.visit("planner", &store).await?;
            let refused = answer["stored"]["refused"].as_str().unwrap_or_default();
            ensure!(!refused.is_empty(), "planner writes {scope} in {entered}: {answer}");
            println!("planner, {scope} in {entered}: {refused}");
        }
        let own = scratch.visit("planner", &[url, TOKEN, "--project", "web"]).await?;
        stored_and_found(&own)?;
        let other = [url, TOKEN, "--find", "lighthouse", "--project", "web"];
        let answer = scratch.visit("critic", &other).await?;
        ensure!(sees_nothing(&answer), "critic reads web: {answer}");
        Ok(())
    })
    .await
}

/// A token of the operator's account, as it shows it to the store `name`.
async fn operators_token(scratch: &Scratch, name: &str) -> Result<String> {
    let uid = scratch.api::<MemoryStore>().get(name).await?.uid().context("no uid")?;
    let request: TokenRequest = serde_json::from_value(json!({
        "spec": {"audiences": [format!("llm-memory.dev/memorystore/{uid}")]},
    }))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(scratch.client.clone(), SYSTEM);
    let parameters = PostParams::default();
    let answer =
        accounts.create_token_request("llm-memory-operator", &parameters, &request).await?;
    answer.status.and_then(|status| status.token).context("no token")
}

#[tokio::test]
async fn what_the_operator_shows_to_one_store_opens_no_other() -> Result<()> {
    scratch("operators", |scratch| async move {
        let url = store(&scratch, json!([])).await?;
        scratch.create("other", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("other").await?;
        let other = scratch.url("http", "other");
        scratch.start_agent("thief").await?;
        scratch.put("thief", "/tmp/token", &operators_token(&scratch, "memory").await?).await?;
        let own = scratch.visit("thief", &[&url, "/tmp/token"]).await?;
        ensure!(own.get("status").is_none(), "it is the operator's: {own}");
        let refused = scratch.visit("thief", &[&other, "/tmp/token"]).await?;
        let message = refused["message"].as_str().unwrap_or_default();
        ensure!(refused["status"] == 401 && message.contains("audience"), "{refused}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_mapping_lets_in_and_shuts_out_without_a_restart() -> Result<()> {
    scratch("mapping", |scratch| async move {
        let url = store(&scratch, json!([])).await?;
        let visit = [url.as_str(), TOKEN];
        scratch.start_agent("late").await?;
        until_status(&scratch, "late", &visit, 403).await?;
        let before = scratch.incarnation("memory").await?;
        let accounts = |list: Value| json!({"mcp": {"auth": {"serviceAccounts": list}}});
        let start = std::time::Instant::now();
        scratch.change("memory", accounts(json!([{"name": "late"}]))).await?;
        stored_and_found(&until_status(&scratch, "late", &visit, 200).await?)?;
        println!("let in after {:.0} s", start.elapsed().as_secs_f64());
        let start = std::time::Instant::now();
        scratch.change("memory", accounts(json!([]))).await?;
        until_status(&scratch, "late", &visit, 403).await?;
        println!("shut out after {:.0} s", start.elapsed().as_secs_f64());
        ensure!(scratch.incarnation("memory").await? == before, "the server was restarted");
        Ok(())
    })
    .await
}

/// Has all tokens made anew now, and answers the new one.
async fn rotate(scratch: &Scratch, overlap: i32) -> Result<String> {
    let former = scratch.token("memory").await?;
    let now = jiff::Timestamp::now().to_string();
    let auth = json!({"rotateAt": now, "rotateOverlapMinutes": overlap});
    scratch.change("memory", json!({"mcp": {"auth": auth}})).await?;
    wait::until("another token", PROPAGATION, || async {
        let token = scratch.token("memory").await?;
        Ok(if token == former { Err("the former one") } else { Ok(token) })
    })
    .await
}

#[tokio::test]
async fn static_tokens_rotate_and_the_former_live_for_the_overlap() -> Result<()> {
    scratch("rotation", |scratch| async move {
        let url = store(&scratch, json!([])).await?;
        let url = url.as_str();
        scratch.start_agent("laptop").await?;
        let before = scratch.incarnation("memory").await?;
        scratch.put("laptop", "/tmp/first", &scratch.token("memory").await?).await?;
        stored_and_found(&until_status(&scratch, "laptop", &[url, "/tmp/first"], 200).await?)?;

        scratch.put("laptop", "/tmp/second", &rotate(&scratch, 60).await?).await?;
        stored_and_found(&until_status(&scratch, "laptop", &[url, "/tmp/second"], 200).await?)?;
        stored_and_found(&scratch.visit("laptop", &[url, "/tmp/first"]).await?)?;

        // Without an overlap, the second ends where the third begins; the first keeps its hour.
        scratch.put("laptop", "/tmp/third", &rotate(&scratch, 0).await?).await?;
        stored_and_found(&until_status(&scratch, "laptop", &[url, "/tmp/third"], 200).await?)?;
        let second = scratch.visit("laptop", &[url, "/tmp/second"]).await?;
        ensure!(second["status"] == 401, "{second}");
        stored_and_found(&scratch.visit("laptop", &[url, "/tmp/first"]).await?)?;

        // Its time is up when the spec says.
        let expired = json!([{"name": "default", "expiresAt": jiff::Timestamp::now().to_string()}]);
        scratch.change("memory", json!({"mcp": {"auth": {"tokens": expired}}})).await?;
        let third = until_status(&scratch, "laptop", &[url, "/tmp/third"], 401).await?;
        let message = third["message"].as_str().unwrap_or_default();
        ensure!(message.contains("it expired at"), "{third}");
        ensure!(scratch.incarnation("memory").await? == before, "the server was restarted");
        Ok(())
    })
    .await
}
