//! Bounds and normal form of items. Errors name the argument as the caller spelled it and say
//! what would be right.

use super::{Content, Context, Facets};
use crate::error::{EngineError, Result};

/// Longest title, characters.
pub const MAX_TITLE_CHARS: usize = 1000;
/// Longest name of a language, characters.
pub const MAX_LANGUAGE_CHARS: usize = 64;
/// Most tags, files or symbols.
pub const MAX_FACETS: usize = 100;
/// Longest tag or symbol, characters.
pub const MAX_LABEL_CHARS: usize = 256;
/// Longest path, characters.
pub const MAX_PATH_CHARS: usize = 1024;
/// Longest string in a context, characters.
pub const MAX_CONTEXT_CHARS: usize = 1024;
/// Most links from one item.
pub const MAX_LINKS: usize = 1000;
/// Shortest life time, days.
pub const MIN_TTL_DAYS: f64 = 0.001;
/// Longest life time, days.
pub const MAX_TTL_DAYS: f64 = 36_500.0;

/// Brings `content` into normal form: facets trimmed, sorted, without repetition; the title on
/// one line; empty optional strings absent; links without repetition, in order.
pub fn normalise(content: &mut Content) {
    if content.title.contains(char::is_control) || content.title != content.title.trim() {
        content.title = content
            .title
            .split(|c: char| c.is_whitespace() || c == '\u{b}')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
    }
    normalise_optional(&mut content.language);
    normalise_facets(&mut content.facets);
    let Context {
        repo_id,
        branch,
        commit,
        tool,
        source,
        file,
        range: _,
        function,
        package,
        framework,
    } = &mut content.context;
    for field in [repo_id, branch, commit, tool, source, file, function, package, framework] {
        normalise_optional(field);
    }
    let mut kept: Vec<super::Link> = Vec::with_capacity(content.links.len());
    for link in content.links.drain(..) {
        if !kept.contains(&link) {
            kept.push(link);
        }
    }
    content.links = kept;
}

/// Trims, sorts and removes empty and repeated entries.
pub fn normalise_facets(facets: &mut Facets) {
    let Facets { tags, files, symbols } = facets;
    for list in [tags, files, symbols] {
        for entry in list.iter_mut() {
            if entry.trim().len() != entry.len() {
                *entry = entry.trim().to_owned();
            }
        }
        list.retain(|entry| !entry.is_empty());
        list.sort_unstable();
        list.dedup();
    }
}

fn normalise_optional(field: &mut Option<String>) {
    if let Some(text) = field {
        if text.trim().is_empty() {
            *field = None;
        } else if text.trim().len() != text.len() {
            *field = Some(text.trim().to_owned());
        }
    }
}

/// Checks every bound of a normalised item; `max_item_bytes` bounds title, text and code
/// together.
///
/// # Errors
/// [`EngineError::Invalid`], naming the field.
pub fn check(content: &Content, max_item_bytes: usize) -> Result<()> {
    text_field("title", &content.title, Some(MAX_TITLE_CHARS))?;
    text_field("text", &content.text, None)?;
    text_field("code", &content.code, None)?;
    if [&content.title, &content.text, &content.code].iter().all(|text| text.trim().is_empty()) {
        return Err(EngineError::invalid(
            "text",
            "title, text and code are all empty: give at least one of them",
        ));
    }
    let bytes = content.title.len() + content.text.len() + content.code.len();
    if bytes > max_item_bytes {
        let field = if content.code.len() > content.text.len() { "code" } else { "text" };
        return Err(EngineError::invalid(
            field,
            format!(
                "title, text and code have {bytes} bytes together; at most {max_item_bytes} are \
                 allowed: split the item and link the parts"
            ),
        ));
    }
    if let Some(language) = &content.language {
        text_field("language", language, Some(MAX_LANGUAGE_CHARS))?;
    }
    list_field("tags", &content.facets.tags, MAX_LABEL_CHARS)?;
    list_field("files", &content.facets.files, MAX_PATH_CHARS)?;
    list_field("symbols", &content.facets.symbols, MAX_LABEL_CHARS)?;
    context(&content.context)?;
    if let Some(days) = content.ttl_days {
        ttl_days(days)?;
    }
    if content.links.len() > MAX_LINKS {
        return Err(EngineError::invalid(
            "links",
            format!("{} links; at most {MAX_LINKS} are allowed", content.links.len()),
        ));
    }
    for (position, link) in content.links.iter().enumerate() {
        if link.to == content.id {
            return Err(EngineError::invalid(
                format!("links[{position}].to"),
                "an item cannot be linked to itself: name another item",
            ));
        }
    }
    Ok(())
}

/// Checks a life time in days.
///
/// # Errors
/// [`EngineError::Invalid`] for `ttlDays`.
pub fn ttl_days(days: f64) -> Result<()> {
    if (MIN_TTL_DAYS..=MAX_TTL_DAYS).contains(&days) {
        return Ok(());
    }
    Err(EngineError::invalid(
        "ttlDays",
        format!("{days} is out of range: use {MIN_TTL_DAYS} to {MAX_TTL_DAYS} days"),
    ))
}

/// Checks one string: no NUL, and not longer than `max_chars` where there is such a bound.
///
/// # Errors
/// [`EngineError::Invalid`] for `field`.
pub fn text_field(field: &str, text: &str, max_chars: Option<usize>) -> Result<()> {
    if text.contains('\0') {
        return Err(EngineError::invalid(field, "contains a NUL character: remove it"));
    }
    if let Some(max) = max_chars
        && text.len() > max
        && text.chars().count() > max
    {
        return Err(EngineError::invalid(
            field,
            format!("{} characters; at most {max} are allowed: shorten it", text.chars().count()),
        ));
    }
    Ok(())
}

fn list_field(field: &str, list: &[String], max_chars: usize) -> Result<()> {
    if list.len() > MAX_FACETS {
        return Err(EngineError::invalid(
            field,
            format!("{} entries; at most {MAX_FACETS} are allowed", list.len()),
        ));
    }
    for entry in list {
        // The entry is named by its beginning: normalising has changed its position.
        let shown: String = entry.chars().take(24).collect();
        text_field(&format!("{field} ({shown:?})"), entry, Some(max_chars))?;
    }
    Ok(())
}

fn context(context: &Context) -> Result<()> {
    let fields = [
        ("context.repoId", &context.repo_id),
        ("context.branch", &context.branch),
        ("context.commit", &context.commit),
        ("context.tool", &context.tool),
        ("context.source", &context.source),
        ("context.file", &context.file),
        ("context.function", &context.function),
        ("context.package", &context.package),
        ("context.framework", &context.framework),
    ];
    for (field, text) in fields {
        if let Some(text) = text {
            text_field(field, text, Some(MAX_CONTEXT_CHARS))?;
        }
    }
    if let Some(range) = context.range
        && (range.start == 0 || range.end < range.start)
    {
        return Err(EngineError::invalid(
            "context.range",
            format!(
                "lines {} to {} are not a range: lines count from 1 and end is not before start",
                range.start, range.end
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{LineRange, fixtures};

    fn note() -> Content {
        fixtures::note("n", "text", crate::ids::Timestamp::from_millis(0))
    }

    #[track_caller]
    fn refused(content: &Content, field: &str, part: &str) {
        let error = check(content, 1000).unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn facets_become_sorted_sets_of_trimmed_words() {
        let mut content = note();
        content.facets.tags = ["b ", " a", "b", " ", ""].map(str::to_owned).into();
        content.title = " two\nlines ".into();
        content.language = Some("  ".into());
        normalise(&mut content);
        assert_eq!(content.facets.tags, ["a", "b"]);
        assert_eq!(content.title, "two lines");
        assert_eq!(content.language, None);
    }

    #[test]
    fn every_bound_names_its_field_and_the_remedy() {
        assert!(check(&note(), 1000).is_ok());
        refused(&Content { text: "a\0b".into(), ..note() }, "text", "NUL");
        refused(&Content { title: "t".repeat(1001), ..note() }, "title", "at most 1000");
        refused(&Content { text: " ".into(), ..note() }, "text", "all empty");
        refused(&Content { code: "c".repeat(1001), ..note() }, "code", "split");
        refused(&Content { language: Some("l".repeat(65)), ..note() }, "language", "at most 64");
        refused(&Content { ttl_days: Some(f64::NAN), ..note() }, "ttlDays", "out of range");
        refused(&Content { ttl_days: Some(0.0), ..note() }, "ttlDays", "out of range");

        let mut content = note();
        content.facets.tags = (0..101).map(|n| n.to_string()).collect();
        refused(&content, "tags", "101 entries");
        content.facets.tags = vec!["x".repeat(257)];
        refused(&content, "tags", "257 characters");

        let mut content = note();
        content.context.range = Some(LineRange { start: 5, end: 4 });
        refused(&content, "context.range", "count from 1");
        content.context = Context { file: Some("f\0".into()), ..Context::default() };
        refused(&content, "context.file", "NUL");

        let mut content = note();
        content.links =
            vec![crate::item::Link { rel: crate::item::Relation::Relates, to: content.id.clone() }];
        refused(&content, "links[0].to", "itself");
    }

    #[test]
    fn bounds_count_characters_not_bytes() {
        let content = Content { title: "é".repeat(1000), ..note() };
        assert!(check(&content, 10_000).is_ok());
    }
}
