//! ServiceAccounts: a stand-in for the API server says whose a token is.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use llm_memory_tests::client::Wire;
use llm_memory_tests::server::TestServer;
use serde_json::{Value, json};

use super::fake::Fake;
use super::{Reply, audit, jwt, knock, metric, note, now, until};

const REVIEWS: &str = "llm_memory_token_reviews_total";

/// Tokens that the cluster knows: whose each is, and for which audience.
#[derive(Clone, Default)]
pub(super) struct Cluster {
    tokens: Arc<Mutex<HashMap<String, (String, String)>>>,
    asked: Arc<Mutex<usize>>,
    /// Requests that fail before one is answered.
    stumbles: Arc<Mutex<usize>>,
}

impl Cluster {
    pub(super) fn know(&self, account: &str, audience: &str, seconds: i64) -> String {
        let claims = json!({"iss": "https://kubernetes.default.svc", "aud": [audience],
                            "exp": now() + seconds, "sub": account});
        let token = jwt(&json!({"alg": "RS256"}), &claims, |_| account.as_bytes().to_vec());
        let known = (format!("system:serviceaccount:{account}"), audience.to_owned());
        self.tokens.lock().unwrap().insert(token.clone(), known);
        token
    }

    fn forget(&self, token: &str) {
        self.tokens.lock().unwrap().remove(token);
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

async fn review(
    State(cluster): State<Cluster>,
    headers: HeaderMap,
    Json(review): Json<Value>,
) -> (StatusCode, Json<Value>) {
    std::future::ready(()).await;
    if headers.get("authorization").unwrap() != "Bearer reviewer" {
        return (StatusCode::UNAUTHORIZED, Json(json!({"kind": "Status"})));
    }
    {
        let mut stumbles = cluster.stumbles.lock().unwrap();
        if *stumbles > 0 {
            *stumbles -= 1;
            return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"kind": "Status"})));
        }
    }
    assert_eq!(review["kind"], "TokenReview");
    *cluster.asked.lock().unwrap() += 1;
    let token = review["spec"]["token"].as_str().unwrap();
    let asked_for = review["spec"]["audiences"].as_array().unwrap();
    let known = cluster.tokens.lock().unwrap().get(token).cloned();
    let status = match known {
        // What a cluster says that has authenticators without audiences.
        Some((username, audience)) if audience == "any" => {
            json!({"authenticated": true, "user": {"username": username}})
        }
        Some((username, audience)) if asked_for.iter().any(|it| *it == audience) => json!({
            "authenticated": true, "audiences": [audience],
            "user": {"username": username, "groups": ["system:serviceaccounts"]},
        }),
        _ => json!({"authenticated": false, "error": "[invalid bearer token]", "user": {}}),
    };
    (StatusCode::CREATED, Json(json!({"kind": "TokenReview", "status": status})))
}

pub(super) struct Bench {
    pub(super) cluster: Cluster,
    api: Fake,
    pub(super) server: TestServer,
}

impl Bench {
    pub(super) fn new(rules: &Value) -> Self {
        Self::with(rules, &[])
    }

    pub(super) fn with(rules: &Value, environment: &[(&str, &str)]) -> Self {
        let cluster = Cluster::default();
        let api = Fake::new(|_| {
            let path = "/apis/authentication.k8s.io/v1/tokenreviews";
            Router::new().route(path, post(review)).with_state(cluster.clone())
        });
        let file = |name: &str| api.folder().join(name);
        std::fs::write(file("identities.json"), rules.to_string()).unwrap();
        std::fs::write(file("token"), "reviewer\n").unwrap();
        let mut builder = TestServer::builder()
            .env("LLM_MEMORY_KUBERNETES_AUDIENCE", "memory")
            .env("LLM_MEMORY_KUBERNETES_API_SERVER", api.url())
            .env("LLM_MEMORY_KUBERNETES_CA_FILE", api.ca())
            .env("LLM_MEMORY_KUBERNETES_TOKEN_FILE", file("token"))
            .env("LLM_MEMORY_IDENTITIES_FILE", file("identities.json"));
        for (name, value) in environment {
            builder = builder.env(*name, *value);
        }
        let server = builder.start().unwrap();
        Self { cluster, api, server }
    }

    fn knock(&self, token: &str) -> Reply {
        knock(&self.server, Some(token))
    }
}

fn rules() -> Value {
    let account = |name: &str| json!({"namespace": "agents", "name": name});
    json!([
        {"serviceAccount": account("planner"), "roles": ["agent"], "projects": ["web"],
         "scopes": {"read": ["local"], "write": ["local"]}},
        {"serviceAccount": account("*"), "roles": ["agent"], "projects": ["home"]},
    ])
}

#[test]
fn an_account_may_do_what_its_rule_says_and_nothing_else() {
    let bench = Bench::new(&rules());
    let client = |account: &str| {
        let token = bench.cluster.know(account, "memory", 3600);
        bench.server.client(Wire::Http).unwrap().with_token(token)
    };
    let mut other = client("agents:critic");
    other.call("memory_upsert", &note("home", "local", "Of the other")).unwrap();
    other.call("memory_upsert", &note("shared", "global", "Of everybody")).unwrap();
    let mut planner = client("agents:planner");
    planner.call("memory_upsert", &note("mine", "local", "Of the planner")).unwrap();

    let seen = planner.call("memory_query", &json!({"q": "Of", "scope": "all"})).unwrap();
    let titles: Vec<_> =
        seen["items"].as_array().unwrap().iter().map(|item| &item["title"]).collect();
    assert_eq!(titles, ["Of the planner"], "{seen}");
    for (tool, arguments) in [
        ("memory_query", json!({"q": "Of", "scope": "global"})),
        ("memory_get", json!({"id": "shared"})),
        ("memory_get", json!({"id": "home", "project": "home"})),
        ("memory_upsert", note("x", "global", "Not allowed")),
        ("maintenance_compact", json!({})),
    ] {
        let answer = planner.call(tool, &arguments);
        // What may not be read is not there, whichever way it is asked for.
        let nothing = answer.as_ref().is_ok_and(|found| found["total"] == 0);
        assert!(nothing || answer.is_err(), "{tool} {arguments}: {answer:?}");
    }
    let mut bench = bench;
    bench.server.stop().unwrap();
    let audit = audit(bench.server.data_dir());
    let subject = "\"subject\":\"system:serviceaccount:agents:planner\"";
    assert!(audit.contains(subject), "{audit}");
}

#[test]
fn maintenance_of_the_whole_store_includes_the_scopes_of_tenants() {
    let account = |name: &str| json!({"namespace": "agents", "name": name});
    let bench = Bench::new(&json!([
        {"serviceAccount": account("guest"), "roles": ["agent"], "tenant": "guests"},
        {"serviceAccount": account("jobs"), "roles": ["operator"], "everyTenant": true},
        {"serviceAccount": account("other"), "roles": ["operator"]},
    ]));
    let client = |name: &str| {
        let token = bench.cluster.know(&format!("agents:{name}"), "memory", 3600);
        bench.server.client(Wire::Http).unwrap().with_token(token)
    };
    let mut guest = client("guest");
    guest.call("memory_upsert", &note("mine", "global", "Of a guest")).unwrap();
    let found = client("jobs").call("journal_verify", &json!({"scope": "all"})).unwrap();
    let of_guests = &found["guests:global"];
    assert_eq!(of_guests["valid"], true, "{found}");
    assert!(of_guests["checkedCount"].as_u64() > Some(0), "{found}");
    // Of one scope too: that of a tenant is not taken for the store's own.
    let found = client("jobs").call("journal_verify", &json!({"scope": "global"})).unwrap();
    assert_eq!(found["guests:global"]["valid"], true, "{found}");
    let found = client("other").call("journal_verify", &json!({"scope": "all"}));
    assert!(!format!("{found:?}").contains("guests:"), "{found:?}");
}

#[test]
fn a_token_for_this_server_alone_is_taken_where_a_rule_asks_for_it() {
    let bench = Bench::new(&json!([
        {"serviceAccount": {"namespace": "system", "name": "operator", "audience": "store-1"},
         "roles": ["operator", "monitor"]},
        {"serviceAccount": {"namespace": "system", "name": "agent"}, "roles": ["agent"]},
    ]));
    for (account, audience, status) in [
        ("system:operator", "store-1", 200),
        // Shown to a server that everybody may make, it would be good here.
        ("system:operator", "memory", 403),
        ("system:operator", "store-2", 401),
        ("system:agent", "memory", 200),
        ("system:agent", "store-1", 403),
    ] {
        let token = bench.cluster.know(account, audience, 3600);
        let reply = bench.knock(&token);
        assert_eq!(reply.status, status, "{account} for {audience}: {reply:?}");
    }
}

#[test]
fn whoever_is_not_let_in_hears_why() {
    let mut bench = Bench::with(&rules(), &[("LLM_MEMORY_LOCKOUT_FAILURES", "4")]);
    let unmapped = bench.cluster.know("elsewhere:planner", "memory", 3600);
    for _ in 0..6 {
        let reply = bench.knock(&unmapped);
        assert_eq!(reply.status, 403);
        let words = "service account elsewhere/planner is not mapped in this store: add it";
        assert!(reply.reason().starts_with(words), "{reply:?}");
        assert!(reply.reason().contains("spec.mcp.auth.serviceAccounts"), "{reply:?}");
        assert!(reply.head.contains("www-authenticate: bearer error=\"insufficient_scope\""));
    }
    let none = knock(&bench.server, None);
    assert_eq!(none.status, 401);
    assert!(none.head.contains("www-authenticate: bearer resource_metadata="), "{none:?}");

    // A good token for somebody else, one of a cluster that knows no audiences, one of nobody.
    let another = bench.cluster.know("agents:planner", "another", 3600);
    let anybody = bench.cluster.know("agents:critic", "any", 3600);
    let nobody = another.replace(".eyJ", ".eyK").replace('a', "b");
    for (token, words) in [
        (another.as_str(), "not for this audience"),
        (anybody.as_str(), "it is for another audience"),
        (nobody.as_str(), "it is not known here"),
        ("a.b.c", "it is not known here"),
    ] {
        let reply = bench.knock(token);
        assert_eq!((reply.status, reply.reason().contains(words)), (401, true), "{reply:?}");
        assert!(reply.head.contains("error=\"invalid_token\""), "{reply:?}");
    }
    // That were four; about who comes from here now is seldom asked, and who is good gets in.
    let asked = bench.cluster.asked();
    for number in 0..20 {
        let late = bench.cluster.know(&format!("agents:late-{number}"), "another", 60);
        assert_eq!(bench.knock(&late).status, 429);
    }
    assert!(bench.cluster.asked() < asked + 20, "not about each of them");
    assert_eq!(bench.knock(&unmapped).status, 403);
    let fresh = bench.cluster.know("agents:planner", "memory", 60);
    until("its turn", || bench.knock(&fresh), |reply| reply.status == 200);
    bench.server.stop().unwrap();
    let audit = audit(bench.server.data_dir());
    let refusals = |word: &str| audit.matches(&format!("\"outcome\":\"{word}\"")).count();
    assert_eq!((refusals("unmapped"), refusals("invalid")), (1, 4), "{audit}");
}

#[test]
fn a_token_is_reviewed_once_a_minute_and_no_longer_than_it_lasts() {
    let bench = Bench::new(&rules());
    let token = bench.cluster.know("agents:planner", "memory", 3600);
    for _ in 0..5 {
        assert_eq!(bench.knock(&token).status, 200);
    }
    assert_eq!(bench.cluster.asked(), 1);
    assert_eq!(metric(&bench.server, &format!("{REVIEWS}{{result=\"authenticated\"}}")), 1);
    assert_eq!(metric(&bench.server, &format!("{REVIEWS}{{result=\"cached\"}}")), 4);

    let short = bench.cluster.know("agents:planner", "memory", 3);
    assert_eq!(bench.knock(&short).status, 200);
    bench.cluster.forget(&short);
    let reply = until("the end of the token", || bench.knock(&short), |reply| reply.status == 401);
    assert!(reply.reason().contains("the cluster does not know it"), "{reply:?}");
}

#[test]
fn an_api_server_that_is_away_makes_nobody_fail() {
    let mut bench = Bench::with(&rules(), &[("LLM_MEMORY_LOCKOUT_FAILURES", "1")]);
    let known = bench.cluster.know("agents:planner", "memory", 3600);
    let fresh = bench.cluster.know("agents:critic", "memory", 3600);
    assert_eq!(bench.knock(&known).status, 200);
    *bench.cluster.stumbles.lock().unwrap() = 1;
    let once = bench.cluster.know("agents:once", "memory", 3600);
    assert_eq!(bench.knock(&once).status, 200, "a request that fails is repeated");
    bench.api.go_away();
    assert_eq!(bench.knock(&known).status, 200, "what was found out counts");
    for _ in 0..3 {
        let reply = bench.knock(&fresh);
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(reply.reason().contains("the Kubernetes API server cannot be asked"), "{reply:?}");
        assert!(reply.head.contains("retry-after: 2"), "{reply:?}");
    }
    let mut line =
        BufReader::new(TcpStream::connect(bench.server.addresses().unwrap().mcp).unwrap());
    let ask = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list",
                     "params": {"_meta": {"authorization": fresh}}});
    line.get_mut().write_all(format!("{ask}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    line.read_line(&mut answer).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["error"]["data"]["status"], 503, "{answer}");

    bench.api.come_back();
    until("the API server", || bench.knock(&fresh), |reply| reply.status == 200);
    // Its own token is wrong: a fault of this server, not of its callers.
    std::fs::write(bench.api.folder().join("token"), "wrong").unwrap();
    let reply = bench.knock(&bench.cluster.know("agents:next", "memory", 60));
    assert_eq!(reply.status, 503);
    assert!(reply.reason().contains("system:auth-delegator"), "{reply:?}");
}

#[test]
fn an_account_without_a_rule_any_more_is_out_of_its_open_connection() {
    let bench = Bench::new(&rules());
    let token = bench.cluster.know("agents:planner", "memory", 3600);
    let to = bench.server.addresses().unwrap().mcp;
    let mut stream = BufReader::new(TcpStream::connect(to).unwrap());
    let mut ask = |line: &Value| {
        stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_line(&mut answer).unwrap();
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "auth", "params": {"token": token}});
    assert!(ask(&hello).get("result").is_some());
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    assert!(ask(&list).get("result").is_some());
    // A file that is no list changes nothing; one with a mistake in another rule does.
    let file = bench.api.folder().join("identities.json");
    let write = |text: &str, said: &str| {
        std::fs::write(&file, text).unwrap();
        let begun = std::time::Instant::now();
        while !bench.server.log().contains(said) {
            assert!(begun.elapsed().as_secs() < 60, "{}", bench.server.log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    write(r#"[{"serviceAccount""#, "identities not changed");
    assert!(ask(&list).get("result").is_some());
    let mistaken = json!([{"serviceAcount": {"namespace": "agents", "name": "critic"},
                           "roles": ["agent"]}]);
    write(&mistaken.to_string(), "did you mean serviceAccount?");
    let refused = loop {
        let answer = ask(&list);
        if answer.get("result").is_none() {
            break answer;
        }
    };
    assert_eq!(refused["error"]["data"]["status"], 403, "{refused}");
    let mut rest = String::new();
    stream.read_line(&mut rest).unwrap();
    assert_eq!(rest, "", "it was hung up");
}
