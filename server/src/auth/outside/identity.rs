//! Who a caller is, as somebody else has found.

use llm_memory_engine::ids::Timestamp;
use serde_json::{Map, Value};

/// What the API server calls ServiceAccounts.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Somebody who has been authenticated, and may yet be allowed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A ServiceAccount of the cluster.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Audiences that its token is for, of those that were asked about.
        audiences: Vec<String>,
    },
    /// Somebody known to an OpenID Connect issuer.
    Oidc {
        /// The issuer.
        issuer: String,
        /// The configured claim.
        subject: String,
        /// All claims.
        claims: Map<String, Value>,
    },
    /// Somebody else whom the API server knows; no rule is for these.
    Other {
        /// What it calls them.
        name: String,
    },
}

impl Identity {
    /// The identity behind a user name of the API server, by a token for `audiences`.
    pub fn of_username(name: &str, audiences: Vec<String>) -> Self {
        let account = name.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
        match account {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                Self::ServiceAccount { namespace, name, audiences }
            }
            Some(_) | None => Self::Other { name: name.to_owned() },
        }
    }

    /// The subject in provenance and audit, where no rule names another. The prefix keeps what an
    /// issuer calls somebody apart from the names of tokens and of the owner of the data folder.
    pub fn subject(&self) -> String {
        match self {
            Self::ServiceAccount { namespace, name, .. } => {
                format!("{SERVICE_ACCOUNT}{namespace}:{name}")
            }
            Self::Oidc { subject, .. } => format!("oidc:{subject}"),
            Self::Other { name } => name.clone(),
        }
    }

    /// What to tell somebody whom no rule matches.
    pub fn unmapped(&self) -> String {
        match self {
            Self::ServiceAccount { namespace, name, .. } => format!(
                "service account {namespace}/{name} is not mapped in this store: add it to the \
                 identities file (of a MemoryStore: under spec.mcp.auth.serviceAccounts)"
            ),
            Self::Oidc { issuer, subject, .. } => format!(
                "{subject:?} of {issuer} is not mapped in this store: add a rule for it, or for a \
                 claim of its token, to the identities file (of a MemoryStore: under \
                 spec.mcp.auth.oidc.subjects)"
            ),
            Self::Other { name } => format!(
                "{name:?} is not mapped in this store: of those whom the cluster knows, only \
                 service accounts can be"
            ),
        }
    }
}

/// Somebody who has been authenticated by a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who.
    pub identity: Identity,
    /// When the token ends.
    pub expires: Option<Timestamp>,
}

/// Why somebody has not been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The token is no good; why.
    Invalid(String),
    /// Whoever decides cannot be asked; why. Says nothing about the token.
    Unavailable(String),
    /// Asking is not worth it for an address that is locked out.
    LockedOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_form_of_a_user_name_is_a_service_account() {
        let planner = Identity::of_username("system:serviceaccount:agents:planner", Vec::new());
        assert_eq!(planner.subject(), "system:serviceaccount:agents:planner");
        assert!(planner.unmapped().starts_with("service account agents/planner is not mapped"));
        for other in ["system:admin", "system:serviceaccount:agents", "system:serviceaccount::x"] {
            let identity = Identity::of_username(other, Vec::new());
            assert_eq!(identity, Identity::Other { name: other.to_owned() });
        }
    }
}
