//! Where a request came from: attached by the transports, read by the handler.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use llm_memory_engine::ids::ProjectId;
use rmcp::ErrorData;
use rmcp::model::Extensions;

use crate::access::Principal;
use crate::mcp::auth::{Authenticate, Credentials, Denied, TransportKind};

/// Header that names the project of all calls of a client that cannot pass it as an argument.
pub const PROJECT_HEADER: &str = "llm-memory-project";

/// A bearer token that was shown, kept to ask again whether it still holds. Not printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(Arc<str>);

impl Token {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}

/// The authenticated source of one request.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) principal: Arc<Principal>,
    pub(crate) transport: TransportKind,
    pub(crate) peer: Option<SocketAddr>,
    /// Project that the connection works in.
    pub(crate) project: Option<ProjectId>,
    /// What the caller showed; `None` where nothing is needed.
    pub(crate) token: Option<Token>,
}

impl Origin {
    /// The project of calls that name none: the connection's, or as
    /// [`Principal::default_project`] says when it works in none.
    pub(crate) fn working_project(&self, own: Option<&ProjectId>) -> Option<ProjectId> {
        self.project.clone().or_else(|| self.principal.default_project(own))
    }

    /// The origin of the request with these extensions. Streamable HTTP wraps what its
    /// middleware attached into the request's parts.
    pub(crate) fn of(extensions: &Extensions) -> Result<&Self, ErrorData> {
        extensions
            .get::<Self>()
            .or_else(|| extensions.get::<http::request::Parts>()?.extensions.get())
            // Every transport authenticates before it hands a request on.
            .ok_or_else(|| {
                ErrorData::internal_error("request without an authenticated origin", None)
            })
    }

    /// Whether the caller would be let in again as who they were. What outlives its request asks
    /// before it tells them anything.
    pub(crate) async fn holds(&self, authenticator: &dyn Authenticate) -> bool {
        // That nobody can be asked about a token says nothing; but nothing is told on the strength
        // of that either.
        self.again(authenticator).await.unwrap_or(false)
    }

    /// The same, with the reason why they would not be let in.
    pub(crate) async fn again(&self, authenticator: &dyn Authenticate) -> Result<bool, Denied> {
        if self.transport == TransportKind::Stdio {
            return Ok(true);
        }
        let credentials = Credentials {
            token: self.token.as_ref().map(Token::as_str),
            // It is this server that asks: a token that has ended, as those of pods do every hour,
            // must not be counted against its address once for each thing watched.
            peer: None,
            transport: self.transport,
        };
        // A lockout keeps out no good token, so that one is answered says that this one is none.
        let principal = authenticator.authenticate(credentials).await?;
        Ok(principal == *self.principal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mcp::auth::Verdict;

    /// Says the same of everybody, and wants to count it against nobody.
    struct Says(Result<Principal, Denied>);

    impl Authenticate for Says {
        fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Verdict<'a> {
            assert_eq!(credentials.peer, None);
            Box::pin(std::future::ready(self.0.clone()))
        }
    }

    #[tokio::test]
    async fn only_who_would_be_let_in_again_as_the_same_is_told_anything() {
        let ada = Principal { subject: "ada".to_owned(), ..Principal::local_owner() };
        let origin = Origin {
            principal: Arc::new(ada.clone()),
            transport: TransportKind::Tcp,
            peer: Some(([10, 0, 0, 1], 9).into()),
            project: None,
            token: Some(Token::from("token")),
        };
        let retry_after = Duration::from_secs(1);
        let demoted = Principal { own_only: true, ..ada.clone() };
        assert!(origin.holds(&Says(Ok(ada))).await);
        for verdict in [
            Ok(demoted),
            Err(Denied::Missing),
            Err(Denied::LockedOut { retry_after }),
            Err(Denied::Unavailable { reason: "away".to_owned(), retry_after }),
            Err(Denied::Unmapped { reason: "no rule".to_owned(), who: "ada".to_owned() }),
        ] {
            assert!(!origin.holds(&Says(verdict.clone())).await, "{verdict:?}");
        }
    }
}
