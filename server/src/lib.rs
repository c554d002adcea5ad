//! The llm-memory server: MCP, HTTP, jobs and the command line. The engine does the work; this
//! crate lets people and programs in.

pub mod access;
pub mod answer;
pub mod args;
pub mod audit;
pub mod auth;
pub mod cli;
mod commands;
pub mod config;
mod connections;
mod docs;
pub mod doctor;
pub mod env_vars;
pub mod exit;
pub mod health;
pub mod jobs;
mod kept;
pub mod maintained;
pub mod mcp;
pub mod metered_disk;
pub mod metrics;
pub mod observer;
pub mod process;
mod reports;
pub mod serve;
pub mod sink;
pub mod status;
pub mod store_status;
pub mod telemetry;
pub mod tls;
pub mod tools;
pub mod verified;
