//! TLS with a store, spoken here for clients that connect to the loopback address, which no
//! certificate names.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::context::Context;
use crate::error::Failure;

/// How long a handshake may take: the client knows nothing of it, and does not give up.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The store as its certificate has to name it, and where the certificate is.
#[derive(Debug, Clone)]
pub(super) struct Secure {
    secret: String,
    host: String,
}

impl Secure {
    /// The store `name`, whose certificate is in `secret`.
    pub(super) fn new(context: &Context, name: &str, secret: String) -> Self {
        Self { secret, host: format!("{name}.{}.svc", context.namespace) }
    }

    /// Speaks TLS over `stream`. The authority is read each time, since certificates are exchanged
    /// while stores run.
    pub(super) async fn connect<S>(
        &self,
        context: &Context,
        stream: S,
    ) -> Result<TlsStream<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let missing = "the store's certificate is in it; `kubectl memory status` shows more";
        let object = context.object("secret", &self.secret, missing);
        let secret = context.api::<Secret>().get(&self.secret).await;
        let secret = secret.map_err(|error| object.failed("read", error))?;
        let data = secret.data.unwrap_or_default();
        let unusable = |reason: String| Failure::Refused {
            object: format!("secret {}", self.secret),
            reason: format!("{reason}. It needs the store's certificate as tls.crt"),
        };
        // A certificate that nobody else signed is its own authority.
        let pem = data.get("ca.crt").or_else(|| data.get("tls.crt"));
        let pem = pem.ok_or_else(|| unusable("there is no certificate in it".to_owned()))?;
        let connector = TlsConnector::from(Arc::new(trusting(&pem.0).map_err(unusable)?));
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|error| unusable(error.to_string()))?;
        let spoken = tokio::time::timeout(HANDSHAKE, connector.connect(name, stream)).await;
        spoken
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| Failure::Local { what: format!("TLS with {}", self.host), source })
    }
}

/// A client that trusts the authorities in `pem`.
fn trusting(pem: &[u8]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("no certificate is in PEM form".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        assert_eq!(trusting(b"hello").unwrap_err(), "no certificate is in PEM form");
        let broken = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(trusting(broken).is_err());
    }
}
