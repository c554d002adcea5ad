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

/// How long a server may show a certificate that the authority of today did not sign: kubelets bring
/// the files of a Secret within two minutes. After that it is the Secret that is wrong.
const EXCHANGE: Duration = Duration::from_secs(600);

/// Where and how a store is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host and port.
    pub base: String,
    /// Authority of its certificate (PEM), as the Secret has it; none when that is missing.
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
    /// Since when its authority is that of today.
    certified: Instant,
    answer: Answer,
    due: Instant,
    asking: bool,
    failures: u32,
    reported: Option<(Instant, Answer)>,
}

/// The authority (PEM) that a pod was last believed by. A server gets the files of a Secret that was
/// changed a minute and more later, and keeps those of one that is gone.
#[derive(Debug)]
struct Proof {
    pod: String,
    authority: Vec<u8>,
}

/// The list of stores that are asked.
#[derive(Debug)]
pub struct Probes {
    entries: Mutex<HashMap<ObjectRef<MemoryStore>, Entry>>,
    proven: Mutex<HashMap<ObjectRef<MemoryStore>, Proof>>,
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
        let (entries, proven) = (Mutex::default(), Mutex::default());
        (Arc::new(Self { entries, proven, changed, period, identity }), receiver)
    }

    /// Asks `store` from now on at `target`, and says what it answered last.
    pub fn watch(&self, store: &ObjectRef<MemoryStore>, target: Target) -> Answer {
        let mut entries = self.entries.lock();
        let entry = entries.entry(store.clone()).or_insert_with(|| Entry {
            target: target.clone(),
            certified: Instant::now(),
            answer: Answer::default(),
            due: Instant::now(),
            asking: false,
            failures: 0,
            reported: None,
        });
        if entry.target != target {
            if entry.target.authority != target.authority {
                entry.certified = Instant::now();
            }
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

    /// Forgets a store that is gone.
    pub fn forget(&self, store: &ObjectRef<MemoryStore>) {
        self.unwatch(store);
        self.proven.lock().remove(store);
    }

    /// Where `store` is asked.
    #[cfg(test)]
    pub(crate) fn target(&self, store: &ObjectRef<MemoryStore>) -> Option<Target> {
        self.entries.lock().get(store).map(|entry| entry.target.clone())
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
                    let answer = probes.ask(&store, &target).await;
                    probes.record(&store, &target, answer);
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

    async fn ask(&self, store: &ObjectRef<MemoryStore>, target: &Target) -> Answer {
        let failed = |failure| Answer {
            pod: target.pod.clone(),
            at: Some(Timestamp::now()),
            handshake: Some(Err(failure)),
            ..Answer::default()
        };
        let token = match self.token(target).await {
            Ok(token) => token,
            Err(reason) => return failed(Failure::Answer(reason)),
        };
        let (api, handshake) = match self.shake_hands(store, target, token).await {
            Ok(answered) => answered,
            Err(error) => {
                if let (ServerError::Refused { status: 401, .. }, Some(audience)) =
                    (&error, &target.audience)
                {
                    self.identity.distrust(audience);
                }
                return failed(match error {
                    ServerError::Unreachable { .. } => Failure::Silence(error.to_string()),
                    other => Failure::Answer(other.to_string()),
                });
            }
        };
        let (mut status, mut job) = (None, None);
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
        Answer {
            pod: target.pod.clone(),
            at: Some(Timestamp::now()),
            handshake: Some(Ok(handshake)),
            status,
            job,
        }
    }

    /// Opens and closes a session, under the authority of today or the one that this pod was
    /// certified by when it was last asked: by which it answers, it is asked on.
    async fn shake_hands(
        &self,
        store: &ObjectRef<MemoryStore>,
        target: &Target,
        token: Option<String>,
    ) -> Result<(ServerApi, Handshake), ServerError> {
        let mut first = None;
        for authority in self.authorities(store, target) {
            let asked = async {
                let api = ServerApi::new(target.base.clone(), authority.as_deref(), token.clone())?;
                api.handshake().await.map(|handshake| (api, handshake))
            };
            match asked.await {
                Ok(answered) => {
                    if let Some(authority) = authority {
                        let proof = Proof { pod: target.pod.clone(), authority };
                        let entries = self.entries.lock();
                        // Nobody would forget it of a store that is gone by now.
                        if entries.contains_key(store) {
                            self.proven.lock().insert(store.clone(), proof);
                        }
                    }
                    return Ok(answered);
                }
                Err(error @ (ServerError::Unreachable { .. } | ServerError::Authority(_))) => {
                    first = first.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or(ServerError::Uncertified))
    }

    /// The authorities that the server may be certified by, the likeliest first. None of them, of a
    /// server that speaks TLS, means that nobody can say.
    fn authorities(&self, store: &ObjectRef<MemoryStore>, target: &Target) -> Vec<Option<Vec<u8>>> {
        if !target.base.starts_with("https:") {
            return vec![None];
        }
        let exchanged = self.entries.lock().get(store).map(|entry| entry.certified.elapsed());
        let late = target.authority.is_some() && exchanged.is_some_and(|since| since > EXCHANGE);
        let proven = self.proven.lock();
        let former = proven.get(store).filter(|proof| proof.pod == target.pod && !late);
        let former = former.map(|proof| &proof.authority);
        let former = former.filter(|pem| Some(*pem) != target.authority.as_ref());
        target.authority.iter().chain(former).cloned().map(Some).collect()
    }

    /// A client of the server at `target`, for what is asked once.
    pub async fn server(
        &self,
        store: &ObjectRef<MemoryStore>,
        target: &Target,
    ) -> Result<ServerApi, ServerError> {
        let refused = |reason| ServerError::Unreachable { url: target.base.clone(), reason };
        let token = self.token(target).await.map_err(refused)?;
        let trusted =
            self.authorities(store, target).into_iter().flatten().reduce(|mut all, pem| {
                all.push(b'\n');
                all.extend(pem);
                all
            });
        ServerApi::new(target.base.clone(), trusted.as_deref(), token)
    }

    async fn token(&self, target: &Target) -> Result<Option<String>, String> {
        let Some(audience) = &target.audience else { return Ok(None) };
        self.identity.token(audience).await.map(Some).map_err(|error| error.to_string())
    }

    fn record(&self, store: &ObjectRef<MemoryStore>, asked: &Target, mut answer: Answer) {
        let mut entries = self.entries.lock();
        // It may be gone by now, or asked in another way or of another pod.
        let Some(entry) = entries.get_mut(store) else { return };
        entry.asking = false;
        if entry.target != *asked {
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
        probes.record(&store, &target("a"), good(1));
        assert!(changed.try_recv().is_ok());
        probes.watch(&store, target("a"));
        probes.record(&store, &target("a"), good(2));
        assert!(changed.try_recv().is_err());
        let failed = Answer {
            pod: "a".to_owned(),
            handshake: Some(Err(Failure::Silence("refused".to_owned()))),
            ..Answer::default()
        };
        probes.record(&store, &target("a"), failed.clone());
        assert!(changed.try_recv().is_ok());
        let handshake = Some(Err(Failure::Silence("timed out".to_owned())));
        probes.record(&store, &target("a"), Answer { handshake, ..failed.clone() });
        assert!(changed.try_recv().is_err(), "it is as silent as before");
        assert_eq!(probes.last(&store).unwrap().handshake, failed.handshake);
    }

    #[tokio::test]
    async fn what_a_former_pod_said_is_forgotten() {
        let (probes, mut changed) = probes();
        let store = ObjectRef::new("m").within("team");
        probes.watch(&store, target("a"));
        probes.record(&store, &target("a"), good(1));
        assert!(probes.watch(&store, target("b")).handshake.is_none());
        while changed.try_recv().is_ok() {}
        probes.record(&store, &target("a"), good(1));
        assert!(probes.watch(&store, target("b")).handshake.is_none());
        assert!(changed.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_answer_to_a_question_that_is_asked_otherwise_by_now_does_not_count() {
        let (probes, mut changed) = probes();
        let store = ObjectRef::new("m").within("team");
        probes.watch(&store, target("a"));
        let (_, asked) = probes.due().pop().unwrap();
        let certified = Target { authority: Some(b"pem".to_vec()), ..target("a") };
        probes.watch(&store, certified.clone());
        assert!(probes.due().is_empty(), "one question at a time");
        probes.record(&store, &asked, good(1));
        assert!(probes.last(&store).unwrap().handshake.is_none());
        assert!(changed.try_recv().is_err());
        let (_, asked) = probes.due().pop().unwrap();
        assert_eq!(asked, certified);
        probes.record(&store, &asked, good(1));
        assert!(changed.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_missing_token_is_told_with_its_remedy() {
        let (probes, _changed) = probes();
        let wanted = Target { audience: Some("other".to_owned()), ..target("a") };
        let answer = probes.ask(&ObjectRef::new("m").within("team"), &wanted).await;
        let error = answer.handshake.unwrap().unwrap_err().to_string();
        assert!(error.contains("serviceaccounts/token"), "{error}");
    }

    /// A server that shows a new certificate, and the authority of that.
    async fn server() -> (String, Vec<u8>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let said = r#"{"result":{"serverInfo":{"name":"m","version":"1"},
                "protocolVersion":"p"},"id":"j","state":"running"}"#;
            let length = said.len();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {length}\r\n\r\n{said}");
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut socket) = acceptor.accept(socket).await else { continue };
                let _ = socket.read(&mut [0; 4096]).await;
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
            }
        });
        (base, made.cert.pem().into_bytes())
    }

    #[tokio::test]
    async fn a_pod_is_believed_by_the_authority_of_today_and_by_the_one_that_it_proved() {
        let (probes, _changed) = probes();
        let store = ObjectRef::new("m").within("team");
        let (base, first) = server().await;
        let (next, second) = server().await;
        let at = |base: &str, authority: Option<&[u8]>, pod: &str| Target {
            base: base.to_owned(),
            authority: authority.map(<[u8]>::to_vec),
            ..target(pod)
        };
        let ask = async |target: &Target| {
            probes.ask(&store, target).await.handshake.unwrap().map_err(|error| error.to_string())
        };
        probes.watch(&store, at(&base, None, "a"));
        // Of a server that was never believed, nobody can say anything without its Secret.
        let error = ask(&at(&base, None, "a")).await.unwrap_err();
        assert!(error.contains("its Secret is missing"), "{error}");
        ask(&at(&base, Some(&second), "a")).await.unwrap_err();
        ask(&at(&base, Some(&first), "a")).await.unwrap();
        // The Secret changes before the server's files do, and is then deleted.
        ask(&at(&base, Some(&second), "a")).await.unwrap();
        ask(&at(&base, Some(b"no certificate"), "a")).await.unwrap();
        ask(&at(&base, None, "a")).await.unwrap();
        for authority in [Some(&*second), None] {
            let server = probes.server(&store, &at(&base, authority, "a")).await.unwrap();
            assert_eq!(server.verify("key").await.unwrap().id, "j");
        }
        // That goes on for a while, and not for ever.
        probes.watch(&store, at(&base, Some(&second), "a"));
        ask(&at(&base, Some(&second), "a")).await.unwrap();
        let long_ago = Instant::now().checked_sub(EXCHANGE * 2).unwrap();
        probes.entries.lock().get_mut(&store).unwrap().certified = long_ago;
        ask(&at(&base, Some(&second), "a")).await.unwrap_err();
        ask(&at(&base, None, "a")).await.unwrap();
        probes.unwatch(&store);
        probes.watch(&store, at(&base, None, "a"));
        // Another pod has begun with the files of today, and another store is another matter.
        ask(&at(&base, Some(&second), "b")).await.unwrap_err();
        let other = ObjectRef::new("other").within("team");
        probes.ask(&other, &at(&base, None, "a")).await.handshake.unwrap().unwrap_err();
        // The files have followed: what was believed until then is believed no more.
        ask(&at(&next, Some(&second), "a")).await.unwrap();
        ask(&at(&base, Some(&second), "a")).await.unwrap_err();
        ask(&at(&next, None, "a")).await.unwrap();
        probes.forget(&store);
        ask(&at(&next, None, "a")).await.unwrap_err();
        // An answer that comes when the store is gone leaves nothing behind.
        ask(&at(&next, Some(&second), "a")).await.unwrap();
        ask(&at(&next, None, "a")).await.unwrap_err();
    }
}
