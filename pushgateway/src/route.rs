//! Which path means what: upstream's router, habits included.
//!
//! An exact table instead of a general router, because clients see the habits: unclean paths are redirected before
//! anything else, HEAD is answered nowhere, a wrong method names the right ones in order of the alphabet, and a path in
//! other letter case or with a slash too many is redirected. Truth: answers of an upstream gateway.

use std::borrow::Cow;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Expose,
    /// PUT, POST and DELETE of a group: the job, whether it is in base64, and what follows it.
    Group {
        job: Vec<u8>,
        base64: bool,
        labels: Vec<u8>,
    },
    /// Several groups in one request.
    Batch,
    /// A message of a peer.
    Replicate,
    Healthy,
    Ready,
    Page,
    /// The page of flags and build.
    Status,
    Static,
    Profile,
    Quit,
    /// GET on the quit path, which is told in words and never moves with the prefix.
    QuitRefused,
    ApiStatus,
    ApiMetrics,
    ApiOptions,
    Wipe,
}

/// What comes of a path and a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    Serve(Route),
    /// The methods that there are, OPTIONS among them.
    NotAllowed(String),
    Options(String),
    /// Status and decoded path.
    Redirect(u16, Vec<u8>),
    NotFound,
}

/// The paths of one gateway.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    /// Empty, or with a leading slash and without one at the end.
    pub(crate) prefix: String,
    /// Full path of the scrape.
    pub(crate) telemetry: String,
    pub(crate) admin: bool,
    /// Whether several groups may come in one request.
    pub(crate) batch: bool,
    /// Whether peers may send their groups.
    pub(crate) replicate: bool,
}

const METHODS: [&str; 4] = ["DELETE", "GET", "POST", "PUT"];

/// A route, or the path to be redirected to, if there is one.
type Found = Result<Route, Option<Vec<u8>>>;

impl Routes {
    /// O(path).
    pub(crate) fn resolve(&self, method: &str, path: &[u8]) -> Resolved {
        if let Cow::Owned(clean) = cleaned(path) {
            return Resolved::Redirect(301, clean);
        }
        let api = format!("{}/api/v1", self.prefix);
        if path == api.as_bytes() {
            return Resolved::Redirect(301, format!("{api}/").into_bytes());
        }
        if let Some(rest) = path.strip_prefix(api.as_bytes()).filter(|rest| rest.first() == Some(&b'/')) {
            return self.resolve_by(method, rest, &|method, path| self.api(method, path));
        }
        self.resolve_by(method, path, &|method, path| self.plain(method, path))
    }

    fn resolve_by(&self, method: &str, path: &[u8], find: &dyn Fn(&str, &[u8]) -> Found) -> Resolved {
        match find(method, path) {
            Ok(route) => return Resolved::Serve(route),
            Err(Some(other)) => return Resolved::Redirect(if method == "GET" { 301 } else { 307 }, other),
            Err(None) => {}
        }
        let mut allowed: Vec<&str> =
            METHODS.into_iter().filter(|other| *other != method && find(other, path).is_ok()).collect();
        if allowed.is_empty() {
            return Resolved::NotFound;
        }
        allowed.push("OPTIONS");
        allowed.sort_unstable();
        let allowed = allowed.join(", ");
        if method == "OPTIONS" { Resolved::Options(allowed) } else { Resolved::NotAllowed(allowed) }
    }

    fn api(&self, method: &str, path: &[u8]) -> Found {
        match (method, path) {
            ("OPTIONS", _) => Ok(Route::ApiOptions),
            ("GET", b"/status") => Ok(Route::ApiStatus),
            ("GET", b"/metrics") => Ok(Route::ApiMetrics),
            ("PUT", b"/admin/wipe") if self.admin => Ok(Route::Wipe),
            ("POST", b"/groups") if self.batch => Ok(Route::Batch),
            ("POST", b"/replicate") if self.replicate => Ok(Route::Replicate),
            _ => Err(None),
        }
    }

    /// The route, or a path that is one.
    fn plain(&self, method: &str, path: &[u8]) -> Found {
        if method == "GET" && path == b"/-/quit" {
            return Ok(Route::QuitRefused);
        }
        let mut table: Vec<(String, Route)> = Vec::new();
        let at = |path: &str| format!("{}{path}", self.prefix);
        match method {
            "GET" => table.extend([
                (self.telemetry.clone(), Route::Expose),
                (at("/-/healthy"), Route::Healthy),
                (at("/-/ready"), Route::Ready),
                (at("/status"), Route::Status),
                (at("/"), Route::Page),
            ]),
            "PUT" | "POST" => table.push((at("/-/quit"), Route::Quit)),
            _ => {}
        }
        if let Some((_, route)) = table.iter().find(|(have, _)| have.as_bytes() == path) {
            return Ok(route.clone());
        }
        if method == "GET" {
            for (folder, route) in [(at("/static/"), Route::Static), (at("/debug/pprof/"), Route::Profile)] {
                if path.starts_with(folder.as_bytes()) {
                    return Ok(route);
                }
                if path == &folder.as_bytes()[..folder.len() - 1] {
                    return Err(Some(folder.into_bytes()));
                }
            }
        }
        if matches!(method, "PUT" | "POST" | "DELETE") {
            for (start, base64) in [(at("/metrics/job/"), false), (at("/metrics/job@base64/"), true)] {
                let Some(rest) = strip_ignoring_case(path, start.as_bytes()) else { continue };
                if rest.is_empty() {
                    return Err(Some(start.as_bytes()[..start.len() - 1].to_vec()));
                }
                if !path.starts_with(start.as_bytes()) {
                    return Err(Some([start.as_bytes(), rest].concat()));
                }
                let slash = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
                let (job, labels) = rest.split_at(slash);
                return Ok(Route::Group { job: job.to_vec(), base64, labels: labels.to_vec() });
            }
        }
        let bare = path.strip_suffix(b"/").unwrap_or(path);
        let other = table.iter().find(|(have, _)| have.trim_end_matches('/').as_bytes().eq_ignore_ascii_case(bare));
        Err(other.map(|(have, _)| have.clone().into_bytes()).filter(|other| other != path))
    }
}

fn strip_ignoring_case<'a>(path: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = path.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

/// The path without `//`, `.` and `..`; borrowed when it was clean. One slash at the end stays.
fn cleaned(path: &[u8]) -> Cow<'_, [u8]> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = Vec::with_capacity(path.len());
    for part in parts {
        clean.push(b'/');
        clean.extend_from_slice(part);
    }
    if clean.is_empty() || path.ends_with(b"/") {
        clean.push(b'/');
    }
    if clean == path { Cow::Borrowed(path) } else { Cow::Owned(clean) }
}

/// Resolves `%XX`; `None` where it is not followed by two digits.
pub(crate) fn decode(path: &str) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| (byte as char).to_digit(16);
        out.push((digit(digits[0])? << 4 | digit(digits[1])?) as u8);
        rest = after;
    }
    Some(out)
}

/// A path as it stands in a URL.
pub(crate) fn encode(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(byte) {
            out.push(*byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prefix: &str, method: &str, path: &str, want: Resolved) {
        let telemetry = format!("{prefix}/metrics");
        let routes = Routes { prefix: prefix.into(), telemetry, admin: true, batch: false, replicate: false };
        assert_eq!(routes.resolve(method, path.as_bytes()), want, "{method} {path}");
    }

    #[test]
    fn paths_are_resolved_as_upstream_does() {
        let to = |code: u16, path: &str| Resolved::Redirect(code, path.as_bytes().to_vec());
        let not = |methods: &str| Resolved::NotAllowed(methods.into());
        let group = |job: &str, labels: &str| {
            Resolved::Serve(Route::Group { job: job.into(), base64: false, labels: labels.into() })
        };
        check("", "GET", "/metrics", Resolved::Serve(Route::Expose));
        check("", "GET", "/METRICS/", to(301, "/metrics"));
        check("", "HEAD", "/metrics", not("GET, OPTIONS"));
        check("", "PUT", "/metrics", not("GET, OPTIONS"));
        check("", "PUT", "/metrics/job", Resolved::NotFound);
        check("", "PUT", "/metrics/job/", to(307, "/metrics/job"));
        check("", "GET", "/metrics/job/", Resolved::NotFound);
        check("", "PUT", "/metrics/Job/J", to(307, "/metrics/job/J"));
        check("", "PUT", "/metrics/job/j/", group("j", "/"));
        check("", "PUT", "/metrics/job/j/a/b", group("j", "/a/b"));
        check("", "PATCH", "/metrics/job/j", not("DELETE, OPTIONS, POST, PUT"));
        check("", "PUT", "/metrics/job/j/a//b", to(301, "/metrics/job/j/a/b"));
        check("", "PUT", "/metrics/job/x/../j", to(301, "/metrics/job/j"));
        check("", "GET", "/-/quit", Resolved::Serve(Route::QuitRefused));
        check("", "GET", "/static", to(301, "/static/"));
        check("", "GET", "/nope/", Resolved::NotFound);
        check("", "OPTIONS", "/", Resolved::Options("GET, OPTIONS".into()));
        check("", "POST", "/api/v1/admin/wipe", not("OPTIONS, PUT"));
        check("", "DELETE", "/api/v1/metrics", not("GET, OPTIONS"));
        check("", "OPTIONS", "/api/v1/nope", Resolved::Serve(Route::ApiOptions));
        check("", "GET", "/api/v1", to(301, "/api/v1/"));
        check("/pg", "GET", "/pg/", Resolved::Serve(Route::Page));
        check("/pg", "GET", "/pg", to(301, "/pg/"));
        check("/pg", "PUT", "/metrics/job/j", Resolved::NotFound);
        check("/pg", "GET", "/-/quit", Resolved::Serve(Route::QuitRefused));
    }

    #[test]
    fn paths_are_decoded_and_encoded() {
        assert_eq!(decode("/a%20b%2Fc+"), Some(b"/a b/c+".to_vec()));
        assert_eq!((decode("/%zz"), decode("/%2")), (None, None));
        assert_eq!(encode("/a b/ö%".as_bytes()), "/a%20b/%C3%B6%25");
    }
}
