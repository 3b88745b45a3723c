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

    /// At most so many results; 0 is "all".
    pub(crate) fn limit(&self) -> Result<usize, Failure> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        let number = text
            .parse::<i64>()
            .map_err(|_| bad("limit", &format!("strconv.Atoi: parsing {text:?}: invalid syntax")))?;
        usize::try_from(number).map_err(|_| bad("limit", "limit must be non-negative"))
    }

    /// The matcher sets of `match[]`.
    pub(crate) fn matchers(&self) -> Result<Vec<Vec<Matcher>>, Failure> {
        let empty = || bad("match[]", "match[] must contain at least one non-empty matcher");
        let sets = self
            .all("match[]")
            .map(|text| {
                promql::parse_selector(text).map_err(|error| match error.message.as_str() {
                    message if message.starts_with("vector selector must contain") => empty(),
                    _ => bad("match[]", &error.to_string()),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if sets.iter().any(|set| set.iter().all(Matcher::matches_empty)) {
            return Err(empty());
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
    fn durations_are_seconds_or_units() {
        let of = |text: &str| Params::new(&format!("step={text}"), b"").duration("step").ok().flatten();
        assert_eq!(
            (of("15"), of("0.5"), of("1m"), of("1e300"), of("x")),
            (Some(15_000), Some(500), Some(60_000), None, None)
        );
    }
}
