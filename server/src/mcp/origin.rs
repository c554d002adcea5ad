//! Where a request came from: attached by the transports, read by the handler.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use llm_memory_engine::ids::{ProjectId, Timestamp};
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
        if self.transport == TransportKind::Stdio {
            return true;
        }
        let credentials = Credentials {
            token: self.token.as_ref().map(Token::as_str),
            peer: self.peer,
            transport: self.transport,
        };
        match authenticator.authenticate(credentials).await {
            Ok(principal) => principal == *self.principal,
            // Says nothing about this token: somebody else may have failed from its address.
            Err(Denied::LockedOut { .. }) => {
                self.principal.expires.is_none_or(|end| end > Timestamp::now())
            }
            // Neither does that nobody can be asked; but then whether the token still holds is not
            // known, and nothing is told on the strength of that.
            Err(_) => false,
        }
    }
}
