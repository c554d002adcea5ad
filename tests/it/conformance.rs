//! The official conformance suite, on the wire of each protocol revision, against the real
//! binary with its fixtures switched on. Every scenario that the revision requires must pass;
//! scenarios that the suite itself does not score are not looked at.

use llm_memory_tests::clients;
use llm_memory_tests::server::TestServer;

/// Runs the suite for `revision` and answers how many of its scored scenarios passed.
fn conform(revision: &str) -> usize {
    let server = TestServer::builder()
        .env("LLM_MEMORY_CONFORMANCE", "true")
        .env("LLM_MEMORY_PROJECT", "conformance")
        .start()
        .unwrap();
    let url = format!("http://{}/mcp", server.addresses().unwrap().mcp);
    let report = clients::conformance()
        .unwrap()
        .arg("server")
        .arg("--url")
        .arg(url)
        .arg("--requirements")
        .arg(revision)
        .run()
        .unwrap();
    passed(&report)
}

/// Scenarios of the summary that passed, those not scored left out.
fn passed(report: &str) -> usize {
    let summary = report.split("=== SUMMARY ===").nth(1).unwrap_or_default();
    let mut parts = summary.split("Not scored");
    let all = parts.next().unwrap_or_default();
    let not_scored = parts.next().unwrap_or_default();
    let ticks =
        |text: &str| text.lines().filter(|line| line.trim().starts_with('\u{2713}')).count();
    ticks(all) - ticks(not_scored)
}

#[test]
fn every_scenario_of_2026_07_28_passes() {
    assert_eq!(conform("2026-07-28"), 37);
}

#[test]
fn every_scenario_of_2025_11_25_passes() {
    assert_eq!(conform("2025-11-25"), 30);
}

#[test]
fn scenarios_are_counted_without_those_not_scored() {
    let report = "x\n=== SUMMARY ===\n\u{2713} a: 1 passed\n\u{2717} b: 1 failed\n\u{2713} c: 1\n\n\
                  Not scored for r: 1\n  \u{2713} c (extension)\n";
    assert_eq!(passed(report), 1);
}
