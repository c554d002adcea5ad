//! Any text as a query: never an error, what was understood is understood the same again, and the
//! words found by it are pieces of the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_memory_engine::text::{TextField, parse, word_matches};

fuzz_target!(|text: &str| {
    let query = parse(text);
    let again = parse(query.understood());
    if !query.truncated() {
        assert_eq!(again.understood(), query.understood());
    }
    for field in TextField::ALL {
        for found in word_matches(text, field, &query) {
            assert!(text.get(found.start..found.end).is_some_and(|word| !word.is_empty()));
        }
    }
});
