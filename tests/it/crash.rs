//! Every acknowledged write survives `kill -9` of the real server.

use std::time::Duration;

use llm_memory_tests::crash::{Plan, any_seed, run};

#[test]
fn acknowledged_writes_survive_fifty_crashes() {
    let seed = any_seed();
    println!("seed {seed}");
    let plan = Plan {
        cycles: 50,
        seed,
        cycles_per_store: 25,
        longest_run: Duration::from_millis(1200),
        verbose: true,
    };
    let report = run(&plan).unwrap();
    // A server that acknowledges nothing would pass everything above.
    assert!(report.acknowledged > 50, "{report:?}");
    assert!(report.compactions > 0, "{report:?}");
}
