//! Looks at the service, the data volume and recent calls.

use std::time::Duration;

use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::ids::Timestamp;
use serde_json::Value;

use crate::cli::connect::{PROBE_LIMIT, Target};
use crate::cli::http::Address;
use crate::cli::mcp_client;
use crate::commands::logs::{audit_since, limits};
use crate::reports::latency::round;
use crate::reports::monitor::{CallsSeen, DiskSeen, Seen, ServiceSeen};

/// Port of the health endpoint when only the MCP address is known.
const DEFAULT_HEALTH_PORT: u16 = 8080;
const PATH: &str = "/health";
const HOUR_MS: i64 = 3_600_000;

/// Looks at everything the monitor reports on. The document is the server's own answer, when there
/// was one.
pub(super) fn seen(
    target: &Target,
    health_url: Option<&str>,
    now: Timestamp,
) -> (Seen, Option<Value>) {
    let (service, document) = service(target, health_url);
    let seen = Seen {
        disk: disk(target, document.as_ref()),
        calls: calls(target, document.as_ref(), now),
        service,
    };
    (seen, document)
}

/// Asks the server how it is. The document is its answer, when there was one.
fn service(target: &Target, health_url: Option<&str>) -> (ServiceSeen, Option<Value>) {
    let Some(url) = health_url.map(str::to_owned).or_else(|| health_address(target)) else {
        return (down(not_running(target)), None);
    };
    let address = match Address::parse(&url, PATH) {
        Ok(address) => address,
        Err(error) => return (down(error.to_string()), None),
    };
    match mcp_client::get_json(&address, PROBE_LIMIT) {
        Err(error) => (down(error.to_string()), None),
        Ok((_, document, _)) if health_url.is_none() && is_another(target, &document) => {
            (down(format!("another server answers at {}", address.authority())), None)
        }
        Ok((status, document, took)) => {
            let text = |key: &str| document.get(key).and_then(Value::as_str).map(str::to_owned);
            let seen = ServiceSeen {
                running: true,
                detail: format!("{}{PATH}", address.origin()),
                http_status: Some(status.as_u16()),
                status: text("status"),
                reasons: reasons(&document),
                latency_ms: Some(millis(took)),
            };
            (seen, Some(document))
        }
    }
}

fn down(detail: String) -> ServiceSeen {
    ServiceSeen {
        running: false,
        detail,
        http_status: None,
        status: None,
        reasons: Vec::new(),
        latency_ms: None,
    }
}

fn millis(took: Duration) -> f64 {
    round(took.as_secs_f64() * 1000.0)
}

/// Where to ask: what the running server wrote about itself, or the named server's health port.
fn health_address(target: &Target) -> Option<String> {
    if let Some(url) = &target.server {
        let address = Address::parse(url, PATH).ok()?;
        let host = address.authority().rsplit_once(':')?.0;
        return Some(format!("http://{host}:{DEFAULT_HEALTH_PORT}{PATH}"));
    }
    Some(target.running()?.health?.to_string())
}

/// Whether an answer comes from another server than the one that wrote `run/server.json`: after a
/// crash the file is left over, and somebody else may have got its port.
fn is_another(target: &Target, document: &Value) -> bool {
    if target.server.is_some() {
        return false;
    }
    let expected = target.running().map(|running| running.started_at.to_string());
    let found = document.get("startedAt").and_then(Value::as_str);
    expected.as_deref().zip(found).is_some_and(|(expected, found)| expected != found)
}

fn not_running(target: &Target) -> String {
    format!("no server is running on {}", target.root.display())
}

/// The reasons a server gives for being degraded.
fn reasons(document: &Value) -> Vec<String> {
    let list = document.get("reasons").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The data volume: seen from here when the directory is here, else as the server says.
fn disk(target: &Target, document: Option<&Value>) -> Option<DiskSeen> {
    if target.server.is_none() {
        let space = OsDisk.space(&target.root).ok()?;
        return DiskSeen::of(space.total, space.available);
    }
    let disk = document?.get("disk")?;
    let bytes = |key: &str| disk.get(key).and_then(Value::as_u64);
    DiskSeen::of(bytes("totalBytes")?, bytes("availableBytes")?)
}

/// Calls of the last hour by the audit log, or the server's own recent figures.
fn calls(target: &Target, document: Option<&Value>, now: Timestamp) -> Option<CallsSeen> {
    if target.server.is_none() {
        let hour_ago = Timestamp::from_millis(now.as_millis().saturating_sub(HOUR_MS));
        let within = limits(hour_ago, f64::INFINITY, u64::MAX);
        if let Ok(audited) = audit_since(&OsDisk, &target.root, within)
            && audited.read > 0
        {
            let calls = audited.analysis.calls();
            return Some(CallsSeen {
                window: "last hour".to_owned(),
                calls: calls.calls,
                failed: calls.faults,
            });
        }
    }
    let figures = document?.get("calls")?;
    let seconds = figures.get("seconds").and_then(Value::as_f64).unwrap_or(0.0);
    Some(CallsSeen {
        window: format!("last {seconds:.0} s"),
        calls: figures.get("calls")?.as_u64()?,
        failed: figures.get("errors")?.as_u64()?,
    })
}
