//! The llm-memory binary: parse, run, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    llm_memory::args::run(std::env::args_os()).into()
}
