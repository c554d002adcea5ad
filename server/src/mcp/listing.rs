//! The tool table as `tools/list` shows it.

use std::sync::{Arc, LazyLock};

use rmcp::model::{Tool as McpTool, ToolAnnotations};
use serde_json::{Map, Value};

use crate::access::{Principal, Role};
use crate::tools::{self, Tool};

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

/// `tool` as the protocol shows it.
pub(crate) fn advertised(tool: &'static Tool) -> Option<&'static McpTool> {
    ADVERTISED.iter().find(|shown| shown.name == tool.name)
}

/// Whether `tools/list` shows `tool`: the small set to agents, everything to operators and
/// monitors. What the caller's roles allow can be called whether it is listed or not.
pub(crate) fn is_listed(principal: &Principal, tool: &Tool) -> bool {
    principal.has_any(tool.roles)
        && (tool.core || principal.has_any(&[Role::Operator, Role::Monitor]))
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
