//! Spans of time as people type them: `90s`, `15m`, `24h`, `7d`, `2w`, `1d12h`.

use llm_memory_engine::ids::Timestamp;

/// Milliseconds of a span; the error says what would be right.
pub(crate) fn parse_millis(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a span of time: write it like 90s, 15m, 24h, 7d or 2w");
    let mut total: u64 = 0;
    let mut number = String::new();
    let mut unit = String::new();
    let mut parts = 0_u32;
    let mut letters = text.trim().chars().peekable();
    while letters.peek().is_some() {
        number.clear();
        unit.clear();
        while let Some(digit) = letters.next_if(char::is_ascii_digit) {
            number.push(digit);
        }
        while let Some(letter) = letters.next_if(char::is_ascii_alphabetic) {
            unit.push(letter);
        }
        let count: u64 = number.parse().map_err(|_| wrong())?;
        let part = count.checked_mul(unit_millis(&unit).ok_or_else(wrong)?).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        parts = parts.saturating_add(1);
    }
    if parts == 0 { Err(wrong()) } else { Ok(total) }
}

fn unit_millis(unit: &str) -> Option<u64> {
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    Some(match unit {
        "ms" => 1,
        "s" | "sec" => SECOND,
        "m" | "min" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return None,
    })
}

/// The moment a span before `now`, or the moment itself when an RFC 3339 one is given.
pub(crate) fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let millis = i64::try_from(parse_millis(text)?).unwrap_or(i64::MAX);
    Ok(Timestamp::from_millis(now.as_millis().saturating_sub(millis)))
}

/// The moment a span after `now`, or the moment itself when an RFC 3339 one is given. It lies
/// ahead.
pub(crate) fn until(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let end = match text.parse::<Timestamp>() {
        Ok(moment) => moment,
        Err(_) => {
            let millis = i64::try_from(parse_millis(text)?).unwrap_or(i64::MAX);
            Timestamp::from_millis(now.as_millis().saturating_add(millis))
        }
    };
    if end > now { Ok(end) } else { Err(format!("{text} is not ahead of now, which is {now}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_sums_of_their_parts() {
        for (text, millis) in [
            ("90s", 90_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
            ("1d12h", 129_600_000),
            ("250ms", 250),
        ] {
            assert_eq!(parse_millis(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "24", "h", "-1h", "1.5h", "1 h", "3 fortnights", "99999999999999999w"] {
            assert!(parse_millis(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_moment_may_be_given_instead() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let at = |text| since(text, now).unwrap().to_string();
        assert_eq!(at("24h"), "2026-11-21T12:00:00.000Z");
        assert_eq!(at("2026-11-20T02:00:00+02:00"), "2026-11-20T00:00:00.000Z");
        let end = |text| until(text, now).map(|end| end.to_string());
        assert_eq!(end("24h").unwrap(), "2026-11-23T12:00:00.000Z");
        assert_eq!(end("2w").unwrap(), "2026-12-06T12:00:00.000Z");
        assert_eq!(end("2027-01-01T00:00:00Z").unwrap(), "2027-01-01T00:00:00.000Z");
        for past in ["0d", "2026-11-22T12:00:00Z", "2020-01-01T00:00:00Z", "yesterday"] {
            assert!(end(past).is_err(), "{past}");
        }
    }
}
