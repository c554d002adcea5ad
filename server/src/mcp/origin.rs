//! Where a request came from: attached by the transports, read by the handler.

use std::net::SocketAddr;
use std::sync::Arc;

use llm_memory_engine::ids::ProjectId;
use rmcp::ErrorData;
use rmcp::model::Extensions;

use crate::access::Principal;
use crate::mcp::auth::TransportKind;

/// Header that names the project of all calls of a client that cannot pass it as an argument.
pub const PROJECT_HEADER: &str = "llm-memory-project";

/// The authenticated source of one request.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) principal: Arc<Principal>,
    pub(crate) transport: TransportKind,
    pub(crate) peer: Option<SocketAddr>,
    /// Project that the connection works in.
    pub(crate) project: Option<ProjectId>,
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
}
