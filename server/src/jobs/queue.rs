//! The queue: every job of the data folder, in memory and on disk.
//!
//! A change is durable before it is seen, with two exceptions: progress, which is of no use after a
//! restart, and an outcome that the disk refuses, which is better seen than lost.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::authority::Authority;
use super::error::JobError;
use super::figures::JobFigures;
use super::folder::{JobFolder, Record};
use super::job::{Job, JobId, JobProgress, JobState};
use super::request::{Limits, ListFilter, MAX_KEY, Submission, check_key};
use super::restart::after_restart;
use super::result::Outcome;
use super::retention;
use crate::access::Principal;

/// When to come back to a full queue.
const RETRY_AFTER_MS: u64 = 5000;

type OnEnd = Box<dyn Fn(&Job) + Send + Sync>;

/// The jobs of one data folder.
pub struct JobQueue {
    folder: JobFolder,
    limits: Limits,
    safe_mode: bool,
    records: Mutex<BTreeMap<JobId, Record>>,
    /// What the restart changed and nobody has written down yet.
    restarted: Mutex<Vec<JobId>>,
    /// Held while a change is made durable, so that readers do not wait for the disk.
    changing: Mutex<()>,
    changed: watch::Sender<()>,
    stopping: AtomicBool,
    on_end: OnceLock<OnEnd>,
}

impl fmt::Debug for JobQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobQueue").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl JobQueue {
    /// The jobs kept in the data folder `root`. Changes nothing on disk: what was running when
    /// the folder was last in use counts as pending here, and [`JobQueue::settle`] writes it down.
    pub fn open(
        disk: Arc<dyn Disk>,
        root: &Path,
        limits: Limits,
        safe_mode: bool,
    ) -> Result<Self, DiskError> {
        let folder = JobFolder::new(disk, root, safe_mode);
        let mut restarted = Vec::new();
        let records = folder.load()?.into_iter().map(|mut record| {
            let id = record.job.id.clone();
            if after_restart(&mut record.job, Timestamp::now()) {
                restarted.push(id.clone());
            }
            (id, record)
        });
        Ok(Self {
            records: Mutex::new(records.collect()),
            restarted: Mutex::new(restarted),
            folder,
            limits,
            safe_mode,
            changing: Mutex::new(()),
            changed: watch::Sender::new(()),
            stopping: AtomicBool::new(false),
            on_end: OnceLock::new(),
        })
    }

    /// Has `listener` called with every job that ends.
    pub fn on_end(&self, listener: OnEnd) {
        // The one that listens already goes on.
        drop(self.on_end.set(listener));
    }

    /// Writes down what a restart changed, and forgets what is old.
    pub fn settle(&self) -> Result<(), DiskError> {
        let _changing = self.changing.lock();
        self.folder.remove_leftovers()?;
        for id in std::mem::take(&mut *self.restarted.lock()) {
            let record = self.records.lock().get(&id).cloned();
            let Some(record) = record else { continue };
            self.folder.save(&record)?;
            if record.job.state.is_final() {
                self.ended(&record.job);
            }
        }
        self.forget();
        Ok(())
    }

    /// Takes a job; the second part says whether it is new.
    pub fn submit(
        &self,
        principal: &Principal,
        submission: Submission,
    ) -> Result<(Job, bool), JobError> {
        let Submission { kind, arguments, project, idempotency_key } = submission;
        arguments.check(kind).map_err(|(field, reason)| JobError::Invalid { field, reason })?;
        check_key(idempotency_key.as_deref())?;
        let _changing = self.changing.lock();
        if let Some(key) = &idempotency_key
            && let Some((known, seen)) = self.with_key(principal, key)
        {
            if !seen {
                let reason = format!(
                    "the key {key:?} belongs to a job of another token of {}, which this one may \
                     not see",
                    principal.subject
                );
                return Err(JobError::Conflict { reason });
            }
            if (known.kind, &known.arguments, &known.project) == (kind, &arguments, &project) {
                return Ok((known, false));
            }
            let reason =
                format!("the key {key:?} belongs to the job {}, which is another one", known.id);
            return Err(JobError::Conflict { reason });
        }
        if self.is_stopping() {
            return Err(JobError::Closed);
        }
        if self.safe_mode && kind.writes() {
            return Err(JobError::SafeMode { kind: kind.as_str() });
        }
        let pending = self.count(JobState::Pending);
        if pending >= self.limits.max_pending {
            return Err(JobError::Busy { pending, retry_after_ms: RETRY_AFTER_MS });
        }
        let job = Job {
            id: JobId::generate(),
            kind,
            arguments,
            project,
            idempotency_key,
            requester: principal.subject.clone(),
            state: JobState::Pending,
            revision: 1,
            created_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
            attempts: 0,
            progress: None,
            summary: None,
            result: None,
            error: None,
        };
        let record = Record::new(job.clone(), Authority::of(principal));
        self.folder.save(&record)?;
        self.records.lock().insert(job.id.clone(), record);
        self.changed.send_replace(());
        Ok((job, true))
    }

    /// The job named `id`, for somebody who may see it.
    pub fn get(&self, principal: &Principal, id: &str) -> Result<Job, JobError> {
        self.look(principal, id, Job::clone)
    }

    /// The newest jobs that `principal` may see, newest first, and how many match.
    pub fn list(&self, principal: &Principal, filter: ListFilter) -> (Vec<Job>, usize) {
        let records = self.records.lock();
        let mut found: Vec<&Job> = seen(&records, principal)
            .filter(|job| filter.state.is_none_or(|state| state == job.state))
            .filter(|job| filter.kind.is_none_or(|kind| kind == job.kind))
            .collect();
        found.sort_by_key(|job| std::cmp::Reverse((job.created_at, &job.id)));
        let total = found.len();
        (found.into_iter().take(filter.limit).map(Job::without_result).collect(), total)
    }

    /// The figures of the jobs that `principal` may see.
    pub fn figures_for(&self, principal: &Principal) -> JobFigures {
        JobFigures::of(seen(&self.records.lock(), principal), Timestamp::now())
    }

    /// The figures of all jobs.
    pub fn figures(&self) -> JobFigures {
        let records = self.records.lock();
        JobFigures::of(records.values().map(|record| &record.job), Timestamp::now())
    }

    /// Takes a pending job back.
    pub fn cancel(&self, principal: &Principal, id: &str) -> Result<Job, JobError> {
        let _changing = self.changing.lock();
        let job = self.get(principal, id)?;
        if job.state != JobState::Pending {
            let reason = format!("the job {id} is {} and cannot be cancelled", job.state.as_str());
            return Err(JobError::Conflict { reason });
        }
        if self.safe_mode {
            return Err(JobError::SafeMode { kind: job.kind.as_str() });
        }
        let scopes = job.arguments.scope.scopes();
        let allowed = self
            .records
            .lock()
            .get(&job.id)
            .is_some_and(|record| record.authority.is_cancelled_by(principal, scopes));
        if !allowed {
            let reason = format!(
                "the job {id} of {} works on scopes that this token may not write",
                job.requester
            );
            return Err(JobError::Forbidden { reason });
        }
        let cancelled = self.change(&job.id, |job| {
            job.state = JobState::Cancelled;
            job.finished_at = Some(Timestamp::now());
        })?;
        let cancelled = cancelled.ok_or_else(|| JobError::NotFound { id: id.to_owned() })?;
        self.ended(&cancelled);
        Ok(cancelled)
    }

    /// Waits until the job is not at `revision` any more (or, without one, not as it is now), has
    /// ended, or `limit` is over.
    pub async fn wait(
        &self,
        principal: &Principal,
        id: &str,
        revision: Option<u64>,
        limit: Duration,
    ) -> Result<(), JobError> {
        let until = Instant::now() + limit;
        let mut changes = self.changed.subscribe();
        let state = || self.look(principal, id, |job| (job.revision, job.state.is_final()));
        let known = revision.map_or_else(|| state().map(|(now, _)| now), Ok)?;
        loop {
            let (now, ended) = state()?;
            if ended || now != known || self.is_stopping() {
                return Ok(());
            }
            tokio::select! {
                // The sender lives as long as the queue.
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(until) => return Ok(()),
            }
        }
    }

    /// Tells whoever listens that something changed.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes no further jobs and begins none; whoever waits is answered.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.changed.send_replace(());
    }

    /// Whether [`JobQueue::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Begins the job that waits for longest, if there is one to begin.
    pub(super) fn claim(&self) -> Option<(Job, Authority)> {
        let _changing = self.changing.lock();
        if self.is_stopping() {
            return None;
        }
        let next = {
            let records = self.records.lock();
            let ready = records.values().map(|record| &record.job).filter(|job| {
                job.state == JobState::Pending && !(self.safe_mode && job.kind.writes())
            });
            ready.min_by_key(|job| (job.created_at, &job.id)).map(|job| job.id.clone())
        };
        self.begin(&next?)
    }

    /// Begins this job, if it is pending.
    pub(super) fn claim_job(&self, id: &JobId) -> Option<(Job, Authority)> {
        let _changing = self.changing.lock();
        let state = self.records.lock().get(id).map(|record| record.job.state);
        state.filter(|state| *state == JobState::Pending).and_then(|_| self.begin(id))
    }

    fn begin(&self, id: &JobId) -> Option<(Job, Authority)> {
        let began = |job: &mut Job| {
            job.state = JobState::Running;
            job.started_at = Some(Timestamp::now());
            job.attempts = job.attempts.saturating_add(1);
        };
        // On a full disk the job may be the one that frees some space.
        let job = self.change_anyway(id, began)?;
        let authority = self.records.lock().get(id).map(|record| record.authority.clone())?;
        Some((job, authority))
    }

    /// Notes how far a running job is.
    pub(super) fn progress(&self, id: &JobId, progress: JobProgress) {
        if let Some(record) = self.records.lock().get_mut(id) {
            record.job.progress = Some(progress);
            record.job.revision += 1;
        }
        self.changed.send_replace(());
    }

    /// Ends a running job.
    pub(super) fn finish(&self, id: &JobId, outcome: Outcome) -> Option<Job> {
        let _changing = self.changing.lock();
        let ended = self.change_anyway(id, |job| {
            job.state = outcome.state;
            job.finished_at = Some(Timestamp::now());
            job.progress = None;
            job.summary = outcome.summary;
            job.result = outcome.result;
            job.error = outcome.error;
        })?;
        self.ended(&ended);
        self.forget();
        Some(ended)
    }

    /// Puts a job back that was told to stop between two of its steps. That is no attempt that
    /// failed.
    pub(super) fn put_back(&self, id: &JobId) {
        let _changing = self.changing.lock();
        self.change_anyway(id, |job| {
            job.state = JobState::Pending;
            job.progress = None;
            job.attempts = job.attempts.saturating_sub(1);
        });
    }

    fn change(&self, id: &JobId, how: impl FnOnce(&mut Job)) -> Result<Option<Job>, DiskError> {
        let Some(mut record) = self.records.lock().get(id).cloned() else { return Ok(None) };
        how(&mut record.job);
        record.job.revision += 1;
        self.folder.save(&record)?;
        Ok(Some(self.replace(record)))
    }

    fn change_anyway(&self, id: &JobId, how: impl FnOnce(&mut Job)) -> Option<Job> {
        let mut record = self.records.lock().get(id).cloned()?;
        how(&mut record.job);
        record.job.revision += 1;
        if let Err(error) = self.folder.save(&record) {
            let state = record.job.state.as_str();
            tracing::error!(job = %id, state, %error, "the state of a job could not be kept");
        }
        Some(self.replace(record))
    }

    fn replace(&self, record: Record) -> Job {
        let job = record.job.clone();
        self.records.lock().insert(job.id.clone(), record);
        self.changed.send_replace(());
        job
    }

    fn ended(&self, job: &Job) {
        if let Some(listener) = self.on_end.get() {
            listener(job);
        }
    }

    fn forget(&self) {
        let mut records = self.records.lock();
        let jobs = records.values().map(|record| &record.job);
        let superfluous = retention::superfluous(jobs, Timestamp::now());
        records.retain(|id, _| !superfluous.contains(id));
        drop(records);
        if let Err(error) = self.folder.remove(&superfluous) {
            tracing::warn!(%error, "documents of old jobs could not be removed");
        }
    }

    fn look<T>(
        &self,
        principal: &Principal,
        id: &str,
        of: impl FnOnce(&Job) -> T,
    ) -> Result<T, JobError> {
        let records = self.records.lock();
        let found = id.parse::<JobId>().ok().and_then(|id| records.get(&id));
        found
            .filter(|record| is_seen(record, principal))
            .map(|record| of(&record.job))
            .ok_or_else(|| JobError::NotFound { id: id.chars().take(MAX_KEY).collect() })
    }

    /// The job that the key of `principal` belongs to, and whether they may see it.
    fn with_key(&self, principal: &Principal, key: &str) -> Option<(Job, bool)> {
        let records = self.records.lock();
        let mut theirs =
            records.values().filter(|record| record.authority.shares_keys_with(principal));
        let record = theirs.find(|record| record.job.idempotency_key.as_deref() == Some(key))?;
        Some((record.job.clone(), is_seen(record, principal)))
    }

    fn count(&self, state: JobState) -> usize {
        self.records.lock().values().filter(|record| record.job.state == state).count()
    }
}

fn is_seen(record: &Record, principal: &Principal) -> bool {
    let job = &record.job;
    record.authority.is_seen_by(principal, job.project.as_ref(), job.arguments.scope.scopes())
}

fn seen<'a>(
    records: &'a BTreeMap<JobId, Record>,
    principal: &'a Principal,
) -> impl Iterator<Item = &'a Job> {
    records.values().filter(|record| is_seen(record, principal)).map(|record| &record.job)
}
