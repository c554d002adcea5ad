//! Who the operator is to a store: its own ServiceAccount, by a token that is good for that store and
//! for no other. Whoever may make a store chooses what runs in it, and is shown the token; with an
//! audience that several stores take, it would open the others too.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use thiserror::Error;

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
    /// The API server gives none.
    #[error(
        "the operator gets no token to show: {0}. Its role needs `create` on serviceaccounts/token \
         of its own account"
    )]
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

    /// A token for `audience`, asked for when there is none or half of its time is over.
    pub async fn token(&self, audience: &str) -> Result<String, IdentityError> {
        let known = self.tokens.lock().get(audience).cloned();
        if let Some(token) = known.filter(|token| Instant::now() < token.renew_at) {
            return Ok(token.text);
        }
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
            .map_err(|error| IdentityError::Refused(Box::new(error)))?;
        let status = answer.status.unwrap_or_default();
        let (Some(text), Some(end)) = (status.token, status.expiration_timestamp) else {
            return Err(IdentityError::Empty);
        };
        let left = Duration::try_from(end.0.duration_since(Timestamp::now())).unwrap_or_default();
        let now = Instant::now();
        let token = Token { text, since: now, renew_at: now + left / 2 };
        let mut tokens = self.tokens.lock();
        // Those of stores that are gone go with time.
        tokens.retain(|_, token| now < token.renew_at);
        tokens.insert(audience.to_owned(), token.clone());
        Ok(token.text)
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
        };
        Identity::new(Client::new(service, "system"), &operator)
    }

    /// An operator without the right to tokens.
    pub(crate) fn refused() -> Identity {
        identity(|_| (403, json!({"kind": "Status", "status": "Failure", "code": 403})))
    }

    #[tokio::test]
    async fn a_token_is_for_one_audience_and_is_asked_for_again_at_half_its_time() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let identity = identity(move |request| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let audience = request["spec"]["audiences"][0].as_str().unwrap().to_owned();
            // The second is over at once.
            let left = if number == 1 { 0 } else { 3600 };
            let end = Timestamp::now() + jiff::SignedDuration::from_secs(left);
            let status =
                json!({"token": format!("{audience} {number}"), "expirationTimestamp": end});
            (201, json!({"metadata": {}, "spec": request["spec"], "status": status}))
        });
        let mut shown = Vec::new();
        for audience in ["a", "b", "b", "a", "b"] {
            shown.push(identity.token(audience).await.unwrap());
        }
        assert_eq!(shown, ["a 0", "b 1", "b 2", "a 0", "b 2"]);
        identity.distrust("a");
        assert_eq!(identity.token("a").await.unwrap(), "a 0", "it was new");
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
