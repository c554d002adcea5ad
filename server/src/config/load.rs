//! Finds and reads the configuration file, lays the layers over each other and checks what no
//! single setting can see.

use std::path::{Path, PathBuf};

use llm_memory_disk::Disk;
use llm_memory_disk::DiskError;
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::Config;
use super::check::check;
use super::layers::{Layers, Problem, Resolved, resolve};
use crate::env_vars;

/// Read when neither a flag nor the environment names a file and the data folder has none.
pub const SYSTEM_FILE: &str = "/etc/llm-memory/server.json";

/// Name of the configuration file in the data folder.
pub const FILE_NAME: &str = "server.json";

/// What the process was given.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Flags by setting key, as text.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// The environment of this process and the flags given.
    pub fn of_process(config: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Self {
        // A value that is not UTF-8 fails the check of its setting with U+FFFD in the message.
        let environment = std::env::vars_os()
            .map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            })
            .collect();
        Self { environment, config, flags }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn user_data_dir(&self) -> PathBuf {
        match (self.variable("XDG_DATA_HOME"), self.variable("HOME")) {
            (Some(folder), _) => Path::new(folder).join("llm-memory"),
            (None, Some(home)) => Path::new(home).join(".local/share/llm-memory"),
            (None, None) => PathBuf::from("/var/lib/llm-memory"),
        }
    }

    fn data_dir(&self) -> PathBuf {
        let flag = self.flags.iter().find(|(key, _)| *key == "dataDir").map(|(_, path)| &**path);
        let named = flag.or_else(|| self.variable(env_vars::DATA_DIR.name));
        named.map_or_else(|| self.user_data_dir(), PathBuf::from)
    }
}

/// The configuration in force, and where each part of it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// Validated.
    pub config: Config,
    /// Every setting with its source, in the order of the table.
    pub values: Vec<Resolved>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file: {source}")]
    Unreadable {
        /// What the disk said.
        #[source]
        source: DiskError,
    },
    /// The file is not JSON.
    #[error("{}: line {line}, column {column}: {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser expected.
        reason: String,
    },
    /// Values that are not acceptable; all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Problem>),
}

/// Reads, merges and checks.
pub fn load(disk: &dyn Disk, sources: &Sources) -> Result<Effective, ConfigError> {
    let file = read_file(disk, sources)?;
    let path = file.as_ref().map(|(path, _)| path.clone());
    let layers = Layers {
        file,
        environment: sources
            .environment
            .iter()
            .filter(|(name, _)| name.starts_with(env_vars::PREFIX))
            .cloned()
            .collect(),
        flags: sources.flags.clone(),
        user_data_dir: sources.user_data_dir(),
    };
    let values = resolve(&layers).map_err(ConfigError::Problems)?;
    let mut config = typed(&values).map_err(|problem| ConfigError::Problems(vec![problem]))?;
    let kubernetes = &mut config.auth.kubernetes;
    kubernetes.api_server = kubernetes.api_server.take().or_else(|| api_server(sources));
    let problems = check(&config);
    if !problems.is_empty() {
        return Err(ConfigError::Problems(problems));
    }
    Ok(Effective { config, values, file: path })
}

type ConfigFile = (PathBuf, Map<String, Value>);

fn read_file(disk: &dyn Disk, sources: &Sources) -> Result<Option<ConfigFile>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { source };
    let named = sources
        .config
        .clone()
        .or_else(|| sources.variable(env_vars::CONFIG.name).map(PathBuf::from));
    let mut path = named;
    for candidate in [sources.data_dir().join(FILE_NAME), PathBuf::from(SYSTEM_FILE)] {
        if path.is_none() && disk.exists(&candidate).map_err(unreadable)? {
            path = Some(candidate);
        }
    }
    let Some(path) = path else { return Ok(None) };
    let bytes = disk.read(&path).map_err(unreadable)?;
    parse(&path, &bytes).map(|object| Some((path, object)))
}

/// Parses the bytes of a configuration file.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    serde_json::from_slice(bytes).map_err(|error| ConfigError::Syntax {
        file: path.to_path_buf(),
        line: error.line(),
        column: error.column(),
        reason: error.to_string(),
    })
}

/// Puts `value` where the dots of `key` say.
fn insert(object: &mut Map<String, Value>, key: &str, value: &Value) {
    let Some((group, rest)) = key.split_once('.') else {
        object.insert(key.to_owned(), value.clone());
        return;
    };
    let inner = object.entry(group).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(inner) = inner {
        insert(inner, rest, value);
    }
}

/// The address of the API server of the cluster that this process runs in.
fn api_server(sources: &Sources) -> Option<String> {
    let host = sources.variable("KUBERNETES_SERVICE_HOST")?;
    let port = sources.variable("KUBERNETES_SERVICE_PORT").unwrap_or("443");
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Some(format!("https://{host}:{port}"))
}

/// Turns the table's values into the nested structure; that every key has its field is proven by
/// a test.
fn typed(values: &[Resolved]) -> Result<Config, Problem> {
    let mut root = Map::new();
    for resolved in values {
        insert(&mut root, resolved.setting.key, &resolved.value);
    }
    Config::deserialize(Value::Object(root))
        .map_err(|error| Problem { place: "configuration".to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    fn sources(environment: &[(&str, &str)]) -> Sources {
        Sources {
            environment: environment.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            ..Sources::default()
        }
    }

    #[test]
    fn every_setting_of_the_table_has_its_field_and_the_defaults_are_valid() {
        let effective = load(&OsDisk, &sources(&[("HOME", "/nonexistent")])).unwrap();
        assert_eq!(effective.config.data_dir, Path::new("/nonexistent/.local/share/llm-memory"));
        assert!(effective.config.listen.address.is_loopback());
        assert_eq!(effective.config.engine_options().cache_bytes, 128 << 20);
    }

    #[test]
    fn the_file_in_the_data_folder_is_found_and_a_named_one_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join(FILE_NAME);
        OsDisk.durable_write(&inside, br#"{"safeMode":true}"#).unwrap();
        let data = folder.path().to_str().unwrap();
        let found = load(&OsDisk, &sources(&[("LLM_MEMORY_DATA_DIR", data)])).unwrap();
        assert_eq!(found.file.as_deref(), Some(inside.as_path()));
        assert!(found.config.safe_mode);

        let other = folder.path().join("other.json");
        OsDisk.durable_write(&other, b"{}").unwrap();
        let named =
            Sources { config: Some(other.clone()), ..sources(&[("LLM_MEMORY_DATA_DIR", data)]) };
        let found = load(&OsDisk, &named).unwrap();
        assert_eq!(found.file, Some(other));
        assert!(!found.config.safe_mode);
    }

    #[test]
    fn a_named_file_that_is_missing_or_broken_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.json");
        let named = Sources { config: Some(path.clone()), ..sources(&[("HOME", "/x")]) };
        assert!(matches!(load(&OsDisk, &named), Err(ConfigError::Unreadable { .. })));
        OsDisk.durable_write(&path, b"{\n  oops").unwrap();
        let error = load(&OsDisk, &named).unwrap_err().to_string();
        assert!(error.contains("server.json: line 2, column 3"), "{error}");
    }

    #[test]
    fn safe_mode_keeps_caches_small() {
        let safe = sources(&[("HOME", "/x"), ("LLM_MEMORY_SAFE_MODE", "true")]);
        let options = load(&OsDisk, &safe).unwrap().config.engine_options();
        assert!(options.safe_mode);
        assert_eq!(options.cache_bytes, 32 << 20);
    }
}
