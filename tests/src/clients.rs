//! The official SDKs and the conformance suite, at the versions that `tests/clients` pins. They
//! are installed once into the cache of the workspace, in a folder named after the lock file's
//! content, so that the checkout stays clean and a changed lock installs anew.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// Node.js before this lacks what the conformance suite needs.
const NODE_MAJOR: u32 = 22;

/// A client program ready to run.
#[derive(Debug)]
pub struct Program {
    command: Command,
    /// Holds the copy of the scripts.
    _scratch: Option<TempDir>,
}

impl Program {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Runs it to its end. A failure holds everything it printed.
    pub fn run(mut self) -> Result<String> {
        let output = self.command.output().context("could not start the client")?;
        let printed = printed(&output);
        ensure!(output.status.success(), "the client ended with {}:\n{printed}", output.status);
        Ok(printed)
    }
}

fn printed(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{stdout}{stderr}")
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

fn cache() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(cache) = variable("JUSTW_CACHE") {
        return Ok(cache.into());
    }
    let base = match variable("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(variable("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("llm-memory"))
}

/// FNV-1a: names a folder, guards nothing.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The folder of the cache that holds what `lock` pins, filled by `install` if it is new. Two
/// processes may install at once; the first to finish wins.
fn installed(
    name: &str,
    lock: &Path,
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let content = fs::read(lock).with_context(|| format!("could not read {}", lock.display()))?;
    let cache = cache()?;
    let target = cache.join(format!("{name}-{:016x}", fingerprint(&content)));
    if target.join("complete").exists() {
        return Ok(target);
    }
    fs::create_dir_all(&cache)?;
    let partial = tempfile::Builder::new().prefix("installing-").tempdir_in(&cache)?;
    install(partial.path())?;
    fs::write(partial.path().join("complete"), b"")?;
    match fs::rename(partial.path(), &target) {
        Ok(()) => {
            // Renamed away: nothing is left to remove.
            let _ = partial.keep();
        }
        Err(_) if target.join("complete").exists() => {}
        Err(error) => return Err(error).context("could not move the installed clients in place"),
    }
    Ok(target)
}

fn run_step(command: &mut Command, what: &str) -> Result<()> {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("{what} needs {}, which is not installed", command.get_program().display())
        }
        Err(error) => return Err(error).context(what.to_owned()),
    };
    ensure!(output.status.success(), "{what} failed:\n{}", printed(&output));
    Ok(())
}

fn check_node() -> Result<()> {
    let output = Command::new("node").arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let version = version.unwrap_or_else(|_| "none".to_owned());
    let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
    let new_enough = major.parse::<u32>().is_ok_and(|major| major >= NODE_MAJOR);
    ensure!(
        new_enough,
        "Node.js {NODE_MAJOR} or later is needed, found {version}: ./justw test brings one"
    );
    Ok(())
}

fn node_modules() -> Result<PathBuf> {
    check_node()?;
    let pinned = folder("node");
    let root = installed("clients-node", &pinned.join("package-lock.json"), |target| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(pinned.join(file), target.join(file))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(target);
        run_step(&mut npm, "npm ci")
    })?;
    Ok(root.join("node_modules"))
}

/// A script of `clients/node`, beside the modules it imports.
pub fn node_script(name: &str) -> Result<Program> {
    let modules = node_modules()?;
    let scratch = tempfile::tempdir()?;
    for entry in fs::read_dir(folder("node"))? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("mjs")) {
            let name = path.file_name().context("a script without a name")?;
            fs::copy(&path, scratch.path().join(name))?;
        }
    }
    std::os::unix::fs::symlink(modules, scratch.path().join("node_modules"))?;
    let mut command = Command::new("node");
    command.arg(scratch.path().join(name)).current_dir(scratch.path());
    Ok(Program { command, _scratch: Some(scratch) })
}

/// The conformance suite's command line, run in a folder of its own.
pub fn conformance() -> Result<Program> {
    let suite = node_modules()?.join("@modelcontextprotocol/conformance/dist/index.js");
    let scratch = tempfile::tempdir()?;
    let mut command = Command::new("node");
    command.arg(suite).current_dir(scratch.path());
    Ok(Program { command, _scratch: Some(scratch) })
}

/// A script of `clients/python`, in an environment that has what it imports.
pub fn python_script(name: &str) -> Result<Program> {
    let pinned = folder("python");
    let lock = pinned.join("requirements.txt");
    let environment = installed("clients-python", &lock, |target| {
        // A virtual environment knows the folder it was made in and cannot be moved: this one
        // only lends its pip, which Debian's own Python lacks.
        let venv = target.join("venv");
        run_step(Command::new("python3").args(["-m", "venv"]).arg(&venv), "python3 -m venv")?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"])
            .args(["--require-hashes", "--only-binary", ":all:", "--target"])
            .arg(target.join("packages"))
            .arg("-r")
            .arg(&lock);
        run_step(&mut pip, "pip install")?;
        Ok(fs::remove_dir_all(venv)?)
    })?;
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", environment.join("packages")).arg(pinned.join(name));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(Program { command, _scratch: None })
}
