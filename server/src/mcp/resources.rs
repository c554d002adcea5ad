//! Resources: memories under an address, for clients that attach context by themselves and for
//! live subscriptions.
//!
//! | URI | content |
//! | --- | --- |
//! | `kb://project/info{?project}` | the project, and its ten newest items |
//! | `kb://context/pack{?q,scope,k,maxChars,tokenBudget,...}` | what `memory_context_pack` answers |
//! | `kb://item/{id}{?scope,project}` | one item |
//! | `kb://health` | name, version, and what each scope holds |

use std::sync::Arc;

use llm_memory_engine::EngineError;
use llm_memory_engine::ids::{ItemId, ProjectId, Scope, ScopeSelector};
use llm_memory_engine::item::Sensitivity;
use rmcp::model::{
    CompleteRequestParams, CompleteResult, CompletionInfo, ReadResourceResult, Reference, Resource,
    ResourceContents, ResourceTemplate,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Map, Value, json};

use crate::access::Role;
use crate::mcp::Shared;
use crate::mcp::calls::{self, Control};
use crate::mcp::changes::Watch;
use crate::mcp::errors::Failure;
use crate::mcp::gate::Guest;
use crate::mcp::origin::Origin;
use crate::tools;

const JSON: &str = "application/json";
const PROJECT_INFO: &str = "kb://project/info";
const CONTEXT_PACK: &str = "kb://context/pack";
const HEALTH: &str = "kb://health";
const ITEM: &str = "kb://item/";
/// Arguments of the pack that the URI spells as a list, with commas.
const LISTS: [&str; 2] = ["snippetLanguages", "snippetFilePatterns"];
const NUMBERS: [&str; 3] = ["k", "maxChars", "tokenBudget"];

pub(crate) fn list() -> Vec<Resource> {
    vec![
        Resource::new(PROJECT_INFO, "project-info")
            .with_title("Project and its newest memories")
            .with_description("What the project is, and its ten newest items.")
            .with_mime_type(JSON),
        Resource::new(HEALTH, "health")
            .with_title("Health")
            .with_description("Name, version, and what each scope holds.")
            .with_mime_type(JSON),
    ]
}

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(
            format!(
                "{CONTEXT_PACK}{{?q,scope,project,k,maxChars,tokenBudget,snippetLanguages,\
                 snippetFilePatterns,asOf}}"
            ),
            "context-pack",
        )
        .with_title("Context pack")
        .with_description("A digest of the memories that matter for q, within a budget.")
        .with_mime_type(JSON),
        ResourceTemplate::new(format!("{ITEM}{{id}}{{?scope,project,asOf}}"), "item")
            .with_title("One memory")
            .with_description("One item; subscribe to it to learn of every change.")
            .with_mime_type(JSON),
        ResourceTemplate::new(format!("{PROJECT_INFO}{{?project}}"), "project-info-of")
            .with_title("A project and its newest memories")
            .with_description("The same as kb://project/info for a project by name.")
            .with_mime_type(JSON),
    ]
}

/// What a URI names.
#[derive(Debug, Clone, PartialEq)]
enum Address {
    ProjectInfo { project: Option<String> },
    ContextPack { arguments: Map<String, Value> },
    Item { arguments: Map<String, Value> },
    Health,
}

/// Why a URI is not an address.
#[derive(Debug, Clone, PartialEq, Eq)]
enum BadAddress {
    Unknown,
    Parameter { name: String, reason: &'static str },
}

fn address(uri: &str) -> Result<Address, BadAddress> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let pairs = form_urlencoded::parse(query.as_bytes());
    let parameters: Vec<(String, String)> =
        pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    match path {
        HEALTH => Ok(Address::Health),
        PROJECT_INFO => {
            let mut project = None;
            for (name, value) in parameters {
                match name.as_str() {
                    "project" => project = Some(value),
                    _ => return Err(unknown_parameter(name)),
                }
            }
            Ok(Address::ProjectInfo { project })
        }
        CONTEXT_PACK => Ok(Address::ContextPack { arguments: pack_arguments(parameters)? }),
        _ => {
            let id = path.strip_prefix(ITEM).ok_or(BadAddress::Unknown)?;
            let id = decode(id).ok_or(BadAddress::Unknown)?;
            let mut arguments = Map::new();
            arguments.insert("id".to_owned(), id.into());
            for (name, value) in parameters {
                match name.as_str() {
                    "scope" | "project" | "asOf" => arguments.insert(name, value.into()),
                    _ => return Err(unknown_parameter(name)),
                };
            }
            Ok(Address::Item { arguments })
        }
    }
}

fn unknown_parameter(name: String) -> BadAddress {
    BadAddress::Parameter { name, reason: "is not a parameter of this resource" }
}

fn pack_arguments(parameters: Vec<(String, String)>) -> Result<Map<String, Value>, BadAddress> {
    let mut arguments = Map::new();
    for (name, value) in parameters {
        // An empty value is how an expanded template spells "left out".
        if value.is_empty() {
            continue;
        }
        let value = if NUMBERS.contains(&name.as_str()) {
            match value.parse::<u64>() {
                Ok(number) => number.into(),
                Err(_) => {
                    return Err(BadAddress::Parameter { name, reason: "must be a whole number" });
                }
            }
        } else if LISTS.contains(&name.as_str()) {
            value.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect()
        } else {
            Value::String(value)
        };
        arguments.insert(name, value);
    }
    Ok(arguments)
}

/// Percent-decodes a path segment (where, unlike in a query, `+` is a plus).
fn decode(text: &str) -> Option<String> {
    let plus_kept = text.replace('+', "%2B");
    let (name, _) = form_urlencoded::parse(plus_kept.as_bytes()).next()?;
    // `=` and `&` cut a pair; in a path they are written as %3D and %26.
    (!text.contains(['=', '&'])).then(|| name.into_owned())
}

pub(crate) async fn read(
    shared: &Arc<Shared>,
    origin: &Origin,
    context: &RequestContext<RoleServer>,
    uri: &str,
) -> Result<ReadResourceResult, ErrorData> {
    let content = match address(uri) {
        Ok(Address::Health) => health(shared, origin).await?,
        Ok(Address::ProjectInfo { project }) => {
            project_info(shared, origin, context, uri, project).await?
        }
        Ok(Address::ContextPack { arguments }) => {
            tool(shared, origin, context, uri, "memory_context_pack", arguments).await?
        }
        Ok(Address::Item { arguments }) => {
            tool(shared, origin, context, uri, "memory_get", arguments).await?
        }
        Err(BadAddress::Unknown) => {
            return Err(ErrorData::resource_not_found(
                format!("no resource {uri}"),
                Some(json!({"uri": uri})),
            ));
        }
        Err(BadAddress::Parameter { name, reason }) => {
            return Err(ErrorData::invalid_params(format!("{name}: {reason}"), None));
        }
    };
    let contents = ResourceContents::text(content.to_string(), uri).with_mime_type(JSON);
    Ok(ReadResourceResult::new(vec![contents]))
}

async fn tool(
    shared: &Arc<Shared>,
    origin: &Origin,
    context: &RequestContext<RoleServer>,
    uri: &str,
    tool: &str,
    arguments: Map<String, Value>,
) -> Result<Value, ErrorData> {
    let Some(tool) = tools::find(tool) else {
        return Err(ErrorData::resource_not_found(format!("no resource {uri}"), None));
    };
    calls::run(shared, origin, Control::of(context), tool, uri, arguments)
        .await
        .map_err(Failure::into_resource_error)
}

async fn project_info(
    shared: &Arc<Shared>,
    origin: &Origin,
    context: &RequestContext<RoleServer>,
    uri: &str,
    project: Option<String>,
) -> Result<Value, ErrorData> {
    let mut arguments = Map::new();
    if let Some(project) = project {
        arguments.insert("project".to_owned(), project.into());
    }
    let about = tool(shared, origin, context, uri, "project_info", arguments.clone()).await?;
    arguments.insert("limit".to_owned(), 10.into());
    let recent = tool(shared, origin, context, uri, "memory_list", arguments).await?;
    let recent = recent.get("items").cloned().unwrap_or_default();
    Ok(json!({"project": about, "recent": recent}))
}

/// What each scope holds is the operator's to see; everybody else learns that the server lives.
async fn health(shared: &Arc<Shared>, origin: &Origin) -> Result<Value, ErrorData> {
    let mut out = json!({"name": "llm-memory", "version": env!("CARGO_PKG_VERSION")});
    if origin.principal.has_any(&[Role::Operator, Role::Monitor]) {
        let caller = origin.principal.caller(None).map_err(|reason| {
            Failure::Tool(EngineError::Forbidden { reason }.into()).into_error()
        })?;
        let permit = shared
            .gate
            .enter(Guest::of(origin))
            .await
            .map_err(|busy| Failure::Busy(busy).into_error())?;
        let engine = Arc::clone(&shared.engine);
        let scopes = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            engine.status_for(&caller)
        })
        .await
        .map_err(|error| Failure::Lost(error.to_string()).into_error())?;
        let described = scopes
            .map_err(|error| Failure::Tool(error.into()).into_error())
            .map(|scopes| json!(scopes))?;
        if let Some(out) = out.as_object_mut() {
            out.insert("scopes".to_owned(), described);
        }
    }
    Ok(out)
}

/// Whether `uri` names something that changes with the memories.
pub(crate) fn can_change(uri: &str) -> bool {
    address(uri).is_ok_and(|address| address != Address::Health)
}

/// What has to change for `uri` to change, as far as `origin` may see it. `None` when it cannot
/// be watched. `default_project` is the server's own, for connections that work in none.
pub(crate) fn watch(
    uri: &str,
    origin: &Origin,
    default_project: Option<&ProjectId>,
) -> Option<Watch> {
    let text = |arguments: &Map<String, Value>, name: &str| {
        arguments.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    let (project, selector, id) = match address(uri).ok()? {
        Address::Health => return None,
        Address::ProjectInfo { project } => (project, ScopeSelector::Project, None),
        Address::ContextPack { arguments } => {
            let scope = text(&arguments, "scope").unwrap_or_default();
            (text(&arguments, "project"), scope.parse().unwrap_or_default(), None)
        }
        Address::Item { arguments } => {
            let selector = match text(&arguments, "scope") {
                Some(scope) => scope.parse().ok()?,
                None => ScopeSelector::All,
            };
            let id = ItemId::new(text(&arguments, "id")?).ok()?;
            (text(&arguments, "project"), selector, Some(id))
        }
    };
    let project = match project {
        Some(name) => Some(ProjectId::new(name).ok()?),
        None => origin.working_project(default_project),
    };
    let caller = origin.principal.caller(project).ok()?;
    // Whoever sees only their own items must not learn when others write; nor whoever may not read
    // items at all, or not such as the one asked for may be.
    if caller.own_only
        || !origin.principal.has_any(&[Role::Agent])
        || (id.is_some() && caller.clearance < Sensitivity::Private)
    {
        return None;
    }
    let scopes: Vec<Scope> =
        selector.scopes().iter().copied().filter(|scope| caller.read.contains(*scope)).collect();
    Some(Watch { tenant: caller.tenant, project: caller.project, scopes, id })
}

/// Completes the arguments whose values are few.
pub(crate) fn complete(origin: &Origin, request: &CompleteRequestParams) -> CompleteResult {
    let known: Vec<String> = match (&request.r#ref, request.argument.name.as_str()) {
        (Reference::Resource(_), "scope") => {
            ["global", "local", "committed", "project", "all"].map(str::to_owned).to_vec()
        }
        (Reference::Resource(_), "project") => {
            let allowed = origin.principal.projects.iter().flatten();
            let own = origin.project.iter();
            let names: std::collections::BTreeSet<&str> =
                allowed.chain(own).map(ProjectId::as_str).collect();
            names.into_iter().map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let values: Vec<String> = known
        .into_iter()
        .filter(|value| value.starts_with(&request.argument.value))
        .take(CompletionInfo::MAX_VALUES)
        .collect();
    CompletionInfo::with_all_values(values).map(CompleteResult::new).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Principal;
    use crate::mcp::auth::TransportKind;

    fn origin(principal: Principal) -> Origin {
        Origin {
            principal: Arc::new(principal),
            transport: TransportKind::Http,
            peer: None,
            project: Some(ProjectId::new("home").unwrap()),
            token: None,
        }
    }

    #[test]
    fn a_pack_address_becomes_the_arguments_of_the_tool() {
        let Ok(Address::ContextPack { arguments }) =
            address("kb://context/pack?q=two%20words+more&k=5&scope=&snippetLanguages=rust,%20go")
        else {
            panic!()
        };
        assert_eq!(
            Value::Object(arguments),
            json!({"q": "two words more", "k": 5, "snippetLanguages": ["rust", "go"]})
        );
    }

    #[test]
    fn an_item_address_may_hold_any_id() {
        let Ok(Address::Item { arguments }) = address("kb://item/a%2Fb%3D+c?scope=local") else {
            panic!()
        };
        assert_eq!(Value::Object(arguments), json!({"id": "a/b=+c", "scope": "local"}));
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        assert_eq!(address("kb://nothing"), Err(BadAddress::Unknown));
        assert_eq!(address("file:///etc/passwd"), Err(BadAddress::Unknown));
        assert!(matches!(address("kb://context/pack?k=x"), Err(BadAddress::Parameter { .. })));
        assert!(matches!(address("kb://item/a?zz=1"), Err(BadAddress::Parameter { .. })));
        assert!(can_change("kb://item/a") && can_change("kb://project/info"));
        assert!(!can_change("kb://health") && !can_change("kb://nothing"));
    }

    #[test]
    fn a_watch_is_no_wider_than_the_token() {
        let everything =
            watch("kb://context/pack?scope=all", &origin(Principal::local_owner()), None);
        assert_eq!(everything.unwrap().scopes.len(), 3);
        let reader = Principal {
            read: llm_memory_engine::api::ScopeSet::of([Scope::Global]),
            ..Principal::local_owner()
        };
        let narrow = watch("kb://context/pack?scope=all", &origin(reader.clone()), None).unwrap();
        assert_eq!(narrow.scopes, [Scope::Global]);
        let only = Principal { own_only: true, ..reader.clone() };
        assert_eq!(watch("kb://project/info", &origin(only), None), None);
        let elsewhere =
            Principal { projects: Some([ProjectId::new("other").unwrap()].into()), ..reader };
        assert_eq!(watch("kb://project/info?project=home", &origin(elsewhere), None), None);
    }

    #[test]
    fn what_may_not_be_read_is_not_watched() {
        let owner = Principal::local_owner();
        let watched = |uri: &str, principal: &Principal| {
            watch(uri, &origin(principal.clone()), None).is_some()
        };
        let monitor = Principal { roles: [Role::Monitor, Role::Operator].into(), ..owner.clone() };
        for uri in ["kb://item/1", "kb://project/info", "kb://context/pack"] {
            assert!(watched(uri, &owner) && !watched(uri, &monitor), "{uri}");
        }
        let agent = Principal { roles: [Role::Agent].into(), ..owner };
        let team = Principal { clearance: Sensitivity::Team, ..agent.clone() };
        assert!(watched("kb://item/1", &agent) && !watched("kb://item/1", &team));
        assert!(watched("kb://project/info", &team));
    }

    #[test]
    fn a_connection_without_a_project_watches_that_of_the_server() {
        let nowhere = Origin { project: None, ..origin(Principal::local_owner()) };
        let own = ProjectId::new("own").unwrap();
        let seen = watch("kb://item/1", &nowhere, Some(&own)).unwrap();
        assert_eq!(seen.project, Some(own));
    }
}
