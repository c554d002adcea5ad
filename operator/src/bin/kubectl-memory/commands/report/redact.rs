//! Takes secrets out of what is handed on; pure.
//!
//! Contents of Secrets are dropped whatever they look like. Elsewhere a value goes when its name
//! says that it is secret, or when it looks like a token; that is a net and no proof, which is why
//! the summary asks people to look before they hand it on.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

/// What stands where a secret stood.
const REDACTED: &str = "[redacted]";
/// Holds the former object as text, secrets included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Takes secrets out of an object of the cluster, and what only the API server needs.
pub(super) fn object(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
    }
    if object.get("kind").is_some_and(|kind| kind == "Secret") {
        for field in ["data", "stringData"] {
            if let Some(data) = object.get_mut(field).and_then(Value::as_object_mut) {
                data.values_mut().for_each(|value| *value = REDACTED.into());
            }
        }
    }
    walk(object);
}

fn walk(value: &mut Value) {
    match value {
        Value::String(content) => *content = text(content),
        Value::Array(items) => items.iter_mut().for_each(walk),
        Value::Object(fields) => {
            // An environment variable, or anything else that is told apart by its name.
            let secret = fields.get("name").and_then(Value::as_str).is_some_and(is_secret_name);
            for (name, value) in fields.iter_mut() {
                let named = is_secret_name(name) || (secret && name == "value");
                match value {
                    Value::String(text) if named => REDACTED.clone_into(text),
                    other => walk(other),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_secret_name(name: &str) -> bool {
    static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)(token|secret|passw(or)?d|credential|(api|access|private)[-_.]?key)$").ok()
    });
    NAME.as_ref().is_some_and(|it| it.is_match(name))
}

/// Takes what looks like a token, and values of secret names, out of a text.
pub(super) fn text(text: &str) -> String {
    static TOKEN: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r#"(?ix)
            (?<keep> bearer\s+ ) [a-z0-9._~+/=-]{8,}
            | eyJ[a-z0-9_-]{8,}\.[a-z0-9_-]+\.[a-z0-9_-]*
            | \bllmm_[a-z0-9]+_[a-z0-9_-]+
            | (?<name> (?: token | secret | passw(?:or)?d | (?:api|access|private)[-_.]?key ) ["']? [\ \t]* [:=] [\ \t]* ["']? ) [^\s"',;\[]{4,}
            "#,
        )
        .ok()
    });
    let Some(token) = TOKEN.as_ref() else { return text.to_owned() };
    token
        .replace_all(text, |found: &Captures<'_>| {
            let kept =
                found.name("keep").or_else(|| found.name("name")).map_or("", |it| it.as_str());
            format!("{kept}{REDACTED}")
        })
        .into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_secret_is_left_of_an_object() {
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "mem-tokens",
                "managedFields": [{ "manager": "operator" }],
                "annotations": { LAST_APPLIED: "{\"stringData\":{\"default\":\"hunter22\"}}", "kept": "yes" },
            },
            "data": { "default": "aHVudGVyMjI=" }, "stringData": { "other": "hunter22" },
        });
        object(&mut secret);
        insta::assert_json_snapshot!(secret, @r#"
        {
          "apiVersion": "v1",
          "data": {
            "default": "[redacted]"
          },
          "kind": "Secret",
          "metadata": {
            "annotations": {
              "kept": "yes"
            },
            "name": "mem-tokens"
          },
          "stringData": {
            "other": "[redacted]"
          }
        }
        "#);
    }

    #[test]
    fn secret_settings_go_and_the_names_of_secrets_stay() {
        let mut store = json!({
            "kind": "MemoryStore", "metadata": { "name": "mem" },
            "spec": {
                "settings": { "embeddings.apiKey": "hunter22", "limits.maxItemKb": "64" },
                "tls": { "secretName": "mem-tls" },
                "podTemplate": { "spec": { "containers": [{ "name": "server", "env": [
                    { "name": "PROXY_PASSWORD", "value": "hunter22" },
                    { "name": "LOG", "value": "info" },
                    { "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "a" } } },
                ] }] } },
            },
        });
        object(&mut store);
        let left = store.to_string();
        assert!(!left.contains("hunter22"), "{left}");
        for kept in ["\"64\"", "mem-tls", "\"info\"", "\"keys\"", "PROXY_PASSWORD"] {
            assert!(left.contains(kept), "{kept} in {left}");
        }
    }

    #[test]
    fn logs_lose_tokens_and_nothing_else() {
        let log = "GET /mcp Authorization: Bearer abcdefgh.ijk\n\
                   token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln was refused\n\
                   static llmm_a1_Zm9v used; api_key=hunter22, retries=3\n\
                   password: \"hunter22\"\n";
        assert_eq!(
            text(log),
            "GET /mcp Authorization: Bearer [redacted]\n\
             token [redacted] was refused\n\
             static [redacted] used; api_key=[redacted], retries=3\n\
             password: \"[redacted]\"\n"
        );
        let plain = "verified 1204 records in 3 s; tokens: 12 valid\n";
        assert_eq!(text(plain), plain);
    }
}
