//! Every environment variable of the product. The reference page and `config show` are made from
//! this table; a `LLM_MEMORY_*` variable that is not in it is an error, because a misspelled
//! setting that silently does nothing is worse than a server that does not start.

/// One variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: &'static str,
    /// What it sets, in one or two sentences.
    pub doc: &'static str,
}

macro_rules! env_vars {
    ($($(#[doc = $doc:literal])+ $constant:ident = $name:literal;)+) => {
        $(
            $(#[doc = $doc])+
            pub const $constant: EnvVar = EnvVar { name: $name, doc: concat!($($doc),+) };
        )+

        /// The whole table, in the order of the reference page.
        pub const ALL: &[EnvVar] = &[$($constant),+];
    };
}

env_vars! {
    /// Server configuration file (JSON). Without it, `server.json` in the data folder is read, or
    /// else `/etc/llm-memory/server.json`, when there is one.
    CONFIG = "LLM_MEMORY_CONFIG";
    /// Folder of the store.
    DATA_DIR = "LLM_MEMORY_DATA_DIR";
    /// Project that a call works in when it names none (command line and stdio).
    PROJECT = "LLM_MEMORY_PROJECT";
    /// Address of a running server for the command line, such as `http://127.0.0.1:3000`. Without
    /// it the data folder says which server holds it.
    URL = "LLM_MEMORY_URL";
    /// Bearer token that the command line sends to a running server. Without it the server's own
    /// `run/admin.token` is used, when it may be read.
    TOKEN = "LLM_MEMORY_TOKEN";
    /// File with the bearer token, read again with every request, as the tokens that Kubernetes
    /// projects into a pod change under it. `LLM_MEMORY_TOKEN` comes first.
    TOKEN_FILE = "LLM_MEMORY_TOKEN_FILE";
    /// Certificate authorities (PEM) that the command line trusts for an `https` server. Without it
    /// those of the system count.
    CA_FILE = "LLM_MEMORY_CA_FILE";
    /// Address that every listener binds. Anything but a loopback address needs tokens, or
    /// identities from Kubernetes or OpenID Connect.
    BIND_ADDRESS = "LLM_MEMORY_BIND_ADDRESS";
    /// Port of MCP over Streamable HTTP (`/mcp`) and newline-delimited JSON-RPC; 0 takes a free
    /// one.
    MCP_PORT = "LLM_MEMORY_MCP_PORT";
    /// Port of `/health`, `/livez` and `/readyz`; 0 takes a free one.
    HEALTH_PORT = "LLM_MEMORY_HEALTH_PORT";
    /// Port of `/metrics`; 0 takes a free one.
    METRICS_PORT = "LLM_MEMORY_METRICS_PORT";
    /// Host names that the `Host` header may carry, besides loopback names and the bound address;
    /// comma-separated. `*` allows any; so does none, when tokens guard an address that is not
    /// loopback.
    ALLOWED_HOSTS = "LLM_MEMORY_ALLOWED_HOSTS";
    /// Origins from which browsers may call, such as `https://console.example.org`;
    /// comma-separated.
    ALLOWED_ORIGINS = "LLM_MEMORY_ALLOWED_ORIGINS";
    /// Address under which clients reach the server, for the OAuth metadata; without it the `Host`
    /// header says.
    PUBLIC_URL = "LLM_MEMORY_PUBLIC_URL";
    /// A path for MCP over HTTP besides `/mcp`, which is always there; for proxies that pass their
    /// own path on. Clients are told this one.
    MCP_PATH = "LLM_MEMORY_MCP_PATH";
    /// Serve without tokens on an address that is not loopback. Everybody who reaches the port can
    /// then read and change everything.
    ALLOW_ANONYMOUS = "LLM_MEMORY_ALLOW_ANONYMOUS";
    /// Token file (JSON), as `llm-memory token create` writes it.
    TOKENS_FILE = "LLM_MEMORY_TOKENS_FILE";
    /// Identities file (JSON): what callers may do whom Kubernetes or an OpenID Connect issuer
    /// vouches for. Read again when it changes.
    IDENTITIES_FILE = "LLM_MEMORY_IDENTITIES_FILE";
    /// Audience of the Kubernetes ServiceAccount tokens that are taken, such as `llm-memory`, where
    /// the rule for an account names no other. Each is shown to the API server (TokenReview). Without
    /// it there are none.
    KUBERNETES_AUDIENCE = "LLM_MEMORY_KUBERNETES_AUDIENCE";
    /// Address of the Kubernetes API server. Without it the variables that every pod gets say.
    KUBERNETES_API_SERVER = "LLM_MEMORY_KUBERNETES_API_SERVER";
    /// Token with which this server asks for reviews; read again for each.
    KUBERNETES_TOKEN_FILE = "LLM_MEMORY_KUBERNETES_TOKEN_FILE";
    /// Certificate authorities (PEM) of the API server; read again for each review.
    KUBERNETES_CA_FILE = "LLM_MEMORY_KUBERNETES_CA_FILE";
    /// OpenID Connect issuer whose tokens are taken, as in their `iss`. Without it there are none.
    OIDC_ISSUER = "LLM_MEMORY_OIDC_ISSUER";
    /// Audience that the issuer's tokens must be for.
    OIDC_AUDIENCE = "LLM_MEMORY_OIDC_AUDIENCE";
    /// Where the issuer's keys are (JWKS). Without it the issuer's discovery document says.
    OIDC_JWKS_URL = "LLM_MEMORY_OIDC_JWKS_URL";
    /// Certificate authorities (PEM) of the issuer. Without it those of the system count.
    OIDC_CA_FILE = "LLM_MEMORY_OIDC_CA_FILE";
    /// Claim that names the caller.
    OIDC_SUBJECT_CLAIM = "LLM_MEMORY_OIDC_SUBJECT_CLAIM";
    /// Certificate chain (PEM) of the MCP port, which then speaks TLS only. Read again when it
    /// changes.
    TLS_CERT_FILE = "LLM_MEMORY_TLS_CERT_FILE";
    /// Private key (PEM) of the certificate. Read again when it changes.
    TLS_KEY_FILE = "LLM_MEMORY_TLS_KEY_FILE";
    /// Failed authentications after which an address, or a token name, is locked out.
    /// From there a good token still lets its holder in: one of this server at once, one of somebody
    /// else as soon as they may be asked about it, which is once a second for tokens not known yet.
    LOCKOUT_FAILURES = "LLM_MEMORY_LOCKOUT_FAILURES";
    /// Minutes that a lockout lasts.
    LOCKOUT_MINUTES = "LLM_MEMORY_LOCKOUT_MINUTES";
    /// File of secret patterns to redact (JSON: `patterns`, `replacement`, `enabled`). Without it
    /// the built-in patterns apply.
    SECRET_PATTERNS_FILE = "LLM_MEMORY_SECRET_PATTERNS_FILE";
    /// Serve reads from what is there: no writes, no background work, small caches.
    SAFE_MODE = "LLM_MEMORY_SAFE_MODE";
    /// Serve the fixtures of the MCP conformance suite besides the tools. For tests.
    CONFORMANCE = "LLM_MEMORY_CONFORMANCE";
    /// Budget of the catalog's page cache, MiB.
    CACHE_SIZE_MB = "LLM_MEMORY_CACHE_SIZE_MB";
    /// Budget of the payload cache (decoded items), MiB.
    PAYLOAD_CACHE_MB = "LLM_MEMORY_PAYLOAD_CACHE_MB";
    /// Budget of the decoded-block cache, MiB.
    FRAME_CACHE_MB = "LLM_MEMORY_FRAME_CACHE_MB";
    /// Size at which a journal segment is sealed, MiB.
    SEGMENT_MB = "LLM_MEMORY_SEGMENT_MB";
    /// Ed25519 private key (PKCS#8 PEM) that signs checkpoints. Without it they are not signed.
    SIGNING_KEY_FILE = "LLM_MEMORY_SIGNING_KEY_FILE";
    /// Tool calls that run at the same time. For those who are operator or monitor and no agent, one
    /// to four places are kept beside them.
    MAX_CONCURRENT_CALLS = "LLM_MEMORY_MAX_CONCURRENT_CALLS";
    /// Tool calls that may wait for their turn before the answer is `busy`. One caller, other than an
    /// administrator, has at most half of the calls that run and wait.
    CALL_QUEUE = "LLM_MEMORY_CALL_QUEUE";
    /// Scopes that may be open at the same time (global, and local and committed of each project);
    /// a call for one more is refused.
    MAX_SCOPES = "LLM_MEMORY_MAX_SCOPES";
    /// Writes that may wait in one scope before the answer is `busy`.
    WRITE_QUEUE = "LLM_MEMORY_WRITE_QUEUE";
    /// Longest item (title, text and code together), KiB.
    MAX_ITEM_KB = "LLM_MEMORY_MAX_ITEM_KB";
    /// Longest request, KiB.
    /// At most sixteen messages of over 64 KiB are held at one time, and no more than calls may run;
    /// others wait, and are then answered busy (over TCP: hung up on).
    MAX_REQUEST_KB = "LLM_MEMORY_MAX_REQUEST_KB";
    /// Connections that may be open at the same time.
    MAX_CONNECTIONS = "LLM_MEMORY_MAX_CONNECTIONS";
    /// Sessions of the 2025-11-25 protocol that may be open at the same time.
    MAX_SESSIONS = "LLM_MEMORY_MAX_SESSIONS";
    /// Minutes after which a session without traffic is closed.
    SESSION_IDLE_MINUTES = "LLM_MEMORY_SESSION_IDLE_MINUTES";
    /// Seconds that calls in progress get to finish when the server stops.
    GRACE_SECONDS = "LLM_MEMORY_GRACE_SECONDS";
    /// Compact a scope in the background once its journal is over the limit.
    AUTO_COMPACT = "LLM_MEMORY_AUTO_COMPACT";
    /// Journal size of a scope that starts a background compaction, MiB.
    AUTO_COMPACT_MB = "LLM_MEMORY_AUTO_COMPACT_MB";
    /// Jobs that may wait before the answer to another one is `busy`.
    MAX_PENDING_JOBS = "LLM_MEMORY_MAX_PENDING_JOBS";
    /// Jobs that run at the same time.
    JOB_WORKERS = "LLM_MEMORY_JOB_WORKERS";
    /// Least severe log events that are written.
    LOG_LEVEL = "LLM_MEMORY_LOG_LEVEL";
    /// Shape of log events on stderr; the log file is always JSON.
    LOG_FORMAT = "LLM_MEMORY_LOG_FORMAT";
    /// Where log events go: `stderr`, `file` (`logs/server.log` in the data folder) or `both`.
    LOG_DESTINATION = "LLM_MEMORY_LOG_DESTINATION";
    /// Size at which the log file is rotated, MiB.
    LOG_MAX_MB = "LLM_MEMORY_LOG_MAX_MB";
    /// Days that rotated log files are kept; the oldest go sooner when all together exceed 256 MiB
    /// (or twice the size at which one is rotated).
    LOG_KEEP_DAYS = "LLM_MEMORY_LOG_KEEP_DAYS";
    /// Calls slower than this are logged as slow, milliseconds; 0 turns it off.
    SLOW_CALL_MS = "LLM_MEMORY_SLOW_CALL_MS";
    /// Write the audit log (`audit/audit-YYYYMMDD.ndjson` in the data folder).
    AUDIT = "LLM_MEMORY_AUDIT";
    /// Size at which an audit file is rotated within the day, MiB.
    AUDIT_MAX_MB = "LLM_MEMORY_AUDIT_MAX_MB";
    /// Days that audit files are kept; the oldest go sooner when all together exceed 512 MiB (or
    /// twice the size at which one is rotated).
    AUDIT_KEEP_DAYS = "LLM_MEMORY_AUDIT_KEEP_DAYS";
    /// Which kind of video encoder the archive takes; `wasm` means `software`. Checked and shown,
    /// but without effect until the store has a video archive.
    VIDEO_ENCODER = "LLM_MEMORY_VIDEO_ENCODER";
    /// Video codec of the archive; `auto` is what hardware encodes, and lossless where there is none.
    /// Without effect until the store has a video archive.
    VIDEO_CODEC = "LLM_MEMORY_VIDEO_CODEC";
    /// Constant rate factor of lossy codecs. Without effect until the store has a video archive.
    VIDEO_CRF = "LLM_MEMORY_VIDEO_CRF";
    /// Encoder preset. Without effect until the store has a video archive.
    VIDEO_PRESET = "LLM_MEMORY_VIDEO_PRESET";
    /// Hardware acceleration. Without effect until the store has a video archive.
    VIDEO_HWACCEL = "LLM_MEMORY_VIDEO_HWACCEL";
    /// QR error correction level of the archive's frames. Without effect until the store has a
    /// video archive.
    QR_ERROR_CORRECTION = "LLM_MEMORY_QR_ERROR_CORRECTION";
}

/// What every variable of the product begins with.
pub const PREFIX: &str = "LLM_MEMORY_";

/// Whether `name=value` was put there by Kubernetes for a Service whose name begins with
/// `llm-memory` (`LLM_MEMORY_SERVICE_HOST`, `LLM_MEMORY_MCP_PORT=tcp://10.0.0.1:3000`, ...).
/// Every pod in the namespace gets these, so they are nobody's spelling mistake.
pub fn is_service_link(name: &str, value: &str) -> bool {
    let address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let of_service = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_");
    let of_port = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
        number && parts.next().is_some_and(|part| matches!(part, "TCP" | "UDP" | "SCTP"))
    });
    of_service || of_port || (address && name.ends_with("_PORT"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_carry_the_prefix() {
        let names: BTreeSet<_> = ALL.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), ALL.len());
        for variable in ALL {
            assert!(variable.name.starts_with(PREFIX), "{}", variable.name);
            assert!(variable.doc.trim().ends_with('.'), "{}", variable.name);
        }
    }

    #[test]
    fn variables_that_kubernetes_makes_for_services_are_told_from_settings() {
        for (name, value) in [
            ("LLM_MEMORY_PORT", "tcp://10.0.0.1:3000"),
            ("LLM_MEMORY_MCP_PORT", "tcp://10.0.0.1:3000"),
            ("LLM_MEMORY_SERVICE_HOST", "10.0.0.1"),
            ("LLM_MEMORY_SERVICE_PORT", "3000"),
            ("LLM_MEMORY_SERVICE_PORT_MCP", "3000"),
            ("LLM_MEMORY_PORT_3000_TCP", "tcp://10.0.0.1:3000"),
            ("LLM_MEMORY_HEALTH_PORT_8080_TCP_PROTO", "tcp"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        assert!(!is_service_link("LLM_MEMORY_MCP_PORT", "3000"));
        assert!(!is_service_link("LLM_MEMORY_PORTS", "3000"));
        assert!(!is_service_link("LLM_MEMORY_CACHE_SIZE", "10"));
    }
}
