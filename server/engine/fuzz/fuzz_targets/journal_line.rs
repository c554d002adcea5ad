//! Any bytes as a line of the journal: refused, or a record that reads back the same when its
//! head stands alone, and with exactly the bytes that were there.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_memory_engine::journal::entry::parse_line;

fuzz_target!(|line: &[u8]| {
    let Ok(parsed) = parse_line(line) else { return };
    let _ = parsed.check_body();
    let head = parsed.head();
    let alone = parse_line(&head).expect("the head of a record is a record");
    assert_eq!(alone.record, parsed.record);
    assert_eq!(alone.head_hash, parsed.head_hash);
    assert!(alone.body.is_none() && !alone.continued);
    if let Some(body) = parsed.body {
        let end = parsed.body_offset + body.len();
        assert_eq!(line.get(parsed.body_offset..end), Some(body));
        assert_eq!(end + 1, line.len());
    } else {
        assert_eq!(line.len(), head.len() + usize::from(parsed.continued));
    }
});
