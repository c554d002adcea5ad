//! JSON results as text for people: lines of `name  value`, tables for lists of objects. Pure;
//! knows no particular tool.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Members in the order in which a reader wants them; the rest follow as the document has them.
const ORDER: [&str; 22] = [
    "score",
    "id",
    "version",
    "op",
    "seq",
    "ts",
    "rel",
    "from",
    "to",
    "type",
    "scope",
    "title",
    "snippet",
    "similarity",
    "file",
    "issue",
    "reason",
    "actor",
    "tags",
    "confidence",
    "pinned",
    "updatedAt",
];
/// Members that a table leaves out: too long for a line, and of no use to the eye.
const NOT_IN_TABLES: [&str; 3] = ["hash", "createdAt", "text"];
/// Longest cell of a table, in characters.
const CELL: usize = 60;
/// Rows of a table; the JSON form has all.
const ROWS: usize = 1000;

/// Renders `value` for a terminal of `width` columns.
pub(crate) fn render(value: &Value, width: usize) -> String {
    let mut out = String::new();
    block(value, 0, width, &mut out);
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}

fn block(value: &Value, indent: usize, width: usize, out: &mut String) {
    match value {
        Value::Object(object) => object_block(object, indent, width, out),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            table(items, indent, width, out);
        }
        Value::Array(items) if items.is_empty() => line(indent, "none", out),
        Value::Array(items) => {
            for item in items {
                line(indent, &scalar("", item), out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            line(indent, &scalar("", value), out);
        }
    }
}

fn object_block(object: &Map<String, Value>, indent: usize, width: usize, out: &mut String) {
    let simple = |value: &Value| match value {
        Value::Object(_) => false,
        Value::Array(items) => !items.iter().any(Value::is_object) && !items.is_empty(),
        Value::String(text) => !text.contains('\n'),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    };
    let members = ordered(object);
    let lines: Vec<(String, String)> = members
        .iter()
        .filter(|(_, value)| simple(value))
        .map(|(name, value)| (words(name), scalar(name, value)))
        .collect();
    let longest = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in lines {
        line(indent, &format!("{name:longest$}  {value}"), out);
    }
    for (name, value) in members.into_iter().filter(|(_, value)| !simple(value)) {
        match value {
            Value::Array(items) if items.is_empty() => {
                line(indent, &format!("{}: none", words(name)), out);
            }
            Value::Object(below) if below.is_empty() => {}
            Value::String(text) => {
                line(indent, &format!("{}:", words(name)), out);
                for text_line in text.lines() {
                    line(indent.saturating_add(2), text_line, out);
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => {
                line(indent, &format!("{}:", words(name)), out);
                block(value, indent.saturating_add(2), width, out);
            }
        }
    }
}

/// The members of an object, best known ones first.
fn ordered(object: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut members: Vec<(&str, &Value)> =
        object.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let rank = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    members.sort_by_key(|(name, _)| rank(name));
    members
}

fn line(indent: usize, text: &str, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:indent$}{}", "", text.trim_end());
}

/// A table of objects: as many columns as fit, best known ones first.
fn table(items: &[Value], indent: usize, width: usize, out: &mut String) {
    let rows: Vec<&Map<String, Value>> = items.iter().filter_map(Value::as_object).collect();
    let mut names: Vec<&str> = Vec::new();
    for name in ORDER.into_iter().chain(rows.iter().flat_map(|row| row.keys().map(String::as_str)))
    {
        let shown = |row: &&Map<String, Value>| row.get(name).is_some_and(is_cell);
        // Where rows are no items, a hash is what they are about.
        if NOT_IN_TABLES.contains(&name) && rows.iter().any(|row| row.contains_key("id")) {
            continue;
        }
        if !names.contains(&name) && rows.iter().any(shown) {
            names.push(name);
        }
    }
    let mut columns: Vec<Column> = Vec::new();
    let mut used = indent;
    for name in names {
        let column = Column::of(name, &rows);
        used = used.saturating_add(column.width).saturating_add(2);
        if used > width.saturating_add(2) && !columns.is_empty() {
            break;
        }
        columns.push(column);
    }
    // Row 0 is the header.
    for row in 0..=rows.len().min(ROWS) {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| {
                let cell = column.cells.get(row).map_or("", String::as_str);
                format!("{cell:width$}", width = column.width)
            })
            .collect();
        line(indent, &cells.join("  "), out);
    }
    if rows.len() > ROWS {
        line(indent, &format!("... and {} more (--output json)", rows.len() - ROWS), out);
    }
}

/// One column of a table: its header, then a cell a row.
struct Column {
    cells: Vec<String>,
    width: usize,
}

impl Column {
    fn of(name: &str, rows: &[&Map<String, Value>]) -> Self {
        let cell_of = |row: &&Map<String, Value>| {
            row.get(name).map(|value| cell(name, value)).unwrap_or_default()
        };
        let cells: Vec<String> =
            std::iter::once(words(name)).chain(rows.iter().take(ROWS).map(cell_of)).collect();
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        Self { cells, width }
    }
}

/// Whether a value can stand in one cell.
fn is_cell(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty() && !items.iter().any(Value::is_object),
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Null | Value::Object(_) => false,
    }
}

fn cell(name: &str, value: &Value) -> String {
    let text = scalar(name, value).split_whitespace().collect::<Vec<_>>().join(" ");
    // Half a hash is worth nothing.
    if text.chars().count() <= CELL || name == "hash" {
        return text;
    }
    let mut cut: String = text.chars().take(CELL.saturating_sub(3)).collect();
    cut.push_str("...");
    cut
}

/// `integrityScore` as `integrity score`.
fn words(name: &str) -> String {
    // Names that carry more than a JSON key, such as a scope with its project, stay as they are.
    if !name.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        return name.to_owned();
    }
    super::command::kebab(name).replace('-', " ")
}

/// `text` with its control characters but line ends and tabs written out: what is stored must not
/// be able to move the cursor of the terminal that it is shown on, or to change its colours.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if hidden(letter) {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    Cow::Owned(out)
}

fn scalar(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "no data".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(bytes), _) if is_bytes(name) => bytes_text(bytes),
            (None, Some(float)) if number.is_f64() => float_text(float),
            _ => number.to_string(),
        },
        // Written out here already, so that columns are as wide as what is shown.
        Value::String(text) => visible(text).into_owned(),
        Value::Array(items) => {
            items.iter().map(|item| scalar(name, item)).collect::<Vec<_>>().join(", ")
        }
        Value::Object(_) => value.to_string(),
    }
}

fn is_bytes(name: &str) -> bool {
    name == "bytes"
        || name.ends_with("Bytes")
        || name.strip_prefix("bytes").is_some_and(|rest| rest.starts_with(char::is_uppercase))
}

/// A size as people read it: `1.5 MiB`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    format!("{size:.1} {unit}")
}

/// A number with at most four decimals and no idle zeros.
pub(crate) fn float_text(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_come_before_tables_and_names_are_words() {
        let value = json!({
            "total": 2,
            "tookMs": 1.25,
            "items": [
                {"id": "a", "title": "First", "score": 3.0, "explanation": {"x": 1}},
                {"id": "b", "title": "Second\nline", "score": 1.23456},
            ],
        });
        insta::assert_snapshot!(render(&value, 80), @r"
        took ms  1.25
        total    2
        items:
          score   id  title
          3       a   First
          1.2346  b   Second line
        ");
    }

    #[test]
    fn scopes_become_sections_and_missing_values_say_so() {
        let value = json!({"local/my-app": {"valid": true, "lastTs": null, "sizeBytes": 1536,
            "corruptedItems": []}});
        insta::assert_snapshot!(render(&value, 80), @r"
        local/my-app:
          last ts     no data
          size bytes  1.5 KiB
          valid       yes
          corrupted items: none
        ");
    }

    #[test]
    fn columns_that_do_not_fit_are_left_out() {
        let value = json!([{"id": "a", "title": "t".repeat(100), "file": "somewhere"}]);
        let text = render(&value, 40);
        assert!(text.starts_with("id\n"), "{text}");
        let wide = render(&value, 200);
        assert!(wide.contains("...") && wide.contains("somewhere"), "{wide}");
    }

    #[test]
    fn what_is_stored_does_not_steer_the_terminal() {
        let value = json!([{"id": "a\u{1b}[31m", "title": "x"}, {"id": "b", "title": "\u{9b}2J"}]);
        insta::assert_snapshot!(render(&value, 80), @r"
        id           title
        a\u{1b}[31m  x
        b            \u{9b}2J
        ");
        assert_eq!(visible("one\r\n\ttwo\u{7}"), "one\\r\n\ttwo\\u{7}");
    }

    #[test]
    fn the_hashes_of_a_proof_are_shown_whole_and_those_of_items_left_out() {
        let hash = "0123456789abcdef".repeat(4);
        let proof = json!({"path": [{"left": true, "hash": hash}]});
        assert!(render(&proof, 100).contains(&hash));
        assert!(!render(&json!([{"id": "a", "hash": hash}]), 100).contains("0123"));
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes_text(1023), "1023 B");
        assert_eq!(bytes_text(64 << 20), "64.0 MiB");
        assert_eq!(float_text(1.0), "1");
        assert_eq!(float_text(0.4750), "0.475");
    }
}
