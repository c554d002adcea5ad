use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::faulty::{Failure, Fault, FaultyDisk, Operation};
use llm_memory_disk::{Disk, OsDisk};
use proptest::prelude::*;

use super::*;
use crate::ids::{ItemId, Seq, Timestamp};
use crate::item::{ItemType, Sensitivity};
use crate::ranking::Parameters;

const NOW: i64 = 1_700_000_000_000;

pub(super) fn doc(id: &str, seq: u64, text: &str) -> IndexDoc {
    IndexDoc {
        id: ItemId::new(id).unwrap(),
        item_type: ItemType::Note,
        title: String::new(),
        text: text.to_owned(),
        code: String::new(),
        language: None,
        tags: Vec::new(),
        files: Vec::new(),
        symbols: Vec::new(),
        sensitivity: Sensitivity::Team,
        created_by: "anna".to_owned(),
        pinned: false,
        ttl_days: None,
        expires_at: None,
        created_at: Timestamp::from_millis(NOW),
        updated_at: Timestamp::from_millis(NOW + i64::try_from(seq).unwrap()),
        seq: Seq(seq),
    }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(OsDisk)
}

pub(super) fn put(doc: IndexDoc) -> Change {
    Change::Put { seq: doc.seq, doc: Box::new(doc) }
}

fn remove(id: &str, seq: u64) -> Change {
    Change::Remove { seq: Seq(seq), id: ItemId::new(id).unwrap() }
}

fn open(dir: &Path) -> TextIndex {
    TextIndex::open(disk(), dir, quiet()).unwrap()
}

/// No flush but those that a test asks for.
fn quiet() -> TextOptions {
    TextOptions { flush_interval: std::time::Duration::from_secs(3600), ..TextOptions::default() }
}

fn search_with(
    index: &TextIndex,
    query: &str,
    filter: &Filter,
    parameters: &Parameters,
) -> Vec<(String, f64)> {
    let query = parse(query);
    let statistics = index.statistics(&query, None).unwrap();
    let request = SearchRequest {
        query: &query,
        parameters,
        filter,
        prior: None,
        limit: 100,
        floor: None,
        count_limit: 10_000,
        facets: false,
        overlay: None,
    };
    let found = index.search(&request, &statistics).unwrap();
    assert_eq!(found.total, found.hits.len() as u64);
    let ids = found.hits.iter().map(|hit| found.id(hit).unwrap().unwrap());
    ids.zip(found.hits.iter().map(|hit| hit.bm25)).collect()
}

fn everything() -> Filter {
    Filter::everything(Timestamp::from_millis(NOW))
}

fn search(index: &TextIndex, query: &str) -> Vec<String> {
    let hits = search_with(index, query, &everything(), &Parameters::default());
    hits.into_iter().map(|(id, _)| id).collect()
}

fn found(index: &TextIndex, query: &str) -> BTreeSet<String> {
    search(index, query).into_iter().collect()
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn a_write_is_found_at_once_and_after_every_stage_of_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    index.apply(vec![put(doc("a", 1, "the quick fox")), put(doc("b", 2, "a lazy dog"))]);
    assert_eq!(search(&index, "fox"), ["a"]);
    index.flush().unwrap();
    assert_eq!(index.watermark(), Seq(2));
    assert_eq!(search(&index, "fox"), ["a"]);
    index.apply(vec![put(doc("a", 3, "now a cat"))]);
    assert_eq!(found(&index, "fox"), set(&[]));
    assert_eq!(found(&index, "cat dog"), set(&["a", "b"]));
    index.apply(vec![remove("b", 4)]);
    assert_eq!(found(&index, "cat dog"), set(&["a"]));
    index.flush().unwrap();
    assert_eq!(found(&index, "cat dog fox"), set(&["a"]));
    index.close().unwrap();
    drop(index);
    let again = open(dir.path());
    assert_eq!(again.watermark(), Seq(4));
    assert_eq!(found(&again, "cat dog fox"), set(&["a"]));
    assert_eq!(again.verify().unwrap(), Vec::<String>::new());
}

#[test]
fn unflushed_writes_are_replayed_from_the_watermark() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    index.apply(vec![put(doc("a", 1, "kept"))]);
    index.flush().unwrap();
    index.apply(vec![put(doc("b", 2, "lost")), Change::Advance { seq: Seq(3) }]);
    assert_eq!(index.applied(), Seq(3));
    drop(index);
    let again = open(dir.path());
    assert_eq!((again.watermark(), again.applied()), (Seq(1), Seq(1)));
    assert_eq!(found(&again, "kept lost"), set(&["a"]));
}

#[test]
fn an_item_scores_alike_in_memory_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    for (seq, text) in [(1, "alpha beta"), (2, "alpha alpha gamma delta"), (3, "beta maxChars")] {
        index.apply(vec![put(doc(&format!("i{seq}"), seq, text))]);
    }
    for parameters in
        [Parameters::default(), Parameters { k1: 0.9, b: 0.4, ..Parameters::default() }]
    {
        let dir = tempfile::tempdir().unwrap();
        let other = open(dir.path());
        for (seq, text) in [(1, "alpha beta"), (2, "alpha alpha gamma delta"), (3, "beta maxChars")]
        {
            other.apply(vec![put(doc(&format!("i{seq}"), seq, text))]);
        }
        other.flush().unwrap();
        let in_memory = search_with(&index, "alpha beta max_chars", &everything(), &parameters);
        let on_disk = search_with(&other, "alpha beta max_chars", &everything(), &parameters);
        assert_eq!(in_memory.len(), 3);
        for ((id, score), (other_id, other_score)) in in_memory.iter().zip(&on_disk) {
            assert_eq!(id, other_id);
            assert!((score - other_score).abs() < 1e-4, "{id}: {score} {other_score}");
        }
    }
}

#[test]
fn phrases_must_occur_and_excluded_words_must_not() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    index.apply(vec![
        put(doc("a", 1, "connection reset by peer")),
        put(doc("b", 2, "reset the connection")),
        put(IndexDoc { code: "connection.reset()".to_owned(), ..doc("c", 3, "") }),
    ]);
    for _ in 0..2 {
        assert_eq!(found(&index, "connection reset"), set(&["a", "b", "c"]));
        assert_eq!(found(&index, "\"connection reset\""), set(&["a", "c"]));
        assert_eq!(found(&index, "connection -peer"), set(&["b", "c"]));
        assert_eq!(found(&index, "connection -\"reset by\""), set(&["b", "c"]));
        assert_eq!(found(&index, "-peer"), set(&["b", "c"]));
        assert_eq!(found(&index, ""), set(&["a", "b", "c"]));
        index.flush().unwrap();
    }
    assert_eq!(search(&index, ""), ["c", "b", "a"]);
}

#[test]
fn phrases_do_not_depend_on_camel_case() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    index.apply(vec![
        put(doc("a", 1, "runs in GitHub Actions")),
        put(doc("b", 2, "github actions is down")),
        put(IndexDoc { code: "githubActions()".to_owned(), ..doc("c", 3, "") }),
    ]);
    for _ in 0..2 {
        assert_eq!(found(&index, "\"github actions\""), set(&["a", "b", "c"]));
        assert_eq!(found(&index, "\"GitHub Actions\""), set(&["a", "b"]));
        assert_eq!(found(&index, "hub"), set(&["a"]));
        index.flush().unwrap();
    }
}

#[test]
fn filters_hold_in_memory_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let base = |id: &str, seq| doc(id, seq, "word");
    index.apply(vec![
        put(IndexDoc { tags: vec!["red".into(), "blue".into()], ..base("tagged", 1) }),
        put(IndexDoc { item_type: ItemType::Fact, ..base("fact", 2) }),
        put(IndexDoc { sensitivity: Sensitivity::Private, ..base("secret", 3) }),
        put(IndexDoc { expires_at: Some(Timestamp::from_millis(NOW)), ..base("expired", 4) }),
        put(IndexDoc { created_by: "ben".into(), pinned: true, ..base("bens", 5) }),
        put(IndexDoc {
            files: vec!["src/a.rs".into()],
            symbols: vec!["main".into()],
            language: Some("rust".into()),
            ..base("code", 6)
        }),
    ]);
    let all = everything();
    let check = |filter: &Filter, expected: &[&str]| {
        for query in ["word", ""] {
            let hits = search_with(&index, query, filter, &Parameters::default());
            let ids: BTreeSet<String> = hits.into_iter().map(|(id, _)| id).collect();
            assert_eq!(ids, set(expected), "{query:?} {filter:?}");
        }
    };
    for _ in 0..2 {
        check(&all, &["tagged", "fact", "secret", "bens", "code"]);
        check(&Filter { tags: vec!["blue".into(), "none".into()], ..all.clone() }, &["tagged"]);
        check(&Filter { types: vec![ItemType::Fact], ..all.clone() }, &["fact"]);
        check(
            &Filter { clearance: Sensitivity::Team, ..all.clone() },
            &["tagged", "fact", "bens", "code"],
        );
        check(&Filter { owner: Some("ben".into()), ..all.clone() }, &["bens"]);
        check(
            &Filter { owner: Some("ben".into()), created_by: vec!["anna".into()], ..all.clone() },
            &[],
        );
        check(&Filter { pinned: Some(true), ..all.clone() }, &["bens"]);
        check(&Filter { files: vec!["src/a.rs".into()], ..all.clone() }, &["code"]);
        check(&Filter { symbols: vec!["main".into()], ..all.clone() }, &["code"]);
        check(&Filter { languages: vec!["rust".into()], ..all.clone() }, &["code"]);
        let from = Some(Timestamp::from_millis(NOW + 5));
        check(&Filter { updated_from: from, ..all.clone() }, &["bens", "code"]);
        let to = Some(Timestamp::from_millis(NOW + 1));
        check(&Filter { updated_to: to, ..all.clone() }, &["tagged"]);
        index.flush().unwrap();
    }
}

#[test]
fn a_limit_keeps_the_best_and_pinned_and_titled_matches() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let filler = "filler words that make this longer than the others by far";
    index.apply((1..=40).map(|n| put(doc(&format!("n{n:02}"), n, "needle needle"))).collect());
    index.apply(vec![
        put(IndexDoc { pinned: true, ..doc("pinned", 41, &format!("needle {filler}")) }),
        put(IndexDoc {
            title: "The Needle!".into(),
            ..doc("other", 42, &format!("{filler} needle"))
        }),
    ]);
    for _ in 0..2 {
        let query = parse("needle");
        let statistics = index.statistics(&query, None).unwrap();
        let parameters = Parameters::default();
        let filter = everything();
        let request = SearchRequest {
            query: &query,
            parameters: &parameters,
            filter: &filter,
            prior: None,
            limit: 5,
            floor: None,
            count_limit: 20,
            facets: false,
            overlay: None,
        };
        let candidates = index.search(&request, &statistics).unwrap();
        let ids: Vec<String> =
            candidates.hits.iter().map(|hit| candidates.id(hit).unwrap().unwrap()).collect();
        assert!(ids.contains(&"pinned".to_owned()), "{ids:?}");
        assert!(ids.len() <= 7 && candidates.total > 20, "{} {}", ids.len(), candidates.total);
        let worst = candidates.hits.iter().map(|hit| hit.bm25).fold(f64::MAX, f64::min);
        assert!(candidates.unseen.unwrap().plain >= worst);
        let faceted = SearchRequest { facets: true, ..request };
        let faceted = index.search(&faceted, &statistics).unwrap();
        assert_eq!(faceted.total, 42);
        assert_eq!(faceted.facets.unwrap().types.get("note"), Some(&42));
        index.flush().unwrap();
    }
}

#[test]
fn a_word_in_quotes_means_the_same_before_and_after_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    index.apply(vec![
        put(doc("camel", 1, "pushed to GitHub yesterday")),
        put(doc("plain", 2, "pushed to git yesterday, from the hub")),
        put(doc("snake", 3, "max_chars of a line")),
    ]);
    for _ in 0..2 {
        assert_eq!(search(&index, "\"github\""), ["camel"]);
        assert_eq!(search(&index, "pushed -github"), ["plain"]);
        assert_eq!(search(&index, "\"max chars\""), ["snake"]);
        assert_eq!(search(&index, "\"chars of\""), ["snake"]);
        assert_eq!(search(&index, "\"chars max\""), Vec::<String>::new());
        index.flush().unwrap();
    }
}

#[test]
fn of_equal_matches_the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    index.apply((1..=300).map(|n| put(doc(&format!("n{n:03}"), n, "daily standup"))).collect());
    for _ in 0..2 {
        let (query, filter, parameters) = (parse("standup"), everything(), Parameters::default());
        let statistics = index.statistics(&query, None).unwrap();
        let request = SearchRequest {
            query: &query,
            parameters: &parameters,
            filter: &filter,
            prior: None,
            limit: 3,
            floor: None,
            count_limit: 100,
            facets: false,
            overlay: None,
        };
        let found = index.search(&request, &statistics).unwrap();
        let mut ids: Vec<String> =
            found.hits.iter().map(|hit| found.id(hit).unwrap().unwrap()).collect();
        ids.sort();
        assert_eq!(ids, ["n298", "n299", "n300"]);
        assert!(found.total > 100);
        index.flush().unwrap();
    }
}

#[test]
fn an_explanation_sums_to_the_score() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    index.apply(vec![
        put(IndexDoc { title: "Retry policy".into(), ..doc("a", 1, "retry with a policy") }),
        put(doc("b", 2, "no policy here")),
    ]);
    for _ in 0..2 {
        for parameters in [Parameters::default(), Parameters { k1: 2.0, ..Parameters::default() }] {
            let query = parse("retry policy");
            let statistics = index.statistics(&query, None).unwrap();
            let filter = everything();
            let request = SearchRequest {
                query: &query,
                parameters: &parameters,
                filter: &filter,
                prior: None,
                limit: 10,
                floor: None,
                count_limit: 10,
                facets: false,
                overlay: None,
            };
            let candidates = index.search(&request, &statistics).unwrap();
            assert_eq!(candidates.hits.len(), 2);
            for hit in &candidates.hits {
                let terms = candidates.explain(hit, &query, &statistics, &parameters).unwrap();
                let sum: f64 = terms.iter().map(|term| term.value).sum();
                assert!((sum - hit.bm25).abs() < 1e-4, "{sum} {}", hit.bm25);
            }
        }
        index.flush().unwrap();
    }
}

#[test]
fn a_common_word_is_not_rare_for_standing_in_one_title() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let titled = |title: &str, doc| put(IndexDoc { title: title.to_owned(), ..doc });
    let common = (1..40).map(|n| titled("memo", doc(&format!("n{n}"), n, "notes of a review")));
    index.apply(common.collect());
    index.apply(vec![
        titled("review", doc("titled", 41, "other matters")),
        titled("memo", doc("wanted", 42, "how durability is kept")),
    ]);
    for _ in 0..2 {
        for k1 in [Parameters::default().k1, 2.0] {
            let parameters = Parameters { k1, ..Parameters::default() };
            let hits = search_with(&index, "durability review", &everything(), &parameters);
            assert_eq!(hits.first().map(|(id, _)| id.as_str()), Some("wanted"), "{hits:?}");
        }
        index.flush().unwrap();
    }
}

#[test]
fn an_overlay_gives_the_past() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    index.apply(vec![put(doc("a", 1, "old words")), put(doc("b", 2, "stays"))]);
    index.flush().unwrap();
    index.apply(vec![put(doc("a", 3, "new words")), put(doc("c", 4, "words later"))]);
    let past = Overlay::new([put(doc("a", 1, "old words")), remove("c", 2)]);
    let query = parse("words old new");
    let statistics = index.statistics(&query, Some(&past)).unwrap();
    let filter = everything();
    let request = SearchRequest {
        query: &query,
        parameters: &Parameters::default(),
        filter: &filter,
        prior: None,
        limit: 10,
        floor: None,
        count_limit: 10,
        facets: false,
        overlay: Some(&past),
    };
    let candidates = index.search(&request, &statistics).unwrap();
    assert_eq!(candidates.hits.len(), 1);
    assert_eq!(candidates.hits[0].seq, Seq(1));
}

#[test]
fn damage_is_reported_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let files = disk();
    let index = open(dir.path());
    index.apply(vec![put(doc("a", 1, "words"))]);
    index.close().unwrap();
    drop(index);
    let meta = files.read(&dir.path().join("meta.json")).unwrap();
    files.durable_write(&dir.path().join("meta.json"), b"{}").unwrap();
    let reopened = TextIndex::open(disk(), dir.path(), quiet());
    assert!(matches!(reopened, Err(TextError::Damaged { .. })), "{reopened:?}");
    files.durable_write(&dir.path().join("meta.json"), &meta).unwrap();
    let segment =
        files.list(dir.path()).unwrap().into_iter().find(|entry| entry.name.contains(".term"));
    files.remove_file(&dir.path().join(segment.unwrap().name)).unwrap();
    let reopened = TextIndex::open(disk(), dir.path(), quiet());
    assert!(matches!(reopened, Err(TextError::Damaged { .. })), "{reopened:?}");
}

#[test]
fn a_failed_flush_loses_nothing_and_can_be_repeated() {
    let faulty = FaultyDisk::new();
    let open = |faulty: &FaultyDisk| {
        TextIndex::open(Arc::new(faulty.clone()), Path::new("/index"), quiet()).unwrap()
    };
    let index = open(&faulty);
    index.apply(vec![put(doc("a", 1, "first words"))]);
    index.flush().unwrap();
    index.apply(vec![put(doc("b", 2, "second words")), remove("a", 3)]);
    faulty.plan(Fault::new(Operation::Sync, Failure::NoSpace).lasting());
    let error = index.flush().unwrap_err();
    assert!(matches!(&error, TextError::Disk(disk) if disk.is_no_space()), "{error}");
    assert_eq!(index.watermark(), Seq(1));
    index.apply(vec![put(doc("c", 4, "third words"))]);
    assert_eq!(found(&index, "words"), set(&["b", "c"]));
    faulty.heal();
    index.flush().unwrap();
    assert_eq!(index.watermark(), Seq(4));
    drop(index);
    assert_eq!(found(&open(&faulty.crash()), "words"), set(&["b", "c"]));
}

#[test]
fn what_cannot_be_committed_is_refused_before_it_fills_the_memory() {
    let faulty = FaultyDisk::new();
    let options = TextOptions { flush_docs: 5, ..quiet() };
    let index = TextIndex::open(Arc::new(faulty.clone()), Path::new("/index"), options).unwrap();
    faulty.plan(Fault::new(Operation::Sync, Failure::Io).lasting());
    index.apply(vec![put(doc("i0", 1, "word"))]);
    index.flush().unwrap_err();
    assert_eq!(index.overfull(), None);
    let mut seq = 1;
    while index.overfull().is_none() {
        seq += 1;
        assert!(seq < 1000);
        index.apply(vec![put(doc(&format!("i{seq}"), seq, "word"))]);
    }
    // As much as makes writers wait must fit in while they need not.
    assert!(seq > 2 * 8 * 5, "{seq}");
    assert!(index.overfull().unwrap().contains("tried again"));
    faulty.heal();
    index.flush().unwrap();
    assert_eq!(index.overfull(), None);
}

#[test]
fn purging_takes_deleted_words_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let known = |word: &str| {
        let statistics = index.statistics(&parse(word), None).unwrap();
        statistics.frequencies.iter().sum::<u64>() > 0
    };
    let segments = || {
        let entries = disk().list(dir.path()).unwrap();
        entries.iter().filter(|entry| entry.name.rsplit('.').next() == Some("store")).count()
    };
    index.apply(vec![put(doc("a", 1, "heron")), put(doc("b", 2, "stork"))]);
    index.flush().unwrap();
    index.apply(vec![put(doc("c", 3, "crane"))]);
    index.flush().unwrap();
    index.apply(vec![remove("a", 4), remove("c", 5), put(doc("d", 6, "egret"))]);
    index.flush().unwrap();
    assert!(known("heron"));
    for _ in 0..2 {
        index.purge().unwrap();
        assert!(!known("heron") && !known("crane") && known("stork") && known("egret"));
        assert_eq!(segments(), index.committed().segment_readers().len());
        assert_eq!(found(&index, "stork egret heron"), set(&["b", "d"]));
    }
    index.apply(vec![put(doc("e", 7, "heron"))]);
    index.flush().unwrap();
    assert_eq!((index.watermark(), index.committed_docs()), (Seq(7), 3));
    drop(index);
    assert_eq!(found(&open(dir.path()), "heron stork"), set(&["b", "e"]));
}

#[test]
fn writers_wait_for_the_background_flush_so_that_memory_stays_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let options = TextOptions { flush_docs: 5, ..quiet() };
    let index = TextIndex::open(disk(), dir.path(), options).unwrap();
    for seq in 1..=300 {
        index.apply(vec![put(doc(&format!("i{seq}"), seq, "word"))]);
        // At most a crowded tail (8 times 5) and as much again that is being committed.
        assert!(index.watermark().0 + 2 * 8 * 5 >= seq);
    }
    assert_eq!(index.statistics(&parse("word"), None).unwrap().documents(), 300);
}

#[test]
fn reading_only_leaves_the_disk_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("index");
    let options = TextOptions { read_only: true, ..quiet() };
    let index = TextIndex::open(disk(), &folder, options).unwrap();
    index.apply(vec![put(doc("a", 1, "words"))]);
    assert_eq!(search(&index, "words"), ["a"]);
    assert!(matches!(index.flush(), Err(TextError::ReadOnly)));
    index.close().unwrap();
    assert!(!disk().exists(&folder).unwrap());
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Vec<u8>),
    Remove(u8),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12_u8, prop::collection::vec(0..9_u8, 1..6)).prop_map(|(id, words)| Step::Put(id, words)),
        2 => (0..12_u8).prop_map(Step::Remove),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_exactly_what_a_scan_finds(
        steps in steps(),
        wanted in prop::collection::vec(0..9_u8, 1..3),
        phrase in prop::option::of((0..9_u8, 0..9_u8)),
        unwanted in prop::option::of(prop::collection::vec(0..9_u8, 1..3)),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let index = open(dir.path());
        let mut model: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        let words = ["ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "oak", "pine"];
        let spell = |ranks: &[u8]| -> String {
            let spelled: Vec<&str> = ranks.iter().map(|rank| words[usize::from(*rank)]).collect();
            spelled.join(" ")
        };
        let phrase = phrase.map(|(first, second)| vec![first, second]);
        let mut query = spell(&wanted);
        if let Some(phrase) = &phrase {
            query += &format!(" \"{}\"", spell(phrase));
        }
        if let Some(unwanted) = &unwanted {
            query += &format!(" -\"{}\"", spell(unwanted));
        }
        let has = |words: &[u8], phrase: &[u8]| {
            words.windows(phrase.len()).any(|window| window == phrase)
        };
        for (seq, step) in (1..).zip(steps) {
            match step {
                Step::Put(id, words) => {
                    index.apply(vec![put(doc(&format!("i{id}"), seq, &spell(&words)))]);
                    model.insert(id, words);
                }
                Step::Remove(id) => {
                    index.apply(vec![remove(&format!("i{id}"), seq)]);
                    model.remove(&id);
                }
                Step::Flush => index.flush().unwrap(),
            }
            let expected: BTreeSet<String> = model
                .iter()
                .filter(|(_, words)| {
                    let any = wanted.iter().chain(phrase.iter().flatten());
                    any.into_iter().any(|word| words.contains(word))
                })
                .filter(|(_, words)| phrase.as_ref().is_none_or(|phrase| has(words, phrase)))
                .filter(|(_, words)| unwanted.as_ref().is_none_or(|phrase| !has(words, phrase)))
                .map(|(id, _)| format!("i{id}"))
                .collect();
            prop_assert_eq!(found(&index, &query), expected, "{}", query);
        }
    }
}
