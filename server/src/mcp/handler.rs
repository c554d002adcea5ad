//! The server side of the protocol: rmcp's handler over the tool table.
//!
//! A fresh handler serves each request of the stateless protocol and each session of the older
//! one; what they share is in [`Shared`].

#![expect(
    deprecated,
    reason = "logging is deprecated in the current revision and required by the older one"
)]

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams,
    CompleteResult, GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel,
    LoggingMessageNotificationParam, PaginatedRequestParams, ProtocolVersion,
    ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig,
    SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool as McpTool,
    ToolAnnotations, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value, json};

use crate::access::{Principal, Role};
use crate::mcp::calls::{self, Control};
use crate::mcp::changes::{self, Session};
use crate::mcp::origin::Origin;
use crate::mcp::{Shared, prompts, resources};
use crate::tools::{self, Tool};

/// Lists change only with the server's version and the caller's token.
pub(crate) const LIST_TTL_MS: u64 = 60_000;

const INSTRUCTIONS: &str = "A lasting memory, shared between sessions and agents. Before you \
    start on something, ask memory_query what is known about it (or take a ready-made digest \
    from memory_context_pack). When you learn something that will matter again - a decision and \
    its reason, a fix, how a thing works, what a person prefers - store it with memory_upsert, \
    one thought an item. Say memory_use or memory_feedback when an item helped or misled. Scopes: \
    local is this project's own, committed is shared by its team, global is for everything; \
    project means committed and local.";

/// The table as the protocol shows it.
static ADVERTISED: LazyLock<Vec<McpTool>> =
    LazyLock::new(|| tools::all().iter().map(advertise).collect());

fn advertise(tool: &Tool) -> McpTool {
    let annotations = ToolAnnotations::from_raw(
        Some(tool.title.to_owned()),
        Some(tool.read_only),
        Some(tool.destructive),
        Some(tool.idempotent),
        Some(false),
    );
    let mut shown = McpTool::new(tool.name, tool.description, Arc::new((tool.input_schema)()));
    shown.title = Some(tool.title.to_owned());
    shown.output_schema = Some(Arc::new(without_descriptions((tool.output_schema)())));
    shown.annotations = Some(annotations);
    shown
}

/// Results explain themselves by their member names; prose about them would fill the context of
/// every agent that lists the tools. The reference pages have it.
fn without_descriptions(mut schema: Map<String, Value>) -> Map<String, Value> {
    // A member called `description` is an object here, not a text.
    if schema.get("description").is_some_and(Value::is_string) {
        schema.remove("description");
    }
    schema
        .into_iter()
        .map(|(key, value)| {
            let value = match value {
                Value::Object(inner) => Value::Object(without_descriptions(inner)),
                Value::Array(values) => values
                    .into_iter()
                    .map(|value| match value {
                        Value::Object(inner) => Value::Object(without_descriptions(inner)),
                        other => other,
                    })
                    .collect(),
                other => other,
            };
            (key, value)
        })
        .collect()
}

fn advertised(tool: &'static Tool) -> Option<&'static McpTool> {
    ADVERTISED.iter().find(|shown| shown.name == tool.name)
}

/// Whether `tools/list` shows `tool`: the small set to agents, everything to operators and
/// monitors. What the caller's roles allow can be called whether it is listed or not.
fn is_listed(principal: &Principal, tool: &Tool) -> bool {
    principal.has_any(tool.roles)
        && (tool.core || principal.has_any(&[Role::Operator, Role::Monitor]))
}

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
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        std::future::ready(()).await;
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
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        std::future::ready(()).await;
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
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        std::future::ready(()).await;
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
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        std::future::ready(()).await;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn holding(roles: &[Role]) -> Principal {
        Principal {
            roles: roles.iter().copied().collect::<BTreeSet<_>>(),
            ..Principal::local_owner()
        }
    }

    fn listed(roles: &[Role]) -> Vec<&'static str> {
        let principal = holding(roles);
        tools::all()
            .iter()
            .filter(|tool| is_listed(&principal, tool))
            .map(|tool| tool.name)
            .collect()
    }

    #[test]
    fn agents_see_the_small_set_and_operators_see_theirs() {
        let agent = listed(&[Role::Agent]);
        assert!(agent.contains(&"memory_query") && !agent.contains(&"memory_history"));
        assert!(!agent.iter().any(|name| name.starts_with("maintenance_")));
        let operator = listed(&[Role::Operator]);
        assert!(operator.contains(&"maintenance_compact"));
        assert!(!operator.contains(&"memory_upsert"));
        let admin = listed(&[Role::Admin]);
        assert_eq!(admin.len(), tools::all().len());
    }

    #[test]
    fn the_small_set_fits_a_small_context() {
        let core: Vec<&McpTool> =
            tools::all().iter().filter(|tool| tool.core).filter_map(advertised).collect();
        let bytes = serde_json::to_vec(&core).unwrap().len();
        assert!(bytes < 48_000, "{bytes} bytes for {} tools", core.len());
    }

    #[test]
    fn a_monitor_changes_nothing() {
        for name in listed(&[Role::Monitor]) {
            assert!(tools::find(name).unwrap().read_only, "{name}");
        }
    }

    #[test]
    fn every_tool_is_advertised_with_all_its_hints() {
        for tool in tools::all() {
            let shown = advertised(tool).unwrap();
            let hints = shown.annotations.as_ref().unwrap();
            assert!(hints.read_only_hint.is_some() && hints.destructive_hint.is_some());
            assert!(hints.idempotent_hint.is_some() && hints.open_world_hint == Some(false));
            assert!(shown.output_schema.is_some() && shown.title.is_some());
        }
    }
}
