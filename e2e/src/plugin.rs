//! `kubectl memory`, called as people call it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

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

/// A `kubectl memory connect` at work; it ends when dropped.
#[derive(Debug)]
pub struct Connected {
    process: Child,
    /// Where it listens on this machine.
    pub address: String,
    /// The token for the client.
    pub token: String,
}

impl Connected {
    /// Sends `tools/list` and answers the status line and the body.
    pub async fn ask(&self, token: &str) -> Result<String> {
        let address = &self.address;
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"e2e","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Tells it to end, as a person does, and waits for it.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        let pid = self.process.id().context("it ended")?.to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await?;
        Ok(tokio::time::timeout(Duration::from_secs(60), self.process.wait()).await??)
    }
}

impl Scratch {
    /// Connects this machine with the store `name`.
    pub async fn connect(&self, name: &str) -> Result<Connected> {
        let mut command = self.plugin_command(&["connect", name, "-o", "json"])?;
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        let mut text = String::new();
        let endpoint: Value = loop {
            text += &lines.next_line().await?.with_context(|| format!("it ended: {text}"))?;
            if let Ok(endpoint) = serde_json::from_str(&text) {
                break endpoint;
            }
        };
        let word = |key: &str| endpoint.get(key).and_then(Value::as_str).context("incomplete");
        let address = word("url")?.strip_prefix("http://").and_then(|it| it.strip_suffix("/mcp"));
        let address = address.with_context(|| format!("not an address: {endpoint}"))?.to_owned();
        let token = word("token")?.to_owned();
        Ok(Connected { process, address, token })
    }

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
