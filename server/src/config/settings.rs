//! The table of settings: one line each says its key in the configuration file, its environment
//! variable, its flag, what it accepts, its default, and whether SIGHUP applies a change.

use super::value::Kind;
use crate::env_vars::{self, EnvVar};

/// Where a setting's value comes from when nobody gives one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// This value, written as text.
    Text(&'static str),
    /// A file in the data folder.
    InDataDir(&'static str),
    /// The user's data folder: `$XDG_DATA_HOME/llm-memory`, `~/.local/share/llm-memory`, or
    /// `/var/lib/llm-memory` when there is no home.
    UserDataDir,
    /// Nothing; the feature is off.
    Unset,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Key in the configuration file, dots for nesting.
    pub key: &'static str,
    /// Environment variable, with the description.
    pub env: EnvVar,
    /// Flag, without dashes.
    pub flag: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// Value when nobody gives one.
    pub preset: Preset,
    /// A change takes effect on SIGHUP; otherwise at the next start.
    pub reload: bool,
}

const PORT: Kind = Kind::Number { min: 0, max: 65_535 };
const MEBIBYTES: Kind = Kind::Number { min: 1, max: 1 << 20 };
const DAYS: Kind = Kind::Number { min: 1, max: 36_500 };

const fn words(words: &'static [&'static str]) -> Kind {
    Kind::Choice { words, aliases: &[] }
}

const fn up_to(max: u64) -> Kind {
    Kind::Number { min: 1, max }
}

macro_rules! settings {
    ($($key:literal $env:ident $flag:literal $kind:expr, $preset:expr, $reload:ident;)+) => {
        /// The whole table, in the order in which it is shown.
        pub const ALL: &[Setting] = &[$(Setting {
            key: $key,
            env: env_vars::$env,
            flag: $flag,
            kind: $kind,
            preset: $preset,
            reload: settings!(@ $reload),
        }),+];
    };
    (@ live) => { true };
    (@ start) => { false };
}

use Preset::{InDataDir, Text, Unset, UserDataDir};

settings! {
    "dataDir" DATA_DIR "data-dir" Kind::Path, UserDataDir, start;
    "project" PROJECT "project" Kind::Text, Unset, start;
    "listen.address" BIND_ADDRESS "bind" Kind::Address, Text("127.0.0.1"), start;
    "listen.mcpPort" MCP_PORT "mcp-port" PORT, Text("3000"), start;
    "listen.healthPort" HEALTH_PORT "health-port" PORT, Text("8080"), start;
    "listen.metricsPort" METRICS_PORT "metrics-port" PORT, Text("9090"), start;
    "listen.allowedHosts" ALLOWED_HOSTS "allowed-hosts" Kind::List, Text(""), start;
    "listen.allowedOrigins" ALLOWED_ORIGINS "allowed-origins" Kind::List, Text(""), start;
    "listen.publicUrl" PUBLIC_URL "public-url" Kind::Text, Unset, start;
    "listen.mcpPath" MCP_PATH "mcp-path" Kind::Text, Text("/mcp"), start;
    "listen.maxConnections" MAX_CONNECTIONS "max-connections" up_to(1_000_000), Text("1024"), start;
    "listen.maxSessions" MAX_SESSIONS "max-sessions" up_to(1_000_000), Text("1024"), start;
    "listen.sessionIdleMinutes" SESSION_IDLE_MINUTES "session-idle-minutes" up_to(10_080), Text("30"), start;
    "auth.allowAnonymous" ALLOW_ANONYMOUS "allow-anonymous" Kind::Switch, Text("false"), start;
    "auth.tokensFile" TOKENS_FILE "tokens-file" Kind::Path, InDataDir("tokens.json"), start;
    "auth.identitiesFile" IDENTITIES_FILE "identities-file" Kind::Path, InDataDir("identities.json"), start;
    "auth.kubernetes.audience" KUBERNETES_AUDIENCE "kubernetes-audience" Kind::Text, Unset, start;
    "auth.kubernetes.apiServer" KUBERNETES_API_SERVER "kubernetes-api-server" Kind::Text, Unset, start;
    "auth.kubernetes.tokenFile" KUBERNETES_TOKEN_FILE "kubernetes-token-file" Kind::Path, Text("/var/run/secrets/kubernetes.io/serviceaccount/token"), start;
    "auth.kubernetes.caFile" KUBERNETES_CA_FILE "kubernetes-ca-file" Kind::Path, Text("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"), start;
    "auth.oidc.issuer" OIDC_ISSUER "oidc-issuer" Kind::Text, Unset, start;
    "auth.oidc.audience" OIDC_AUDIENCE "oidc-audience" Kind::Text, Unset, start;
    "auth.oidc.jwksUrl" OIDC_JWKS_URL "oidc-jwks-url" Kind::Text, Unset, start;
    "auth.oidc.caFile" OIDC_CA_FILE "oidc-ca-file" Kind::Path, Unset, start;
    "auth.oidc.subjectClaim" OIDC_SUBJECT_CLAIM "oidc-subject-claim" Kind::Text, Text("sub"), start;
    "auth.lockoutFailures" LOCKOUT_FAILURES "lockout-failures" up_to(1000), Text("5"), live;
    "auth.lockoutMinutes" LOCKOUT_MINUTES "lockout-minutes" up_to(10_080), Text("10"), live;
    "tls.certFile" TLS_CERT_FILE "tls-cert-file" Kind::Path, Unset, start;
    "tls.keyFile" TLS_KEY_FILE "tls-key-file" Kind::Path, Unset, start;
    "redaction.patternsFile" SECRET_PATTERNS_FILE "secret-patterns-file" Kind::Path, Unset, start;
    "safeMode" SAFE_MODE "safe-mode" Kind::Switch, Text("false"), start;
    "conformance" CONFORMANCE "conformance" Kind::Switch, Text("false"), start;
    "cache.catalogMb" CACHE_SIZE_MB "cache-size-mb" MEBIBYTES, Text("128"), start;
    "cache.payloadMb" PAYLOAD_CACHE_MB "payload-cache-mb" MEBIBYTES, Text("64"), start;
    "cache.frameMb" FRAME_CACHE_MB "frame-cache-mb" MEBIBYTES, Text("32"), start;
    "journal.segmentMb" SEGMENT_MB "segment-mb" up_to(65_536), Text("64"), start;
    "journal.signingKeyFile" SIGNING_KEY_FILE "signing-key-file" Kind::Path, Unset, start;
    "limits.maxConcurrentCalls" MAX_CONCURRENT_CALLS "max-concurrent-calls" up_to(4096), Text("64"), start;
    "limits.callQueue" CALL_QUEUE "call-queue" Kind::Number { min: 0, max: 1_000_000 }, Text("256"), start;
    "limits.maxScopes" MAX_SCOPES "max-scopes" up_to(1_000_000), Text("1000"), start;
    "limits.writeQueue" WRITE_QUEUE "write-queue" up_to(1_000_000), Text("1024"), start;
    "limits.maxItemKb" MAX_ITEM_KB "max-item-kb" up_to(65_536), Text("1024"), start;
    "limits.maxRequestKb" MAX_REQUEST_KB "max-request-kb" up_to(1 << 20), Text("4096"), start;
    "limits.graceSeconds" GRACE_SECONDS "grace-seconds" Kind::Number { min: 0, max: 3600 }, Text("20"), start;
    "maintenance.autoCompact" AUTO_COMPACT "auto-compact" Kind::Switch, Text("false"), live;
    "maintenance.autoCompactMb" AUTO_COMPACT_MB "auto-compact-mb" MEBIBYTES, Text("100"), live;
    "jobs.maxPending" MAX_PENDING_JOBS "max-pending-jobs" up_to(10_000), Text("32"), start;
    "jobs.workers" JOB_WORKERS "job-workers" up_to(16), Text("1"), start;
    "log.level" LOG_LEVEL "log-level" words(&["error", "warn", "info", "debug", "trace"]), Text("info"), live;
    "log.format" LOG_FORMAT "log-format" words(&["json", "text"]), Text("json"), start;
    "log.destination" LOG_DESTINATION "log-destination" words(&["stderr", "file", "both"]), Text("both"), start;
    "log.maxMb" LOG_MAX_MB "log-max-mb" MEBIBYTES, Text("64"), start;
    "log.keepDays" LOG_KEEP_DAYS "log-keep-days" DAYS, Text("30"), start;
    "log.slowCallMs" SLOW_CALL_MS "slow-call-ms" Kind::Number { min: 0, max: 3_600_000 }, Text("500"), live;
    "audit.enabled" AUDIT "audit" Kind::Switch, Text("true"), start;
    "audit.maxMb" AUDIT_MAX_MB "audit-max-mb" MEBIBYTES, Text("64"), start;
    "audit.keepDays" AUDIT_KEEP_DAYS "audit-keep-days" DAYS, Text("90"), start;
    "video.encoder" VIDEO_ENCODER "video-encoder" Kind::Choice { words: &["auto", "hardware", "software"], aliases: &[("wasm", "software"), ("native", "software")] }, Text("auto"), start;
    "video.codec" VIDEO_CODEC "video-codec" Kind::Choice { words: &["auto", "ffv1", "av1", "h264", "h265"], aliases: &[("hevc", "h265"), ("avc", "h264")] }, Text("auto"), start;
    "video.crf" VIDEO_CRF "video-crf" Kind::Number { min: 0, max: 63 }, Text("23"), start;
    "video.preset" VIDEO_PRESET "video-preset" words(&["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]), Text("medium"), start;
    "video.hwaccel" VIDEO_HWACCEL "video-hwaccel" words(&["auto", "none", "nvenc", "vaapi", "qsv"]), Text("auto"), start;
    "video.qrErrorCorrection" QR_ERROR_CORRECTION "qr-error-correction" words(&["L", "M", "Q", "H"]), Text("L"), start;
}

/// The setting with this key.
pub fn by_key(key: &str) -> Option<&'static Setting> {
    ALL.iter().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_variables_and_flags_are_unique() {
        for name in [
            |setting: &Setting| setting.key,
            |setting: &Setting| setting.env.name,
            |setting: &Setting| setting.flag,
        ] {
            let names: BTreeSet<_> = ALL.iter().map(name).collect();
            assert_eq!(names.len(), ALL.len());
        }
    }

    #[test]
    fn every_default_is_acceptable_to_its_own_kind() {
        for setting in ALL {
            if let Preset::Text(text) = setting.preset {
                setting.kind.parse_text(text).unwrap_or_else(|e| panic!("{}: {e}", setting.key));
            }
        }
    }
}
