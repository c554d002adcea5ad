//! Asks the Kubernetes API server whose a token is (TokenReview), on behalf of this server's own
//! ServiceAccount.
//!
//! When things go wrong: a request that fails, and was not refused, is repeated once; after that the
//! caller hears that the API server cannot be asked, which says nothing about the token. Token and authorities of
//! this server are read again for each review, since the kubelet replaces them.

use std::path::PathBuf;
use std::sync::Arc;

use llm_memory_disk::Disk;
use llm_memory_engine::ids::Digest;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::http::{self, ClientError, RequestError};
use super::identity::{Identity, Refusal};
use crate::config;
use crate::tls::client::Trust;

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// Longest name that is an identity.
const MAX_NAME: usize = 512;

/// An API server and how to ask it.
pub struct Kubernetes {
    disk: Arc<dyn Disk>,
    url: String,
    audience: String,
    token_file: PathBuf,
    ca_file: Option<PathBuf>,
    client: Mutex<Made>,
}

/// A client, and the authorities that it trusts.
struct Made {
    authorities: Option<Digest>,
    client: Client,
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: User,
    #[serde(default)]
    audiences: Vec<String>,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

impl Kubernetes {
    /// The API server of `settings`; `None` when its tokens are not taken.
    pub fn new(
        disk: &Arc<dyn Disk>,
        settings: &config::Kubernetes,
    ) -> Result<Option<Self>, ClientError> {
        let (Some(audience), Some(server)) = (&settings.audience, &settings.api_server) else {
            return Ok(None);
        };
        let ca_file = server.starts_with("https:").then(|| settings.ca_file.clone());
        // On the loopback address, where plain HTTP is taken, nobody shows a certificate.
        let trust = ca_file.clone().map_or(Trust::Pinned(Vec::new()), Trust::Authorities);
        // Nothing on the way to the API server of one's own cluster is a proxy's business.
        let client = http::client(&**disk, &trust, true)?;
        Ok(Some(Self {
            disk: Arc::clone(disk),
            url: format!("{}{PATH}", server.trim_end_matches('/')),
            audience: audience.clone(),
            token_file: settings.token_file.clone(),
            ca_file,
            client: Mutex::new(Made { authorities: None, client }),
        }))
    }

    /// Audience of the tokens that are taken, but for rules that name another.
    pub(super) fn audience(&self) -> &str {
        &self.audience
    }

    /// Whose `token` is, which must be for one of `audiences`.
    pub(super) async fn review(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Identity, Refusal> {
        let unavailable = |error: RequestError| {
            let mut reason = error.to_string();
            if let RequestError::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) = error {
                // What an administrator meets first.
                reason.push_str(
                    " (this server's own account needs the cluster role system:auth-delegator)",
                );
            }
            tracing::warn!(reason, "cannot have a token reviewed");
            Refusal::Unavailable(format!("the Kubernetes API server cannot be asked: {reason}"))
        };
        let first = self.ask(token, audiences).await;
        let answer = match first {
            Ok(review) => Ok(review),
            // What it may not be asked now it may not be asked a moment later.
            Err(RequestError::Status(
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
            )) => Err(RequestError::Status(status)),
            Err(error) => {
                tracing::debug!(%error, "a token review failed, trying once more");
                self.ask(token, audiences).await
            }
        };
        judge(answer.map_err(unavailable)?.status, audiences)
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Review, RequestError> {
        let own = http::read(&self.disk, &self.token_file).await.map_err(RequestError::Own)?;
        let own = String::from_utf8_lossy(&own);
        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {}", own.trim())).map_err(|_odd| {
                RequestError::Own(format!("{} holds no token", self.token_file.display()))
            })?;
        bearer.set_sensitive(true);
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences},
        });
        let client = self.client().await.map_err(RequestError::Own)?;
        let request = client
            .post(&self.url)
            .header(AUTHORIZATION, bearer)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string());
        http::json(request).await
    }

    /// A client that trusts the authorities as they are now.
    async fn client(&self) -> Result<Client, String> {
        let Some(path) = &self.ca_file else { return Ok(self.client.lock().client.clone()) };
        let bytes = http::read(&self.disk, path).await?;
        let digest = Digest::of(&bytes);
        let mut made = self.client.lock();
        if made.authorities != Some(digest) {
            let trust = Trust::Authorities(path.clone());
            made.client =
                http::client(&*self.disk, &trust, true).map_err(|error| error.to_string())?;
            made.authorities = Some(digest);
        }
        Ok(made.client.clone())
    }
}

fn judge(status: Status, asked: &[String]) -> Result<Identity, Refusal> {
    let invalid = |reason: &str| Err(Refusal::Invalid(reason.to_owned()));
    if !status.authenticated {
        return invalid("the cluster does not know it, or not for this audience");
    }
    // An authenticator that knows no audiences names none: such a token is for anybody.
    let audiences: Vec<String> =
        status.audiences.into_iter().filter(|audience| asked.contains(audience)).collect();
    if audiences.is_empty() {
        return invalid("it is for another audience");
    }
    let name = status.user.username;
    if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
        return invalid("it is of nobody who could be named");
    }
    Ok(Identity::of_username(&name, audiences))
}
