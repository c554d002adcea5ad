//! The certificate of the MCP port, which can be exchanged while connections are open: those keep
//! theirs, new ones get the new.
//!
//! When things go wrong: a pair that cannot be used stops the start; while the server runs, it
//! leaves the one in force as it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::Digest;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use super::provider;
use crate::config::Tls;

/// The one protocol inside TLS that has a name; JSON lines have none.
const HTTP: &[u8] = b"http/1.1";

/// A certificate that cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {setting}: {source}")]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// What the disk said.
        #[source]
        source: DiskError,
    },
    /// A file is not what it must be.
    #[error("{path} ({setting}): {reason}", path = path.display())]
    Invalid {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The two do not fit.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(rustls::Error),
}

/// A certificate with its key, ready for use.
pub struct Pair {
    config: Arc<ServerConfig>,
    /// Hash of the certificate itself.
    pub fingerprint: Digest,
    /// Hashes of the two files.
    read: [Digest; 2],
}

/// Where the pair lies, and the one in force.
pub struct ServerTls {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<Pair>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// The pair that `settings` name; `None` when they name none.
    pub fn load(disk: &dyn Disk, settings: &Tls) -> Result<Option<Self>, CertificateError> {
        let (Some(certificate), Some(key)) = (&settings.cert_file, &settings.key_file) else {
            return Ok(None);
        };
        let pair = read(disk, certificate, key)?;
        Ok(Some(Self {
            certificate: certificate.clone(),
            key: key.clone(),
            current: ArcSwap::from_pointee(pair),
        }))
    }

    /// The files, each with the words for it and the hash of what was read.
    /// They are one thing: what is wrong with one may be mended in the other.
    pub fn files(&self) -> [(PathBuf, &'static str, Digest); 2] {
        let [certificate, key] = self.current.load().read;
        [
            (self.certificate.clone(), "certificate", certificate),
            (self.key.clone(), "certificate", key),
        ]
    }

    /// The pair as the files are now.
    pub fn read_again(&self, disk: &dyn Disk) -> Result<Pair, CertificateError> {
        read(disk, &self.certificate, &self.key)
    }

    /// Puts `pair` in force for connections from now on.
    pub fn replace(&self, pair: Pair) {
        self.current.store(Arc::new(pair));
    }

    /// Hash of the certificate in force.
    pub fn fingerprint(&self) -> Digest {
        self.current.load().fingerprint
    }

    /// Takes one connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().config))
    }
}

fn read(disk: &dyn Disk, certificate: &Path, key: &Path) -> Result<Pair, CertificateError> {
    let bytes = |setting, path: &Path| {
        disk.read(path).map_err(|source| CertificateError::Unreadable { setting, source })
    };
    let invalid = |setting, path: &Path, reason: String| CertificateError::Invalid {
        setting,
        path: path.to_path_buf(),
        reason,
    };
    let (chain_setting, key_setting) = ("tls.certFile", "tls.keyFile");
    let (chain_bytes, key_bytes) = (bytes(chain_setting, certificate)?, bytes(key_setting, key)?);
    let chain = CertificateDer::pem_slice_iter(&chain_bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(chain_setting, certificate, error.to_string()))?;
    let Some(first) = chain.first() else {
        let reason = "there is no certificate in it (PEM)".to_owned();
        return Err(invalid(chain_setting, certificate, reason));
    };
    let fingerprint = Digest::of(first.as_ref());
    let secret = PrivateKeyDer::from_pem_slice(&key_bytes)
        .map_err(|error| invalid(key_setting, key, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(CertificateError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(CertificateError::Pair)?;
    config.alpn_protocols = vec![HTTP.to_vec()];
    let read = [Digest::of(&chain_bytes), Digest::of(&key_bytes)];
    Ok(Pair { config: Arc::new(config), fingerprint, read })
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_that_cannot_be_used_is_refused_and_the_one_in_force_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| {
            OsDisk.durable_write(&path(name), text.as_bytes()).unwrap();
        };
        let ((first, first_key), (second, second_key)) = (pair(), pair());
        write("crt", &first);
        write("key", &first_key);
        let settings = Tls { cert_file: Some(path("crt")), key_file: Some(path("key")) };
        let tls = ServerTls::load(&OsDisk, &settings).unwrap().unwrap();
        let before = tls.fingerprint();

        let refused = || tls.read_again(&OsDisk).err().unwrap().to_string();
        write("crt", &second);
        assert!(refused().contains("cannot be used together"), "{}", refused());
        write("crt", "nothing");
        assert!(refused().contains("there is no certificate in it"), "{}", refused());
        write("key", "nothing");
        write("crt", &second);
        assert!(refused().contains("(tls.keyFile)"), "{}", refused());
        assert_eq!(tls.fingerprint(), before);

        write("key", &second_key);
        tls.replace(tls.read_again(&OsDisk).unwrap());
        assert_ne!(tls.fingerprint(), before);
        let none = Tls { cert_file: None, key_file: None };
        assert!(ServerTls::load(&OsDisk, &none).unwrap().is_none());
    }
}
