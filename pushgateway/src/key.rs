//! Grouping keys: the labels in the path of a push, and how that path spells them.
//!
//! Truth: the routes and errors of prometheus/pushgateway. A key is not a `model::Labels`, because an empty value is
//! part of it here.

use std::{cmp::Ordering, collections::BTreeMap, fmt, sync::Arc};

/// Grouping labels by name, `job` among them; values may be empty. One packed allocation that clones cheaply.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Arc<[u8]>);

/// Why a path names no group; the text is upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A name without a value.
    #[error("odd number of components in label string {0:?}")]
    Odd(String),
    /// A name that is reserved or no label name.
    #[error("improper label name {0:?}")]
    Name(String),
    /// A value that is not base64.
    #[error("invalid base64 encoding for label {name}={value:?}: illegal base64 data at input byte {at}")]
    Base64 {
        /// Of which label.
        name: String,
        /// As given.
        value: String,
        /// Where it stops making sense.
        at: usize,
    },
    /// A job that is not base64. Upstream prints what was decoded, which is nothing.
    #[error("invalid base64 encoding in job name \"\": illegal base64 data at input byte {0}")]
    Base64Job(usize),
    /// No job.
    #[error("job name is required")]
    NoJob,
    /// Bytes that no reader of the metrics could take.
    #[error(
        "pushed metrics are invalid or inconsistent with existing metrics: collected metric \"push_time_seconds\" has a label named {0:?} whose value is not utf8"
    )]
    Utf8(String),
}

impl Key {
    /// A key of these labels.
    pub fn new(labels: &BTreeMap<String, String>) -> Self {
        let mut packed = Vec::with_capacity(labels.iter().map(|(name, value)| name.len() + value.len() + 4).sum());
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            crate::packed::put_text(&mut packed, text);
        }
        Self(packed.into())
    }

    /// The labels in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let name = crate::packed::take_text(&mut rest).ok()?;
            Some((name, crate::packed::take_text(&mut rest).ok()?))
        })
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// Bytes of the packed form: length, text, again and again.
    pub(crate) fn packed(&self) -> &[u8] {
        &self.0
    }

    /// Reads the packed form.
    pub(crate) fn from_packed(bytes: &[u8]) -> Result<Self, crate::packed::Corrupt> {
        let (mut rest, mut labels) = (bytes, BTreeMap::new());
        while !rest.is_empty() {
            let name = crate::packed::take_text(&mut rest)?.to_owned();
            labels.insert(name, crate::packed::take_text(&mut rest)?.to_owned());
        }
        Ok(Self::new(&labels))
    }

    /// Reads the part of a path behind `/metrics/job/` or `/metrics/job@base64/`: the job, then what follows it with
    /// its leading slash. `utf8` is `--push.enable-utf8-names`.
    ///
    /// # Errors
    /// [`PathError`].
    pub(crate) fn from_path(job: &[u8], job_base64: bool, labels: &[u8], utf8: bool) -> Result<Self, PathError> {
        let job = if job_base64 { decode_base64(job).map_err(PathError::Base64Job)? } else { job.to_vec() };
        let mut all = BTreeMap::new();
        let parts: Vec<&[u8]> = match labels {
            [] | [_] => Vec::new(),
            [_, rest @ ..] => rest.split(|byte| *byte == b'/').collect(),
        };
        if !parts.len().is_multiple_of(2) {
            return Err(PathError::Odd(lossy(labels)));
        }
        for pair in parts.chunks_exact(2) {
            let (name, value) = label(pair[0], pair[1], utf8)?;
            all.insert(name, value);
        }
        if job.is_empty() {
            return Err(PathError::NoJob);
        }
        all.insert("job".to_owned(), String::from_utf8(job).map_err(|_| PathError::Utf8("job".to_owned()))?);
        Ok(Self::new(&all))
    }

    /// The path that names this group, every value in base64, so that any text survives any proxy.
    pub fn to_path(&self) -> String {
        use base64::Engine as _;
        let code = |value: &str| format!("{}=", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value));
        let mut path = format!("/metrics/job@base64/{}", code(self.get("job").unwrap_or_default()));
        for (name, value) in self.iter().filter(|(name, _)| *name != "job") {
            let name = exposition::escape_label_name(name, exposition::Escaping::Values);
            path.push_str(&format!("/{name}@base64/{}", code(value)));
        }
        path
    }
}

fn label(name: &[u8], value: &[u8], utf8: bool) -> Result<(String, String), PathError> {
    const SUFFIX: &[u8] = b"@base64";
    let (trimmed, coded) = name.strip_suffix(SUFFIX).map_or((name, false), |rest| (rest, true));
    let improper = || PathError::Name(lossy(trimmed));
    let plain = std::str::from_utf8(trimmed).map_err(|_| improper())?;
    let name = if utf8 { exposition::unescape_name(plain).into_owned() } else { plain.to_owned() };
    let good = if utf8 { !name.is_empty() } else { model::is_legacy_label_name(&name) };
    if !good || plain.starts_with("__") || name.starts_with("__") {
        return Err(improper());
    }
    let value = match coded {
        false => value.to_vec(),
        true => {
            decode_base64(value).map_err(|at| PathError::Base64 { name: plain.to_owned(), value: lossy(value), at })?
        }
    };
    let value = String::from_utf8(value).map_err(|_| PathError::Utf8(name.clone()))?;
    Ok((name, value))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// URL-safe base64 as upstream's decoder takes it: padding at the end is cut, line ends are skipped, unused bits may be
/// anything. The error is the position that upstream names.
fn decode_base64(text: &[u8]) -> Result<Vec<u8>, usize> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let (mut out, mut bits, mut count) = (Vec::with_capacity(end * 3 / 4), 0u32, 0);
    for (at, byte) in text[..end].iter().enumerate() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            b'\r' | b'\n' => continue,
            _ => return Err(at),
        };
        bits = bits << 6 | u32::from(six);
        count += 1;
        if count % 4 == 0 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    match count % 4 {
        0 => {}
        1 => return Err(end - 1),
        2 => out.push((bits >> 4) as u8),
        _ => out.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
    }
    Ok(out)
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Pairwise by name, then value.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

/// `{a="b",job="j"}`
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if i > 0 { "," } else { "" })?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
pub(crate) fn key(pairs: &[(&str, &str)]) -> Key {
    Key::new(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(job: &str, coded: bool, labels: &str, utf8: bool, want: Result<&str, &str>) {
        let found = Key::from_path(job.as_bytes(), coded, labels.as_bytes(), utf8);
        let found = found.map(|key| key.to_string()).map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), want, "{job} {labels}");
    }

    #[test]
    fn paths_name_groups() {
        check("a", false, "/instance/b", false, Ok("{instance=\"b\",job=\"a\"}"));
        check("YS9i", true, "/x@base64/=/y/", false, Ok("{job=\"a/b\",x=\"\",y=\"\"}"));
        check("a", false, "/job/b/x/1/x/2", false, Ok("{job=\"a\",x=\"2\"}"));
        check("a", false, "/a/b/", false, Err("odd number of components in label string \"/a/b/\""));
        check("a", false, "/__x/b", false, Err("improper label name \"__x\""));
        check("=", true, "", false, Err("job name is required"));
        check("a", false, "/x/%".replace('%', "\u{0}").as_str(), false, Ok("{job=\"a\",x=\"\\0\"}"));
        check(
            "a",
            false,
            "/p@base64/a+b=",
            false,
            Err("invalid base64 encoding for label p=\"a+b=\": illegal base64 data at input byte 1"),
        );
        check(
            "a",
            false,
            "/p@base64/abcde",
            false,
            Err("invalid base64 encoding for label p=\"abcde\": illegal base64 data at input byte 4"),
        );
        assert!(Key::from_path(b"a", false, b"/x/\xff", false).is_err_and(|e| e.to_string().contains("not utf8")));
    }

    #[test]
    fn escaped_names_count_only_with_the_switch() {
        check("a", false, "/U__foo_2e_bar/b", true, Ok("{foo.bar=\"b\",job=\"a\"}"));
        check("a", false, "/U__foo_2e_bar/b", false, Ok("{U__foo_2e_bar=\"b\",job=\"a\"}"));
        check("a", false, "/U___55_____foo/b", true, Ok("{U__foo=\"b\",job=\"a\"}"));
        check("a", false, "/U__in_xxx_valid/b", true, Ok("{U__in_xxx_valid=\"b\",job=\"a\"}"));
        check("a", false, "/a.b/v", true, Ok("{a.b=\"v\",job=\"a\"}"));
    }

    #[test]
    fn a_key_survives_its_path_and_its_packed_form() {
        let long = "é/".repeat(400);
        let all = key(&[("job", &long), ("empty", ""), ("a.b", "x y"), ("z", "\u{0}")]);
        assert_eq!(Key::from_packed(all.packed()), Ok(all.clone()));
        let path = all.to_path();
        let rest = path.strip_prefix("/metrics/job@base64/").expect("a push path");
        let (job, labels) = rest.split_at(rest.find('/').expect("more labels"));
        assert_eq!(Key::from_path(job.as_bytes(), true, labels.as_bytes(), true), Ok(all));
    }
}
