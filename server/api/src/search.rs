//! The search endpoints: names and values that resemble what was typed, as lines of JSON.
//!
//! Scores run from 0 to 1. A part of a name scores by how much of it was typed, letters in order by how close together
//! they stand, and Jaro-Winkler by its own formula. Memory: all names, once.

use crate::{
    Backend, Failure, json,
    params::{Params, bool_of},
    reply::{Shared, blocking, envelope, params},
};
use model::{METRIC_NAME, Matcher, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use web::{
    body::Bytes,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};

/// Results beyond which a limit is refused; the default is below it.
const LIMIT_MAX: usize = 10_000;
const LIMIT: usize = 100;
/// The score that a result needs when none is asked for.
const THRESHOLD: f64 = 0.0;

/// What is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Metrics,
    Names,
    Values,
}

#[derive(Debug)]
struct Search {
    terms: Vec<String>,
    threshold: f64,
    jaro_winkler: bool,
    case_sensitive: bool,
    by_score: bool,
    descending: bool,
    score: bool,
    metadata: bool,
    limit: usize,
    batch: usize,
}

fn bad<T>(name: &str, why: &str) -> Result<T, Failure> {
    Err(Failure::bad(format!("invalid parameter {name:?}: {why}")))
}

impl Search {
    fn read(params: &Params) -> Result<Self, Failure> {
        let flag = |name: &str, default| match params.get(name).map(bool_of) {
            None => Ok(default),
            Some(Ok(on)) => Ok(on),
            Some(Err(why)) => bad(name, &why),
        };
        let count = |name: &str, default: usize| match params.get(name).map(str::parse::<usize>) {
            None => Ok(default),
            Some(Ok(number @ 1..=LIMIT_MAX)) => Ok(number),
            Some(_) => bad(name, &format!("a number from 1 to {LIMIT_MAX} is needed")),
        };
        let threshold = match params.get("fuzz_threshold").map(str::parse::<u8>) {
            None => THRESHOLD,
            Some(Ok(percent @ 0..=100)) => f64::from(percent) / 100.0,
            Some(_) => return bad("fuzz_threshold", "a number from 0 to 100 is needed"),
        };
        let word = |name: &str, words: [&str; 2]| match params.get(name) {
            None => Ok(false),
            Some(word) if word == words[0] => Ok(false),
            Some(word) if word == words[1] => Ok(true),
            Some(word) => bad(name, &format!("{word:?} is neither {} nor {}", words[0], words[1])),
        };
        let by_score = word("sort_by", ["alpha", "score"])?;
        if by_score && params.get("sort_dir").is_some() {
            return bad("sort_dir", "only valid with sort_by=alpha");
        }
        Ok(Self {
            terms: params.all("search[]").filter(|term| !term.is_empty()).map(str::to_owned).collect(),
            threshold,
            jaro_winkler: word("fuzz_alg", ["subsequence", "jarowinkler"])?,
            case_sensitive: flag("case_sensitive", true)?,
            by_score,
            descending: word("sort_dir", ["asc", "dsc"])?,
            score: flag("include_score", false)?,
            metadata: flag("include_metadata", false)?,
            limit: count("limit", LIMIT)?,
            batch: count("batch_size", LIMIT)?,
        })
    }

    /// How well a name fits the best of the terms; none when it does not.
    fn score_of(&self, name: &str) -> Option<f64> {
        if self.terms.is_empty() {
            return Some(1.0);
        }
        let fold = |text: &str| if self.case_sensitive { text.to_owned() } else { text.to_lowercase() };
        let name = fold(name);
        let scores = self.terms.iter().filter_map(|term| {
            let term = fold(term);
            if self.jaro_winkler {
                Some(jaro_winkler(&term, &name)).filter(|score| *score > 0.0)
            } else {
                subsequence(&term, &name)
            }
        });
        scores.filter(|score| *score >= self.threshold).max_by(f64::total_cmp)
    }

    /// The best results in order, and whether there were more.
    fn choose(&self, names: BTreeSet<String>) -> (Vec<(String, f64)>, bool) {
        let mut found: Vec<(String, f64)> =
            names.into_iter().filter_map(|name| self.score_of(&name).map(|score| (name, score))).collect();
        if self.by_score {
            found.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        } else if self.descending {
            found.reverse();
        }
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        (found, more)
    }
}

/// Whether the letters of `term` stand in `name` in their order, and how close together: the share of the stretch that
/// they fill, and of the name that they are. O(name).
fn subsequence(term: &str, name: &str) -> Option<f64> {
    let (terms, names): (Vec<char>, Vec<char>) = (term.chars().collect(), name.chars().collect());
    if let Some(at) = name.find(term) {
        let early = if at == 0 { 1.0 } else { 0.0 };
        return Some((6.0 + 3.0 * terms.len() as f64 / names.len().max(1) as f64 + early) / 10.0);
    }
    let (mut next, mut first, mut last) = (0, None, 0);
    for (place, letter) in names.iter().enumerate() {
        if terms.get(next) == Some(letter) {
            first = first.or(Some(place));
            last = place;
            next += 1;
        }
    }
    let stretch = last + 1 - first?;
    (next == terms.len()).then(|| 0.6 * terms.len() as f64 / stretch as f64)
}

/// The similarity of Jaro, raised for a common beginning as Winkler does. O(term · name).
fn jaro_winkler(term: &str, name: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (term.chars().collect(), name.chars().collect());
    if a.is_empty() || b.is_empty() {
        return 0.0;
    }
    let reach = (a.len().max(b.len()) / 2).saturating_sub(1);
    let mut taken = vec![false; b.len()];
    let mut matched: Vec<char> = Vec::new();
    for (i, letter) in a.iter().enumerate() {
        let window = i.saturating_sub(reach)..(i + reach + 1).min(b.len());
        if let Some(j) = window.clone().find(|j| !taken[*j] && b[*j] == *letter) {
            taken[j] = true;
            matched.push(*letter);
        }
    }
    let others = b.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(letter, _)| letter);
    let swapped = matched.iter().zip(others).filter(|(a, b)| a != b).count() as f64 / 2.0;
    let m = matched.len() as f64;
    if m == 0.0 {
        return 0.0;
    }
    let jaro = (m / a.len() as f64 + m / b.len() as f64 + (m - swapped) / m) / 3.0;
    let common = a.iter().zip(&b).take(4).take_while(|(a, b)| a == b).count() as f64;
    jaro + common * 0.1 * (1.0 - jaro)
}

/// Names of metrics, of labels, or values of a label, over all selectors.
fn names(backend: &Backend, kind: Kind, params: &Params) -> Result<BTreeSet<String>, Failure> {
    let label = match (kind, params.get("label")) {
        (Kind::Metrics, _) => Some(METRIC_NAME),
        (Kind::Names, _) => None,
        (Kind::Values, Some(label)) => Some(label),
        (Kind::Values, None) => return bad("label", "the name of a label is needed"),
    };
    let (min, max) = (params.time("start", Timestamp(i64::MIN))?, params.time("end", Timestamp(i64::MAX))?);
    let mut sets: Vec<Vec<Matcher>> = params.matchers()?;
    if sets.is_empty() {
        sets.push(Vec::new());
    }
    let querier = backend.storage.querier(min, max);
    let mut all = BTreeSet::new();
    for set in &sets {
        all.extend(match label {
            Some(label) => querier.label_values(label, set)?,
            None => querier.label_names(set)?,
        });
    }
    Ok(all)
}

fn lines(backend: &Backend, kind: Kind, params: &Params) -> Result<String, Failure> {
    let search = Search::read(params)?;
    let (found, more) = search.choose(names(backend, kind, params)?);
    let metadata: BTreeMap<String, model::Metadata> = if kind == Kind::Metrics && search.metadata {
        (backend.families)().into_iter().flat_map(|target| target.families).collect()
    } else {
        BTreeMap::new()
    };
    let mut out = String::new();
    for batch in found.chunks(search.batch) {
        out.push_str("{\"results\":");
        json::list(batch, &mut out, |(name, score), out| {
            out.push_str(if kind == Kind::Values { "{\"value\":" } else { "{\"name\":" });
            json::escaped(name, out);
            if let Some(about) = metadata.get(name) {
                let members = [("type", about.kind.as_str()), ("help", &about.help), ("unit", &about.unit)];
                for (member, text) in members.into_iter().filter(|(_, text)| !text.is_empty()) {
                    out.push_str(&format!(",\"{member}\":"));
                    json::escaped(text, out);
                }
            }
            if search.score {
                out.push_str(&format!(",\"score\":{score}"));
            }
            out.push('}');
        });
        out.push_str("}\n");
    }
    out.push_str(&format!("{{\"status\":\"success\",\"has_more\":{more}}}\n"));
    Ok(out)
}

async fn respond(kind: Kind, State(backend): Shared, raw: Option<String>, headers: HeaderMap, body: Bytes) -> Response {
    let params = params(raw, &headers, &body);
    match blocking(backend, move |backend| lines(backend, kind, &params)).await {
        Err(refused) => refused,
        Ok(Err(failure)) => envelope(Err(failure), &headers),
        Ok(Ok(lines)) => web::respond_body(lines.into_bytes(), "application/x-ndjson", &headers),
    }
}

/// `/search/metric_names`.
pub(crate) async fn metric_names(state: Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    respond(Kind::Metrics, state, raw, headers, body).await
}

/// `/search/label_names`.
pub(crate) async fn label_names(state: Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    respond(Kind::Names, state, raw, headers, body).await
}

/// `/search/label_values`.
pub(crate) async fn label_values(state: Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    respond(Kind::Values, state, raw, headers, body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(query: &str, names: &[&str]) -> String {
        let search = Search::read(&Params::new(query, b"")).expect("a search");
        let (found, more) = search.choose(names.iter().map(|name| (*name).to_owned()).collect());
        let mut text = found.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
        text.push_str(if more { " …" } else { "" });
        text
    }

    #[test]
    fn terms_choose_and_order() {
        let names = ["go_gc", "http_requests_total", "http_req", "up"];
        for (query, want) in [
            ("", "go_gc http_req http_requests_total up"),
            ("search[]=http_req", "http_req http_requests_total"),
            ("search[]=HTTP", ""),
            ("search[]=HTTP&case_sensitive=false", "http_req http_requests_total"),
            ("search[]=hrt", "http_requests_total"),
            ("search[]=http_requests&search[]=up&sort_dir=dsc", "up http_requests_total"),
            ("search[]=http_req&sort_by=score&limit=1", "http_req …"),
            ("search[]=hrt&fuzz_threshold=90", ""),
            ("search[]=htpp_req&fuzz_alg=jarowinkler&fuzz_threshold=90", "http_req"),
        ] {
            assert_eq!(choose(query, &names), want, "{query}");
        }
        for query in ["limit=0", "limit=100000", "fuzz_threshold=101", "sort_by=x", "sort_by=score&sort_dir=asc"] {
            assert!(Search::read(&Params::new(query, b"")).is_err(), "{query}");
        }
    }

    #[test]
    fn similarity_is_jaro_winklers() {
        for (a, b, want) in [("MARTHA", "MARHTA", 0.961), ("DIXON", "DICKSONX", 0.813), ("abc", "xyz", 0.0)] {
            assert!((jaro_winkler(a, b) - want).abs() < 0.001, "{a} {b}: {}", jaro_winkler(a, b));
        }
    }
}
