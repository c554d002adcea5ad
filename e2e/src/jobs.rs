//! Jobs of a store's care.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams, PostParams};

use crate::{Scratch, wait};

/// Time that a Job has to end.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

impl Scratch {
    /// Starts a Job of the CronJob `routine` now, as a person does.
    pub async fn start_job(&self, routine: &str, name: &str) -> Result<()> {
        let cron: CronJob = self.api::<CronJob>().get(routine).await?;
        let mut job = Job::default();
        job.metadata.name = Some(name.to_owned());
        job.metadata.labels = cron.spec.job_template.metadata.and_then(|meta| meta.labels);
        job.spec = cron.spec.job_template.spec;
        self.api::<Job>().create(&PostParams::default(), &job).await?;
        Ok(())
    }

    /// Waits for the end of a Job; true when it succeeded.
    pub async fn job_ended(&self, name: &str) -> Result<bool> {
        wait::until(name, ENDS_WITHIN, || async {
            let job = self.api::<Job>().get(name).await?;
            let conditions = job.status.and_then(|status| status.conditions).unwrap_or_default();
            let end = conditions.iter().find(|condition| {
                ["Complete", "Failed"].contains(&condition.type_.as_str())
                    && condition.status == "True"
            });
            Ok(end.map(|condition| condition.type_ == "Complete").ok_or(conditions.len()))
        })
        .await
    }

    /// Names of the Jobs that the CronJob `routine` started and that are still there, with whether
    /// they have ended.
    pub async fn runs(&self, routine: &str) -> Result<Vec<(String, bool)>> {
        let jobs = self.api::<Job>().list(&ListParams::default()).await?;
        let of_routine = jobs.items.into_iter().filter(|job| {
            job.owner_references()
                .iter()
                .any(|owner| owner.kind == "CronJob" && owner.name == routine)
        });
        let runs = of_routine.map(|job| {
            let ended = job.status.as_ref().is_some_and(|status| {
                status.completion_time.is_some() || status.failed.is_some_and(|failed| failed > 0)
            });
            (job.name_any(), ended)
        });
        Ok(runs.collect())
    }

    /// What the first pod of a Job printed.
    pub async fn job_log(&self, job: &str) -> Result<String> {
        let pods = self.api::<Pod>();
        let list = pods
            .list(&ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}")))
            .await?;
        let pod = list.items.first().context("the Job has no pod")?;
        Ok(pods.logs(&pod.name_any(), &LogParams::default()).await?)
    }
}
