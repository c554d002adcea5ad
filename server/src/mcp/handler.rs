//! The server side of the protocol: rmcp's handler over the tool table.
//!
//! A fresh handler serves each request of the stateless protocol and each session of the older
//! one; what they share is in [`Shared`].

#![expect(
    deprecated,
    reason = "logging is deprecated in the current revision and required by the older one"
)]

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams,
    CompleteResult, CustomRequest, CustomResult, GetPromptRequestParams, GetPromptResponse,
    Implementation, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, LoggingLevel, LoggingMessageNotificationParam, PaginatedRequestParams,
    ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter,
    Tool as McpTool, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};

use crate::mcp::calls::{self, Control};
use crate::mcp::changes::{self, Session};
use crate::mcp::listing::{advertised, is_listed};
use crate::mcp::origin::Origin;
use crate::mcp::{Shared, malformed, prompts, resources};
use crate::tools;

/// Lists change only with the server's version and the caller's token.
pub(crate) const LIST_TTL_MS: u64 = 60_000;

const INSTRUCTIONS: &str = "A lasting memory, shared between sessions and agents. Before you \
    start on something, ask memory_query what is known about it (or take a ready-made digest \
    from memory_context_pack). When you learn something that will matter again - a decision and \
    its reason, a fix, how a thing works, what a person prefers - store it with memory_upsert, \
    one thought an item. Say memory_use or memory_feedback when an item helped or misled. Scopes: \
    local is this project's own, committed is shared by its team, global is for everything; \
    project means committed and local.";

/// Serves one request or one session.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Session>,
}

impl Handler {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, session: Session::new() }
    }

    /// Sends a log message if the client asked for that level: once a session in the older
    /// protocol, with each request in the newer.
    pub(crate) async fn log(
        &self,
        context: &RequestContext<RoleServer>,
        level: LoggingLevel,
        data: Value,
    ) {
        let version = context.protocol_version();
        let stateless = version.is_some_and(|version| !version.has_initialize());
        let wanted = if stateless {
            context.meta.log_level()
        } else {
            // Until a session says otherwise the server decides.
            Some(self.session.level().unwrap_or(LoggingLevel::Info))
        };
        if wanted.is_some_and(|wanted| severity(level) >= severity(wanted)) {
            let mut note = LoggingMessageNotificationParam::new(level, data);
            note.logger = Some("llm-memory".to_owned());
            // A log message that does not arrive must not fail the call.
            let _ = context.peer.notify_logging_message(note).await;
        }
    }

    fn unknown_tool(name: &str) -> ErrorData {
        let near = tools::all()
            .iter()
            .map(|tool| (strsim::damerau_levenshtein(tool.name, name), tool.name))
            .filter(|(distance, _)| *distance <= 3)
            .min();
        let message = match near {
            Some((_, near)) => format!("unknown tool {name:?}: did you mean {near}?"),
            None => format!("unknown tool {name:?}: tools/list names those there are"),
        };
        ErrorData::invalid_params(message, None)
    }

    /// What has to change for `uri` to change, as far as `origin` may see it.
    fn watch(&self, uri: &str, origin: &Origin) -> Option<changes::Watch> {
        let fixture = self.shared.fixtures.as_ref().and_then(|all| all.watch(uri));
        let project = self.shared.options.default_project.as_ref();
        fixture.or_else(|| resources::watch(uri, origin, project))
    }
}

const fn severity(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let changing = self.shared.fixtures.is_some();
        let mut capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_prompts()
            .enable_completions()
            .build();
        capabilities.logging = Some(serde_json::Map::new());
        if let Some(tools) = &mut capabilities.tools {
            tools.list_changed = Some(changing);
        }
        if let Some(prompts) = &mut capabilities.prompts {
            prompts.list_changed = Some(changing);
        }
        let mut info = ServerConfig::new(capabilities);
        info.protocol_version = ProtocolVersion::V_2025_11_25;
        info.server_info = Implementation::new("llm-memory", env!("CARGO_PKG_VERSION"))
            .with_title("llm-memory")
            .with_description("A durable memory for agents");
        info.instructions = Some(INSTRUCTIONS.to_owned());
        info
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        std::future::ready(()).await;
        malformed::no_cursor(request.as_ref())?;
        let origin = Origin::of(&context.extensions)?;
        let mut listed: Vec<McpTool> = tools::all()
            .iter()
            .filter(|tool| is_listed(&origin.principal, tool))
            .filter_map(|tool| advertised(tool).cloned())
            .collect();
        if let Some(fixtures) = &self.shared.fixtures {
            listed.extend(fixtures.tools());
        }
        Ok(ListToolsResult::with_all_items(listed)
            .with_ttl_ms(LIST_TTL_MS)
            .with_cache_scope(CacheScope::Private))
    }

    fn get_tool(&self, name: &str) -> Option<McpTool> {
        match tools::find(name) {
            Some(tool) => advertised(tool).cloned(),
            None => {
                let fixtures = self.shared.fixtures.as_ref()?;
                fixtures.tools().into_iter().find(|tool| tool.name == name)
            }
        }
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let origin = Origin::of(&context.extensions)?.clone();
        let Some(tool) = tools::find(&request.name) else {
            if let Some(fixtures) = &self.shared.fixtures
                && let Some(answer) = fixtures.call(self, &request, &context).await
            {
                return answer;
            }
            return Err(Self::unknown_tool(&request.name));
        };
        let arguments = request.arguments.unwrap_or_default();
        let control = Control::of(&context);
        let outcome =
            calls::run(&self.shared, &origin, control, tool, &request.name, arguments).await;
        let result = match outcome {
            Ok(value) => {
                if let Some(warnings) = value.get("warnings").filter(|list| list.is_array()) {
                    let data = json!({"tool": tool.name, "warnings": warnings});
                    self.log(&context, LoggingLevel::Warning, data).await;
                }
                CallToolResult::structured(value)
            }
            Err(failure) => failure.into_result(),
        };
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        std::future::ready(()).await;
        malformed::no_cursor(request.as_ref())?;
        let mut listed = resources::list();
        if let Some(fixtures) = &self.shared.fixtures {
            listed.extend(fixtures.resources());
        }
        Ok(ListResourcesResult::with_all_items(listed)
            .with_ttl_ms(LIST_TTL_MS)
            .with_cache_scope(CacheScope::Private))
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        std::future::ready(()).await;
        malformed::no_cursor(request.as_ref())?;
        let mut listed = resources::templates();
        if let Some(fixtures) = &self.shared.fixtures {
            listed.extend(fixtures.templates());
        }
        Ok(ListResourceTemplatesResult::with_all_items(listed)
            .with_ttl_ms(LIST_TTL_MS)
            .with_cache_scope(CacheScope::Private))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let origin = Origin::of(&context.extensions)?.clone();
        if let Some(fixtures) = &self.shared.fixtures
            && let Some(contents) = fixtures.read(&request.uri)
        {
            return Ok(contents.into());
        }
        let read = resources::read(&self.shared, &origin, &context, &request.uri).await?;
        // Memories change with any write: whoever caches them has to ask again.
        Ok(read.with_ttl_ms(0).with_cache_scope(CacheScope::Private).into())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        let mut accepted = requested.clone();
        if let Some(uris) = &mut accepted.resource_subscriptions {
            let fixtures = self.shared.fixtures.as_ref();
            // `listen` says why there are none.
            if uris.len() > changes::MAX_WATCHES {
                uris.clear();
            }
            uris.retain(|uri| {
                resources::can_change(uri) || fixtures.is_some_and(|all| all.watch(uri).is_some())
            });
        }
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let origin = Origin::of(&context.request_context().extensions)?.clone();
        let asked = context.requested().resource_subscriptions.as_ref().map_or(0, Vec::len);
        if asked > changes::MAX_WATCHES {
            let reason = format!(
                "a subscription may name {} resources; this one named {asked}",
                changes::MAX_WATCHES
            );
            return Err(ErrorData::invalid_params(reason, None));
        }
        let accepted = context.accepted().resource_subscriptions.clone().unwrap_or_default();
        let watches = accepted
            .into_iter()
            .filter_map(|uri| Some((uri.clone(), self.watch(&uri, &origin)?)))
            .collect();
        changes::listen(&self.shared, &context, &origin, watches).await;
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        std::future::ready(()).await;
        let origin = Origin::of(&context.extensions)?;
        let Some(watch) = self.watch(&request.uri, origin) else {
            return Err(ErrorData::resource_not_found(
                format!("{} cannot be watched", request.uri),
                None,
            ));
        };
        let subscribed =
            self.session.subscribe(&self.shared, origin, &context.peer, request.uri, watch);
        if subscribed {
            Ok(())
        } else {
            Err(ErrorData::invalid_request("this session watches too many resources", None))
        }
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        std::future::ready(()).await;
        self.session.unsubscribe(&request.uri);
        Ok(())
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        std::future::ready(()).await;
        malformed::no_cursor(request.as_ref())?;
        let mut listed = prompts::list();
        if let Some(fixtures) = &self.shared.fixtures {
            listed.extend(fixtures.prompts());
        }
        Ok(ListPromptsResult::with_all_items(listed)
            .with_ttl_ms(LIST_TTL_MS)
            .with_cache_scope(CacheScope::Private))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let origin = Origin::of(&context.extensions)?.clone();
        if let Some(fixtures) = &self.shared.fixtures
            && let Some(answer) = fixtures.prompt(&request)
        {
            return answer;
        }
        prompts::get(&self.shared, &origin, &context, request).await.map(Into::into)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        std::future::ready(()).await;
        let origin = Origin::of(&context.extensions)?;
        Ok(resources::complete(origin, &request))
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        std::future::ready(()).await;
        Err(malformed::answer(&request))
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        std::future::ready(()).await;
        self.session.set_level(request.level);
        Ok(())
    }
}
