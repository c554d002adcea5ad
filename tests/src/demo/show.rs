//! How things are printed: plain text, readable without colour.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The heading of the next step.
pub(super) fn step(title: &str) {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    println!("\n{}. {title}", NUMBER.fetch_add(1, Ordering::Relaxed));
}

/// A duration in milliseconds.
pub(super) fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// A size in the largest unit that keeps it above 1.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

/// A question and its first hits.
pub(super) fn answer(question: &str, answer: &Value, round_trip: Duration) {
    let number = |field: &str| answer.get(field).and_then(Value::as_f64).unwrap_or_default();
    println!("\n   > {question}");
    println!(
        "     {} matches, {:.2} ms in the server, {} with the MCP round trip",
        number("total"),
        number("tookMs"),
        millis(round_trip)
    );
    for hit in answer.get("items").and_then(Value::as_array).into_iter().flatten() {
        let text = |field: &str| hit.get(field).and_then(Value::as_str).unwrap_or_default();
        let score = hit.get("score").and_then(Value::as_f64).unwrap_or_default();
        println!("     {score:>7.2}  {:<8} {}", text("type"), one_line(text("title"), 74));
        println!("              {}", one_line(text("snippet"), 84));
    }
}

/// Every term of a hit's score, and that they add up to it.
pub(super) fn explanation(hit: &Value) -> Result<()> {
    let score = hit.get("score").and_then(Value::as_f64).context("a hit without a score")?;
    let title = hit.get("title").and_then(Value::as_str).unwrap_or_default();
    println!("   {}", one_line(title, 90));
    let mut sum = 0.0;
    let terms = hit.pointer("/explanation/bm25").and_then(Value::as_array);
    for term in terms.context("a hit without an explanation")? {
        let text = |field: &str| term.get(field).and_then(Value::as_str).unwrap_or_default();
        let number = |field: &str| term.get(field).and_then(Value::as_f64).unwrap_or_default();
        sum += number("value");
        println!(
            "     {:>7.3}  {:<8} {:<14} {} times; in {} memories (idf {:.2}); weight {}",
            number("value"),
            text("field"),
            text("term"),
            number("termFrequency"),
            number("documentFrequency"),
            number("idf"),
            number("weight"),
        );
    }
    let boosts = hit.pointer("/explanation/boosts").and_then(Value::as_object);
    for (name, value) in boosts.into_iter().flatten() {
        let value = value.as_f64().unwrap_or_default();
        sum += value;
        println!("     {value:>7.3}  {name}");
    }
    println!("     {score:>7.3}  together");
    ensure!((sum - score).abs() < 1e-3, "the terms add up to {sum}, the score is {score}");
    Ok(())
}

/// The first `length` characters of `text` on one line.
fn one_line(text: &str, length: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= length {
        return words;
    }
    words.chars().take(length - 1).chain(['…']).collect()
}
