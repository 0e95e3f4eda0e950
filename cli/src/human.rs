//! Sizes, counts and spans of time as people write them.

use std::time::Duration;

/// Parses a count: `400M`, `1.5k`, `12_000`.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [
        ("k", 1_000),
        ("m", 1_000_000),
        ("g", 1_000_000_000),
        ("t", 1_000_000_000_000),
    ];
    parse(text, &UNITS).ok_or_else(|| format!("'{text}' is not a count such as 5000, 200k or 5M"))
}

/// Parses a size in bytes: `1GiB`, `1G` (the same), `512MiB`, `100MB`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 12] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("k", 1 << 10),
        ("m", 1 << 20),
        ("g", 1 << 30),
        ("b", 1),
    ];
    parse(text, &UNITS).ok_or_else(|| format!("'{text}' is not a size such as 512MiB or 1GiB"))
}

/// Parses a span of time: `500ms`, `30s`, `90m`, `6h`, `2d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
    parse(text, &UNITS)
        .filter(|_| has_unit)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is not a span of time such as 30s, 15m or 6h"))
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let plain = text.trim().replace('_', "").to_ascii_lowercase();
    let unit = units.iter().find(|(unit, _)| plain.ends_with(unit));
    let (number, factor) = match unit {
        Some((unit, factor)) => (plain.strip_suffix(unit)?.trim_end(), *factor),
        None => (plain.as_str(), 1),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    let fits = value.is_finite() && value >= 0.0 && value <= (1u64 << 53) as f64;
    (fits && value.fract() == 0.0).then_some(value as u64)
}

/// A count for people: `5.0 M`.
pub(crate) fn count(value: u64) -> String {
    scaled(value as f64, 1000.0, &["", " k", " M", " G", " T"])
}

/// A size for people: `48.1 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    scaled(
        value as f64,
        1024.0,
        &[" B", " KiB", " MiB", " GiB", " TiB"],
    )
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    match unit {
        0 => format!("{value:.0}{}", units[0]),
        _ => format!("{value:.1}{}", units[unit]),
    }
}

/// A number with its thousands apart: `1,234,567`.
pub(crate) fn grouped(value: i128) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sizes() {
        assert_eq!(parse_count("400M"), Ok(400_000_000));
        assert_eq!(parse_count("1.5k"), Ok(1_500));
        assert_eq!(parse_count("12_000"), Ok(12_000));
        assert_eq!(parse_bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("1G"), Ok(1 << 30));
        assert_eq!(parse_bytes("100 MB"), Ok(100_000_000));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "5", "s", "-1s", "1 week"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "M", "-1", "1.5", "1e400k", "5 apples"] {
            assert!(parse_count(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            (count(5_000_000), bytes(1536)),
            ("5.0 M".into(), "1.5 KiB".into())
        );
        assert_eq!(
            (grouped(-1234567), grouped(999)),
            ("-1,234,567".into(), "999".into())
        );
    }
}
