//! Any text as a scope's configuration: refused with at least one reason, or a configuration
//! whose full spelling reads back as itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_memory_engine::config::ScopeConfig;

fuzz_target!(|text: &str| match ScopeConfig::parse(text) {
    Ok(config) => {
        let spelled = config.to_json();
        assert_eq!(ScopeConfig::from_json(&spelled).expect("its own spelling"), config);
    }
    Err(error) => assert!(!error.problems.is_empty() && !error.to_string().is_empty()),
});
