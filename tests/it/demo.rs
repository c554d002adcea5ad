//! What the README's first command shows.

use llm_memory_tests::demo::{Options, run};

#[test]
fn the_demonstration_tells_its_story_to_the_end() {
    run(&Options { items: 120, clients: 4, binary: None }).unwrap();
}
