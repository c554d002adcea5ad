//! TLS of the MCP port and of the requests that this program makes. Cryptography is `ring`'s.

pub mod client;
pub mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The cryptography of every connection.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
