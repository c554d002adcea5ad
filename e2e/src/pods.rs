//! Running things in pods.

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::Scratch;

/// What a command in a container came to.
#[derive(Debug, Clone)]
pub struct Output {
    /// It ended well.
    pub success: bool,
    /// Standard output and error, one after the other.
    pub text: String,
}

impl Scratch {
    /// Runs `command` in the container `container` of `pod`.
    pub async fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Result<Output> {
        // The stream of a container that is killed may never end.
        let limit = std::time::Duration::from_secs(60);
        tokio::time::timeout(limit, self.exec_unbounded(pod, container, command))
            .await
            .with_context(|| format!("{command:?} in {pod} took over a minute"))?
    }

    async fn exec_unbounded(&self, pod: &str, container: &str, command: &[&str]) -> Result<Output> {
        let parameters = AttachParams::default().container(container).stdout(true).stderr(true);
        let mut process = self.api::<Pod>().exec(pod, command.to_vec(), &parameters).await?;
        let status = process.take_status().context("exec gives no status")?;
        // Side by side: a command that fills one of them would wait for a reader of the other.
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (mut text, errors) = tokio::try_join!(drain(stdout), drain(stderr))?;
        text.push_str(&errors);
        let success =
            status.await.is_some_and(|status| status.status.as_deref() == Some("Success"));
        process.join().await.ok();
        Ok(Output { success, text })
    }

    /// The same, for commands that have to end well.
    pub async fn run(&self, pod: &str, container: &str, command: &[&str]) -> Result<String> {
        let output = self.exec(pod, container, command).await?;
        if !output.success {
            bail!("{command:?} failed in {pod}: {}", output.text);
        }
        Ok(output.text)
    }

    /// Calls the server's own command line in the pod of the store `name`.
    pub async fn server(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let mut command = vec!["llm-memory"];
        command.extend_from_slice(arguments);
        self.run(&format!("{name}-0"), "server", &command).await
    }
}

async fn drain(stream: Option<impl AsyncRead + Unpin>) -> Result<String> {
    let mut text = String::new();
    if let Some(mut stream) = stream {
        stream.read_to_string(&mut text).await?;
    }
    Ok(text)
}
