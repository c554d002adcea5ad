//! The reference pages repeat the code; this keeps them true.

use std::path::Path;
use std::process::Command;

use llm_memory_tests::server::server_binary;

#[test]
fn committed_reference_pages_are_what_the_program_generates() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let output = Command::new(server_binary().unwrap())
        .args(["docs", "generate", "--check", "--output", "json", "--dir"])
        .arg(docs)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "outdated: run `llm-memory docs generate`\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
