//! `llm-memory-operator probe URL`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Asks `url`, and answers what it said when that was well.
pub async fn probe(url: &str) -> Result<String> {
    // Meant for addresses in the cluster, which are plain: no authorities are looked for.
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .tls_certs_only([])
        .build()?;
    let answer = client.get(url).send().await.with_context(|| url.to_owned())?;
    let status = answer.status();
    let text = answer.text().await.with_context(|| url.to_owned())?;
    if !status.is_success() {
        bail!("{url} answered {status}: {}", text.trim());
    }
    Ok(text)
}
