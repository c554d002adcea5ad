//! `health system`: one score and the parts it is made of.

use std::path::Path;
use std::time::Duration;

use clap::{ArgMatches, Command};
use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::ids::Timestamp;
use serde_json::Value;

use super::probe;
use crate::args::Common;
use crate::cli::connect::Target;
use crate::cli::error::CliError;
use crate::cli::printer::Printer;
use crate::exit::Exit;
use crate::health::VIEW_LAG;
use crate::process;
use crate::reports::monitor::{Seen, Thresholds};
use crate::reports::score::{Part, SystemScore};

/// Targets of the operations manual, percent.
const MEMORY_TARGET: f64 = 80.0;
const CPU_TARGET: f64 = 70.0;
/// How long CPU use is watched.
const CPU_WATCH: Duration = Duration::from_millis(250);

pub(super) fn command() -> Command {
    Command::new("system").about("Overall score of the system with its parts")
}

pub(super) fn run(
    common: &Common,
    printer: Printer,
    arguments: &ArgMatches,
) -> Result<Exit, CliError> {
    let target = Target::new(common, arguments)?;
    let (seen, document) = probe::seen(&target, None, Timestamp::now());
    let score = collect(&target, &seen, document.as_ref());
    printer.either(&score, || score.text())?;
    Ok(exit(&score))
}

/// The exit status that goes with a score.
pub(super) fn exit(score: &SystemScore) -> Exit {
    match score.overall {
        Some(overall) if overall >= 90.0 => Exit::Done,
        Some(overall) if overall >= 70.0 => Exit::Finding,
        Some(_) => Exit::Failed,
        None => Exit::Finding,
    }
}

/// Looks at every part that was not seen yet.
pub(super) fn collect(target: &Target, seen: &Seen, document: Option<&Value>) -> SystemScore {
    let here = target.server.is_none();
    let memory = if here { process::memory(&OsDisk) } else { None };
    let cpu = if here { cpu_percent(&OsDisk) } else { None };
    score(seen, document, memory, cpu)
}

fn score(
    seen: &Seen,
    document: Option<&Value>,
    memory: Option<(u64, u64)>,
    cpu: Option<f64>,
) -> SystemScore {
    let score = SystemScore::of(parts(seen, document, memory, cpu));
    if serves(seen) { score } else { score.of_nobody() }
}

/// Whether the service answers, and is neither starting nor ending.
fn serves(seen: &Seen) -> bool {
    seen.service.running && seen.service.http_status.is_some_and(|status| status < 500)
}

fn parts(
    seen: &Seen,
    document: Option<&Value>,
    memory: Option<(u64, u64)>,
    cpu: Option<f64>,
) -> Vec<Part> {
    let service = &seen.service;
    let health = match (serves(seen), service.reasons.is_empty()) {
        (true, true) => 1.0,
        // It answers, but a person should look.
        (true, false) => 0.5,
        (false, _) => 0.0,
    };
    let word = match (service.running, service.status.as_deref()) {
        (false, _) => format!("not running: {}", service.detail),
        (true, Some(status)) => status.to_owned(),
        (true, None) => "answers".to_owned(),
    };
    let memory = match memory {
        Some((total, available)) if total > 0 => {
            let used = total.saturating_sub(available) as f64 / total as f64 * 100.0;
            Part::usage("memory", used, MEMORY_TARGET)
        }
        Some(_) | None => Part::no_data("memory", "not measurable from here"),
    };
    let cpu = cpu.map_or_else(
        || Part::no_data("cpu", "not measurable from here"),
        |used| Part::usage("cpu", used, CPU_TARGET),
    );
    let storage = seen.disk.as_ref().map_or_else(
        || Part::no_data("storage", "the data volume cannot be seen"),
        |disk| Part::usage("storage", disk.used_percent, Thresholds::DEFAULT.max_disk_percent),
    );
    let calls = match seen.calls.as_ref().and_then(|calls| Some((calls, calls.error_rate()?))) {
        Some((calls, rate)) => Part::share(
            "calls",
            1.0 - rate,
            format!("{} of {} failed, {}", calls.failed, calls.calls, calls.window),
        ),
        None => Part::no_data("calls", "none were made lately"),
    };
    vec![
        Part::share("service", health, word),
        memory,
        cpu,
        storage,
        calls,
        views(document),
        integrity(document),
        Part::no_data("pods", no_cluster()),
        Part::no_data("frequency alignment", "the store holds no personas"),
    ]
}

/// Why this command says nothing about a cluster.
pub(super) fn no_cluster() -> &'static str {
    // Kubernetes sets it in every container.
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        "a server sees nothing of its cluster; `kubectl memory health` does"
    } else {
        "not run in a cluster"
    }
}

/// How many scopes have every view near the journal's head.
fn views(document: Option<&Value>) -> Part {
    let count = |key: &str| document?.get("scopes")?.get(key)?.as_u64();
    let (Some(all), Some(current)) =
        (count("open").filter(|open| *open > 0), count("withCurrentViews"))
    else {
        return Part::no_data("views", "no scope is open");
    };
    Part::share(
        "views",
        current as f64 / all as f64,
        format!("{current} of {all} scopes have views within {VIEW_LAG} records of the journal"),
    )
}

/// What the last verification found.
fn integrity(document: Option<&Value>) -> Part {
    const NAME: &str = "integrity";
    let Some(document) = document else {
        return Part::no_data(NAME, "the server does not say");
    };
    match document.get("integrity").and_then(Value::as_str) {
        Some("sound") => Part::share(NAME, 1.0, "the last verification found no damage".to_owned()),
        Some("damaged") => Part::share(NAME, 0.0, "the last verification found damage".to_owned()),
        Some(_) => Part::no_data(NAME, "the last verification could not look at everything"),
        None => Part::no_data(NAME, "nothing was verified yet (`llm-memory journal verify`)"),
    }
}

/// Use of all processors of this machine over a moment, percent.
fn cpu_percent(disk: &dyn Disk) -> Option<f64> {
    let sample = || cpu_times(&String::from_utf8(disk.read(Path::new("/proc/stat")).ok()?).ok()?);
    let (busy, total) = sample()?;
    std::thread::sleep(CPU_WATCH);
    let (busy_later, total_later) = sample()?;
    let elapsed = total_later.checked_sub(total).filter(|elapsed| *elapsed > 0)?;
    Some(busy_later.saturating_sub(busy) as f64 / elapsed as f64 * 100.0)
}

/// Busy and total ticks since the machine started.
fn cpu_times(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; guest times are part of user.
    let ticks: Vec<u64> =
        line.split_whitespace().take(8).filter_map(|field| field.parse().ok()).collect();
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)?.saturating_add(ticks.get(4).copied().unwrap_or(0));
    Some((total.saturating_sub(idle), total))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reports::monitor::ServiceSeen;

    fn seen(running: bool) -> Seen {
        Seen {
            service: ServiceSeen {
                running,
                detail: "nobody".to_owned(),
                http_status: running.then_some(200),
                status: running.then(|| "ok".to_owned()),
                reasons: Vec::new(),
                latency_ms: None,
            },
            disk: None,
            calls: None,
        }
    }

    #[test]
    fn ticks_of_waiting_for_the_disk_are_idle() {
        let stat = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n";
        assert_eq!(cpu_times(stat), Some((150, 1000)));
        assert_eq!(cpu_times("intr 1"), None);
    }

    #[test]
    fn a_view_far_behind_its_journal_costs() {
        let document = json!({"scopes": {"open": 2, "withCurrentViews": 1}});
        assert_eq!(views(Some(&document)).score, Some(50.0));
        let none = json!({"scopes": {"open": 0, "withCurrentViews": 0}});
        assert_eq!((views(Some(&none)).score, views(None).score), (None, None));
    }

    #[test]
    fn a_service_that_is_down_makes_the_system_poor() {
        let of = |seen: &Seen| score(seen, None, Some((100, 50)), Some(10.0));
        let down = of(&seen(false));
        assert_eq!((down.overall, down.word, exit(&down)), (Some(0.0), "Critical", Exit::Failed));
        let up = of(&seen(true));
        assert_eq!((up.overall, exit(&up)), (Some(100.0), Exit::Done));
        let mut starting = seen(true);
        starting.service.http_status = Some(503);
        assert_eq!(exit(&of(&starting)), Exit::Failed);
    }

    #[test]
    fn a_degraded_service_counts_half() {
        let mut degraded = seen(true);
        degraded.service.reasons = vec!["the disk is full".to_owned()];
        let score = score(&degraded, None, None, None);
        assert_eq!((score.overall, exit(&score)), (Some(50.0), Exit::Failed));
    }

    #[test]
    fn known_damage_costs_and_what_was_never_verified_is_no_data() {
        let of = |verdict: Value| integrity(Some(&json!({"integrity": verdict}))).score;
        assert_eq!((of(json!("sound")), of(json!("damaged"))), (Some(100.0), Some(0.0)));
        assert_eq!(
            (of(json!("failed")), of(Value::Null), integrity(None).score),
            (None, None, None)
        );
    }
}
