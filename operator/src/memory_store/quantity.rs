//! Kubernetes quantities, as far as sizes of volumes need them. Pure.
//!
//! Format: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

/// Bytes of a quantity; `None` when it is not one, or not a whole number of bytes.
pub fn bytes(text: &str) -> Option<u128> {
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
        assert_eq!(for_people(1536), "1.5 KiB");
        assert_eq!(for_people(12), "12 B");
    }
}
