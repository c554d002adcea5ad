//! Whole reconciliations against an API server that refuses, does not answer, or has moved on.

use std::collections::BTreeMap;
use std::convert::Infallible;

use http::{Method, Request, Response};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Client;
use kube::client::Body;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{reflector, watcher};
use llm_memory_crds::conditions::READY;
use parking_lot::Mutex;
use serde_json::Value;

use super::*;
use crate::apply::Applier;
use crate::cluster::{Cluster, Watched};
use crate::context::{Failures, Refusals, Settings};
use crate::memory_store::build::{Apis, OperatorIdentity};
use crate::memory_store::events::Told;
use crate::metrics::Metrics;
use crate::probes::{Probes, Target};

const STORE: &str = "/apis/llm-memory.dev/v1alpha1/namespaces/team/memorystores/notes";
const STATUS: &str = "/apis/llm-memory.dev/v1alpha1/namespaces/team/memorystores/notes/status";
const SERVICE: &str = "/api/v1/namespaces/team/services/notes";
const TOKENS: &str = "/api/v1/namespaces/team/secrets/notes-tokens";
const CLAIM: &str = "/api/v1/namespaces/team/persistentvolumeclaims/data-notes-0";
const SET: &str = "/apis/apps/v1/namespaces/team/statefulsets/notes";

/// How a scripted request ends.
#[derive(Debug, Clone, Copy)]
enum Script {
    /// With an error of the API server.
    Refuse(u16, &'static str),
    /// Never.
    Hang,
    /// With the object as it is: what was asked for is that already, in other words.
    Keep,
}

/// An API server that keeps what is applied, but for the requests that its script is about.
#[derive(Debug, Default)]
struct Api {
    objects: Mutex<BTreeMap<String, Value>>,
    writes: Mutex<Vec<(Method, String)>>,
    script: Mutex<Vec<(Method, &'static str, Script)>>,
}

impl Api {
    fn script(&self, method: Method, path: &'static str, script: Script) {
        self.script.lock().push((method, path, script));
    }

    /// Everything is answered as it should be from now on.
    fn mend(&self) {
        self.script.lock().clear();
    }

    fn has(&self, path: &str) -> bool {
        self.objects.lock().contains_key(path)
    }

    /// What was written since the last look.
    fn writes(&self) -> Vec<(Method, String)> {
        std::mem::take(&mut *self.writes.lock())
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let scripted = {
            let script = self.script.lock();
            script.iter().find(|(m, p, _)| *m == head.method && *p == path).map(|(.., s)| *s)
        };
        match scripted {
            Some(Script::Hang) => return std::future::pending().await,
            Some(Script::Refuse(code, message)) => return status(code, message),
            Some(Script::Keep) => return json_response(200, &self.objects.lock()[&path]),
            None => {}
        }
        if head.method != Method::GET {
            self.writes.lock().push((head.method.clone(), path.clone()));
        }
        let body = body.collect_bytes().await.unwrap();
        match head.method {
            Method::GET => match self.objects.lock().get(&path) {
                Some(object) => json_response(200, object),
                None => status(404, "it is not there"),
            },
            Method::PATCH => self.patch(&path, serde_json::from_slice(&body).unwrap()),
            // Events.
            Method::POST => json_response(201, &serde_json::from_slice(&body).unwrap()),
            other => panic!("{other} {path}"),
        }
    }

    fn patch(&self, path: &str, mut body: Value) -> Response<Body> {
        let mut objects = self.objects.lock();
        let name = path.strip_suffix("/status").unwrap_or(path);
        let version = objects.values().filter_map(resource_version).max().unwrap_or(0) + 1;
        if path == STATUS {
            let known = objects.get(STORE).and_then(resource_version);
            let Some(known) = known else { return status(404, "it is not there") };
            if resource_version(&body).is_some_and(|shown| shown != known) {
                return status(409, "the object has been modified");
            }
            let store = objects.get_mut(STORE).unwrap();
            store["status"] = body["status"].take();
            store["metadata"]["resourceVersion"] = json!(version.to_string());
            return json_response(200, store);
        }
        body["metadata"]["resourceVersion"] = json!(version.to_string());
        body["metadata"]["uid"] = json!(format!("uid of {name}"));
        let answer = json_response(200, &body);
        objects.insert(name.to_owned(), body);
        answer
    }
}

fn resource_version(object: &Value) -> Option<u64> {
    object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()
}

fn json_response(code: u16, body: &Value) -> Response<Body> {
    let body = Body::from(serde_json::to_vec(body).unwrap());
    Response::builder().status(code).body(body).unwrap()
}

fn status(code: u16, message: &str) -> Response<Body> {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        504 => "Timeout",
        other => panic!("{other}"),
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": message});
    json_response(code, &status)
}

struct Rig {
    api: Arc<Api>,
    context: Arc<Context>,
    pods: Mutex<Writer<Pod>>,
    sets: Mutex<Writer<StatefulSet>>,
}

impl Rig {
    fn new() -> Self {
        Self::with(json!({"image": "llm-memory:1"}))
    }

    fn with(spec: Value) -> Self {
        let api = Arc::new(Api::default());
        let store = json!({
            "apiVersion": "llm-memory.dev/v1alpha1", "kind": "MemoryStore",
            "metadata": {"name": "notes", "namespace": "team", "uid": "u", "generation": 1,
                "resourceVersion": "1"},
            "spec": spec,
        });
        api.objects.lock().insert(STORE.to_owned(), store);
        let service = {
            let api = Arc::clone(&api);
            tower::service_fn(move |request| {
                let api = Arc::clone(&api);
                async move { Ok::<_, Infallible>(api.answer(request).await) }
            })
        };
        let client = Client::new(service, "team");
        let (cluster, _) = Cluster::watch(&client, &Watched::Everywhere, Apis::default());
        let mut cluster = Arc::into_inner(cluster).unwrap();
        let ((pods_cache, pods), (sets_cache, sets)) = (reflector::store(), reflector::store());
        (cluster.pods, cluster.stateful_sets) = (pods_cache, sets_cache);
        let cluster = Arc::new(cluster);
        let (probes, _) = Probes::new(Duration::from_secs(5), crate::identity::tests::refused());
        let context = Context {
            client: client.clone(),
            settings: Arc::new(Settings {
                server_image: "llm-memory:1".to_owned(),
                identity: OperatorIdentity {
                    namespace: "system".to_owned(),
                    service_account: "operator".to_owned(),
                    pod_labels: BTreeMap::new(),
                    api_server_ports: vec![443, 6443],
                },
                cluster_domain: "cluster.local".to_owned(),
            }),
            applier: Arc::new(Applier::new(client.clone(), Arc::clone(&cluster))),
            cluster,
            probes,
            told: Arc::new(Told::default()),
            metrics: Arc::new(Metrics::default()),
            failures: Arc::new(Failures::default()),
            refusals: Arc::new(Refusals::default()),
        };
        Self { api, context: Arc::new(context), pods: Mutex::new(pods), sets: Mutex::new(sets) }
    }

    /// The spec becomes `spec`, in another generation.
    fn edit(&self, spec: Value) {
        let mut objects = self.api.objects.lock();
        let store = objects.get_mut(STORE).unwrap();
        store["spec"] = spec;
        let generation = store["metadata"]["generation"].as_i64().unwrap();
        store["metadata"]["generation"] = json!(generation + 1);
    }

    /// The cache of pods shows one that was made with `env`, and is `ready`.
    fn show_pod(&self, env: Value, ready: bool) {
        let pod = json!({
            "metadata": {
                "name": "notes-0", "namespace": "team", "uid": "p",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"controller-revision-hash": "notes-1"},
            },
            "spec": {"containers": [{"name": "server", "env": env}],
                "volumes": [{"name": "tls", "secret": {"secretName": "certificate"}}]},
            "status": {"conditions": [
                {"type": "Ready", "status": if ready { "True" } else { "False" },
                    "lastTransitionTime": "2026-01-01T00:00:09Z"},
            ]},
        });
        let pod = serde_json::from_value(pod).unwrap();
        self.pods.lock().apply_watcher_event(&watcher::Event::Apply(pod));
    }

    /// The cache of StatefulSets shows what was applied, in `generation`, of which the controller
    /// has seen `seen` and made `revision`.
    fn show_set(&self, generation: i64, seen: i64, revision: &str) {
        let mut set = self.api.objects.lock()[SET].clone();
        set["metadata"]["generation"] = json!(generation);
        set["status"] =
            json!({"observedGeneration": seen, "updateRevision": revision, "replicas": 1});
        let set = serde_json::from_value(set).unwrap();
        self.sets.lock().apply_watcher_event(&watcher::Event::Apply(set));
    }

    /// It was told before that the store serves.
    fn say_serving(&self) {
        let mut objects = self.api.objects.lock();
        let said = &mut objects.get_mut(STORE).unwrap()["status"]["conditions"];
        let ready = said.as_array_mut().unwrap().iter_mut().find(|it| it["type"] == READY);
        let ready = ready.unwrap();
        ready["status"] = json!("True");
        ready["reason"] = json!(ready::SERVING);
        ready["lastTransitionTime"] = json!("2026-01-02T00:00:00Z");
    }

    /// Where the store is asked.
    fn target(&self) -> Option<Target> {
        self.context.probes.target(&ObjectRef::new("notes").within("team"))
    }

    fn store(&self) -> MemoryStore {
        serde_json::from_value(self.api.objects.lock()[STORE].clone()).unwrap()
    }

    async fn reconcile(&self) -> Result<Action, Error> {
        self.reconcile_as(self.store()).await
    }

    async fn reconcile_as(&self, store: MemoryStore) -> Result<Action, Error> {
        let object = Arc::new(Guarded(Ok(store)));
        let outcome = reconcile(Arc::clone(&object), Arc::clone(&self.context)).await;
        if let Err(error) = &outcome {
            error_policy(object, error, Arc::clone(&self.context));
        }
        outcome
    }

    /// Status, reason and message of a condition.
    fn condition(&self, kind: &str) -> (String, String, String) {
        let conditions = self.store().status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == kind);
        found.map_or_else(Default::default, |it| (it.status, it.reason, it.message))
    }

    /// Reconciles until there is nothing left to write, and says that all went well.
    async fn converges(&self) {
        self.api.mend();
        self.reconcile().await.unwrap();
        for path in [SERVICE, TOKENS, CLAIM, SET] {
            assert!(self.api.has(path), "{path}");
        }
        let (status, reason, message) = self.condition(PROGRESSING);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("True", progressing::STARTING),
            "{message}"
        );
        self.api.writes();
        self.reconcile().await.unwrap();
        assert_eq!(self.api.writes(), [], "nothing was left to write");
    }

    fn metrics(&self) -> String {
        self.context.metrics.text()
    }
}

#[tokio::test]
async fn an_undisturbed_store_is_written_once() {
    Rig::new().converges().await;
}

#[tokio::test]
async fn a_forbidden_object_is_named_in_the_status_and_the_rest_waits_for_it() {
    let rig = Rig::new();
    let said = "services \"notes\" is forbidden: exceeded quota: services";
    rig.api.script(Method::PATCH, SERVICE, Script::Refuse(403, said));
    let error = rig.reconcile().await.unwrap_err();
    assert_eq!(error.label(), "apply");
    let (status, reason, message) = rig.condition(PROGRESSING);
    assert_eq!((status.as_str(), reason.as_str()), ("False", progressing::APPLY_FAILED));
    assert!(message.starts_with("Service notes: ") && message.contains(said), "{message}");
    assert_eq!(rig.condition(READY).1, ready::NO_POD);
    assert!(!rig.api.has(SET), "its pod would not be reached");
    assert!(rig.metrics().contains(r#"reconcile_errors_total{reason="apply"} 1"#));
    // That it still fails is no news: nothing is written of it.
    rig.api.writes();
    rig.reconcile().await.unwrap_err();
    assert_eq!(rig.api.writes(), []);
    rig.converges().await;
}

#[tokio::test]
async fn a_conflict_of_an_object_is_tried_again() {
    let rig = Rig::new();
    rig.api.script(Method::PATCH, SET, Script::Refuse(409, "the object has been modified"));
    assert_eq!(rig.reconcile().await.unwrap_err().label(), "apply");
    assert!(rig.condition(PROGRESSING).2.starts_with("StatefulSet notes: "));
    rig.converges().await;
}

#[tokio::test]
async fn a_status_is_not_written_over_a_newer_one() {
    let rig = Rig::new();
    let stale = rig.store();
    rig.reconcile().await.unwrap();
    let written = rig.store();
    let next = rig.reconcile_as(stale).await.unwrap();
    assert_eq!(next, Action::requeue(AGAIN));
    assert_eq!(rig.store().resource_version(), written.resource_version());
}

#[tokio::test]
async fn a_store_that_goes_while_it_is_looked_at_is_no_error() {
    let rig = Rig::new();
    let gone = rig.store();
    rig.api.objects.lock().remove(STORE);
    assert_eq!(rig.reconcile_as(gone).await.unwrap(), Action::requeue(AGAIN));
}

#[tokio::test]
async fn a_timeout_of_the_api_server_is_told_and_tried_again() {
    let rig = Rig::new();
    rig.api.script(Method::PATCH, CLAIM, Script::Refuse(504, "request did not complete"));
    assert_eq!(rig.reconcile().await.unwrap_err().label(), "apply");
    assert!(rig.condition(PROGRESSING).2.starts_with("PersistentVolumeClaim data-notes-0: "));
    rig.converges().await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_never_answers_holds_no_place_for_ever() {
    let rig = Rig::new();
    rig.api.script(Method::PATCH, SET, Script::Hang);
    let before = tokio::time::Instant::now();
    assert_eq!(rig.reconcile().await.unwrap_err().label(), "timeout");
    assert_eq!(before.elapsed().as_secs(), PATIENCE.as_secs());
    let (_, reason, message) = rig.condition(PROGRESSING);
    assert_eq!(reason, progressing::APPLY_FAILED);
    assert!(message.contains("did not answer within 30 s"), "{message}");
    rig.converges().await;
    // Not even the status can be written.
    rig.api.script(Method::GET, TOKENS, Script::Hang);
    rig.api.script(Method::PATCH, STATUS, Script::Hang);
    assert_eq!(rig.reconcile().await.unwrap_err().label(), "timeout");
    rig.converges().await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_counted_and_stops_nobody() {
    let rig = Rig::new();
    let invalid: Guarded = serde_json::from_value(json!({
        "apiVersion": "llm-memory.dev/v1alpha1", "kind": "MemoryStore",
        "metadata": {"name": "odd", "namespace": "team"}, "spec": {"replicas": "many"},
    }))
    .unwrap();
    assert!(invalid.0.is_err());
    let action = reconcile(Arc::new(invalid), Arc::clone(&rig.context)).await.unwrap();
    assert_eq!(action, Action::await_change());
    assert!(rig.metrics().contains(r#"reconcile_errors_total{reason="malformed"} 1"#));
    rig.converges().await;
}

#[tokio::test]
async fn tokens_that_cannot_be_read_are_not_made_anew() {
    let rig = Rig::new();
    rig.reconcile().await.unwrap();
    let tokens = rig.api.objects.lock()[TOKENS].clone();
    rig.api.script(Method::GET, TOKENS, Script::Refuse(403, "secrets is forbidden"));
    assert_eq!(rig.reconcile().await.unwrap_err().label(), "dereference");
    assert_eq!(rig.api.objects.lock()[TOKENS], tokens);
    let (status, reason, message) = rig.condition(PROGRESSING);
    assert_eq!((status.as_str(), reason.as_str()), ("False", progressing::APPLY_FAILED));
    assert!(message.contains("Secret notes-tokens could not be read"), "{message}");
    assert_eq!(rig.store().status.unwrap().observed_generation, Some(1), "as before");
    rig.converges().await;
    assert_eq!(rig.api.objects.lock()[TOKENS], tokens);
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone() {
    let rig = Rig::new();
    let theirs = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "notes", "namespace": "team", "uid": "x", "resourceVersion": "1"}});
    rig.api.objects.lock().insert(SERVICE.to_owned(), theirs.clone());
    assert_eq!(rig.reconcile().await.unwrap(), Action::requeue(MISSING));
    assert_eq!(rig.api.objects.lock()[SERVICE], theirs);
    let (status, reason, message) = rig.condition(ACCEPTED);
    assert_eq!((status.as_str(), reason.as_str()), ("False", accepted::NAME_CONFLICT));
    assert!(message.contains("Service notes") && message.contains("rename or delete"), "{message}");
    rig.api.objects.lock().remove(SERVICE);
    rig.converges().await;
}

#[tokio::test]
async fn a_kept_claim_of_an_older_operator_is_told_to_belong_to_no_application() {
    const PRUNE: &str = "argocd.argoproj.io/sync-options";
    let rig = Rig::new();
    rig.converges().await;
    {
        let mut objects = rig.api.objects.lock();
        let metadata = objects.get_mut(CLAIM).unwrap()["metadata"].as_object_mut().unwrap();
        assert!(!metadata.contains_key("ownerReferences"));
        let annotations = metadata["annotations"].as_object_mut().unwrap();
        assert!(annotations.remove(PRUNE).is_some());
    }
    rig.reconcile().await.unwrap();
    assert_eq!(rig.api.writes(), [(Method::PATCH, CLAIM.to_owned())]);
    assert_eq!(rig.api.objects.lock()[CLAIM]["metadata"]["annotations"][PRUNE], "Prune=false");
    rig.converges().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_told_fails_nothing() {
    let rig = Rig::new();
    let events = "/apis/events.k8s.io/v1/namespaces/team/events";
    rig.api.script(Method::POST, events, Script::Refuse(403, "events is forbidden"));
    rig.reconcile().await.unwrap();
    rig.converges().await;
}

#[tokio::test]
async fn what_a_server_does_without_holds_none_up() {
    let rig = Rig::new();
    let cron_job = "/apis/batch/v1/namespaces/team/cronjobs/notes-verify";
    let said = "exceeded quota: cronjobs";
    rig.api.script(Method::PATCH, cron_job, Script::Refuse(403, said));
    assert_eq!(rig.reconcile().await.unwrap_err().label(), "apply");
    assert!(rig.api.has(SET), "the server");
    assert!(rig.api.has("/apis/batch/v1/namespaces/team/cronjobs/notes-quarterly"), "the others");
    let (status, reason, message) = rig.condition(PROGRESSING);
    assert_eq!((status.as_str(), reason.as_str()), ("False", progressing::APPLY_FAILED));
    assert!(message.contains(said), "{message}");
    rig.converges().await;
}

#[tokio::test]
async fn a_claim_that_is_gone_is_told_and_no_empty_one_takes_its_place() {
    let rig = Rig::new();
    rig.converges().await;
    let claim = {
        let mut objects = rig.api.objects.lock();
        objects.get_mut(STORE).unwrap()["status"]["storage"]["actual"] = json!("1Gi");
        objects.remove(CLAIM).unwrap()
    };
    rig.api.writes();
    for _ in 0..2 {
        assert_eq!(rig.reconcile().await.unwrap(), Action::requeue(MISSING));
        let (status, reason, message) = rig.condition(STORAGE_HEALTHY);
        assert_eq!((status.as_str(), reason.as_str()), ("False", storage::LOST));
        assert!(message.contains("data-notes-0 is gone"), "{message}");
        assert!(!rig.api.has(CLAIM));
    }
    let told: Vec<_> = rig.api.writes().into_iter().filter(|(_, path)| path == STATUS).collect();
    assert_eq!(told.len(), 1, "it is told once");
    rig.api.objects.lock().insert(CLAIM.to_owned(), claim);
    rig.converges().await;
}

/// Variables of a pod that knows its callers by tokens.
fn with_tokens() -> Value {
    json!([{"name": "LLM_MEMORY_KUBERNETES_AUDIENCE", "value": "llm-memory"}])
}

#[tokio::test]
async fn a_pod_is_asked_and_told_of_as_it_was_made() {
    let manual = |mode: &str| json!({"update": {"strategy": "Manual"}, "mcp": {"path": "/web", "auth": {"mode": mode}}});
    let rig = Rig::with(manual("None"));
    rig.reconcile().await.unwrap();
    rig.show_pod(with_tokens(), true);
    rig.reconcile().await.unwrap();
    let asked = rig.target().unwrap();
    assert_eq!(asked.base, "http://notes.team.svc:3000");
    assert_eq!(asked.audience.as_deref(), Some("llm-memory.dev/memorystore/u"));
    let url = || rig.store().status.unwrap().url.unwrap();
    assert_eq!(url(), "http://notes.team.svc:3000/mcp");
    // A pod that takes everybody is shown no token before it is replaced.
    rig.edit(manual("Token"));
    let tls = json!([{"name": "LLM_MEMORY_TLS_CERT_FILE", "value": "/tls.crt"},
        {"name": "LLM_MEMORY_MCP_PATH", "value": "/former"}]);
    rig.show_pod(tls, true);
    rig.reconcile().await.unwrap();
    let asked = rig.target().unwrap();
    assert_eq!((asked.base.as_str(), asked.audience), ("https://notes.team.svc:3000", None));
    assert_eq!(url(), "https://notes.team.svc:3000/former");
}

#[tokio::test]
async fn a_store_that_is_paused_is_as_it_was() {
    let rig = Rig::with(json!({"mcp": {"port": 80}}));
    rig.reconcile().await.unwrap();
    rig.show_pod(with_tokens(), true);
    rig.edit(json!({"paused": true, "replicas": 0, "mcp": {"port": 8080}}));
    for _ in 0..2 {
        rig.reconcile().await.unwrap();
        assert_eq!(rig.condition(READY).1, ready::NOT_PROBED, "its pod stays");
        assert_eq!(rig.target().unwrap().base, "http://notes.team.svc:80");
        assert_eq!(rig.store().status.unwrap().url.unwrap(), "http://notes.team.svc:80/mcp");
    }
    rig.edit(json!({"mcp": {"port": 8080}}));
    for _ in 0..2 {
        rig.reconcile().await.unwrap();
    }
    assert_eq!(rig.target().unwrap().base, "http://notes.team.svc:8080");
}

#[tokio::test]
async fn a_store_whose_spec_is_not_acted_on_is_asked_all_the_same() {
    for wrong in [
        json!({"podTemplate": {"specc": {}}}),
        json!({"storage": {"existingClaim": "theirs"}}),
        json!({"mcp": {"auth": {"secretName": "theirs"}}}),
    ] {
        let rig = Rig::with(wrong);
        let authority = "/api/v1/namespaces/team/secrets/certificate";
        rig.api.script(Method::GET, authority, Script::Refuse(504, "timed out"));
        rig.show_pod(json!([{"name": "LLM_MEMORY_TLS_CERT_FILE", "value": "/tls.crt"}]), true);
        rig.reconcile().await.unwrap();
        assert_eq!(rig.target(), None, "its authority is not known to be missing");
        rig.api.mend();
        rig.show_pod(with_tokens(), true);
        rig.reconcile().await.unwrap();
        assert_eq!(rig.condition(ACCEPTED).0, "False");
        assert_eq!(rig.target().unwrap().pod, "p");
    }
}

#[tokio::test]
async fn a_store_that_sleeps_does_so_when_it_cannot_be_looked_at() {
    let rig = Rig::with(json!({"replicas": 0}));
    rig.reconcile().await.unwrap();
    assert_eq!(rig.condition(READY).1, ready::HIBERNATED);
    rig.api.script(Method::GET, TOKENS, Script::Refuse(403, "secrets is forbidden"));
    rig.reconcile().await.unwrap_err();
    assert_eq!(rig.condition(READY).1, ready::HIBERNATED);
}

#[tokio::test]
async fn an_object_that_is_written_in_other_words_holds_no_replacement_up() {
    // An exponent is not read here, and the API server reads it.
    let rig = Rig::with(json!({"resources": {"limits": {"memory": "1e9"}}}));
    rig.reconcile().await.unwrap();
    let memory = "/spec/template/spec/containers/0/resources/limits/memory";
    *rig.api.objects.lock().get_mut(SET).unwrap().pointer_mut(memory).unwrap() = json!("1G");
    rig.show_pod(with_tokens(), false);
    rig.show_set(2, 2, "notes-2");
    rig.api.script(Method::PATCH, SET, Script::Keep);
    let pod = "/api/v1/namespaces/team/pods/notes-0";
    rig.api.script(Method::DELETE, pod, Script::Refuse(403, "pods is forbidden"));
    assert_eq!(rig.reconcile().await.unwrap_err().label(), "replace");
}

#[tokio::test]
async fn a_change_is_not_complete_before_a_pod_has_it() {
    for (strategy, state, reason) in [
        ("Automatic", "True", progressing::ROLLING_OUT),
        ("Manual", "False", progressing::UPDATE_PENDING),
    ] {
        let spec = |memory: &str| json!({"update": {"strategy": strategy}, "resources": {"limits": {"memory": memory}}});
        let rig = Rig::with(spec("1Gi"));
        rig.reconcile().await.unwrap();
        rig.show_pod(with_tokens(), true);
        rig.show_set(1, 1, "notes-1");
        rig.say_serving();
        rig.reconcile().await.unwrap();
        assert_eq!(rig.condition(PROGRESSING).1, progressing::COMPLETE);
        rig.edit(spec("2Gi"));
        // The template is written; the controller sees it, and names its revision.
        for (seen, revision) in [(1, "notes-1"), (1, "notes-1"), (2, "notes-2")] {
            rig.reconcile().await.unwrap();
            let (status, said, message) = rig.condition(PROGRESSING);
            assert_eq!((status.as_str(), said.as_str()), (state, reason), "{strategy}: {message}");
            rig.show_set(2, seen, revision);
        }
    }
}

#[tokio::test]
async fn a_template_that_names_what_is_missing_is_not_written() {
    let secret = "/api/v1/namespaces/team/secrets/own";
    let map = "/api/v1/namespaces/team/configmaps/corporate";
    let oidc = json!({
        "issuer": "https://id.example.org", "audience": "m", "caConfigMap": "corporate",
        "subjects": [{"subject": "ada"}],
    });
    for (auth, path, object) in [
        (json!({"secretName": "own"}), secret, json!({"data": {"tokens.json": "e30="}})),
        (json!({"mode": "OIDC", "oidc": oidc}), map, json!({"data": {"ca.crt": "x"}})),
    ] {
        let rig = Rig::new();
        rig.reconcile().await.unwrap();
        rig.show_set(1, 1, "notes-1");
        let template = || rig.api.objects.lock()[SET]["spec"]["template"].clone();
        let replicas = || rig.api.objects.lock()[SET]["spec"]["replicas"].clone();
        let before = template();
        rig.edit(json!({"image": "llm-memory:1", "replicas": 0, "mcp": {"auth": auth}}));
        for _ in 0..2 {
            assert_eq!(rig.reconcile().await.unwrap(), Action::requeue(MISSING));
            let (status, reason, message) = rig.condition(ACCEPTED);
            assert_eq!(
                (status.as_str(), reason.as_str()),
                ("False", accepted::REFERENCE_NOT_FOUND)
            );
            assert!(message.starts_with("spec.mcp.auth."), "{message}");
            assert_eq!((template(), replicas()), (before.clone(), json!(0)), "the rest is applied");
            rig.show_set(2, 2, "notes-1");
        }
        rig.edit(json!({"image": "llm-memory:1", "mcp": {"auth": auth}}));
        rig.show_pod(with_tokens(), true);
        rig.say_serving();
        for _ in 0..2 {
            rig.reconcile().await.unwrap();
            rig.show_set(3, 3, "notes-1");
        }
        let told = rig.condition(PROGRESSING);
        assert!(told.1 == progressing::ROLLING_OUT && told.2.contains("is missing"), "{told:?}");
        let mut object = object;
        object["metadata"] = json!({"name": "x", "resourceVersion": "1"});
        rig.api.objects.lock().insert(path.to_owned(), object);
        rig.reconcile().await.unwrap();
        assert_eq!(rig.condition(ACCEPTED).0, "True");
        assert_ne!(template(), before);
    }
}

#[tokio::test]
async fn nobody_is_told_to_delete_a_claim() {
    let rig = Rig::new();
    let theirs = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-notes-0", "namespace": "team", "uid": "x", "resourceVersion": "1"}});
    rig.api.objects.lock().insert(CLAIM.to_owned(), theirs);
    assert_eq!(rig.reconcile().await.unwrap(), Action::requeue(MISSING));
    let (_, reason, message) = rig.condition(ACCEPTED);
    assert_eq!(reason, accepted::NAME_CONFLICT);
    assert!(message.contains("app.kubernetes.io/instance=notes"), "{message}");
    assert!(!message.contains("delete"), "{message}");
    let label = |name: &str, value: &str| {
        let mut objects = rig.api.objects.lock();
        objects.get_mut(CLAIM).unwrap()["metadata"]["labels"][name] = json!(value);
    };
    label("app.kubernetes.io/managed-by", "llm-memory-operator");
    label("app.kubernetes.io/instance", "notes");
    rig.converges().await;
}

#[tokio::test]
async fn another_note_is_another_event_and_many_are_no_flood() {
    let rig = Rig::new();
    let store = rig.store();
    let tell = async |note: &str| {
        let note = note.to_owned();
        events::publish(&rig.context, &store, events::NORMAL, "Told", note, "Tell").await;
        rig.api.writes().pop().unwrap()
    };
    assert_eq!([tell("one").await.0, tell("two").await.0], [Method::POST, Method::POST]);
    let (method, event) = tell("one").await;
    assert_eq!(method, Method::PATCH, "once more");
    rig.api.script(Method::PATCH, event.leak(), Script::Refuse(404, "no such event"));
    assert_eq!(tell("one").await.0, Method::POST, "once more, and nobody has it");
    let mut made = 0;
    for number in 0..100 {
        made += usize::from(tell(&format!("number {number}")).await.0 == Method::POST);
    }
    assert_eq!(made, 3);
}
