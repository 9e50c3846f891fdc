//! Booleans and durations as Go reads them; pure.
use std::time::Duration;

/// A boolean as Go's `strconv.ParseBool` accepts it.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// A duration as Go's `time.ParseDuration` accepts it, but not below zero: `300ms`, `1.5h`, `2h45m`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("\u{b5}s", 1e-6),
        ("\u{3bc}s", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3_600.0),
    ];
    let wrong = || "expected a duration like 30s, 500ms or 1m30s".to_owned();
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() || seconds == 0.0 {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (count, after) = rest.split_at(digits.ok_or_else(wrong)?);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, next) = after.split_at(letters.unwrap_or(after.len()));
        let count: f64 = count.parse().map_err(|_| wrong())?;
        let scale = UNITS.iter().find(|(name, _)| *name == unit);
        seconds += count * scale.ok_or_else(wrong)?.1;
        rest = next;
        if rest.is_empty() {
            break;
        }
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, milliseconds) in [
            ("30s", 30_000.0),
            ("1m30s", 90_000.0),
            ("1.5h", 5_400_000.0),
            ("250ms", 250.0),
            (".5s", 500.0),
            ("1h1m1s1ms", 3_661_001.0),
            ("3us", 0.003),
            ("0", 0.0),
            ("0s", 0.0),
        ] {
            let found = parse_duration(text).unwrap().as_secs_f64() * 1_000.0;
            assert!((found - milliseconds).abs() < 1e-6, "{text}: {found}");
        }
        for text in [
            "", "s", "1", "1x", "-1s", "1s1", "1.2.3s", " 1s", "1e3s", ".",
        ] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
