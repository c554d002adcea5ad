//! Defaults, file, environment and flags laid over each other: each setting takes the value of
//! the highest layer that names it. Every mistake in every layer is collected, so that one look
//! at the message is enough to mend all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::settings::{self, Preset, Setting};
use super::suggest::nearest;
use super::value::Kind;
use crate::env_vars::{self, EnvVar};

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody gave one.
    Default,
    /// The configuration file.
    File,
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl Source {
    /// The word shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }
}

/// One mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands: a file and key, a variable, a flag.
    pub place: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// The raw layers, lowest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The configuration file: its path and its object.
    pub file: Option<(PathBuf, Map<String, Value>)>,
    /// Variables that begin with [`env_vars::PREFIX`].
    pub environment: Vec<(String, String)>,
    /// Flags that were given, by setting key, as text.
    pub flags: Vec<(&'static str, String)>,
    /// Where the data folder is when nobody says so.
    pub user_data_dir: PathBuf,
}

/// The value of one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The setting.
    pub setting: &'static Setting,
    /// Its value; `null` when unset.
    pub value: Value,
    /// Who gave it.
    pub source: Source,
}

/// Lays the layers over each other. The result has every setting of the table, in its order.
pub fn resolve(layers: &Layers) -> Result<Vec<Resolved>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut given: BTreeMap<&'static str, (Value, Source)> = BTreeMap::new();
    if let Some((path, object)) = &layers.file {
        read_object(path, "", object, &mut given, &mut problems);
    }
    for (name, value) in &layers.environment {
        read_variable(name, value, &mut given, &mut problems);
    }
    for (key, text) in &layers.flags {
        if let Some(setting) = settings::by_key(key) {
            match setting.kind.parse_text(text) {
                Ok(value) => drop(given.insert(setting.key, (value, Source::Flag))),
                Err(reason) => {
                    problems.push(Problem { place: format!("--{}", setting.flag), reason });
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(fill(given, &layers.user_data_dir))
}

/// Adds the defaults of what nobody gave.
fn fill(mut given: BTreeMap<&'static str, (Value, Source)>, user_data_dir: &Path) -> Vec<Resolved> {
    let data_dir = match given.get("dataDir") {
        Some((Value::String(text), _)) => PathBuf::from(text),
        _ => user_data_dir.to_path_buf(),
    };
    let path = |path: PathBuf| Value::from(path.to_string_lossy().into_owned());
    settings::ALL
        .iter()
        .map(|setting| {
            let (value, source) = given.remove(setting.key).unwrap_or_else(|| {
                let value = match setting.preset {
                    // The table's own test proves that every default parses.
                    Preset::Text(text) => setting.kind.parse_text(text).unwrap_or(Value::Null),
                    Preset::InDataDir(name) => path(data_dir.join(name)),
                    Preset::UserDataDir => path(user_data_dir.to_path_buf()),
                    Preset::Unset => Value::Null,
                };
                (value, Source::Default)
            });
            Resolved { setting, value, source }
        })
        .collect()
}

fn read_object(
    path: &Path,
    prefix: &str,
    object: &Map<String, Value>,
    given: &mut BTreeMap<&'static str, (Value, Source)>,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in object {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let place = || format!("{}: {key}", path.display());
        let group = format!("{key}.");
        let is_group = settings::ALL.iter().any(|setting| setting.key.starts_with(&group));
        match (settings::by_key(&key), value) {
            (Some(setting), _) => match setting.kind.parse_json(value) {
                Ok(value) => {
                    let value =
                        if setting.kind == Kind::Path { beside(path, &value) } else { value };
                    given.insert(setting.key, (value, Source::File));
                }
                Err(reason) => problems.push(Problem { place: place(), reason }),
            },
            (None, Value::Object(inner)) if is_group => {
                read_object(path, &key, inner, given, problems);
            }
            (None, _) if is_group => problems.push(Problem {
                place: place(),
                reason: format!("{value} is not an object of settings"),
            }),
            (None, _) => problems.push(Problem { place: place(), reason: unknown_key(&key) }),
        }
    }
}

/// A relative path in the file means a path beside the file, so that the file means the same
/// wherever the server is started.
fn beside(file: &Path, value: &Value) -> Value {
    match (value.as_str(), file.parent()) {
        (Some(text), Some(folder)) => Value::from(folder.join(text).to_string_lossy().into_owned()),
        _ => value.clone(),
    }
}

fn unknown_key(key: &str) -> String {
    let last = |key: &str| key.rsplit('.').next().map(str::to_lowercase);
    let whole = nearest(key, settings::ALL.iter().map(|setting| setting.key));
    // The right name in the wrong group, or at the top, is the commonest mistake.
    let moved = || settings::ALL.iter().map(|s| s.key).find(|known| last(known) == last(key));
    match whole.or_else(moved) {
        Some(known) => format!("no such setting; did you mean {known}?"),
        None => "no such setting; `llm-memory config show` lists them all".to_owned(),
    }
}

fn read_variable(
    name: &str,
    text: &str,
    given: &mut BTreeMap<&'static str, (Value, Source)>,
    problems: &mut Vec<Problem>,
) {
    if env_vars::is_service_link(name, text) {
        return;
    }
    if let Some(setting) = settings::ALL.iter().find(|setting| setting.env.name == name) {
        match setting.kind.parse_text(text) {
            Ok(value) => drop(given.insert(setting.key, (value, Source::Environment))),
            Err(reason) => problems.push(Problem { place: name.to_owned(), reason }),
        }
        return;
    }
    let names = || env_vars::ALL.iter().map(|variable: &EnvVar| variable.name);
    if names().any(|known| known == name) {
        return;
    }
    let reason = match nearest(name, names()) {
        Some(known) => format!("no such variable; did you mean {known}?"),
        None => "no such variable; docs/configuration.md lists them all".to_owned(),
    };
    problems.push(Problem { place: name.to_owned(), reason });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layers(
        file: &Value,
        environment: &[(&str, &str)],
        flags: &[(&'static str, &str)],
    ) -> Layers {
        Layers {
            file: file.as_object().map(|object| ("/etc/x/server.json".into(), object.clone())),
            environment: environment.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            flags: flags.iter().map(|(key, value)| (*key, (*value).into())).collect(),
            user_data_dir: "/home/a/.local/share/llm-memory".into(),
        }
    }

    fn value(resolved: &[Resolved], key: &str) -> (Value, Source) {
        let found = resolved.iter().find(|one| one.setting.key == key).unwrap();
        (found.value.clone(), found.source)
    }

    #[test]
    fn the_highest_layer_that_names_a_setting_wins() {
        let all = layers(
            &json!({"listen": {"mcpPort": 1, "healthPort": 2, "metricsPort": 3}}),
            &[("LLM_MEMORY_HEALTH_PORT", "20"), ("LLM_MEMORY_METRICS_PORT", "30")],
            &[("listen.metricsPort", "300")],
        );
        let resolved = resolve(&all).unwrap();
        assert_eq!(value(&resolved, "listen.mcpPort"), (json!(1), Source::File));
        assert_eq!(value(&resolved, "listen.healthPort"), (json!(20), Source::Environment));
        assert_eq!(value(&resolved, "listen.metricsPort"), (json!(300), Source::Flag));
        assert_eq!(value(&resolved, "safeMode"), (json!(false), Source::Default));
        assert_eq!(resolved.len(), settings::ALL.len());
    }

    #[test]
    fn every_mistake_is_reported_with_its_place_and_a_suggestion() {
        let all = layers(
            &json!({
                "safemode": true,
                "mcpPort": 3000,
                "listen": 7,
                "cache": {"catalogMb": "128", "colour": 1},
            }),
            &[("LLM_MEMORY_CACHE_SIZE", "10"), ("LLM_MEMORY_VIDEO_CODEC", "mpeg")],
            &[("listen.mcpPort", "many")],
        );
        let problems = resolve(&all).unwrap_err();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        /etc/x/server.json: cache.catalogMb: "128" is not a whole number from 1 to 1048576
        /etc/x/server.json: cache.colour: no such setting; `llm-memory config show` lists them all
        /etc/x/server.json: listen: 7 is not an object of settings
        /etc/x/server.json: mcpPort: no such setting; did you mean listen.mcpPort?
        /etc/x/server.json: safemode: no such setting; did you mean safeMode?
        LLM_MEMORY_CACHE_SIZE: no such variable; did you mean LLM_MEMORY_CACHE_SIZE_MB?
        LLM_MEMORY_VIDEO_CODEC: "mpeg" is not one of auto, ffv1, av1, h264, h265
        --mcp-port: "many" is not a whole number from 0 to 65535
        "#);
    }

    #[test]
    fn paths_in_the_file_are_relative_to_it_and_defaults_to_the_data_folder() {
        let resolved = resolve(&layers(&json!({"dataDir": "store"}), &[], &[])).unwrap();
        assert_eq!(value(&resolved, "dataDir").0, json!("/etc/x/store"));
        assert_eq!(value(&resolved, "auth.tokensFile").0, json!("/etc/x/store/tokens.json"));
    }

    #[test]
    fn variables_of_the_client_and_of_kubernetes_are_not_settings_and_not_mistakes() {
        let all = layers(
            &json!({}),
            &[("LLM_MEMORY_TOKEN", "t"), ("LLM_MEMORY_MCP_PORT", "tcp://10.0.0.1:3000")],
            &[],
        );
        let resolved = resolve(&all).unwrap();
        assert_eq!(value(&resolved, "listen.mcpPort"), (json!(3000), Source::Default));
    }
}
