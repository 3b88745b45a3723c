//! Points in time as upstream's API and command lines write them: seconds with a fraction, or RFC 3339.

use crate::{Timestamp, date_of_day, day_of_date, month_days};

/// The earliest time upstream knows, in its own spelling, which has more digits of a year than RFC 3339.
const MIN: (&str, Timestamp) = ("-292273086-05-16T16:47:06Z", Timestamp(-9_223_309_901_257_974_000));
/// The latest time.
const MAX: (&str, Timestamp) = ("292277025-08-18T07:12:54.999999999Z", Timestamp(9_223_309_901_257_974_999));
const DAY_MS: i64 = 86_400_000;

impl Timestamp {
    /// Reads seconds since the epoch, rounded to milliseconds, or RFC 3339, cut to them.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(seconds) = seconds(text) {
            // The fraction is rounded on its own, so that large times do not blur it.
            let ms = seconds.trunc() * 1000.0 + (seconds.fract() * 1000.0).round();
            return (ms.abs() < 9.2e18).then_some(Self(ms as i64));
        }
        let edge = [MIN, MAX].into_iter().find(|(name, _)| *name == text).map(|(_, time)| time);
        edge.or_else(|| Self::parse_rfc3339(text))
    }

    /// Reads `2006-01-02T15:04:05[.fraction](Z|±hh:mm)`.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (date, clock) = text.is_ascii().then(|| text.split_at_checked(10))??;
        let [year, month, day] = numbers(date, b'-', [4, 2, 2])?;
        let clock = clock.strip_prefix('T')?;
        // Go takes an hour of one digit, and a comma for the point.
        let short = clock.find(':')? == 1;
        let (clock, rest) = clock.split_at_checked(if short { 7 } else { 8 })?;
        let [hour, minute, second] = numbers(clock, b':', [if short { 1 } else { 2 }, 2, 2])?;
        if !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (fraction, zone) = match rest.strip_prefix(['.', ',']) {
            Some(tail) => tail.split_at(tail.find(|c: char| !c.is_ascii_digit()).filter(|length| *length > 0)?),
            None => ("", rest),
        };
        let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
        let minutes = (day_of_date(year, month, day) * 24 + hour) * 60 + minute - offset_minutes(zone)?;
        Some(Self((minutes * 60 + second) * 1000 + ms))
    }

    /// RFC 3339 in UTC with as many digits of the fraction as it needs.
    pub fn to_rfc3339(self) -> String {
        let (days, ms) = (self.0.div_euclid(DAY_MS), self.0.rem_euclid(DAY_MS));
        let (year, month, day) = date_of_day(days);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        let fraction = match ms % 1000 {
            0 => String::new(),
            ms => format!(".{ms:03}").trim_end_matches('0').to_owned(),
        };
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
    }
}

/// A float as Go writes it: digits may have single underscores in between.
fn seconds(text: &str) -> Option<f64> {
    if !text.contains('_') {
        return text.parse().ok();
    }
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    let mut marks = text.match_indices('_').map(|(at, _)| at);
    let between = marks.all(|at| digit(at.checked_sub(1).and_then(|at| bytes.get(at))) && digit(bytes.get(at + 1)));
    between.then(|| text.replace('_', "").parse().ok())?
}

/// Three numbers of fixed width with a mark in between.
fn numbers(text: &str, mark: u8, widths: [usize; 3]) -> Option<[i64; 3]> {
    let parts: Vec<_> = text.split(char::from(mark)).collect();
    let mut all = [0; 3];
    if parts.len() != 3 {
        return None;
    }
    for ((number, part), width) in all.iter_mut().zip(parts).zip(widths) {
        let digits = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = digits.then(|| part.parse().ok())??;
    }
    Some(all)
}

/// `Z` or `±hh:mm`, in minutes east.
fn offset_minutes(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, [hours, minutes, _]) = match zone.as_bytes().first()? {
        b'+' => (1, numbers(&format!("{}:00", &zone[1..]), b':', [2, 2, 2])?),
        b'-' => (-1, numbers(&format!("{}:00", &zone[1..]), b':', [2, 2, 2])?),
        _ => return None,
    };
    (hours <= 24 && minutes <= 60).then_some(sign * (hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc3339() {
        for (text, ms) in [
            ("1435781451.781", Some(1_435_781_451_781)),
            ("-1", Some(-1000)),
            ("0.0005", Some(1)),
            ("0.0015", Some(2)),
            ("1.0005", Some(1000)),
            ("1435781451.7815", Some(1_435_781_451_782)),
            ("1_0.5_0", Some(10_500)),
            ("1e3", Some(1_000_000)),
            ("2015-04-01T1:00:00,5+01:00", Some(1_427_846_400_500)),
            ("2015-04-01T00:00:00+24:00", Some(1_427_760_000_000)),
            ("2015-04-01T00:00:00+00:60", Some(1_427_842_800_000)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781)),
            ("2015-07-01T20:10:51.7819999Z", Some(1_435_781_451_781)),
            ("2015-07-01T20:10:51.7Z", Some(1_435_781_451_700)),
            ("2015-07-01T22:10:51+02:00", Some(1_435_781_451_000)),
            ("2015-07-01T18:40:51-01:30", Some(1_435_781_451_000)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("0000-01-01T00:00:00Z", Some(-62_167_219_200_000)),
            ("-292273086-05-16T16:47:06Z", Some(-9_223_309_901_257_974_000)),
            ("292277025-08-18T07:12:54.999999999Z", Some(9_223_309_901_257_974_999)),
            ("2015-13-01T00:00:00Z", None),
            ("2015-02-29T00:00:00Z", None),
            ("1900-02-29T00:00:00Z", None),
            ("2015-04-31T00:00:00Z", None),
            ("2015-04-00T00:00:00Z", None),
            ("2015-04-01T24:00:00Z", None),
            ("2015-04-01T00:00:00.Z", None),
            ("2015-04-01T01:0:00Z", None),
            ("2015-04-01T00:00:00+0000", None),
            ("2015-04-01T00:00:00Zx", None),
            ("2015-04-01T00:00:00", None),
            ("2015-04-01T00:00:00+1:00", None),
            ("2015-04-01T00:00:00+25:00", None),
            ("2015-04-01T00:00:00+00:61", None),
            ("2015-04-01T001:00:00Z", None),
            ("_1", None),
            ("1_", None),
            ("1__0", None),
            ("2015-4-01T00:00:00Z", None),
            ("+015-04-01T00:00:00Z", None),
            ("2015-04-01 00:00:00Z", None),
            ("nonsense", None),
            ("", None),
            ("NaN", None),
            ("Inf", None),
            ("1e300", None),
            ("2015-07-01T22:10:51é", None),
        ] {
            assert_eq!(Timestamp::parse(text).map(|time| time.0), ms, "{text}");
        }
    }

    #[test]
    fn printing_is_the_inverse_of_reading() {
        for text in
            ["1970-01-01T00:00:00Z", "2000-02-29T23:59:59.5Z", "1969-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z"]
        {
            assert_eq!(Timestamp::parse(text).expect("valid").to_rfc3339(), text);
        }
        for day in (-700_000..800_000).step_by(97) {
            let time = Timestamp(day * DAY_MS + 12_345_678);
            assert_eq!(Timestamp::parse(&time.to_rfc3339()), Some(time));
        }
    }
}
