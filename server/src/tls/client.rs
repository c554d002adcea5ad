//! Whom this program believes to be the server it meant to reach.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::provider;

/// What makes a certificate good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// One of the system's authorities, and the right name.
    System,
    /// One of the authorities in this file (PEM), and the right name.
    Authorities(PathBuf),
    /// Being one of these, by their hashes. For a server that has said itself which certificate it
    /// shows, in a folder that only its owner writes: names and authorities would add nothing, and
    /// a certificate made for the network does not name the loopback address.
    Pinned(Vec<Digest>),
}

/// A client that cannot be made.
#[derive(Debug, Error)]
pub enum ClientTlsError {
    /// The authorities cannot be read.
    #[error("cannot read the certificate authorities: {0}")]
    Unreadable(#[source] DiskError),
    /// They are none.
    #[error("{path}: {reason}", path = path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The library refuses.
    #[error("cannot prepare TLS: {0}; name a file of certificate authorities")]
    Library(#[from] rustls::Error),
}

impl Trust {
    /// A client configuration that trusts so.
    pub(crate) fn config(&self, disk: &dyn Disk) -> Result<ClientConfig, ClientTlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        Ok(match self {
            Self::Authorities(path) => {
                builder.with_root_certificates(roots(disk, path)?).with_no_client_auth()
            }
            Self::System => {
                let verifier = Verifier::new(provider())?;
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier))
                    .with_no_client_auth()
            }
            Self::Pinned(certificates) => {
                let pins = Pins { certificates: certificates.clone(), provider: provider() };
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(pins))
                    .with_no_client_auth()
            }
        })
    }

    /// Speaks TLS over `stream` with a server called `host`.
    pub(crate) async fn connect<S>(
        &self,
        disk: &dyn Disk,
        host: &str,
        stream: S,
    ) -> Result<TlsStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let config = self.config(disk).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.map_err(|error| error.to_string())
    }
}

fn roots(disk: &dyn Disk, path: &Path) -> Result<RootCertStore, ClientTlsError> {
    let wrong = |reason: String| ClientTlsError::Authorities { path: path.to_path_buf(), reason };
    let bytes = disk.read(path).map_err(ClientTlsError::Unreadable)?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        store.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(wrong("there is no certificate in it (PEM)".to_owned()));
    }
    Ok(store)
}

/// Accepts certificates by their hash. That the server has the key is still proven by the
/// handshake's signature.
#[derive(Debug)]
struct Pins {
    certificates: Vec<Digest>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pins {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificates.contains(&Digest::of(end_entity.as_ref())) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(
            "it shows another certificate than it has said it would".to_owned(),
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
