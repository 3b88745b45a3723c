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
    /// Letters, or anything else but digits, behind a number.
    #[error("unknown unit {} in duration {}", quote(unit), quote(text))]
    UnknownUnit {
        /// What stands there.
        unit: String,
        /// The whole text.
        text: String,
    },
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
    /// [`DurationError`], with upstream's text.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        match text {
            "" => return Err(DurationError::Empty),
            "0" => return Ok(Self(0)),
            _ => {}
        }
        let invalid = || DurationError::Invalid(text.to_owned());
        let (mut rest, mut next_unit, mut total) = (text, 0, 0u64);
        while !rest.is_empty() {
            let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?);
            let number: u64 = digits.parse().map_err(|_| invalid())?;
            let (name, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
            let at = UNITS
                .iter()
                .position(|(unit, _)| *unit == name)
                .ok_or_else(|| DurationError::UnknownUnit { unit: name.to_owned(), text: text.to_owned() })?;
            if at < next_unit {
                return Err(invalid());
            }
            next_unit = at + 1;
            total = number
                .checked_mul(UNITS[at].1)
                .and_then(|part| total.checked_add(part))
                .filter(|ms| *ms <= (i64::MAX / 1_000_000) as u64)
                .ok_or(DurationError::OutOfRange)?;
            rest = tail;
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

    /// A line is a text and either `=` with the same duration printed, or the error; recorded from a Prometheus.
    #[test]
    fn verdicts_are_upstreams() {
        let mut count = 0;
        for line in include_str!("../testdata/durations.txt").lines() {
            let (text, verdict) = line.split_once('\t').expect("two fields");
            let have = Duration::parse(text).map_or_else(|error| error.to_string(), |duration| format!("={duration}"));
            assert_eq!(have, verdict, "{text:?}");
            count += 1;
        }
        assert_eq!(count, 113);
    }
}
