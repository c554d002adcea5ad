//! `verify` and `compact`: a run of a store's CronJob now, followed to its end.

mod follow;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, PostParams};
use llm_memory_crds::memory_store::RoutineKind;
use serde_json::json;

use self::follow::{End, follow, last_end};
use crate::context::Context;
use crate::error::{Failure, failed};
use crate::exit::Exit;
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

/// Makes a Job and follows it.
pub(crate) async fn run(
    context: &Context,
    args: &Args,
    kind: RoutineKind,
) -> Result<Exit, Failure> {
    let store = context.store(&args.name).await?;
    if store.spec.replicas == 0 {
        // The server does the work; the Job only asks for it.
        return Err(Failure::Refused {
            object: format!("memorystore {}", args.name),
            reason: format!(
                "it is hibernated, so nobody would do the work. `kubectl memory wake {}` first",
                args.name
            ),
        });
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_job_by_hand_is_the_job_of_the_cron_job() {
        insta::assert_yaml_snapshot!(job(&fixtures::cron_job()));
    }

    #[tokio::test]
    async fn a_hibernated_store_has_nobody_to_do_the_work() {
        let (context, server) = fixtures::cluster();
        let mut store = fixtures::store();
        store.spec.replicas = 0;
        let path = "/apis/llm-memory.dev/v1alpha1/namespaces/prod/memorystores/mem";
        let script = server.answer(path, 200, serde_json::to_value(&store).unwrap());
        let args = Args { name: "mem".to_owned(), no_wait: true, timeout: Duration::from_secs(1) };
        let (result, ()) = tokio::join!(run(&context, &args, RoutineKind::Verify), script);
        assert!(result.unwrap_err().to_string().contains("kubectl memory wake mem"));
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
