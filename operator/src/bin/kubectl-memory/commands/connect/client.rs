//! Configuration texts of MCP clients; pure.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::error::Failure;

/// A client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Client {
    /// A command that registers the server with Claude Code
    ClaudeCode,
    /// `.cursor/mcp.json`
    Cursor,
    /// `.vscode/mcp.json`
    Vscode,
    /// The form that most other clients read
    #[default]
    Json,
}

/// Where a client reaches the store.
#[derive(Debug)]
pub(super) struct Endpoint<'a> {
    /// Name of the store.
    pub(super) name: &'a str,
    /// URL on this machine.
    pub(super) url: String,
    /// Token, where the store wants one.
    pub(super) token: Option<String>,
}

impl Endpoint<'_> {
    /// What the user gives the client.
    pub(super) fn configuration(&self, client: Client) -> Result<String, Failure> {
        match client {
            Client::ClaudeCode => Ok(self.command()),
            Client::Cursor => pretty("mcpServers", self.name, self.entry(None)),
            Client::Vscode => pretty("servers", self.name, self.entry(Some("http"))),
            Client::Json => pretty("mcpServers", self.name, self.entry(Some("http"))),
        }
    }

    fn entry(&self, type_: Option<&str>) -> Value {
        let mut entry = serde_json::Map::new();
        if let Some(type_) = type_ {
            entry.insert("type".to_owned(), type_.into());
        }
        entry.insert("url".to_owned(), self.url.as_str().into());
        if let Some(token) = &self.token {
            let bearer = format!("Bearer {token}");
            entry.insert("headers".to_owned(), json!({ "Authorization": bearer }));
        }
        entry.into()
    }

    fn command(&self) -> String {
        let header = self
            .token
            .as_ref()
            .map(|token| format!(" \\\n    --header 'Authorization: Bearer {token}'"))
            .unwrap_or_default();
        format!("claude mcp add --transport http {} {}{header}", self.name, self.url)
    }
}

fn pretty(list: &str, name: &str, entry: Value) -> Result<String, Failure> {
    serde_json::to_string_pretty(&json!({ list: { name: entry } }))
        .map_err(|error| Failure::Encoding(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_its_own_form() {
        let token = Some("llmm_1_secret".to_owned());
        let url = "http://127.0.0.1:4711/mcp".to_owned();
        let endpoint = Endpoint { name: "mem", url, token };
        let mut text = String::new();
        for client in Client::value_variants() {
            text.push_str(&format!("{client:?}\n{}\n\n", endpoint.configuration(*client).unwrap()));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn without_a_token_there_is_no_header() {
        let url = "http://127.0.0.1:4711/mcp".to_owned();
        let endpoint = Endpoint { name: "mem", url, token: None };
        for client in Client::value_variants() {
            assert!(!endpoint.configuration(*client).unwrap().contains("Bearer"));
        }
    }
}
