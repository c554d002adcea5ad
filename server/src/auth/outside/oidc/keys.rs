//! The public keys of an OpenID Connect issuer (JWKS).
//!
//! When things go wrong: keys that were fetched once stay in force until others are fetched,
//! however long the issuer is away. A key that nobody knows has them fetched at once, but not more
//! often than every [`ON_DEMAND`], since anybody can name a key.

use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::auth::outside::http;
use crate::auth::outside::identity::Refusal;
use crate::config::is_trustworthy;

/// How often keys are fetched anyway, so that one that was withdrawn is forgotten.
const EVERY: Duration = Duration::from_secs(300);
/// How soon after a failure it is tried again, at first and at last.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How often an unknown key may have the keys fetched.
const ON_DEMAND: Duration = Duration::from_secs(10);
/// Keys kept of one issuer.
const MAX_KEYS: usize = 64;

/// One key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// The keys of one issuer, and how to get them.
pub(super) struct Keys {
    issuer: String,
    url: Option<String>,
    client: Client,
    /// `None` until they were fetched once.
    current: ArcSwap<Option<Vec<Key>>>,
    /// When an unknown key last had them fetched, and how that went.
    demanded: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Keys {
    pub(super) fn new(issuer: String, url: Option<String>, client: Client) -> Self {
        let (current, demanded) = (ArcSwap::from_pointee(None), Mutex::new(None));
        Self { issuer, url, client, current, demanded }
    }

    /// Keys that are there from the start, and an issuer that nobody can ask for more.
    #[cfg(test)]
    pub(super) fn fixed(issuer: &str, set: &[Value], client: Client) -> Self {
        let keys = Self::new(issuer.to_owned(), Some("http://127.0.0.1:1/".to_owned()), client);
        keys.current.store(std::sync::Arc::new(Some(usable(set))));
        keys
    }

    /// Keys that may have signed with `algorithm` under the name `id`.
    pub(super) async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        now: Instant,
    ) -> Result<Vec<Key>, Refusal> {
        let known = self.known(id, algorithm);
        if !known.is_empty() {
            return Ok(known);
        }
        let mut demanded = self.demanded.lock().await;
        // Whoever came first may have fetched it meanwhile.
        let known = self.known(id, algorithm);
        if !known.is_empty() {
            return Ok(known);
        }
        let recent = demanded.as_ref().filter(|(at, _)| now < *at + ON_DEMAND);
        let went = match recent {
            Some((_, went)) => went.clone(),
            None => {
                // Before the first keys every key is unknown: that is nobody's doing.
                let first = self.current.load().is_none();
                let went = self.fetch().await;
                if !first || went.is_err() {
                    *demanded = Some((now, went.clone()));
                }
                went
            }
        };
        let known = self.known(id, algorithm);
        match went {
            // The key may be new, which only the issuer could tell.
            Err(reason) if known.is_empty() => Err(Refusal::Unavailable(format!(
                "the keys of {} cannot be fetched: {reason}",
                self.issuer
            ))),
            Ok(()) | Err(_) => Ok(known),
        }
    }

    fn known(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<Key> {
        let current = self.current.load();
        let fits = |key: &&Key| {
            let named = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            named && key.algorithms.contains(&algorithm)
        };
        current.as_ref().iter().flatten().filter(fits).cloned().collect()
    }

    /// Fetches the keys now and then, until `cancel`.
    pub(super) async fn keep_fresh(&self, cancel: &CancellationToken) {
        let mut wait = AGAIN.0;
        loop {
            let next = match self.fetch().await {
                Ok(()) => {
                    wait = AGAIN.0;
                    EVERY
                }
                Err(reason) => {
                    let known = self.current.load().as_ref().as_ref().map_or(0, Vec::len);
                    tracing::warn!(
                        issuer = self.issuer,
                        reason,
                        known,
                        "cannot fetch the keys of the issuer; those that are known stay in force"
                    );
                    let next = wait;
                    wait = (wait * 2).min(AGAIN.1);
                    next
                }
            };
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                () = cancel.cancelled() => return,
            }
        }
    }

    async fn fetch(&self) -> Result<(), String> {
        let url = match &self.url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let set: KeySet =
            http::json(self.client.get(&url)).await.map_err(|reason| format!("{url}: {reason}"))?;
        let keys = usable(&set.keys);
        if keys.is_empty() {
            return Err(format!("{url}: there is no key in it that could be used"));
        }
        self.current.store(std::sync::Arc::new(Some(keys)));
        Ok(())
    }

    /// Where the issuer says that its keys are.
    async fn discover(&self) -> Result<String, String> {
        let base = self.issuer.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let found: Discovery =
            http::json(self.client.get(&url)).await.map_err(|reason| format!("{url}: {reason}"))?;
        if found.issuer != self.issuer {
            return Err(format!("{url} is about another issuer, {:?}", found.issuer));
        }
        if !is_trustworthy(&found.jwks_uri) {
            return Err(format!("{url}: jwks_uri {:?} is not an https address", found.jwks_uri));
        }
        Ok(found.jwks_uri)
    }
}

/// The keys of a set that verify signatures; others are none of our business.
fn usable(set: &[Value]) -> Vec<Key> {
    set.iter()
        .filter_map(|value| serde_json::from_value::<Jwk>(value.clone()).ok())
        .filter_map(|jwk| {
            let signs = |used: &PublicKeyUse| *used == PublicKeyUse::Signature;
            if !jwk.common.public_key_use.as_ref().is_none_or(signs) {
                return None;
            }
            let algorithms = algorithms(&jwk);
            let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| !algorithms.is_empty())?;
            Some(Key { id: jwk.common.key_id, algorithms, key })
        })
        .take(MAX_KEYS)
        .collect()
}

/// What a key may sign with: what it says itself, else what its kind can.
fn algorithms(jwk: &Jwk) -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let can: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => &[ES256],
            EllipticCurve::P384 => &[ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(pair) => match pair.curve {
            EllipticCurve::Ed25519 => &[EdDSA],
            _ => &[],
        },
        // A secret in a public document, or something new.
        _ => &[],
    };
    let said = match jwk.common.key_algorithm.as_ref() {
        None => return can.to_vec(),
        Some(KeyAlgorithm::RS256) => RS256,
        Some(KeyAlgorithm::RS384) => RS384,
        Some(KeyAlgorithm::RS512) => RS512,
        Some(KeyAlgorithm::PS256) => PS256,
        Some(KeyAlgorithm::PS384) => PS384,
        Some(KeyAlgorithm::PS512) => PS512,
        Some(KeyAlgorithm::ES256) => ES256,
        Some(KeyAlgorithm::ES384) => ES384,
        Some(KeyAlgorithm::EdDSA) => EdDSA,
        Some(_) => return Vec::new(),
    };
    can.iter().copied().filter(|algorithm| *algorithm == said).collect()
}
