//! Any bytes as what a client sends, however they arrive: cut into the same lines, never held
//! beyond the limit, and each line refused with an error or a message that reads back as itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_memory::mcp::lines::{Frame, Splitter, parse};

const MAX: usize = 512;

/// The lines of `bytes` that arrive in pieces of `size`; `None` stands for one that is too long.
fn lines(bytes: &[u8], size: usize) -> Vec<Option<Vec<u8>>> {
    let mut splitter = Splitter::new(MAX);
    let mut found = Vec::new();
    for piece in bytes.chunks(size) {
        splitter.push(piece);
        while let Some(line) = splitter.next_line() {
            found.push(line.ok());
        }
        assert!(splitter.held() <= MAX + 1, "{} bytes are held", splitter.held());
    }
    while let Some(line) = splitter.finish() {
        found.push(line.ok());
    }
    found
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = lines(bytes, bytes.len().max(1));
    let pieces = lines(bytes, usize::from(size).max(1));
    assert_eq!(pieces, whole);
    for line in whole.into_iter().flatten() {
        assert!(line.len() <= MAX);
        for fill in [false, true] {
            let Ok(Frame::Message { message, .. }) = parse(&line, fill) else { continue };
            let text = serde_json::to_vec(&message).expect("a message is JSON");
            match parse(&text, fill) {
                Ok(Frame::Message { message: again, token: None }) => {
                    let again = serde_json::to_vec(&again).expect("a message is JSON");
                    assert_eq!(again, text, "{}", String::from_utf8_lossy(&again));
                }
                other => panic!("{} became {other:?}", String::from_utf8_lossy(&text)),
            }
        }
    }
});
