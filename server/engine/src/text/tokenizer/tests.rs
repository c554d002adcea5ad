use proptest::prelude::*;

use super::*;

fn terms(text: &str, mode: Mode) -> Vec<String> {
    with_tokens(text, mode, |tokens| tokens.iter().map(|token| token.term.to_owned()).collect())
}

fn parts(text: &str, mode: Mode) -> Vec<String> {
    with_tokens(text, mode, |tokens| tokens.parts().map(|token| token.term.to_owned()).collect())
}

#[test]
fn identifiers_give_their_parts_and_one_common_whole() {
    for spelling in ["maxChars", "MaxChars", "max_chars", "max-chars", "MAX_CHARS"] {
        let found = terms(spelling, Mode::Code);
        for expected in ["maxchars", "max", "chars"] {
            assert!(found.iter().any(|term| term == expected), "{spelling}: {found:?}");
        }
        assert_eq!(parts(spelling, Mode::Code), ["max", "chars"], "{spelling}");
    }
    assert_eq!(parts("XMLHttpRequest2", Mode::Code), ["xml", "http", "request", "2"]);
    assert_eq!(terms("utf8", Mode::Code), ["utf8", "utf", "8"]);
}

#[test]
fn in_prose_a_camel_case_word_is_one_part_with_its_pieces_beside_it() {
    let positions = |text: &str| {
        with_tokens(text, Mode::Prose, |tokens| {
            let all = tokens.iter();
            all.map(|token| (token.term.to_owned(), token.position, token.part)).collect::<Vec<_>>()
        })
    };
    let token = |term: &str, position, part| (term.to_owned(), position, part);
    assert_eq!(
        positions("GitHub Actions"),
        [
            token("github", 0, true),
            token("git", 0, false),
            token("hub", 0, false),
            token("action", 1, true)
        ]
    );
    for (text, lower) in [
        ("JavaScript engines", "javascript engine"),
        ("YouTube videos", "youtube video"),
        ("PostgreSQL 16 upgrade", "postgresql 16 upgrade"),
        ("on utf8 text", "on UTF8 text"),
    ] {
        assert_eq!(parts(text, Mode::Prose), parts(lower, Mode::Prose), "{text}");
    }
    // Joints go on making several parts of a chunk, and one common whole.
    assert_eq!(parts("src/maxChars", Mode::Prose), ["src", "maxchar"]);
    for spelling in ["maxChars", "max_chars", "max-chars", "MAX_CHARS"] {
        assert_eq!(terms(spelling, Mode::Prose), ["maxchar", "max", "char"], "{spelling}");
    }
}

#[test]
fn paths_give_parts_segments_and_the_whole() {
    let found = terms("server/engine/src/text/mod.rs", Mode::Code);
    for expected in ["server/engine/src/text/mod.rs", "mod.rs", "mod", "rs", "engine"] {
        assert!(found.iter().any(|term| term == expected), "{expected}: {found:?}");
    }
    assert!(terms("std::fs::File", Mode::Code).contains(&"std::fs::file".to_owned()));
}

#[test]
fn punctuation_at_the_edges_belongs_to_no_word() {
    assert_eq!(terms("(see: this.) -- and, \"that\"!", Mode::Code), ["see", "this", "and", "that"]);
    assert_eq!(terms("--flag=value", Mode::Code), ["flag", "value"]);
    assert!(terms("... --- ''' \u{301}", Mode::Prose).iter().all(|term| !term.is_empty()));
}

#[test]
fn prose_is_stemmed_and_code_is_not() {
    assert_eq!(terms("running tests quickly", Mode::Prose), ["run", "test", "quick"]);
    assert_eq!(terms("running tests", Mode::Code), ["running", "tests"]);
    assert_eq!(terms("went", Mode::Prose), terms("going", Mode::Prose));
    assert_eq!(terms("Ben lives there", Mode::Prose)[1], terms("live", Mode::Prose)[0]);
    assert_eq!(terms("children bought", Mode::Prose), terms("child buying", Mode::Prose));
}

#[test]
fn apostrophes_follow_english_and_french_use() {
    assert_eq!(terms("Anna's they're don’t", Mode::Code), ["anna", "they", "dont"]);
    assert_eq!(terms("l'homme 'quoted'", Mode::Code), ["l", "homme", "quoted"]);
    assert_eq!(terms("O'Brien", Mode::Code), ["o", "brien"]);
}

#[test]
fn scripts_without_spaces_give_characters_and_pairs() {
    let found = terms("東京都 hello", Mode::Prose);
    assert_eq!(found, ["東京", "東", "京都", "京", "都", "hello"]);
    assert_eq!(parts("東京都", Mode::Prose), ["東", "京", "都"]);
    assert_eq!(terms("rustで書く", Mode::Code).first().map(String::as_str), Some("rust"));
}

#[test]
fn encoded_data_is_one_cut_token() {
    let blob = "aB3".repeat(1000);
    let found = terms(&blob, Mode::Code);
    assert_eq!(found.len(), 1);
    assert!(found[0].len() <= 64);
}

proptest! {
    #[test]
    fn any_text_gives_ordered_bounded_terms_within_it(text in "\\PC{0,200}") {
        for mode in [Mode::Prose, Mode::Code] {
            with_tokens(&text, mode, |tokens| {
                let mut position = 0;
                for token in tokens.iter() {
                    prop_assert!(!token.term.is_empty());
                    prop_assert!(token.term.len() <= 64 * 12);
                    prop_assert!(token.start < token.end && token.end <= text.len());
                    prop_assert!(token.position >= position);
                    position = token.position;
                }
                Ok(())
            })?;
        }
    }

    #[test]
    fn the_stem_cache_does_not_change_stems(words in prop::collection::vec("[a-z]{1,12}", 1..30)) {
        let text = words.join(" ");
        let mut cold = Tokens::default();
        cold.analyze(&text, Mode::Prose);
        let mut warm = Tokens::default();
        warm.analyze(&text, Mode::Prose);
        warm.analyze(&text, Mode::Prose);
        let collect = |tokens: &Tokens| -> Vec<String> {
            tokens.iter().map(|token| token.term.to_owned()).collect()
        };
        prop_assert_eq!(collect(&cold), collect(&warm));
    }
}
