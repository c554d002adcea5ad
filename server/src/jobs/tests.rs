use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use llm_memory_disk::OsDisk;
use llm_memory_disk::faulty::{Failure, Fault, FaultyDisk, Operation};
use llm_memory_engine::api::ScopeSet;
use llm_memory_engine::ids::Scope;
use llm_memory_engine::progress::NoProgress;
use llm_memory_engine::{Engine, Options};
use parking_lot::Mutex;
use serde_json::json;

use super::job::JobProgress;
use super::restart::MAX_ATTEMPTS;
use super::result::Outcome;
use super::*;
use crate::access::Principal;
use crate::exit::Exit;
use crate::mcp::observe::{CallRecord, NoObserver, Observe};

const ROOT: &str = "/data";

fn open(disk: &FaultyDisk, max_pending: usize) -> JobQueue {
    let limits = Limits { max_pending };
    JobQueue::open(Arc::new(disk.clone()), Path::new(ROOT), limits, false).unwrap()
}

fn verify(key: Option<&str>) -> Submission {
    Submission {
        kind: JobKind::Verify,
        arguments: JobArguments::default(),
        project: None,
        idempotency_key: key.map(str::to_owned),
    }
}

fn owner() -> Principal {
    Principal::local_owner()
}

fn done() -> Outcome {
    Outcome::answered(Exit::Done, "fine".to_owned(), json!({"valid": true}))
}

#[test]
fn an_acknowledged_job_survives_power_loss_and_so_does_its_outcome() {
    let disk = FaultyDisk::new();
    let queue = open(&disk, 8);
    let (job, created) = queue.submit(&owner(), verify(None)).unwrap();
    assert!(created);
    let after = disk.crash();
    let queue = open(&after, 8);
    assert_eq!(queue.get(&owner(), job.id.as_str()).unwrap(), job);
    let (begun, _) = queue.claim().unwrap();
    assert_eq!((begun.state, begun.attempts), (JobState::Running, 1));
    queue.finish(&job.id, done());
    let queue = open(&after.crash(), 8);
    let ended = queue.get(&owner(), job.id.as_str()).unwrap();
    assert_eq!(ended.state, JobState::Succeeded);
    assert_eq!(ended.result, Some(json!({"valid": true})));
}

#[test]
fn a_job_that_the_server_ends_under_runs_again_and_fails_in_the_end() {
    let mut disk = FaultyDisk::new();
    let (job, _) = open(&disk, 8).submit(&owner(), verify(None)).unwrap();
    for attempt in 1..=MAX_ATTEMPTS {
        let queue = open(&disk, 8);
        queue.settle().unwrap();
        let (begun, _) = queue.claim().unwrap();
        assert_eq!((&begun.id, begun.attempts), (&job.id, attempt));
        disk = disk.crash();
    }
    let queue = open(&disk, 8);
    let ended = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ended);
    queue.on_end(Box::new(move |job| seen.lock().push(job.id.clone())));
    queue.settle().unwrap();
    assert_eq!(*ended.lock(), std::slice::from_ref(&job.id), "it is counted, once");
    assert!(queue.claim().is_none());
    let queue = open(&disk.crash(), 8);
    let failed = queue.get(&owner(), job.id.as_str()).unwrap();
    assert_eq!(failed.state, JobState::Failed);
    assert!(failed.error.unwrap().message.contains("ended 3 times"));
}

#[test]
fn a_job_that_is_put_back_has_not_failed_an_attempt() {
    let disk = FaultyDisk::new();
    let queue = open(&disk, 8);
    let (job, _) = queue.submit(&owner(), verify(None)).unwrap();
    queue.claim().unwrap();
    queue.put_back(&job.id);
    let queue = open(&disk.crash(), 8);
    let again = queue.get(&owner(), job.id.as_str()).unwrap();
    assert_eq!((again.state, again.attempts), (JobState::Pending, 0));
}

#[test]
fn the_same_key_is_the_same_job_and_another_job_may_not_have_it() {
    let disk = FaultyDisk::new();
    let queue = open(&disk, 8);
    let (job, _) = queue.submit(&owner(), verify(Some("nightly"))).unwrap();
    let queue = open(&disk.crash(), 8);
    let (again, created) = queue.submit(&owner(), verify(Some("nightly"))).unwrap();
    assert_eq!((again.id, created), (job.id.clone(), false));
    let other = Submission { kind: JobKind::Prune, ..verify(Some("nightly")) };
    let refused = queue.submit(&owner(), other).unwrap_err();
    assert_eq!(refused.code(), "conflict");
    let somebody = Principal { subject: "else".to_owned(), ..owner() };
    assert!(queue.submit(&somebody, verify(Some("nightly"))).unwrap().1);
    let spaced = queue.submit(&owner(), verify(Some("a b"))).unwrap_err();
    assert_eq!(spaced.code(), "invalid_argument");
}

#[test]
fn a_key_tells_nothing_of_a_job_that_may_not_be_seen() {
    let queue = open(&FaultyDisk::new(), 8);
    let (job, _) = queue.submit(&owner(), verify(Some("nightly"))).unwrap();
    let part = Principal { read: ScopeSet::of([Scope::Local]), ..owner() };
    let refused = queue.submit(&part, verify(Some("nightly"))).unwrap_err();
    assert_eq!(refused.code(), "conflict");
    assert!(!refused.to_string().contains(job.id.as_str()), "{refused}");
    assert!(queue.submit(&part, verify(Some("hourly"))).unwrap().1);
}

#[test]
fn a_full_queue_is_busy_and_a_cancelled_job_makes_room() {
    let queue = open(&FaultyDisk::new(), 1);
    let (job, _) = queue.submit(&owner(), verify(Some("first"))).unwrap();
    let refused = queue.submit(&owner(), verify(None)).unwrap_err();
    assert!(matches!(refused, JobError::Busy { pending: 1, .. }), "{refused}");
    assert!(
        !queue.submit(&owner(), verify(Some("first"))).unwrap().1,
        "a known key is no job more"
    );
    let cancelled = queue.cancel(&owner(), job.id.as_str()).unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert_eq!(queue.cancel(&owner(), job.id.as_str()).unwrap_err().code(), "conflict");
    assert!(queue.submit(&owner(), verify(None)).is_ok());
}

#[test]
fn jobs_begin_in_the_order_in_which_they_came() {
    let queue = open(&FaultyDisk::new(), 8);
    let ids: Vec<_> = (0..3)
        .map(|_| {
            let (job, _) = queue.submit(&owner(), verify(None)).unwrap();
            // Names made within a millisecond are in no order.
            while llm_memory_engine::ids::Timestamp::now() == job.created_at {
                std::thread::yield_now();
            }
            job.id
        })
        .collect();
    let begun: Vec<_> = std::iter::from_fn(|| queue.claim()).map(|(job, _)| job.id).collect();
    assert_eq!(begun, ids);
    let (newest, total) = queue.list(&owner(), ListFilter { state: None, kind: None, limit: 1 });
    assert_eq!((&newest[0].id, total), (&ids[2], 3));
}

#[test]
fn a_disk_that_refuses_the_document_refuses_the_job_and_not_its_outcome() {
    let disk = FaultyDisk::new();
    let queue = open(&disk, 8);
    let (job, _) = queue.submit(&owner(), verify(None)).unwrap();
    disk.plan(Fault::new(Operation::Write, Failure::NoSpace).on("jobs").lasting());
    let refused = queue.submit(&owner(), verify(None)).unwrap_err();
    assert_eq!(refused.code(), "no_space");
    assert_eq!(queue.figures().pending, 1);
    queue.claim().unwrap();
    queue.finish(&job.id, done());
    assert_eq!(queue.get(&owner(), job.id.as_str()).unwrap().state, JobState::Succeeded);
}

#[test]
fn safe_mode_takes_only_what_changes_nothing_and_writes_nothing() {
    let disk = FaultyDisk::new();
    let (waiting, _) = open(&disk, 8)
        .submit(&owner(), Submission { kind: JobKind::Compact, ..verify(None) })
        .unwrap();
    let limits = Limits { max_pending: 8 };
    let queue = JobQueue::open(Arc::new(disk.clone()), Path::new(ROOT), limits, true).unwrap();
    let refused = queue.submit(&owner(), Submission { kind: JobKind::Prune, ..verify(None) });
    assert_eq!(refused.unwrap_err().code(), "read_only");
    let (job, _) = queue.submit(&owner(), verify(None)).unwrap();
    assert_eq!(queue.claim().unwrap().0.id, job.id, "the one that writes waits");
    assert!(queue.claim().is_none());
    let queue = open(&disk, 8);
    assert!(queue.get(&owner(), job.id.as_str()).is_err());
    assert_eq!(queue.claim().unwrap().0.id, waiting.id);
}

#[test]
fn a_document_that_is_none_hides_no_other() {
    let disk = FaultyDisk::new();
    let (job, _) = open(&disk, 8).submit(&owner(), verify(None)).unwrap();
    let broken = Path::new(ROOT).join("jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV.json");
    llm_memory_disk::Disk::durable_write(&disk, &broken, b"{").unwrap();
    let queue = open(&disk, 8);
    assert!(queue.get(&owner(), job.id.as_str()).is_ok());
    assert!(llm_memory_disk::Disk::exists(&disk, &broken).unwrap(), "it is left alone");
}

#[tokio::test]
async fn whoever_waits_is_answered_by_a_change_by_the_end_and_by_the_stop() {
    let queue = Arc::new(open(&FaultyDisk::new(), 8));
    let (job, _) = queue.submit(&owner(), verify(None)).unwrap();
    let long = Duration::from_secs(600);
    let waiting = |revision| {
        let (queue, id) = (Arc::clone(&queue), job.id.clone());
        tokio::spawn(async move { queue.wait(&owner(), id.as_str(), revision, long).await })
    };
    let first = waiting(None);
    tokio::task::yield_now().await;
    let begun = queue.claim().unwrap().0;
    first.await.unwrap().unwrap();
    waiting(Some(job.revision)).await.unwrap().unwrap();
    let second = waiting(Some(begun.revision));
    tokio::task::yield_now().await;
    let step = JobProgress { step: "x".to_owned(), done: 1, total: None, what: String::new() };
    queue.progress(&job.id, step);
    second.await.unwrap().unwrap();
    let third = waiting(None);
    tokio::task::yield_now().await;
    queue.stop();
    third.await.unwrap().unwrap();
    assert_eq!(queue.submit(&owner(), verify(None)).unwrap_err().code(), "shutting_down");
    queue.finish(&job.id, done());
    waiting(None).await.unwrap().unwrap();
    assert!(queue.wait(&owner(), "nothing", None, long).await.is_err());
}

#[derive(Default)]
struct Names(Mutex<Vec<String>>);

impl Observe for Names {
    fn call_finished(&self, record: &CallRecord<'_>) {
        assert_eq!(record.error, None, "{:?}", record.message);
        self.0.lock().push(format!("{} {}", record.principal.subject, record.name));
    }
}

fn runner(folder: &Path, observer: Arc<dyn Observe>) -> Runner {
    let engine = Engine::open(Arc::new(OsDisk), folder, Options::default()).unwrap();
    let limits = Limits { max_pending: 8 };
    let queue = JobQueue::open(Arc::new(OsDisk), folder, limits, false).unwrap();
    Runner {
        engine: Arc::new(engine),
        queue: Arc::new(queue),
        observer,
        compact_over: Box::new(|| 0),
        watcher: Arc::new(NoProgress),
    }
}

fn upsert(runner: &Runner, id: &str) {
    let arguments = json!({"type": "note", "scope": "global", "id": id, "title": id, "text": id});
    let call = crate::tools::Call {
        tool: crate::tools::find("memory.upsert").unwrap(),
        principal: &owner(),
        default_project: None,
        arguments: arguments.as_object().unwrap().clone(),
    };
    crate::tools::call(&runner.engine, &runner.queue, call, &NoProgress).unwrap();
}

#[test]
fn the_quarterly_round_takes_every_step_on_record_and_leaves_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let names = Arc::new(Names::default());
    let runner = runner(folder.path(), Arc::clone(&names) as _);
    upsert(&runner, "a");
    let routine = Some(Routine::Quarterly);
    let arguments = JobArguments { routine, ..JobArguments::default() };
    let submission = Submission { kind: JobKind::Routine, arguments, ..verify(None) };
    let (job, _) = runner.queue.submit(&owner(), submission).unwrap();
    assert!(runner.run_job(&job.id));
    let job = runner.queue.get(&owner(), job.id.as_str()).unwrap();
    assert_eq!(job.state, JobState::Succeeded, "{job:?}");
    let result = job.result.unwrap();
    let steps = result["steps"].as_array().unwrap();
    let told: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(
        told,
        [
            "cleanup",
            "compact grown journals",
            "prune",
            "verify",
            "compact",
            "rebuild and compare",
            "statistics"
        ]
    );
    let of = |name: &str, count: &str| {
        let step = steps.iter().find(|step| step["name"] == name).unwrap();
        step["counts"][count].clone()
    };
    assert_eq!(of("compact grown journals", "grown"), 1, "over a limit of nothing");
    assert_eq!(of("verify", "checked"), 1);
    assert_eq!(of("rebuild and compare", "changed"), 0);
    assert_eq!(of("statistics", "items"), 1);
    let report = folder.path().join(result["report"].as_str().unwrap());
    let kept: serde_json::Value =
        serde_json::from_slice(&llm_memory_disk::Disk::read(&OsDisk, &report).unwrap()).unwrap();
    assert_eq!(kept["steps"].as_array().unwrap().len(), 7);
    assert!(names.0.lock().contains(&"local journal.verify".to_owned()));
    runner.engine.close().unwrap();
}

#[test]
fn a_routine_that_is_told_to_stop_goes_back_to_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let runner = runner(folder.path(), Arc::new(NoObserver));
    let routine = Some(Routine::Weekly);
    let arguments = JobArguments { routine, ..JobArguments::default() };
    let submission = Submission { kind: JobKind::Routine, arguments, ..verify(None) };
    let (job, _) = runner.queue.submit(&owner(), submission).unwrap();
    runner.queue.stop();
    assert!(runner.run_job(&job.id));
    let job = runner.queue.get(&owner(), job.id.as_str()).unwrap();
    assert_eq!((job.state, job.attempts), (JobState::Pending, 0));
    runner.engine.close().unwrap();
}

#[test]
fn a_job_without_the_role_it_takes_fails_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let runner = runner(folder.path(), Arc::new(NoObserver));
    let monitor = Principal {
        roles: std::collections::BTreeSet::from([crate::access::Role::Monitor]),
        ..owner()
    };
    let submission = Submission { kind: JobKind::Compact, ..verify(None) };
    let (job, _) = runner.queue.submit(&monitor, submission).unwrap();
    runner.run_job(&job.id);
    let job = runner.queue.get(&owner(), job.id.as_str()).unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.error.unwrap().code, "forbidden");
    runner.engine.close().unwrap();
}
