//! The real server as a child process: started on free loopback ports, killed or stopped, started
//! again on the same data. Dropping it kills the process and removes the data folder it made.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, Wire};
use crate::stop;

/// Longest start and stop that is waited for.
const PATIENCE: Duration = Duration::from_mins(2);

/// How to start a server.
#[derive(Debug)]
pub struct ServerBuilder {
    binary: Option<PathBuf>,
    data: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: BTreeMap<String, OsString>,
}

impl ServerBuilder {
    /// Uses this data folder, and leaves it there.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data = Some(path.into());
        self
    }

    /// Runs this program instead of the workspace's own.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Adds an argument after `serve`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Starts the server and waits until it takes calls.
    pub fn start(self) -> Result<TestServer> {
        let (scratch, data) = if let Some(data) = self.data {
            (None, data)
        } else {
            let scratch = tempfile::Builder::new().prefix("llm-memory-").tempdir()?;
            stop::hold_folder(scratch.path());
            let data = scratch.path().join("data");
            (Some(scratch), data)
        };
        let binary = match self.binary {
            Some(binary) => binary,
            None => server_binary()?,
        };
        let mut server = TestServer {
            plan: Plan { binary, data, arguments: self.arguments, environment: self.environment },
            scratch,
            running: None,
        };
        server.start()?;
        Ok(server)
    }
}

#[derive(Debug)]
struct Plan {
    binary: PathBuf,
    data: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<String, OsString>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    addresses: Addresses,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// MCP, both wires.
    pub mcp: SocketAddr,
    /// `/health`, `/livez`, `/readyz`.
    pub health: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
}

/// A server process and its data.
#[derive(Debug)]
pub struct TestServer {
    plan: Plan,
    scratch: Option<TempDir>,
    running: Option<Running>,
}

impl TestServer {
    /// A server with defaults: free loopback ports, a data folder of its own.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            binary: None,
            data: None,
            arguments: Vec::new(),
            environment: BTreeMap::new(),
        }
    }

    /// Its data folder.
    pub fn data_dir(&self) -> &Path {
        &self.plan.data
    }

    /// Where it listens; an error when it does not run.
    pub fn addresses(&self) -> Result<Addresses> {
        Ok(self.running.as_ref().context("the server is not running")?.addresses)
    }

    /// Its process id; an error when it does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.running.as_ref().context("the server is not running")?.child.id())
    }

    /// A new connection.
    pub fn client(&self, wire: Wire) -> Result<Client> {
        Ok(Client::connect(self.addresses()?.mcp, wire)?)
    }

    /// Starts it (again) on the same data; answers how long it took to take calls.
    pub fn start(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let mut child = self.spawn()?;
        match self.wait_until_ready(&mut child, began) {
            Ok(addresses) => {
                self.running = Some(Running { child, addresses });
                Ok(began.elapsed())
            }
            Err(error) => {
                drop(child.kill());
                drop(ended(&mut child));
                Err(error.context(format!("the server wrote:\n{}", self.log())))
            }
        }
    }

    /// Starts it on the same data and kills it `after` that, whether it is ready by then or not.
    pub fn start_and_kill(&mut self, after: Duration) -> Result<()> {
        let mut child = self.spawn()?;
        std::thread::sleep(after);
        child.kill()?;
        ended(&mut child)?;
        Ok(())
    }

    fn spawn(&self) -> Result<Child> {
        ensure!(self.running.is_none(), "the server is already running");
        let log = std::fs::File::create(self.log_path())?;
        let mut command = Command::new(&self.plan.binary);
        command.arg("serve").args(&self.plan.arguments);
        // Settings of the caller's shell must not reach the server under test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LLM_MEMORY_") {
                command.env_remove(name);
            }
        }
        command
            .env("LLM_MEMORY_DATA_DIR", &self.plan.data)
            .env("LLM_MEMORY_BIND_ADDRESS", "127.0.0.1")
            .env("LLM_MEMORY_MCP_PORT", "0")
            .env("LLM_MEMORY_HEALTH_PORT", "0")
            .env("LLM_MEMORY_METRICS_PORT", "0")
            .env("LLM_MEMORY_LOG_DESTINATION", "stderr")
            .env("LLM_MEMORY_LOG_LEVEL", "warn")
            .envs(&self.plan.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("could not start {}", self.plan.binary.display()))?;
        stop::hold_process(child.id());
        Ok(child)
    }

    /// What the last process wrote to stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Ends it as a crash does: SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            running.child.kill()?;
            ended(&mut running.child)?;
        }
        Ok(())
    }

    /// Ends it as an operator does: SIGTERM, and waits.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut running = self.running.take().context("the server is not running")?;
        signal(&running.child, Signal::TERM)?;
        let began = Instant::now();
        loop {
            if let Some(status) = running.child.try_wait()? {
                stop::release_process(running.child.id());
                return Ok(status);
            }
            if began.elapsed() > PATIENCE {
                drop(running.child.kill());
                drop(ended(&mut running.child));
                bail!("the server did not stop within {PATIENCE:?} of SIGTERM:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn log_path(&self) -> PathBuf {
        let mut name = self.plan.data.file_name().unwrap_or_default().to_os_string();
        name.push(".log");
        self.plan.data.with_file_name(name)
    }

    /// The server writes its addresses once it takes calls; a file of an earlier process carries
    /// another pid.
    fn wait_until_ready(&self, child: &mut Child, began: Instant) -> Result<Addresses> {
        let path = self.plan.data.join("run/server.json");
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended while starting: {status}");
            }
            match std::fs::read(&path) {
                Ok(bytes) => {
                    // The file is replaced in one step, but an old one may be of any form.
                    let found = serde_json::from_slice::<Value>(&bytes).ok();
                    let pid = |value: &Value| value.get("pid").and_then(Value::as_u64);
                    if let Some(value) = found.filter(|value| pid(value) == Some(child.id().into()))
                    {
                        return addresses(&value);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
            ensure!(began.elapsed() < PATIENCE, "the server was not ready within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.kill());
        drop(std::fs::remove_file(self.log_path()));
        if let Some(scratch) = self.scratch.take() {
            stop::release_folder(scratch.path());
        }
    }
}

fn addresses(value: &Value) -> Result<Addresses> {
    let address = |name: &str| -> Result<SocketAddr> {
        let text = value.get(name).and_then(Value::as_str);
        text.with_context(|| format!("run/server.json has no {name}: {value}"))?
            .parse()
            .with_context(|| format!("{name} in run/server.json is not an address"))
    };
    Ok(Addresses { mcp: address("mcp")?, health: address("health")?, metrics: address("metrics")? })
}

/// Waits for a process that is about to end.
fn ended(child: &mut Child) -> io::Result<ExitStatus> {
    let status = child.wait()?;
    stop::release_process(child.id());
    Ok(status)
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no such process")?;
    kill_process(pid, signal)?;
    Ok(())
}

/// The server of this workspace: the program that `TEST_SERVER_BINARY` names, else the one beside
/// the running program. Under `cargo test` it is built first, because cargo does not build
/// programs of other packages for a test.
pub fn server_binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    if let Some(path) = std::env::var_os("TEST_SERVER_BINARY") {
        return Ok(path.into());
    }
    let this = std::env::current_exe()?;
    let folder = this.parent().context("this program has no folder")?;
    if folder.file_name() != Some("deps".as_ref()) {
        let binary = folder.join("llm-memory");
        ensure!(binary.exists(), "{} is missing: cargo build -p llm-memory", binary.display());
        return Ok(binary);
    }
    let folder = folder.parent().context("deps has no parent folder")?;
    let built = BUILT.get_or_init(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--package", "llm-memory", "--bin", "llm-memory"]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.file_name() == Some("release".as_ref()) {
            cargo.arg("--release");
        }
        match cargo.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("cargo build of the server: {status}")),
            Err(error) => Err(format!("cargo build of the server: {error}")),
        }
    });
    if let Err(message) = built {
        bail!("{message}");
    }
    Ok(folder.join("llm-memory"))
}
