//! The operator as a process of this machine, which can be killed and measured.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use tokio::process::{Child, Command};

use crate::fleet::SYSTEM;

/// How the operator is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its program.
    pub program: PathBuf,
    /// The identity that it has in the cluster.
    pub kubeconfig: PathBuf,
    /// Where its log goes; runs follow each other in it.
    pub log: PathBuf,
}

/// A running operator. It ends with this value.
#[derive(Debug)]
pub struct Operator(Child);

/// Resident memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Now, in KiB.
    pub resident_kib: u64,
    /// At most so far, in KiB.
    pub peak_kib: u64,
}

impl Launch {
    /// Starts the operator. It has the same name each time, as a container that is restarted in
    /// its pod has, so that it finds its own Lease.
    pub async fn start(&self) -> Result<Operator> {
        let mut options = tokio::fs::OpenOptions::new();
        let log = options.create(true).append(true).open(&self.log).await.context("log")?;
        let child = Command::new(&self.program)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("LEADER_ELECT", "true")
            .env("POD_NAME", "llm-memory-operator-0")
            .env("POD_NAMESPACE", SYSTEM)
            .env("HTTP_ADDRESS", "127.0.0.1:0")
            // As its image has it.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().await?.into_std().await)
            .stderr(log.into_std().await)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", self.program.display()))?;
        Ok(Operator(child))
    }
}

impl Operator {
    /// Ends it with SIGKILL. An operator that has ended by itself is an error.
    pub async fn kill(mut self) -> Result<()> {
        if let Some(status) = self.0.try_wait()? {
            bail!("the operator ended by itself: {status}; see its log");
        }
        self.0.kill().await.context("kill")
    }

    /// Its memory.
    pub async fn memory(&self) -> Result<Memory> {
        let pid = self.0.id().context("the operator has ended; see its log")?;
        let path = Path::new("/proc").join(pid.to_string()).join("status");
        parse(&tokio::fs::read_to_string(path).await.context("the operator's memory")?)
    }
}

fn parse(status: &str) -> Result<Memory> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("/proc says no {name}"))
    };
    Ok(Memory { resident_kib: field("VmRSS:")?, peak_kib: field("VmHWM:")? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_proc() {
        let memory = parse("Name:\tx\nVmHWM:\t   200 kB\nVmRSS:\t     100 kB\n").unwrap();
        assert_eq!(memory, Memory { resident_kib: 100, peak_kib: 200 });
        assert!(parse("Name:\tx\n").is_err());
    }
}
