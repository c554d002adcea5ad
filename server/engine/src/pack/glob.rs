//! File patterns: `*` within a folder name, `**` across folders, `?` one character.

/// Whether `path` matches `pattern`. A pattern without `/` is matched against the file name
/// alone, as shells and `.gitignore` do.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let path = if pattern.contains('/') { path } else { path.rsplit('/').next().unwrap_or(path) };
    let pattern: Vec<char> = pattern.chars().collect();
    let path: Vec<char> = path.chars().collect();
    // One row of the usual table a pattern element: `reached[i]` says whether the pattern so far
    // can match the first `i` characters. Linear in pattern times path, whatever the pattern.
    let mut reached = vec![false; path.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    let mut rest = pattern.as_slice();
    while let Some((element, tail)) = next(rest) {
        rest = tail;
        reached = step(element, &reached, &path);
    }
    reached.last().copied().unwrap_or(false)
}

#[derive(Clone, Copy)]
enum Element {
    Literal(char),
    AnyOne,
    /// Any number of characters other than `/`.
    Star,
    /// Any number of characters.
    DoubleStar,
    /// `**/`: nothing, or any number of characters that end in `/`.
    Folders,
}

fn next(pattern: &[char]) -> Option<(Element, &[char])> {
    match pattern {
        [] => None,
        ['*', '*', '/', rest @ ..] => Some((Element::Folders, rest)),
        ['*', '*', rest @ ..] => Some((Element::DoubleStar, rest)),
        ['*', rest @ ..] => Some((Element::Star, rest)),
        ['?', rest @ ..] => Some((Element::AnyOne, rest)),
        [literal, rest @ ..] => Some((Element::Literal(*literal), rest)),
    }
}

fn step(element: Element, reached: &[bool], path: &[char]) -> Vec<bool> {
    let mut out = Vec::with_capacity(reached.len());
    let mut open = false;
    for (position, here) in reached.iter().copied().enumerate() {
        let before = position.checked_sub(1);
        let character = before.and_then(|before| path.get(before)).copied();
        let from_before = before.and_then(|before| reached.get(before)).copied().unwrap_or(false);
        out.push(match element {
            Element::Literal(literal) => from_before && character == Some(literal),
            Element::AnyOne => from_before && character.is_some_and(|c| c != '/'),
            Element::Star => {
                open = here || (open && character.is_some_and(|c| c != '/'));
                open
            }
            Element::DoubleStar => {
                open = open || here;
                open
            }
            Element::Folders => {
                let ends_folder = open && character == Some('/');
                open = open || here;
                here || ends_folder
            }
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_shells() {
        for (pattern, path, expected) in [
            ("*.rs", "src/deep/lib.rs", true),
            ("*.rs", "lib.rs.bak", false),
            ("src/*.rs", "src/lib.rs", true),
            ("src/*.rs", "src/deep/lib.rs", false),
            ("src/**/*.rs", "src/deep/er/lib.rs", true),
            ("src/**/*.rs", "src/lib.rs", true),
            ("**/test_?.py", "a/b/test_1.py", true),
            ("**/test_?.py", "test_12.py", false),
            ("src/**", "src/a/b", true),
            ("src/**", "srcs", false),
            ("**", "any/thing", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    proptest! {
        #[test]
        fn hard_patterns_stay_quick(pattern in "[a*?/]{0,60}", path in "[a/]{0,200}") {
            let _ = matches(&pattern, &path);
        }

        #[test]
        fn every_path_matches_itself(path in "[a-z/.]{0,40}") {
            prop_assert!(matches(&path, &path) || !path.contains('/'));
        }
    }
}
