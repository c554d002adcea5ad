//! The official SDKs as clients of the real binary. What they do is in `tests/clients`; here it
//! is started.

use llm_memory_tests::clients::{self, Program};
use llm_memory_tests::server::TestServer;

fn against_a_server(program: Program, extra: &[&str]) {
    let server = TestServer::builder().start().unwrap();
    let mut program = program.arg(format!("http://{}/mcp", server.addresses().unwrap().mcp));
    for argument in extra {
        program = program.arg(argument);
    }
    let printed = program.run().unwrap();
    assert!(printed.lines().any(|line| line == "ok"), "{printed}");
}

#[test]
fn the_typescript_sdk_works_over_a_session() {
    against_a_server(clients::node_script("sdk_v1.mjs").unwrap(), &[]);
}

#[test]
fn the_typescript_sdk_works_without_a_session() {
    against_a_server(clients::node_script("sdk_v2.mjs").unwrap(), &[]);
}

#[test]
fn the_python_sdk_works_over_a_session() {
    against_a_server(clients::python_script("sdk.py").unwrap(), &["legacy"]);
}

#[test]
fn the_python_sdk_works_without_a_session() {
    against_a_server(clients::python_script("sdk.py").unwrap(), &["auto"]);
}
