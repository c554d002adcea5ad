//! The token file: a JSON list, one object a token. It holds hashes only; whoever reads it learns
//! who may do what, but cannot pass for anybody.

use std::collections::BTreeSet;

use llm_memory_engine::api::ScopeSet;
use llm_memory_engine::ids::{Digest, ProjectId, Scope, TenantId, Timestamp};
use llm_memory_engine::item::Sensitivity;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::access::{Principal, Role};

/// What every generated token begins with, so that secret scanners can know it.
pub const PREFIX: &str = "llmm";

/// One token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenEntry {
    /// Name for people, unique in the file.
    pub name: String,
    /// Public part of a generated token; wrong secrets are counted against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// SHA-256 of the whole token.
    pub sha256: Digest,
    /// Subject written into provenance and audit; the name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Roles held.
    pub roles: BTreeSet<Role>,
    /// Tenant; the store's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Projects allowed; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<ProjectId>>,
    /// Scopes allowed; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<TokenScopes>,
    /// Highest sensitivity visible; `private` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clearance: Option<Sensitivity>,
    /// Sees only what it created.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_only: bool,
    /// Maintenance works on the scopes of every tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every_tenant: bool,
    /// When it ends; never when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
}

/// Scopes of a token.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenScopes {
    /// May be read.
    pub read: Vec<Scope>,
    /// May be written.
    pub write: Vec<Scope>,
}

impl TokenScopes {
    /// What may be read and what may be written; everything where nothing is said.
    pub fn sets(scopes: Option<&Self>) -> (ScopeSet, ScopeSet) {
        let set = |pick: fn(&Self) -> &Vec<Scope>| {
            scopes.map_or(ScopeSet::ALL, |scopes| ScopeSet::of(pick(scopes).iter().copied()))
        };
        (set(|scopes| &scopes.read), set(|scopes| &scopes.write))
    }
}

impl TokenEntry {
    /// The caller that this token stands for.
    pub fn principal(&self) -> Principal {
        let (read, write) = TokenScopes::sets(self.scopes.as_ref());
        Principal {
            subject: self.subject.clone().unwrap_or_else(|| self.name.clone()),
            roles: self.roles.clone(),
            tenant: self.tenant.clone(),
            projects: self.projects.clone(),
            read,
            write,
            clearance: self.clearance.unwrap_or(Sensitivity::Private),
            own_only: self.own_only,
            every_tenant: self.every_tenant,
            expires: self.expires,
        }
    }
}

/// A token file that cannot be used.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// It is not the JSON it must be.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What was expected.
        reason: String,
    },
    /// An entry makes no sense.
    #[error("token {name:?}: {reason}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong and what would be right.
        reason: &'static str,
    },
}

/// Parses and checks a token file.
pub fn parse(bytes: &[u8]) -> Result<Vec<TokenEntry>, TokenFileError> {
    let entries: Vec<TokenEntry> =
        serde_json::from_slice(bytes).map_err(|error| TokenFileError::Syntax {
            line: error.line(),
            column: error.column(),
            reason: error.to_string(),
        })?;
    let mut names = BTreeSet::new();
    let mut hashes = BTreeSet::new();
    for entry in &entries {
        let wrong = |reason| Err(TokenFileError::Entry { name: entry.name.clone(), reason });
        if entry.name.is_empty() {
            return wrong("the name is empty");
        }
        if !names.insert(&entry.name) {
            return wrong("there is another token of this name; names are unique");
        }
        if !hashes.insert(entry.sha256) {
            return wrong("another token has the same sha256; each token is made once");
        }
        if entry.roles.is_empty() {
            return wrong(
                "roles is empty; give it at least one of admin, operator, monitor, approver, agent",
            );
        }
    }
    Ok(entries)
}

/// The entry whose token `token` is. Every entry is compared, each in constant time, so that the
/// time taken tells nothing about how near a guess was.
pub fn find<'a>(
    entries: impl IntoIterator<Item = &'a TokenEntry>,
    token: &str,
) -> Option<&'a TokenEntry> {
    let shown = Digest::of(token.as_bytes());
    entries.into_iter().fold(None, |found, entry| {
        if bool::from(shown.0.ct_eq(&entry.sha256.0)) { Some(entry) } else { found }
    })
}

/// The public part of a token of our own making.
pub fn public_id(token: &str) -> Option<&str> {
    let mut parts = token.split('_');
    (parts.next() == Some(PREFIX)).then(|| parts.next()).flatten().filter(|id| !id.is_empty())
}

/// A fresh token: its public part and the whole of it, 256 random bits.
pub fn generate() -> (String, String) {
    let random = || Digest(rand::random::<[u8; 32]>()).to_hex();
    let id: String = random().chars().take(12).collect();
    let token = format!("{PREFIX}_{id}_{}", random());
    (id, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, token: &str) -> String {
        format!(
            r#"{{"name":"{name}","sha256":"{}","roles":["agent"]}}"#,
            Digest::of(token.as_bytes())
        )
    }

    #[test]
    fn the_right_entry_is_found_and_a_wrong_token_finds_none() {
        let file = format!("[{},{}]", entry("a", "one"), entry("b", "two"));
        let entries = parse(file.as_bytes()).unwrap();
        assert_eq!(find(&entries, "two").unwrap().name, "b");
        assert!(find(&entries, "three").is_none());
        assert!(find(&entries, "").is_none());
    }

    #[test]
    fn a_full_entry_becomes_its_principal() {
        let file = format!(
            r#"[{{"name":"ci","sha256":"{}","subject":"robot","roles":["agent","monitor"],
                "tenant":"acme","projects":["web"],"scopes":{{"read":["global","local"],"write":["local"]}},
                "clearance":"team","ownOnly":true,"expires":"2030-01-01T00:00:00Z"}}]"#,
            Digest::of(b"x")
        );
        let principal = parse(file.as_bytes()).unwrap()[0].principal();
        assert_eq!(principal.subject, "robot");
        assert!(principal.read.contains(Scope::Global) && !principal.write.contains(Scope::Global));
        assert!(!principal.read.contains(Scope::Committed));
        assert_eq!(principal.clearance, Sensitivity::Team);
        assert!(principal.own_only);
        assert_eq!(principal.tenant.unwrap().as_str(), "acme");
    }

    #[test]
    fn entries_that_make_no_sense_are_refused_by_name() {
        let twice = format!("[{},{}]", entry("a", "one"), entry("a", "two"));
        assert!(parse(twice.as_bytes()).unwrap_err().to_string().contains("names are unique"));
        let same = format!("[{},{}]", entry("a", "one"), entry("b", "one"));
        assert!(parse(same.as_bytes()).unwrap_err().to_string().contains("same sha256"));
        let without = entry("a", "one").replace(r#"["agent"]"#, "[]");
        assert!(parse(format!("[{without}]").as_bytes()).is_err());
        let odd = entry("a", "one").replace("roles", "role");
        let error = parse(format!("[{odd}]").as_bytes()).unwrap_err().to_string();
        assert!(error.contains("unknown field `role`"), "{error}");
    }

    #[test]
    fn generated_tokens_differ_and_carry_their_public_part() {
        let (id, token) = generate();
        assert_eq!(public_id(&token), Some(id.as_str()));
        assert_ne!(token, generate().1);
        assert_eq!(token.len(), 4 + 1 + 12 + 1 + 64);
        assert_eq!(public_id("sk-abc"), None);
    }
}
