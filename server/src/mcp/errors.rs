//! The one table from failures to what a client reads. Failures of a tool are results with
//! `isError`, so that the agent sees them; failures of the protocol are JSON-RPC errors.

use llm_memory_engine::EngineError;
use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ContentBlock, ErrorCode, MetaObject};
use serde_json::{Map, Value, json};

use crate::jobs::JobError;
use crate::mcp::gate::Busy;
use crate::tools::ToolError;

/// Key of `_meta` under which a failed result carries its machine-readable form:
/// `{code, message, remedy?, field?, retryAfterMs?}`.
pub const ERROR_META: &str = "llm-memory.dev/error";

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(
        "busy: {} calls are waiting, try again in {} ms", .0.waiting, .0.retry_after_ms
    )]
    Busy(Busy),
    #[error("the call was cancelled before it began")]
    Cancelled,
    #[error("the call ended without an answer: {0}")]
    Lost(String),
}

impl Failure {
    /// A stable word for logs, metrics and the wire.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Tool(error) => error.code(),
            Self::Busy(_) => "busy",
            Self::Cancelled => "cancelled",
            Self::Lost(_) => "internal",
        }
    }

    /// The argument that was not acceptable.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::Tool(
                ToolError::Arguments { field, .. }
                | ToolError::Engine(EngineError::Invalid { field, .. }),
            ) => Some(field),
            Self::Tool(ToolError::Job(JobError::Invalid { field, .. })) => Some(field),
            _ => None,
        }
    }

    pub(crate) const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Busy(busy) => Some(busy.retry_after_ms),
            Self::Tool(
                ToolError::Engine(EngineError::Busy { retry_after_ms, .. })
                | ToolError::Job(JobError::Busy { retry_after_ms, .. }),
            ) => Some(*retry_after_ms),
            _ => None,
        }
    }

    /// What the caller can do about it.
    fn remedy(&self) -> Option<&'static str> {
        if let Self::Tool(ToolError::Job(error)) = self {
            return Some(error.remedy());
        }
        Some(match self.code() {
            "invalid_argument" => "correct the argument and call again",
            "not_found" => "look for it with memory_query or memory_list; ids are case-sensitive",
            "version_conflict" => "read the item again, apply the change to it, and repeat",
            "forbidden" => "ask an operator for a token that allows this",
            "busy" => "wait and call again; nothing was changed",
            "no_space" => "an operator has to free or add disk space; reads still work",
            "read_only" => "reads still work; an operator can see the reason in the health report",
            "scope_unavailable" => {
                "other scopes work; an operator should look at the health report"
            }
            "unsettled" => "do not repeat it: read the item first, the write is in the journal",
            "corrupt" => {
                "an operator should run journal_verify: maintenance_rebuild mends catalog and \
                 index, contents come back from a backup alone"
            }
            "disk_failure" => "an operator should look at the server's log and the volume",
            "shutting_down" => "call again when the server is back",
            _ => return None,
        })
    }

    pub(crate) fn describe(&self) -> Value {
        let mut out = Map::new();
        out.insert("code".to_owned(), self.code().into());
        out.insert("message".to_owned(), self.to_string().into());
        if let Some(remedy) = self.remedy() {
            out.insert("remedy".to_owned(), remedy.into());
        }
        if let Some(field) = self.field() {
            out.insert("field".to_owned(), field.into());
        }
        if let Some(retry) = self.retry_after_ms() {
            out.insert("retryAfterMs".to_owned(), retry.into());
        }
        Value::Object(out)
    }

    /// As the result of a tool call.
    pub(crate) fn into_result(self) -> CallToolResult {
        let text = match self.remedy() {
            Some(remedy) => format!("{self}. To mend it: {remedy}."),
            None => self.to_string(),
        };
        let mut meta = MetaObject::new();
        meta.insert(ERROR_META.to_owned(), self.describe());
        CallToolResult::error(vec![ContentBlock::text(text)]).with_meta(Some(meta))
    }

    /// As the answer to reading a resource. Newer sessions get the code of their revision from
    /// rmcp.
    pub(crate) fn into_resource_error(self) -> ErrorData {
        let missing = self.code() == "not_found";
        let mut error = self.into_error();
        if missing {
            error.code = ErrorCode::RESOURCE_NOT_FOUND;
        }
        error
    }

    /// As the answer to something that has no error form of its own, such as a prompt.
    pub(crate) fn into_error(self) -> ErrorData {
        let code = match self.code() {
            "invalid_argument" | "not_found" => ErrorCode::INVALID_PARAMS,
            "forbidden" => ErrorCode::INVALID_REQUEST,
            _ => ErrorCode::INTERNAL_ERROR,
        };
        let data = json!({ ERROR_META: self.describe() });
        ErrorData::new(code, self.to_string(), Some(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_says_when_to_come_back() {
        let result = Failure::Busy(Busy { waiting: 7, retry_after_ms: 250 }).into_result();
        assert_eq!(result.is_error, Some(true));
        assert!(result.structured_content.is_none(), "clients check it against the output schema");
        let meta = serde_json::to_value(&result).unwrap();
        assert_eq!(meta["_meta"][ERROR_META]["retryAfterMs"], 250);
        assert_eq!(meta["_meta"][ERROR_META]["code"], "busy");
    }

    #[test]
    fn argument_errors_carry_the_field() {
        let failure = Failure::Tool(ToolError::Arguments {
            field: "operations[2].old".to_owned(),
            reason: "is required".to_owned(),
        });
        let value = serde_json::to_value(failure.into_result()).unwrap();
        assert_eq!(value["_meta"][ERROR_META]["field"], "operations[2].old");
        let text = value["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("operations[2].old: is required"), "{text}");
    }
}
