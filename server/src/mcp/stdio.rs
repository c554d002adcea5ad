//! The protocol over standard input and output, and over any other pair of byte streams.

use std::sync::Arc;

use llm_memory_engine::ids::ProjectId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::access::Principal;
use crate::mcp::{McpService, lines};

/// Serves the process that started this one, until it closes our input or `cancel`. Nothing else
/// may write to standard output meanwhile.
pub async fn serve_stdio(service: McpService, cancel: CancellationToken) {
    let principal = Principal::local_owner();
    let project = service.shared.options.default_project.clone();
    serve_stream(service, tokio::io::stdin(), tokio::io::stdout(), principal, project, cancel)
        .await;
}

/// Serves whoever is at the other end of `reader` and `writer` as `principal`.
pub async fn serve_stream<R, W>(
    service: McpService,
    reader: R,
    writer: W,
    principal: Principal,
    project: Option<ProjectId>,
    cancel: CancellationToken,
) where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let source = lines::Source::Stdio { principal: Arc::new(principal), project };
    let streams = CancellationToken::new();
    lines::serve(&service.shared, reader, writer, source, cancel, &streams).await;
}
