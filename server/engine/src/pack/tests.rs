use proptest::prelude::*;

use super::*;
use crate::config::{CheckMemoryConfig, PackConfig};
use crate::ids::Timestamp;
use crate::item::{ConfidenceConfig, Content, Counters, Facets, Link, fixtures, present};

fn now() -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000)
}

fn item(content: Content) -> Item {
    let hash = Digest::of(content.id.as_str().as_bytes());
    present(content, &Counters::default(), hash, now(), &ConfidenceConfig::default())
}

fn fact(id: &str, text: &str) -> Item {
    item(Content { item_type: ItemType::Fact, ..fixtures::note(id, text, now()) })
}

fn snippet(id: &str, code: &str) -> Item {
    item(Content {
        item_type: ItemType::Snippet,
        code: code.into(),
        ..fixtures::note(id, "", now())
    })
}

fn numbered(lines: usize) -> String {
    let lines: Vec<String> = (1..=lines).map(|line| format!("line {line}")).collect();
    lines.join("\n") + "\n"
}

fn pack(request: &PackRequest, items: &[Item]) -> Pack {
    build(request, items, &PackConfig::default(), &|_, _| None)
}

#[test]
fn items_go_to_the_section_of_their_type() {
    let mut pattern = fixtures::note("p", "how", now());
    pattern.item_type = ItemType::Pattern;
    pattern.code = "do()".into();
    let mut config = fixtures::note("c", "why", now());
    config.item_type = ItemType::Config;
    config.title = "timeout".into();
    config.code = "30".into();
    let items = [
        fact("f", "it is so"),
        snippet("s", "let x = 1;"),
        item(pattern),
        item(config),
        item(fixtures::note("n", "a note", now())),
    ];
    let pack = pack(&PackRequest::default(), &items);
    assert_eq!(pack.snippets[0].code, "let x = 1;");
    assert_eq!(
        pack.facts.iter().map(|fact| &*fact.text).collect::<Vec<_>>(),
        ["it is so", "a note"]
    );
    assert_eq!((&*pack.patterns[0].description, &*pack.patterns[0].code), ("how", "do()"));
    let config = &pack.configs[0];
    assert_eq!((&*config.key, &*config.value, &*config.context), ("timeout", "30", "why"));
    assert!(pack.left_out.is_empty());
}

#[test]
fn every_entry_names_where_it_came_from() {
    let mut content = fixtures::full("x", now());
    content.links = vec![Link { rel: Relation::Fixes, to: ItemId::new("y").unwrap() }];
    let pack =
        build(&PackRequest::default(), &[item(content)], &PackConfig::default(), &|id, scope| {
            Some(format!("{scope}:{id}"))
        });
    let source = &pack.snippets[0].source;
    assert_eq!((source.id.as_str(), source.version, source.scope), ("x", Version(3), Scope::Local));
    assert_eq!(source.hash, Digest::of(b"x"));
    assert_eq!(source.flags, [Flag::Injection]);
    assert_eq!(pack.links[0].title.as_deref(), Some("local:y"));
    assert_eq!(pack.source.ids, [ItemId::new("x").unwrap()]);
}

#[test]
fn equal_input_gives_equal_packs_and_any_change_another_digest() {
    let items = [fact("a", "one"), fact("b", "two")];
    let first = pack(&PackRequest::default(), &items);
    assert_eq!(first, pack(&PackRequest::default(), &items));
    let other = pack(&PackRequest::default(), &[fact("a", "one"), fact("b", "three")]);
    assert_ne!(first.digest, other.digest);
}

#[test]
fn caps_and_order_come_from_the_configuration() {
    let items: Vec<Item> = (0..20).map(|n| fact(&format!("f{n}"), "fact")).collect();
    let found = pack(&PackRequest::default(), &items);
    assert_eq!(found.facts.len(), 8);
    assert_eq!(found.left_out.len(), 12);

    let request = PackRequest { max_chars: Some(200), ..PackRequest::default() };
    let items = [snippet("s", &"x".repeat(190)), fact("f", &"y".repeat(190))];
    let by_default = pack(&request, &items);
    assert_eq!((by_default.snippets.len(), by_default.facts.len()), (1, 0));
    let order =
        [PackSection::Facts, PackSection::Snippets, PackSection::Patterns, PackSection::Configs];
    let config = PackConfig { order, ..PackConfig::default() };
    let facts_first = build(&request, &items, &config, &|_, _| None);
    assert_eq!((facts_first.snippets.len(), facts_first.facts.len()), (0, 1));
    assert_eq!(facts_first.left_out, [ItemId::new("s").unwrap()]);
}

#[test]
fn tokens_beat_characters_and_long_entries_are_cut() {
    let items = [snippet("s", &"x".repeat(5000))];
    let request =
        PackRequest { token_budget: Some(50), max_chars: Some(100_000), ..PackRequest::default() };
    let pack = pack(&request, &items);
    assert_eq!(pack.snippets[0].code.len(), 200);
    assert!(pack.snippets[0].truncated);
    assert_eq!(pack.chars, 200);
}

#[test]
fn what_is_not_worth_reading_is_left_out_but_small_entries_still_fit() {
    let request = PackRequest { max_chars: Some(300), ..PackRequest::default() };
    let items = [
        snippet("big", &"x".repeat(190)),
        snippet("too big for the rest", &"y".repeat(150)),
        snippet("small", "z"),
        fact("f", &"w".repeat(1000)),
    ];
    let pack = pack(&request, &items);
    let codes: Vec<usize> = pack.snippets.iter().map(|snippet| snippet.code.len()).collect();
    // 110 characters are left after the first: too few to cut the second down to.
    assert_eq!(codes, [190, 1]);
    assert_eq!(pack.facts[0].text.len(), 109);
    assert!(pack.facts[0].truncated);
}

#[test]
fn snippets_are_filtered_by_language_and_file() {
    let rust = |id: &str, file: &str| {
        let mut content = fixtures::note(id, "", now());
        content.item_type = ItemType::Snippet;
        content.code = "x".into();
        content.language = Some("Rust".into());
        content.context.file = Some(file.into());
        item(content)
    };
    let items = [rust("a", "src/a.rs"), rust("b", "tests/b.rs"), snippet("c", "y"), fact("f", "z")];
    let request = PackRequest {
        snippet_languages: vec!["rust".into()],
        snippet_file_patterns: vec!["src/**".into()],
        ..PackRequest::default()
    };
    let pack = pack(&request, &items);
    assert_eq!(pack.snippets.len(), 1);
    assert_eq!(pack.snippets[0].source.id.as_str(), "a");
    assert_eq!(pack.facts.len(), 1);
}

fn cropped(code: &str, edit: impl FnOnce(&mut Content), window: Option<SnippetWindow>) -> Snippet {
    let mut content = fixtures::note("s", "", now());
    content.item_type = ItemType::Snippet;
    content.code = code.into();
    edit(&mut content);
    let request = PackRequest { snippet_window: window, ..PackRequest::default() };
    pack(&request, &[item(content)]).snippets.remove(0)
}

fn lines(start: u32, end: u32) -> Option<LineRange> {
    Some(LineRange { start, end })
}

#[test]
fn whole_files_are_cropped_to_the_stated_lines() {
    let found = cropped(&numbered(100), |content| content.context.range = lines(50, 52), None);
    assert_eq!(found.range, lines(44, 58));
    assert!(found.code.starts_with("line 44\n") && found.code.ends_with("line 58"));
}

#[test]
fn excerpts_keep_the_line_numbers_of_their_file() {
    let window = Some(SnippetWindow { before: 1, after: 2 });
    let edit = |content: &mut Content| {
        content.context.range = lines(201, 210);
        content.context.function = Some("line 5".into());
    };
    let found = cropped(&numbered(10), edit, window);
    assert_eq!(found.range, lines(204, 207));
    assert_eq!(found.code, "line 4\nline 5\nline 6\nline 7");
    // Short code is left whole when no window is asked for.
    assert_eq!(cropped(&numbered(10), edit, None).range, lines(201, 210));
}

#[test]
fn long_code_is_cropped_around_function_or_first_symbol() {
    let around = |edit: fn(&mut Content)| cropped(&numbered(100), edit, None).range;
    assert_eq!(around(|content| content.facets.symbols = vec!["line 70".into()]), lines(64, 76));
    assert_eq!(
        around(|content| {
            content.facets.symbols = vec!["line 70".into()];
            content.context.function = Some("line 20".into());
        }),
        lines(14, 26)
    );
    assert_eq!(around(|content| content.facets.symbols = vec!["nowhere".into()]), None);
}

#[test]
fn hints_are_frequent_tags_then_best_titles() {
    let tagged = |id: &str, tags: &[&str]| {
        let mut content = fixtures::note(id, "x", now());
        content.title = format!("title of {id}");
        content.facets =
            Facets { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..Facets::default() };
        item(content)
    };
    let pack =
        pack(&PackRequest::default(), &[tagged("a", &["rare", "often"]), tagged("b", &["often"])]);
    assert_eq!(pack.hints, ["tag:often", "tag:rare", "title:title of a", "title:title of b"]);
}

#[test]
fn requests_out_of_bounds_are_refused() {
    assert!(PackRequest::default().validate().is_ok());
    for (request, field) in [
        (PackRequest { k: Some(0), ..PackRequest::default() }, "k"),
        (PackRequest { max_chars: Some(1), ..PackRequest::default() }, "maxChars"),
        (PackRequest { token_budget: Some(9), ..PackRequest::default() }, "tokenBudget"),
        (
            PackRequest { snippet_file_patterns: vec![String::new()], ..PackRequest::default() },
            "snippetFilePatterns[0]",
        ),
    ] {
        let error = request.validate().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{field}: ")), "{error}");
    }
}

#[test]
fn unused_items_reach_the_prompt_and_what_is_held_back_is_said() {
    let prompt = CheckMemory { task: "fix the build".into(), ..CheckMemory::default() };
    let config = CheckMemoryConfig::default();
    let mut weak = fact("weak", "doubtful");
    weak.quality.confidence = 0.1;
    let content = fixtures::note("old", "use ninja", now().plus_days(-3650.0));
    let old = item(content);
    let markdown = prompt.markdown(&[old, weak.clone()], &config);
    assert!(markdown.contains("use ninja"), "{markdown}");
    assert!(!markdown.contains("doubtful"));
    assert!(markdown.contains("1 more with a confidence under 0.25"));
    let markdown = prompt.markdown(&[weak], &config);
    assert!(!markdown.contains("Nothing is remembered"), "{markdown}");
    assert!(markdown.contains("\n1 with a confidence under 0.25"), "{markdown}");
    assert!(prompt.markdown(&[], &config).contains("Nothing is remembered"));
}

#[test]
fn the_prompt_cuts_long_code_and_cannot_be_broken_out_of() {
    let prompt = CheckMemory { task: "t".into(), ..CheckMemory::default() };
    let config = CheckMemoryConfig::default();
    let markdown = prompt.markdown(&[snippet("s", &"x".repeat(501))], &config);
    assert!(markdown.contains(&format!("{}\n... (101 more", "x".repeat(400))));
    assert!(!markdown.contains(&"x".repeat(401)));
    let whole = prompt.markdown(&[snippet("s", &"x".repeat(500))], &config);
    assert!(whole.contains(&"x".repeat(500)));

    let markdown = prompt.markdown(&[snippet("s", "a\n```\nb")], &config);
    assert!(markdown.contains("````\na\n```\nb\n````"), "{markdown}");

    let flagged = prompt.markdown(&[item(fixtures::full("f", now()))], &config);
    assert!(flagged.contains("Flagged injection"), "{flagged}");
}

#[test]
fn the_prompt_asks_with_plain_words() {
    let prompt = CheckMemory {
        task: "fix \"the --verbose\" \u{201c}flag\u{201d} -".into(),
        files: vec!["src/cli/args.rs".into()],
        context: Some("parser".into()),
    };
    let query = prompt.to_query(&CheckMemoryConfig::default());
    assert_eq!(query.q, "fix the verbose flag parser args.rs");
    assert_eq!(query.k, Some(20));
}

proptest! {
    #[test]
    fn no_pack_exceeds_its_budget(
        budget in 200..3000_usize,
        texts in proptest::collection::vec("[a-zé\n ]{0,600}", 1..30),
        kinds in proptest::collection::vec(0..7_usize, 30),
    ) {
        let items: Vec<Item> = texts
            .iter()
            .zip(kinds)
            .enumerate()
            .map(|(position, (text, kind))| {
                let mut content = fixtures::note(&format!("i{position}"), text, now());
                content.item_type = ItemType::ALL[kind];
                if position % 2 == 0 {
                    content.code.clone_from(text);
                }
                item(content)
            })
            .collect();
        let request = PackRequest { max_chars: Some(budget), ..PackRequest::default() };
        let pack = pack(&request, &items);
        let count = |texts: &[&str]| texts.iter().map(|text| text.chars().count()).sum::<usize>();
        let used = pack.snippets.iter().map(|s| count(&[&s.title, &s.description, &s.code])).sum::<usize>()
            + pack.facts.iter().map(|f| count(&[&f.title, &f.text])).sum::<usize>()
            + pack.patterns.iter().map(|p| count(&[&p.title, &p.description, &p.code])).sum::<usize>()
            + pack.configs.iter().map(|c| count(&[&c.key, &c.value, &c.context])).sum::<usize>();
        prop_assert_eq!(used, pack.chars);
        prop_assert!(used <= budget);
    }
}

#[test]
fn a_pack_says_what_its_search_did_not_look_at() {
    let found = |cursor: Option<&str>, notice: Option<&str>| -> crate::api::QueryResult {
        let result = serde_json::json!({
            "items": [], "total": 9, "totalRelation": "eq", "scope": "all", "query": "x",
            "tookMs": 1.0, "cached": false, "nextCursor": cursor, "notice": notice,
        });
        serde_json::from_value(result).unwrap()
    };
    let request = PackRequest::default();
    assert_eq!(request.notice(&found(None, None)), None);
    assert_eq!(request.notice(&found(None, Some("damaged"))).as_deref(), Some("damaged"));
    let said = request.notice(&found(Some("more"), Some("pass nextCursor"))).unwrap();
    assert!(said.contains("only the first 0 hits") && !said.contains("nextCursor"), "{said}");
    let plain = pack(&request, &[fact("f", "x")]);
    let noticed = Pack { notice: Some(said), ..plain.clone() };
    assert_eq!(noticed.compute_digest(), plain.digest);
}
