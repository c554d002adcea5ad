//! The `jobs_*` tools.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Tool, ToolContext, ToolError, reply, schema};
use crate::access::Role;
use crate::jobs::figures::JobFigures;
use crate::jobs::{Job, JobArguments, JobKind, JobState, ListFilter, Submission};

const READERS: &[Role] = &[Role::Operator, Role::Monitor];
const OPERATOR: &[Role] = &[Role::Operator];
const DEFAULT_LIMIT: u32 = 50;

/// `jobs.status`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct StatusRequest {}

/// `jobs.submit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SubmitRequest {
    /// What the job does.
    kind: JobKind,
    /// What it works on.
    #[serde(default)]
    arguments: JobArguments,
    /// Submitting the same key again answers the job that has it.
    #[serde(default)]
    #[schemars(length(max = 200))]
    idempotency_key: Option<String>,
}

/// Result of `jobs.submit`.
#[derive(Debug, Serialize, JsonSchema)]
struct Submitted {
    /// The job.
    job: Job,
    /// It is new; otherwise its key was known.
    created: bool,
}

/// `jobs.list`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ListRequest {
    /// Only jobs in this state.
    state: Option<JobState>,
    /// Only jobs of this kind.
    kind: Option<JobKind>,
    /// At most so many.
    #[schemars(range(min = 1, max = 200))]
    limit: u32,
}

impl Default for ListRequest {
    fn default() -> Self {
        Self { state: None, kind: None, limit: DEFAULT_LIMIT }
    }
}

/// Result of `jobs.list`.
#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    /// Newest first, without results.
    jobs: Vec<Job>,
    /// How many match.
    total: usize,
}

/// `jobs.get`, `jobs.cancel`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JobRequest {
    /// The job.
    id: String,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool {
            name: "jobs_status",
            dotted: "jobs.status",
            title: "Jobs in figures",
            description: "How many jobs wait and run, how many were done within 24 hours, and how \
                long they took on average.",
            roles: READERS,
            core: false,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<StatusRequest>,
            output_schema: schema::output::<JobFigures>,
            run: |context, arguments| {
                let StatusRequest {} = reply::parse(arguments)?;
                reply::value(context.jobs.figures_for(context.principal))
            },
        },
        Tool {
            name: "jobs_list",
            dotted: "jobs.list",
            title: "List jobs",
            description: "The newest jobs, newest first, without their results. Ended ones are \
                kept for 30 days, 200 at most.",
            roles: READERS,
            core: false,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<ListRequest>,
            output_schema: schema::output::<Listed>,
            run: list,
        },
        Tool {
            name: "jobs_get",
            dotted: "jobs.get",
            title: "Look at a job",
            description: "A job with its state, its progress while it runs, and its result when \
                it has ended.",
            roles: READERS,
            core: false,
            read_only: true,
            destructive: false,
            idempotent: true,
            input_schema: schema::input::<JobRequest>,
            output_schema: schema::output::<Job>,
            run: |context, arguments| {
                let JobRequest { id } = reply::parse(arguments)?;
                reply::value(context.jobs.get(context.principal, &id)?)
            },
        },
        Tool {
            name: "jobs_submit",
            dotted: "jobs.submit",
            title: "Submit a job",
            description: "Have maintenance done in the background, one job after another: compact, \
                verify, rebuild, cleanup, prune, or a routine (daily, weekly, monthly, quarterly). \
                Answers at once; jobs_get says how far it is. A job outlives a restart of the \
                server. Submitted to a folder without a server, it waits for one.",
            roles: OPERATOR,
            core: false,
            read_only: false,
            destructive: true,
            idempotent: false,
            input_schema: schema::input::<SubmitRequest>,
            output_schema: schema::output::<Submitted>,
            run: submit,
        },
        Tool {
            name: "jobs_cancel",
            dotted: "jobs.cancel",
            title: "Cancel a job",
            description: "Take back a job that is still pending. One that runs goes on to its end.",
            roles: OPERATOR,
            core: false,
            read_only: false,
            destructive: false,
            idempotent: false,
            input_schema: schema::input::<JobRequest>,
            output_schema: schema::output::<Job>,
            run: |context, arguments| {
                let JobRequest { id } = reply::parse(arguments)?;
                reply::value(context.jobs.cancel(context.principal, &id)?)
            },
        },
    ]
}

fn list(context: &ToolContext<'_>, arguments: Map<String, Value>) -> Result<Value, ToolError> {
    let ListRequest { state, kind, limit } = reply::parse(arguments)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (jobs, total) = context.jobs.list(context.principal, ListFilter { state, kind, limit });
    reply::value(Listed { jobs, total })
}

fn submit(context: &ToolContext<'_>, arguments: Map<String, Value>) -> Result<Value, ToolError> {
    let SubmitRequest { kind, arguments, idempotency_key } = reply::parse(arguments)?;
    let project = context.caller.project.clone();
    let submission = Submission { kind, arguments, project, idempotency_key };
    let (job, created) = context.jobs.submit(context.principal, submission)?;
    reply::value(Submitted { job, created })
}
