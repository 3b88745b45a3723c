//! Request parameters: query string and form body merged, times and durations in upstream's spellings.

use crate::Failure;
use model::{Duration, Matcher, Timestamp};

/// The parameters of one request in order of arrival: form body first, as Go's `FormValue` reads them.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

/// The bytes behind percent escapes; none when one is broken. In queries `+` is a blank.
pub(crate) fn unescaped(text: &[u8], query: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => (hex(bytes.next())? << 4 | hex(bytes.next())?) as u8,
            b'+' if query => b' ',
            byte => *byte,
        });
    }
    Some(out)
}

/// Pairs as Go reads them: one with a semicolon or a broken escape is passed over.
fn pairs(text: &[u8]) -> impl Iterator<Item = (String, String)> {
    let each = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty() && !pair.contains(&b';'));
    each.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let decoded = |bytes: &[u8]| Some(String::from_utf8_lossy(&unescaped(bytes, true)?).into_owned());
        Some((decoded(&pair[..at])?, decoded(pair.get(at + 1..).unwrap_or_default())?))
    })
}

/// A boolean in one of the spellings that Go reads.
pub(crate) fn bool_of(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

impl Params {
    pub(crate) fn new(query: &str, form: &[u8]) -> Self {
        Self(pairs(form).chain(pairs(query.as_bytes())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// A time that may be left out.
    pub(crate) fn time(&self, name: &str, default: Timestamp) -> Result<Timestamp, Failure> {
        self.get(name).map_or(Ok(default), |text| {
            Timestamp::parse(text).ok_or_else(|| {
                bad(name, &format!("invalid time value for '{name}': cannot parse {text:?} to a valid timestamp"))
            })
        })
    }

    /// A time that must be there.
    pub(crate) fn moment(&self, name: &str) -> Result<Timestamp, Failure> {
        let text = self.get(name).unwrap_or_default();
        Timestamp::parse(text).ok_or_else(|| bad(name, &format!("cannot parse {text:?} to a valid timestamp")))
    }

    /// A duration in nanoseconds: float seconds or upstream's notation. What is no number is before all time.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.duration_of(name).map_err(|why| bad(name, &why))
    }

    /// A duration that must be there.
    pub(crate) fn needed_duration(&self, name: &str) -> Result<i64, Failure> {
        self.duration(name)?.ok_or_else(|| bad(name, "cannot parse \"\" to a valid duration"))
    }

    /// The same, with the bare reason why there is none.
    pub(crate) fn duration_of(&self, name: &str) -> Result<Option<i64>, String> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let fail = |why: &str| Err(format!("cannot parse {text:?} to a valid duration{why}"));
        if let Ok(seconds) = text.parse::<f64>() {
            let ns = seconds * 1e9;
            if ns.abs() > 9.2e18 {
                return fail(". It overflows int64");
            }
            return Ok(Some(if ns.is_nan() { i64::MIN } else { ns as i64 }));
        }
        match Duration::parse(text) {
            Ok(span) => Ok(Some((span.as_millis() as i64).saturating_mul(1_000_000))),
            Err(_) => fail(""),
        }
    }

    /// At most so many results; 0 is "all".
    pub(crate) fn limit(&self) -> Result<usize, Failure> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        let number = text.parse::<i64>().map_err(|error| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let large = matches!(error.kind(), PosOverflow | NegOverflow);
            let why = if large { "value out of range" } else { "invalid syntax" };
            bad("limit", &format!("strconv.Atoi: parsing {text:?}: {why}"))
        })?;
        usize::try_from(number).map_err(|_| bad("limit", "limit must be non-negative"))
    }

    /// The selectors of `match[]`, or upstream's text of why one is none.
    pub(crate) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, String> {
        self.all("match[]").map(|text| promql::parse_selector(text).map_err(|error| error.to_string())).collect()
    }

    /// The selectors of `match[]`, each of which must exclude something.
    pub(crate) fn matchers(&self) -> Result<Vec<Vec<Matcher>>, Failure> {
        let sets = self.selectors().map_err(Failure::bad)?;
        if sets.iter().any(|set| set.iter().all(Matcher::matches_empty)) {
            return Err(Failure::bad("match[] must contain at least one non-empty matcher"));
        }
        Ok(sets)
    }
}

fn bad(name: &str, why: &str) -> Failure {
    Failure::bad(format!("invalid parameter {name:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_and_query_are_merged() {
        let params = Params::new("a=1&match%5B%5D=x", b"b=2&match[]=y");
        assert_eq!((params.get("a"), params.get("b"), params.get("c")), (Some("1"), Some("2"), None));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["y", "x"]);
    }

    #[test]
    fn broken_pairs_are_passed_over() {
        let params = Params::new("a=%zz&b=1;c=2&d=%41+b&%zz=1&e&f=%4", b"");
        assert_eq!(
            (params.get("a"), params.get("b"), params.get("d"), params.get("f")),
            (None, None, Some("A b"), None)
        );
        assert_eq!(params.all("e").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn durations_are_seconds_or_units() {
        let of = |text: &str| Params::new(&format!("step={text}"), b"").duration("step").ok().flatten();
        for (text, want) in [
            ("15", Some(15_000_000_000)),
            ("0.5", Some(500_000_000)),
            ("1m", Some(60_000_000_000)),
            ("1e-10", Some(0)),
            ("NaN", Some(i64::MIN)),
            ("-1", Some(-1_000_000_000)),
            ("1e300", None),
            ("x", None),
        ] {
            assert_eq!(of(text), want, "{text}");
        }
    }
}
