//! Request parameters: query string and form body merged, times and durations in upstream's spellings.

use crate::Failure;
use model::{Duration, Matcher, Timestamp};

/// The parameters of one request in order of arrival: form body first, as Go's `FormValue` reads them.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn new(query: &str, form: &[u8]) -> Self {
        let pairs = |bytes: &[u8]| form_urlencoded::parse(bytes).into_owned().collect::<Vec<_>>();
        let mut all = pairs(form);
        all.extend(pairs(query.as_bytes()));
        Self(all)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn need(&self, name: &str) -> Result<&str, Failure> {
        self.get(name).ok_or_else(|| bad(name, &format!("cannot parse {:?} to a valid value", "")))
    }

    pub(crate) fn time(&self, name: &str, default: Timestamp) -> Result<Timestamp, Failure> {
        self.get(name).map_or(Ok(default), |text| {
            parse_time(text).ok_or_else(|| bad(name, &format!("cannot parse {text:?} to a valid timestamp")))
        })
    }

    /// A duration in milliseconds: float seconds or upstream's notation.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let fail = |why: &str| bad(name, &format!("cannot parse {text:?} to a valid duration{why}"));
        if let Ok(seconds) = text.parse::<f64>() {
            let ms = seconds * 1000.0;
            if !ms.is_finite() || ms.abs() > 9e15 {
                return Err(fail(". It overflows int64"));
            }
            return Ok(Some(ms as i64));
        }
        Duration::parse(text).map(|d| Some(d.as_millis() as i64)).map_err(|_| fail(""))
    }

    pub(crate) fn limit(&self) -> Result<usize, Failure> {
        self.get("limit")
            .map_or(Ok(0), |text| text.parse().map_err(|_| bad("limit", "limit must be a non-negative number")))
    }

    /// The matcher sets of `match[]`.
    pub(crate) fn matchers(&self) -> Result<Vec<Vec<Matcher>>, Failure> {
        let sets = self
            .all("match[]")
            .map(|text| promql::parse_selector(text).map_err(|error| bad("match[]", &error.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        if sets.iter().any(|set| set.iter().all(Matcher::matches_empty)) {
            return Err(Failure::bad("match[] must contain at least one non-empty matcher"));
        }
        Ok(sets)
    }
}

fn bad(name: &str, why: &str) -> Failure {
    Failure::bad(format!("invalid parameter {name:?}: {why}"))
}

/// Float seconds or RFC 3339.
fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = (seconds * 1000.0).round();
        return (ms.is_finite() && ms.abs() < 9.2e18).then_some(Timestamp(ms as i64));
    }
    parse_rfc3339(text).map(Timestamp)
}

/// `2006-01-02T15:04:05[.fraction](Z|±hh:mm)` to milliseconds.
fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let marks = [(4, '-'), (7, '-'), (10, 'T'), (13, ':'), (16, ':')];
    if !text.is_ascii() || marks.iter().any(|(at, mark)| text.chars().nth(*at) != Some(*mark)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let rest = &text[19..];
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(tail) => tail.split_at(tail.find(|c: char| !c.is_ascii_digit())?),
        None => ("", rest),
    };
    let ms: i64 = if fraction.is_empty() { 0 } else { format!("{fraction:0<3}").get(..3)?.parse().ok()? };
    let offset = match zone {
        "Z" => 0,
        zone => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let at = text.len() - zone.len();
            let whole = zone.len() == 6 && zone.as_bytes()[3] == b':' && zone.starts_with(['+', '-']);
            sign * whole.then(|| Some(number(at + 1, at + 3)? * 60 + number(at + 4, at + 6)?)).flatten()?
        }
    };
    // Days since 1970-01-01 of the proleptic Gregorian calendar, years beginning in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute - offset) * 60 + second) * 1000 + ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_float_seconds_or_rfc3339() {
        for (text, ms) in [
            ("1435781451.781", Some(1_435_781_451_781)),
            ("-1", Some(-1000)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781)),
            ("2015-07-01T22:10:51+02:00", Some(1_435_781_451_000)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2015-13-01T00:00:00Z", None),
            ("nonsense", None),
            ("NaN", None),
            ("2015-07-01T22:10:51é", None),
        ] {
            assert_eq!(parse_time(text).map(|t| t.0), ms, "{text}");
        }
    }

    #[test]
    fn form_and_query_are_merged() {
        let params = Params::new("a=1&match%5B%5D=x", b"b=2&match[]=y");
        assert_eq!((params.get("a"), params.get("b"), params.get("c")), (Some("1"), Some("2"), None));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["y", "x"]);
    }

    #[test]
    fn durations_are_seconds_or_units() {
        let of = |text: &str| Params::new(&format!("step={text}"), b"").duration("step").ok().flatten();
        assert_eq!(
            (of("15"), of("0.5"), of("1m"), of("1e300"), of("x")),
            (Some(15_000), Some(500), Some(60_000), None, None)
        );
    }
}
