//! People: a stand-in for an OpenID Connect issuer publishes its keys.

use std::sync::{Arc, Mutex};

use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use llm_memory_tests::client::Wire;
use llm_memory_tests::server::TestServer;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::fake::Fake;
use super::{Reply, jwt, knock, metric, note, now, plain, request, until};

/// A key of the issuer, by its number.
struct Key {
    id: String,
    pair: Ed25519KeyPair,
}

impl Key {
    fn new(number: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap();
        Self { id: format!("key-{number}"), pair }
    }

    fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn published(&self) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.public());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": self.id, "x": x})
    }
}

struct Bench {
    idp: Fake,
    keys: Arc<Mutex<Vec<Value>>>,
    server: TestServer,
}

impl Bench {
    fn new() -> Self {
        let keys = Arc::new(Mutex::new(vec![Key::new(1).published()]));
        let published = Arc::clone(&keys);
        let idp = Fake::new(|url| {
            let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
            let keys = move || {
                let keys = json!({"keys": *published.lock().unwrap()});
                std::future::ready(Json(keys))
            };
            let discover = move || std::future::ready(Json(discovery.clone()));
            Router::new()
                .route("/.well-known/openid-configuration", get(discover))
                .route("/keys", get(keys))
        });
        let rules = json!([
            {"oidc": {"issuer": idp.url(), "subject": "ada"}, "roles": ["agent", "monitor"]},
            {"oidc": {"issuer": idp.url(), "claim": "groups", "value": "team-a"},
             "roles": ["agent"], "projects": ["web"], "scopes": {"read": ["local"], "write": []}},
        ]);
        let identities = idp.folder().join("identities.json");
        std::fs::write(&identities, rules.to_string()).unwrap();
        let server = TestServer::builder()
            .env("LLM_MEMORY_OIDC_ISSUER", idp.url())
            .env("LLM_MEMORY_OIDC_AUDIENCE", "memory")
            .env("LLM_MEMORY_OIDC_CA_FILE", idp.ca())
            .env("LLM_MEMORY_IDENTITIES_FILE", identities)
            .env("LLM_MEMORY_LOCKOUT_FAILURES", "1000")
            .start()
            .unwrap();
        Self { idp, keys, server }
    }

    /// What a good token of `subject` says, but for `changes`.
    fn claims(&self, subject: &str, changes: &Value) -> Value {
        let mut claims = json!({"iss": self.idp.url(), "aud": "memory", "sub": subject,
                                "exp": now() + 600});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    }

    fn token(&self, key: &Key, subject: &str, changes: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": key.id});
        let sign = |message: &[u8]| key.pair.sign(message).as_ref().to_vec();
        jwt(&header, &self.claims(subject, changes), sign)
    }

    fn knock(&self, token: &str) -> Reply {
        knock(&self.server, Some(token))
    }
}

#[test]
fn people_and_groups_may_do_what_their_rules_say() {
    let bench = Bench::new();
    let key = Key::new(1);
    let client = |token| bench.server.client(Wire::Http).unwrap().with_token(token);
    let mut ada = client(bench.token(&key, "ada", &json!({})));
    ada.call("memory_upsert", &note("a", "global", "Of Ada")).unwrap();
    let team = json!({"groups": ["x", "team-a"]});
    let mut bob = client(bench.token(&key, "bob", &team));
    let seen = bob.call("memory_query", &json!({"q": "Ada", "scope": "all"})).unwrap();
    assert_eq!(seen["total"], 0);
    bob.call("memory_upsert", &note("b", "local", "Of Bob")).unwrap_err();

    let stranger = bench.knock(&bench.token(&key, "eve", &json!({"groups": ["team-b"]})));
    assert_eq!(stranger.status, 403);
    assert!(stranger.reason().starts_with("\"eve\" of https://127.0.0.1"), "{stranger:?}");

    let to = bench.server.addresses().unwrap().mcp;
    let path = "GET /.well-known/oauth-protected-resource/mcp";
    let document = plain(to, &request(to, path, None, "")).body;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["authorization_servers"], json!([bench.idp.url()]));
}

#[test]
fn tokens_that_do_not_hold_are_refused() {
    let bench = Bench::new();
    let key = Key::new(1);
    let good = bench.token(&key, "ada", &json!({}));
    assert_eq!(bench.knock(&good).status, 200);
    let claims = bench.claims("ada", &json!({}));
    let none = jwt(&json!({"alg": "none"}), &claims, |_| Vec::new());
    let confused = jwt(&json!({"alg": "HS256", "kid": key.id}), &claims, |message| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.public()), message).as_ref().to_vec()
    });
    let impostor = Key { id: key.id.clone(), pair: Key::new(9).pair };
    let changed = |changes| bench.token(&key, "ada", &changes);
    for (token, words) in [
        (none, "none of a signed token"),
        (confused, "its algorithm is not taken here"),
        (bench.token(&impostor, "ada", &json!({})), "its signature is wrong"),
        (changed(json!({"exp": now() - 120})), "it has expired"),
        (changed(json!({"nbf": now() + 120})), "it is not valid yet"),
        (changed(json!({"aud": "another"})), "it is for another audience"),
        (changed(json!({"iss": "https://elsewhere"})), "it is not known here"),
    ] {
        let reply = bench.knock(&token);
        assert_eq!((reply.status, reply.reason().contains(words)), (401, true), "{reply:?}");
    }
    let refused = metric(&bench.server, "llm_memory_auth_failures_total{reason=\"invalid\"}");
    assert_eq!(refused, 7);
}

#[test]
fn keys_are_exchanged_and_outlive_an_issuer_that_is_away() {
    let mut bench = Bench::new();
    let (first, second, third) = (Key::new(1), Key::new(2), Key::new(3));
    let of = |bench: &Bench, key: &Key| bench.token(key, "ada", &json!({}));
    assert_eq!(bench.knock(&of(&bench, &first)).status, 200);
    *bench.keys.lock().unwrap() = vec![first.published(), second.published()];
    // The first unknown key has them fetched at once.
    assert_eq!(bench.knock(&of(&bench, &second)).status, 200);

    *bench.keys.lock().unwrap() = vec![second.published()];
    bench.idp.go_away();
    assert_eq!(bench.knock(&of(&bench, &second)).status, 200);
    assert_eq!(bench.knock(&of(&bench, &first)).status, 200, "nobody has said otherwise");
    // Whether this one is good nobody can say, once it is worth asking again.
    let away = until(
        "an issuer that is asked again",
        || bench.knock(&of(&bench, &third)),
        |reply| reply.status == 503,
    );
    assert!(away.reason().contains("the keys of https://127.0.0.1"), "{away:?}");

    bench.idp.come_back();
    until(
        "a key that is withdrawn, with the next that is fetched",
        || {
            bench.knock(&of(&bench, &third));
            bench.knock(&of(&bench, &first))
        },
        |reply| reply.status == 401,
    );
}
