//! The grammar of rotated files' names, in one place: `STEM-YYYYMMDD[.N].EXTENSION`.

use llm_memory_engine::ids::Timestamp;

/// A day as a number: 20261122.
pub type Day = u32;

/// The day of `moment`, in UTC.
pub fn day_of(moment: Timestamp) -> Day {
    // RFC 3339 begins with the date.
    let digits: String = moment.to_string().chars().take(10).filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Name of the `number`-th file of `day`, from 0.
pub fn format(stem: &str, day: Day, number: u32, extension: &str) -> String {
    if number == 0 {
        format!("{stem}-{day:08}.{extension}")
    } else {
        format!("{stem}-{day:08}.{number}.{extension}")
    }
}

/// The day and number in `name`, when it is a rotated file of `stem`.
pub fn parse(name: &str, stem: &str, extension: &str) -> Option<(Day, u32)> {
    let middle =
        name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(extension)?.strip_suffix('.')?;
    let (day, number) = match middle.split_once('.') {
        Some((day, number)) => (day, number.parse::<u32>().ok().filter(|number| *number > 0)?),
        None => (middle, 0),
    };
    let well_formed = day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit());
    well_formed.then(|| day.parse().ok()).flatten().map(|day| (day, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_foreign_names_are_left_alone() {
        for (day, number) in [(20_261_122, 0), (20_261_122, 1), (20_260_101, 37)] {
            let name = format("audit", day, number, "ndjson");
            assert_eq!(parse(&name, "audit", "ndjson"), Some((day, number)), "{name}");
        }
        for foreign in [
            "audit.ndjson",
            "audit-2026.ndjson",
            "audit-20261122.0.ndjson",
            "audit-20261122.x.ndjson",
            "audit-20261122.log",
            "server-20261122.ndjson",
        ] {
            assert_eq!(parse(foreign, "audit", "ndjson"), None, "{foreign}");
        }
    }

    #[test]
    fn the_day_is_counted_in_utc() {
        let moment: Timestamp = "2026-11-22T00:30:00+01:00".parse().unwrap();
        assert_eq!(day_of(moment), 20_261_121);
    }
}
