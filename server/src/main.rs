//! The llm-memory binary.
fn main() {}
