//! What no single setting can see: values that contradict each other, or that nothing matches.

use std::net::IpAddr;

use llm_memory_engine::ids::ProjectId;

use super::Config;
use super::layers::Problem;

/// What is wrong with `config` as a whole.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |place: &str, reason: String| {
        problems.push(Problem { place: place.to_owned(), reason });
    };
    if let Some(Err(error)) = config.project.as_deref().map(ProjectId::new) {
        wrong("project", error.reason);
    }
    let ports = [
        ("listen.mcpPort", config.listen.mcp_port),
        ("listen.healthPort", config.listen.health_port),
        ("listen.metricsPort", config.listen.metrics_port),
    ];
    for (index, (key, port)) in ports.iter().enumerate() {
        let taken = ports.iter().take(index).find(|(_, other)| other == port && *port != 0);
        if let Some((other, _)) = taken {
            wrong(key, format!("{port} is also {other}; give each listener a port of its own"));
        }
    }
    for entry in config.listen.allowed_hosts.iter().filter(|entry| !can_match_host(entry)) {
        wrong(
            "listen.allowedHosts",
            format!(
                "{entry:?} matches no Host header: write a name or address with or without a port, \
                 like memory.example.com or 10.0.0.5:3000, or * for any"
            ),
        );
    }
    for entry in config.listen.allowed_origins.iter().filter(|entry| !can_match_origin(entry)) {
        wrong(
            "listen.allowedOrigins",
            format!(
                "{entry:?} matches no Origin header: write scheme and host, like \
                 https://app.example.com:443, or http://localhost:* for any port"
            ),
        );
    }
    if !can_be_path(&config.listen.mcp_path) {
        wrong(
            "listen.mcpPath",
            format!(
                "{:?} cannot be the path of MCP: write one like /mcp or /teams/web/memory, of \
                 letters, digits and -._~ between slashes, not under /api or /.well-known",
                config.listen.mcp_path
            ),
        );
    }
    problems.extend(check_access(config));
    let mut wrong = |place: &str, reason: String| {
        problems.push(Problem { place: place.to_owned(), reason });
    };
    if matches!(config.video.codec.as_str(), "h264" | "h265") && config.video.crf > 51 {
        wrong(
            "video.crf",
            format!("{} is over 51, the worst that {} knows", config.video.crf, config.video.codec),
        );
    }
    problems
}

/// Who is asked about callers, and what the port is secured with.
fn check_access(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |place: &str, reason: String| {
        problems.push(Problem { place: place.to_owned(), reason });
    };
    let (kubernetes, oidc) = (&config.auth.kubernetes, &config.auth.oidc);
    if kubernetes.audience.is_some() && kubernetes.api_server.is_none() {
        wrong(
            "auth.kubernetes.apiServer",
            "set it: auth.kubernetes.audience is set, and this process does not run in a pod"
                .to_owned(),
        );
    }
    if oidc.issuer.is_some() != oidc.audience.is_some() {
        let (present, absent) = match oidc.issuer {
            Some(_) => ("auth.oidc.issuer", "auth.oidc.audience"),
            None => ("auth.oidc.audience", "auth.oidc.issuer"),
        };
        wrong(absent, format!("set it: {present} is set, and neither works alone"));
    }
    for (key, url) in [
        ("auth.kubernetes.apiServer", &kubernetes.api_server),
        ("auth.oidc.issuer", &oidc.issuer),
        ("auth.oidc.jwksUrl", &oidc.jwks_url),
    ] {
        if let Some(url) = url.as_ref().filter(|url| !is_trustworthy(url)) {
            wrong(
                key,
                format!(
                    "{url:?} is not an https address; http is taken on a loopback address only, \
                     since whoever can change the answers can let anybody in"
                ),
            );
        }
    }
    match (&config.tls.cert_file, &config.tls.key_file) {
        (Some(_), None) => wrong("tls.keyFile", "set it: tls.certFile is set".to_owned()),
        (None, Some(_)) => wrong("tls.certFile", "set it: tls.keyFile is set".to_owned()),
        (Some(_), Some(_)) | (None, None) => {}
    }
    problems
}

/// Whether what is read from `url` comes from its host: over TLS, or from this machine.
pub(crate) fn is_trustworthy(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => host == "localhost" || address.is_ok_and(|address| address.is_loopback()),
        Some(_) | None => false,
    }
}

/// Whether MCP can be served at `path`, beside what else is served on the port.
fn can_be_path(path: &str) -> bool {
    let plain = |segment: &str| {
        let known = |letter: char| letter.is_ascii_alphanumeric() || "-._~".contains(letter);
        !segment.is_empty() && segment.chars().all(known) && !matches!(segment, "." | "..")
    };
    let Some(segments) = path.strip_prefix('/') else { return false };
    let first = segments.split('/').next();
    segments.split('/').all(plain) && !matches!(first, Some("api" | ".well-known"))
}

/// Whether some `Host` header is `entry`.
fn can_match_host(entry: &str) -> bool {
    entry == "*" || !entry.contains(['/', '*', '?', '@'])
}

/// Whether some `Origin` header is `entry`.
fn can_match_origin(entry: &str) -> bool {
    let base = entry.strip_suffix(":*").unwrap_or(entry);
    let uri = |uri: http::Uri| {
        uri.scheme().is_some()
            && uri.host().is_some_and(|host| !host.contains('*'))
            && (base == entry || uri.port().is_none())
    };
    entry == "null" || base.parse().is_ok_and(uri)
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;
    use crate::config::{Sources, load};

    fn sources(environment: &[(&str, &str)]) -> Sources {
        Sources {
            environment: environment.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            ..Sources::default()
        }
    }

    #[test]
    fn what_no_single_setting_can_see_is_checked() {
        let clash = load(
            &OsDisk,
            &sources(&[
                ("HOME", "/x"),
                ("LLM_MEMORY_HEALTH_PORT", "3000"),
                ("LLM_MEMORY_VIDEO_CODEC", "h264"),
                ("LLM_MEMORY_VIDEO_CRF", "60"),
                ("LLM_MEMORY_PROJECT", "../x"),
            ]),
        );
        let error = clash.unwrap_err().to_string();
        assert!(error.contains("listen.healthPort: 3000 is also listen.mcpPort"), "{error}");
        assert!(error.contains("video.crf: 60 is over 51"), "{error}");
        assert!(error.contains("project: "), "{error}");
    }

    #[test]
    fn hosts_and_origins_that_match_nothing_are_refused_with_the_right_form() {
        for good in ["*", "memory.svc", "10.0.0.5:3000", "::1", "[::1]:3000"] {
            assert!(can_match_host(good), "{good}");
        }
        for good in ["https://a.example", "http://localhost:*", "http://[::1]:3000", "null"] {
            assert!(can_match_origin(good), "{good}");
        }
        for bad in ["a.example", "localhost:3000", "*", "https://*.example", "http://a:80:*"] {
            assert!(!can_match_origin(bad), "{bad}");
        }
        let error = load(
            &OsDisk,
            &sources(&[
                ("HOME", "/x"),
                ("LLM_MEMORY_ALLOWED_HOSTS", "ok.example,https://a.example"),
                ("LLM_MEMORY_ALLOWED_ORIGINS", "a.example"),
            ]),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("listen.allowedHosts: \"https://a.example\""), "{error}");
        assert!(error.contains("listen.allowedOrigins: \"a.example\""), "{error}");
        assert!(!error.contains("ok.example"), "{error}");
    }

    #[test]
    fn a_path_that_nothing_could_be_served_at_is_refused() {
        for good in ["/mcp", "/teams/web/memory", "/v1.0"] {
            assert!(can_be_path(good), "{good}");
        }
        for bad in ["", "/", "mcp", "/mcp/", "//x", "/a b", "/{x}", "/a/../b", "/api/v1", "/a?b"] {
            assert!(!can_be_path(bad), "{bad}");
        }
        let error =
            load(&OsDisk, &sources(&[("LLM_MEMORY_MCP_PATH", "mcp")])).unwrap_err().to_string();
        assert!(error.contains("listen.mcpPath") && error.contains("/teams/web"), "{error}");
    }

    #[test]
    fn half_of_a_pair_and_addresses_that_anybody_could_answer_at_are_refused() {
        let error = load(
            &OsDisk,
            &sources(&[
                ("HOME", "/x"),
                ("LLM_MEMORY_KUBERNETES_AUDIENCE", "memory"),
                ("LLM_MEMORY_OIDC_ISSUER", "http://idp.example"),
                ("LLM_MEMORY_TLS_KEY_FILE", "/k"),
            ]),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("auth.kubernetes.apiServer: set it"), "{error}");
        assert!(error.contains("auth.oidc.audience: set it: auth.oidc.issuer is set"), "{error}");
        assert!(error.contains("auth.oidc.issuer: \"http://idp.example\" is not an https"));
        assert!(error.contains("tls.certFile: set it: tls.keyFile is set"), "{error}");
        for good in ["https://idp.example/realm", "http://127.0.0.1:1", "http://[::1]:1/x"] {
            assert!(is_trustworthy(good), "{good}");
        }
        for bad in ["http://10.0.0.1", "ftp://127.0.0.1", "idp.example", "http://localhost.evil"] {
            assert!(!is_trustworthy(bad), "{bad}");
        }
    }

    #[test]
    fn in_a_pod_the_api_server_is_known() {
        let found = load(
            &OsDisk,
            &sources(&[
                ("HOME", "/x"),
                ("LLM_MEMORY_KUBERNETES_AUDIENCE", "memory"),
                ("KUBERNETES_SERVICE_HOST", "fd00::1"),
                ("KUBERNETES_SERVICE_PORT", "6443"),
            ]),
        );
        let kubernetes = found.unwrap().config.auth.kubernetes;
        assert_eq!(kubernetes.api_server.as_deref(), Some("https://[fd00::1]:6443"));
    }
}
