//! `kubectl memory`, called as people call it.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::Scratch;

/// What a call came to.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Standard output as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("no JSON: {self:?}"))
    }
}

impl Scratch {
    /// The plugin with `arguments`, in this namespace, to be started. The program is that of
    /// `KUBECTL_MEMORY`.
    pub fn plugin_command(&self, arguments: &[&str]) -> Result<Command> {
        let program = std::env::var_os("KUBECTL_MEMORY")
            .context("KUBECTL_MEMORY is unset: run these tests with ./justw e2e")?;
        let mut command = Command::new(program);
        command.args(arguments).args(["--namespace", &self.namespace]).stdin(Stdio::null());
        Ok(command)
    }

    /// Calls the plugin, whatever it comes to.
    pub async fn plugin(&self, arguments: &[&str]) -> Result<Said> {
        let output = self.plugin_command(arguments)?.output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said {
            code: output.status.code().context("the plugin was killed")?,
            out: text(&output.stdout),
            err: text(&output.stderr),
        })
    }

    /// Calls the plugin, which has to end with 0.
    pub async fn plugin_does(&self, arguments: &[&str]) -> Result<Said> {
        let said = self.plugin(arguments).await?;
        ensure!(said.code == 0, "{arguments:?}: {said:?}");
        Ok(said)
    }
}
