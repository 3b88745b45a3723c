//! Durations in Go's spelling, such as `1h2m` or `3.5s`.

use std::time::Duration;

use crate::text::quote;

/// Parses Go's spelling of a duration; the error reads as Go's does. Negative durations are refused, for where nothing
/// has a use for one.
pub fn parse_go(text: &str) -> Result<Duration, String> {
    match parse_signed(text)? {
        (true, _) => Err(format!("duration {} is negative: use a positive one", quote(text))),
        (false, span) => Ok(span),
    }
}

/// Whether a duration in Go's spelling is below zero, and how long it is.
pub(crate) fn parse_signed(text: &str) -> Result<(bool, Duration), String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok((false, Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || whole.len() + fraction.len() == 0 {
            return Err(invalid());
        }
        let scale = match unit {
            "" => return Err(format!("time: missing unit in duration {}", quote(text))),
            _ => {
                nanos(unit).ok_or_else(|| format!("time: unknown unit {} in duration {}", quote(unit), quote(text)))?
            }
        };
        let part = part(whole, fraction, scale).ok_or_else(invalid)?;
        total = total.checked_add(part).filter(|sum| i64::try_from(*sum).is_ok()).ok_or_else(invalid)?;
        rest = tail;
    }
    Ok((negative && total > 0, Duration::from_nanos(total)))
}

fn nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn part(whole: &str, fraction: &str, scale: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(scale)?;
    // Digits beyond the eighteenth are worth less than a nanosecond of any unit.
    let digits = &fraction[..fraction.len().min(18)];
    if !digits.is_empty() {
        let value = u128::from(digits.parse::<u64>().ok()?) * u128::from(scale);
        nanos = nanos.checked_add(u64::try_from(value / 10u128.pow(digits.len() as u32)).ok()?)?;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1h2m", 3_720_000_000_000),
            ("3.46608s", 3_466_080_000),
            ("1ms", 1_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+2\u{b5}s", 2_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("-0s", 0),
        ] {
            assert_eq!(parse_go(text).map(|d| d.as_nanos().next_multiple_of(10)), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_in_the_words_of_go() {
        for (text, error) in [
            ("1x", "time: unknown unit \"x\" in duration \"1x\""),
            ("5", "time: missing unit in duration \"5\""),
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            (".s", "time: invalid duration \".s\""),
            ("1..5s", "time: invalid duration \"1..5s\""),
            ("s", "time: invalid duration \"s\""),
            ("9223372036855s", "time: invalid duration \"9223372036855s\""),
            ("99999999999999999999h", "time: invalid duration \"99999999999999999999h\""),
        ] {
            assert_eq!(parse_go(text), Err(error.to_owned()), "{text}");
        }
        assert!(parse_go("-1s").is_err());
        assert_eq!(parse_signed("-1m30s"), Ok((true, Duration::from_secs(90))));
        assert_eq!(parse_signed("-0s"), Ok((false, Duration::ZERO)));
    }
}
