use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use llm_memory_disk::OsDisk;
use proptest::prelude::*;

use super::*;
use crate::api::{Detail, Filters, HitBody, Range};

use crate::ids::{ItemId, Scope, ScopeSelector, Seq, Version};
use crate::item::confidence::{Basis, NEUTRAL_CONTEXT};
use crate::item::{
    ConfidenceConfig, Counters, Facets, ItemType, Provenance, Quality, Security, Sensitivity,
};
use crate::ranking::Parameters;
use crate::store::past::{Past, PastMemory};
use crate::text::{Change, IndexDoc, Overlay, TextIndex, TextOptions};

/// A scope kept in memory: every state of every item, with its record.
struct Memory {
    scope: Scope,
    index: TextIndex,
    log: Vec<(Seq, ItemId, Option<Item>)>,
    counters: BTreeMap<ItemId, Counters>,
    generation: u64,
    parameters: Parameters,
    _dir: tempfile::TempDir,
}

/// The scope at one moment.
struct At<'a> {
    memory: &'a Memory,
    at: Option<Seq>,
}

impl Memory {
    fn new(scope: Scope) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options =
            TextOptions { flush_interval: Duration::from_secs(3600), ..TextOptions::default() };
        let index = TextIndex::open(Arc::new(OsDisk), dir.path(), options).unwrap();
        let parameters = Parameters::default();
        let (log, counters) = (Vec::new(), BTreeMap::new());
        Self { scope, index, log, counters, generation: 0, parameters, _dir: dir }
    }

    fn head(&self) -> Seq {
        self.log.last().map_or(Seq(0), |(seq, ..)| *seq)
    }

    fn put(&mut self, item: Item) -> Seq {
        let seq = self.head().next();
        self.log.push((seq, item.id.clone(), Some(item.clone())));
        self.index.apply(vec![put(seq, item)]);
        seq
    }

    fn remove(&mut self, id: &str) -> Seq {
        let (seq, id) = (self.head().next(), ItemId::new(id).unwrap());
        self.log.push((seq, id.clone(), None));
        self.index.apply(vec![Change::Remove { seq, id }]);
        seq
    }

    fn vote(&mut self, id: &str) {
        let (seq, id) = (self.head().next(), ItemId::new(id).unwrap());
        let item = self.now().state(&id);
        self.counters.entry(id.clone()).or_default().helpful_count += 1;
        self.log.push((seq, id, item));
        self.index.apply(vec![Change::Advance { seq }]);
    }

    fn now(&self) -> At<'_> {
        At { memory: self, at: None }
    }

    fn at(&self, seq: Seq) -> At<'_> {
        At { memory: self, at: Some(seq) }
    }
}

impl At<'_> {
    fn state(&self, id: &ItemId) -> Option<Item> {
        let until = self.at.unwrap_or(Seq(u64::MAX));
        let last =
            self.memory.log.iter().rev().find(|(seq, other, _)| *seq <= until && other == id);
        last.and_then(|(_, _, item)| item.clone())
    }
}

impl ItemSource for At<'_> {
    fn scope(&self) -> Scope {
        self.memory.scope
    }
    fn identity(&self) -> String {
        self.memory.scope.to_string()
    }
    fn index(&self) -> &TextIndex {
        &self.memory.index
    }
    fn head(&self) -> Seq {
        self.memory.head()
    }
    fn config_generation(&self) -> u64 {
        self.memory.generation
    }
    fn parameters(&self) -> Parameters {
        self.memory.parameters
    }
    fn confidence(&self) -> ConfidenceConfig {
        ConfidenceConfig::default()
    }
    fn result_lifetime(&self) -> Duration {
        Duration::from_secs(300)
    }
    fn item(&self, id: &ItemId) -> crate::Result<Option<Item>> {
        Ok(self.state(id))
    }
    fn counters(&self, id: &ItemId) -> crate::Result<Counters> {
        Ok(self.memory.counters.get(id).copied().unwrap_or_default())
    }
    fn may_have_counters(&self, id_hash: u64) -> bool {
        self.memory.counters.keys().any(|id| crate::text::id_hash(id) == id_hash)
    }
    fn has_counters(&self) -> bool {
        !self.memory.counters.is_empty()
    }
    fn damaged(&self) -> usize {
        0
    }
    fn past(&self) -> crate::Result<Option<Past>> {
        let Some(at) = self.at else { return Ok(None) };
        let later = self.memory.log.iter().filter(|(seq, ..)| *seq > at);
        let changed: BTreeSet<ItemId> = later.map(|(_, id, _)| id.clone()).collect();
        let undo = changed.into_iter().map(|id| match self.state(&id) {
            Some(item) => put(at, item),
            None => Change::Remove { seq: at, id },
        });
        let share = Arc::<PastMemory>::default().share();
        Ok(Some(Past::new(Overlay::new(undo), share)))
    }
}

fn put(seq: Seq, item: Item) -> Change {
    let doc = IndexDoc {
        id: item.id,
        item_type: item.item_type,
        title: item.title,
        text: item.text,
        code: item.code,
        language: item.language,
        tags: item.facets.tags,
        files: item.facets.files,
        symbols: item.facets.symbols,
        sensitivity: item.security.sensitivity,
        created_by: item.provenance.created_by,
        pinned: item.quality.pinned,
        ttl_days: item.quality.ttl_days,
        expires_at: item.quality.expires_at,
        created_at: item.created_at,
        updated_at: item.updated_at,
        seq,
    };
    Change::Put { seq, doc: Box::new(doc) }
}

fn item(id: &str, text: &str) -> Item {
    let now = Timestamp::now();
    Item {
        id: ItemId::new(id).unwrap(),
        item_type: ItemType::Note,
        scope: Scope::Local,
        title: String::new(),
        text: text.to_owned(),
        code: String::new(),
        language: None,
        facets: Facets::default(),
        context: crate::item::Context::default(),
        quality: Quality {
            confidence: 0.475,
            pinned: false,
            ttl_days: None,
            expires_at: None,
            counters: Counters::default(),
        },
        security: Security {
            sensitivity: Sensitivity::Team,
            secret_hash_refs: Vec::new(),
            flags: Vec::new(),
        },
        links: Vec::new(),
        provenance: Provenance { created_by: "anna".into(), updated_by: "anna".into() },
        created_at: now,
        updated_at: now,
        version: Version(1),
        hash: Digest::ZERO,
    }
}

fn eyes() -> Eyes {
    Eyes { clearance: Sensitivity::Private, owner: None }
}

fn ask(q: &str) -> QueryRequest {
    QueryRequest { q: q.to_owned(), scope: ScopeSelector::All, ..QueryRequest::default() }
}

fn run(memory: &Memory, request: &QueryRequest) -> QueryResult {
    query(&[memory.now()], &eyes(), request, None).unwrap()
}

fn id(hit: &Hit) -> String {
    match &hit.body {
        HitBody::Full(item) => item.id.to_string(),
        HitBody::Snippet { summary, .. } | HitBody::Summary(summary) => summary.id.to_string(),
    }
}

fn ids(result: &QueryResult) -> Vec<String> {
    result.items.iter().map(id).collect()
}

#[test]
fn the_next_search_shows_every_kind_of_write() {
    let mut memory = Memory::new(Scope::Local);
    let cache = QueryCache::new(1 << 20);
    let both = |memory: &Memory, request: &QueryRequest| {
        let fresh = query(&[memory.now()], &eyes(), request, None).unwrap();
        let cached = query(&[memory.now()], &eyes(), request, Some(&cache)).unwrap();
        let again = query(&[memory.now()], &eyes(), request, Some(&cache)).unwrap();
        assert!(!cached.cached && again.cached);
        assert_eq!(ids(&fresh), ids(&cached));
        assert_eq!((&cached.items, cached.total), (&again.items, again.total));
        fresh
    };
    let request = ask("deploy");
    assert_eq!(both(&memory, &request).total, 0);
    memory.put(item("a", "how to deploy"));
    memory.put(item("b", "deploy deploy deploy deploy"));
    assert_eq!(ids(&both(&memory, &request)), ["b", "a"]);
    let mut pinned = item("a", "how to deploy");
    pinned.quality.pinned = true;
    memory.put(pinned);
    assert_eq!(ids(&both(&memory, &request)), ["a", "b"]);
    let confidence = |result: &QueryResult| {
        let explained = result.items.iter().find(|hit| id(hit) == "b").unwrap();
        explained.explanation.as_ref().unwrap().boosts["confidence"]
    };
    let explained = QueryRequest { explain: true, ..request.clone() };
    let before = confidence(&both(&memory, &explained));
    memory.vote("b");
    let after = confidence(&both(&memory, &explained));
    assert!(after > before + 0.1, "{before} {after}");
    memory.put(item("b", "something else"));
    assert_eq!(ids(&both(&memory, &request)), ["a"]);
    memory.remove("a");
    assert_eq!(ids(&both(&memory, &request)), Vec::<String>::new());
    memory.generation += 1;
    assert!(!query(&[memory.now()], &eyes(), &request, Some(&cache)).unwrap().cached);
}

#[test]
fn the_cache_counts_all_that_can_be_long_and_takes_no_result_that_fills_it() {
    const CAPACITY: u64 = 1 << 20;
    let long = |n: usize| "x".repeat(n);
    let mut longer: Vec<Item> = (0..7).map(|_| item("a", "deploy")).collect();
    longer[0].facets.tags = vec![long(10_000)];
    longer[1].facets.files = vec![long(100); 100];
    longer[2].facets.symbols = vec![long(10_000)];
    longer[3].context.source = Some(long(10_000));
    longer[4].language = Some(long(10_000));
    let to = ItemId::new(long(200)).unwrap();
    longer[5].links = vec![crate::item::Link { rel: crate::item::Relation::Relates, to }; 50];
    longer[6].provenance.updated_by = long(10_000);
    let request = QueryRequest { detail: Detail::Full, ..ask("deploy") };
    let weight = |item: Item| {
        let mut memory = Memory::new(Scope::Local);
        let cache = QueryCache::new(CAPACITY);
        memory.put(item);
        let hits = query(&[memory.now()], &eyes(), &request, Some(&cache)).unwrap().items;
        assert_eq!(hits.len(), 1);
        cache.usage().bytes
    };
    for (number, item) in longer.into_iter().enumerate() {
        assert!(weight(item) > 10_000, "{number}");
    }
    let mut huge = item("a", "deploy");
    huge.facets.tags = vec![long(1000); 200];
    assert_eq!(weight(huge), 0);
}

#[test]
fn another_callers_result_is_never_answered_from_the_cache() {
    let mut memory = Memory::new(Scope::Local);
    let mut secret = item("secret", "plan");
    secret.security.sensitivity = Sensitivity::Private;
    secret.provenance.created_by = "ben".into();
    memory.put(secret);
    memory.put(item("open", "plan"));
    let cache = QueryCache::new(1 << 20);
    let seen = |eyes: &Eyes| {
        let result = query(&[memory.now()], eyes, &ask("plan"), Some(&cache)).unwrap();
        (ids(&result).into_iter().collect::<BTreeSet<_>>(), result.total)
    };
    let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(seen(&eyes()), (set(&["secret", "open"]), 2));
    let team = Eyes { clearance: Sensitivity::Team, owner: None };
    assert_eq!(seen(&team), (set(&["open"]), 1));
    let own = Eyes { clearance: Sensitivity::Private, owner: Some("ben".into()) };
    assert_eq!(seen(&own), (set(&["secret"]), 1));
}

#[test]
fn every_score_is_the_sum_of_its_explanation() {
    let mut memory = Memory::new(Scope::Committed);
    let mut titled = item("a", "the retry policy of the client");
    titled.title = "Retry policy".into();
    titled.code = "fn retry_policy() {}".into();
    titled.quality.pinned = true;
    memory.put(titled);
    memory.put(item("b", "a policy"));
    for _ in 0..2 {
        let plain = run(&memory, &ask("retry policy"));
        let result = run(&memory, &QueryRequest { explain: true, ..ask("retry policy") });
        assert_eq!(ids(&result), ["a", "b"]);
        for (hit, plain) in result.items.iter().zip(&plain.items) {
            let explanation = hit.explanation.as_ref().unwrap();
            assert!((sum(explanation) - hit.score).abs() < 1e-9);
            assert!((plain.score - hit.score).abs() < 1e-3, "{} {}", plain.score, hit.score);
        }
        let boosts = &result.items[0].explanation.as_ref().unwrap().boosts;
        let names: Vec<&str> = boosts.keys().map(String::as_str).collect();
        assert_eq!(names, ["confidence", "exactMatch", "phrase", "pinned", "recency", "scope"]);
        assert!((boosts["exactMatch"] - 6.0).abs() < 1e-9);
        assert!((boosts["phrase"] - 4.375).abs() < 1e-9);
        memory.index.flush().unwrap();
    }
    memory.parameters.boosts.exact_match = 0.0;
    let result = run(&memory, &QueryRequest { explain: true, ..ask("retry policy") });
    let explanation = result.items[0].explanation.as_ref().unwrap();
    assert!(!explanation.boosts.contains_key("exactMatch"));
    assert!(explanation.parameters["boost.exactMatch"].abs() < 1e-9);
}

#[test]
fn a_search_of_the_past_sees_only_what_was_known() {
    let mut memory = Memory::new(Scope::Local);
    memory.put(item("a", "first draft"));
    let then = memory.put(item("b", "draft too"));
    memory.index.flush().unwrap();
    memory.put(item("a", "final text"));
    memory.put(item("c", "late draft"));
    memory.remove("b");
    let request = QueryRequest { as_of: Some(Timestamp::now()), ..ask("draft") };
    let past = query(&[memory.at(then)], &eyes(), &request, None).unwrap();
    let found: BTreeSet<String> = ids(&past).into_iter().collect();
    assert_eq!(found, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    assert_eq!(past.total, 2);
    assert_eq!(ids(&run(&memory, &ask("draft"))), ["c"]);
    let newest = QueryRequest { as_of: Some(Timestamp::now()), ..ask("") };
    assert_eq!(query(&[memory.at(then)], &eyes(), &newest, None).unwrap().total, 2);
}

#[test]
fn pages_cover_all_hits_once_even_when_writes_come_between() {
    let mut memory = Memory::new(Scope::Local);
    for n in 0..95 {
        memory.put(item(&format!("i{n:02}"), &"word ".repeat(1 + n % 7)));
    }
    for q in ["word", ""] {
        let mut request = QueryRequest { k: Some(10), detail: Detail::Summary, ..ask(q) };
        let mut seen = Vec::new();
        loop {
            let page = run(&memory, &request);
            assert!(page.items.len() <= 10);
            seen.extend(ids(&page));
            memory.put(item(&format!("late {q} {}", seen.len()), "nothing in common"));
            match page.next_cursor {
                Some(cursor) => request.cursor = Some(cursor),
                None => break,
            }
        }
        let first_time: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(first_time.len(), seen.len(), "{q:?}: nothing twice");
        let old = seen.iter().filter(|id| id.starts_with('i')).count();
        assert_eq!(old, 95, "{q:?}: nothing left out");
    }
}

#[test]
fn hits_of_equal_rank_are_not_skipped_when_the_last_one_shown_goes() {
    for rewrite in [false, true] {
        let mut memory = Memory::new(Scope::Local);
        let moment = Timestamp::now();
        for n in 0..6 {
            let mut one = item(&format!("i{n}"), "word");
            one.updated_at = moment;
            memory.put(one);
        }
        let mut request = QueryRequest { k: Some(2), detail: Detail::Summary, ..ask("") };
        let first = run(&memory, &request);
        let mut seen = ids(&first);
        if rewrite {
            let mut last = item(&seen[1], "word");
            last.updated_at = moment.plus_days(1.0);
            memory.put(last);
        } else {
            memory.remove(&seen[1]);
        }
        request.cursor = first.next_cursor;
        while request.cursor.is_some() {
            let page = run(&memory, &request);
            seen.extend(ids(&page));
            request.cursor = page.next_cursor;
        }
        assert_eq!(seen, ["i5", "i4", "i3", "i2", "i1", "i0"], "rewrite: {rewrite}");
    }
}

#[test]
fn a_cursor_belongs_to_its_query() {
    let mut memory = Memory::new(Scope::Local);
    for n in 0..5 {
        memory.put(item(&format!("i{n}"), "word"));
    }
    let request = QueryRequest { k: Some(2), ..ask("word") };
    let cursor = run(&memory, &request).next_cursor.unwrap();
    let flipped = cursor.replacen('.', ".1", 1);
    for (q, cursor) in [("other", cursor.as_str()), ("word", &flipped), ("word", "?"), ("word", "")]
    {
        let request = QueryRequest { cursor: Some(cursor.to_owned()), k: Some(2), ..ask(q) };
        let refused = query(&[memory.now()], &eyes(), &request, None);
        assert!(
            matches!(&refused, Err(EngineError::Invalid { field, .. }) if field == "cursor"),
            "{refused:?}"
        );
    }
    let next = QueryRequest { cursor: Some(cursor), ..request };
    assert_eq!(run(&memory, &next).items.len(), 2);
    let team = Eyes { clearance: Sensitivity::Team, owner: None };
    assert!(query(&[memory.now()], &team, &next, None).is_err());
}

#[test]
fn limits_are_checked_and_named() {
    let memory = Memory::new(Scope::Local);
    let long = "x".repeat(5000);
    for (request, wrong) in [
        (QueryRequest { k: Some(0), ..ask("a") }, "k"),
        (QueryRequest { k: Some(201), ..ask("a") }, "k"),
        (QueryRequest { max_chars: Some(1), ..ask("a") }, "maxChars"),
        (QueryRequest { token_budget: Some(1), ..ask("a") }, "tokenBudget"),
        (ask(&long), "q"),
    ] {
        let refused = query(&[memory.now()], &eyes(), &request, None);
        assert!(matches!(&refused, Err(EngineError::Invalid { field, .. }) if field == wrong));
    }
}

#[test]
fn a_reply_stays_within_its_length_and_says_so() {
    let mut memory = Memory::new(Scope::Local);
    for n in 0..6 {
        memory.put(item(&format!("i{n}"), &format!("needle {}", "hay ".repeat(100))));
    }
    let chars = |result: &QueryResult| -> usize {
        let length = |hit: &Hit| match &hit.body {
            HitBody::Full(item) => item.text.chars().count(),
            HitBody::Snippet { snippet, .. } => snippet.chars().count(),
            HitBody::Summary(_) => 0,
        };
        result.items.iter().map(length).sum()
    };
    let short = run(&memory, &QueryRequest { max_chars: Some(1000), ..ask("needle") });
    assert!(chars(&short) <= 1000 && short.items.len() < 6);
    assert!(short.next_cursor.is_some() && short.notice.unwrap().contains("1000"));
    let mut request =
        QueryRequest { token_budget: Some(250), max_chars: Some(9000), ..ask("needle") };
    let mut seen = 0;
    loop {
        let page = run(&memory, &request);
        assert!(chars(&page) <= 1000);
        seen += page.items.len();
        match page.next_cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => break,
        }
    }
    assert_eq!(seen, 6);
    let huge = run(&memory, &QueryRequest { max_chars: Some(200), k: Some(1), ..ask("needle") });
    assert!(huge.items[0].truncated && chars(&huge) == 200);
    let snippets = run(&memory, &QueryRequest { detail: Detail::Snippet, ..ask("needle") });
    assert!(snippets.items.len() == 6 && snippets.notice.is_none());
}

#[test]
fn expired_items_are_never_found_not_even_from_the_cache() {
    let mut memory = Memory::new(Scope::Local);
    let cache = QueryCache::new(1 << 20);
    let mut brief = item("brief", "word");
    brief.quality.expires_at = Some(Timestamp::now().plus_days(1.0));
    memory.put(brief);
    let mut gone = item("gone", "word");
    gone.quality.expires_at = Some(Timestamp::now().plus_days(-1.0));
    memory.put(gone);
    let request = ask("word");
    let result = query(&[memory.now()], &eyes(), &request, Some(&cache)).unwrap();
    assert_eq!((ids(&result), result.total), (vec!["brief".to_owned()], 1));
    let fingerprint = fingerprint(&request, &eyes(), &[memory.now()]).unwrap();
    let key = cache::Key::new(fingerprint, &request, &[memory.now()]);
    assert!(cache.get(&key, Timestamp::now()).is_some());
    assert!(cache.get(&key, Timestamp::now().plus_days(0.01)).is_none(), "lives 300 s at most");
    let key_of_brief = |seconds: f64| Timestamp::now().plus_days(1.0 + seconds / 86_400.0);
    assert!(cache.get(&key, key_of_brief(1.0)).is_none());
}

#[test]
fn scopes_are_merged_counted_and_ranked_by_common_statistics() {
    let mut local = Memory::new(Scope::Local);
    let mut committed = Memory::new(Scope::Committed);
    for n in 0..3 {
        local.put(item(&format!("l{n}"), "shared word"));
        let mut fact = item(&format!("c{n}"), "shared word");
        fact.item_type = ItemType::Fact;
        fact.facets.tags = vec!["x".into()];
        committed.put(fact);
    }
    let request = QueryRequest { facets: true, ..ask("word") };
    let result = query(&[committed.now(), local.now()], &eyes(), &request, None).unwrap();
    assert_eq!((result.total, result.items.len()), (6, 6));
    assert!(ids(&result)[..3].iter().all(|id| id.starts_with('c')), "scope bonus");
    let facets = result.facets.unwrap();
    assert_eq!(facets.scopes, BTreeMap::from([("committed".into(), 3), ("local".into(), 3)]));
    assert_eq!(facets.types, BTreeMap::from([("fact".into(), 3), ("note".into(), 3)]));
    assert_eq!(facets.tags, BTreeMap::from([("x".into(), 3)]));
}

#[test]
fn confidence_is_judged_when_reading() {
    let mut memory = Memory::new(Scope::Local);
    memory.put(item("plain", "word"));
    memory.put(item("voted", "word"));
    memory.vote("voted");
    let basis = Basis {
        created_at: Timestamp::now(),
        pinned: false,
        ttl_days: None,
        expires_at: None,
        context_match: NEUTRAL_CONTEXT,
    };
    let plain =
        basis.evaluate(&Counters::default(), Timestamp::now(), &ConfidenceConfig::default());
    let confidence = Some(Range { min: Some(plain + 0.01), max: None });
    for q in ["word", ""] {
        let filters = Filters { confidence, ..Filters::default() };
        let request = QueryRequest { filters, facets: true, ..ask(q) };
        let result = run(&memory, &request);
        assert_eq!((ids(&result), result.total), (vec!["voted".to_owned()], 1), "{q:?}");
        assert_eq!(result.facets.unwrap().types, BTreeMap::from([("note".into(), 1)]));
    }
}

#[test]
fn totals_are_exact_up_to_their_limit() {
    let mut memory = Memory::new(Scope::Local);
    for n in 0..300 {
        memory.put(item(&format!("i{n}"), if n % 3 == 0 { "word and more" } else { "word" }));
    }
    for _ in 0..2 {
        let result = run(&memory, &QueryRequest { k: Some(1), ..ask("word -more") });
        assert_eq!((result.total, result.total_relation), (200, TotalRelation::Eq));
        memory.index.flush().unwrap();
    }
}

/// Votes that count for less than they might have a page looked for again.
#[test]
fn looking_again_loses_no_phrase() {
    let mut memory = Memory::new(Scope::Local);
    for n in 0..30 {
        memory.put(item(&format!("voted{n}"), "beta alpha"));
        memory.vote(&format!("voted{n}"));
    }
    memory.put(item("phrase", "alpha beta with some words more than the others have"));
    for _ in 0..2 {
        let result = run(&memory, &QueryRequest { k: Some(5), ..ask("alpha beta") });
        assert_eq!(ids(&result).first().map(String::as_str), Some("phrase"));
        memory.index.flush().unwrap();
    }
}

/// So many items have the words of the query that phrases are not looked for on their own.
#[test]
fn a_page_is_exact_where_bonuses_may_lift_any_match() {
    let mut memory = Memory::new(Scope::Local);
    let mut state = 7_u64;
    let mut random = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    for n in 0..8_400 {
        let mut text = match (n % 2, random(20)) {
            (0, 0) => "red green".to_owned(),
            (0, _) => "green red".to_owned(),
            _ => "other words".to_owned(),
        };
        for more in 0..random(40) {
            text += &format!(" more{more}");
        }
        let mut one = item(&format!("i{n}"), &text);
        one.quality.pinned = random(100) == 0;
        memory.put(one);
        if random(50) == 0 {
            memory.vote(&format!("i{n}"));
        }
    }
    memory.index.flush().unwrap();
    let scores = |q: &str, k, confidence| -> Vec<f64> {
        let filters = Filters { confidence, ..Filters::default() };
        let max_chars = Some(1_000_000);
        let result = run(&memory, &QueryRequest { k: Some(k), max_chars, filters, ..ask(q) });
        result.items.iter().map(|hit| hit.score).collect()
    };
    for q in ["red green", "green red more1"] {
        // To judge confidence every match is looked at.
        let all = scores(q, 12, Some(Range { min: Some(0.0), max: None }));
        for k in [1, 12] {
            let page = scores(q, k, None);
            assert_eq!(page.len(), k);
            for (one, other) in page.into_iter().zip(&all) {
                assert!((one - other).abs() < 1e-3, "{q} {k}: {one} {other}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The first page is the beginning of the whole ranking, whatever bonuses do.
    #[test]
    fn a_small_page_is_the_beginning_of_the_whole_ranking(
        seed in any::<u64>(),
        flush in any::<bool>(),
        k in 1..12_usize,
        unvoted in 1..12_u64,
    ) {
        let mut memory = Memory::new(Scope::Local);
        let mut state = seed | 1;
        let mut random = |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        for n in 0..160 {
            let mut words = vec!["common".to_owned()];
            words.extend((0..random(9)).map(|_| format!("w{}", random(6))));
            let mut one = item(&format!("i{n}"), &words.join(" "));
            one.updated_at = Timestamp::now().plus_days(-(random(90) as f64));
            one.created_at = one.updated_at;
            one.quality.pinned = random(20) == 0;
            if random(15) == 0 {
                one.title = "common w1".into();
            }
            memory.put(one);
            if random(unvoted) == 0 {
                memory.vote(&format!("i{n}"));
            }
        }
        if flush {
            memory.index.flush().unwrap();
        }
        for q in ["common w1", "w2", "w1 w3 -w5", ""] {
            let page = run(&memory, &QueryRequest { k: Some(k), ..ask(q) });
            let whole = run(&memory, &QueryRequest { k: Some(200), max_chars: Some(1_000_000), ..ask(q) });
            prop_assert_eq!(page.total, whole.total);
            prop_assert_eq!(whole.items.len() as u64, whole.total);
            for (one, other) in page.items.iter().zip(&whole.items) {
                prop_assert!((one.score - other.score).abs() < 1e-3, "{} {}", one.score, other.score);
            }
            prop_assert_eq!(page.items.len(), k.min(whole.items.len()));
        }
    }
}
