//! What the transports ask before they let anybody in. The implementation (tokens, lockout, those
//! who vouch for callers) lives elsewhere; this file fixes the question and the shape of a refusal.
//!
//! Where a credential is found:
//!
//! * Streamable HTTP: the `Authorization: Bearer TOKEN` header of every request (RFC 6750).
//! * JSON lines over TCP: the first message either is the notification
//!   `{"jsonrpc":"2.0","method":"auth","params":{"token":"TOKEN"}}`, or carries the token as
//!   `params._meta.authorization` (`"Bearer TOKEN"` or the bare token). The credential of a
//!   connection is kept for the messages after it; a message may present a new one.
//! * stdio: none; the process that started the server owns it.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use crate::access::Principal;

/// How a caller reached the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// Streamable HTTP.
    Http,
    /// JSON lines over TCP.
    Tcp,
    /// Standard input and output.
    Stdio,
    /// Not at all: a job works for them.
    Job,
}

impl TransportKind {
    /// The word used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Stdio => "stdio",
            Self::Job => "job",
        }
    }
}

/// What a caller shows. Never printed whole: the token stays out of `Debug`.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The bearer token, without the word `Bearer`; `None` when there is none.
    pub token: Option<&'a str>,
    /// Address of the other end, where there is one.
    pub peer: Option<SocketAddr>,
    /// How the caller came.
    pub transport: TransportKind,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("token", &self.token.map(|_| "<hidden>"))
            .field("peer", &self.peer)
            .field("transport", &self.transport)
            .finish()
    }
}

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No credential was shown and one is needed (401).
    #[error("a bearer token is needed")]
    Missing,
    /// The credential is unknown, expired or revoked (401, `invalid_token`).
    #[error("invalid token: {reason}")]
    Invalid {
        /// For the caller; says nothing about other tokens.
        reason: String,
        /// Whose token it was, where that is known. For the audit log only.
        who: Option<String>,
    },
    /// Somebody vouches for the caller, and nothing says what they may do (403).
    #[error("{reason}")]
    Unmapped {
        /// Who it is, and where they would have to be named.
        reason: String,
        /// Their subject, for the audit log.
        who: String,
    },
    /// Whoever could vouch for the caller cannot be asked now (503).
    #[error("cannot tell who this is: {reason}, try again in {} s", retry_after.as_secs().max(1))]
    Unavailable {
        /// Who cannot be asked, and why.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many failures; come back later (429).
    #[error("too many failed attempts, try again in {} s", retry_after.as_secs().max(1))]
    LockedOut {
        /// How long to wait.
        retry_after: Duration,
    },
}

impl Denied {
    /// HTTP status of the refusal.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Missing | Self::Invalid { .. } => 401,
            Self::Unmapped { .. } => 403,
            Self::LockedOut { .. } => 429,
            Self::Unavailable { .. } => 503,
        }
    }

    /// The stable word of the refusal, for logs and metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid { .. } => "invalid",
            Self::Unmapped { .. } => "unmapped",
            Self::LockedOut { .. } => "locked_out",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// When the same credential may be shown again; `None` where time changes nothing.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::LockedOut { retry_after } | Self::Unavailable { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::Missing | Self::Invalid { .. } | Self::Unmapped { .. } => None,
        }
    }

    /// The `WWW-Authenticate` header of the refusal, with the address of the RFC 9728 document.
    /// `None` for refusals that no other token would turn.
    pub fn www_authenticate(&self, metadata_url: &str, scopes: &str) -> Option<String> {
        // RFC 6750 section 3.1: no error code when the request carried no credential at all.
        let details = match self {
            Self::Missing => String::new(),
            Self::Invalid { reason, .. } => {
                format!("error=\"invalid_token\", error_description={}, ", quoted(reason))
            }
            Self::Unmapped { reason, .. } => {
                format!("error=\"insufficient_scope\", error_description={}, ", quoted(reason))
            }
            Self::LockedOut { .. } | Self::Unavailable { .. } => return None,
        };
        let scope =
            if scopes.is_empty() { String::new() } else { format!(", scope={}", quoted(scopes)) };
        Some(format!("Bearer {details}resource_metadata={}{scope}", quoted(metadata_url)))
    }
}

/// A quoted string of RFC 9110; characters that may not stand in a header become spaces.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            _ => out.push(' '),
        }
    }
    out.push('"');
    out
}

/// What the RFC 9728 document says besides the server's own address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProtectedResource {
    /// Issuers whose tokens are accepted; empty when tokens are handed out by the operator.
    pub authorization_servers: Vec<String>,
    /// Scopes that a token may carry.
    pub scopes: Vec<String>,
}

/// The answer to [`Authenticate::authenticate`].
pub type Verdict<'a> = Pin<Box<dyn Future<Output = Result<Principal, Denied>> + Send + 'a>>;

/// Decides who a caller is. Called for every HTTP request and for every message over TCP, so it
/// must be quick; it may wait for the network, hence the future.
pub trait Authenticate: Send + Sync + 'static {
    /// The principal behind `credentials`, or why there is none.
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Verdict<'a>;

    /// Content of `/.well-known/oauth-protected-resource`.
    fn protected_resource(&self) -> ProtectedResource {
        ProtectedResource::default()
    }
}

/// Lets everybody in as the owner of the data directory: stdio, and a loopback server that was
/// told to be open.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

impl Authenticate for Open {
    fn authenticate<'a>(&'a self, _credentials: Credentials<'a>) -> Verdict<'a> {
        Box::pin(std::future::ready(Ok(Principal::local_owner())))
    }
}

/// The token in an `Authorization` value; `None` unless the scheme is `Bearer`.
pub fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bearer_credentials_are_tokens() {
        assert_eq!(bearer_token("Bearer abc"), Some("abc"));
        assert_eq!(bearer_token("bearer  abc "), Some("abc"));
        assert_eq!(bearer_token("Basic abc"), None);
        assert_eq!(bearer_token("Bearer "), None);
        assert_eq!(bearer_token("abc"), None);
    }

    #[test]
    fn a_missing_credential_is_answered_without_an_error_code() {
        let header = Denied::Missing.www_authenticate("http://h/.well-known/x", "memory").unwrap();
        assert_eq!(header, "Bearer resource_metadata=\"http://h/.well-known/x\", scope=\"memory\"");
    }

    #[test]
    fn reasons_cannot_break_out_of_the_header() {
        let denied = Denied::Invalid { reason: "x\"\r\nSet-Cookie: a".to_owned(), who: None };
        let header = denied.www_authenticate("u", "").unwrap();
        assert!(!header.contains('\r') && !header.contains('\n'), "{header}");
        assert!(header.contains("\\\""), "{header}");
    }

    #[test]
    fn tokens_are_not_printed() {
        let shown =
            Credentials { token: Some("secret"), peer: None, transport: TransportKind::Http };
        assert!(!format!("{shown:?}").contains("secret"));
    }
}
