//! Any bytes as the active segment: opening never fails, what is served chains, and what opening
//! left behind opens again without any repair.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use llm_memory_disk::Disk;
use llm_memory_disk::faulty::FaultyDisk;
use llm_memory_engine::ids::Seq;
use llm_memory_engine::journal::{BodyState, Journal, JournalOptions};
use llm_memory_engine::progress::NoProgress;

fuzz_target!(|bytes: &[u8]| {
    let disk = FaultyDisk::new();
    let dir = Path::new("/scope");
    disk.create_dir_all(dir).expect("memory");
    disk.durable_write(&dir.join("journal.ndjson"), bytes).expect("memory");
    let open = || {
        Journal::open(Arc::new(disk.clone()), dir, JournalOptions::default()).expect("opens")
    };
    let (mut journal, _) = open();
    let sound = journal.reader().lines(Seq(1)).expect("walks").map_while(Result::ok).count();
    let damaged = journal.damage().is_some();
    if !damaged {
        assert_eq!(sound as u64, journal.head().seq.0);
    }
    let result = journal
        .reader()
        .verify(&|_| BodyState::Erased, &NoProgress)
        .expect("memory does not fail");
    assert_eq!(result.valid, !damaged, "{result:?}");
    let recovered = journal.recover().expect("recovers");
    assert_eq!(recovered.is_some(), damaged);
    assert_eq!(journal.head().seq.0, sound as u64);
    drop(journal);
    let (journal, notes) = open();
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(journal.head().seq.0, sound as u64);
});
