//! Objects of a cluster, and an API server that answers from a script.

use http::{Request, Response};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::Client;
use kube::client::Body;
use llm_memory_crds::MemoryStore;
use serde_json::{Value, json};
use tower_test::mock::Handle;

use crate::commands::status::Observed;
use crate::context::Context;
use crate::printer::{Format, Printer};

/// The moment at which fixtures are looked at.
pub(crate) fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// A cluster that answers only what [`Server`] is told.
pub(crate) fn cluster() -> (Context, Server) {
    let (service, handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "prod");
    let printer = Printer { format: Format::Table };
    (Context { client, namespace: "prod".to_owned(), printer }, Server(handle))
}

/// The API server of the script.
pub(crate) struct Server(Handle<Request<Body>, Response<Body>>);

impl Server {
    /// Expects one request for `path`, and answers with an error.
    pub(crate) async fn refuse(self, path: &str, code: u16, message: &str) {
        let reason = match code {
            403 => "Forbidden",
            404 => "NotFound",
            _ => "InternalError",
        };
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": message,
        });
        self.answer(path, code, status).await;
    }

    /// Answers every request by path and query, with an error where that is one; never where there
    /// is no answer.
    pub(crate) async fn serve(mut self, answer: impl Fn(&str, &str) -> Option<Value>) {
        let mut unanswered = Vec::new();
        while let Some((request, respond)) = self.0.next_request().await {
            let uri = request.uri();
            match answer(uri.path(), uri.query().unwrap_or_default()) {
                Some(body) => {
                    let failed =
                        (body["kind"] == "Status").then(|| body["code"].as_u64()).flatten();
                    let code = failed.map_or(200, |code| code.try_into().unwrap());
                    let body = Body::from(serde_json::to_vec(&body).unwrap());
                    respond.send_response(Response::builder().status(code).body(body).unwrap());
                }
                None => unanswered.push(respond),
            }
        }
    }

    /// Expects one request for `path`, and answers it.
    pub(crate) async fn answer(mut self, path: &str, code: u16, body: Value) {
        let (request, respond) = self.0.next_request().await.expect("a request");
        assert_eq!(request.uri().path(), path);
        let body = Body::from(serde_json::to_vec(&body).unwrap());
        respond.send_response(Response::builder().status(code).body(body).unwrap());
    }
}

/// A store that serves, with its pod and claim.
pub(crate) fn observed() -> Observed {
    Observed {
        store: store(),
        pod: Some(pod()),
        claim: Some(claim()),
        cron_jobs: Vec::new(),
        warnings: Vec::new(),
        unreadable: std::collections::BTreeMap::new(),
    }
}

/// A store that serves.
pub(crate) fn store() -> MemoryStore {
    serde_json::from_value(json!({
        "apiVersion": "llm-memory.dev/v1alpha1", "kind": "MemoryStore",
        "metadata": {
            "name": "mem", "namespace": "prod", "generation": 3, "uid": "uid-of-the-store",
            "creationTimestamp": "2026-02-01T12:00:00Z",
        },
        "spec": {},
        "status": {
            "observedGeneration": 3, "replicas": 1, "items": 1204, "journalBytes": 52_428_800,
            "url": "http://mem.prod.svc:3000/mcp", "encoder": "software",
            "serverInfo": { "name": "llm-memory", "version": "0.1.0", "protocolVersion": "2025-11-25" },
            "storage": { "requested": "10Gi", "actual": "10Gi", "used": "1.2 GiB", "usedBytes": 1_288_490_188 },
            "lastVerification": { "time": "2026-02-28T02:10:00Z", "intact": true, "message": "1204 records" },
            "lastCompaction": "2026-03-01T01:05:00Z",
            "conditions": [
                { "type": "Accepted", "status": "True", "reason": "Valid", "message": "", "lastTransitionTime": "2026-02-01T12:00:01Z" },
                { "type": "Ready", "status": "True", "reason": "Serving", "message": "the handshake succeeded", "lastTransitionTime": "2026-02-27T12:00:00Z" },
            ],
        },
    }))
    .unwrap()
}

/// Sets a condition.
pub(crate) fn condition(
    store: &mut MemoryStore,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
) {
    let conditions = &mut store.status.get_or_insert_default().conditions;
    conditions.retain(|it| it.type_ != type_);
    let condition = json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-03-01T11:50:00Z",
    });
    conditions.push(serde_json::from_value(condition).unwrap());
}

/// The pod of the store, ready.
pub(crate) fn pod() -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "mem-0", "namespace": "prod", "uid": "uid-of-the-pod" },
        "spec": {
            "nodeName": "node-a",
            "containers": [{
                "name": "server", "image": "llm-memory:0.1.0",
                "ports": [{ "name": "mcp", "containerPort": 3000 }, { "name": "health", "containerPort": 8080 }],
                "resources": { "requests": { "cpu": "100m", "memory": "256Mi" }, "limits": { "memory": "1Gi" } },
            }],
        },
        "status": {
            "phase": "Running",
            "conditions": [
                { "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "True" },
            ],
            "containerStatuses": [{
                "name": "server", "image": "llm-memory:0.1.0", "imageID": "", "ready": true,
                "restartCount": 0, "state": { "running": { "startedAt": "2026-02-27T11:59:00Z" } },
            }],
        },
    }))
    .unwrap()
}

/// The claim of the store, bound.
pub(crate) fn claim() -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data-mem-0", "namespace": "prod" },
        "spec": { "storageClassName": "fast", "resources": { "requests": { "storage": "10Gi" } } },
        "status": { "phase": "Bound", "capacity": { "storage": "10Gi" } },
    }))
    .unwrap()
}

/// The CronJob for verification.
pub(crate) fn cron_job() -> CronJob {
    serde_json::from_value(json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": { "name": "mem-verify", "namespace": "prod", "uid": "uid-of-the-cronjob" },
        "spec": {
            "schedule": "10 2 * * 6",
            "jobTemplate": {
                "metadata": { "labels": { "app.kubernetes.io/instance": "mem" }, "annotations": { "note": "kept" } },
                "spec": {
                    "backoffLimit": 0,
                    "template": { "spec": { "restartPolicy": "Never", "containers": [
                        { "name": "verify", "image": "llm-memory:0.1.0", "args": ["journal.verify"] },
                    ] } },
                },
            },
        },
        "status": {
            "lastScheduleTime": "2026-02-28T02:10:00Z", "lastSuccessfulTime": "2026-02-28T02:11:00Z",
        },
    }))
    .unwrap()
}

/// An event about an object.
pub(crate) fn event(kind: &str, name: &str, reason: &str, at: &str) -> Event {
    serde_json::from_value(json!({
        "metadata": { "name": format!("{name}.{reason}"), "namespace": "prod" },
        "involvedObject": { "kind": kind, "name": name, "namespace": "prod" },
        "type": "Warning", "reason": reason, "message": format!("{reason} happened"),
        "count": 3, "lastTimestamp": at,
    }))
    .unwrap()
}
