//! Many clients at once over both wires: nothing that was acknowledged is lost, every client
//! sees its own writes, and a flood is answered `busy`.

use std::collections::BTreeSet;
use std::thread;

use llm_memory_tests::client::{CallError, Client, Wire};
use llm_memory_tests::server::TestServer;
use serde_json::{Value, json};

const CLIENTS: usize = 64;
const ROUNDS: usize = 6;

/// Calls until the server is not busy.
fn insist(client: &mut Client, tool: &str, arguments: &Value) -> Value {
    loop {
        match client.call(tool, arguments) {
            Ok(value) => return value,
            Err(error) if error.is("busy") => thread::yield_now(),
            Err(error) => panic!("{tool} {arguments}: {error}"),
        }
    }
}

const fn wire(number: usize) -> Wire {
    if number.is_multiple_of(2) { Wire::Http } else { Wire::Lines }
}

#[test]
fn sixty_four_clients_lose_no_update_and_read_their_own_writes() {
    let server = TestServer::builder().env("LLM_MEMORY_PROJECT", "crowd").start().unwrap();
    let mut first = server.client(Wire::Lines).unwrap();
    let shared = json!({"id": "shared", "type": "note", "scope": "local", "text": "begin"});
    insist(&mut first, "memory_upsert", &shared);

    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = server.client(wire(number)).unwrap();
            scope.spawn(move || take_part(&mut client, number));
        }
    });

    let item = insist(&mut first, "memory_get", &json!({"id": "shared"}));
    let text = item["text"].as_str().unwrap();
    let tokens: BTreeSet<&str> = text.split_whitespace().collect();
    for number in 0..CLIENTS {
        for round in 0..ROUNDS {
            assert!(tokens.contains(&*mark(number, round)), "{} is lost", mark(number, round));
        }
    }
    let writes = u64::try_from(CLIENTS * ROUNDS).unwrap();
    assert_eq!(item["version"], writes + 1, "each append made one version");
    let verified = insist(&mut first, "journal_verify", &json!({"scope": "local"}));
    assert_eq!(verified["valid"], true, "{verified}");
}

fn mark(number: usize, round: usize) -> String {
    format!("mark{number}x{round}")
}

/// A word of its own for every write. Letters only: a search for `a1b2` finds every `a` too.
fn word(number: usize, round: usize) -> String {
    let letters = |number: usize| -> String {
        number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'k')).collect()
    };
    format!("x{}z{}q", letters(number), letters(round))
}

fn take_part(client: &mut Client, number: usize) {
    for round in 0..ROUNDS {
        let mark = mark(number, round);
        let append = json!({"id": "shared", "field": "text", "content": mark});
        insist(client, "memory_append", &append);

        let own = format!("own-{number}");
        let word = word(number, round);
        let item = json!({"id": own, "type": "note", "scope": "local", "title": word});
        let version = insist(client, "memory_upsert", &item)["version"].as_u64().unwrap();
        let read = insist(client, "memory_get", &json!({"id": own}));
        assert_eq!(read["version"], version);
        let found = insist(client, "memory_query", &json!({"q": word, "scope": "local"}));
        let ids: Vec<&str> = found["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|hit| hit["id"].as_str())
            .collect();
        assert_eq!(ids, [own.as_str()], "{word}");
    }
}

#[test]
fn a_change_on_top_of_an_old_version_is_refused() {
    let server = TestServer::builder().env("LLM_MEMORY_PROJECT", "crowd").start().unwrap();
    let mut first = server.client(Wire::Http).unwrap();
    let start = json!({"id": "counter", "type": "note", "scope": "local", "text": "0"});
    insist(&mut first, "memory_upsert", &start);
    let clients = 8;
    thread::scope(|scope| {
        for number in 0..clients {
            let mut client = server.client(wire(number)).unwrap();
            scope.spawn(move || increment(&mut client, ROUNDS));
        }
    });
    let item = insist(&mut first, "memory_get", &json!({"id": "counter"}));
    assert_eq!(item["text"], (clients * ROUNDS).to_string());
}

/// Adds one `times` times, each on top of what it read.
fn increment(client: &mut Client, times: usize) {
    let mut done = 0;
    while done < times {
        let item = insist(client, "memory_get", &json!({"id": "counter"}));
        let count: u64 = item["text"].as_str().unwrap().parse().unwrap();
        let change = json!({
            "id": "counter", "type": "note", "scope": "local", "text": (count + 1).to_string(),
            "ifVersion": item["version"],
        });
        match client.call("memory_upsert", &change) {
            Ok(_) => done += 1,
            Err(CallError::Refused { code: Some(code), .. })
                if code == "version_conflict" || code == "busy" => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_flood_is_answered_busy_and_nothing_waits_for_ever() {
    let server = TestServer::builder()
        .env("LLM_MEMORY_PROJECT", "crowd")
        .env("LLM_MEMORY_MAX_CONCURRENT_CALLS", "1")
        .env("LLM_MEMORY_CALL_QUEUE", "0")
        .start()
        .unwrap();
    let outcomes: Vec<(usize, usize)> = thread::scope(|scope| {
        let handles: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mut client = server.client(wire(number)).unwrap();
                scope.spawn(move || flood(&mut client, number))
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let written: usize = outcomes.iter().map(|(written, _)| written).sum();
    let busy: usize = outcomes.iter().map(|(_, busy)| busy).sum();
    assert!(busy > 0, "64 clients never met each other in front of one place");
    let mut client = server.client(Wire::Lines).unwrap();
    let listed = insist(&mut client, "memory_list", &json!({"scope": "local"}));
    assert_eq!(listed["total"], u64::try_from(written).unwrap(), "what was busy was not written");
}

/// Writes until some were refused or many were taken; answers how many of each.
fn flood(client: &mut Client, number: usize) -> (usize, usize) {
    let (mut written, mut busy) = (0, 0);
    for round in 0..20 {
        let id = format!("{number}-{round}");
        let item = json!({"id": id, "type": "note", "scope": "local", "title": id});
        match client.call("memory_upsert", &item) {
            Ok(_) => written += 1,
            Err(error) if error.is("busy") => busy += 1,
            Err(error) => panic!("{error}"),
        }
    }
    (written, busy)
}
