//! The job API of a server, one request at a time.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::order::Order;
use crate::cli::connect::Target;
use crate::cli::error::CliError;
use crate::cli::http::{self as wire, Address, Answer, Ask, HttpError};
use crate::cli::mcp_client::CallError;
use crate::cli::token::TokenSource;
use crate::jobs::Job;
use crate::mcp::PROJECT_HEADER;

const JOBS: &str = "api/v1/jobs";
/// What a request may take besides the time it asks the server to wait.
const MARGIN: Duration = Duration::from_secs(15);

/// A request without the answer that was hoped for.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go away: the server is about to start or to stop, or has too much to do.
    Passing {
        /// What happened.
        reason: String,
        /// When to try again, if the server says.
        retry_after: Option<Duration>,
    },
    /// The token was refused, which one that rotates may be for a moment.
    Refused(CallError),
    /// No secure connection came about: a certificate that is not trusted, or a server that stopped
    /// in the middle of the handshake.
    Insecure(CallError),
    /// The server does not know the job.
    Unknown,
    /// It will be the same the next time.
    Lasting(CliError),
}

/// Finds the server that answers for the store, which may have moved.
pub(super) fn connect(target: &Target) -> Result<Client, Trouble> {
    match target.server() {
        Ok(Some((server, token))) => {
            let project = target.project.as_ref().map(|project| project.as_str().to_owned());
            Ok(Client { server, token, project })
        }
        Ok(None) => Err(passing("no server holds the folder")),
        // It holds the lock and does not listen yet.
        Err(CliError::Locked { .. }) => Err(passing("the server is starting")),
        Err(error) => Err(Trouble::Lasting(error)),
    }
}

fn passing(reason: impl Into<String>) -> Trouble {
    Trouble::Passing { reason: reason.into(), retry_after: None }
}

/// A server and the token for it.
#[derive(Debug)]
pub(super) struct Client {
    server: Address,
    token: TokenSource,
    project: Option<String>,
}

impl Client {
    /// Submits the job, or finds it by its key.
    pub(super) fn submit(&self, order: &Order) -> Result<Job, Trouble> {
        let body = order.request().to_string().into_bytes();
        self.ask(JOBS, Some(body), MARGIN)
    }

    /// The job, once it is not at `revision` any more or `wait` is over.
    pub(super) fn look(&self, id: &str, revision: u64, wait: Duration) -> Result<Job, Trouble> {
        let seconds = wait.as_secs();
        let path = format!("{JOBS}/{id}?waitSeconds={seconds}&revision={revision}");
        self.ask(&path, None, wait.saturating_add(MARGIN))
    }

    fn ask(&self, path: &str, body: Option<Vec<u8>>, limit: Duration) -> Result<Job, Trouble> {
        let lasting = |error: CallError| Trouble::Lasting(error.into());
        let address = self.server.below(path);
        let mut headers: Vec<(HeaderName, HeaderValue)> =
            self.token.header().map_err(lasting)?.into_iter().collect();
        let project = self.project.as_deref().and_then(|name| HeaderValue::from_str(name).ok());
        headers.extend(project.map(|name| (HeaderName::from_static(PROJECT_HEADER), name)));
        let ask = Ask { address: &address, headers, body, limit: Some(limit) };
        match wire::send(ask, &mut |_| false) {
            Ok(answer) => self.understand(&address, &answer),
            Err(error @ HttpError::Insecure { .. }) => Err(Trouble::Insecure(error.into())),
            Err(error @ HttpError::Address { .. }) => Err(lasting(error.into())),
            Err(error) => Err(passing(error.to_string())),
        }
    }

    fn understand(&self, address: &Address, answer: &Answer) -> Result<Job, Trouble> {
        let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = |name: &str| {
            let member = document.get("error").and_then(|error| error.get(name));
            member.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let message = match (said("message"), said("remedy")) {
            (message, remedy) if remedy.is_empty() => message,
            (message, remedy) => format!("{message}. To mend it: {remedy}"),
        };
        let lasting = |error: CallError| Trouble::Lasting(error.into());
        let protocol = |reason: String| {
            lasting(CallError::Protocol {
                address: address.authority().to_owned(),
                status: answer.status.as_u16(),
                reason,
            })
        };
        match answer.status {
            StatusCode::OK | StatusCode::ACCEPTED => serde_json::from_value(document)
                .map_err(|error| protocol(format!("the answer is no job: {error}"))),
            StatusCode::UNAUTHORIZED if self.token.is_absent() => {
                Err(lasting(CallError::TokenMissing { address: address.authority().to_owned() }))
            }
            StatusCode::UNAUTHORIZED => Err(Trouble::Refused(CallError::TokenRefused { message })),
            StatusCode::FORBIDDEN => Err(lasting(CallError::Forbidden { message })),
            StatusCode::NOT_FOUND if said("code") == "not_found" => Err(Trouble::Unknown),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Trouble::Passing {
                reason: format!("the server answers {}: {message}", answer.status),
                retry_after: answer.retry_after.map(Duration::from_secs),
            }),
            _ if document.get("error").is_some() => {
                Err(lasting(CallError::Tool { message, code: Some(said("code")) }))
            }
            _ => Err(protocol("it has no job API".to_owned())),
        }
    }

    /// Whether the token may be another one the next time.
    pub(super) const fn token_rotates(&self) -> bool {
        matches!(self.token, TokenSource::File(_))
    }
}
