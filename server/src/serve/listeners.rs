//! The three ports, all taken before anything else happens: a server that cannot have one of them
//! says so at once, and says which flag moves it.

use std::net::{SocketAddr, TcpListener};

use thiserror::Error;

use crate::config::Config;
use crate::config::settings;

/// A port that cannot be had.
#[derive(Debug, Error)]
#[error(
    "cannot listen on {address} for {purpose}: {source}; stop the program that has it, or choose \
     another with --{flag} ({variable})"
)]
pub struct PortError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What it is for.
    pub purpose: &'static str,
    /// The flag that changes it.
    pub flag: &'static str,
    /// The variable that changes it.
    pub variable: &'static str,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

/// The listeners of a server.
#[derive(Debug)]
pub struct Listeners {
    /// MCP over HTTP and TCP.
    pub mcp: TcpListener,
    /// Health.
    pub health: TcpListener,
    /// Metrics.
    pub metrics: TcpListener,
}

/// What each port is for, and the key of its setting.
pub const PURPOSES: [(&str, &str); 3] =
    [("MCP", "listen.mcpPort"), ("health", "listen.healthPort"), ("metrics", "listen.metricsPort")];

/// Takes every port.
pub fn bind(config: &Config) -> Result<Listeners, PortError> {
    let [mcp, health, metrics] = addresses(config);
    Ok(Listeners { mcp: one(mcp, 0)?, health: one(health, 1)?, metrics: one(metrics, 2)? })
}

/// The addresses asked for, in the order of [`PURPOSES`].
pub fn addresses(config: &Config) -> [SocketAddr; 3] {
    let listen = &config.listen;
    [listen.mcp_port, listen.health_port, listen.metrics_port].map(|port| config.socket(port))
}

/// Takes the port of the `index`-th purpose.
pub fn one(address: SocketAddr, index: usize) -> Result<TcpListener, PortError> {
    TcpListener::bind(address).map_err(|source| {
        let (purpose, key) = PURPOSES.get(index).copied().unwrap_or(("", ""));
        // A port that is free but cannot be had (an address of another machine) is moved by the
        // address, not by the port.
        let foreign = source.kind() == std::io::ErrorKind::AddrNotAvailable;
        let key = if foreign { "listen.address" } else { key };
        let setting = settings::by_key(key);
        PortError {
            address,
            purpose,
            flag: setting.map_or("", |setting| setting.flag),
            variable: setting.map_or("", |setting| setting.env.name),
            source,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let message = one(address, 1).unwrap_err().to_string();
        assert!(message.contains(&format!("cannot listen on {address} for health")), "{message}");
        assert!(message.contains("--health-port (LLM_MEMORY_HEALTH_PORT)"), "{message}");
    }
}
