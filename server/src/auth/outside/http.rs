//! Requests to those who vouch for callers.
//!
//! When things go wrong: a request gives up after [`LIMIT`]; redirects are not followed, since a
//! token goes only where the configuration says; an answer longer than [`MAX_ANSWER`] is not read
//! to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use llm_memory_disk::{Disk, DiskError};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::tls::client::{ClientTlsError, Trust};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest answer.
const MAX_ANSWER: usize = 1 << 20;

/// A client that cannot be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Its authorities.
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
    /// The library refuses.
    #[error("cannot prepare requests: {0}")]
    Library(String),
}

/// A client that trusts `trust`. `direct` goes past the proxies that the environment names.
pub(super) fn client(disk: &dyn Disk, trust: &Trust, direct: bool) -> Result<Client, ClientError> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(trust.config(disk)?)
        .user_agent(concat!("llm-memory/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .timeout(LIMIT);
    if direct {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| ClientError::Library(words(&error)))
}

/// A request without a usable answer.
#[derive(Debug, Error)]
pub(super) enum RequestError {
    /// It cannot be put.
    #[error("{0}")]
    Own(String),
    /// It did not get there, or the answer not back.
    #[error("{}", words(.0))]
    Broken(#[from] reqwest::Error),
    /// It was refused.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// The answer is too long.
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    /// The answer is something else.
    #[error("the answer is not understood: {0}")]
    Odd(#[from] serde_json::Error),
}

/// The JSON that a request is answered with.
pub(super) async fn json<T: DeserializeOwned>(
    request: reqwest::RequestBuilder,
) -> Result<T, RequestError> {
    let mut response = request.send().await?;
    let status = response.status();
    if !status.is_success() {
        return Err(RequestError::Status(status));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(RequestError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&body)?)
}

/// An error and what is behind it; the library's own words stop at the first.
fn words(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Reads a small file away from the threads that answer.
pub(super) async fn read(disk: &Arc<dyn Disk>, path: &Path) -> Result<Vec<u8>, String> {
    let (disk, path): (_, PathBuf) = (Arc::clone(disk), path.to_path_buf());
    let read = tokio::task::spawn_blocking(move || disk.read(&path)).await;
    read.map_err(|error| error.to_string())?.map_err(|error: DiskError| error.to_string())
}
