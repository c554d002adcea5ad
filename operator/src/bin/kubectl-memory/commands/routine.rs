//! `verify` and `compact`: a run of a store's CronJob now, followed to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ListParams, LogParams, ObjectMeta, PostParams};
use llm_memory_crds::memory_store::RoutineKind;
use serde_json::json;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::context::Context;
use crate::error::{Failure, failed};
use crate::exit::Exit;
use crate::wait::{self, Seen, Wish};
use crate::{names, units};

/// Flags of `verify` and `compact`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the MemoryStore
    name: String,
    /// Return once the Job is made
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the end; the Job goes on when it has passed
    #[arg(long, value_parser = units::duration, default_value = "6h")]
    timeout: Duration,
}

/// How a Job ended.
#[derive(Debug, PartialEq)]
struct End {
    succeeded: bool,
    words: String,
}

/// Makes a Job and follows it.
pub(crate) async fn run(
    context: &Context,
    args: &Args,
    kind: RoutineKind,
) -> Result<Exit, Failure> {
    context.store(&args.name).await?;
    let cron = names::cron_job(&args.name, kind);
    let missing = "the operator makes it; `kubectl memory status` shows whether it could";
    let template = context
        .api::<CronJob>()
        .get(&cron)
        .await
        .map_err(|error| context.object("cronjob", &cron, missing).failed("read", error))?;
    let job = context.api::<Job>().create(&PostParams::default(), &job(&template)).await.map_err(
        |error| failed(format!("create a job in namespace {}", context.namespace), error),
    )?;
    let job = job.metadata.name.unwrap_or_default();
    let data = |result: &str, code: Option<i32>, message: Option<&str>| {
        json!({
            "namespace": context.namespace, "name": args.name, "routine": kind.as_str(),
            "job": job, "result": result, "exitCode": code, "message": message,
        })
    };
    if args.no_wait {
        context.printer.answer(&data("started", None, None), || {
            format!("job {job} started; follow it with `kubectl logs -f job/{job}`")
        })?;
        return Ok(Exit::Done);
    }
    context.printer.note(&format!("job {job} started; it goes on when this command is stopped"));
    let end = follow(context, &job, args.timeout).await?;
    let container = last_end(context, &job).await?;
    let code = container.as_ref().map(|it| it.exit_code);
    let said = container.as_ref().and_then(|it| it.message.as_deref()).map(str::trim);
    let exit = exit(&end, code);
    let result = match exit {
        Exit::Done => "done",
        Exit::Container(1) => "finding",
        _ => "failed",
    };
    context.printer.answer(&data(result, code, said.or(Some(&end.words))), || {
        let how = code.map_or_else(|| end.words.clone(), |code| format!("exit code {code}"));
        let said = said.map(|said| format!("\n{said}")).unwrap_or_default();
        format!("{} of memorystore {}: {result} ({how}, job {job}){said}", kind.as_str(), args.name)
    })?;
    Ok(exit)
}

/// The container's own exit code where it is known, else what the Job says.
fn exit(end: &End, code: Option<i32>) -> Exit {
    match code {
        Some(0) if end.succeeded => Exit::Done,
        Some(code) if code != 0 => Exit::Container(u8::try_from(code).unwrap_or(2)),
        _ if end.succeeded => Exit::Done,
        _ => Exit::Failed,
    }
}

/// A Job as the CronJob would make it, marked as made by hand.
fn job(cron: &CronJob) -> Job {
    let template = cron.spec.job_template.clone();
    let from = template.metadata.unwrap_or_default();
    let name = cron.metadata.name.clone().unwrap_or_default();
    let mut annotations: BTreeMap<_, _> = from.annotations.unwrap_or_default();
    annotations.insert("cronjob.kubernetes.io/instantiate".to_owned(), "manual".to_owned());
    Job {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: cron.metadata.namespace.clone(),
            labels: from.labels,
            annotations: Some(annotations),
            // The controller, so that the CronJob's history limits hold for it; it does not block
            // the owner's deletion, which would need a right over the owner's finalizers.
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".to_owned(),
                kind: "CronJob".to_owned(),
                name,
                uid: cron.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// Waits for the end of a Job; the log of its pod is shown meanwhile.
async fn follow(context: &Context, job: &str, timeout: Duration) -> Result<End, Failure> {
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
async fn last_end(
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
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_job_by_hand_is_the_job_of_the_cron_job() {
        insta::assert_yaml_snapshot!(job(&fixtures::cron_job()));
    }

    #[test]
    fn the_container_decides_how_the_command_ends() {
        let complete = End { succeeded: true, words: String::new() };
        let failed = End { succeeded: false, words: String::new() };
        assert_eq!(exit(&complete, Some(0)), Exit::Done);
        assert_eq!(exit(&failed, Some(1)).code(), 1);
        assert_eq!(exit(&failed, Some(2)).code(), 2);
        assert_eq!(exit(&failed, Some(137)).code(), 137);
        assert_eq!(exit(&failed, Some(0)), Exit::Failed, "past its deadline, say");
        assert_eq!(exit(&failed, None), Exit::Failed);
        assert_eq!(exit(&complete, None), Exit::Done);
    }
}
