//! Durations in upstream's notation.

use crate::quote;
use std::fmt;

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(u64);

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// Nothing there.
    #[error("empty duration string")]
    Empty,
    /// Not the notation.
    #[error("not a valid duration string: {}", quote(.0))]
    Invalid(String),
    /// Too long for a signed 64-bit count of nanoseconds.
    #[error("duration out of range")]
    OutOfRange,
}

/// Units from the largest, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Duration {
    /// Units y w d h m s ms, largest first, each once; or a bare `0`.
    ///
    /// # Errors
    /// [`DurationError`].
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        match text {
            "" => return Err(DurationError::Empty),
            "0" => return Ok(Self(0)),
            _ => {}
        }
        let invalid = || DurationError::Invalid(text.to_owned());
        let (mut rest, mut next_unit, mut total) = (text, 0, 0u64);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| *n > 0).ok_or_else(invalid)?;
            let tail = &rest[digits..];
            let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let at = UNITS.iter().position(|(unit, _)| *unit == &tail[..letters]).ok_or_else(invalid)?;
            if at < next_unit {
                return Err(invalid());
            }
            next_unit = at + 1;
            let number: u64 = rest[..digits].parse().map_err(|_| DurationError::OutOfRange)?;
            let part = number.checked_mul(UNITS[at].1).ok_or(DurationError::OutOfRange)?;
            total = total
                .checked_add(part)
                .filter(|ms| *ms <= (i64::MAX / 1_000_000) as u64)
                .ok_or(DurationError::OutOfRange)?;
            rest = &tail[letters..];
        }
        Ok(Self(total))
    }

    /// From milliseconds.
    pub fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// As milliseconds.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// As the standard library's type.
    pub fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

/// Upstream's form: years, weeks and days only where they divide the whole.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (i, (unit, size)) in UNITS.into_iter().enumerate() {
            let exact = i < 2;
            if rest < size || exact && !rest.is_multiple_of(size) {
                continue;
            }
            write!(f, "{}{unit}", rest / size)?;
            rest %= size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_back() {
        for (text, ms, back) in [
            ("0", 0, "0s"),
            ("15s", 15_000, "15s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90m", 5_400_000, "1h30m"),
            ("1d", 86_400_000, "1d"),
            ("14d", 1_209_600_000, "2w"),
            ("10d", 864_000_000, "10d"),
            ("1w1d", 691_200_000, "8d"),
            ("1y", 31_536_000_000, "1y"),
            ("3m30s500ms", 210_500, "3m30s500ms"),
        ] {
            let parsed = Duration::parse(text);
            assert_eq!(parsed, Ok(Duration(ms)), "{text}");
            assert_eq!(Duration(ms).to_string(), back);
        }
    }

    #[test]
    fn what_is_refused() {
        for text in ["", "1", "1x", "s", "1s1m", "1m1m", "-1s", "1.5h", "1 s", "99999999999y", "é"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
        let text = |text| Duration::parse(text).expect_err("must be refused").to_string();
        assert_eq!(text(""), "empty duration string");
        assert_eq!(text("1 s\u{200b}"), r#"not a valid duration string: "1 s\u200b""#);
        assert_eq!(text("300y"), "duration out of range");
    }
}
