//! From JSON to [`ScopeConfig`] and back, along the table of settings.

use std::fmt;

use serde_json::{Map, Value, json};

use super::ScopeConfig;
use super::settings::{Kind, RETIRED, SETTINGS, Setting};

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key as written, joined by dots; empty for the document itself.
    pub path: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Never empty; in the order of the document.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            if problem.path.is_empty() {
                f.write_str(&problem.reason)?;
            } else {
                write!(f, "{}: {}", problem.path, problem.reason)?;
            }
        }
        Ok(())
    }
}

pub(super) fn parse_text(text: &str) -> Result<ScopeConfig, ConfigError> {
    let value = serde_json::from_str(text).map_err(|error| ConfigError {
        problems: vec![Problem { path: String::new(), reason: format!("not JSON: {error}") }],
    })?;
    parse_value(&value)
}

pub(super) fn parse_value(value: &Value) -> Result<ScopeConfig, ConfigError> {
    let mut reader = Reader { config: ScopeConfig::default(), problems: Vec::new() };
    if let Value::Object(object) = value {
        reader.object("", "", object);
    } else {
        reader.problem("", format!("expected a JSON object, found {}", kind_of(value)));
    }
    if reader.problems.is_empty() {
        Ok(reader.config)
    } else {
        Err(ConfigError { problems: reader.problems })
    }
}

struct Reader {
    config: ScopeConfig,
    problems: Vec<Problem>,
}

impl Reader {
    fn problem(&mut self, path: &str, reason: String) {
        self.problems.push(Problem { path: path.to_owned(), reason });
    }

    /// Reads the object at `path`, which the document spells `written`.
    fn object(&mut self, path: &str, written: &str, object: &Map<String, Value>) {
        let mut seen: Vec<String> = Vec::new();
        for (key, value) in object {
            let canonical = camel_case(key);
            let path = join(path, &canonical);
            let written = join(written, key);
            if seen.contains(&canonical) {
                self.problem(
                    &written,
                    format!("given twice, as {canonical} in two spellings: keep one of them"),
                );
                continue;
            }
            seen.push(canonical);
            if RETIRED.contains(&path.as_str()) {
                continue;
            }
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.path == path) {
                match check(setting.kind, value) {
                    Ok(()) => (setting.set)(&mut self.config, value),
                    Err(reason) => self.problem(&written, reason),
                }
            } else if children(&path).next().is_some() {
                match value {
                    Value::Object(object) => self.object(&path, &written, object),
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_) => self
                        .problem(&written, format!("expected an object, found {}", kind_of(value))),
                }
            } else {
                let reason = unknown_key(&path);
                self.problem(&written, reason);
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Settings below the group at `path`.
fn children(path: &str) -> impl Iterator<Item = &'static Setting> {
    let prefix = format!("{path}.");
    SETTINGS.iter().filter(move |setting| setting.path.starts_with(&prefix))
}

/// `query_cache_size` as `queryCacheSize`; a key without underscores is left alone.
fn camel_case(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    let mut raise = false;
    for character in key.chars() {
        if character == '_' && !out.is_empty() {
            raise = true;
        } else if raise {
            out.extend(character.to_uppercase());
            raise = false;
        } else {
            out.push(character);
        }
    }
    out
}

fn unknown_key(path: &str) -> String {
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut siblings: Vec<&str> = Vec::new();
    for setting in SETTINGS {
        let rest = if parent.is_empty() {
            Some(setting.path)
        } else {
            setting.path.strip_prefix(parent).and_then(|rest| rest.strip_prefix('.'))
        };
        let name = rest.and_then(|rest| rest.split('.').next());
        if let Some(name) = name
            && !siblings.contains(&name)
        {
            siblings.push(name);
        }
    }
    // A key in the wrong group is as likely as a misspelt one: look for its name everywhere.
    let elsewhere = SETTINGS
        .iter()
        .map(|setting| setting.path)
        .find(|path| path.rsplit('.').next() == Some(key));
    if let Some(sibling) = closest(key, siblings.iter().copied()) {
        format!("unknown key; did you mean {}?", join(parent, sibling))
    } else if let Some(path) = elsewhere {
        format!("unknown key; did you mean {path}?")
    } else {
        format!("unknown key; known here are {}", siblings.join(", "))
    }
}

/// The candidate nearest to `word`, if any is near enough to be meant.
fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| {
            (edit_distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate)
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for ((to, above_left), above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(i + 1);
            let substitution = above_left + usize::from(from != *to);
            next.push(substitution.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

fn check(kind: Kind, value: &Value) -> Result<(), String> {
    let mismatch = |expected: &str| format!("expected {expected}, found {}", kind_of(value));
    match kind {
        Kind::Number { min, max } => number(value, min, max, "a number"),
        Kind::OptionalNumber { min, max } => {
            if value.is_null() {
                Ok(())
            } else {
                number(value, min, max, "a number or null")
            }
        }
        Kind::Integer { min, max } => match value.as_u64() {
            Some(number) if (min..=max).contains(&number) => Ok(()),
            Some(number) => Err(format!("{number} is out of range: use {min} to {max}")),
            None => Err(mismatch(&format!("a whole number from {min} to {max}"))),
        },
        Kind::Bool => {
            if value.is_boolean() {
                Ok(())
            } else {
                Err(mismatch("true or false"))
            }
        }
        Kind::Word(words) => match value.as_str() {
            Some(word) if words.contains(&word) => Ok(()),
            Some(word) => Err(format!("{word:?} is not valid: use one of {}", words.join(", "))),
            None => Err(mismatch(&format!("one of {}", words.join(", ")))),
        },
        Kind::Order(words) => {
            let given: Vec<&str> =
                value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let complete = value.as_array().is_some_and(|array| array.len() == words.len())
                && words.iter().all(|word| given.contains(word));
            if complete {
                Ok(())
            } else {
                Err(format!("expected an array with each of {} once", words.join(", ")))
            }
        }
    }
}

fn number(value: &Value, min: f64, max: f64, expected: &str) -> Result<(), String> {
    match value.as_f64() {
        Some(number) if (min..=max).contains(&number) => Ok(()),
        Some(number) => Err(format!("{number} is out of range: use {min} to {max}")),
        None => Err(format!("expected {expected}, found {}", kind_of(value))),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub(super) fn to_json(config: &ScopeConfig) -> Value {
    let mut root = Map::new();
    for setting in SETTINGS {
        insert(&mut root, setting.path, (setting.get)(config));
    }
    Value::Object(root)
}

fn insert(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((group, rest)) => {
            let entry = object.entry(group).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

pub(super) fn json_schema() -> Value {
    let mut schema = group_schema("");
    if let Value::Object(object) = &mut schema {
        object.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".into(), json!("Configuration of one scope"));
    }
    schema
}

fn group_schema(path: &str) -> Value {
    let mut properties = Map::new();
    for setting in SETTINGS {
        let rest = if path.is_empty() {
            Some(setting.path)
        } else {
            setting.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'))
        };
        let Some(rest) = rest else { continue };
        match rest.split_once('.') {
            None => {
                properties.insert(rest.to_owned(), setting_schema(setting));
            }
            Some((group, _)) if !properties.contains_key(group) => {
                properties.insert(group.to_owned(), group_schema(&join(path, group)));
            }
            Some(_) => {}
        }
    }
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn setting_schema(setting: &Setting) -> Value {
    let mut schema = match setting.kind {
        Kind::Number { min, max } => json!({"type": "number", "minimum": min, "maximum": max}),
        Kind::OptionalNumber { min, max } => {
            json!({"type": ["number", "null"], "minimum": min, "maximum": max})
        }
        Kind::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Word(words) => json!({"type": "string", "enum": words}),
        Kind::Order(words) => json!({
            "type": "array",
            "items": {"type": "string", "enum": words},
            "minItems": words.len(),
            "maxItems": words.len(),
            "uniqueItems": true
        }),
    };
    if let Value::Object(object) = &mut schema {
        object.insert("description".into(), json!(setting.doc));
        object.insert("default".into(), setting.default_value());
    }
    schema
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::item::{ItemType, Sensitivity};

    fn reasons(text: &str) -> Vec<(String, String)> {
        ScopeConfig::parse(text)
            .unwrap_err()
            .problems
            .into_iter()
            .map(|problem| (problem.path, problem.reason))
            .collect()
    }

    #[test]
    fn the_operations_manual_example_is_understood() {
        let config = ScopeConfig::parse(
            r#"{"search": {
                "bm25": {"k1": 1.2, "b": 0.75, "boosts":
                    {"title": 5.0, "pinned": 2.0, "recent": 1.3, "exact_match": 1.5}},
                "vector": {"enabled": true, "weight": 0.4, "threshold": 0.7},
                "cache": {"query_cache_size": 10, "result_cache_ttl": 60}}}"#,
        )
        .unwrap();
        let scales = config.search.bm25.boosts.scales();
        assert!((scales.title - 2.0).abs() < 1e-9);
        assert!((scales.pinned - 1.0).abs() < 1e-9);
        assert!((scales.exact_match - 0.5).abs() < 1e-9);
        assert!(config.search.vector.enabled);
        assert_eq!(config.search.cache.query_cache_size, 10);
        assert_eq!(config.search.cache.result_cache_ttl, 60);
    }

    #[test]
    fn an_empty_object_is_the_defaults() {
        assert_eq!(ScopeConfig::parse("{}").unwrap(), ScopeConfig::default());
    }

    #[test]
    fn a_file_with_settings_that_are_gone_is_still_good() {
        let config = ScopeConfig::parse(
            r#"{"maintenance": {"compactEvery": 9, "index_flush": {"maxOps": 200, "maxMs": 1}}}"#,
        )
        .unwrap();
        assert_eq!(config.maintenance.compact_every, 9);
        assert!(config.to_json().pointer("/maintenance/indexFlush").is_none());
    }

    #[test]
    fn unknown_keys_are_named_with_path_and_suggestion() {
        assert_eq!(
            reasons(r#"{"search": {"bm25": {"bosts": {}}}}"#),
            [(
                "search.bm25.bosts".to_owned(),
                "unknown key; did you mean search.bm25.boosts?".to_owned()
            )]
        );
        assert_eq!(
            reasons(r#"{"k1": 1.0}"#),
            [("k1".to_owned(), "unknown key; did you mean search.bm25.k1?".to_owned())]
        );
        let (path, reason) = reasons(r#"{"pack": {"zzzzzz": 1}}"#).remove(0);
        assert_eq!(path, "pack.zzzzzz");
        assert_eq!(reason, "unknown key; known here are caps, order");
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let found = reasons(
            r#"{"search": {"bm25": {"k1": -1, "b": "x"}, "cache": 3},
                "sharing": {"sensitivity": "secret"},
                "pack": {"order": ["facts", "facts", "patterns", "configs"]}}"#,
        );
        let mut paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "pack.order",
                "search.bm25.b",
                "search.bm25.k1",
                "search.cache",
                "sharing.sensitivity"
            ]
        );
    }

    #[test]
    fn one_setting_in_two_spellings_is_an_error() {
        let found = reasons(r#"{"checkMemory": {"min_confidence": 0.1, "minConfidence": 0.2}}"#);
        assert_eq!(found.len(), 1);
        assert!(found[0].1.contains("given twice"), "{found:?}");
    }

    #[test]
    fn text_that_is_not_an_object_is_refused() {
        assert!(reasons("[]")[0].1.contains("expected a JSON object"));
        assert!(reasons("{")[0].1.contains("not JSON"));
    }

    #[test]
    fn life_times_by_type_beat_the_default() {
        let config = ScopeConfig::parse(
            r#"{"ttl": {"defaultDays": 90, "byType": {"note": 7, "fact": null}}}"#,
        )
        .unwrap();
        assert_eq!(config.ttl.for_new(ItemType::Note), Some(7.0));
        assert_eq!(config.ttl.for_new(ItemType::Fact), Some(90.0));
        for (position, item_type) in ItemType::ALL.into_iter().enumerate() {
            let text = format!(r#"{{"ttl": {{"byType": {{"{}": 1}}}}}}"#, item_type.as_str());
            let config = ScopeConfig::parse(&text).unwrap();
            assert_eq!(config.ttl.by_type[position], Some(1.0), "{text}");
        }
    }

    #[test]
    fn every_setting_round_trips_and_its_default_is_in_range() {
        let default = ScopeConfig::default();
        assert_eq!(ScopeConfig::from_json(&default.to_json()).unwrap(), default);
        for setting in SETTINGS {
            check(setting.kind, &setting.default_value()).unwrap();
        }
        for sensitivity in ["public", "team", "private"] {
            let text = format!(r#"{{"sharing": {{"sensitivity": "{sensitivity}"}}}}"#);
            let config = ScopeConfig::parse(&text).unwrap();
            assert_eq!(json!(config.sharing.sensitivity), json!(sensitivity));
            assert!(config.sharing.sensitivity >= Sensitivity::Public);
        }
    }

    #[test]
    fn the_schema_names_every_setting() {
        let schema = ScopeConfig::json_schema();
        for setting in SETTINGS {
            let pointer = format!("/properties/{}", setting.path.replace('.', "/properties/"));
            let found = schema.pointer(&pointer).unwrap();
            assert_eq!(found["default"], setting.default_value(), "{}", setting.path);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_or_refused_without_panic(text in ".{0,200}") {
            let _ = ScopeConfig::parse(&text);
        }

        #[test]
        fn accepted_values_are_those_printed(
            k1 in 0.0..10.0_f64,
            size in 0..1_000_000_u64,
            days in proptest::option::of(0.001..36_500.0_f64),
        ) {
            let value = json!({
                "search": {"bm25": {"k1": k1}, "cache": {"query_cache_size": size}},
                "ttl": {"default_days": days},
            });
            let config = ScopeConfig::from_json(&value).unwrap();
            let printed = config.to_json();
            prop_assert_eq!(printed.pointer("/search/bm25/k1"), Some(&json!(k1)));
            prop_assert_eq!(printed.pointer("/search/cache/queryCacheSize"), Some(&json!(size)));
            prop_assert_eq!(ScopeConfig::from_json(&printed).unwrap(), config);
        }
    }
}
