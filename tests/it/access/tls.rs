//! The port with a certificate: what is spoken inside, what is said to those outside, and its
//! exchange.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use llm_memory_tests::server::{TestServer, server_binary};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::fake::Certificate;
use super::{INITIALIZE, Reply, plain, request};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

struct Bench {
    folder: tempfile::TempDir,
    server: TestServer,
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

impl Bench {
    fn new(certificate: &Certificate) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        certificate.write(&path("tls.crt"), &path("tls.key"));
        let server = TestServer::builder()
            .env("LLM_MEMORY_TLS_CERT_FILE", path("tls.crt"))
            .env("LLM_MEMORY_TLS_KEY_FILE", path("tls.key"))
            .start()
            .unwrap();
        Self { folder, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn address(&self) -> SocketAddr {
        self.server.addresses().unwrap().mcp
    }

    /// A connection to a server with the certificate at `path`.
    fn secure(&self, path: &str) -> Result<Secure, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path(path)).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name)?;
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).map_err(|e| rustls::Error::General(e.to_string()))?;
        }
        assert_eq!(tls.alpn_protocol(), Some(b"http/1.1".as_slice()));
        Ok(StreamOwned::new(tls, stream))
    }

    fn cli(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(server_binary().unwrap());
        command.args(arguments).env_clear().envs(environment.iter().copied());
        command.env("HOME", self.folder.path()).stdin(Stdio::null()).output().unwrap()
    }
}

fn ask(stream: &mut BufReader<Secure>, line: &str) -> Value {
    stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

fn tools(answer: &Value) -> usize {
    answer["result"]["tools"].as_array().map_or(0, Vec::len)
}

#[test]
fn both_protocols_are_spoken_inside_tls_and_neither_outside() {
    let bench = Bench::new(&Certificate::new(&["127.0.0.1"]));
    let to = bench.address();
    let mut http = bench.secure("tls.crt").unwrap();
    http.write_all(request(to, "POST /mcp", None, INITIALIZE).as_bytes()).unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    assert_eq!(Reply::of(&answer).status, 200, "{answer}");
    let mut http = bench.secure("tls.crt").unwrap();
    let path = "GET /.well-known/oauth-protected-resource";
    http.write_all(request(to, path, None, "").as_bytes()).unwrap();
    answer.clear();
    http.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&format!("https://{to}/mcp")), "{answer}");
    let mut lines = BufReader::new(bench.secure("tls.crt").unwrap());
    assert!(tools(&ask(&mut lines, LIST)) > 5);

    let refused = plain(to, &request(to, "POST /mcp", None, INITIALIZE));
    assert_eq!((refused.status, refused.body.contains("use https")), (400, true), "{refused:?}");
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(format!("{LIST}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("TLS only"), "{answer}");
    let health = bench.server.addresses().unwrap().health;
    assert_eq!(plain(health, &request(health, "GET /readyz", None, "")).status, 200);
}

#[test]
fn a_certificate_is_exchanged_while_connections_live() {
    let bench = Bench::new(&Certificate::new(&["127.0.0.1"]));
    std::fs::copy(bench.path("tls.crt"), bench.path("old.crt")).unwrap();
    let mut before = BufReader::new(bench.secure("old.crt").unwrap());
    assert!(tools(&ask(&mut before, LIST)) > 5);

    // Half of a new pair is none: the old one goes on, and the log says why.
    let next = Certificate::new(&["127.0.0.1"]);
    next.write(&bench.path("tls.crt"), &bench.path("next.key"));
    let begun = std::time::Instant::now();
    // Another look may have met a file that was half written.
    while !bench.server.log().contains("cannot be used together") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", bench.server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(bench.server.log().contains("certificate not changed"), "{}", bench.server.log());
    bench.secure("old.crt").unwrap();
    assert_eq!(bench.cli_local().status.code(), Some(0));

    std::fs::rename(bench.path("next.key"), bench.path("tls.key")).unwrap();
    let after = loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", bench.server.log());
        match bench.secure("tls.crt") {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    assert!(tools(&ask(&mut BufReader::new(after), LIST)) > 5);
    assert!(tools(&ask(&mut before, LIST)) > 5, "the old connection lives on");
    bench.secure("old.crt").map(drop).unwrap_err();
    assert_eq!(bench.cli_local().status.code(), Some(0));
}

impl Bench {
    /// A command that finds the server through its folder.
    fn cli_local(&self) -> Output {
        let data = self.server.data_dir().to_str().unwrap();
        self.cli(
            &["memory.list", "--scope=global", "--output=json"],
            &[("LLM_MEMORY_DATA_DIR", data)],
        )
    }
}

#[test]
fn the_command_line_speaks_https_and_knows_the_server_of_its_folder() {
    // As a Service's certificate: it does not name the loopback address.
    let bench = Bench::new(&Certificate::new(&["localhost", "memory.svc"]));
    let local = bench.cli_local();
    assert_eq!(local.status.code(), Some(0), "{local:?}");

    let port = bench.address().port();
    let (named, unnamed) =
        (format!("https://localhost:{port}"), format!("https://127.0.0.1:{port}"));
    let ca = bench.path("tls.crt");
    let ca = ca.to_str().unwrap();
    let list = |url: &str, environment: &[(&str, &str)]| {
        let output = bench
            .cli(&["memory.list", "--scope=global", "--output=json", "--server", url], environment);
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), stderr)
    };
    assert_eq!(list(&named, &[("LLM_MEMORY_CA_FILE", ca)]), (Some(0), String::new()));
    for (url, environment) in [(&unnamed, vec![("LLM_MEMORY_CA_FILE", ca)]), (&named, Vec::new())] {
        let (code, stderr) = list(url, &environment);
        assert_ne!(code, Some(0));
        assert!(stderr.contains("no secure connection") && stderr.contains("LLM_MEMORY_CA_FILE"));
    }
    let (code, stderr) = list(&format!("http://localhost:{port}"), &[]);
    assert_ne!(code, Some(0));
    assert!(stderr.contains("this port speaks TLS only"), "{stderr}");
}

#[test]
fn a_client_on_standard_input_is_bridged_into_tls() {
    let bench = Bench::new(&Certificate::new(&["memory.svc"]));
    let mut child = Command::new(server_binary().unwrap())
        .arg("stdio")
        .env_clear()
        .env("LLM_MEMORY_DATA_DIR", bench.server.data_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{LIST}").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert!(tools(&answer) > 5, "{output:?}");
}

#[test]
fn a_pair_that_cannot_be_used_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    Certificate::new(&["a"]).write(&path("a.crt"), &path("a.key"));
    Certificate::new(&["b"]).write(&path("b.crt"), &path("b.key"));
    let output = Command::new(server_binary().unwrap())
        .arg("serve")
        .env_clear()
        .env("LLM_MEMORY_DATA_DIR", path("data"))
        .env("LLM_MEMORY_TLS_CERT_FILE", path("a.crt"))
        .env("LLM_MEMORY_TLS_KEY_FILE", path("b.key"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("certificate and key cannot be used together"), "{stderr}");
}
