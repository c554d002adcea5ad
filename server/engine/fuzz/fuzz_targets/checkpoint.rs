//! Any text as a checkpoint line: refused, or exactly what would be written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_memory_engine::journal::checkpoint::Checkpoint;

fuzz_target!(|line: &str| {
    if let Ok(checkpoint) = Checkpoint::parse(line) {
        assert_eq!(checkpoint.line(), line);
        let _ = checkpoint.signed();
    }
});
