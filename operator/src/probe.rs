//! `llm-memory-operator probe URL`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks `url` until it answers well, for at most `wait`, and answers what it said then.
pub async fn probe(url: &str, wait: Duration) -> Result<String> {
    // Meant for addresses in the cluster, which are plain: no authorities are looked for.
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .tls_certs_only([])
        .build()?;
    let end = tokio::time::Instant::now() + wait;
    loop {
        match ask(&client, url).await {
            Err(_) if tokio::time::Instant::now() + PAUSE < end => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

async fn ask(client: &reqwest::Client, url: &str) -> Result<String> {
    let answer = client.get(url).send().await.with_context(|| url.to_owned())?;
    let status = answer.status();
    let text = answer.text().await.with_context(|| url.to_owned())?;
    if !status.is_success() {
        bail!("{url} answered {status}: {}", text.trim());
    }
    Ok(text)
}
