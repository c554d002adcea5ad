//! Which names a request may come under: the same lists that MCP requests are held to. They keep
//! pages in a browser from reaching a server that lets everybody in.

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};

/// What is wrong with a request's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    /// The `Host` header.
    Host,
    /// The `Origin` header.
    Origin,
}

/// Whether the names in `headers` are on the lists. An empty list of hosts allows any.
pub(super) fn check(
    headers: &HeaderMap,
    hosts: &[String],
    origins: &[String],
) -> Result<(), Foreign> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if !hosts.is_empty() && !text(HOST).is_some_and(|host| is_listed(host, hosts)) {
        return Err(Foreign::Host);
    }
    match text(ORIGIN) {
        Some(origin) if !origins.iter().any(|allowed| is_origin(allowed, origin)) => {
            Err(Foreign::Origin)
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether `host`, as in the header, is one of `hosts`.
pub(crate) fn is_listed(host: &str, hosts: &[String]) -> bool {
    let host = host.parse::<Authority>();
    host.is_ok_and(|host| hosts.iter().any(|allowed| is_host(allowed, &host)))
}

/// `name`, which stands for any port, or `name:port`.
fn is_host(allowed: &str, host: &Authority) -> bool {
    let bare = |name: &str| name.trim_matches(['[', ']']).to_ascii_lowercase();
    if bare(allowed) == bare(host.host()) {
        return true;
    }
    allowed.parse::<Authority>().is_ok_and(|allowed| {
        bare(allowed.host()) == bare(host.host())
            && (allowed.port_u16().is_none() || allowed.port_u16() == host.port_u16())
    })
}

/// `scheme://name:port`; `*` stands for any port, none for the scheme's own.
fn is_origin(allowed: &str, origin: &str) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let (allowed, any_port) = match allowed.strip_suffix(":*") {
        Some(allowed) => (allowed, true),
        None => (allowed, false),
    };
    let Ok(allowed) = allowed.parse::<Uri>() else { return false };
    let port = |uri: &Uri| {
        uri.port_u16().or_else(|| match uri.scheme_str() {
            Some("http") => Some(80),
            Some("https") => Some(443),
            _ => None,
        })
    };
    allowed.scheme() == origin.scheme()
        && allowed.scheme().is_some()
        && allowed.host().map(str::to_ascii_lowercase) == origin.host().map(str::to_ascii_lowercase)
        && (any_port || port(&allowed) == port(&origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::McpOptions;

    fn names(host: &str, origin: Option<&str>) -> Result<(), Foreign> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        let McpOptions { mut allowed_hosts, mut allowed_origins, .. } = McpOptions::default();
        allowed_hosts.push("memory.svc:3000".to_owned());
        allowed_origins.push("https://console.example.org".to_owned());
        check(&headers, &allowed_hosts, &allowed_origins)
    }

    #[test]
    fn only_listed_hosts_are_served() {
        for host in ["localhost", "LOCALHOST:3000", "127.0.0.1:9", "[::1]:3000", "memory.svc:3000"]
        {
            assert_eq!(names(host, None), Ok(()), "{host}");
        }
        for host in ["evil.example", "memory.svc:3001", "localhost.evil.example"] {
            assert_eq!(names(host, None), Err(Foreign::Host), "{host}");
        }
        let any = check(&HeaderMap::new(), &[], &[]);
        assert_eq!(any, Ok(()));
    }

    #[test]
    fn only_pages_of_listed_origins_may_ask() {
        for origin in ["http://localhost:8000", "https://console.example.org", "http://[::1]:1"] {
            assert_eq!(names("localhost", Some(origin)), Ok(()), "{origin}");
        }
        for origin in
            ["null", "https://evil.example", "https://localhost:1", "https://console.example.org:1"]
        {
            assert_eq!(names("localhost", Some(origin)), Err(Foreign::Origin), "{origin}");
        }
    }
}
