//! placeholder
use crate::mcp::changes::Watch;
use crate::mcp::handler::Handler;
use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::model::*;
use rmcp::service::RequestContext;
pub(crate) struct Fixtures;
impl Fixtures {
    pub(crate) fn new() -> Self {
        Self
    }
    pub(crate) fn tools(&self) -> Vec<Tool> {
        vec![]
    }
    pub(crate) fn resources(&self) -> Vec<Resource> {
        vec![]
    }
    pub(crate) fn templates(&self) -> Vec<ResourceTemplate> {
        vec![]
    }
    pub(crate) fn prompts(&self) -> Vec<Prompt> {
        vec![]
    }
    pub(crate) fn read(&self, _uri: &str) -> Option<ReadResourceResult> {
        None
    }
    pub(crate) fn watch(&self, _uri: &str) -> Option<Watch> {
        None
    }
    pub(crate) fn prompt(
        &self,
        _r: &GetPromptRequestParams,
    ) -> Option<Result<GetPromptResponse, ErrorData>> {
        None
    }
    pub(crate) async fn call(
        &self,
        _h: &Handler,
        _r: &CallToolRequestParams,
        _c: &RequestContext<RoleServer>,
    ) -> Option<Result<CallToolResponse, ErrorData>> {
        None
    }
}
