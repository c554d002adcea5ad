//! Finds the store that a command is about: the server named with `--server`, the server that
//! holds the data directory's lock, or the directory itself.
//!
//! The lock decides. The directory is opened when its lock is free; a leftover `run/server.json`
//! of a killed server is not believed. When the lock is held, `run/server.json` says where the
//! holder listens and `run/admin.token` lets its owner in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches};
use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::api::ScopeStatus;
use llm_memory_engine::ids::ProjectId;
use llm_memory_engine::progress::Progress;
use llm_memory_engine::{Engine, EngineError};
use serde_json::{Map, Value};

use super::error::CliError;
use super::http::Address;
use super::local;
use super::mcp_client::{CallError, McpClient};
use super::printer::TerminalProgress;
use super::token::TokenSource;
use crate::access::Principal;
use crate::args::Common;
use crate::audit::{Audit, Entry, Kind};
use crate::env_vars;
use crate::jobs::JobQueue;
use crate::mcp::http::MCP_PATH;
use crate::mcp::observe::Asked;
use crate::serve::open::OpenError;
use crate::serve::run_files::{self, ServerFile};
use crate::tools::{self, Call, Tool};

/// How long a monitoring request may take before the server counts as hung.
pub(crate) const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// The resource in which a server says what its scopes hold.
const HEALTH: &str = "kb://health";

/// The flags that say where the store is.
pub(crate) fn flags() -> [Arg; 3] {
    let flags = [
        Arg::new("server")
            .long("server")
            .value_name("URL")
            .help(format!("Running server to talk to ({})", env_vars::URL.name)),
        Arg::new("token").long("token").value_name("TOKEN").help(format!(
            "Bearer token for it ({}, or the file that {} names)",
            env_vars::TOKEN.name,
            env_vars::TOKEN_FILE.name
        )),
        project_flag(),
    ];
    flags.map(|flag| flag.global(true).help_heading("Where the store is"))
}

/// The one of them that commands take which never talk to a server.
pub(crate) fn project_flag() -> Arg {
    Arg::new("project").long("project").value_name("NAME").help(format!(
        "Project whose local and committed scopes are meant ({})",
        env_vars::PROJECT.name
    ))
}

/// Where a command looks for the store, as flags and environment say.
#[derive(Debug)]
pub(crate) struct Target {
    /// The data directory.
    pub(crate) root: PathBuf,
    /// A server named explicitly.
    pub(crate) server: Option<String>,
    token: TokenSource,
    /// The project calls are made in.
    pub(crate) project: Option<ProjectId>,
    settings: local::Settings,
}

impl Target {
    /// Reads flags, environment and configuration.
    pub(crate) fn new(common: &Common, arguments: &ArgMatches) -> Result<Self, CliError> {
        let settings = local::settings(common)?;
        let flag = |name: &str| arguments.try_get_one::<String>(name).ok().flatten().cloned();
        let chosen = |name: &str, variable: env_vars::EnvVar| {
            flag(name).or_else(|| std::env::var(variable.name).ok()).filter(|text| !text.is_empty())
        };
        // A data directory on the command line beats a server from the environment.
        let server = match flag("server") {
            Some(url) => Some(url),
            None if common.data_dir.is_some() => None,
            None => chosen("server", env_vars::URL),
        };
        let project = match flag("project") {
            Some(name) => Some(ProjectId::new(name).map_err(EngineError::from)?),
            None => settings.default_project(),
        };
        Ok(Self {
            root: settings.data_dir.clone(),
            server,
            token: TokenSource::choose(flag("token")),
            project,
            settings,
        })
    }

    /// Whether there is a data directory at all.
    pub(crate) fn exists(&self) -> bool {
        OsDisk.exists(&self.root).unwrap_or(false)
    }

    /// The server that holds the directory, as it described itself. After a crash the description
    /// is left over.
    pub(crate) fn running(&self) -> Option<ServerFile> {
        run_files::read(&OsDisk, &self.root).map(|(server, _)| server)
    }

    /// Connects to the store. `create` says whether an empty directory may become one.
    pub(crate) fn open(&self, create: bool) -> Result<Backend, CliError> {
        if let Some(url) = &self.server {
            let address = Address::parse(url, MCP_PATH).map_err(CallError::from)?;
            return Ok(self.client(address, self.token.clone()));
        }
        if !create && !OsDisk.exists(&self.root)? {
            return Err(CliError::NoStore { root: self.root.clone() });
        }
        match self.settings.open_engine() {
            Ok(engine) => Ok(Backend::Directory {
                jobs: Arc::new(self.settings.jobs()?),
                engine: Arc::new(engine),
                principal: Principal::local_owner(),
                project: self.project.clone(),
                audit: self.settings.audit(),
            }),
            Err(OpenError::Engine(EngineError::Disk(error))) if error.is_locked() => self.holder(),
            Err(error) => Err(error.into()),
        }
    }

    /// The server that holds the lock.
    fn holder(&self) -> Result<Backend, CliError> {
        let Some((running, admin)) = run_files::read(&OsDisk, &self.root) else {
            return Err(CliError::Locked { root: self.root.clone() });
        };
        Ok(self.client(Address::of_running(&running, MCP_PATH), self.token.clone().or(admin)))
    }

    /// Where a server answers for the store (the server itself, whichever endpoint was named), and
    /// the token for it; `None` when nobody does. Asked again after a restart, which may move it.
    pub(crate) fn server(&self) -> Result<Option<(Address, TokenSource)>, CliError> {
        if let Some(url) = &self.server {
            let address = Address::parse(url, "").map_err(CallError::from)?;
            return Ok(Some((address.without(MCP_PATH), self.token.clone())));
        }
        if !self.settings.is_locked() {
            return Ok(None);
        }
        let Some((running, admin)) = run_files::read(&OsDisk, &self.root) else {
            return Err(CliError::Locked { root: self.root.clone() });
        };
        Ok(Some((Address::of_running(&running, ""), self.token.clone().or(admin))))
    }

    /// Journal size above which routines compact a scope.
    pub(crate) fn compact_over(&self) -> u64 {
        self.settings.compact_over()
    }

    fn client(&self, address: Address, token: TokenSource) -> Backend {
        let project = self.project.as_ref().map(|project| project.as_str().to_owned());
        Backend::Server(McpClient::new(address, token, project))
    }
}

/// A store that can be asked.
#[derive(Debug)]
pub(crate) enum Backend {
    /// A running server.
    Server(McpClient),
    /// The directory, opened by this process.
    Directory {
        /// The store.
        engine: Arc<Engine>,
        /// Its jobs.
        jobs: Arc<JobQueue>,
        /// The directory's owner.
        principal: Principal,
        /// The project calls are made in.
        project: Option<ProjectId>,
        /// What is done to the store is on record whichever way it is done.
        audit: Audit,
    },
}

impl Backend {
    /// Calls `tool`, showing progress to whoever looks at standard error.
    pub(crate) fn call(
        &self,
        tool: &'static Tool,
        arguments: Map<String, Value>,
    ) -> Result<Value, CliError> {
        let progress = TerminalProgress::new();
        let result = self.call_with(tool, arguments, &progress);
        progress.clear();
        result
    }

    /// Calls the tool of that name with `arguments`, a JSON object.
    pub(crate) fn call_named(&self, name: &str, arguments: Value) -> Result<Value, CliError> {
        let tool = tools::find(name).ok_or_else(|| CliError::Usage {
            message: format!("this program has no tool {name}"),
        })?;
        let arguments = match arguments {
            Value::Object(map) => map,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        };
        self.call(tool, arguments)
    }

    fn call_with(
        &self,
        tool: &'static Tool,
        arguments: Map<String, Value>,
        progress: &dyn Progress,
    ) -> Result<Value, CliError> {
        match self {
            Self::Server(client) => Ok(client.call(tool, arguments, progress)?),
            Self::Directory { engine, jobs, principal, project, audit } => {
                let begun = Instant::now();
                let entry =
                    Entry::new(Kind::Call, "ok").about(&Asked::of(&arguments, project.as_ref()));
                let call = Call { tool, principal, default_project: project.clone(), arguments };
                let result = tools::call(engine, jobs, call, progress);
                let mut entry = match &result {
                    Ok(result) => entry.with_result(result),
                    Err(error) => Entry { outcome: error.code().to_owned(), ..entry },
                };
                entry.tool = Some(tool.dotted.to_owned());
                entry.subject = Some(principal.subject.clone());
                entry.write = !tool.read_only;
                let entry = entry.took(begun.elapsed()).from_peer("cli", None);
                audit.record(&entry.without_secrets(&engine.redactor()));
                Ok(result?)
            }
        }
    }

    /// What each scope holds, as far as the caller may know.
    pub(crate) fn scopes(&self) -> Result<Vec<ScopeStatus>, CliError> {
        match self {
            Self::Directory { engine, .. } => Ok(engine.status()?),
            Self::Server(client) => {
                let health = client.read(HEALTH)?;
                let scopes = health.get("scopes").cloned().unwrap_or_else(|| Value::Array(vec![]));
                serde_json::from_value(scopes).map_err(|error| CliError::Document {
                    what: HEALTH.to_owned(),
                    reason: error.to_string(),
                })
            }
        }
    }

    /// The store itself, when this process has it open.
    pub(crate) fn engine(&self) -> Option<&Arc<Engine>> {
        match self {
            Self::Server(_) => None,
            Self::Directory { engine, .. } => Some(engine),
        }
    }

    /// Puts what was done past the tools on record. A server has a record of its own.
    pub(crate) fn record(&self, entry: &Entry) {
        if let Self::Directory { audit, .. } = self {
            audit.record(entry);
        }
    }

    /// Says where the answers come from, for reports.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Server(client) => format!("server at {}", client.authority()),
            Self::Directory { engine, .. } => format!("directory {}", engine.root().display()),
        }
    }

    /// Finishes what the store still has to do. A server goes on.
    pub(crate) fn close(self) -> Result<(), CliError> {
        match self {
            Self::Server(_) => Ok(()),
            Self::Directory { engine, audit, .. } => {
                audit.close();
                Ok(engine.close()?)
            }
        }
    }
}
