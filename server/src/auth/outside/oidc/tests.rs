use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use llm_memory_disk::OsDisk;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::json;

use super::*;

const ISSUER: &str = "https://idp.example";
/// Made by another implementation (OpenSSL); ends in 2100.
const RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiwiYXVkIjoibWVtb3J5Iiwic3ViIjoiYWRhIiwiZXhwIjo0MTAyNDQ0ODAwfQ.HTH3oLELkUNzNnk0yeVtEApajzVIQ4y_JkUe_LSBwuVQgRHb1sfI3NlWscYSqJwjmjfHE6D39KQal3cCL0MnRfir5zkNpyaEMjc5IzOy4hJ_fBwKKXu-cIvHzN9Lxra4o5wK0mDtkoNTgpcY5dEpQl0B5LZE9T7aDN11ZY8CKv_aW0HwdM_EHKHPUZWyZGz83ID1i0XsgMGyJYHS5ZGFu3syj7Z6io2dWtXfAD8O_VpaL6fsiYtlMGRtF9osKpIF9l8KixolPUXWfDe-M8Yfuc1tof_FAZOyKpxvL-9Ekz6joiE1lHRCQcsn-PNGs6WIIxSbaM7nn8369-ZQ7iByMQ";
const MODULUS: &str = "2E-pms4Z8OxRF9CbH15oi3FHBanGSvWqXAiS8GyhcAzK57ia1AU7ylt9SZfTIvVIQGjtxqaNhvblXatkjBSItubi90OaqJuTWbPteKn8bk-vKN3EiXX4hIiPfnbWeWHI3mt8ORd-tupZqjPMlOdBXvjrSwg7NX2J-xv47YBfHlrNiEC9P_t2ivj0C-H3fu31ccx_ShSDRJqJyy0SFkuyX73Rq7AAU-q8U7Pop19zfQS4teobsaJfPwlres5Q94cgvcbiu220G_EVhKaDG8kLH0zjnQpMWtVNsWxbaJRaHgy8rrUWlLJKgN7BPLzif7Or48r9MKIyGEo-FZrfqyrmUw";

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// An issuer with one key of each kind.
struct Issuer {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    oidc: Oidc,
}

impl Issuer {
    fn new(subject_claim: &str) -> Self {
        jwt::install();
        let random = SystemRandom::new();
        let ed25519 = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let p256 = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let point = p256.public_key().as_ref();
        let set = [
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
                   "x": encode(ed25519.public_key().as_ref())}),
            json!({"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256",
                   "x": encode(&point[1..33]), "y": encode(&point[33..])}),
            json!({"kty": "RSA", "kid": "rsa", "n": MODULUS, "e": "AQAB"}),
            // Whoever puts a secret here has published it.
            json!({"kty": "oct", "kid": "secret", "k": encode(b"secret")}),
            json!({"kty": "RSA", "kid": "enc", "use": "enc", "n": MODULUS, "e": "AQAB"}),
            json!({"kty": "something", "kid": "new"}),
        ];
        let client = http::client(&OsDisk, &Trust::Pinned(Vec::new()), true).unwrap();
        let oidc = Oidc {
            issuer: ISSUER.to_owned(),
            audience: "memory".to_owned(),
            subject_claim: subject_claim.to_owned(),
            keys: Keys::fixed(ISSUER, &set, client),
        };
        Self { ed25519, p256, oidc }
    }

    fn ed(&self, header: &Value, claims: &Value) -> String {
        signed(header, claims, |message| self.ed25519.sign(message).as_ref().to_vec())
    }

    /// A token of the Ed25519 key that is good but for `changes`; null removes a claim.
    fn changed(&self, changes: &Value) -> String {
        let mut claims = json!({"iss": ISSUER, "aud": ["x", "memory"], "sub": "ada",
                                "exp": now() + 600, "nbf": now() - 5});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.ed(&json!({"alg": "EdDSA", "kid": "ed"}), &claims)
    }

    async fn refused(&self, token: &str) -> String {
        match self.oidc.verify(token, Instant::now()).await {
            Err(Refusal::Invalid(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    async fn subject(&self, token: &str) -> String {
        self.oidc.verify(token, Instant::now()).await.unwrap().identity.subject()
    }
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| encode(value.to_string().as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = encode(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}

#[tokio::test]
async fn signatures_of_every_kind_of_key_are_verified() {
    let issuer = Issuer::new("sub");
    let verified = issuer.oidc.verify(&issuer.changed(&json!({})), Instant::now()).await.unwrap();
    assert_eq!(verified.identity.subject(), "oidc:ada");
    assert!(verified.expires.unwrap() > Timestamp::now());
    assert_eq!(issuer.subject(RS256).await, "oidc:ada");
    let claims = json!({"iss": ISSUER, "aud": "memory", "sub": "bob", "exp": now() + 600});
    let sign =
        |message: &[u8]| issuer.p256.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    let token = signed(&json!({"alg": "ES256", "kid": "ec"}), &claims, sign);
    assert_eq!(issuer.subject(&token).await, "oidc:bob");
    // Without the name of a key, each of its kind is tried.
    let token = issuer.ed(&json!({"alg": "EdDSA"}), &claims);
    assert_eq!(issuer.subject(&token).await, "oidc:bob");
}

#[tokio::test]
async fn claims_that_do_not_hold_are_refused_by_what_is_wrong() {
    let issuer = Issuer::new("sub");
    for (changes, words) in [
        (json!({"exp": now() - 61}), "it has expired"),
        (json!({"nbf": now() + 120}), "it is not valid yet"),
        (json!({"aud": "another"}), "it is for another audience"),
        (json!({"aud": null}), "it lacks one of"),
        (json!({"exp": null}), "it lacks one of"),
        (json!({"iss": "https://other.example"}), "it is of another issuer"),
        (json!({"sub": null}), "does not name anybody"),
        (json!({"sub": 7}), "does not name anybody"),
        (json!({"sub": "a\nb"}), "does not name anybody"),
    ] {
        let reason = issuer.refused(&issuer.changed(&changes)).await;
        assert!(reason.contains(words), "{changes}: {reason}");
    }
    for changes in [json!({"exp": now() - 30}), json!({"nbf": now() + 30})] {
        assert_eq!(issuer.subject(&issuer.changed(&changes)).await, "oidc:ada", "{changes}");
    }
}

#[tokio::test]
async fn no_header_gets_around_the_signature() {
    let issuer = Issuer::new("sub");
    let claims = json!({"iss": ISSUER, "aud": "memory", "sub": "ada", "exp": now() + 600});
    let none = signed(&json!({"alg": "none"}), &claims, |_| Vec::new());
    assert!(issuer.refused(&none).await.contains("none of a signed token"));
    // What is public, taken for a secret.
    let public = issuer.ed25519.public_key().as_ref();
    for (kid, secret) in [("ed", public), ("secret", b"secret".as_slice())] {
        let sign = |message: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
        };
        let token = signed(&json!({"alg": "HS256", "kid": kid}), &claims, sign);
        assert_eq!(issuer.refused(&token).await, "its algorithm is not taken here");
    }
    let crit = issuer.ed(&json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"]}), &claims);
    assert!(issuer.refused(&crit).await.contains("asks for more"));
    let forged = signed(&json!({"alg": "EdDSA", "kid": "ed"}), &claims, |_| vec![0; 64]);
    assert_eq!(issuer.refused(&forged).await, "its signature is wrong");
    let changed = RS256.replace(".eyJ", ".eyK");
    assert!(issuer.oidc.verify(&changed, Instant::now()).await.is_err());
}

#[tokio::test]
async fn a_key_that_only_the_issuer_could_know_is_no_failure_while_it_is_away() {
    let issuer = Issuer::new("sub");
    let claims = json!({"iss": ISSUER, "aud": "memory", "sub": "ada", "exp": now() + 600});
    let token = issuer.ed(&json!({"alg": "EdDSA", "kid": "next"}), &claims);
    let start = Instant::now();
    for after in [0, 1, 60] {
        let verdict = issuer.oidc.verify(&token, start + Duration::from_secs(after)).await;
        assert!(matches!(verdict, Err(Refusal::Unavailable(_))), "{verdict:?}");
    }
    assert_eq!(issuer.subject(&issuer.changed(&json!({}))).await, "oidc:ada");
}

#[tokio::test]
async fn an_address_that_is_not_verified_names_nobody() {
    let issuer = Issuer::new("email");
    let with = |verified: Value| {
        issuer.changed(&json!({"email": "ada@idp.example", "email_verified": verified}))
    };
    assert_eq!(issuer.subject(&with(json!(true))).await, "oidc:ada@idp.example");
    assert_eq!(issuer.subject(&with(json!(null))).await, "oidc:ada@idp.example");
    for verified in [json!(false), json!("true")] {
        assert!(issuer.refused(&with(verified)).await.contains("not verified"));
    }
}
