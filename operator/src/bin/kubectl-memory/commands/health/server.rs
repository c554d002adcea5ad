//! The server's own report, made inside its pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::AttachParams;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::names;

/// The report reads a tenth of the stored bodies, which takes a while on a large store.
const LIMIT: Duration = Duration::from_secs(300);
/// No report is as large; what is, is not one.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What `llm-memory health comprehensive` says in the pod of the store.
pub(super) async fn report(context: &Context, store: &str) -> Result<Value, Failure> {
    let pod = names::pod(store);
    let command = ["llm-memory", "health", "comprehensive", "--output", "json"];
    let run = run(context, &pod, &command);
    let text = tokio::time::timeout(LIMIT, run).await.map_err(|_| Failure::Timeout {
        waited: crate::units::spelled(LIMIT),
        what: "the server's report".to_owned(),
        seen: "no end".to_owned(),
        remedy: "Ask again when the server has less to do".to_owned(),
    })??;
    serde_json::from_str(&text).map_err(|error| Failure::Api {
        action: format!("read the report of pod {pod}"),
        message: format!("{error}; it said {:?}", text.chars().take(200).collect::<String>()),
    })
}

async fn run(context: &Context, pod: &str, command: &[&str]) -> Result<String, Failure> {
    let object = context.object("pod", pod, "`kubectl memory status` shows why there is none");
    let parameters = AttachParams::default().container(names::SERVER).stdout(true).stderr(true);
    let process = context.api::<Pod>().exec(pod, command.to_vec(), &parameters).await;
    let mut process = process.map_err(|error| object.failed("run a command in", error))?;
    // Side by side: a command that fills one of them would wait for a reader of the other.
    let (out, errors) = (process.stdout(), process.stderr());
    let (out, errors) = tokio::join!(drain(out), drain(errors));
    process.join().await.ok();
    // The exit status is the verdict, which is in the report too.
    if out.trim().is_empty() {
        let action = format!("run {} in pod {pod}", command.join(" "));
        return Err(Failure::Api { action, message: errors.trim().to_owned() });
    }
    Ok(out)
}

async fn drain(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // A stream that breaks leaves half a document, which is then said to be none.
        stream.take(MAX_BYTES).read_to_end(&mut bytes).await.ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a command that found this report ends.
pub(super) fn exit(report: &Value) -> Exit {
    match report.get("status").and_then(Value::as_str) {
        Some("healthy") => Exit::Done,
        Some("critical") => Exit::Failed,
        _ => Exit::Finding,
    }
}
