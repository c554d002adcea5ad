use std::collections::BTreeSet;

use super::*;

fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| walk(value, visit)),
        Value::Object(object) => {
            visit(object);
            object.values().for_each(|value| walk(value, visit));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn names_are_unique_and_fit_strict_clients() {
    let mut seen = BTreeSet::new();
    for tool in all() {
        assert!(seen.insert(tool.name) && seen.insert(tool.dotted), "{}", tool.name);
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(tool.name.len() <= 64 && tool.name.chars().all(fits), "{}", tool.name);
        assert_eq!(find(tool.name).unwrap().name, tool.name);
        assert_eq!(find(tool.dotted).unwrap().name, tool.name);
    }
    assert!(find("memory_nothing").is_none());
}

#[test]
fn agents_see_about_a_dozen_tools_and_none_for_operators() {
    let core: Vec<&Tool> = all().iter().filter(|tool| tool.core).collect();
    assert!((10..=15).contains(&core.len()), "{}", core.len());
    assert!(core.iter().all(|tool| tool.roles.contains(&Role::Agent)));
    for tool in all().iter().filter(|tool| tool.name.starts_with("maintenance_")) {
        assert!(!tool.roles.contains(&Role::Agent), "{}", tool.name);
    }
}

#[test]
fn what_reads_or_copies_items_is_for_agents_alone() {
    let holds_items =
        |tool: &&Tool| tool.name.starts_with("memory_") || tool.name.starts_with("project_sync_");
    for tool in all().iter().filter(holds_items) {
        assert_eq!(tool.roles, [Role::Agent], "{}", tool.name);
    }
}

#[test]
fn hints_do_not_contradict_each_other() {
    for tool in all() {
        assert!(!(tool.read_only && tool.destructive), "{}", tool.name);
        assert!(tool.description.len() > 20 && !tool.title.is_empty(), "{}", tool.name);
    }
}

#[test]
fn schemas_are_self_contained_objects() {
    for tool in all() {
        for schema in [(tool.input_schema)(), (tool.output_schema)()] {
            assert_eq!(schema.get("type").unwrap(), "object", "{}", tool.name);
            assert!(!schema.contains_key("$schema"), "{}", tool.name);
            walk(&Value::Object(schema), &mut |object| {
                assert!(!object.contains_key("$ref"), "{}", tool.name);
                assert!(!object.contains_key("$defs"), "{}", tool.name);
            });
        }
        let input = (tool.input_schema)();
        let project = input.get("properties").unwrap().get("project").unwrap();
        assert_eq!(project.get("x-mcp-header").unwrap(), schema::PROJECT_HEADER);
        assert_eq!(input.get("additionalProperties").unwrap(), false, "{}", tool.name);
    }
}

#[test]
fn input_schemas_never_offer_null() {
    for tool in all() {
        walk(&Value::Object((tool.input_schema)()), &mut |object| {
            let kinds = object.get("type").map(ToString::to_string).unwrap_or_default();
            assert!(!kinds.contains("null"), "{}: {object:?}", tool.name);
        });
    }
}

#[test]
fn every_input_property_is_described() {
    for tool in all() {
        let input = (tool.input_schema)();
        for (name, property) in input.get("properties").unwrap().as_object().unwrap() {
            assert!(property.get("description").is_some(), "{}.{name}", tool.name);
        }
    }
}
