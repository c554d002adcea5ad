//! Words of a command line into the JSON arguments of a tool.
//!
//! Nothing is read from the disk or from standard input except through [`Source`], and only for
//! values that ask for it (`@file`, `-`).

use clap::ArgMatches;
use serde_json::{Map, Value};
use thiserror::Error;

use super::shape::{Field, Shape};

/// A flag whose value cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("--{flag}: {reason}")]
pub(crate) struct BadFlag {
    /// Flag without dashes.
    pub(crate) flag: String,
    /// What is wrong and what would be right.
    pub(crate) reason: String,
}

/// Where long values come from.
pub(crate) trait Source {
    /// Content of a file.
    fn file(&self, path: &str) -> Result<String, String>;
    /// Everything on standard input.
    fn stdin(&self) -> Result<String, String>;
}

/// Arguments whose value may be `@file` or `-`: the ones that hold whole texts. Names, words and
/// labels are taken as they are, since `@types/node` is a fine tag.
const LONG_TEXT: [&str; 4] = ["text", "code", "content", "config"];

/// Collects the flags that were given, in the form of `fields`.
pub(crate) fn collect(
    fields: &[Field],
    matches: &ArgMatches,
    source: &dyn Source,
) -> Result<Map<String, Value>, BadFlag> {
    members(fields, "", matches, source)
}

fn members(
    fields: &[Field],
    prefix: &str,
    matches: &ArgMatches,
    source: &dyn Source,
) -> Result<Map<String, Value>, BadFlag> {
    let mut out = Map::new();
    for field in fields {
        let path = format!("{prefix}{}", field.name);
        if let Some(value) = value(field, &path, matches, source)? {
            out.insert(field.name.clone(), value);
        }
    }
    Ok(out)
}

fn value(
    field: &Field,
    path: &str,
    matches: &ArgMatches,
    source: &dyn Source,
) -> Result<Option<Value>, BadFlag> {
    let text = || given::<String>(matches, path);
    Ok(match &field.shape {
        Shape::Text => match text() {
            Some(text) if LONG_TEXT.contains(&field.name.as_str()) => {
                Some(Value::String(long(path, text, source)?))
            }
            other => other.cloned().map(Value::String),
        },
        Shape::Choice(_) => text().cloned().map(Value::String),
        Shape::Integer => given::<i64>(matches, path).map(|number| Value::from(*number)),
        Shape::Number => match given::<f64>(matches, path) {
            Some(number) => Some(number_value(path, *number)?),
            None => None,
        },
        Shape::Flag => given::<bool>(matches, path).map(|flag| Value::Bool(*flag)),
        Shape::List(of) => list(of, path, matches)?,
        Shape::Object(below) => {
            let mut object = match text() {
                Some(text) => match json(path, text, source)? {
                    Value::Object(object) => object,
                    other => {
                        return Err(bad(
                            path,
                            format!("{other} is not a JSON object like {{...}}"),
                        ));
                    }
                },
                None => Map::new(),
            };
            object.extend(members(below, &format!("{path}."), matches, source)?);
            (!object.is_empty() || text().is_some()).then_some(Value::Object(object))
        }
        Shape::Json => match text() {
            Some(text) => Some(json(path, text, source)?),
            None => None,
        },
    })
}

/// A flag's value, if the command has such a flag and it was given.
fn given<'a, T: Clone + Send + Sync + 'static>(
    matches: &'a ArgMatches,
    path: &str,
) -> Option<&'a T> {
    matches.try_get_one::<T>(path).ok().flatten()
}

/// A list flag: repeated, separated by commas, or one JSON array.
fn list(of: &Shape, path: &str, matches: &ArgMatches) -> Result<Option<Value>, BadFlag> {
    let Ok(Some(values)) = matches.try_get_many::<String>(path) else { return Ok(None) };
    let mut out = Vec::new();
    for text in values {
        if text.starts_with('[') {
            match serde_json::from_str(text) {
                Ok(Value::Array(items)) => out.extend(items),
                Ok(_) | Err(_) => {
                    return Err(bad(
                        path,
                        format!("{text:?} begins like a JSON array but is none"),
                    ));
                }
            }
            continue;
        }
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            out.push(scalar(of, path, word)?);
        }
    }
    Ok(Some(Value::Array(out)))
}

fn scalar(of: &Shape, path: &str, word: &str) -> Result<Value, BadFlag> {
    match of {
        Shape::Choice(words) if !words.iter().any(|known| known == word) => {
            Err(bad(path, format!("{word:?} is not one of {}", words.join(", "))))
        }
        Shape::Integer => word
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| bad(path, format!("{word:?} is not a whole number"))),
        Shape::Number => match word.parse::<f64>() {
            Ok(number) => number_value(path, number),
            Err(_) => Err(bad(path, format!("{word:?} is not a number"))),
        },
        Shape::Flag => word
            .parse::<bool>()
            .map(Value::Bool)
            .map_err(|_| bad(path, format!("{word:?} is neither true nor false"))),
        Shape::Text | Shape::Choice(_) | Shape::List(_) | Shape::Object(_) | Shape::Json => {
            Ok(Value::String(word.to_owned()))
        }
    }
}

fn number_value(path: &str, number: f64) -> Result<Value, BadFlag> {
    serde_json::Number::from_f64(number)
        .map(Value::Number)
        .ok_or_else(|| bad(path, format!("{number} is not a finite number")))
}

/// `@file` and `-` stand for the content of a file and of standard input; `@@x` for `@x`.
fn long(path: &str, text: &str, source: &dyn Source) -> Result<String, BadFlag> {
    if text == "-" {
        return source.stdin().map_err(|reason| bad(path, reason));
    }
    match text.strip_prefix('@') {
        Some(escaped) if escaped.starts_with('@') => Ok(escaped.to_owned()),
        Some(file) => source.file(file).map_err(|reason| bad(path, reason)),
        None => Ok(text.to_owned()),
    }
}

fn json(path: &str, text: &str, source: &dyn Source) -> Result<Value, BadFlag> {
    let text = long(path, text, source)?;
    serde_json::from_str(&text).map_err(|error| bad(path, format!("not valid JSON: {error}")))
}

fn bad(path: &str, reason: String) -> BadFlag {
    BadFlag { flag: super::command::kebab(path), reason }
}

#[cfg(test)]
mod tests {
    use clap::Command;
    use llm_memory_engine::api::{PatchRequest, QueryRequest, UpsertRequest};
    use schemars::JsonSchema;
    use serde_json::json;

    use super::*;
    use crate::cli::command::args;
    use crate::cli::shape;

    struct Fixed;

    impl Source for Fixed {
        fn file(&self, path: &str) -> Result<String, String> {
            if path == "note.md" { Ok("from file".to_owned()) } else { Err("no file".to_owned()) }
        }

        fn stdin(&self) -> Result<String, String> {
            Ok("from stdin".to_owned())
        }
    }

    fn parse<T: JsonSchema>(line: &[&str]) -> Result<Value, String> {
        let schema = schemars::schema_for!(T);
        let fields = shape::fields(schema.as_object().unwrap());
        let mut command = Command::new("x").no_binary_name(true);
        for field in &fields {
            command = command.args(args(field, "", true));
        }
        let matches = command.try_get_matches_from(line).map_err(|error| error.to_string())?;
        collect(&fields, &matches, &Fixed).map(Value::Object).map_err(|error| error.to_string())
    }

    #[test]
    fn both_ways_of_giving_a_value_are_the_same() {
        let expected = json!({"q": "a b", "scope": "all", "k": 20, "explain": true});
        for line in [
            &["--q=a b", "--scope=all", "--k=20", "--explain=true"][..],
            &["--q", "a b", "--scope", "all", "--k", "20", "--explain"][..],
        ] {
            assert_eq!(parse::<QueryRequest>(line).unwrap(), expected);
        }
    }

    #[test]
    fn nothing_given_is_nothing_sent() {
        assert_eq!(parse::<QueryRequest>(&[]).unwrap(), json!({}));
    }

    #[test]
    fn objects_take_json_dotted_flags_or_both() {
        let expected = json!({"filters": {"tags": ["a", "b"], "pinned": true}});
        for line in [
            &["--filters.tags", "a", "--filters.tags", "b", "--filters.pinned", "true"][..],
            &["--filters.tags=a,b", "--filters.pinned"][..],
            &["--filters", r#"{"tags":["a","b"],"pinned":false}"#, "--filters.pinned=true"][..],
        ] {
            assert_eq!(parse::<QueryRequest>(line).unwrap(), expected);
        }
        let deep = parse::<QueryRequest>(&["--filters.confidence.min", "0.5"]).unwrap();
        assert_eq!(deep, json!({"filters": {"confidence": {"min": 0.5}}}));
    }

    #[test]
    fn camel_case_and_kebab_case_are_both_accepted() {
        for flag in ["--maxChars", "--max-chars"] {
            let parsed = parse::<QueryRequest>(&[flag, "500"]).unwrap();
            assert_eq!(parsed, json!({"maxChars": 500}));
        }
    }

    #[test]
    fn whole_texts_come_from_files_and_standard_input() {
        let with = |text: &str| {
            parse::<UpsertRequest>(&["--type", "note", "--scope=global", "--text", text])
                .map(|value| value["text"].clone())
        };
        assert_eq!(with("@note.md").unwrap(), "from file");
        assert_eq!(with("-").unwrap(), "from stdin");
        assert_eq!(with("@@home").unwrap(), "@home");
        assert_eq!(with("@missing").unwrap_err(), "--text: no file");
        let tagged =
            parse::<UpsertRequest>(&["--type=note", "--scope=global", "--tags=@types/node"]);
        assert_eq!(tagged.unwrap()["tags"], json!(["@types/node"]));
    }

    #[test]
    fn lists_of_objects_are_json() {
        let line = ["--id=a", r#"--operations=[{"field":"text","old":"x","new":"y"}]"#];
        let parsed = parse::<PatchRequest>(&line).unwrap();
        assert_eq!(parsed["operations"][0]["old"], "x");
        let broken = parse::<PatchRequest>(&["--id=a", "--operations=[{"]).unwrap_err();
        assert!(broken.starts_with("--operations: not valid JSON"), "{broken}");
    }

    #[test]
    fn wrong_words_name_the_flag_and_what_would_be_right() {
        let error = parse::<QueryRequest>(&["--filters.type=novel"]).unwrap_err();
        assert!(error.starts_with("--filters.type: \"novel\" is not one of"), "{error}");
        assert!(parse::<QueryRequest>(&["--k", "many"]).is_err());
        assert!(parse::<QueryRequest>(&["--filters", "[1]"]).is_err());
        assert!(parse::<QueryRequest>(&["--qq", "x"]).unwrap_err().contains("--q"));
    }
}
