//! The health monitor: what was seen, against thresholds.

use serde::Serialize;

use super::finding::Finding;
use crate::health::used_percent;

/// When a figure is a finding. Defaults are the operations manual's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Thresholds {
    /// Failed over finished calls, 0 to 1.
    pub(crate) max_error_rate: f64,
    /// Time of a health request, milliseconds.
    pub(crate) max_latency_ms: f64,
    /// Used share of the data volume, percent.
    pub(crate) max_disk_percent: f64,
}

impl Thresholds {
    /// The operations manual's.
    pub(crate) const DEFAULT: Self =
        Self { max_error_rate: 0.05, max_latency_ms: 1000.0, max_disk_percent: 85.0 };
}

/// What the service answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceSeen {
    /// Whether a health request was answered.
    pub(crate) running: bool,
    /// Where it was asked, or why it could not be.
    pub(crate) detail: String,
    /// HTTP status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http_status: Option<u16>,
    /// The status it gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<String>,
    /// What it says is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reasons: Vec<String>,
    /// Time of the answer, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ms: Option<f64>,
}

/// Calls and how many of them failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallsSeen {
    /// Which calls.
    pub(crate) window: String,
    /// Finished.
    pub(crate) calls: u64,
    /// Failed.
    pub(crate) failed: u64,
}

impl CallsSeen {
    /// Failed over finished; `None` without calls.
    pub(crate) fn error_rate(&self) -> Option<f64> {
        (self.calls > 0).then(|| self.failed as f64 / self.calls as f64)
    }
}

/// The data volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiskSeen {
    /// Size.
    pub(crate) total_bytes: u64,
    /// Free for the server.
    pub(crate) available_bytes: u64,
    /// Used, percent.
    pub(crate) used_percent: f64,
}

impl DiskSeen {
    /// `None` for a volume without size.
    pub(crate) fn of(total_bytes: u64, available_bytes: u64) -> Option<Self> {
        if total_bytes == 0 {
            return None;
        }
        let used_percent = used_percent(total_bytes, available_bytes);
        Some(Self { total_bytes, available_bytes, used_percent })
    }
}

/// Everything the monitor looked at. What could not be had is absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Seen {
    /// The service.
    pub(crate) service: ServiceSeen,
    /// The data volume.
    pub(crate) disk: Option<DiskSeen>,
    /// Recent calls.
    pub(crate) calls: Option<CallsSeen>,
}

/// What is not as it should be.
pub(crate) fn findings(seen: &Seen, limits: &Thresholds) -> Vec<Finding> {
    let mut out = Vec::new();
    let service = &seen.service;
    if !service.running {
        out.push(Finding::critical(
            "service",
            format!("service is not running: {}", service.detail),
        ));
    } else if service.http_status.is_some_and(|status| status >= 500) {
        out.push(Finding::critical(
            "service",
            format!(
                "service is {}{}",
                service.status.as_deref().unwrap_or("unhealthy"),
                reasons(&service.reasons)
            ),
        ));
    } else if !service.reasons.is_empty() {
        out.push(Finding::warning(
            "service",
            format!("service is degraded{}", reasons(&service.reasons)),
        ));
    }
    if let Some(latency) = service.latency_ms.filter(|latency| *latency > limits.max_latency_ms) {
        out.push(Finding::warning(
            "latency",
            format!("high response time: {latency:.0} ms (over {} ms)", limits.max_latency_ms),
        ));
    }
    if let Some(disk) = &seen.disk
        && disk.used_percent > limits.max_disk_percent
    {
        out.push(Finding::warning(
            "disk",
            format!(
                "high disk usage: {:.1} % (over {} %)",
                disk.used_percent, limits.max_disk_percent
            ),
        ));
    }
    if let Some(calls) = &seen.calls
        && let Some(rate) = calls.error_rate()
        && rate > limits.max_error_rate
    {
        out.push(Finding::warning(
            "errors",
            format!(
                "high error rate: {:.2} % of {} calls, {} (over {} %)",
                rate * 100.0,
                calls.calls,
                calls.window,
                limits.max_error_rate * 100.0
            ),
        ));
    }
    out
}

fn reasons(list: &[String]) -> String {
    if list.is_empty() { String::new() } else { format!(": {}", list.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::reports::finding::exit;

    fn healthy() -> Seen {
        Seen {
            service: ServiceSeen {
                running: true,
                detail: "127.0.0.1:8080".to_owned(),
                http_status: Some(200),
                status: Some("ok".to_owned()),
                reasons: Vec::new(),
                latency_ms: Some(2.0),
            },
            disk: DiskSeen::of(1000, 500),
            calls: Some(CallsSeen { window: "last hour".to_owned(), calls: 100, failed: 5 }),
        }
    }

    fn check(seen: &Seen) -> (Exit, Vec<&'static str>) {
        let findings = findings(seen, &Thresholds::DEFAULT);
        (exit(&findings), findings.iter().map(|finding| finding.check).collect())
    }

    #[test]
    fn figures_at_their_threshold_are_fine() {
        let mut seen = healthy();
        seen.disk = DiskSeen::of(100, 15);
        assert_eq!(check(&seen), (Exit::Done, vec![]));
    }

    #[test]
    fn figures_over_their_threshold_are_warnings() {
        let mut seen = healthy();
        seen.disk = DiskSeen::of(1000, 149);
        seen.service.latency_ms = Some(1000.5);
        seen.calls = Some(CallsSeen { window: "last hour".to_owned(), calls: 100, failed: 6 });
        assert_eq!(check(&seen), (Exit::Finding, vec!["latency", "disk", "errors"]));
    }

    #[test]
    fn a_service_that_is_down_is_critical() {
        let mut seen = healthy();
        seen.service.running = false;
        assert_eq!(check(&seen), (Exit::Failed, vec!["service"]));
        let mut unready = healthy();
        unready.service.http_status = Some(503);
        assert_eq!(check(&unready), (Exit::Failed, vec!["service"]));
    }

    #[test]
    fn degraded_reasons_are_named() {
        let mut seen = healthy();
        seen.service.reasons = vec!["journal of global is damaged".to_owned()];
        let found = findings(&seen, &Thresholds::DEFAULT);
        assert_eq!(found[0].message, "service is degraded: journal of global is damaged");
    }

    #[test]
    fn what_is_not_known_is_no_finding() {
        let mut seen = healthy();
        seen.disk = None;
        seen.calls = Some(CallsSeen { window: "last hour".to_owned(), calls: 0, failed: 0 });
        assert_eq!(check(&seen), (Exit::Done, vec![]));
        assert_eq!(DiskSeen::of(0, 0), None);
    }
}
