//! The llm-memory server: MCP, HTTP, jobs and the command line. The engine does the work; this
//! crate lets people and programs in.

pub mod access;
pub mod args;
pub mod cli;
mod commands;
mod docs;
pub mod exit;
pub mod mcp;
mod reports;
pub mod tools;
