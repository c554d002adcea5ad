//! Kubernetes quantities, as far as sizes of volumes need them. Pure.
//!
//! Format: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

/// Bytes of a quantity; `None` when it is not one, or not a whole number of bytes.
pub fn bytes(text: &str) -> Option<u128> {
    amount(text, 1)
}

/// Whether two quantities are the same amount; words that are none have to be the same words.
pub fn same(a: &str, b: &str) -> bool {
    a == b || nanos(a).is_some_and(|amount| nanos(b) == Some(amount))
}

/// A quantity in billionths, of which no smaller part counts.
fn nanos(text: &str) -> Option<u128> {
    let small = [("n", 1), ("u", 1_000), ("m", 1_000_000)];
    small
        .iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number, *unit)))
        .map_or_else(|| amount(text, 1_000_000_000), |(number, unit)| number_of(number, unit))
}

/// How many parts of which `one` make one a quantity has.
fn amount(text: &str, one: u128) -> Option<u128> {
    const UNITS: [(&str, u128); 12] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("Ei", 1 << 60),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
    ];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number, *unit)))
        .unwrap_or((text, 1));
    number_of(number, unit.checked_mul(one)?)
}

fn number_of(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() }
    };
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = digits(fraction)?.checked_mul(unit)? / scale;
    digits(whole)?.checked_mul(unit)?.checked_add(part)
}

/// Whether `a` is less than `b`; `None` when either is no size.
pub fn less(a: &str, b: &str) -> Option<bool> {
    Some(bytes(a)? < bytes(b)?)
}

/// The larger of two quantities; the first when they cannot be compared.
pub fn larger<'a>(a: &'a str, b: &'a str) -> &'a str {
    if less(a, b) == Some(true) { b } else { a }
}

/// Bytes in binary units with one decimal place.
pub fn for_people(bytes: i64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_compare_across_units() {
        assert_eq!(bytes("1.5Gi"), Some(3 << 29));
        assert_eq!(bytes("10G"), Some(10_000_000_000));
        assert_eq!(bytes("7"), Some(7));
        assert_eq!((bytes("x"), bytes("Gi"), bytes("1e3")), (None, None, None));
        assert_eq!(less("1Gi", "1G"), Some(false));
        assert_eq!(larger("1Gi", "2Gi"), "2Gi");
        for (a, b, alike) in [
            ("0.5", "500m", true),
            ("1024Mi", "1Gi", true),
            ("1", "1000m", true),
            ("1000u", "1m", true),
            ("1", "1001m", false),
            ("1G", "1Gi", false),
            ("x", "x", true),
            ("x", "y", false),
        ] {
            assert_eq!(same(a, b), alike, "{a} {b}");
        }
        assert_eq!(for_people(1536), "1.5 KiB");
        assert_eq!(for_people(12), "12 B");
    }
}
