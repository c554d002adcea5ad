//! Opening scopes, and views that fail while a scope is open.

use crossbeam_channel::{Receiver, Sender, bounded};
use llm_memory_disk::faulty::{Failure, Fault, FaultyDisk, Operation};

use super::*;
use crate::progress::Progress;

const ROOT: &str = "/store";

fn start(disk: &FaultyDisk) -> Engine {
    let options = Options { reserve_bytes: 0, cache_bytes: 0, ..Options::default() };
    Engine::open(Arc::new(disk.clone()), Path::new(ROOT), options).unwrap()
}

fn global(id: &str) -> UpsertRequest {
    UpsertRequest { scope: Scope::Global, ..note(id, "t", "y") }
}

/// Lets every writer do what it was told before.
fn settle(engine: &Engine) {
    for scope in engine.open_scopes().unwrap() {
        scope.writer.run(|_| Ok(())).unwrap();
    }
}

/// Stops at the first report until told to go on.
struct Pausing(Sender<()>, Receiver<()>);

impl Progress for Pausing {
    fn report(&self, _: u64, _: Option<u64>, _: &str) {
        self.0.send(()).unwrap();
        self.1.recv().unwrap();
    }
}

#[test]
fn a_scope_that_opens_slowly_keeps_no_other_waiting() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = open(dir.path());
    engine.upsert(&caller(), note("a", "t", "x")).unwrap();
    engine.close().unwrap();
    OsDisk.remove_dir_all(&dir.path().join("local/app/views")).unwrap();
    let engine = open(other.path());
    copy_tree(&dir.path().join("local"), &{
        let folder = other.path().join("local");
        OsDisk.create_dir_all(&folder).unwrap();
        folder
    });
    let (reached, here) = bounded(0);
    let (go_on, told) = bounded(0);
    let key = ScopeKey { tenant: None, scope: Scope::Local, project: caller().project };
    std::thread::scope(|threads| {
        let slow = threads.spawn(|| engine.open_scope(&key, &Pausing(reached, told)).map(drop));
        here.recv().unwrap();
        engine.upsert(&caller(), global("g")).unwrap();
        assert_eq!(engine.status().unwrap().len(), 1);
        go_on.send(()).unwrap();
        slow.join().unwrap().unwrap();
    });
    assert_eq!(engine.get(&caller(), get("a")).unwrap().text, "x");
}

#[test]
fn an_opening_that_fails_leaves_no_views_behind() {
    let disk = FaultyDisk::new();
    let engine = start(&disk);
    engine.upsert(&caller(), global("g")).unwrap();
    engine.close().unwrap();
    let views = Path::new(ROOT).join("global/views");
    disk.remove_dir_all(&views).unwrap();
    disk.plan(Fault::new(Operation::Sync, Failure::Io).on("complete").nth(1).lasting());
    let engine = start(&disk);
    assert_eq!(engine.unavailable().len(), 1);
    assert_eq!(disk.list(&views).unwrap().len(), 0);
    engine.close().unwrap();
    disk.heal();
    assert_eq!(start(&disk).get(&caller(), get("g")).unwrap().text, "y");
}

#[test]
fn safe_mode_reads_a_scope_whose_views_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..5 {
        engine.upsert(&caller(), note(&format!("n{n}"), "t", &word(n))).unwrap();
    }
    engine.close().unwrap();
    OsDisk.remove_dir_all(&dir.path().join("local/app/views")).unwrap();
    for _ in 0..2 {
        let options = Options { safe_mode: true, ..Options::default() };
        let engine = Engine::open(Arc::new(OsDisk), dir.path(), options).unwrap();
        assert_eq!(engine.unavailable(), []);
        assert_eq!(found(&engine, &word(3)), ["n3"]);
        let refused = engine.upsert(&caller(), note("x", "t", "y")).unwrap_err().to_string();
        assert!(refused.contains("safe mode"), "{refused}");
        engine.close().unwrap();
    }
    assert_eq!(found(&open(dir.path()), &word(3)), ["n3"]);
}

#[test]
fn rebuilding_ends_the_refusal_that_asks_for_it() {
    let disk = FaultyDisk::new();
    let engine = start(&disk);
    engine.upsert(&caller(), global("g")).unwrap();
    // What the writer will find when its catalog has failed.
    let catalog = Path::new(ROOT).join("global/views/1/catalog.redb");
    disk.durable_write(&catalog, b"not a catalog").unwrap();
    disk.plan(Fault::new(Operation::Sync, Failure::Io).on("catalog.redb").nth(1));
    assert!(engine.snapshot(&caller(), all(), &NoProgress).is_err());
    assert!(engine.upsert(&caller(), global("h")).is_err());
    let refused = engine.upsert(&caller(), global("h")).unwrap_err();
    assert!(matches!(&refused, EngineError::ReadOnly { .. }), "{refused:?}");
    assert!(refused.to_string().contains("maintenance.rebuild"), "{refused}");
    assert!(engine.compact(&caller(), all(), &NoProgress).is_err());
    engine.rebuild(&caller(), all(), &NoProgress).unwrap();
    engine.upsert(&caller(), global("h")).unwrap();
    assert_eq!(found(&engine, "y").len(), 2);
    assert_eq!(engine.status().unwrap()[0].read_only, None);
    let views = engine.verify_views(&caller(), all(), &NoProgress).unwrap();
    assert!(views["global"].ok, "{views:?}");
}

#[test]
fn a_catalog_that_failed_one_read_answers_the_next() {
    let disk = FaultyDisk::new();
    let engine = start(&disk);
    // More than the cache of a catalog holds.
    let tags: Vec<String> = (0..100).map(|n| format!("{n:0>250}")).collect();
    let ids: Vec<String> = (0..80).map(|n| format!("g{n}")).collect();
    for id in &ids {
        engine.upsert(&caller(), UpsertRequest { tags: tags.clone(), ..global(id) }).unwrap();
    }
    engine.close().unwrap();
    let engine = start(&disk);
    disk.plan(Fault::new(Operation::Read, Failure::Io).on("catalog.redb").nth(1));
    let failed = ids.iter().find(|id| engine.get(&caller(), get(id)).is_err());
    assert!(failed.is_some());
    settle(&engine);
    for id in &ids {
        assert_eq!(engine.get(&caller(), get(id)).unwrap().text, "y");
    }
}

#[test]
fn writes_of_one_caller_share_a_sync() {
    use crate::store::command::{Command, Visibility, Who};
    use crate::store::in_flight::InFlight;
    let disk = FaultyDisk::new();
    let engine = start(&disk);
    engine.upsert(&caller(), global("g")).unwrap();
    let scope = engine.open_scopes().unwrap().remove(0);
    let (busy, free) = (bounded(0), bounded::<()>(0));
    std::thread::scope(|threads| {
        let writer = &scope.writer;
        let told = free.1;
        threads.spawn(move || {
            writer.run(move |_| {
                busy.0.send(()).unwrap();
                told.recv().unwrap();
                Ok(())
            })
        });
        busy.1.recv().unwrap();
        let before = disk.counts().syncs;
        let mut writes = InFlight::new(writer);
        for n in 0..20 {
            let content = crate::item::fixtures::note(&format!("n{n}"), "x", Timestamp::now());
            let who = Who { subject: "x".to_owned(), visibility: Visibility::all() };
            let (content, counters, if_version) = (Box::new(content), None, None);
            let op = crate::journal::Op::Import;
            let command = Command::Import { op, content, counters, if_version, who };
            assert!(writes.begin(n, command).unwrap().is_none());
        }
        free.0.send(()).unwrap();
        for n in 0..20 {
            let (number, outcome) = writes.end().unwrap();
            assert_eq!((number, outcome.unwrap().created), (n, true));
        }
        let syncs = disk.counts().syncs - before;
        assert!(syncs < 20, "{syncs} syncs for 20 writes");
    });
}

#[test]
fn maintenance_goes_on_past_a_scope_that_fails_and_names_it() {
    let disk = FaultyDisk::new();
    let engine = start(&disk);
    engine.upsert(&caller(), global("g")).unwrap();
    engine.upsert(&caller(), note("l", "t", "y")).unwrap();
    engine.close().unwrap();
    disk.plan(Fault::new(Operation::Read, Failure::Io).on("local").nth(1).lasting());
    let engine = start(&disk);
    let error = engine.snapshot(&caller(), all(), &NoProgress).unwrap_err();
    assert!(matches!(error, EngineError::Incomplete { .. }), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("local: ") && told.contains("done for global"), "{told}");
    assert!(disk.exists(&Path::new(ROOT).join("global/snapshot.json")).unwrap());
    assert_eq!(engine.status().unwrap().len(), 1);
}

#[test]
fn that_the_disk_took_no_write_is_told_until_it_takes_one() {
    let disk = FaultyDisk::new();
    let engine = start(&disk);
    engine.upsert(&caller(), global("g")).unwrap();
    let told = || engine.status().unwrap()[0].write_failure.clone();
    assert_eq!(told(), None);
    disk.plan(Fault::new(Operation::Sync, Failure::Io).on("journal.ndjson").nth(1));
    engine.upsert(&caller(), global("h")).unwrap_err();
    let failure = told().unwrap();
    assert!(failure.contains("journal.ndjson"), "{failure}");
    engine.upsert(&caller(), global("h")).unwrap();
    assert_eq!(told(), None);
}

#[test]
fn a_project_that_could_not_be_made_is_not_missed() {
    let disk = FaultyDisk::new();
    let engine = start(&disk);
    disk.plan(Fault::new(Operation::Sync, Failure::Io).on("local").lasting());
    engine.upsert(&caller(), note("a", "t", "x")).unwrap_err();
    assert_eq!(engine.unavailable(), []);
    disk.heal();
    engine.upsert(&caller(), note("a", "t", "x")).unwrap();
    assert!(engine.scopes.read().opening.is_empty());
}
