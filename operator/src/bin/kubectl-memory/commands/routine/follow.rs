//! Following a Job to its end, with the log of its pod as progress.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::api::{ListParams, LogParams};
use tokio::io::AsyncBufReadExt as _;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::context::Context;
use crate::error::{Failure, failed};
use crate::wait::{self, Seen, Wish};

/// How a Job ended.
#[derive(Debug, PartialEq)]
pub(super) struct End {
    /// It is complete.
    pub(super) succeeded: bool,
    /// What the Job says.
    pub(super) words: String,
}

/// Waits for the end of a Job; the log of its pod is shown meanwhile.
pub(super) async fn follow(
    context: &Context,
    job: &str,
    timeout: Duration,
) -> Result<End, Failure> {
    let object = context.object("job", job, "it was deleted before its end could be read");
    let remedy = format!("The job goes on: `kubectl logs -f job/{job}`");
    let wish = Wish { object, what: "the job to end", remedy: &remedy, timeout };
    let mut end = std::pin::pin!(wait::until(context, wish, |seen| ended(context, job, seen)));
    let mut log = std::pin::pin!(show_log(context, job));
    let end = tokio::select! {
        end = &mut end => {
            // What it wrote last is still under way.
            let _ = tokio::time::timeout(Duration::from_secs(10), log).await;
            end
        }
        () = &mut log => end.await,
    };
    end
}

/// How a Job stands.
fn ended(context: &Context, name: &str, job: Option<&Job>) -> Seen<End> {
    let Some(job) = job else {
        return Seen::Hopeless(Failure::NotFound {
            object: format!("job {name}"),
            namespace: context.namespace.clone(),
            remedy: "it was deleted before its end could be read".to_owned(),
        });
    };
    let status = job.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let holds = |type_: &str| conditions.iter().find(|it| it.type_ == type_ && it.status == "True");
    if holds("Complete").is_some() {
        return Seen::Reached(End { succeeded: true, words: "the job is complete".to_owned() });
    }
    if let Some(condition) = holds("Failed") {
        let reason = condition.reason.clone().unwrap_or_default();
        let message = condition.message.clone().unwrap_or_default();
        return Seen::Reached(End { succeeded: false, words: format!("{reason}: {message}") });
    }
    Seen::Pending(match (status.active.unwrap_or(0), status.failed.unwrap_or(0)) {
        (0, 0) => "its pod is being made".to_owned(),
        (_, 0) => "it runs".to_owned(),
        (_, failed) => format!("it runs again after {failed} failures"),
    })
}

/// Shows the log of a Job's pod as soon as there is one. Without a log there is no progress to
/// see, but the end is awaited all the same: nothing here is an error.
async fn show_log(context: &Context, job: &str) {
    let pods = context.api::<Pod>();
    let mut shown = String::new();
    loop {
        let started = match newest_pod(context, job).await {
            Ok(pod) => pod,
            Err(failure) => {
                context.printer.note(&format!("no progress is shown: {failure}"));
                return;
            }
        };
        let state = started.as_ref().map(state).unwrap_or_default();
        if let (Some(pod), "") = (&started, state.as_str()) {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let params = LogParams { follow: true, ..LogParams::default() };
            match pods.log_stream(&name, &params).await {
                Ok(log) => {
                    let mut lines = log.compat().lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        context.printer.note(&line);
                    }
                }
                Err(error) => {
                    let failure =
                        context.object("pod", &name, "it is gone").failed("read the log of", error);
                    context.printer.note(&format!("no progress is shown: {failure}"));
                }
            }
            return;
        }
        if state != shown {
            context.printer.note(&format!("its pod waits: {state}"));
            shown = state;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Why a pod's container has not started; empty once it has.
fn state(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let containers = status.and_then(|it| it.container_statuses.as_ref());
    let Some(container) = containers.and_then(|all| all.first()) else {
        return status
            .and_then(|it| it.conditions.as_ref())
            .and_then(|all| {
                all.iter().find(|it| it.type_ == "PodScheduled" && it.status == "False")
            })
            .and_then(|it| it.message.clone())
            .unwrap_or_else(|| "it is being placed on a node".to_owned());
    };
    match container.state.as_ref().and_then(|it| it.waiting.as_ref()) {
        Some(waiting) => {
            let reason = waiting.reason.clone().unwrap_or_default();
            let message = waiting.message.clone().unwrap_or_default();
            format!("{reason} {message}").trim().to_owned()
        }
        None => String::new(),
    }
}

async fn newest_pod(context: &Context, job: &str) -> Result<Option<Pod>, Failure> {
    let selector = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let pods = context.api::<Pod>().list(&selector).await;
    let pods = pods.map_err(|error| failed(format!("list the pods of job {job}"), error))?;
    Ok(pods.items.into_iter().max_by_key(|pod| pod.metadata.creation_timestamp.clone()))
}

/// How the container of a Job's last pod ended.
pub(super) async fn last_end(
    context: &Context,
    job: &str,
) -> Result<Option<ContainerStateTerminated>, Failure> {
    Ok(newest_pod(context, job).await?.and_then(|pod| {
        let containers = pod.status?.container_statuses?;
        containers.into_iter().next()?.state?.terminated
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures;

    fn seen(status: serde_json::Value) -> String {
        let (context, _server) = fixtures::cluster();
        let job = serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
        match ended(&context, "mem-verify-1", Some(&job)) {
            Seen::Pending(words) => format!("pending: {words}"),
            Seen::Reached(end) => format!("reached: {} {}", end.succeeded, end.words),
            Seen::Hopeless(failure) => format!("hopeless: {failure}"),
        }
    }

    #[tokio::test]
    async fn a_job_has_ended_when_its_conditions_say_so() {
        assert_eq!(seen(json!({})), "pending: its pod is being made");
        assert_eq!(seen(json!({ "active": 1 })), "pending: it runs");
        assert_eq!(
            seen(json!({ "active": 1, "failed": 2 })),
            "pending: it runs again after 2 failures"
        );
        let condition = |type_: &str, status: &str| {
            json!({ "conditions": [{
                "type": type_, "status": status, "reason": "DeadlineExceeded", "message": "too long",
            }] })
        };
        assert_eq!(seen(condition("Complete", "True")), "reached: true the job is complete");
        assert_eq!(seen(condition("Failed", "True")), "reached: false DeadlineExceeded: too long");
        assert_eq!(seen(condition("Failed", "False")), "pending: its pod is being made");
    }

    #[test]
    fn a_container_that_has_not_started_says_why() {
        assert_eq!(state(&fixtures::pod()), "", "it runs");
        let with = |status: serde_json::Value| {
            let pod: Pod =
                serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
            state(&pod)
        };
        assert_eq!(with(json!({})), "it is being placed on a node");
        assert_eq!(
            with(json!({ "conditions": [
                { "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available" },
            ] })),
            "0/3 nodes are available"
        );
        assert_eq!(
            with(json!({ "containerStatuses": [{
                "name": "verify", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": "ErrImagePull", "message": "no such image" } },
            }] })),
            "ErrImagePull no such image"
        );
    }
}
