//! Waiting for the cluster to become what a test expects.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often is looked.
const PERIOD: Duration = Duration::from_millis(500);

/// Looks until `look` answers `Ok(Ok(value))`; `Ok(Err(what))` is what there was instead. Fails
/// after `limit` with the last of these. Errors of the API server are waited out too: tests restart
/// it.
pub async fn until<T, W, F, Fut>(what: &str, limit: Duration, mut look: F) -> Result<T>
where
    W: Debug,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<std::result::Result<T, W>>>,
{
    let start = Instant::now();
    loop {
        let seen = match look().await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(instead)) => format!("{instead:?}"),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > limit {
            bail!("{what}: not within {} s; last seen: {seen}", limit.as_secs());
        }
        tokio::time::sleep(PERIOD).await;
    }
}
