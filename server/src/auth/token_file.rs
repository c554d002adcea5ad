//! The token file: a JSON list, one object a token. It holds hashes only; whoever reads it learns
//! who may do what, but cannot pass for anybody.

use std::collections::BTreeSet;

use llm_memory_engine::api::ScopeSet;
use llm_memory_engine::ids::{Digest, ProjectId, Scope, TenantId, Timestamp};
use llm_memory_engine::item::Sensitivity;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::entries::{self, Fault, NotAList};
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
    /// What is wrong with it beside the `earlier` ones; `shared`: another entry has the same hash.
    /// Of two such entries neither counts: which of them was meant to say what the token may do?
    fn check(&self, earlier: &[Self], shared: bool) -> Result<(), &'static str> {
        if self.name.is_empty() {
            return Err("name is empty; give it one");
        }
        if earlier.iter().any(|other| other.name == self.name) {
            return Err("name: there is another token of this name; names are unique");
        }
        if shared {
            return Err("sha256: another token has the same sha256; each token is made once");
        }
        if self.roles.is_empty() {
            return Err(
                "roles is empty; give it at least one of admin, operator, monitor, approver, agent",
            );
        }
        Ok(())
    }

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

/// A token file that cannot be changed.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// It is not the JSON it must be.
    #[error(transparent)]
    Syntax(#[from] NotAList),
    /// An entry cannot be used; written again, the file would be without it.
    #[error("{0}; mend it in the file, or take it out")]
    Entry(Fault),
}

/// A token file, entry by entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenFile {
    /// Those that count.
    pub entries: Vec<TokenEntry>,
    /// What is wrong with the others.
    pub faults: Vec<Fault>,
}

impl TokenFile {
    /// Whether there are no tokens in it, not even such as admit nobody: whoever wrote one down
    /// did not mean to let everybody in.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.faults.is_empty()
    }
}

impl From<Vec<TokenEntry>> for TokenFile {
    fn from(entries: Vec<TokenEntry>) -> Self {
        Self { entries, faults: Vec::new() }
    }
}

/// What an entry says of itself even if it cannot be used.
#[derive(Debug, Default)]
struct Sketch {
    name: Option<String>,
    sha256: Option<Digest>,
}

impl Sketch {
    fn of(entry: &RawValue) -> Self {
        let Ok(value) = serde_json::from_str::<Value>(entry.get()) else { return Self::default() };
        let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let sha256 = value.get("sha256").cloned();
        Self {
            name: text("name").filter(|name| !name.is_empty()),
            sha256: sha256.and_then(|value| serde_json::from_value(value).ok()),
        }
    }
}

/// Reads a token file entry by entry.
pub fn read(bytes: &[u8]) -> Result<TokenFile, NotAList> {
    let list = entries::list(bytes)?;
    let sketches: Vec<Sketch> = list.iter().map(|entry| Sketch::of(entry)).collect();
    let mut file = TokenFile::default();
    for (index, (raw, sketch)) in list.iter().zip(&sketches).enumerate() {
        let alike = sketches.iter().filter(|other| other.sha256 == sketch.sha256).count();
        let checked = entries::read::<TokenEntry>(raw).and_then(|entry| {
            entry.check(&file.entries, alike > 1).map(|()| entry).map_err(str::to_owned)
        });
        match checked {
            Ok(entry) => file.entries.push(entry),
            Err(reason) => {
                let number = index + 1;
                let entry = match &sketch.name {
                    Some(name) => format!("token {name:?} (entry {number})"),
                    None => format!("entry {number}"),
                };
                file.faults.push(Fault::Unusable { entry, reason });
            }
        }
    }
    Ok(file)
}

/// The entries of a token file that is to be written again: all of them, or none.
pub fn parse(bytes: &[u8]) -> Result<Vec<TokenEntry>, TokenFileError> {
    let TokenFile { entries, faults } = read(bytes)?;
    match faults.into_iter().next() {
        None => Ok(entries),
        Some(fault) => Err(TokenFileError::Entry(fault)),
    }
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
    fn an_entry_that_cannot_be_used_admits_nobody_and_the_others_count() {
        let held = entry("held", "two").replace(']', r#"],"projects":["not a project!"]"#);
        let ends = entry("ends", "three").replace(']', r#"],"expires":"soon""#);
        let twice = entry("twice", "four").replace(']', r#"],"roles":["admin"]"#);
        let list = [
            entry("a", "one"),
            held,
            ends,
            twice,
            entry("a", "five"),
            r#"{"name":"bare"}"#.to_owned(),
            "7".to_owned(),
            entry("b", "six"),
        ];
        let file = read(format!("[{}]", list.join(",")).as_bytes()).unwrap();
        let names: Vec<&str> = file.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        for token in ["two", "three", "four", "five"] {
            assert!(find(&file.entries, token).is_none(), "{token}");
        }
        let faults: Vec<String> = file.faults.iter().map(ToString::to_string).collect();
        for (fault, words) in faults.iter().zip([
            [r#"token "held" (entry 2) admits nobody: projects[0]: "#, "project"],
            [r#"token "ends" (entry 3) admits nobody: expires: "#, "soon"],
            [r#"token "twice" (entry 4) admits nobody: "#, "duplicate field `roles`"],
            [r#"token "a" (entry 5) admits nobody: name: "#, "names are unique"],
            [r#"token "bare" (entry 6) admits nobody: "#, "missing field `sha256`"],
            ["entry 7 admits nobody: ", "expected struct TokenEntry"],
        ]) {
            assert!(fault.starts_with(words[0]) && fault.contains(words[1]), "{fault}");
            assert!(!fault.contains(" at line "), "{fault}");
        }
        assert_eq!(faults.len(), 6, "{faults:?}");
        assert!(read(b"{}").is_err() && read(b"[{]").is_err());
    }

    #[test]
    fn an_entry_is_not_undone_by_another_for_the_same_token() {
        let held = entry("held", "one").replace(']', r#"],"projects":["not a project!"]"#);
        let file = read(format!("[{},{held}]", entry("wide", "one")).as_bytes()).unwrap();
        assert!(file.entries.is_empty() && !file.is_empty(), "{file:?}");
        assert_eq!(file.faults.len(), 2);
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
