//! Asks every store that should serve, again and again, whether it does, apart from reconciling:
//! a thousand slow answers delay no change. A store is reconciled when an answer differs from the
//! last one in what matters, or its figures are a minute old.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use llm_memory_crds::MemoryStore;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::identity::Identity;
use crate::server_api::{Handshake, Job, ServerApi, ServerError, ServerStatus, Volume};

/// Stores asked at the same time.
const AT_ONCE: usize = 64;
/// How often the list is looked through.
const TICK: Duration = Duration::from_millis(500);
/// Age at which figures alone are worth a write of the status.
const FIGURES: Duration = Duration::from_secs(60);
/// A store that has not answered for long is asked less often, up to this.
const SLOWEST: Duration = Duration::from_secs(30);

/// Where and how a store is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host and port.
    pub base: String,
    /// Authority of its certificate (PEM).
    pub authority: Option<Vec<u8>>,
    /// Audience of the operator's token for it; none when it takes everybody.
    pub audience: Option<String>,
    /// The pod that answers; another one is asked at once.
    pub pod: String,
    /// A job of the server to look after.
    pub job: Option<String>,
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered. How that was found out differs from one question to the next.
    Silence(String),
    /// Somebody did, and not as a server should; or nobody could be asked.
    Answer(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Silence(reason) | Self::Answer(reason)) = self;
        formatter.write_str(reason)
    }
}

/// What a store answered last.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The pod that was asked.
    pub pod: String,
    /// When it answered last, well or not.
    pub at: Option<Timestamp>,
    /// Who answered, or why nobody did. `None` until somebody was asked.
    pub handshake: Option<Result<Handshake, Failure>>,
    /// How it is; what it last said, when it does not answer now.
    pub status: Option<ServerStatus>,
    /// The job that is looked after; an error when the server does not know it. `None` while
    /// nothing is known of it.
    pub job: Option<Result<Job, String>>,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    answer: Answer,
    due: Instant,
    asking: bool,
    failures: u32,
    reported: Option<(Instant, Answer)>,
}

/// The list of stores that are asked.
#[derive(Debug)]
pub struct Probes {
    entries: Mutex<HashMap<ObjectRef<MemoryStore>, Entry>>,
    changed: mpsc::UnboundedSender<ObjectRef<MemoryStore>>,
    period: Duration,
    identity: Identity,
}

impl Probes {
    /// Asks each store every `period`, as `identity`. Changes are told to the receiver; there is at
    /// most one per store and answer.
    pub fn new(
        period: Duration,
        identity: Identity,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<ObjectRef<MemoryStore>>) {
        let (changed, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self { entries: Mutex::default(), changed, period, identity }), receiver)
    }

    /// Asks `store` from now on at `target`, and says what it answered last.
    pub fn watch(&self, store: &ObjectRef<MemoryStore>, target: Target) -> Answer {
        let mut entries = self.entries.lock();
        let entry = entries.entry(store.clone()).or_insert_with(|| Entry {
            target: target.clone(),
            answer: Answer::default(),
            due: Instant::now(),
            asking: false,
            failures: 0,
            reported: None,
        });
        if entry.target != target {
            if entry.target.pod != target.pod {
                // What another pod said is not true of this one; its figures still are of the data.
                let status = entry.answer.status.take();
                entry.answer = Answer { status, ..Answer::default() };
            }
            entry.target = target;
            entry.due = Instant::now();
            entry.failures = 0;
        }
        let answer = entry.answer.clone();
        entry.reported = Some((Instant::now(), answer.clone()));
        answer
    }

    /// What was answered last by a store that is asked.
    pub fn last(&self, store: &ObjectRef<MemoryStore>) -> Option<Answer> {
        self.entries.lock().get(store).map(|entry| entry.answer.clone())
    }

    /// Stops asking, and says what was answered last.
    pub fn unwatch(&self, store: &ObjectRef<MemoryStore>) -> Option<Answer> {
        self.entries.lock().remove(store).map(|entry| entry.answer)
    }

    /// Asks until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            for (store, target) in self.due() {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let probes = Arc::clone(&self);
                tokio::spawn(async move {
                    let answer = probes.ask(&target).await;
                    probes.record(&store, answer);
                    drop(place);
                });
            }
        }
    }

    fn due(&self) -> Vec<(ObjectRef<MemoryStore>, Target)> {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let due = entries.iter_mut().filter(|(_, entry)| !entry.asking && entry.due <= now);
        due.map(|(store, entry)| {
            entry.asking = true;
            (store.clone(), entry.target.clone())
        })
        .collect()
    }

    async fn ask(&self, target: &Target) -> Answer {
        let api = match self.api(target).await {
            Ok(api) => api,
            Err(reason) => {
                return Answer {
                    pod: target.pod.clone(),
                    at: Some(Timestamp::now()),
                    handshake: Some(Err(Failure::Answer(reason))),
                    ..Answer::default()
                };
            }
        };
        let handshake = api.handshake().await;
        if let (Err(ServerError::Refused { status: 401, .. }), Some(audience)) =
            (&handshake, &target.audience)
        {
            self.identity.distrust(audience);
        }
        let (mut status, mut job) = (None, None);
        if handshake.is_ok() {
            match api.status().await {
                Ok(answer) => status = Some(answer),
                Err(error) => tracing::debug!(%error, "no status"),
            }
            if let Some(id) = &target.job {
                job = match api.job(id).await {
                    Ok(answer) => Some(Ok(answer)),
                    // The server knows no such job; asking again will not change that.
                    Err(error @ ServerError::Refused { status: 404, .. }) => {
                        Some(Err(error.to_string()))
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no word of the job");
                        None
                    }
                };
            }
        }
        Answer {
            pod: target.pod.clone(),
            at: Some(Timestamp::now()),
            handshake: Some(handshake.map_err(|error| match error {
                ServerError::Unreachable { .. } => Failure::Silence(error.to_string()),
                other => Failure::Answer(other.to_string()),
            })),
            status,
            job,
        }
    }

    async fn api(&self, target: &Target) -> Result<ServerApi, String> {
        let token = self.token(target).await?;
        ServerApi::new(target.base.clone(), target.authority.as_deref(), token)
            .map_err(|error| error.to_string())
    }

    /// A client of the server at `target`, for what is asked once.
    pub async fn server(&self, target: &Target) -> Result<ServerApi, ServerError> {
        let refused = |reason| ServerError::Unreachable { url: target.base.clone(), reason };
        let token = self.token(target).await.map_err(refused)?;
        ServerApi::new(target.base.clone(), target.authority.as_deref(), token)
    }

    async fn token(&self, target: &Target) -> Result<Option<String>, String> {
        let Some(audience) = &target.audience else { return Ok(None) };
        self.identity.token(audience).await.map(Some).map_err(|error| error.to_string())
    }

    fn record(&self, store: &ObjectRef<MemoryStore>, mut answer: Answer) {
        let mut entries = self.entries.lock();
        // It may be gone by now, or another pod may have taken over.
        let Some(entry) = entries.get_mut(store) else { return };
        entry.asking = false;
        if entry.target.pod != answer.pod {
            return;
        }
        let well = matches!(answer.handshake, Some(Ok(_)));
        entry.failures = if well { 0 } else { entry.failures.saturating_add(1) };
        // A pod that has just started is asked often, so that its store is soon ready.
        let wait = if well {
            self.period
        } else {
            let slow = self.period * (entry.failures / 6).max(1);
            if entry.failures < 30 {
                Duration::from_secs(1).min(self.period)
            } else {
                slow.min(SLOWEST)
            }
        };
        let busy = entry.target.job.is_some();
        entry.due = Instant::now() + if busy { Duration::from_secs(1).min(wait) } else { wait };
        if let (Some(Err(Failure::Silence(_))), Some(Err(Failure::Silence(_)))) =
            (&entry.answer.handshake, &answer.handshake)
        {
            // That it goes on is no news, and in other words not either.
            answer.handshake.clone_from(&entry.answer.handshake);
        }
        if answer.status.is_none() {
            answer.status = entry.answer.status.take();
        }
        entry.answer = answer;
        let worth_it = match &entry.reported {
            None => true,
            Some((at, reported)) => {
                matters(reported, &entry.answer)
                    || (at.elapsed() >= FIGURES && figures(reported) != figures(&entry.answer))
            }
        };
        if worth_it {
            // Told once, however long nobody listens. The receiver ends with the operator.
            entry.reported = Some((Instant::now(), entry.answer.clone()));
            let _ = self.changed.send(store.clone());
        }
    }
}

/// The figures that a status shows. What is free on the volume moves all the time, and is shown only
/// when there is little of it.
fn figures(answer: &Answer) -> Option<(Option<i64>, Option<i64>, Option<i64>)> {
    let status = answer.status.as_ref()?;
    Some((status.items, status.journal_bytes, status.used_bytes))
}

/// Whether two answers differ in more than figures.
fn matters(before: &Answer, now: &Answer) -> bool {
    let essence = |answer: &Answer| {
        let status = answer.status.as_ref();
        (
            answer.handshake.clone(),
            answer.job.clone(),
            status.and_then(|status| status.encoder.clone()),
            status.and_then(|status| status.volume).is_some_and(Volume::is_nearly_full),
            status.and_then(|status| status.last_verification.clone()),
            status.and_then(|status| status.last_compaction.clone()),
            status.map(|status| status.refusals.clone()),
        )
    };
    before.status.is_some() != now.status.is_some() || essence(before) != essence(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes() -> (Arc<Probes>, mpsc::UnboundedReceiver<ObjectRef<MemoryStore>>) {
        Probes::new(Duration::from_secs(10), crate::identity::tests::refused())
    }

    fn target(pod: &str) -> Target {
        Target {
            base: "http://127.0.0.1:1".to_owned(),
            authority: None,
            audience: None,
            pod: pod.to_owned(),
            job: None,
        }
    }

    fn good(items: i64) -> Answer {
        Answer {
            pod: "a".to_owned(),
            handshake: Some(Ok(Handshake {
                name: "llm-memory".to_owned(),
                version: "1".to_owned(),
                protocol: "p".to_owned(),
            })),
            status: Some(ServerStatus { items: Some(items), ..ServerStatus::default() }),
            ..Answer::default()
        }
    }

    #[tokio::test]
    async fn figures_alone_do_not_wake_anybody() {
        let (probes, mut changed) = probes();
        let store = ObjectRef::new("m").within("team");
        probes.watch(&store, target("a"));
        probes.record(&store, good(1));
        assert!(changed.try_recv().is_ok());
        probes.watch(&store, target("a"));
        probes.record(&store, good(2));
        assert!(changed.try_recv().is_err());
        let failed = Answer {
            pod: "a".to_owned(),
            handshake: Some(Err(Failure::Silence("refused".to_owned()))),
            ..Answer::default()
        };
        probes.record(&store, failed.clone());
        assert!(changed.try_recv().is_ok());
        let handshake = Some(Err(Failure::Silence("timed out".to_owned())));
        probes.record(&store, Answer { handshake, ..failed.clone() });
        assert!(changed.try_recv().is_err(), "it is as silent as before");
        assert_eq!(probes.last(&store).unwrap().handshake, failed.handshake);
    }

    #[tokio::test]
    async fn what_a_former_pod_said_is_forgotten() {
        let (probes, mut changed) = probes();
        let store = ObjectRef::new("m").within("team");
        probes.watch(&store, target("a"));
        probes.record(&store, good(1));
        assert!(probes.watch(&store, target("b")).handshake.is_none());
        while changed.try_recv().is_ok() {}
        probes.record(&store, good(1));
        assert!(probes.watch(&store, target("b")).handshake.is_none());
        assert!(changed.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_missing_token_is_told_with_its_remedy() {
        let (probes, _changed) = probes();
        let wanted = Target { audience: Some("other".to_owned()), ..target("a") };
        let answer = probes.ask(&wanted).await;
        let error = answer.handshake.unwrap().unwrap_err().to_string();
        assert!(error.contains("serviceaccounts/token"), "{error}");
    }
}
