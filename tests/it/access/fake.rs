//! A stand-in for whoever the server asks, over TLS on the loopback address.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A certificate that names the loopback address, and signs itself.
pub(super) struct Certificate {
    made: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Certificate {
    pub(super) fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Self { made: rcgen::generate_simple_self_signed(names).unwrap() }
    }

    /// Writes certificate and key as PEM.
    pub(super) fn write(&self, certificate: &Path, key: &Path) {
        std::fs::write(certificate, self.made.cert.pem()).unwrap();
        std::fs::write(key, self.made.signing_key.serialize_pem()).unwrap();
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(self.made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.made.cert.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A running stand-in.
pub(super) struct Fake {
    folder: tempfile::TempDir,
    certificate: Certificate,
    router: Router,
    pub(super) address: SocketAddr,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Fake {
    /// Serves what `router` makes of the stand-in's own address.
    pub(super) fn new(router: impl FnOnce(&str) -> Router) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = Certificate::new(&["127.0.0.1"]);
        certificate.write(&folder.path().join("ca.crt"), &folder.path().join("ca.key"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(&format!("https://{address}"));
        let mut fake = Self { folder, certificate, router, address, running: None };
        fake.serve(listener);
        fake
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate that vouches for it.
    pub(super) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A folder of its own.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Goes away; connections are refused.
    pub(super) fn go_away(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.cancel();
            thread.join().unwrap();
        }
    }

    /// Comes back where it was.
    pub(super) fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let (acceptor, router) = (self.certificate.acceptor(), self.router.clone());
        let stop = CancellationToken::new();
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // Open connections end with the runtime.
            runtime.block_on(until.run_until_cancelled(accept(listener, acceptor, router)));
        });
        self.running = Some((stop, thread));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.go_away();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = TowerToHyperService::new(router);
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
