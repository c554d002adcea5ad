//! Durations, bytes and quantities, read and written as kubectl does.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// How long ago, in the largest units that say enough.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=599 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        120..=10_799 => format!("{minutes}m"),
        10_800..=172_799 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// [`age`] of what may not have happened.
pub(crate) fn age_or_never(since: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or_else(|| "never".to_owned(), |since| age(since, now))
}

/// Bytes with a binary unit and at most one digit after the point.
pub(crate) fn bytes(count: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = UNITS[0];
    for larger in UNITS.into_iter().skip(1) {
        if value.abs() < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" || value >= 100.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// A quantity as a number: bytes, cores or a count. None where it is not one.
pub(crate) fn quantity(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.trim();
    let split = text
        .find(|letter: char| !(letter.is_ascii_digit() || "+-.".contains(letter)))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(split)?;
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        exponent => 10.0_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

/// A duration of the command line: `90s`, `5m`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 90s, 5m or 1h30m");
    let parsed: SignedDuration = text.parse().map_err(|_| wrong())?;
    std::time::Duration::try_from(parsed).ok().filter(|it| !it.is_zero()).ok_or_else(wrong)
}

/// A duration as it would be given on the command line.
pub(crate) fn spelled(duration: std::time::Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{}s", duration.as_secs()), |it| format!("{it:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(seconds: i64) -> String {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        age(now - SignedDuration::from_secs(seconds), now)
    }

    #[test]
    fn an_age_is_written_as_kubectl_writes_it() {
        let written = [0, 119, 125, 600, 10_799, 10_800, 172_799, 172_800].map(ago);
        assert_eq!(written, ["0s", "119s", "2m5s", "10m", "179m", "3h", "47h", "2d"]);
        assert_eq!(ago(-5), "0s", "a clock that is behind does not make ages negative");
    }

    #[test]
    fn quantities_of_every_spelling_are_numbers() {
        let value = |text: &str| quantity(&Quantity(text.to_owned()));
        assert_eq!(value("10Gi"), Some(10.0 * 1024.0 * 1024.0 * 1024.0));
        assert_eq!(value("250m"), Some(0.25));
        assert_eq!(value("1.5"), Some(1.5));
        assert_eq!(value("2e3"), Some(2000.0));
        assert_eq!(value("3E"), Some(3e18));
        assert_eq!(value("12345678n"), Some(12_345_678.0 * 1e-9));
        assert_eq!(value("much"), None);
    }

    #[test]
    fn bytes_are_short() {
        assert_eq!(
            [0, 1023, 1536, 10_737_418_240].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "10.0 GiB"]
        );
    }

    #[test]
    fn a_duration_needs_a_unit_and_a_length() {
        assert_eq!(duration("1h30m").unwrap().as_secs(), 5400);
        assert_eq!(spelled(duration("90s").unwrap()), "1m 30s");
        for wrong in ["90", "0s", "-5m", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
