//! What the server's log says over a span of time: how many events of each level, and the most
//! frequent errors and warnings.

use std::collections::BTreeMap;

use llm_memory_engine::ids::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Messages listed.
const TOP: usize = 10;
/// Distinct messages counted; beyond that a message is only counted in its level.
const DISTINCT: usize = 10_000;

/// Collects events.
#[derive(Debug)]
pub(crate) struct LogAnalysis {
    since: Timestamp,
    levels: BTreeMap<String, u64>,
    errors: BTreeMap<String, Message>,
    warnings: BTreeMap<String, Message>,
    unreadable: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

#[derive(Debug, Clone)]
struct Message {
    count: u64,
    last: Timestamp,
}

/// A message that occurred, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TopMessage {
    /// The message, numbers taken out where they differ.
    pub(crate) message: String,
    /// How often.
    pub(crate) count: u64,
    /// Last time.
    pub(crate) last: Timestamp,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogSummary {
    /// Events in the span.
    pub(crate) total: u64,
    /// Events by level, and their share of all in percent.
    pub(crate) levels: BTreeMap<String, LevelShare>,
    /// Lines that are no events.
    pub(crate) unreadable_lines: u64,
    /// First event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<Timestamp>,
    /// Last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Timestamp>,
    /// Most frequent errors.
    pub(crate) top_errors: Vec<TopMessage>,
    /// Most frequent warnings.
    pub(crate) top_warnings: Vec<TopMessage>,
}

/// How many events had a level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct LevelShare {
    /// Events.
    pub(crate) count: u64,
    /// Percent of all events.
    pub(crate) percent: f64,
}

impl LogAnalysis {
    /// Counts events from `since` on.
    pub(crate) fn since(since: Timestamp) -> Self {
        Self {
            since,
            levels: BTreeMap::new(),
            errors: BTreeMap::new(),
            warnings: BTreeMap::new(),
            unreadable: 0,
            first: None,
            last: None,
        }
    }

    /// Takes one line of a log file.
    pub(crate) fn line(&mut self, line: &[u8]) {
        let Some((ts, level, message)) = event(line) else {
            self.unreadable = self.unreadable.saturating_add(1);
            return;
        };
        if ts < self.since {
            return;
        }
        self.first = Some(self.first.map_or(ts, |first| first.min(ts)));
        self.last = Some(self.last.map_or(ts, |last| last.max(ts)));
        let messages = match level.as_str() {
            "ERROR" => Some(&mut self.errors),
            "WARN" => Some(&mut self.warnings),
            _ => None,
        };
        if let Some(messages) = messages {
            let key = without_numbers(&message);
            if let Some(known) = messages.get_mut(&key) {
                known.count = known.count.saturating_add(1);
                known.last = known.last.max(ts);
            } else if messages.len() < DISTINCT {
                messages.insert(key, Message { count: 1, last: ts });
            }
        }
        let count = self.levels.entry(level).or_default();
        *count = count.saturating_add(1);
    }

    /// The figures.
    pub(crate) fn summary(self) -> LogSummary {
        let total = self.levels.values().sum::<u64>();
        let share = |count: u64| LevelShare { count, percent: percent(count, total) };
        LogSummary {
            total,
            levels: self.levels.into_iter().map(|(level, count)| (level, share(count))).collect(),
            unreadable_lines: self.unreadable,
            first: self.first,
            last: self.last,
            top_errors: top(self.errors),
            top_warnings: top(self.warnings),
        }
    }
}

/// Time, level and message of an event.
fn event(line: &[u8]) -> Option<(Timestamp, String, String)> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let ts = event.get("timestamp").or_else(|| event.get("ts"))?.as_str()?.parse().ok()?;
    let level = event.get("level")?.as_str()?.to_ascii_uppercase();
    let message = event
        .get("message")
        .or_else(|| event.get("fields").and_then(|fields| fields.get("message")))
        .and_then(Value::as_str)
        .unwrap_or("no message");
    // Our own failures say the same words for every tool and put the reason beside them.
    let reason = event.get("error").and_then(Value::as_str);
    let message =
        reason.map_or_else(|| message.to_owned(), |reason| format!("{message}: {reason}"));
    Some((ts, level, message))
}

/// Messages that differ only in numbers are the same message: `retry in 12 ms`.
fn without_numbers(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut in_number = false;
    for letter in message.chars().take(300) {
        if letter.is_ascii_digit() {
            if !in_number {
                out.push('#');
            }
            in_number = true;
        } else {
            in_number = false;
            out.push(letter);
        }
    }
    out
}

fn top(messages: BTreeMap<String, Message>) -> Vec<TopMessage> {
    let mut list: Vec<TopMessage> = messages
        .into_iter()
        .map(|(message, seen)| TopMessage { message, count: seen.count, last: seen.last })
        .collect();
    list.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.message.cmp(&b.message)));
    list.truncate(TOP);
    list
}

/// A share in percent, with two decimals.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 10_000.0).round() / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analysis(lines: &[&str]) -> LogSummary {
        let mut analysis = LogAnalysis::since("2026-11-22T00:00:00Z".parse().unwrap());
        for line in lines {
            analysis.line(line.as_bytes());
        }
        analysis.summary()
    }

    #[test]
    fn levels_are_counted_with_their_share() {
        let summary = analysis(&[
            r#"{"timestamp":"2026-11-22T01:00:00.5Z","level":"INFO","message":"a"}"#,
            r#"{"timestamp":"2026-11-22T02:00:00Z","level":"INFO","message":"b"}"#,
            r#"{"timestamp":"2026-11-22T03:00:00Z","level":"ERROR","message":"c"}"#,
            r#"{"timestamp":"2026-11-21T23:59:59Z","level":"ERROR","message":"too old"}"#,
            "torn li",
        ]);
        assert_eq!((summary.total, summary.unreadable_lines), (3, 1));
        assert_eq!(summary.levels["INFO"], LevelShare { count: 2, percent: 66.67 });
        assert_eq!(summary.top_errors.len(), 1);
        assert_eq!(summary.first.unwrap().to_string(), "2026-11-22T01:00:00.500Z");
    }

    #[test]
    fn a_local_time_zone_does_not_shift_the_span() {
        let summary = analysis(&[
            r#"{"timestamp":"2026-11-22T01:30:00+02:00","level":"INFO","message":"before"}"#,
            r#"{"timestamp":"2026-11-21T23:30:00-01:00","level":"INFO","message":"after"}"#,
        ]);
        assert_eq!(summary.total, 1);
    }

    #[test]
    fn messages_that_differ_in_numbers_are_one() {
        let line = |millis: u32, error: &str| {
            format!(
                r#"{{"timestamp":"2026-11-22T01:00:00Z","level":"ERROR","message":"slow {millis} ms","error":"{error}"}}"#
            )
        };
        let (a, b, c) = (line(12, "busy"), line(340, "busy"), line(5, "no space"));
        let summary = analysis(&[&a, &b, &c]);
        assert_eq!(summary.top_errors[0].message, "slow # ms: busy");
        assert_eq!(summary.top_errors[0].count, 2);
        assert_eq!(summary.top_errors[1].message, "slow # ms: no space");
    }

    #[test]
    fn an_empty_log_has_no_shares() {
        let summary = analysis(&[]);
        assert_eq!((summary.total, summary.levels.len(), summary.first), (0, 0, None));
    }
}
