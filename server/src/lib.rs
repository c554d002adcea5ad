//! The llm-memory server: MCP, HTTP, jobs and the command line. The engine does the work; this
//! crate lets people and programs in.

pub mod access;
pub mod args;
pub mod cli;
pub mod exit;
pub mod mcp;
pub mod tools;
