//! Whether what a built-in pattern matched is a secret or ordinary text.
//!
//! Assignments (`token = value`) are everywhere in source code, mostly of names and calls. A
//! value counts as a secret when it looks chosen by a generator, or by a person who was asked
//! for a digit; a value that looks like a name, a path, a sentence or a placeholder does not.

use std::ops::Range;

use regex::Captures;

/// The group `secret` if the pattern has one that took part, else the whole match.
pub(super) fn named_or_whole(captures: &Captures<'_>) -> Option<Range<usize>> {
    captures.name("secret").or_else(|| captures.get(0)).map(|found| found.range())
}

/// The group `secret` if it looks generated.
pub(super) fn generated(captures: &Captures<'_>) -> Option<Range<usize>> {
    let secret = captures.name("secret")?;
    (!is_placeholder(secret.as_str()) && looks_generated(secret.as_str())).then(|| secret.range())
}

/// The group `secret` if a person could have chosen it as a password.
pub(super) fn password(captures: &Captures<'_>) -> Option<Range<usize>> {
    let secret = captures.name("secret")?;
    (!is_placeholder(secret.as_str()) && looks_chosen(secret.as_str())).then(|| secret.range())
}

/// The password of a connection string: there it can be anything but a placeholder.
pub(super) fn in_url(captures: &Captures<'_>) -> Option<Range<usize>> {
    let secret = captures.name("secret")?;
    let value = secret.as_str();
    let generic = ["pass", "pwd", "pw", "user", "postgres", "root", "admin", "guest", "foo", "bar"];
    let plain = value.to_ascii_lowercase();
    (!is_placeholder(value) && !generic.contains(&plain.as_str()) && value.len() >= 4)
        .then(|| secret.range())
}

/// An assignment: `quoted` is a string literal, `bare` stands without quotes; `key` is the name
/// it is assigned to, `op` the sign between them.
pub(super) fn assignment(captures: &Captures<'_>) -> Option<Range<usize>> {
    let key = captures.name("key")?.as_str();
    let op = captures.name("op")?.as_str();
    if let Some(quoted) = captures.name("quoted") {
        let value = quoted.as_str();
        // People choose passwords; tokens and keys are generated, and a short one is a name.
        let is_token = key.to_ascii_lowercase().ends_with("token");
        let secret = !is_placeholder(value)
            && (looks_generated(value) || (looks_chosen(value) && !is_token));
        return secret.then(|| quoted.range());
    }
    let bare = captures.name("bare")?;
    let value = bare.as_str();
    let is_call = captures.name("call").is_some_and(|call| !call.is_empty());
    let is_constant =
        value.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if is_placeholder(value) || is_call || is_constant || value.starts_with("0x") {
        return None;
    }
    // `DB_PASSWORD=value` without spaces is an environment file or a shell line, where a bare
    // word is a value and not a name.
    let is_environment = op == "=" && !key.chars().any(|c| c.is_ascii_lowercase());
    let plain_word = value.chars().all(|c| c.is_ascii_alphanumeric());
    // Without quotes, letters alone are the name of something.
    let has_digit = value.chars().any(|c| c.is_ascii_digit());
    let secret = (is_environment && plain_word && value.len() >= 12)
        || looks_mixed(value)
        || (has_digit && looks_generated(value) && !looks_like_path(value));
    secret.then(|| bare.range())
}

/// Words that stand for a value instead of being one.
fn is_placeholder(value: &str) -> bool {
    const PARTS: [&str; 15] = [
        "<",
        ">",
        "{",
        "}",
        "$(",
        "...",
        "***",
        "xxxx",
        "example",
        "changeme",
        "change_me",
        "change-me",
        "placeholder",
        "your_",
        "redacted",
    ];
    const WORDS: [&str; 12] = [
        "password",
        "passwd",
        "secret",
        "token",
        "apikey",
        "api_key",
        "api-key",
        "test",
        "testtest",
        "password123",
        "string",
        "undefined",
    ];
    let plain = value.to_ascii_lowercase();
    plain.starts_with('$')
        || plain.starts_with('%')
        || plain.starts_with("your")
        || PARTS.iter().any(|part| plain.contains(part))
        || WORDS.contains(&plain.as_str())
        || distinct(&plain) < 4
}

/// A path, URL, version or dotted name.
fn looks_like_path(value: &str) -> bool {
    value.contains("::")
        || value.contains("//")
        || value.starts_with(['/', '.', '~'])
        || value.matches('/').count() > 1
        || (value.contains('.') && value.split('.').all(|part| !looks_generated(part)))
}

/// Long, of letters and digits mixed as no word is.
fn looks_generated(value: &str) -> bool {
    let length = value.chars().count();
    if !(16..=1000).contains(&length) || value.contains(char::is_whitespace) {
        return false;
    }
    let has_digit = value.chars().any(|c| c.is_ascii_digit());
    let has_letter = value.chars().any(|c| c.is_ascii_alphabetic());
    if has_digit && has_letter {
        // Names with a number in them (`sha256_digest_of_file`) change between letters and
        // digits once or twice; generated values about every third character.
        return switches(value) * 6 >= length && entropy(value) >= 3.0;
    }
    // Letters only, in one piece, with both cases spread over it or very many different ones.
    let one_piece = value.chars().all(|c| c.is_ascii_alphabetic());
    one_piece && length >= 20 && (case_switches(value) * 3 >= length || distinct(value) >= 20)
}

/// At least 8 characters with a letter and a digit or a sign, as password rules ask for.
fn looks_chosen(value: &str) -> bool {
    if value.chars().count() < 8 || value.contains(char::is_whitespace) || looks_like_path(value) {
        return false;
    }
    let has_letter = value.chars().any(char::is_alphabetic);
    let has_digit = value.chars().any(|c| c.is_ascii_digit());
    let has_sign = value.chars().any(|c| matches!(c, '!' | '@' | '#' | '^' | '&' | '*' | '?'));
    has_letter && (has_digit || has_sign) && !looks_like_name(value)
}

/// Words and numbers joined by dashes, underscores or dots (`test-m2m-client`, `retry_2`).
fn looks_like_name(value: &str) -> bool {
    let is_word = |part: &str| {
        part.len() <= 3
            || part.chars().all(|c| c.is_ascii_lowercase())
            || part.chars().all(|c| c.is_ascii_digit())
    };
    value.contains(['-', '_', '.']) && value.split(['-', '_', '.']).all(is_word)
}

/// As [`looks_chosen`], and unlike any name in code.
pub(super) fn looks_mixed(value: &str) -> bool {
    let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '&' | '+' | '=');
    let has_digit = value.chars().any(|c| c.is_ascii_digit());
    looks_chosen(value)
        && ((has_digit && value.chars().any(|c| matches!(c, '!' | '@' | '#' | '^' | '?')))
            || (value.starts_with(char::is_alphanumeric)
                && value.chars().all(in_word)
                && switches(value) >= 3))
}

/// Changes between letter and digit along `value`.
fn switches(value: &str) -> usize {
    let kinds = value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.is_ascii_digit());
    count_changes(kinds)
}

/// Changes between upper and lower case along `value`.
fn case_switches(value: &str) -> usize {
    count_changes(value.chars().map(|c| c.is_ascii_uppercase()))
}

fn count_changes(mut kinds: impl Iterator<Item = bool>) -> usize {
    let Some(mut last) = kinds.next() else { return 0 };
    let mut changes = 0;
    for kind in kinds {
        changes += usize::from(kind != last);
        last = kind;
    }
    changes
}

fn distinct(value: &str) -> usize {
    let mut seen: Vec<char> = value.chars().collect();
    seen.sort_unstable();
    seen.dedup();
    seen.len()
}

/// Shannon entropy, bits for each character.
fn entropy(value: &str) -> f64 {
    let mut characters: Vec<char> = value.chars().collect();
    characters.sort_unstable();
    let total = characters.len() as f64;
    characters
        .chunk_by(|a, b| a == b)
        .map(|run| {
            let share = run.len() as f64 / total;
            -share * share.log2()
        })
        .sum()
}
