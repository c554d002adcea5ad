//! `kubectl memory` on a real cluster: what it shows is so, and what it is told to do is done.

#![allow(clippy::indexing_slicing, reason = "a test: a wrong index fails it")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use llm_memory_crds::MemoryStore;
use llm_memory_e2e::{scratch, wait};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_store_is_shown_as_it_is() -> Result<()> {
    scratch("shown", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;

        let listed = scratch.plugin_does(&["list", "-o", "json"]).await?.json()?;
        ensure!(listed[0]["name"] == "memory" && listed[0]["ready"] == "True", "{listed}");
        let table = scratch.plugin_does(&["list"]).await?.out;
        ensure!(table.contains("NAME") && table.contains("memory"), "{table}");
        let shown = scratch.plugin_does(&["status", "memory", "-o", "json"]).await?.json()?;
        ensure!(shown["status"]["serverInfo"]["name"] == "llm-memory", "{shown}");
        ensure!(
            shown["claim"]["phase"] == "Bound" && shown["pod"]["name"] == "memory-0",
            "{shown}"
        );
        let health = scratch.plugin_does(&["health", "memory", "-o", "json"]).await?.json()?;
        ensure!(health["overall"] == 100.0 && health["word"] == "Good", "{health}");
        ensure!(health["parts"][0]["figure"] == "1 of 1 ready", "{health}");
        ensure!(scratch.plugin_does(&["health"]).await?.out.contains("memory"));
        // The server's own part of the report is made in its pod.
        let whole = ["health", "memory", "--comprehensive", "-o", "json"];
        let whole = scratch.plugin(&whole).await?;
        let report: Value =
            serde_json::from_str(&whole.out).with_context(|| format!("{whole:?}"))?;
        ensure!(report["server"]["monitor"]["seen"]["service"]["running"] == true, "{whole:?}");
        ensure!(report["server"]["jobs"]["pending"] == 0, "{whole:?}");
        let nothing = report["server"]["noData"].to_string();
        ensure!(nothing.contains("kubectl memory health"), "{nothing}");
        let logs = scratch.plugin_does(&["logs", "memory", "--tail", "50"]).await?.out;
        let all_json = logs.lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
        ensure!(!logs.is_empty() && all_json, "{logs}");

        let absent = scratch.plugin(&["status", "absent"]).await?;
        ensure!(absent.code == 2 && absent.err.contains("absent"), "{absent:?}");
        let wrong = scratch.plugin(&["status"]).await?;
        ensure!(wrong.code == 64, "{wrong:?}");

        // Everything that helps to understand an incident, and nothing that lets somebody in.
        let folder = std::env::temp_dir().join(&scratch.namespace);
        tokio::fs::create_dir_all(&folder).await?;
        let file = folder.join("report.tar.gz");
        let path = file.to_string_lossy().into_owned();
        let report = scratch.plugin_does(&["report", "memory", "--file", &path]).await?;
        ensure!(report.out.contains("report.tar.gz"), "{report:?}");
        let unpack = Command::new("tar").args(["-xzOf", &path]).output().await?;
        tokio::fs::remove_dir_all(&folder).await?;
        let text = String::from_utf8_lossy(&unpack.stdout).into_owned();
        ensure!(unpack.status.success() && text.contains("MemoryStore"), "{text}");
        ensure!(!text.contains(&scratch.token("memory").await?), "the report has the token in it");

        // A store that is not well is a finding.
        scratch
            .change("memory", json!({"podTemplate": {"spec": {"containers": [], "x": 1}}}))
            .await?;
        scratch.condition("memory", "Accepted", "False", "InvalidSpec", MINUTE).await?;
        let unwell = scratch.plugin(&["status", "memory"]).await?;
        ensure!(unwell.code == 1 && unwell.out.contains("InvalidSpec"), "{unwell:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_store_does_as_it_is_told() -> Result<()> {
    scratch("told", |scratch| async move {
        scratch.create("memory", json!({"storage": {"size": "1Gi"}})).await?;
        scratch.ready("memory").await?;
        let id = scratch.remember("memory", "the yellow door").await?;

        let verified = scratch.plugin_does(&["verify", "memory", "-o", "json"]).await?.json()?;
        ensure!(verified["result"] == "done" && verified["exitCode"] == 0, "{verified}");
        scratch.condition("memory", "Verified", "True", "Intact", MINUTE * 2).await?;
        scratch.plugin_does(&["compact", "memory"]).await?;

        scratch.plugin_does(&["pause", "memory"]).await?;
        scratch.condition("memory", "Progressing", "False", "Paused", MINUTE).await?;
        scratch.plugin_does(&["resume", "memory"]).await?;
        scratch.condition("memory", "Progressing", "False", "Complete", MINUTE).await?;

        // Each of these returns when it is so, and not before.
        let former = scratch.pod_uid("memory").await?;
        scratch.plugin_does(&["restart", "memory", "--graceful"]).await?;
        ensure!(scratch.pod_uid("memory").await? != former, "the same pod");
        scratch.recalls("memory", &id).await?;
        scratch.plugin_does(&["hibernate", "memory"]).await?;
        ensure!(scratch.api::<Pod>().get_opt("memory-0").await?.is_none(), "there is a pod");
        let asleep = scratch.plugin(&["verify", "memory"]).await?;
        ensure!(asleep.code == 2 && asleep.err.contains("kubectl memory wake"), "{asleep:?}");
        scratch.plugin_does(&["wake", "memory"]).await?;
        scratch.recalls("memory", &id).await?;

        let former = scratch.token("memory").await?;
        let shown = scratch.plugin_does(&["token", "show", "memory"]).await?;
        ensure!(shown.out.trim() == former, "another token is shown");
        scratch.plugin_does(&["token", "rotate", "memory"]).await?;
        wait::until("another token", MINUTE, || async {
            Ok(if scratch.token("memory").await? == former { Err("the former") } else { Ok(()) })
        })
        .await?;
        let store = scratch.api::<MemoryStore>().get("memory").await?;
        ensure!(store.spec.mcp.auth.rotate_at.is_some());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_on_this_machine_reaches_the_store() -> Result<()> {
    scratch("connect", |scratch| async move {
        let spec = json!({
            "storage": {"size": "1Gi"},
            "mcp": {"auth": {"serviceAccounts": [
                {"name": "ada", "projects": ["web"], "read": ["local"], "write": ["local"]},
            ]}},
        });
        scratch.create("memory", spec).await?;
        scratch.ready("memory").await?;
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "ada"}}))?;
        scratch.api::<ServiceAccount>().create(&PostParams::default(), &account).await?;

        let of_account = ["token", "create", "memory", "--for", "serviceaccount/ada"];
        let of_account = scratch.plugin_does(&of_account).await?.out.trim().to_owned();
        let mut connected = scratch.connect("memory").await?;
        let (address, fixed) = (connected.address.clone(), connected.token.clone());
        for token in [&fixed, &of_account] {
            let answer = connected.ask(token).await?;
            ensure!(
                answer.starts_with("HTTP/1.1 200") && answer.contains("memory_query"),
                "{answer}"
            );
        }
        let refused = connected.ask("nobody").await?;
        ensure!(refused.starts_with("HTTP/1.1 401"), "{refused}");

        let status = connected.stop().await?;
        ensure!(status.success(), "{status}");
        ensure!(TcpStream::connect(address).await.is_err(), "it still listens");
        Ok(())
    })
    .await
}
