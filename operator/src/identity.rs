//! Who the operator is to a store: its own ServiceAccount, by a token that is good for that store and
//! for no other. Whoever may make a store chooses what runs in it, and is shown the token; with an
//! audience that several stores take, it would open the others too.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;

use crate::memory_store::build::OperatorIdentity;

/// How long a token is asked for; the cluster may give less. Long, so that a thousand stores are no
/// stream of requests.
const VALID: Duration = Duration::from_secs(24 * 3600);
/// A token that is younger than this is not the reason why a server refuses it.
const FRESH: Duration = Duration::from_secs(60);
/// The longest wait for the API server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no token.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// It may not have one.
    #[error(
        "the operator gets no token to show: {0}. Its role needs `create` on serviceaccounts/token \
         of its own account"
    )]
    Forbidden(#[source] Box<kube::Error>),
    /// The API server gives none.
    #[error("the operator gets no token to show: {0}")]
    Refused(#[source] Box<kube::Error>),
    /// It does not answer.
    #[error("the operator gets no token to show: the API server does not answer")]
    Silent,
    /// The answer has no token in it.
    #[error("the operator gets no token to show: the API server answered without one")]
    Empty,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    since: Instant,
    renew_at: Instant,
    ends: Instant,
}

/// The operator, as stores know it.
pub struct Identity {
    accounts: Api<ServiceAccount>,
    account: String,
    tokens: Mutex<HashMap<String, Token>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Identity").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Identity {
    /// The account `operator`.
    pub fn new(client: Client, operator: &OperatorIdentity) -> Self {
        Self {
            accounts: Api::namespaced(client, &operator.namespace),
            account: operator.service_account.clone(),
            tokens: Mutex::default(),
        }
    }

    /// A token for `audience`, asked for when there is none or about half of its time is over.
    pub async fn token(&self, audience: &str) -> Result<String, IdentityError> {
        let known = self.tokens.lock().get(audience).cloned();
        let now = Instant::now();
        if let Some(token) = known.as_ref().filter(|token| now < token.renew_at) {
            return Ok(token.text.clone());
        }
        match (self.ask(audience).await, known) {
            (Ok(token), _) => {
                let text = token.text.clone();
                let mut tokens = self.tokens.lock();
                // Those of stores that are gone go with time.
                tokens.retain(|_, token| now < token.ends);
                tokens.insert(audience.to_owned(), token);
                Ok(text)
            }
            // The one that is there is good for hours.
            (Err(error), Some(token)) if now < token.ends => {
                tracing::warn!(%error, audience, "a token was not renewed");
                if let Some(token) = self.tokens.lock().get_mut(audience) {
                    token.renew_at = now + FRESH;
                }
                Ok(token.text)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn ask(&self, audience: &str) -> Result<Token, IdentityError> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![audience.to_owned()]),
                expiration_seconds: i64::try_from(VALID.as_secs()).ok(),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let parameters = PostParams::default();
        let asked = self.accounts.create_token_request(&self.account, &parameters, &request);
        let answer = tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(|_elapsed| IdentityError::Silent)?
            .map_err(|error| match error {
                kube::Error::Api(status) if status.code == 403 => {
                    IdentityError::Forbidden(Box::new(kube::Error::Api(status)))
                }
                other => IdentityError::Refused(Box::new(other)),
            })?;
        let status = answer.status.unwrap_or_default();
        let (Some(text), Some(end)) = (status.token, status.expiration_timestamp) else {
            return Err(IdentityError::Empty);
        };
        let left = Duration::try_from(end.0.duration_since(Timestamp::now())).unwrap_or_default();
        let now = Instant::now();
        // Those of a thousand stores, made within a minute, are not renewed within another.
        let renew_at = now + left.mul_f64(rand::random_range(0.4..0.6));
        Ok(Token { text, since: now, renew_at, ends: now + left })
    }

    /// A server did not take the token for `audience`: the account may be another one of the same
    /// name by now. The next one is asked for anew.
    pub fn distrust(&self, audience: &str) {
        let mut tokens = self.tokens.lock();
        if tokens.get(audience).is_some_and(|token| token.since.elapsed() >= FRESH) {
            tokens.remove(audience);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    fn identity(answer: impl Fn(Value) -> (u16, Value) + Clone + Send + 'static) -> Identity {
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = answer.clone();
            async move {
                let path = "/api/v1/namespaces/system/serviceaccounts/operator/token";
                assert_eq!(request.uri().path(), path);
                let body = request.into_body().collect_bytes().await.unwrap();
                let (code, body) = answer(serde_json::from_slice(&body).unwrap());
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        let operator = OperatorIdentity {
            namespace: "system".to_owned(),
            service_account: "operator".to_owned(),
            pod_labels: std::collections::BTreeMap::new(),
            api_server_ports: vec![443, 6443],
        };
        Identity::new(Client::new(service, "system"), &operator)
    }

    /// An operator without the right to tokens.
    pub(crate) fn refused() -> Identity {
        identity(|_| (403, json!({"kind": "Status", "status": "Failure", "code": 403})))
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_for_one_audience_and_is_kept_while_it_is_good() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let identity = identity(move |request| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            if number == 2 {
                return (500, json!({"kind": "Status", "status": "Failure", "code": 500}));
            }
            let audience = request["spec"]["audiences"][0].as_str().unwrap().to_owned();
            let end = Timestamp::now() + jiff::SignedDuration::from_secs(3600);
            let status =
                json!({"token": format!("{audience} {number}"), "expirationTimestamp": end});
            (201, json!({"metadata": {}, "spec": request["spec"], "status": status}))
        });
        let show = async |audience| identity.token(audience).await.unwrap();
        assert_eq!((show("a").await, show("b").await), ("a 0".to_owned(), "b 1".to_owned()));
        tokio::time::advance(Duration::from_secs(1400)).await;
        assert_eq!(show("a").await, "a 0");
        // It is to be renewed, which fails, and is good for a while.
        tokio::time::advance(Duration::from_secs(800)).await;
        assert_eq!((show("a").await, show("a").await), ("a 0".to_owned(), "a 0".to_owned()));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        tokio::time::advance(FRESH).await;
        assert_eq!(show("a").await, "a 3");
        identity.distrust("a");
        assert_eq!(show("a").await, "a 3", "it is new");
        tokio::time::advance(FRESH).await;
        identity.distrust("a");
        assert_eq!(show("a").await, "a 4");
    }
}
