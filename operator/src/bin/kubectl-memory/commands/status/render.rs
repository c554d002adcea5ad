//! The page for people; pure.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::view::View;
use crate::{printer, units};

/// Writes the page as of `now`.
pub(super) fn text(view: &View, now: Timestamp) -> String {
    let mut page = String::new();
    heading(&mut page, view, now);
    section(&mut page, "Conditions", conditions(view, now));
    section(&mut page, "Server", fields(server(view, now)));
    section(&mut page, "Volume", fields(volume(view)));
    section(&mut page, "Pod", fields(pod(view)));
    section(&mut page, "Routines", routines(view, now));
    section(&mut page, "Warnings", warnings(view, now));
    let unreadable: Vec<_> = view.unreadable.values().map(String::as_str).collect();
    section(&mut page, "Not shown", unreadable.join("\n"));
    page
}

fn heading(page: &mut String, view: &View, now: Timestamp) {
    let age = view.created.map(|since| units::age(since, now)).unwrap_or_default();
    let _ = write!(page, "memorystore {}/{}, {age} old", view.namespace, view.name);
    if view.paused {
        let _ = write!(page, ", paused");
    }
    if view.replicas == 0 {
        let _ = write!(page, ", hibernated");
    }
    if view.status.observed_generation < view.generation {
        let _ = write!(page, ", newest change not yet seen by the operator");
    }
    page.push('\n');
}

/// Adds a section, unless there is nothing to say.
fn section(page: &mut String, title: &str, body: String) {
    if body.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n{title}");
    for line in body.lines() {
        let _ = writeln!(page, "  {line}");
    }
}

/// Names and values in two columns; values that are not known are left out.
fn fields<const N: usize>(pairs: [(&str, Option<String>); N]) -> String {
    let mut lines = String::new();
    for (name, value) in pairs {
        if let Some(value) = value {
            let _ = writeln!(lines, "{name:<16}{value}");
        }
    }
    lines
}

fn conditions(view: &View, now: Timestamp) -> String {
    if view.status.conditions.is_empty() {
        return "none yet: is the operator running?".to_owned();
    }
    let row = |it: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        vec![
            it.type_.clone(),
            it.status.clone(),
            it.reason.clone(),
            units::age(it.last_transition_time.0, now),
            it.message.replace('\n', " "),
        ]
    };
    let header = ["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"];
    printer::table(&header, view.status.conditions.iter().map(row).collect())
}

fn server(view: &View, now: Timestamp) -> [(&'static str, Option<String>); 9] {
    let status = &view.status;
    let ago = |when: Timestamp| format!("{} ago", units::age(when, now));
    let verified = status.last_verification.as_ref().map(|it| {
        let result = if it.intact { "intact" } else { "DAMAGED" };
        format!("{result}, {}: {}", ago(it.time.0), it.message)
    });
    let update = status.update.as_ref().map(|it| {
        let since = it.since.as_ref().map(|since| format!(", since {}", units::age(since.0, now)));
        let why = it.message.as_ref().map(|why| format!(": {why}"));
        let (since, why) = (since.unwrap_or_default(), why.unwrap_or_default());
        format!("{:?} {} -> {}{since}{why}", it.phase, it.from, it.to)
    });
    [
        ("version", status.server_info.as_ref().map(|it| it.version.clone())),
        ("protocol", status.server_info.as_ref().map(|it| it.protocol_version.clone())),
        ("url", status.url.clone()),
        ("items", status.items.map(|count| count.to_string())),
        ("journal", status.journal_bytes.map(units::bytes)),
        ("encoder", status.encoder.clone()),
        ("verified", Some(verified.unwrap_or_else(|| "never".to_owned()))),
        (
            "compacted",
            Some(status.last_compaction.as_ref().map_or("never".to_owned(), |it| ago(it.0))),
        ),
        ("update", update),
    ]
}

fn volume(view: &View) -> [(&'static str, Option<String>); 5] {
    let storage = view.status.storage.clone().unwrap_or_default();
    let claim = view.claim.as_ref();
    let absent = claim.is_none() && !view.unreadable.contains_key("claim");
    let class = claim.and_then(|it| it.storage_class.as_ref()).map(|it| format!(", class {it}"));
    [
        (
            "claim",
            claim.map(|it| format!("{}, {}{}", it.name, it.phase, class.unwrap_or_default())),
        ),
        ("requested", storage.requested),
        ("actual", storage.actual.or_else(|| claim.and_then(|it| it.capacity.clone()))),
        ("used", storage.used.or_else(|| storage.used_bytes.map(units::bytes))),
        ("note", absent.then(|| "there is no claim yet".to_owned())),
    ]
}

fn pod(view: &View) -> [(&'static str, Option<String>); 5] {
    let Some(pod) = &view.pod else {
        let why = if view.unreadable.contains_key("pod") {
            "unknown"
        } else if view.replicas == 0 {
            "none, since the store is hibernated"
        } else {
            "none"
        };
        return [("name", Some(why.to_owned())), ("", None), ("", None), ("", None), ("", None)];
    };
    let last = pod.last_exit.as_ref().map(|it| format!(", last {it}")).unwrap_or_default();
    [
        ("name", Some(pod.name.clone())),
        ("phase", Some(pod.phase.clone())),
        ("node", Some(pod.node.clone().unwrap_or_else(|| "none yet".to_owned()))),
        ("restarts", Some(format!("{}{last}", pod.restarts))),
        ("image", pod.image.clone()),
    ]
}

fn routines(view: &View, now: Timestamp) -> String {
    if view.routines.is_empty() {
        return String::new();
    }
    let row = |it: &super::view::RoutineView| {
        let zone = it.time_zone.as_ref().map(|zone| format!(" {zone}")).unwrap_or_default();
        let suspended = if it.suspended { " (suspended)" } else { "" };
        vec![
            it.name.clone(),
            format!("{}{zone}{suspended}", it.schedule),
            units::age_or_never(it.last_schedule, now),
            units::age_or_never(it.last_success, now),
            it.active.to_string(),
        ]
    };
    let header = ["CRONJOB", "SCHEDULE", "LAST-SCHEDULE", "LAST-SUCCESS", "ACTIVE"];
    printer::table(&header, view.routines.iter().map(row).collect())
}

fn warnings(view: &View, now: Timestamp) -> String {
    if view.warnings.is_empty() {
        return String::new();
    }
    let row = |it: &super::view::WarningView| {
        vec![
            it.last.map(|when| units::age(when, now)).unwrap_or_default(),
            it.count.to_string(),
            it.object.clone(),
            it.reason.clone(),
            it.message.clone(),
        ]
    };
    let header = ["LAST", "COUNT", "OBJECT", "REASON", "MESSAGE"];
    printer::table(&header, view.warnings.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::super::observe::Observed;
    use super::*;
    use crate::fixtures;

    fn serving() -> Observed {
        Observed {
            store: fixtures::store(),
            pod: Some(fixtures::pod()),
            claim: Some(fixtures::claim()),
            cron_jobs: vec![fixtures::cron_job()],
            warnings: Vec::new(),
            unreadable: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn a_serving_store_is_well() {
        let view = View::new(serving());
        assert!(view.is_well());
        insta::assert_snapshot!(text(&view, fixtures::now()));
    }

    #[test]
    fn trouble_is_on_the_page_with_its_reason() {
        let mut observed = serving();
        fixtures::condition(
            &mut observed.store,
            "Ready",
            "False",
            "PodNotReady",
            "replaying\nthe journal",
        );
        fixtures::condition(
            &mut observed.store,
            "Verified",
            "False",
            "Damaged",
            "record 12 of scope global",
        );
        let status = observed.store.status.as_mut().unwrap();
        status.last_verification.as_mut().unwrap().intact = false;
        status.update = Some(
            serde_json::from_value(serde_json::json!({
                "phase": "RollingBack", "from": "llm-memory:0.1.0", "to": "llm-memory:0.2.0",
                "since": "2026-03-01T11:55:00Z", "message": "not ready within 300 s",
            }))
            .unwrap(),
        );
        observed.pod.as_mut().unwrap().status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0] =
            serde_json::from_value(serde_json::json!({
                "name": "server", "image": "llm-memory:0.2.0", "imageID": "", "ready": false, "restartCount": 4,
                "lastState": { "terminated": { "reason": "OOMKilled", "exitCode": 137 } },
            })).unwrap();
        observed.warnings = vec![
            fixtures::event("Pod", "mem-0", "BackOff", "2026-03-01T11:40:00Z"),
            fixtures::event("MemoryStore", "mem", "RollingBack", "2026-03-01T11:55:00Z"),
        ];
        let view = View::new(observed);
        assert!(!view.is_well());
        insta::assert_snapshot!(text(&view, fixtures::now()));
    }

    #[test]
    fn what_may_not_be_read_is_said_and_hides_nothing_else() {
        let mut observed = serving();
        observed.store.status = None;
        observed.pod = None;
        observed.claim = None;
        observed.cron_jobs = Vec::new();
        observed.unreadable.insert("pod", "not allowed to read pod prod/mem-0".to_owned());
        let view = View::new(observed);
        assert!(!view.is_well());
        insta::assert_snapshot!(text(&view, fixtures::now()));
    }

    #[test]
    fn programs_get_the_fields_of_the_object() {
        insta::assert_json_snapshot!(View::new(serving()));
    }
}
